"""Timing side by side: every contender in turn, over several rounds, so that a drift of the machine hits them all."""

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

RESULTS = Path(__file__).parent / "results"
REST = 0.25  # seconds before a call: after a product of numpy OpenBLAS's threads look for work on all cores for 0.1 s


def interleave(
    contenders: Mapping[str, Callable[[], Any]], rounds: int = 5, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median seconds of each contender over rounds in which all run one after the other, after one warm-up each."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        call()
    for _ in range(rounds):
        for name, call in contenders.items():
            time.sleep(REST)
            began = clock()
            call()
            seconds[name].append(clock() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table in Markdown."""
    cells = [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    print(f"\n{title}\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in cells:
        print("| " + " | ".join(row) + " |")


def save(name: str, result: Mapping[str, Any]) -> None:
    """Write results/<name>.json, with what it was measured on."""
    RESULTS.mkdir(exist_ok=True)
    about = {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
    }
    text = json.dumps({"about": about, **result}, indent=1) + "\n"
    (RESULTS / f"{name}.json").write_text(text)


def processor() -> str:
    """The processor's name, with its family, its model and its widest vectors: a hired machine's name hides them."""
    try:
        text = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
        about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
        name, family, model = (about[key] for key in ("model name", "cpu family", "model"))
    except (OSError, KeyError):
        return platform.processor() or "unknown"
    flags = about.get("flags", "").split()
    wide = next((v for flag, v in (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("avx", "AVX")) if flag in flags), "SSE")
    return f"{name} (family {family}, model {model}; {wide})"

"""The oracle's engines on a CUDA device, as shares of what the device can do: its products and its memory's bandwidth.

    python benchmarks/gpu.py            1.28 million points of 4096 coordinates in float16; minutes on an H100
    python benchmarks/gpu.py --quick    20,000 points

Ceilings come first, by the maker's own products. Of float32 factors these are float32-accurate: float32 itself, and
three TF32 products of split factors. Points stored in float16 are exact factors, and need two float16 products; three
bfloat16 products hold 16 bits only, and are shown beside. Work is 4 N D B operations, however a pass does it; what is
read is N D numbers once. Goals: half of the float32-accurate rate at B >= 256, 80 % of the bandwidth at B = 1.

`pass` is one pass over the points (single_moments or law_moments); `call` is Oracle.velocity by the
engine that it chooses itself. Without a device the
table says "not measured"; with TRITON_INTERPRET=1 the script runs on the CPU, at toy size, to show that it works.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from _harness import save, table
from flowscope import FlowscopeError, Oracle, TrainingSet
from flowscope.fields import check_query
from flowscope.oracle.engines.base import Engine, Want
from flowscope.oracle.engines.float32 import Float32Engine
from flowscope.oracle.engines.float64 import Float64Engine
from flowscope.oracle.engines.select import make_engines
from flowscope.oracle.equation.moments import Moments
from flowscope.oracle.law import Law
from flowscope.oracle.queries import Queries

BATCHES, T, ENGINES = (1, 16, 64, 256, 1024), 0.1, ("float64", "torch", "fused")
WHERE = ("in memory", "streamed")
GOALS = {1: ("bandwidth", 0.8), 256: ("product", 0.5), 1024: ("product", 0.5)}
COLUMNS = ("points", "engine", "B", "pass, ms", "call, ms", "TFLOP/s", "of fp32-accurate", "of 2 x fp16")
COLUMNS = (*COLUMNS, "GB/s", "of bandwidth", "goal", "done again", "error")


def seconds(call: Callable[[], Any], device: torch.device, least: float = 0.3) -> float:
    """Median of a few calls after a first one, each waited for."""
    spent: list[float] = []
    call()
    while not spent or (sum(spent) < least and len(spent) < 50):
        wait(device)
        began = time.perf_counter()
        call()
        wait(device)
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rate(dtype: torch.dtype, tf32: bool, size: int, device: torch.device) -> float:
    """Operations a second of a product (2 size, size) by (size, size)."""
    a, b = (torch.randn(n, size, device=device).to(dtype) for n in (2 * size, size))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        return 4 * size**3 / seconds(lambda: a @ b.T, device)
    finally:
        torch.set_float32_matmul_precision(before)


def ceilings(quick: bool, device: torch.device) -> dict[str, float]:
    """Operations and bytes a second."""
    size, block = (256, 1 << 22) if quick else (4096, 1 << 32)
    found = {
        "fp32": rate(torch.float32, False, size, device),
        "tf32 / 3": rate(torch.float32, True, size, device) / 3,
        "bf16 / 3": rate(torch.bfloat16, False, size, device) / 3,
        "fp16 / 2": rate(torch.float16, False, size, device) / 2,
        "fp64": rate(torch.float64, False, size // 2, device),
    }
    held = torch.ones(block // 4, device=device)
    other = torch.empty_like(held)
    moved = {"sum": (1, held.sum), "largest": (1, held.max), "copy": (2, lambda: other.copy_(held))}
    found |= {f"bandwidth, {name}": n * block / seconds(call, device) for name, (n, call) in moved.items()}
    host = torch.ones(min(block, 1 << 30) // 4)
    if device.type == "cuda":
        host = host.pin_memory()
        sent = torch.empty_like(host, device=device)
        found["bus"] = host.nbytes / seconds(lambda: sent.copy_(host, non_blocking=True), device)
    else:
        found["bus"] = found["bandwidth, copy"]
    found["product"] = max(found["fp32"], found["tf32 / 3"] if device.type == "cuda" else 0)
    found["bandwidth"] = max(value for name, value in found.items() if name.startswith("bandwidth"))
    return found


def make_oracle(count: int, dimension: int, memory: str, device: torch.device) -> Oracle:
    """Float16 points in page-locked memory of the host, and a copy of them on the device."""
    centres = 0.6 * torch.randn(min(1000, count), dimension, device=device)
    points = torch.empty(count, dimension, dtype=torch.float16, pin_memory=device.type == "cuda")
    for part in points.split(16384):
        mode = torch.randint(len(centres), (len(part),), device=device)
        part.copy_(0.8 * torch.randn(len(part), dimension, device=device) + centres[mode])
    return Oracle(TrainingSet(points), memory=memory, device=device)


@dataclass
class Counted:
    """The float64 engine, and how many states it was asked for."""

    engine: Float64Engine
    states: int = 0

    def suits(self, law: Law, queries: Queries, want: Want) -> bool:
        return True

    def moments(self, law: Law, queries: Queries, want: Want, k: int = 1) -> Moments:
        self.states += len(queries)
        return self.engine.moments(law, queries, want, k)


def passes(oracle: Oracle, x: Tensor) -> dict[str, Callable[[], tuple[Tensor, float]]]:
    """One pass over the points by each engine, which gives the mean about the centre and the share of hard rows."""
    query = check_query(x, T, None, oracle.training_set.shape)
    law, queries = next(Queries.batches(query, oracle.support, oracle.path, oracle.memory))
    float64 = Float64Engine(oracle.memory)

    def single(library: str) -> tuple[Tensor, float]:
        counted = Counted(float64)
        engine = replace(float32_engine(make_engines(oracle.support, oracle.memory, library)), exact=counted)
        mean = engine.moments(law, queries, Want("mean", torch.float32)).mean
        return mean, counted.states / len(queries)

    return {
        "float64": lambda: (float64.moments(law, queries, Want()).mean, 0.0),
        "torch": lambda: single("torch"),
        "fused": lambda: single("triton"),
    }


def float32_engine(engines: Sequence[Engine]) -> Float32Engine:
    return next(engine for engine in engines if isinstance(engine, Float32Engine))


def measure(oracle: Oracle, where: str, B: int, top: dict[str, float]) -> Iterator[dict[str, Any]]:
    """A row for each engine; the error is that of the mean, against its distance from the states' centre."""
    device, N, D = oracle.device, len(oracle.training_set), oracle.training_set.dimension
    x1 = oracle.training_set.rows(slice(0, B)).float().to(device)
    x = T * x1 + (1 - T) * torch.randn(len(x1), D, device=device)
    true = None
    for name, run in passes(oracle, x).items():
        if where == "streamed" and name == "float64":
            continue
        row = {"points": where, "engine": name, "B": B}
        try:
            mean, again = run()
            spent = seconds(run, device, 0.1)
            row["call"] = seconds(lambda: oracle(x, T), device, 0.1)
        except (FlowscopeError, RuntimeError) as error:
            yield row | {"reason": f"{type(error).__name__}: {error}"[:200]}
            continue
        true = mean if name == "float64" else true
        flops, read = 4 * N * D * B / spent, 2 * N * D / spent
        row |= {"pass": spent, "again": again, "flops": flops, "bytes": read}
        row |= {"of product": flops / top["product"], "of fp16": flops / top["fp16 / 2"]}
        row["of bandwidth"] = read / top["bus" if where == "streamed" else "bandwidth"]
        if true is not None:
            row["error"] = float(((mean - true).norm(dim=1) / (true.norm(dim=1) + oracle.support.law().radius)).max())
        yield row


def shown(row: dict[str, Any]) -> tuple[Any, ...]:
    """A row of the table."""
    kind, goal = GOALS.get(row["B"], ("", 0.0)) if row["engine"] == "fused" else ("", 0.0)
    names = ("points", "engine", "B")
    if "pass" not in row:
        return *(row[name] for name in names), row.get("reason", "not measured"), *["not measured"] * (len(COLUMNS) - 4)
    call = f"{1e3 * row['call']:.3g}" if "call" in row else "-"
    rates = row["flops"] / 1e12, row["of product"], row["of fp16"], row["bytes"] / 1e9, row["of bandwidth"]
    wanted = f"{goal:.0%} of {kind}" if kind else "-"
    error = f"{row['error']:.1e}" if "error" in row else "-"
    return *(row[name] for name in names), 1e3 * row["pass"], call, *rates, wanted, f"{row['again']:.0%}", error


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="20,000 points of 512 coordinates")
    parser.add_argument("--points", type=int, default=1_280_000)
    parser.add_argument("--dimension", type=int, default=4096)
    parser.add_argument("--memory", default="4GB")
    parser.add_argument("--batches", type=int, nargs="*", default=BATCHES)
    parser.add_argument("--minutes", type=float, default=9, help="no further row is begun after this long")
    asked = parser.parse_args()
    count, dimension = (20_000, 512) if asked.quick else (asked.points, asked.dimension)
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    title = f"One pass over N = {count:,} float16 points of D = {dimension:,} at t = {T}"
    if not torch.cuda.is_available() and not interpreted:
        missing = [{"points": w, "engine": e, "B": B} for w in WHERE for B in asked.batches for e in ENGINES]
        table(f"{title}: no CUDA device at hand", COLUMNS, [shown(row) for row in missing])
        return
    device = torch.device("cpu" if interpreted else "cuda")
    began = time.perf_counter()
    torch.manual_seed(0)
    top = ceilings(asked.quick or interpreted, device)
    table("Ceilings, 10^12 a second", ("what", "rate"), [(name, value / 1e12) for name, value in top.items()])
    oracle = make_oracle(count, dimension, asked.memory, device)
    print(f"\n{time.perf_counter() - began:.0f} s so far", flush=True)
    rows: list[dict[str, Any]] = []
    name = "interpreter" if interpreted else torch.cuda.get_device_name()
    for where in WHERE:
        if where == "streamed":
            oracle.support._resident = None  # as if the points did not fit into the device's memory
        for B in asked.batches:
            if time.perf_counter() - began > 60 * asked.minutes:
                rows += [
                    {"points": where, "engine": e, "B": B, "reason": "not measured: no time left"} for e in ENGINES
                ]
                continue
            rows += measure(oracle, where, B, top)
            if not interpreted:
                save("gpu", {"device": name, "points": count, "dimension": dimension, "ceilings": top, "rows": rows})
    table(f"{title}, on {name}", COLUMNS, [shown(row) for row in rows])


if __name__ == "__main__":
    main()

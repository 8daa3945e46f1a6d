"""Runs that are killed and go on: `python benchmarks/kills.py [--kills N] [--seed S] [--only COMMAND ...]`.

Every command that writes a folder is run on the digits and killed there again and again, by SIGKILL, SIGTERM or SIGINT
at a random moment, and at last left alone. Its folder must then hold the files of a run that nobody killed, no more,
with the same content bit for bit but for the times that runs take. `study`, which has no --resume, begins anew.
Everything is loaded once, and every run is a fork of this process.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a fork has no threads but its own
os.environ.setdefault("MPLBACKEND", "Agg")

import accelerate  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import numpy as np
import sklearn.cluster  # noqa: F401
import torch

import flowscope.report  # noqa: F401
from _harness import save, table
from flowscope.cli import main as flowscope_main
from flowscope.cli.app import run as _loaded  # noqa: F401
from flowscope.data import load

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SIGNAL_NAMES = [number.name for number in SIGNALS]
KILLS_PER_RUN, TRIES = 10, 4  # and runs that are begun for each, at most
# on a page: JSON to be downloaded, the row of seconds, the last cell of a row, which for a model is its seconds, and
# the folder in the next command
TIMED = r'href="data:application/json[^"]*"|seconds</th>\s*<td[^>]*>[^<]*</td>|<td[^>]*>[^<]*</td>\s*</tr>|--out \S+'
MLP = ["--model", "mlp", "--width", "16"]
RUNS = {  # what is typed, without --out; {model} is a model that was trained before
    "train": ["train", "digits", *MLP, "--steps", "100", "--batch", "32", "--checkpoint-every", "20", "--snapshots",
              "2", "--tracker", "none", "--held-out", "100", "--resume"],
    "stages": ["stages", "digits", "--subset", "600", "--conditional", "--probes", "24", "--timesteps", "5", "--memory",
               "1MB", "--no-images", "--resume"],
    "sweep": ["sweep", "digits", "--over", "N", "--values", "50,100,200,300", "--probes", "16", "--timesteps", "4",
              "--resume"],
    "study": ["study", "switch", "--model", "{model}", "--data", "digits", "--n", "20", "--steps", "4"],
    "reproduce": ["reproduce", "digits", "--subset", "100", "--quick", "--steps", "4", "--only", "loss", "--device",
                  "cpu", "--resume"],
}  # fmt: skip


class Ending(NamedTuple):
    """How a run ended."""

    code: int  # negative: by that signal
    seconds: float
    said: str


def start(command: list[str], out: Path, after: float | None = None, number: int = 0) -> Ending:
    """Run a command in a fork of this process; send it a signal after some seconds, if it still runs."""
    log, began = out.with_suffix(".log"), time.monotonic()
    child = os.fork()
    if child == 0:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os._exit(flowscope_main([*command, "--out", str(out)]))
    while after is not None and time.monotonic() < began + after:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            break
        time.sleep(0.002)
    if after is not None:
        os.kill(child, number)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Ending(code, time.monotonic() - began, log.read_text())


def content(path: Path) -> Any:
    """What is in a file, without the times that a run takes."""
    if path.suffix == ".json" and path.name != ".flowscope.json":
        return without_seconds(json.loads(path.read_text()))
    if path.name == ".flowscope.json":
        return sorted(json.loads(path.read_text())["files"])
    if path.name == "loss.csv":
        return [line.split(",")[:3] + line.split(",")[4:] for line in path.read_text().splitlines()]
    if path.name == "optimizer.safetensors":
        from safetensors.torch import load_file

        tensors = {name: value.numpy() for name, value in load_file(path).items()}
        tensors["losses|rows"] = np.delete(tensors["losses|rows"], 3, axis=1)
        return {name: value.tobytes() for name, value in tensors.items()}
    return re.sub(TIMED, "", path.read_text()) if path.suffix == ".html" else path.read_bytes()


def without_seconds(value: Any) -> Any:
    """A document without whatever is called "seconds"."""
    if isinstance(value, dict):
        return {key: without_seconds(v) for key, v in value.items() if key != "seconds"}
    return [without_seconds(v) for v in value] if isinstance(value, list) else value


def files(folder: Path) -> dict[str, Any]:
    """Everything in a folder, by name."""
    return {str(p.relative_to(folder)): content(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def differences(folder: Path, whole: Path) -> list[str]:
    """What is wrong with a folder whose run was killed, compared with one whose run was not."""
    found, wanted = files(folder), files(whole)
    wrong = [f"{name} is left over" for name in found.keys() - wanted.keys()]
    wrong += [f"{name} is missing" for name in wanted.keys() - found.keys()]
    return wrong + [f"{name} differs" for name in found.keys() & wanted.keys() if found[name] != wanted[name]]


def kill_and_go_on(
    command: list[str], out: Path, whole: Path, kills: int, rng: random.Random, alone: float
) -> list[str]:
    """Kill a run some times, then let it end; what was done, and whatever was wrong after "wrong: ".

    A run that ends before its signal comes is compared, too, and another is begun in its place.
    """
    done: list[str] = []
    for _ in range(TRIES * kills):
        number, fresh = rng.choice(SIGNALS), not out.exists()
        ending = start(command, out, rng.uniform(0, alone), number)
        right = -signal.SIGKILL if number == signal.SIGKILL else 128 + number
        done.append(number.name if ending.code == right else "ended before")
        if ending.code == 0:
            alone = min(alone, ending.seconds) if fresh else alone
            done += [f"wrong: {what}" for what in differences(out, whole)]
            shutil.rmtree(out)
        elif ending.code != right:
            done.append(f"wrong: {number.name} ended it with {ending.code}: {ending.said[-300:]}")
        if sum(what in SIGNAL_NAMES for what in done) == kills:
            break
    last = start(command, out)
    if last.code:
        return [*done, f"wrong: it did not go on ({last.code}): {last.said[-300:]}"]
    return done + [f"wrong: {what}" for what in differences(out, whole)]


def measure(room: Path, names: Sequence[str], kills: int, seed: int) -> tuple[list[list[Any]], list[str]]:
    """A row for every command, and what was wrong."""
    model, rows, wrong = room / "model", [], []
    if "study" in names:
        start([*RUNS["train"][:-1]], model)
    for name in names:
        command = [part.format(model=model) for part in RUNS[name]]
        whole = start(command, room / name / "whole") if (room / name).mkdir() is None else None
        if whole is None or whole.code:
            return rows, [f"{name} fails by itself: {whole and whole.said[-500:]}"]
        rng, done, began = random.Random(f"{seed} {name}"), [], time.monotonic()
        for k, at in enumerate(range(0, kills, KILLS_PER_RUN)):
            out = room / name / f"killed{k}"
            count = min(KILLS_PER_RUN, kills - at)
            done += kill_and_go_on(command, out, room / name / "whole", count, rng, whole.seconds)
            print(
                f"{name}: {at + count} of {kills}, {time.monotonic() - began:.0f} s",
                file=sys.stderr,
                flush=True,
            )
        counts = Counter(done)
        wrong += [f"{name}: {what}" for what in counts if what.startswith("wrong: ")]
        kinds = [*(number.name for number in SIGNALS), "ended before"]
        rows.append([name, whole.seconds, *(counts[kind] for kind in kinds), time.monotonic() - began])
    return rows, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), help="these commands")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    load("digits")
    with tempfile.TemporaryDirectory() as room:
        rows, wrong = measure(Path(room), asked.only, -(-asked.kills // len(asked.only)), asked.seed)
    columns = ("command", "seconds alone", *(number.name for number in SIGNALS), "ended before", "seconds")
    table("Runs on the digits, killed and gone on with", columns, rows)
    print("\n".join(["", *wrong, f"{len(wrong)} wrong"]))
    if asked.kills >= 200 and len(asked.only) == len(RUNS) and not wrong:
        save("kills", {"rows": [dict(zip(columns, row, strict=True)) for row in rows], "seed": asked.seed})
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

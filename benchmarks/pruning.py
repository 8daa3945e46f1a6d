"""Certified pruning at the size of CIFAR-10: `python benchmarks/pruning.py [--quick] [--cpu-time]`.

Queries on the path of training points and of held-out ones, B = 64, float32, tolerance 1e-6. Every time is a ratio to
the dense oracle's at t = 0.1, where nothing can be left out, and to the dense oracle's at the same t, all called in
turn. Beside stand the points touched and the largest certificate, and the error against the dense oracle in float64.

A second table has 50 Euler steps from noise, by the dense oracle and by pruned ones, in dense evaluations. A third says
in which part of the trajectory they are spent.

`--cpu-time` takes one thread and the time that the processor spends on it: what to use beside other work.

CIFAR-10 is looked for in the folder that FLOWSCOPE_DATA names (else ../shared/data); without it Gaussian points of the
same size are used, and the table says so.
"""

import sys
import time
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

import flowscope as fs
from _harness import interleave, save, table
from flowscope.sampling import trajectory
from oracle import QUICK, images

CPU_TIME = "--cpu-time" in sys.argv
CLOCK = time.process_time if CPU_TIME else time.perf_counter
BATCH, STEPS, TOLERANCE = 64, 50, 1e-6
PARTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0)
TIMES = (0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)


def relative(a: Tensor, b: Tensor) -> float:
    """The largest difference of rows, relative to their length."""
    return float(((a.double() - b.double()).norm(dim=1) / b.double().norm(dim=1)).max())


def measure(name: str, source: Tensor, dense: fs.Oracle, pruned: fs.Oracle) -> list[list[Any]]:
    """A row for each time."""
    generator = torch.Generator().manual_seed(0)
    shape = BATCH, source.shape[1]
    states = {
        t: t * source[torch.randint(len(source), (BATCH,), generator=generator)]
        + (1 - t) * torch.randn(shape, generator=generator)
        for t in TIMES
    }
    calls: dict[str, Any] = {"base": partial(dense, states[0.1], 0.1)}
    for t, x in states.items():
        calls |= {f"dense {t}": partial(dense, x, t), f"pruned {t}": partial(pruned, x, t)}
    s, rows = interleave(calls, 5, CLOCK), []
    for t, x in states.items():
        _, proof = pruned.certify(x, t)
        error = relative(pruned(x, t), dense(x.double(), t))
        ratios = s["base"] / s[f"pruned {t}"], s[f"dense {t}"] / s[f"pruned {t}"]
        touched = float(proof.touched.double().mean())
        rows.append([name, t, *ratios, touched, float(proof.relative.max()), float(proof.mass.max()), error])
        print(rows[-1], flush=True)
    return rows


def seconds_of_steps(field: Any, x0: Tensor) -> list[float]:
    """Seconds of every step of a trajectory."""
    spent, began = [], CLOCK()
    for _ in trajectory(field, x0, torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)):
        spent.append(CLOCK() - began)
        began = CLOCK()
    return spent[:STEPS]


def trajectories(points: Tensor, dense: fs.Oracle, pruned: fs.Oracle) -> tuple[list[list[Any]], list[list[Any]]]:
    """50 Euler steps from the same noise: rows for each field, and rows for each part of the trajectory."""
    x0 = torch.randn(BATCH, points.shape[1], generator=torch.Generator().manual_seed(1))
    half = 0.1 * points[:BATCH] + 0.9 * x0
    loose = fs.Oracle(points, tolerance=10 * TOLERANCE)
    fields = {"dense": dense, f"{TOLERANCE}": pruned, f"{10 * TOLERANCE}": loose}
    calls: dict[str, Any] = {"base": partial(dense, half, 0.1)}
    calls |= {k: partial(fs.sample, f, x0, steps=STEPS) for k, f in fields.items()}
    s = interleave(calls, 3, CLOCK)
    truth = calls["dense"]()
    rows = [[k, s[k] / s["base"], relative(calls[k](), truth)] for k in fields]
    steps = {
        k: [min(c) for c in zip(*(seconds_of_steps(f, x0) for _ in range(3)), strict=True)] for k, f in fields.items()
    }
    ends = [round(STEPS * end) for end in PARTS]
    parts = [
        [f"{low / STEPS:.2f} to {high / STEPS:.2f}", *(sum(steps[k][low:high]) / s["base"] for k in fields)]
        for low, high in pairwise(ends)
    ]
    return rows, parts


def main() -> None:
    if CPU_TIME:
        torch.set_num_threads(1)
    name, points, held_out = images()
    dense, pruned = fs.Oracle(points), fs.Oracle(points, tolerance=TOLERANCE)
    rows = measure("train", points, dense, pruned) + measure("held out", held_out, dense, pruned)
    columns = ["queries", "t", "dense at t = 0.1 over it", "dense at t over it", "points touched", "certificate"]
    columns += ["mass left out, at most", "error"]
    table(f"{name}, N = {len(points):,}, B = {BATCH}, tolerance {TOLERANCE}", columns, rows)
    steps, parts = trajectories(points, dense, pruned)
    told = ["tolerance", "dense evaluations at t = 0.1", "largest difference from dense"]
    table(f"{STEPS} Euler steps from noise", told, steps)
    where = ["t", *(str(row[0]) for row in steps)]
    table("The same by parts of the trajectory, in dense evaluations", where, parts)
    if not QUICK:
        found = {"columns": columns, "rows": rows, "trajectories": {"columns": told, "rows": steps}}
        found |= {"parts": {"columns": where, "rows": parts}}
        save("pruning", {"data": name, "clock": "CPU time of one thread" if CPU_TIME else "wall", **found})


if __name__ == "__main__":
    main()

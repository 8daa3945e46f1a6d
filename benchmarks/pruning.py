"""Certified pruning at the size of CIFAR-10: `python benchmarks/pruning.py [--quick]`.

Queries on the path of training points and of held-out ones, B = 64, float32, tolerance 1e-6. Every time is a ratio to
the dense oracle's at t = 0.1, where nothing can be left out, and to the dense oracle's at the same t, all called in
turn. Beside stand the points touched and the largest certificate, and the error against the dense oracle in float64.

A second table has 50 Euler steps from noise, by the dense oracle and by the pruned one, in dense evaluations.

CIFAR-10 is looked for in the folder that FLOWSCOPE_DATA names (else ../shared/data); without it Gaussian points of the
same size are used, and the table says so.
"""

from functools import partial
from typing import Any

import torch

import flowscope as fs
from _harness import interleave, save, table
from flowscope.oracle import sketches
from oracle import QUICK, images

Tensor = torch.Tensor
BATCH, STEPS, TOLERANCE = 64, 50, 1e-6
TIMES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


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
    s, rows = interleave(calls, 5), []
    for t, x in states.items():
        _, proof = pruned.certify(x, t)
        error = relative(pruned(x, t), dense(x.double(), t))
        ratios = s["base"] / s[f"pruned {t}"], s[f"dense {t}"] / s[f"pruned {t}"]
        touched = float(proof.touched.double().mean())
        rows.append([name, t, *ratios, touched, float(proof.relative.max()), float(proof.mass.max()), error])
        print(rows[-1], flush=True)
    return rows


def trajectories(dense: fs.Oracle, pruned: fs.Oracle, dimension: int) -> list[list[Any]]:
    """50 Euler steps from the same noise."""
    x0 = torch.randn(BATCH, dimension, generator=torch.Generator().manual_seed(1))
    half = 0.1 * torch.randn(BATCH, dimension) + 0.9 * x0
    calls: dict[str, Any] = {"base": partial(dense, half, 0.1)}
    calls |= {k: partial(fs.sample, f, x0, steps=STEPS) for k, f in (("dense", dense), ("pruned", pruned))}
    s = interleave(calls, 2)
    off = relative(calls["pruned"](), calls["dense"]())
    return [[STEPS, s["dense"] / s["base"], s["pruned"] / s["base"], s["dense"] / s["pruned"], off]]


def main() -> None:
    name, points, held_out = images()
    dense, pruned = fs.Oracle(points), fs.Oracle(points, tolerance=TOLERANCE)
    rows = measure("train", points, dense, pruned) + measure("held out", held_out, dense, pruned)
    columns = ["queries", "t", "dense at t = 0.1 over it", "dense at t over it", "points touched", "certificate"]
    columns += ["mass left out, at most", "error"]
    table(f"{name}, N = {len(points):,}, B = {BATCH}, tolerance {TOLERANCE}", columns, rows)
    steps = trajectories(dense, pruned, points.shape[1])
    told = ["steps", "dense, in evaluations at t = 0.1", "pruned, likewise", "dense over pruned", "largest difference"]
    table("Sampling from noise", told, steps)
    if not QUICK:
        half = "yes" if sketches.half_is_worth(points.shape[1]) else "no"
        found = {"columns": columns, "rows": rows, "trajectories": {"columns": told, "rows": steps}}
        save("pruning", {"data": name, "bfloat16 sketches": half, **found})


if __name__ == "__main__":
    main()

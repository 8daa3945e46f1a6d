"""What the one-pass stage curve costs: against one timestep, against separate evaluations, and as T, N and D grow.

    python benchmarks/stage_curve.py [--only growth | field]

Four questions, each a ratio taken in one run:

1. 64 timesteps against 1, at D = 3072: goal at most 3.
2. 64 separate posterior evaluations at the same probes against the one pass: goal at least 10, everywhere.
3. growth with timesteps, N and D, each alone.
4. the field: the curve of CIFAR-10 (50,000 points, 64 timesteps) to the same standard error, against a loop over
   timesteps with the best rival, a one-shot float32 expansion in torch that estimates the gap by |u* - u_cond|^2:
   goal 100. The direct estimate is noisier than ours, so the loop needs more probes: by the square of the ratio of
   standard errors, measured at each timestep where there is a gap (between 1 and 4 by theory), and as many as ours
   elsewhere. A timestep costs the same at any t: the loop's time is timed at a few and multiplied. The data are read
   from ../shared/data, or from $FLOWSCOPE_DATA.

The other data are synthetic: unit Gaussians are the hardest case for dropping pairs early, clusters the usual one. On
both sides the probes are drawn and the posterior's statistics taken; the bootstrap and the prediction of `stages` are
left out.
"""

import argparse
import os
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import flowscope as fs
from _harness import interleave, save, table
from flowscope.curve.measure import place_nodes
from flowscope.curve.path_pass import PathSums, add_blocks
from flowscope.curve.probes import draw_probes
from flowscope.oracle.plan import plan

PROBES, TIMESTEPS = 256, 64


def one_pass(oracle: fs.Oracle, timesteps: int):
    """The posterior's statistics at all nodes, as `stages` measures them."""
    t = torch.arange(timesteps, dtype=torch.float64).numpy() / timesteps
    law = oracle.support.law()
    nodes = place_nodes(oracle.path, t, law.mean_square, law.entropy)
    sizes = plan(oracle.memory, PROBES, len(law), law.support.dimension)
    sums = PathSums.of_source(PROBES, len(nodes.r), oracle.device)
    for _ in add_blocks(sums, law, draw_probes(law, range(PROBES), 0), torch.as_tensor(nodes.r), sizes):
        pass
    return sums.trace, sums.first / sums.mass, sums.entropy, sums.effective_size


def separate(oracle: fs.Oracle, timesteps: int) -> None:
    """The same probes, one posterior evaluation a timestep."""
    law = oracle.support.law()
    probes = draw_probes(law, range(PROBES), 0)
    x1 = probes.points + oracle.support.centre
    for k in range(timesteps):
        t = k / timesteps
        x = (t * x1 + (1 - t) * probes.noise).reshape(PROBES, *oracle.training_set.shape)
        oracle.posterior(x, t, k=2)


def oracle_of(n: int, d: int, kind: str) -> fs.Oracle:
    spec = f"gaussian:N={n},D={d}" if kind == "gaussian" else f"mixture:N={n},D={d},modes=20,spread=0.5"
    return fs.Oracle(fs.load(spec))


def cifar() -> fs.TrainingSet | None:
    """CIFAR-10 in [-1, 1], or None where it is not to be had."""
    root = Path(os.environ.get("FLOWSCOPE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    path = root / "cifar10_jpegbytes_train.npz"
    return fs.load(path) if path.exists() else None


class Rival:
    """The posterior mean by a one-shot float32 expansion, as everybody writes it."""

    def __init__(self, points: Tensor) -> None:
        self.points, self.norms = points, (points * points).sum(1)

    def __call__(self, x: Tensor, t: float) -> Tensor:
        logits = (t * (x @ self.points.T) - 0.5 * t * t * self.norms) / (1 - t) ** 2
        return (logits.softmax(1) @ self.points - x) / (1 - t)


def direct_gap(velocity, x1: Tensor, x0: Tensor, t: float) -> Tensor:
    """(n,) |u* - u_cond|^2 / D of each probe."""
    return (velocity(t * x1 + (1 - t) * x0, t) - (x1 - x0)).to(torch.float64).pow(2).mean(1)


def pair_gaps(oracle: fs.Oracle, probes, whole: bool = False) -> Tensor:
    """(n, 64) the pair form of the gap at all timesteps, in one pass; `whole`: at all the nodes of `stages`."""
    law, t = oracle.support.law(), torch.arange(TIMESTEPS, dtype=torch.float64) / TIMESTEPS
    r, asked = t / (1 - t), np.arange(TIMESTEPS)
    if whole:
        nodes = place_nodes(oracle.path, t.numpy(), law.mean_square, law.entropy)
        r, asked = torch.as_tensor(nodes.r), nodes.asked
    sizes = plan(oracle.memory, len(probes.source), len(law), law.support.dimension)
    sums = PathSums.of_source(len(probes.source), len(r), oracle.device)
    for _ in add_blocks(sums, law, probes, r, sizes):
        pass
    return sums.trace[:, asked] / (1 - t) ** 2 / law.support.dimension


def exact_gaps(points: Tensor, x1: Tensor, x0: Tensor, times: list[float]) -> Tensor:
    """(2, n, len(times)) both forms of the gap in float64, logits from differences: pair and direct."""
    square, cross = torch.empty(2, len(x1), len(points), dtype=torch.float64)
    for start in range(0, len(points), 2000):
        part = points[start : start + 2000].to(torch.float64)
        for k in range(len(x1)):
            apart = x1[k] - part
            square[k, start : start + 2000] = (apart * apart).sum(1)
            cross[k, start : start + 2000] = apart @ x0[k]
    found = torch.empty(2, len(x1), len(times), dtype=torch.float64)
    for k, t in enumerate(times):
        r = t / (1 - t)
        gamma = (-r * r * square / 2 - r * cross).softmax(1)
        mean = sum(gamma[:, i : i + 2000] @ points[i : i + 2000].to(torch.float64) for i in range(0, len(points), 2000))
        found[0, :, k] = (gamma * square).sum(1) / 2 / (1 - t) ** 2
        found[1, :, k] = (x1 - mean).pow(2).sum(1) / (1 - t) ** 2
    return found / points.shape[1]


def errors(oracle: fs.Oracle, rival: Rival, count: int = 8) -> list[tuple[float, float, float, float]]:
    """(t, true gap, error of ours, error of the rival's) for the mean over a few probes, against float64."""
    probes = draw_probes(oracle.support.law(), range(count), 1)
    x1 = probes.raw.to(torch.float64)
    steps = [2, 6, 10, 14, 20, 28]
    pair, direct = exact_gaps(rival.points, x1, probes.noise, [k / TIMESTEPS for k in steps])
    ours = pair_gaps(oracle, probes)[:, steps]
    rows = []
    for n, k in enumerate(steps):
        theirs = direct_gap(rival, x1.float(), probes.noise.float(), k / TIMESTEPS)
        off = [float((a.mean() - b.mean()).abs()) for a, b in ((ours[:, n], pair[:, n]), (theirs, direct[:, n]))]
        rows.append((k / TIMESTEPS, float(direct[:, n].mean()), *off))
    return rows


def field(probes: int = 256) -> None:
    data = cifar()
    if data is None:
        print("CIFAR-10 is not to be had here: set FLOWSCOPE_DATA")
        return
    oracle = fs.Oracle(data)
    rival = Rival(torch.as_tensor(data.points).flatten(1))
    drawn = draw_probes(oracle.support.law(), range(probes), 0)
    x1, x0 = drawn.raw.float(), drawn.noise.float()
    calls = {"ours": partial(pair_gaps, oracle, drawn), "whole": partial(pair_gaps, oracle, drawn, True)}
    calls |= {t: partial(direct_gap, rival, x1, x0, t) for t in (0.05, 0.5)}
    seconds = interleave(calls, 3)
    step = (seconds[0.05] + seconds[0.5]) / 2
    ours = pair_gaps(oracle, drawn)
    rows, needed = [], 0.0
    for k in range(TIMESTEPS):
        mean, error = float(ours[:, k].mean()), float(ours[:, k].std()) / probes**0.5
        times = 1.0
        if mean > 1e-2 * float(ours[:, 0].mean()):
            found = direct_gap(rival, x1, x0, k / TIMESTEPS)
            theirs = float(found.std()) / probes**0.5
            times = max(1.0, (theirs / error) ** 2)
            rows.append((k / TIMESTEPS, mean, error, float(found.mean()), theirs, times))
        needed += times
    columns = ("t", "gap, ours", "its error", "gap, direct", "its error", "probes it needs, over ours")
    table(f"CIFAR-10, {len(data):,} points, {probes} probes: standard errors of both estimates", columns, rows)
    wrong = errors(oracle, rival)
    table("Against float64, 8 probes", ("t", "gap", "error of ours", "error of the rival's"), wrong)
    loop = step * needed
    rows_of = {"the 64 timesteps": seconds["ours"], "and the grid of `stages`": seconds["whole"]}
    shown = [(name, s, step, loop, loop / s, TIMESTEPS * step / s) for name, s in rows_of.items()]
    columns = ("one pass at", "s", "rival: a timestep, s", "its loop to the same standard error, s", "over ours")
    table("64 timesteps", (*columns, "with as many probes as ours"), shown)
    print(f"\nProducts alone take as long as one timestep of the rival: at most {needed:.0f} can be reached.")
    result = {"probes": probes, "seconds": seconds["ours"], "with_grid": seconds["whole"], "rival_step": step}
    result |= {"loop": loop, "ratio": loop / seconds["ours"], "ratio_with_grid": loop / seconds["whole"]}
    result |= {"steps_of_the_loop": needed, "load": os.getloadavg()[0], "standard_errors": rows, "float64": wrong}
    save("stage_curve_field", result)


def growth_and_steps() -> None:
    rows, found = [], []
    for n, d, kind in (
        (1797, 64, "mixture"),
        (10000, 64, "gaussian"),
        (10000, 784, "mixture"),
        (5000, 3072, "gaussian"),
    ):
        oracle = oracle_of(n, d, kind)
        calls = {
            "one": partial(one_pass, oracle, 1),
            "64": partial(one_pass, oracle, 64),
            "separate 8": partial(separate, oracle, 8),
        }
        s = interleave(calls, 3)
        row = (kind, n, d, s["64"], s["64"] / s["one"], 8 * s["separate 8"] / s["64"])
        rows.append(row)
        found.append(dict(zip(("data", "N", "D", "seconds", "over_one", "separate_over"), row, strict=True)))
    columns = ("data", "N", "D", "64 timesteps, s", "over 1 timestep", "64 separate evaluations over it")
    table(f"The stage curve, {PROBES} probes (separate evaluations: 8 timed, times 8)", columns, rows)
    last = oracle_of(5000, 3072, "gaussian")
    sized = {
        "timesteps": {k: partial(one_pass, last, k) for k in (1, 4, 16, 64, 256)},
        "N": {n: partial(one_pass, oracle_of(n, 784, "mixture"), 64) for n in (1250, 2500, 5000, 10000)},
        "D": {d: partial(one_pass, oracle_of(5000, d, "mixture"), 64) for d in (48, 192, 768, 3072)},
    }
    growth = {name: list(interleave(calls, 3).items()) for name, calls in sized.items()}
    for name, points in growth.items():
        first = points[0][1]
        table(f"Growth with {name}", (name, "seconds", "over the first"), [(k, s, s / first) for k, s in points])
    save("stage_curve", {"rows": found, "growth": growth, "budget": plan(2**29, PROBES, 10000, 784)._asdict()})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=("growth", "field"))
    asked = parser.parse_args().only
    if asked != "growth":
        field()
    if asked != "field":
        growth_and_steps()


if __name__ == "__main__":
    main()

"""A search for the worst errors of the oracle: `python benchmarks/adversary.py [--quick] [--minutes 10] [--seed 0]`.

Sets, times, dtypes and engines are drawn at random, and half of the time a set that did badly is changed a little. Two
numbers count, and both must be below 1:

- the worst error of a velocity over 1e-6 of the size sqrt(|u|^2 + A^2 tr Cov), beside the rounding to the dtype of x;
- the worst error of a certified velocity over what its certificate proves.

The truth is computed by direct differences in extended precision (80 bits), with what that cannot resolve of a logit
allowed for. States whose float64 inputs do not tell points apart are not asked for.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

import flowscope as fs
from _harness import save, table
from flowscope.oracle.engines.accumulator import Float32Policy
from flowscope.oracle.engines.pruning.policy import PruningPolicy
from flowscope.oracle.engines.select import Policies

QUICK = "--quick" in sys.argv
LONG = np.longdouble
ROUNDING = np.finfo(LONG).eps
ENGINES = ("float64", "float32 torch", "float32 numpy", "pruned")


def option(name: str, otherwise: float) -> float:
    """The number after an option of the command line."""
    return float(sys.argv[sys.argv.index(name) + 1]) if name in sys.argv else otherwise


@dataclass(frozen=True)
class Case:
    """One set with states, and how it is asked."""

    family: str
    count: int
    dimension: int
    tight: float  # width of what is narrow
    far: float  # distance of what is far
    t: float
    weight: float  # log10 of what the rare points weigh beside others
    path: str
    engine: str
    seed: int


def ordinary(case: Case, random: np.random.Generator) -> np.ndarray:
    return case.far * random.normal(size=(case.count, case.dimension))


def crowd_and_rare(case: Case, random: np.random.Generator) -> np.ndarray:
    """A tight crowd, and a few far points close together."""
    points = case.tight * random.normal(size=(case.count, case.dimension))
    rare = max(2, case.count // 500)
    direction = random.normal(size=case.dimension)
    spread = (1 - case.t) / max(case.t, 1e-3)
    points[random.choice(case.count, rare, replace=False)] = case.far * direction / np.linalg.norm(
        direction
    ) + 0.5 * spread * random.normal(size=(rare, case.dimension))
    return points


def pair(case: Case, random: np.random.Generator) -> np.ndarray:
    """A near-duplicate pair in a crowd."""
    points = case.far * random.normal(size=(case.count, case.dimension))
    points[1] = points[0] + case.tight * random.normal(size=case.dimension)
    return points


def periodic(case: Case, random: np.random.Generator) -> np.ndarray:
    """Every so-manieth point nearly blank, others in modes."""
    modes = case.far * random.normal(size=(50, case.dimension))
    points = modes[random.integers(0, 50, case.count)] + case.tight * random.normal(size=(case.count, case.dimension))
    at = np.unique(np.linspace(0, case.count - 1, 64).round().astype(int))
    points[at] = points.mean(0) + 1e-4 * random.normal(size=(len(at), case.dimension))
    return points


def far_classes(case: Case, random: np.random.Generator) -> np.ndarray:
    """Tight classes far apart: points of a class are rounded alike."""
    centres = case.far * random.normal(size=(int(random.integers(2, 6)), case.dimension))
    labels = np.sort(random.integers(0, len(centres), case.count))
    return centres[labels] + case.tight * random.normal(size=(case.count, case.dimension))


def outlier(case: Case, random: np.random.Generator) -> np.ndarray:
    """One point that moves the centre."""
    points = random.normal(size=(case.count, case.dimension))
    points[case.count // 2] = case.far**4
    return points


def offset(case: Case, random: np.random.Generator) -> np.ndarray:
    """Everything far from 0."""
    return case.far**3 + random.normal(size=(case.count, case.dimension))


FAMILIES: dict[str, Callable[[Case, np.random.Generator], np.ndarray]] = {
    one.__name__: one for one in (ordinary, crowd_and_rare, pair, periodic, far_classes, outlier, offset)
}


def draw(random: np.random.Generator) -> Case:
    """A case at random."""
    large = random.random() < 0.5
    return Case(
        family=str(random.choice(list(FAMILIES))),
        count=int(random.choice([2000, 5000, 20000] if large else [3, 20, 150])),
        dimension=int(random.choice([4, 32, 64, 256] if large else [1, 4, 16])),
        tight=float(10 ** random.uniform(-6, 0)),
        far=float(10 ** random.uniform(-1, 2)),
        t=float(random.choice([random.uniform(0, 1), 1 - 10 ** random.uniform(-9 if not large else -4, -1)])),
        weight=float(random.choice([0.0, random.uniform(-4, 4)])),
        path=str(random.choice(["linear", "linear", "cosine", "vp", "ve"])),
        engine=str(random.choice(ENGINES)),
        seed=int(random.integers(0, 2**31)),
    )


def change(case: Case, random: np.random.Generator) -> Case:
    """A case much like it."""
    closer = 1 - (1 - case.t) * 10 ** random.normal(0, 0.2)
    return replace(
        case,
        tight=float(case.tight * 10 ** random.normal(0, 0.3)),
        far=float(case.far * 10 ** random.normal(0, 0.1)),
        t=float(np.clip(closer, 0, 1 - 1e-9)),
        weight=float(case.weight + random.normal(0, 0.5)) if case.weight else 0.0,
        seed=int(random.choice([case.seed, random.integers(0, 2**31)])),
    )


def truth(points: np.ndarray, weights: np.ndarray, x: np.ndarray, at: tuple[float, ...]) -> tuple[np.ndarray, Any, Any]:
    """The velocity at one state, its size, and what extended precision does not resolve of it."""
    alpha, sigma, d_alpha, d_sigma = (LONG(value) for value in at)
    off = x.astype(LONG) - alpha * points.astype(LONG)
    energy = (off**2).sum(1) / (2 * sigma**2)
    logits = np.log(weights.astype(LONG)) - energy
    near = int(logits.argmax())
    gamma = np.exp(logits - logits[near])
    gamma /= gamma.sum()
    shift = gamma @ (points - points[near]).astype(LONG)
    A = d_alpha - alpha * d_sigma / sigma
    u = d_alpha * points[near].astype(LONG) + d_sigma * off[near] / sigma + A * shift
    trace = (gamma @ ((points - points[near]).astype(LONG) ** 2).sum(1)) - (shift**2).sum()
    size = np.sqrt((u**2).sum() + A**2 * max(trace, LONG(0)))
    shared = 4 * ROUNDING * energy[near] * size if gamma[near] < 1 - 1e-12 else LONG(0)
    reach = np.sqrt((x.astype(LONG) ** 2).sum()) + alpha * np.sqrt((points[near].astype(LONG) ** 2).sum())
    return u, size, shared + 4 * ROUNDING * abs(d_sigma) / sigma * reach


def run(case: Case) -> tuple[float, float]:
    """The error of a velocity over 1e-6, and that of a certified one over its proof; the largest of some states."""
    random = np.random.default_rng(case.seed)
    small = "float32" in case.engine
    points = FAMILIES[case.family](case, random)
    points = points.astype(np.float32).astype(np.float64) if small else points
    weights = np.ones(case.count)
    if case.weight:
        weights[random.choice(case.count, max(1, case.count // 100), replace=False)] = 10**case.weight
    tolerance = 1e-6 if case.engine == "pruned" else None
    library = case.engine.split()[1] if small else None
    data = fs.TrainingSet(points.astype(np.float32) if small else points, weights=weights)
    oracle = fs.Oracle(data, case.path, tolerance=tolerance, library=library)
    oracle.use(Policies(float32=Float32Policy(smallest=0), pruning=PruningPolicy(smallest_law=0)))
    c = oracle.path(case.t)
    at = tuple(float(value) for value in (c.alpha, c.sigma, c.d_alpha, c.d_sigma))
    which = random.integers(0, case.count, 4)
    x = at[0] * points[which] + at[1] * random.normal(size=(4, case.dimension))
    x[3] = at[0] * (points[which[0]] + points[which[1]]) / 2 + at[1] * random.normal(size=case.dimension)
    states = torch.from_numpy(x.astype(np.float32) if small else x)
    found = oracle(states, case.t).double().numpy()
    certified, proof = oracle.certify(states.double(), case.t)
    worst, over = 0.0, 0.0
    for row, state in enumerate(states.double().numpy()):
        u, size, unresolved = truth(points, weights, state, at)
        allowed = 1e-6 * (1 + (tolerance is not None)) * size + unresolved
        allowed += 2.0**-24 * np.sqrt((u**2).sum()) if small else 0
        if size > 0:
            worst = max(worst, float(np.sqrt(((found[row] - u) ** 2).sum()) / allowed))
            error = np.sqrt(((certified[row].numpy() - u) ** 2).sum()) - unresolved
            over = max(over, float(error / max(proof.error[row].item(), 1e-300)))
    return worst, over


def main() -> None:
    random, began = np.random.default_rng(int(option("--seed", 0))), time.monotonic()
    seconds = 60 * option("--minutes", 0.5 if QUICK else 10)
    best: list[tuple[float, float, Case]] = []
    tried = dict.fromkeys(FAMILIES, 0)
    while time.monotonic() - began < seconds:
        known = best and random.random() < 0.5
        case = change(best[int(random.integers(len(best)))][2], random) if known else draw(random)
        try:
            worst, over = run(case)
        except fs.InputError:  # what leaves the range of a dtype is refused
            continue
        tried[case.family] += 1
        best = sorted([*best, (worst, over, case)], key=lambda one: -max(one[:2]))[:12]
    rows = [
        [
            family,
            tried[family],
            *(max((one[k] for one in best if one[2].family == family), default=0.0) for k in (0, 1)),
        ]
        for family in FAMILIES
    ]
    table("Cases tried, and the worst of the twelve worst", ["family", "tried", "error / 1e-6", "error / proof"], rows)
    for worst, over, case in best[:5]:
        print(f"{worst:.3f} {over:.3f} {case}")
    print(
        f"worst error over 1e-6: {max(one[0] for one in best):.3f}; over its proof: {max(one[1] for one in best):.3f}"
    )
    if not QUICK:
        save("adversary", {"minutes": seconds / 60, "tried": tried, "worst": [list(one[:2]) for one in best]})


if __name__ == "__main__":
    main()

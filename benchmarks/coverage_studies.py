"""How often the 95 % intervals of studies hold the truth: `python benchmarks/coverage_studies.py [--quick]`.

Each row repeats a measurement whose truth is known, from new draws, and counts how often the interval covers it: 90 %
or more should. Above 98 % an interval is marked as conservative.

- FD difference: two Gaussian samplers that are paired in their noise, with S seeds each. The truth is the mean
  difference over many repetitions at the same number of samples.
- share, excess: Bernoulli samples, alone and as the difference of two.
- place: three fields with paired values, one between the other two.
- w: a field that does not depend on the draw (0), the oracle half-way to that of more data (1/2), and the oracle (1).
- sweep: `half` of subsets of digits; the truth is its mean over many subsets.
"""

import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

import flowscope as fs
from _harness import save, table
from flowscope.curve.sweep import over_draws
from flowscope.metrics.frechet import FrechetTo
from flowscope.metrics.memorised import share_with_interval
from flowscope.studies.bench.influence import fit_gaussian, influence_values
from flowscope.studies.bench.ladder import Statistic, place, statistic
from flowscope.studies.bench.memory_coordinate import Window, memory_coordinates
from flowscope.studies.bench.paired import Quality, frechet_difference

QUICK = "--quick" in sys.argv[1:]
REPEATS = 200 if not QUICK else 40
CONSERVATIVE, LEAST = 0.98, 0.9


class Row(NamedTuple):
    """One interval: how often it covered the truth in so many repetitions."""

    interval: str
    setting: str
    repeats: int
    covered: float

    @property
    def note(self) -> str:
        return "too few" if self.covered < LEAST else "conservative" if self.covered > CONSERVATIVE else ""


def count(interval: str, setting: str, ends: Iterator[tuple[float, float]], truth: float) -> Row:
    """The row of intervals and their truth."""
    held = [low - 1e-9 <= truth <= high + 1e-9 for low, high in ends]
    return Row(interval, setting, len(held), float(np.mean(held)))


def shares(repeats: int) -> Iterator[Row]:
    """Clopper-Pearson of shares, and Student's t of the excess of one share over another."""
    for p, n in ((0.02, 100), (0.3, 100), (0.9, 64)):
        rng = np.random.default_rng(int(1000 * p))
        draws = (share_with_interval(torch.from_numpy(rng.random(n) < p))[1:] for _ in range(repeats))
        yield count("share", f"p = {p:g}, n = {n}", draws, p)
    for p, q in ((0.5, 0.3), (0.9, 0.2)):
        rng = np.random.default_rng(7)
        found = (
            statistic((1.0, (rng.random(64) < p) * 1.0), (-1.0, (rng.random(64) < q) * 1.0)).interval
            for _ in range(repeats)
        )
        yield count("excess", f"{p:g} less {q:g}, n = 64", ((i.low, i.high) for i in found), p - q)


def places(repeats: int) -> Iterator[Row]:
    """The place of a field between two others, of values that are paired."""
    for where in (0.0, 0.3, 1.0):
        rng = np.random.default_rng(int(10 * where))

        def ends(at: float, draw: np.random.Generator) -> Iterator[tuple[float, float]]:
            for _ in range(repeats):
                shared = draw.standard_normal((48, 1)) + 0.7 * draw.standard_normal((48, 3))
                base, oracle, model = (statistic((1.0, column)) for column in (shared + np.array([0, 3, 3 * at])).T)
                found = place(model, base, oracle, True)
                yield found.low, found.high

        yield count("place", f"at {where:g}, n = 48", ends(where, rng), where)


def frechet_differences(repeats: int) -> Iterator[Row]:
    """FD of one sampler less that of another, from equal noise, with models that differ by seed."""
    d, n = 4, 200
    real = np.random.default_rng(0).standard_normal((2000, d))
    to, gaussian = FrechetTo(torch.from_numpy(real)), fit_gaussian(real)

    def quality(x: np.ndarray) -> Quality:
        none = np.zeros(len(x), dtype=bool)
        return Quality(to(torch.from_numpy(x)), influence_values(gaussian, x), 1.0, 1.0, none, 1)

    def once(seeds: int, rng: np.random.Generator) -> tuple[float, float, float]:
        noise = rng.standard_normal((n, d))
        runs = [
            [quality(noise * scale + shift + 0.1 * rng.standard_normal(d)) for _ in range(seeds)]
            for scale, shift in ((1.0, 0.3), (1.1, 0.0))
        ]
        found = frechet_difference(*runs)
        return found.value, found.value - found.reach, found.value + found.reach

    for seeds in (1, 3, 5):
        rng = np.random.default_rng(seeds)
        if seeds == 1:  # what one seed says is of its own model alone: the shifts are drawn once
            yield from _one_model(repeats, quality, n, d)
            continue
        found = [once(seeds, rng) for _ in range(repeats)]
        truth = float(np.mean([once(seeds, rng)[0] for _ in range(5 * repeats)]))
        yield count("FD difference", f"{seeds} seeds, n = {n}", ((low, high) for _, low, high in found), truth)


def _one_model(repeats: int, quality: Callable[[np.ndarray], Quality], n: int, d: int) -> Iterator[Row]:
    rng = np.random.default_rng(1)
    shifts = 0.1 * rng.standard_normal((2, d))

    def once() -> tuple[float, float, float]:
        noise = rng.standard_normal((n, d))
        found = frechet_difference([quality(noise + 0.3 + shifts[0])], [quality(1.1 * noise + shifts[1])])
        return found.value, found.value - found.reach, found.value + found.reach

    found = [once() for _ in range(repeats)]
    truth = float(np.mean([once()[0] for _ in range(5 * repeats)]))
    yield count("FD difference", f"1 seed, n = {n}", ((low, high) for _, low, high in found), truth)


def coordinates(repeats: int) -> Iterator[Row]:
    """The memory coordinate of three fields, each time of other points that were drawn."""
    whole = fs.load("gaussian:N=200,D=6")
    more, window = fs.Oracle(whole), Window(0.4, 0.6)
    points = whole.rows(slice(None))
    found: dict[float, list[tuple[float, float]]] = {0.0: [], 0.5: [], 1.0: []}
    for k in range(repeats):
        rows = np.random.default_rng((k, 1)).choice(len(whole), 30, replace=False)
        oracle = fs.Oracle(fs.TrainingSet(points[np.sort(rows)]))
        fields = {
            0.0: lambda x, t, y=None: -x,
            0.5: lambda x, t, y=None, own=oracle: (own(x, t) + more(x, t)) / 2,
            1.0: oracle,
        }
        measured = memory_coordinates({str(w): f for w, f in fields.items()}, oracle, more, window, 60, 5, False, k, 60)
        for w, ends in found.items():
            i: Statistic = measured[str(w)].whole
            ends.append((i.interval.low, i.interval.high))
    for w, ends in found.items():
        yield count("w", f"truth {w:g}, 30 of 200 points", iter(ends), w)


def sweeps(repeats: int) -> Iterator[Row]:
    """The interval of `half` over five draws of 50 digits."""
    digits, probes = fs.load("digits"), 64

    def curve(seed: int) -> fs.StageCurve:
        rows = np.random.default_rng((9, seed)).choice(len(digits), 50, replace=False)
        return fs.stages(fs.Oracle(fs.TrainingSet(digits.rows(np.sort(rows)))), 1, probes, seed)

    curves = [curve(seed) for seed in range(5 * repeats)]
    truth = float(np.mean([c.half.t for c in curves]))
    ends = (over_draws(curves[5 * k : 5 * k + 5], "half")[1:] for k in range(repeats))
    yield count("sweep", f"digits, N = 50, {probes} probes", ends, truth)


KINDS: dict[str, Callable[[int], Iterator[Row]]] = {
    "shares": shares,
    "places": places,
    "FD differences": frechet_differences,
    "memory coordinate": coordinates,
    "sweeps": sweeps,
}


def main() -> None:
    rows: list[Row] = []
    for name, kind in KINDS.items():
        found = list(kind(REPEATS))
        rows += found
        table(
            name,
            ("setting", "repetitions", "covered", "note"),
            [[r.setting, r.repeats, r.covered, r.note] for r in found],
        )
    if not QUICK:
        save("coverage_studies", {"rows": [row._asdict() | {"note": row.note} for row in rows]})


if __name__ == "__main__":
    main()

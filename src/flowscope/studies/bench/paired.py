"""Paired estimates: means over seeds with their standard errors, differences of variants, and the verdict on them.

A mean has two errors. The error over seeds is the standard deviation between models of different seeds over the root of
their number. The error over samples comes from influence values, averaged over seeds, since every seed starts from the
same noise. Their root sum of squares is a little too large: models of different seeds answer the same noise
differently, and both errors hold that. A single seed has the error over samples alone.

A difference counts beyond its 95 % interval by Student's t with one degree of freedom less than there are seeds: with
three seeds that is 4.30 standard errors, not 2. Where a table has many comparisons, Holm's correction keeps the chance
of a single false one at 5 %.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flowscope.curve import intervals
from flowscope.curve.intervals import CONFIDENCE, student
from flowscope.studies.bench.finding import Verdict

CLEAR_DIFFERENCE = f"beyond the {100 * CONFIDENCE:.0f} % interval of the paired difference"
ROUGH_BELOW_SEEDS = 5  # fewer seeds give their spread only roughly


class Estimate(NamedTuple):
    """A mean over seeds with its standard errors and degrees of freedom; error_seeds is NaN for one seed."""

    value: float
    error: float
    error_seeds: float
    error_samples: float
    df: float

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.error:.2g}"

    @property
    def reach(self) -> float:
        """Half the width of the 95 % interval."""
        return student(self.df) * self.error if self.error > 0 else self.error

    @property
    def clear(self) -> int:
        """The sign of the value if its 95 % interval leaves out 0, else 0."""
        return int(self.value > self.reach) - int(self.value < -self.reach)

    @property
    def p(self) -> float:
        """The two-sided p value against 0."""
        from scipy.stats import t

        if not self.error > 0:
            return math.nan if math.isnan(self.error) else float(self.value == 0)
        return float(2 * t.sf(abs(self.value) / self.error, self.df))


class Interval(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if not math.isfinite(self.value):
            return "beyond measure"
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


class Quality(NamedTuple):
    """The measures of n samples of one variant and one seed.

    Attributes:
        fd: Frechet distance to the training set.
        influence: (n,) influence value of each sample on it.
        precision: against at most n training points, in the same space.
        recall: likewise.
        copied: (n,) whether each sample counts as memorised, d1/d2 < 1/3.
        nfe: network evaluations for each sample.
    """

    fd: float
    influence: np.ndarray
    precision: float
    recall: float
    copied: np.ndarray
    nfe: int

    @property
    def memorised(self) -> float:
        """The share of samples that count as memorised."""
        return float(self.copied.mean())


def quality_values(runs: Sequence[Quality], name: str) -> np.ndarray:
    """(S,) one measure of each seed's run."""
    return np.array([getattr(run, name) for run in runs], dtype=np.float64)


def estimate(values: np.ndarray, influence: np.ndarray) -> Estimate:
    """Estimate the mean over seeds.

    Args:
        values: (S,) one for each seed.
        influence: (S, n) influence values of the same n samples in every seed.

    Returns:
        The estimate, with S - 1 degrees of freedom; n - 1 for a single seed.
    """
    count, n = influence.shape
    samples = float(influence.mean(0).std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    seeds = float(values.std(ddof=1) / math.sqrt(count)) if count > 1 else math.nan
    error = samples if math.isnan(seeds) else math.hypot(samples, seeds)
    return Estimate(float(values.mean()), error, seeds, samples, (count if count > 1 else n) - 1)


def estimate_mean(values: np.ndarray) -> Estimate:
    """Estimate the mean of values (S, n) over seeds and samples."""
    return estimate(values.mean(1), values)


def frechet_estimate(runs: Sequence[Quality]) -> Estimate:
    """The Frechet distance of a variant with one run for each seed."""
    return estimate(quality_values(runs, "fd"), np.stack([run.influence for run in runs]))


def frechet_difference(more: Sequence[Quality], less: Sequence[Quality]) -> Estimate:
    """The Frechet distance of one variant less that of another, paired by seed and by sample."""
    influence = np.stack([a.influence - b.influence for a, b in zip(more, less, strict=True)])
    return estimate(quality_values(more, "fd") - quality_values(less, "fd"), influence)


def estimate_columns(name: str, estimates: Iterable[Estimate]) -> dict[str, list[float]]:
    """The columns <name> and <name>_error of a table with a row for each estimate."""
    rows = list(estimates)
    return {name: [e.value for e in rows], f"{name}_error": [e.error for e in rows]}


def interval_columns(name: str, estimates: Iterable[Estimate]) -> dict[str, list[float]]:
    """The columns <name>, <name>_low and <name>_high: the intervals that a verdict rests on."""
    rows = list(estimates)
    return {
        name: [e.value for e in rows],
        f"{name}_low": [e.value - e.reach for e in rows],
        f"{name}_high": [e.value + e.reach for e in rows],
    }


def holm(estimates: Mapping[Any, Estimate]) -> dict[Any, int]:
    """The signs of the estimates that are clear after Holm's correction for their number, 0 for the others."""
    held = intervals.holm({name: e.p for name, e in estimates.items()}, 1 - CONFIDENCE)
    return {name: int(np.sign(e.value)) if held[name] else 0 for name, e in estimates.items()}


def mean_and_error(values: Any) -> tuple[float, float]:
    """The mean of values (n,) and its standard error, which is NaN for one value."""
    values = np.asarray(values, dtype=np.float64)
    return float(values.mean()), float(standard_error(values[None])[0])


def standard_error(values: np.ndarray) -> np.ndarray:
    """(T,) standard errors of the means of values (T, n); NaN for n = 1."""
    if values.shape[1] < 2:
        return np.full(len(values), np.nan)
    return values.std(1, ddof=1) / np.sqrt(values.shape[1])


def verdict(differences: Mapping[Any, Estimate]) -> Verdict:
    """Judge differences that the claim expects above 0.

    Returns:
        "agrees" if all are clearly above 0, "differs" if one is clearly below, else "cannot be tested".
    """
    signs = [d.clear for d in differences.values()]
    if signs and min(signs) > 0:
        return "agrees"
    return "differs" if signs and min(signs) < 0 else "cannot be tested"


def list_differences(differences: Mapping[str, Estimate]) -> str:
    """Differences with their errors, in words."""
    return "; ".join(f"{name}: {d}" for name, d in differences.items())


def errors_in_words(seeds: int) -> str:
    """The sentence that says what the errors of a finding are over."""
    if seeds > 1:
        rough = " The spread of so few seeds is known only roughly." if seeds < ROUGH_BELOW_SEEDS else ""
        reach = f"A difference counts beyond {student(seeds - 1):.2f} of them, by Student's t."
        return f"Errors are standard errors over {seeds} seeds and over samples together. {reach}{rough}"
    return "One seed: errors are over samples only and do not cover other training runs."

"""Compare: numbers over seeds with their errors, paired differences, and the verdict that rests on them.

A number has two errors. Over seeds: the standard deviation between models trained from different seeds, over the root
of their number. Over samples: what the n samples leave open, from influence values averaged over seeds (every seed
starts from the same noise). Together they are the root of the sum of squares, a little too large, since models of
different seeds answer the same noise differently and both errors hold that. With one seed only the second is there.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from flowscope.studies.bench.finding import Verdict
from flowscope.studies.bench.sample_bench import Quality, SampleBench, column

CLEAR = 2.0  # standard errors beyond which a difference counts
FEW_SEEDS = 5
CRITERION = f"beyond {CLEAR:g} standard errors of the paired difference"


class Estimate(NamedTuple):
    """A mean over seeds with its standard errors; error_seeds is NaN for one seed."""

    value: float
    error: float
    error_seeds: float
    error_samples: float

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.error:.2g}"

    @property
    def clear(self) -> int:
        """1 where it is above 0 beyond CLEAR standard errors, -1 where it is below, else 0."""
        return int(self.value > CLEAR * self.error) - int(self.value < -CLEAR * self.error)


def frechet_of(runs: Sequence[Quality]) -> Estimate:
    """The Frechet distance of a variant, a run a seed."""
    return estimate(column(runs, "fd"), np.stack([run.influence for run in runs]))


def difference(more: Sequence[Quality], less: Sequence[Quality]) -> Estimate:
    """FD of one variant less that of another, paired by seed and by sample."""
    influence = np.stack([a.influence - b.influence for a, b in zip(more, less, strict=True)])
    return estimate(column(more, "fd") - column(less, "fd"), influence)


def estimate(values: np.ndarray, influence: np.ndarray) -> Estimate:
    """The mean of values (S,) over seeds, with influence values (S, n) of the same n samples in every seed."""
    count, n = influence.shape
    samples = float(influence.mean(0).std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    seeds = float(values.std(ddof=1) / math.sqrt(count)) if count > 1 else math.nan
    error = samples if math.isnan(seeds) else math.hypot(samples, seeds)
    return Estimate(float(values.mean()), error, seeds, samples)


def quality_columns(bench: SampleBench, variants: Collection[Sequence[Quality]]) -> dict[str, list[float]]:
    """The columns of a table with a row a variant: fd, precision, recall and memorised with errors, the null, nfe."""
    fds = [frechet_of(runs) for runs in variants]
    columns = {
        "fd": [fd.value for fd in fds],
        "fd_error": [fd.error for fd in fds],
        "fd_error_seeds": [fd.error_seeds for fd in fds],
        "fd_error_samples": [fd.error_samples for fd in fds],
    }
    for name in ("precision", "recall", "memorised"):
        shares = [_share(column(runs, name), bench.n) for runs in variants]
        columns |= {name: [v for v, _ in shares], f"{name}_error": [e for _, e in shares]}
    if bench.null is not None:
        columns |= {
            f"memorised_null{end}": [v] * len(variants)
            for end, v in zip(("", "_low", "_high"), bench.null, strict=True)
        }
    return columns | {"nfe": [float(column(runs, "nfe").mean()) for runs in variants]}


def _share(values: np.ndarray, n: int) -> tuple[float, float]:
    """A mean share over seeds, and its error: binomial over n samples, and over seeds where there are several."""
    mean = float(values.mean())
    binomial = math.sqrt(max(0.0, mean * (1 - mean)) / n)
    return mean, math.hypot(binomial, values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0)


def verdict(expected_positive: Mapping[str, Estimate]) -> Verdict:
    """agrees: all differences are clearly above 0; differs: one is clearly below; else it cannot be tested."""
    signs = [d.clear for d in expected_positive.values()]
    if signs and min(signs) > 0:
        return "agrees"
    return "differs" if signs and min(signs) < 0 else "cannot be tested"


def list_differences(differences: Mapping[str, Estimate]) -> str:
    """Differences with their errors, in words."""
    return "; ".join(f"{name}: {d}" for name, d in differences.items())


def errors_in_words(seeds: int) -> str:
    """What the errors of a finding are over."""
    if seeds > 1:
        rough = " So few seeds tell their spread only roughly." if seeds < FEW_SEEDS else ""
        return f"Errors are standard errors over {seeds} seeds and over samples together.{rough}"
    return "One seed: errors are over samples only and say nothing of how another training run would come out."

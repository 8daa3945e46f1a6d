"""Final samples: how much of a model's samples each reference reproduces from equal noise (arXiv 2412.20292).

Model and reference start from the same noise and labels and take the same Euler steps. For each pair of samples

    r2 = 1 - |own - other|^2 / |own - mean(own)|^2,   sums over pixels, the mean over the pixels of this one sample,

and the median over samples is what is published for networks and local denoisers. Its 95 % interval is that of order
statistics, which assumes nothing of the law of r2.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from flowscope.curve.intervals import CONFIDENCE
from flowscope.fields import VelocityField
from flowscope.references import Ladder
from flowscope.studies.bench.sample_bench import SampleBench


def compare_samples(
    bench: SampleBench, model: VelocityField, rows: Ladder, nodes: np.ndarray, done: Callable[[], None]
) -> dict[str, list[Any]]:
    """A row for each reference: the median r2 of final samples with its 95 % interval, and their mean squared distance.

    Args:
        bench: whose noise and labels all start from.
        model: the field that is explained.
        rows: the references.
        nodes: of the Euler steps, from 0 to 1.
        done: called after each reference.
    """
    own = bench.draw(model, nodes).double().flatten(1)
    spread = (own - own.mean(1, keepdim=True)).square().mean(1).cpu().numpy()
    table: dict[str, list[Any]] = {name: [] for name in ("reference", "r2", "r2_low", "r2_high", "mse")}
    for name, row in rows.items():
        other = bench.draw(row.field, nodes).double().flatten(1)
        error = (other - own).square().mean(1).cpu().numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            r2 = median(np.where(spread > 0, 1 - error / spread, math.nan))
        for column, value in zip(table, (name, *r2, float(error.mean())), strict=True):
            table[column].append(value)
        done()
    return table


def median(values: np.ndarray) -> tuple[float, float, float]:
    """The median of (n,) values and its 95 % interval by order statistics; infinite ends where n is below 6."""
    from scipy.stats import binom

    ordered, count = np.sort(values), len(values)
    below = int(binom.ppf((1 - CONFIDENCE) / 2, count, 0.5))  # so many values lie below the median, at least
    if below < 1:
        return float(np.median(values)), -math.inf, math.inf
    return float(np.median(values)), float(ordered[below - 1]), float(ordered[count - below])

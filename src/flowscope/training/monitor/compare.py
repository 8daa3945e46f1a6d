"""Comparison of a model with the oracle at fixed probes: losses, alignments and effective weight, and their means."""

from typing import Any

import numpy as np
from torch import Tensor

from flowscope.training.monitor.evaluate import velocities
from flowscope.training.monitor.probes import Probes


def compare(model: Any, probes: Probes, batch: int) -> dict[str, np.ndarray]:
    """The losses of the model and the oracle, and the model's alignments and effective weight, (n,) by name."""
    m, target, oracle, base = (
        v.flatten(1).double() for v in (velocities(model, probes, batch), probes.target, probes.oracle, probes.base)
    )
    values = {
        "loss": (m - target).square().mean(1),
        "reference": (oracle - target).square().mean(1),
        "oracle_loss": (m - oracle).square().mean(1),
    }
    near, mix = (v.flatten(1).double() for v in (probes.nearest, probes.mixture))
    values["alignment_mixture"], values["alignment_nearest"] = _cosine(m - base, mix), _cosine(m - base, near)
    values["nearest_weight"] = ((m - base - mix) * (near - mix)).sum(1) / (near - mix).square().sum(1)
    return {name: value.cpu().numpy() for name, value in values.items()}


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosines of rows; NaN where a row is 0 or undefined."""
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def means_by_part(values: dict[str, np.ndarray], part: np.ndarray, bins: int) -> dict[str, np.ndarray]:
    """Means (bins + 1,) of values (n,) over the probes of each part and over all, with errors; NaN is left out.

    Args:
        values: by name, as from :func:`compare`.
        part: (n,) the part of time that each probe is in.
        bins: how many there are.
    """
    found: dict[str, np.ndarray] = {}
    for name, value in values.items():
        parts = [value[(part == b) & ~np.isnan(value)] for b in range(bins)]
        mean = np.array([part.mean() if len(part) else np.nan for part in parts])
        error = np.array([part.std(ddof=1) / len(part) ** 0.5 if len(part) > 1 else np.nan for part in parts])
        # the parts are equally long, and their probes independent
        found[name] = np.append(mean, mean.mean())
        found[f"{name}_error"] = np.append(error, (error**2).sum() ** 0.5 / bins)
    for name, value in (("probes", values["oracle_loss"]), ("mixture_probes", values["alignment_mixture"])):
        found[name] = np.bincount(part[~np.isnan(value)], minlength=bins)
    return found

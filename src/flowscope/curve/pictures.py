"""Pictures: what the oracle makes of a noisy training image as t grows.

For a probe x_t = alpha x1 + sigma x0 the state itself, the oracle's prediction E[x1|x_t], and the training points that
carry most of the posterior. While navigation lasts the prediction is an average of many; afterwards it is x1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowscope.core.settings import check_count, check_seed
from flowscope.data.pixels import MIN_IMAGE_SIDE, is_image
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError
from flowscope.oracle import Oracle, Posterior
from flowscope.paths import Coefficients

LAST_EVEN_TIME = 0.95  # of evenly spaced times
LOGIT_REACH = 2.2  # of times around a boundary, from it in logit t: odds of 9 to 1 either way
CHANNEL_NOTES = {1: "the first is shown as grey", 3: "the first 3 are shown as red, green and blue"}


@dataclass(frozen=True, eq=False)
class Pictures:
    """P probes at T times with K neighbours, as C = 1 or 3 channels; float64 arrays in the data's own values.

    Attributes:
        t: (T,) times.
        states: (P, T, C, H, W), x_t.
        predictions: (P, T, C, H, W), E[x1|x_t].
        neighbours: (P, T, K, C, H, W), the heaviest training points, heaviest first.
        weights: (P, T, K), their posterior weights.
        indices: (P, T, K), their positions in the training set.
        probes: (P,), positions of the points x1 that the states were made of.
        labels: (P,), the labels that the oracle was given, or None.
        names: (P,), their names, or None.
        note: what a reader must know about the channels, or "".
    """

    t: np.ndarray
    states: np.ndarray
    predictions: np.ndarray
    neighbours: np.ndarray
    weights: np.ndarray
    indices: np.ndarray
    probes: np.ndarray
    labels: np.ndarray | None
    names: tuple[str, ...] | None
    note: str


def make_pictures(
    oracle: Oracle,
    probes: int = 4,
    times: int | Sequence[float] = 8,
    seed: int = 0,
    neighbours: int = 3,
    conditional: bool = False,
) -> Pictures:
    """The oracle's view of a few training points behind noise.

    Args:
        oracle: of a training set of images.
        probes: how many points are drawn, by their weights and without repetition; at most as many as there are.
        times: how many, evenly from 0 to 0.95, or the times themselves (:func:`times_around` has better ones).
        seed: of the points and of the noise; each probe keeps its noise over t.
        neighbours: how many of the heaviest points; fewer where a law has fewer points.
        conditional: whether the oracle is given each probe's label.

    Raises:
        InputError: the points are not images, a count is below 1, a time is outside [0, 1), or `conditional` without
            labels.
    """
    data = oracle.training_set
    _check(data, probes, neighbours, conditional)
    rng = np.random.default_rng(check_seed(seed))
    chosen = _draw(data, probes, rng)
    labels = data.labels[chosen] if conditional and data.labels is not None else None
    c = oracle.path(_times(times))
    x = _states(data.rows(chosen).to("cpu", torch.float64), c, rng)
    found = _posterior(oracle, x, c, labels, neighbours)
    shape = (*x.shape[:2], found.indices.shape[1])
    indices = found.indices.cpu().numpy().reshape(shape)
    nearest = data.rows(indices.reshape(-1)).to("cpu", torch.float64).reshape(*shape, *data.shape)
    channels = data.shape[0]
    shown = 3 if channels >= 3 else 1
    return Pictures(
        t=c.t.numpy(),
        states=x.numpy()[:, :, :shown],
        predictions=found.mean.cpu().reshape(x.shape).numpy()[:, :, :shown],
        neighbours=nearest.numpy()[:, :, :, :shown],
        weights=found.weights.cpu().numpy().reshape(shape),
        indices=indices,
        probes=chosen,
        labels=labels,
        names=None if labels is None else tuple(data.class_name(int(label)) for label in labels),
        note="" if shown == channels else f"Points have {channels} channels; {CHANNEL_NOTES[shown]}.",
    )


def times_around(half: float, count: int = 8) -> np.ndarray:
    """Times worth a picture: 0, then evenly in logit t around `half`; evenly from 0 to 0.95 where half is NaN.

    Args:
        half: where navigation ends, in (0, 1), or NaN.
        count: how many times, at least 1.
    """
    if not 0 < half < 1 or count < 3:
        return np.linspace(0, LAST_EVEN_TIME, count)
    logit = math.log(half / (1 - half)) + np.linspace(-LOGIT_REACH, LOGIT_REACH, count - 1)
    return np.concatenate([[0.0], 1 / (1 + np.exp(-logit))])


def _check(data: TrainingSet, probes: int, neighbours: int, conditional: bool) -> None:
    """Refuse what no pictures can be made of."""
    if not is_image(data.shape):
        raise InputError(
            f"points have shape {data.shape}; expected images (C, H, W) of at least {MIN_IMAGE_SIDE} pixels a side"
        )
    if conditional and data.labels is None:
        raise InputError(f"conditional is asked for, but {data.name} has no labels; give it labels, or leave it out")
    check_count(probes, "probes")
    check_count(neighbours, "neighbours")


def _times(times: int | Sequence[float]) -> Tensor:
    """(T,) the times that are asked for."""
    if isinstance(times, (int, np.integer)):
        return torch.linspace(0, LAST_EVEN_TIME, check_count(times, "times"), dtype=torch.float64)
    t = torch.as_tensor(np.asarray(times, dtype=np.float64))
    if t.ndim != 1 or len(t) == 0:
        raise InputError(f"times have shape {tuple(t.shape)}; expected a count, or a list of at least one time")
    return t


def _posterior(oracle: Oracle, x: Tensor, c: Coefficients, labels: np.ndarray | None, neighbours: int) -> Posterior:
    """The posterior of states (P, T, *shape), with as many of the heaviest points as every law has."""
    laws = [oracle.support.law()] if labels is None else [oracle.support.law(int(y)) for y in np.unique(labels)]
    y = None if labels is None else torch.from_numpy(np.repeat(labels, len(c.t)))
    k = min(neighbours, *(len(law) for law in laws))
    return oracle.posterior(x.flatten(0, 1), c.t.repeat(len(x)), y, k=k)


def _states(x1: Tensor, c: Coefficients, rng: np.random.Generator) -> Tensor:
    """(P, T, *shape) x_t of points x1 (P, *shape); one noise for all times of a probe."""
    x0 = torch.from_numpy(rng.standard_normal(x1.shape))
    c = c.expand(x1.ndim)
    return c.alpha * x1[:, None] + c.sigma * x0[:, None]


def _draw(data: TrainingSet, probes: int, rng: np.random.Generator) -> np.ndarray:
    """(P,) positions of points, by their weights and without repetition."""
    there = int((data.relative_weights > 0).sum())
    return data.draw(min(probes, there), rng, replace=False)

"""Restoration: images are noised to a time t, and a field continues from there to t = 1."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError
from flowscope.fields import VelocityField
from flowscope.metrics.memorised import MEMORISED_RATIO
from flowscope.sampling import draw_noise, make_nodes, sample
from flowscope.studies.bench.paired import Interval, mean_and_error
from flowscope.studies.bench.sample_bench import SampleBench
from flowscope.studies.bench.variants import has_null_label
from flowscope.studies.bench.wording import noun

FLOAT32_ERROR = 1e-10  # mean squared distances below this share of the variance are rounding
TIE_TOLERANCE = 1e-6  # relative: the original counts as the nearest image if it is as near as this


class Source(NamedTuple):
    """Images of one kind that are noised and restored."""

    name: str  # the kind: "training", "held-out" or "foreign"
    images: Tensor  # (m, *shape) float32
    y: Tensor | None  # (m,) labels for the fields


class Restored(NamedTuple):
    """What a field made of the m images of one source, noised to one time.

    Attributes:
        x: (m, *shape) the restored images, on the CPU.
        error: (m,) mean squared distance to the original, in units of the training set's variance.
        own: (m,) whether the original is nearer than every other training image.
        copy: (m,) whether the restored image counts as memorised.
        restored: (m,) whether it is as near to an original that is no training image: under a third of the distance to
            the nearest training image.
        indices: (m,) the nearest training image.
        nearest: (m,) rms distance to it over coordinates.
    """

    x: Tensor
    error: np.ndarray
    own: np.ndarray
    copy: Tensor
    restored: Tensor
    indices: np.ndarray
    nearest: np.ndarray


def find_sources(bench: SampleBench, foreign: TrainingSet | None = None) -> list[Source]:
    """Draw at most n images of each kind without repetition, training images by their weights.

    Raises:
        InputError: images of a kind have another shape, or lack the labels that the model takes.
    """
    s = bench.oracle.training_set
    rng = np.random.default_rng((bench.seed, 6))
    sources = [_source("training", s, np.unique(s.draw(bench.n, rng)), bench)]
    for name, points in (("held-out", bench.held_out), ("foreign", foreign)):
        if points is None:
            continue
        if points.shape != s.shape:
            raise InputError(f"{name} {noun(s.shape)}s have shape {points.shape}; expected {s.shape}, as {s.name} has")
        rows = np.sort(rng.choice(len(points), min(bench.n, len(points)), replace=False))
        sources.append(_source(name, points, rows, bench))
    return sources


def _source(name: str, points: TrainingSet, rows: np.ndarray, bench: SampleBench) -> Source:
    """Chosen images with the labels for the fields: their own, or for foreign images drawn ones or none."""
    y = None
    if bench.conditional and name == "foreign":
        y = None if has_null_label(bench.models[0]) or bench.labels is None else bench.labels[: len(rows)]
    elif bench.conditional:
        if points.labels is None:
            what = noun(points.shape)
            raise InputError(f"the model takes labels, but {points.name} has none; give the {name} {what}s labels")
        y = torch.as_tensor(points.labels[rows], device=bench.oracle.device)
    return Source(name, points.rows(rows).to(bench.oracle.device, torch.float32), y)


def nodes_from(t: float, steps: int) -> np.ndarray:
    """The time t and those of the uniform nodes that come after it."""
    nodes = make_nodes(steps).numpy()
    return np.concatenate([[t], nodes[nodes > t]])


def noised(images: Tensor, t: float, bench: SampleBench) -> Tensor:
    """The states x_t of images (m, *shape); image i has noise number i of the seed, whatever t."""
    c = bench.oracle.path(t)
    noise = draw_noise(len(images), tuple(images.shape[1:]), seed=bench.seed, device=images.device)
    return float(c.alpha) * images + float(c.sigma) * noise


def noise_energy(t: float, bench: SampleBench) -> float:
    """The mean squared distance of x_t/alpha to its original, in units of the training set's variance."""
    s, law = bench.oracle.training_set, bench.oracle.support.law()
    snr = float(bench.oracle.path(t).snr)
    return s.dimension / snr / law.mean_square if snr * law.mean_square > 0 else math.inf


def restore(field: VelocityField, source: Source, t: float, steps: int, bench: SampleBench) -> Restored:
    """Continue the states of a source's images from t to 1."""
    s = bench.oracle.training_set
    x = sample(field, noised(source.images, t, bench), timesteps=nodes_from(t, steps), y=source.y, batch=bench.batch)
    ratios = bench.memorisation(x)
    distance = (x - source.images).flatten(1).to(torch.float64).norm(dim=1).cpu()
    error = (distance.square() / bench.oracle.support.law().mean_square).numpy()
    return Restored(
        x.cpu(),
        np.where(error < FLOAT32_ERROR, 0.0, error),
        (distance <= ratios.nearest.cpu() * (1 + TIE_TOLERANCE)).numpy(),
        ratios.ratio < MEMORISED_RATIO,
        distance < MEMORISED_RATIO * ratios.nearest.cpu(),
        ratios.indices.cpu().numpy(),
        (ratios.nearest.cpu() / math.sqrt(s.dimension)).numpy(),
    )


def mean_where(rows: Sequence[np.ndarray], inside: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of each image over the times at which it is inside; without images that never are.

    Args:
        rows: for each time (m,) a value of each image.
        inside: for each time (m,) whether the image counts.
    """
    values, chosen = np.stack(rows).astype(float), np.stack(inside)
    some = chosen.any(0)
    return np.where(chosen, values, 0.0).sum(0)[some] / chosen.sum(0)[some]


def ratio_of_means(over: np.ndarray, under: np.ndarray) -> Interval:
    """The ratio of two means of independent samples, with its interval from their errors on a logarithmic scale.

    It is infinite over a mean of 0, and NaN for 0 over 0. The interval is NaN for one sample.
    """
    (a, a_error), (b, b_error) = mean_and_error(over), mean_and_error(under)
    if b == 0 or a == 0:
        edge = math.nan if a == b else math.inf if b == 0 else 0.0
        return Interval(edge, edge, edge)
    factor = math.exp(1.96 * math.hypot(a_error / a, b_error / b))
    return Interval(a / b, a / b / factor, a / b * factor)

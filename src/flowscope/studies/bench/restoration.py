"""Restored: noised images, and what a field makes of them when it continues from there."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError
from flowscope.fields import VelocityField
from flowscope.metrics.memorised import RATIO
from flowscope.oracle import Oracle
from flowscope.sampling import draw_noise, make_nodes, sample
from flowscope.studies.bench.boundaries import mean_error, noun
from flowscope.studies.bench.sample_bench import SampleBench, draw_rows

ROUNDING = 1e-10  # mean squared distances below this share of the variance are rounding of float32: none


class Source(NamedTuple):
    """Images that states are made of: `name` says of which kind. y are the labels that the fields are given."""

    name: str
    images: Tensor  # (m, *shape) float32
    y: Tensor | None


class Restored(NamedTuple):
    """What a field made of the states of one source at one time; (m,) but for the images.

    Attributes:
        x: (m, *shape). error: mean square over coordinates to the original, in units of the training set's variance.
        own: whether the original is nearer than every other training image. copy: whether it counts as memorised.
        indices: the nearest training image. nearest: rms distance to it over coordinates.
    """

    x: Tensor
    error: np.ndarray
    own: np.ndarray
    copy: Tensor
    indices: np.ndarray
    nearest: np.ndarray


class Ratio(NamedTuple):
    """A ratio of two means with its 95 % interval, from the standard errors of both (on its logarithm)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if not math.isfinite(self.value):
            return "beyond measure"
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


def find_sources(bench: SampleBench, foreign: TrainingSet | None) -> list[Source]:
    """At most n images of each kind, drawn without repetition (training images by their weights)."""
    s, labelled = bench.oracle.training_set, bench.conditional
    rng = np.random.default_rng((bench.seed, 6))
    kinds: list[tuple[str, TrainingSet, np.ndarray]] = [("training", s, np.unique(draw_rows(s, bench.n, rng)))]
    for name, other in (("held-out", bench.held_out), ("foreign", foreign)):
        if other is None:
            continue
        if other.shape != s.shape:
            raise InputError(f"{name} {noun(s.shape)}s have shape {other.shape}; expected {s.shape}, as {s.name} has")
        kinds.append((name, other, np.sort(rng.choice(len(other), min(bench.n, len(other)), replace=False))))
    found = []
    for name, kind, rows in kinds:
        y = None
        if labelled and name == "foreign":
            y = None if has_null(bench.models[0]) or bench.labels is None else bench.labels[: len(rows)]
        elif labelled:
            if kind.labels is None:
                raise InputError(
                    f"the model takes labels, but {kind.name} has none; give the {name} {noun(s.shape)}s labels"
                )
            y = torch.as_tensor(kind.labels[rows], device=bench.oracle.device)
        found.append(Source(name, kind.rows(rows).to(bench.oracle.device, torch.float32), y))
    return found


def has_null(model: VelocityField) -> bool:
    """Whether a field with labels can be called without one."""
    return isinstance(model, Oracle) or getattr(model, "null", None) is not None


def nodes_from(t: float, steps: int) -> np.ndarray:
    """t and the uniform nodes after it."""
    nodes = make_nodes(steps).numpy()
    return np.concatenate([[t], nodes[nodes > t]])


def states(images: Tensor, t: float, bench: SampleBench) -> Tensor:
    """x_t of images (m, *shape); image i has the noise number i of the seed, whatever t."""
    c = bench.oracle.path(t)
    noise = draw_noise(len(images), tuple(images.shape[1:]), seed=bench.seed, device=images.device)
    return float(c.alpha) * images + float(c.sigma) * noise


def noise_energy(t: float, bench: SampleBench) -> float:
    """How far x_t/alpha is from its original: mean square over coordinates, in units of the training set's variance."""
    s, law = bench.oracle.training_set, bench.oracle.support.law()
    snr = float(bench.oracle.path(t).snr)
    return s.dimension / snr / law.mean_square if snr * law.mean_square > 0 else math.inf


def restore(field: VelocityField, source: Source, t: float, steps: int, bench: SampleBench) -> Restored:
    """States of a source's images at t, continued to 1."""
    s = bench.oracle.training_set
    x = sample(field, states(source.images, t, bench), timesteps=nodes_from(t, steps), y=source.y, batch=bench.batch)
    ratios = bench.memory(x)
    apart = (x - source.images).flatten(1).to(torch.float64).norm(dim=1).cpu()
    variance = bench.oracle.support.law().mean_square
    error, unit = (apart.square() / variance).numpy(), math.sqrt(s.dimension)
    return Restored(
        x.cpu(),
        np.where(error < ROUNDING, 0.0, error),
        (apart <= ratios.nearest.cpu() * (1 + 1e-6)).numpy(),
        ratios.ratio < RATIO,
        ratios.indices.cpu().numpy(),
        (ratios.nearest.cpu() / unit).numpy(),
    )


def ratio_of(over: np.ndarray, under: np.ndarray) -> Ratio:
    """The ratio of two means of independent samples; infinite over a mean of 0, NaN of one sample or of 0 over 0."""
    (a, a_error), (b, b_error) = mean_error(over), mean_error(under)
    if b == 0 or a == 0:
        edge = math.nan if a == b else math.inf if b == 0 else 0.0
        return Ratio(edge, edge, edge)
    reach = math.exp(1.96 * math.hypot(a_error / a, b_error / b))
    return Ratio(a / b, a / b / reach, a / b * reach)

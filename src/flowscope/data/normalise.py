"""Which normaliser a source has: the one that is asked for, the one that its format states, or none."""

import math
from typing import Any

import numpy as np
import torch

from flowscope.data.loaders.source import Source
from flowscope.data.loaders.statistics_file import read_statistics
from flowscope.data.normaliser import NONE, Normaliser, Wanted
from flowscope.data.options import Options
from flowscope.data.statistics import refuse_infinite
from flowscope.errors import InputError

BLOCK_BYTES = 8 << 20  # of points in float64, at most, that are looked at at a time
CONSTANT = 1e-13  # std over |mean|, up to which it is the rounding of a sum
STATISTIC_BITS = 24  # to which mean and std by channel are rounded, so that no order of points or sums shows


def find_wanted(source: Source, options: Options) -> Normaliser | Wanted:
    """The normaliser that is asked for, or that the format states.

    Raises:
        InputError: the format has one and does not state it, or the points have one already.
    """
    asked = options.normalise
    if source.normaliser is not None:
        if asked in (None, NONE) or str(asked) == str(source.normaliser):
            return NONE
        raise InputError(f"{source.name} is normalised already, {source.normaliser}; expected normalise at one place")
    if asked is None and source.statistics is not None:
        return Wanted("lightningdit")
    if asked is None and source.scale_question is not None:
        raise InputError(f"{source.name} {source.scale_question}")
    if asked is None and source.flipped is not None:
        raise InputError(
            f"{source.name} holds latents and those of their mirror images, and no statistics beside them, by which "
            "LightningDiT scales latents; say how: normalise='scale:0.18215' (--normalise scale:0.18215) for those of "
            "SD-VAE, 'none' for as they are stored, or a file of mean and std"
        )
    return NONE if asked is None else asked


def make_normaliser(wanted: Normaliser | Wanted, source: Source, points: Any) -> Normaliser | None:
    """The normaliser of a source; None for none.

    Args:
        wanted: from `find_wanted`.
        source: where the points came from.
        points: (N, C, ...) as they are before they are normalised, read by slices.

    Raises:
        InputError: there are no such statistics, or they do not fit the points.
    """
    if wanted == NONE:
        return None
    made = wanted if isinstance(wanted, Normaliser) else _from_source(wanted, source, points)
    made.check(tuple(points.shape), source.name)
    return made


def _from_source(wanted: Wanted, source: Source, points: Any) -> Normaliser:
    if wanted.kind == "channel":
        return Normaliser(1.0, *measure_channels(points, source.name))
    path = source.statistics if wanted.kind == "lightningdit" else wanted.path
    if path is None:
        raise InputError(
            f"normalise is {str(wanted)!r} and {source.name} has no statistics; expected latents_stats.pt with mean "
            "and std beside the latents: name a file of them (normalise=FILE, --normalise FILE), or say 'scale:0.18215'"
        )
    return Normaliser(wanted.factor, *read_statistics(path))


def measure_channels(points: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (divided by the count) by channel, each (C,) float64.

    Args:
        points: (N, C, ...), read by slices.
        name: of the set, for messages.

    Raises:
        InputError: a channel is constant, or a value is not finite.
    """
    step = max(1, BLOCK_BYTES // (8 * math.prod(points.shape[1:])))
    count, mean, squares = 0, np.zeros(points.shape[1]), np.zeros(points.shape[1])
    for start in range(0, len(points), step):
        block = np.asarray(points[start : start + step]).astype(np.float64)
        if not np.isfinite(block).all():
            refuse_infinite(name, start, torch.from_numpy(block).flatten(1))
        values = np.moveaxis(block, 1, 0).reshape(len(mean), -1)
        more, own = values.shape[1], values.mean(1)
        squares += np.square(values - own[:, None]).sum(1) + np.square(own - mean) * (count * more / (count + more))
        mean += (own - mean) * (more / (count + more))
        count += more
    std = np.sqrt(squares / count)
    constant = std <= CONSTANT * np.abs(mean)
    if constant.any():
        raise InputError(
            f"channel {int(np.argmax(constant))} of {name} is constant; expected channels with std above 0 for "
            "normalise='channel': choose another normalisation, or leave the channel out"
        )
    unit = np.exp2(np.floor(np.log2(std)) - STATISTIC_BITS)
    return np.round(mean / unit) * unit, np.round(std / unit) * unit

"""What stored numbers mean as points: known, answered by an option, or refused with the options that answer.

uint8 values are pixels. Floats are taken as they are, unless they look like images on another scale than [-1, 1], or
with channels last; latents that come with statistics or mirror images have a scale and a law that depend on them.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from flowscope.data.loaders.latents import read_statistics
from flowscope.data.loaders.source import Source, is_pixels
from flowscope.data.options import Normalise, Options
from flowscope.data.pixels import CHANNELS, MIN_ASKED_SIDE, NORMALISATION, image_shape, map_pixels
from flowscope.data.rows.file_rows import as_file_rows
from flowscope.data.rows.mapped_rows import RowFunction
from flowscope.errors import InputError

BLOCK_BYTES = 32 << 20  # of values that are looked at at a time
UNIT_NORMALISATION = "value * 2 - 1"


class Meaning(NamedTuple):
    """How stored values become points: a function of rows, None for as they are, and the same in words."""

    function: RowFunction | None
    normalisation: str


def find_meaning(source: Source, values: Any, options: Options) -> Meaning:
    """Find out how stored values become points.

    Args:
        source: what a loader found.
        values: its values, decoded where they were encoded.
        options: what the user asked for.

    Raises:
        InputError: the source leaves open what its values mean and no option says so, or an option does not apply.
    """
    _check_flips(source, options)
    if is_pixels(values):
        _refuse_unused(options, "uint8 pixels, whose scale is known")
        return Meaning(map_pixels, NORMALISATION)
    if source.latents:
        _refuse_unused(Options(assume=options.assume), "latents")
        return _latent_meaning(source, values, options.normalise)
    if options.normalise is not None:
        raise InputError("normalise is given and the source holds no latents; expected a file or folder of latents")
    if options.assume in (None, "stored"):
        if options.assume is None and not source.known:
            _ask_axes(tuple(values.shape), options)
            _ask_range(values, options)
        return Meaning(None, source.normalisation)
    if len(values.shape) != 4:
        raise InputError(
            f"assume is {options.assume!r} and the values have shape {tuple(values.shape)}; expected images"
        )
    _ask_axes(tuple(values.shape), options)
    most = 1 if options.assume == "[0,1]" else 255
    if most == 255 and all(float(block.max()) <= 1 for block in _blocks(values)):
        raise InputError(
            "assume is '[0,255]' and no value is above 1; expected the interval they lie on: assume='[0,1]' "
            "(--assume '[0,1]'), or assume='stored' (--assume stored) to take them as they are"
        )
    return Meaning(partial(map_range, most=most), UNIT_NORMALISATION if most == 1 else NORMALISATION)


def map_range(block: np.ndarray, most: float) -> np.ndarray:
    """Map floats on [0, most] to [-1, 1]; float32 where they are shorter.

    Raises:
        InputError: a value lies outside.
    """
    if block.size and (block.min() < 0 or block.max() > most):
        raise InputError(
            f"assume is '[0,{most:g}]' and values go from {block.min():.6g} to {block.max():.6g}; expected the "
            "interval they lie on: another one, or assume='stored' (--assume stored) to take them as they are"
        )
    values = block.astype(np.promote_types(block.dtype, np.float32))
    return values * 2 - 1 if most == 1 else values / 127.5 - 1


def _ask_axes(shape: tuple[int, ...], options: Options) -> None:
    """Refuse floats that look like images with channels last, until `layout` says what they are."""
    if options.layout is None and len(shape) == 4 and shape[3] in CHANNELS and min(shape[1:3]) >= MIN_ASKED_SIDE:
        raise InputError(
            f"floats of shape {shape} look like images (N, H, W, C), and points are (N, C, H, W); say how the axes "
            "lie: layout='hwc' (--layout hwc) for channels last, layout='chw' (--layout chw) to leave them"
        )


def _ask_range(values: Any, options: Options) -> None:
    """Refuse floats that look like images and have no value below 0, until `assume` says what they are."""
    shape = tuple(values.shape)
    if len(shape) != 4:
        return
    channels, height, width = image_shape(shape, options.layout or "chw")
    if channels not in CHANNELS or min(height, width) < MIN_ASKED_SIDE:
        return
    least, most = _bounds(values)
    if least >= 0:
        guess = "[0,1]" if most <= 1 else "[0,255]"
        raise InputError(
            f"floats of shape {shape} look like images and go from {least:.6g} to {most:.6g}, where noise is about 0 "
            f"and images usually lie on [-1, 1]; say what they are: assume='{guess}' (--assume '{guess}') maps that "
            "interval to [-1, 1], assume='stored' (--assume stored) takes them as they are"
        )


def _blocks(values: Any) -> Iterator[Any]:
    """Some rows of the values at a time."""
    rows = as_file_rows(values)
    step = max(1, BLOCK_BYTES // (8 * int(np.prod(rows.shape[1:]))))
    return (rows[start : start + step] for start in range(0, len(rows), step))


def _bounds(values: Any) -> tuple[float, float]:
    """The least and the largest value; reading ends at the first block with one below 0, or NaN."""
    least, most = float("inf"), float("-inf")
    for block in _blocks(values):
        least, most = min(least, float(block.min())), max(most, float(block.max()))
        if not float(block.min()) >= 0:
            return float("-inf"), most
    return least, most


def _check_flips(source: Source, options: Options) -> None:
    if source.flipped is None:
        return
    if tuple(source.flipped.shape) != tuple(source.values.shape):
        shapes = " and ".join(str(tuple(v.shape)) for v in (source.values, source.flipped))
        raise InputError(
            f"{source.name} holds latents and those of mirror images of shapes {shapes}; expected one shape"
        )
    if options.flips is None:
        raise InputError(
            f"{source.name} holds latents and those of their mirror images, which networks are usually trained on, "
            "too; say which: flips=True (--flips) for both, flips=False (--no-flips) for the latents alone"
        )


def _refuse_unused(options: Options, what: str) -> None:
    for name in ("assume", "normalise"):
        if getattr(options, name) is not None:
            raise InputError(f"{name} is given and the source holds {what}; expected none: leave {name} out")


def _latent_meaning(source: Source, values: Any, asked: Normalise | None) -> Meaning:
    if asked is None and source.statistics is not None:
        raise InputError(
            f"{source.name} holds latents beside their statistics, by which networks are usually given them; say how: "
            "normalise='stats' (--normalise stats) for (value - mean)/std, 'stats*0.5' with a factor, 'none' for as "
            "they are stored"
        )
    if asked is None or asked == (False, 1):
        return Meaning(None, source.normalisation)
    if not asked.statistics:
        return Meaning(partial(_scale, factor=asked.factor), f"value * {asked.factor:g}")
    if source.statistics is None:
        raise InputError(
            f"normalise asks for statistics and {source.name} has none; expected latents_stats.pt with mean and std "
            "beside the latents: give a factor alone, or 'none'"
        )
    mean, std = read_statistics(source.statistics)
    if len(values.shape) != 4 or values.shape[1] != len(mean):
        raise InputError(
            f"{source.name} has statistics of {len(mean)} channels and latents of shape {tuple(values.shape)}; "
            "expected (N, C, H, W) with as many channels"
        )
    times = "" if asked.factor == 1 else f" * {asked.factor:g}"
    function = partial(_standardise, mean=mean, std=std, factor=asked.factor)
    return Meaning(function, f"(value - mean) / std{times} by channel")


def _scale(block: np.ndarray, factor: float) -> np.ndarray:
    return block.astype(np.promote_types(block.dtype, np.float32)) * factor


def _standardise(block: np.ndarray, mean: np.ndarray, std: np.ndarray, factor: float) -> np.ndarray:
    values = block.astype(np.promote_types(block.dtype, np.float32))
    return ((values - mean) / std * factor).astype(values.dtype)

"""What stored numbers mean as points: known, answered by an option, or refused with the options that answer.

uint8 values are pixels. Floats are taken as they are, unless they look like images on another scale than [-1, 1], or
with channels last. How they are normalised then is found in :mod:`flowscope.data.normalise`.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from flowscope.data.loaders.source import Source, is_pixels
from flowscope.data.normaliser import NONE
from flowscope.data.options import Options
from flowscope.data.pixels import CHANNELS, MIN_ASKED_SIDE, NORMALISATION, image_shape, map_pixels, may_be_one_image
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
    _check_flips(source)
    if is_pixels(values):
        refuse_for_pixels(options)
        return Meaning(map_pixels, NORMALISATION)
    if source.latents:
        if options.assume is not None:
            raise InputError("assume is given and the source holds latents; expected none: leave assume out")
        return Meaning(None, source.normalisation)
    if options.assume in (None, "stored"):
        if options.assume is None and not source.known:
            _ask_axes(tuple(values.shape), options)
            if options.normalise in (None, NONE):
                _ask_range(values, options)
        return Meaning(None, source.normalisation)
    if len(values.shape) not in (3, 4):
        raise InputError(
            f"assume is {options.assume!r} and the values have shape {tuple(values.shape)}; expected images"
        )
    _ask_axes(tuple(values.shape), options)
    if options.assume == "[-1,1]":
        return Meaning(check_range, source.normalisation)
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
    _refuse_outside(block, 0, most)
    values = block.astype(np.promote_types(block.dtype, np.float32))
    return values * 2 - 1 if most == 1 else values / 127.5 - 1


def check_range(block: np.ndarray) -> np.ndarray:
    """Floats on [-1, 1] as they are.

    Raises:
        InputError: a value lies outside.
    """
    _refuse_outside(block, -1, 1)
    return block


def _refuse_outside(block: np.ndarray, least: float, most: float) -> None:
    if block.size and (block.min() < least or block.max() > most):
        raise InputError(
            f"assume is '[{least:g},{most:g}]' and values go from {block.min():.6g} to {block.max():.6g}; expected the "
            "interval they lie on: another one, or assume='stored' (--assume stored) to take them as they are"
        )


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
    if len(shape) not in (3, 4):
        return
    grey = len(shape) == 3
    channels, height, width = image_shape(shape, "hw" if grey else options.layout or "chw")
    small = channels not in CHANNELS or min(height, width) < MIN_ASKED_SIDE
    if small and not (grey and may_be_one_image(shape)):
        return
    least, most = _bounds(values)
    if least >= 0:
        guess = "[0,1]" if most <= 1 else "[0,255]"
        raise InputError(
            f"floats of shape {shape} look like {'grey ' * grey}images and go from {least:.6g} to {most:.6g}, where "
            f"noise is about 0 and images usually lie on [-1, 1]; say what they are: assume='{guess}' (--assume "
            f"'{guess}') maps that interval to [-1, 1], assume='stored' (--assume stored) takes them as they are"
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


def _check_flips(source: Source) -> None:
    if source.flipped is not None and tuple(source.flipped.shape) != tuple(source.values.shape):
        shapes = " and ".join(str(tuple(v.shape)) for v in (source.values, source.flipped))
        raise InputError(
            f"{source.name} holds latents and those of mirror images of shapes {shapes}; expected one shape"
        )


def refuse_for_pixels(options: Options) -> None:
    """Refuse options that say the scale of pixels, which is known.

    Raises:
        InputError: one is given.
    """
    if options.assume is not None:
        raise InputError(
            "assume is given and the source holds uint8 pixels, whose scale is known; expected none: leave assume out"
        )
    if options.normalise not in (None, NONE):
        raise InputError(
            f"normalise is {str(options.normalise)!r} and the source holds uint8 pixels, which become value / 127.5 - "
            "1; expected latents or other floats: leave normalise out, or in Python normalise the points, "
            "load(load(source), normalise=...)"
        )

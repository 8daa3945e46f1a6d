"""Functions of a block of rows that turn stored images into points, so that they can run as rows are read."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from flowscope.core.memory import check_memory
from flowscope.data.loaders.pictures import resize_picture
from flowscope.data.loaders.source import Source, is_pixels
from flowscope.data.options import Options
from flowscope.data.rows.mapped_rows import RowFunction
from flowscope.errors import InputError

CHANNELS = (1, 3, 4)  # numbers of channels by which an axis of uint8 images is recognised
NORMALISATION = "value / 127.5 - 1"
MIN_IMAGE_SIDE = 4  # pixels, from which on points are taken for images
MIN_ASKED_SIDE = 8  # pixels, from which on stored values whose meaning is open are asked about


def is_image(shape: Sequence[int]) -> bool:
    """Whether points of this shape can be drawn: (C, H, W) with H and W of at least 4."""
    return len(shape) == 3 and min(shape[1:]) >= MIN_IMAGE_SIDE


def row_functions(source: Source, options: Options, to_points: RowFunction | None) -> list[RowFunction]:
    """The functions that turn stored rows into points, in order: axes to (C, H, W), grey, scale, size.

    Pixels are resized before they are scaled, as those of image files are: both are the same points.

    Args:
        source: with plain values, (N, ...).
        options: what the user asked for.
        to_points: maps stored values to the scale of points; None for as they are.

    Raises:
        InputError: the layout is ambiguous, or an option does not apply to such values.
    """
    shape, pixels = tuple(source.values.shape), is_pixels(source.values)
    grey_images = len(shape) == 3 and options.assume not in (None, "stored")  # which the user says that they are
    layout = find_layout(shape, pixels or grey_images, options.layout)
    needless = {"flips"} if source.flipped is not None else set()
    needless |= {"resize"} if source.latents and options.resize == shape[-2:] else set()
    for_images = [name for name in options.for_images if name not in needless]
    if for_images and (layout is None or source.latents):
        kind = "latents" if source.latents else f"values of shape {shape}"
        raise InputError(f"{', '.join(for_images)} applies to images (N, C, H, W) and the source holds {kind}")
    channels, height, width = image_shape(shape, layout)
    functions: list[RowFunction] = []
    if layout in _TO_CHW:
        functions.append(_TO_CHW[layout])
    if options.grey and channels != 1:
        if channels != 3:
            raise InputError(
                f"grey applies to images of 1 or 3 channels and these have {channels}: drop the others first"
            )
        functions.append(to_grey)
    size = options.resize or (height, width)
    resized = size != (height, width)
    if resized:
        check_memory(
            4 * channels * size[0] * size[1], f"one image resized to {size[0]}x{size[1]}", "choose a smaller size"
        )
    if resized and pixels:
        functions.append(partial(resize_pixels, size=size, crop=options.crop))
    if to_points is not None:
        functions.append(to_points)
    if resized and not pixels:
        functions.append(partial(crop_rows if options.crop else resize_rows, size=size))
    return functions


def find_layout(shape: tuple[int, ...], pixels: bool, asked: str | None) -> str | None:
    """The order of an image's axes: "chw", "hwc", "hw", or None where points are not images.

    Args:
        shape: of the whole stored set, (N, ...).
        pixels: the values are uint8.
        asked: the order that the user gave; None for none.

    Raises:
        InputError: pixels whose channels could be either axis, or a layout asked for where there is no choice.
    """
    if len(shape) == 4 and asked is not None:
        return asked
    if asked is not None:
        raise InputError(
            f"layout is {asked!r} and the values have shape {shape}; it applies to four axes, N and an image's"
        )
    if not pixels:
        return "chw" if len(shape) == 4 else None
    if len(shape) == 4:
        first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
        if first == last:
            raise InputError(
                f"uint8 images of shape {shape} may be (N, C, H, W) or (N, H, W, C); say which: layout='chw' or 'hwc'"
            )
        return "chw" if first else "hwc"
    if len(shape) == 3 and may_be_one_image(shape):
        raise InputError(
            f"values of shape {shape} may be one image or several grey ones; expected (N, C, H, W) or "
            "(N, H, W, C): give one image as image[None], grey ones as images[:, None]"
        )
    if len(shape) not in (2, 3):
        raise InputError(f"uint8 values have shape {shape}; expected (N, D), (N, H, W), (N, C, H, W) or (N, H, W, C)")
    return "hw" if len(shape) == 3 else None


def may_be_one_image(shape: tuple[int, ...]) -> bool:
    """Whether (N, H, W) may also be (C, H, W) or (H, W, C), which are other points."""
    first, last = shape[0] in CHANNELS[1:], shape[2] in CHANNELS
    return (first and min(shape[1:]) >= MIN_ASKED_SIDE) or (last and min(shape[:2]) >= MIN_ASKED_SIDE)


def image_shape(shape: tuple[int, ...], layout: str | None) -> tuple[int, int, int]:
    """(C, H, W) of stored images; zeros where the values are no images."""
    if layout is None:
        return 0, 0, 0
    if layout == "hw":
        return 1, shape[1], shape[2]
    return (shape[1], shape[2], shape[3]) if layout == "chw" else (shape[3], shape[1], shape[2])


def map_pixels(block: np.ndarray) -> np.ndarray:
    """Map uint8 0..255 to float32 in [-1, 1]: value / 127.5 - 1."""
    values = block.astype(np.float32)
    values /= np.float32(127.5)
    values -= np.float32(1)
    return values


def to_grey(block: np.ndarray) -> np.ndarray:
    """Map (n, 3, H, W) to (n, 1, H, W) by ITU-R BT.601; uint8 by Pillow's integers, so that the bytes are equal."""
    red, green, blue = (block[:, c : c + 1] for c in range(3))
    if block.dtype == np.uint8:
        red, green, blue = (c.astype(np.uint32) for c in (red, green, blue))
        luma = red * 19595 + green * 38470 + blue * 7471 + 0x8000
        return (luma >> 16).astype(np.uint8)
    return (red * 0.299 + green * 0.587 + blue * 0.114).astype(block.dtype)


def resize_rows(block: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (n, C, H, W) floats to (n, C, *size): bilinear, antialiased, in float32 at least."""
    if not len(block):
        return np.empty((*block.shape[:2], *size), block.dtype)
    work = np.ascontiguousarray(block, dtype=np.float64 if block.dtype == np.float64 else np.float32)
    images = torch.from_numpy(work if work.flags.writeable else work.copy())
    resized = torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
    return resized.numpy().astype(block.dtype, copy=False)


def crop_rows(block: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize and crop (n, C, H, W) floats to (n, C, *size), in float32; see :func:`resize_pixels`.

    Images on [-1, 1] stay on it, as those of files do: bicubic interpolation overshoots.
    """
    made = _by_plane(block.astype(np.float32, copy=False), size, crop=True)
    within = (np.abs(block) <= 1).all((1, 2, 3))
    made[within] = made[within].clip(-1, 1)
    return made.astype(block.dtype, copy=False)


def resize_pixels(block: np.ndarray, size: tuple[int, int], crop: bool = False) -> np.ndarray:
    """Resize (n, C, H, W) uint8 to (n, C, *size) by Pillow, as image files are."""
    return _by_plane(block, size, crop)


def _by_plane(block: np.ndarray, size: tuple[int, int], crop: bool) -> np.ndarray:
    from PIL import Image

    def plane(values: np.ndarray) -> np.ndarray:
        return np.asarray(resize_picture(Image.fromarray(np.ascontiguousarray(values)), size, crop))

    planes = [plane(values) for values in block.reshape(-1, *block.shape[2:])]
    return np.array(planes, block.dtype).reshape(*block.shape[:2], *size)


def chain(functions: list[RowFunction], block: np.ndarray) -> np.ndarray:
    """Apply the functions one after the other."""
    for function in functions:
        block = function(block)
    return block


def _last_to_first(block: np.ndarray) -> np.ndarray:
    return np.moveaxis(block, -1, 1)


def _one_channel(block: np.ndarray) -> np.ndarray:
    return block[:, None]


_TO_CHW: dict[Any, RowFunction] = {"hwc": _last_to_first, "hw": _one_channel}

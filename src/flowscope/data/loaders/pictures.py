"""One picture, decoded by Pillow: upright, without transparency, of the size and channels that are wanted.

It is turned by its EXIF tag. What is transparent is shown on black, the colour that most programs write below clear
pixels, and that `convert("RGB")` of other code then shows. Of an animation the first frame is taken. More than 8 bits a
channel are refused, never cut. Files and arrays are resized by the same code.
"""

import io
import os
import re
import struct
import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowscope.core.memory import check_memory
from flowscope.errors import InputError

JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
JPEG_2000_SUFFIXES = (".jp2", ".j2k", ".jpc", ".jpf", ".jpx")
OTHER_SUFFIXES = (".png", ".apng", ".bmp", ".gif", ".webp", ".avif", ".tif", ".tiff", ".ppm", ".pgm")
IMAGE_SUFFIXES = {*JPEG_SUFFIXES, *JPEG_2000_SUFFIXES, *OTHER_SUFFIXES}
# Pillow reads more formats; some of them (EPS) start other programs
PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000")
FRAMED_FORMATS = ("GIF", "WEBP", "PNG", "AVIF", "TIFF")  # of animations, and of pages
EIGHT_BIT_MODES = frozenset(
    {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "La", "RGBa", "CMYK", "YCbCr", "LAB", "HSV"}
)
ONE_BYTE_MODES = frozenset({"1", "L", "P"})  # of which Pillow keeps one byte a pixel
MAY_TURN = frozenset({"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"})  # metadata of Pillow's
PILLOW_PIXEL_BYTES = 4  # of all others
# canvases of an animation, coefficients of a progressive image, planes of 32 bits
DECODER_PIXEL_BYTES = {"WEBP": 12, "JPEG": 6, "AVIF": 12, "JPEG2000": 24}
MAX_READ_AT_ONCE = 1 << 20  # bytes of a file
LARGE_IMAGE_BYTES = 16 << 20  # of decoding an image, from which on they are asked for
BACKGROUND = "black"  # on which transparent pixels are shown
CODESTREAM = re.compile(rb"\xff\x4f\xff\x51.{36}(..)", re.DOTALL)  # of JPEG 2000, up to the number of components
AV1_CONFIGURATION = re.compile(rb"av1C..(.)", re.DOTALL)  # of AVIF, up to the byte with the depth
HIGH_DEPTH = 0x40  # the bit of that byte


class Shown(NamedTuple):
    """How pictures are shown: (H, W) in pixels, None for as they are; by a centre crop; in one channel."""

    size: tuple[int, int] | None = None
    crop: bool = False
    grey: bool = False


class Facts(NamedTuple):
    """What was lost of a picture: pixels that are not opaque, frames behind the first, and the colours of CMYK."""

    transparent: bool = False
    frames: bool = False
    cmyk: bool = False


def is_picture(item: Any) -> bool:
    """Whether an item is a picture of Pillow's."""
    return hasattr(item, "getbands") and hasattr(item, "transpose")


def decode_picture(item: Any, name: object, shown: Shown) -> tuple[np.ndarray, Facts]:
    """A picture as (C, H, W) uint8, and what was lost of it.

    Args:
        item: the path of an image file, its bytes, or a picture of Pillow's, which stays as it is.
        name: what messages call it, as text.
        shown: the size and channels that are wanted.

    Raises:
        InputError: it has more than 8 bits a channel, or does not fit into memory; and what Pillow raises.
    """
    from PIL.ImageOps import exif_transpose

    with warnings.catch_warnings(action="ignore"):  # Pillow warns of metadata; only pixels matter
        if is_picture(item):
            _check(item, name, None, shown)
            return _finish(exif_transpose(item), shown, _facts(item))
        item = _in_memory(item) if isinstance(item, Path) else item
        with _open(item, name) as image:
            _check(image, name, item, shown)
            facts = _facts(image)
            if image.format != "JPEG" or not MAY_TURN.isdisjoint(image.info):  # a JPEG tells before it is decoded
                exif_transpose(image, in_place=True)  # an upright image is not copied
            return _finish(image, shown, facts)


def _in_memory(path: Path) -> Path | bytes:
    """The bytes of a small file, of which Pillow would read a few at a time; a large one stays where it is."""
    with open(path, "rb", buffering=0) as stream:
        return stream.readall() if os.fstat(stream.fileno()).st_size <= MAX_READ_AT_ONCE else path


def _open(item: Any, name: object) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(item if isinstance(item, Path) else io.BytesIO(item), formats=_formats())
    except UnidentifiedImageError:  # whose own words are those of a stream in memory
        raise InputError(
            f"{name} cannot be read (its bytes are no image of a kind that is read); expected an image: check it or "
            "save it again"
        ) from None
    most = Image.MAX_IMAGE_PIXELS  # beyond which Pillow warns; it refuses twice as many
    if most is not None and image.width * image.height > most:
        image.close()
        raise InputError(f"{name} has {image.height:,} x {image.width:,} pixels; expected at most {most:,}: shrink it")
    return image


@cache
def _formats() -> tuple[str, ...]:
    """The formats that are read. Pillow has AVIF from 11.3 on, and refuses formats that it does not have."""
    from PIL import Image

    Image.init()
    return tuple(kind for kind in PILLOW_FORMATS if kind in Image.OPEN)


def resize_picture(image: Any, size: tuple[int, int], crop: bool = False) -> Any:
    """A picture of Pillow's resized to (H, W): bilinear, antialiased; or cropped as ADM does (guided-diffusion).

    ADM halves with BOX while the short side is at least twice the target, goes on with BICUBIC to the target, and cuts
    out the centre.

    Raises:
        InputError: on the way to the crop, a long image would not fit into memory.
    """
    from PIL import Image

    if not crop:
        return image.resize(size[::-1], Image.Resampling.BILINEAR)
    side = size[0]
    while min(image.size) >= 2 * side:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = side / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    if (wanted := 2 * PILLOW_PIXEL_BYTES * width * height) > LARGE_IMAGE_BYTES:
        check_memory(wanted, f"a crop from {height}x{width}", "leave such long images out")
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _check(image: Any, name: object, item: Any, shown: Shown) -> None:
    """Refuse what Pillow would clip or cut to 8 bits, and ask for the memory of a large image."""
    if image.mode not in EIGHT_BIT_MODES or _is_deep(image, item):
        kind = f"{image.mode}, more than 8 bits a channel" if image.mode in EIGHT_BIT_MODES else image.mode
        raise InputError(f"{name} has pixels of kind {kind}; expected 8 bits a channel: convert it")
    stored = 1 if image.mode in ONE_BYTE_MODES else PILLOW_PIXEL_BYTES
    copies = int(image.mode != "RGB") + 2 * int(image.has_transparency_data)
    # what may turn the image is not looked at: Pillow would decode a PNG for it
    copies += image.format == "TIFF" or not MAY_TURN.isdisjoint(image.info)
    decoder = DECODER_PIXEL_BYTES.get(image.format, 0)
    as_array = shown.size is None
    wanted = image.width * image.height * (stored + PILLOW_PIXEL_BYTES * copies + 6 * as_array + decoder)
    if wanted > LARGE_IMAGE_BYTES:
        what = f"decoding {name} of {image.height}x{image.width}"
        check_memory(wanted, what, "expected smaller images: shrink it, or leave it out")


def _is_deep(image: Any, item: Any) -> bool:
    """Whether Pillow would read more than 8 bits a channel as 8; it must not be loaded yet."""
    for codec, _, _, arguments in getattr(image, "tile", ()):
        first, *_, last = arguments if isinstance(arguments, tuple) else (arguments, None)
        if re.search(r";16[BLN]", str(first)) or (codec == "ppm" and isinstance(last, int) and last > 255):
            return True
    if item is None or image.format not in ("AVIF", "JPEG2000"):
        return False
    content = item.read_bytes() if isinstance(item, Path) else bytes(item)
    if image.format == "AVIF":
        return any(found[1][0] & HIGH_DEPTH for found in AV1_CONFIGURATION.finditer(content))
    found = CODESTREAM.search(content)
    if found is None:
        return False
    (count,) = struct.unpack(">H", found[1])
    depths = content[found.end() : found.end() + 3 * count : 3]
    return any((depth & 0x7F) + 1 > 8 for depth in depths)


def _facts(image: Any) -> Facts:
    """Whether a picture has frames and is CMYK; the preview in a photograph (MPO) is no frame."""
    frames = image.format in FRAMED_FORMATS and bool(getattr(image, "is_animated", False))
    return Facts(frames=frames, cmyk=image.mode == "CMYK")


def _finish(image: Any, shown: Shown, facts: Facts) -> tuple[np.ndarray, Facts]:
    plain, transparent = _on_background(image)
    if shown.grey:
        plain = plain.convert("L")
    if shown.size is not None:
        plain = resize_picture(plain, shown.size, shown.crop)
    # quicker than np.asarray, which asks a picture for interfaces that it does not have
    array = np.frombuffer(plain.tobytes(), np.uint8).reshape(plain.height, plain.width, -1)
    return array.transpose(2, 0, 1), facts._replace(transparent=transparent)


def _on_background(image: Any) -> tuple[Any, bool]:
    """RGB, and whether a pixel was not opaque."""
    if not image.has_transparency_data:
        return (image if image.mode == "RGB" else image.convert("RGB")), False
    from PIL import Image

    full = image.convert("RGBA")
    alpha = full.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return full.convert("RGB"), False
    canvas = Image.new("RGB", full.size, BACKGROUND)
    canvas.paste(full.convert("RGB"), mask=alpha)
    return canvas, True

"""EncodedImages: image files and JPEG bytes, decoded by Pillow into one uint8 array (N, C, H, W).

Only the images that are wanted are decoded. They are turned upright by their EXIF tag. An alpha channel is dropped, and
what is wholly transparent becomes black: the colour below it is nobody's. Of an animation the first frame is taken.
"""

import hashlib
import io
import logging
import os
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowscope.core.memory import check_memory
from flowscope.data.loaders.source import reading
from flowscope.errors import InputError

# Pillow reads more formats; some of them (EPS) start other programs
PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "AVIF")
EIGHT_BIT_MODES = frozenset(
    {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "La", "RGBa", "CMYK", "YCbCr", "LAB", "HSV"}
)
ONE_BYTE_MODES = frozenset({"1", "L", "P"})  # of which Pillow keeps one byte a pixel
MAY_TURN = frozenset({"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"})  # metadata of Pillow's
PILLOW_PIXEL_BYTES = 4  # of all others
DECODER_PIXEL_BYTES = {"WEBP": 12, "JPEG": 6}  # canvases of an animation, coefficients of a progressive image
LARGE_IMAGE_BYTES = 16 << 20  # of decoding an image, from which on they are asked for
PROGRESS_IMAGES = 64  # between two reports of progress
logger = logging.getLogger("flowscope")


class Decoded(NamedTuple):
    """Pixels (n, C, H, W) uint8, the positions they come from, ascending, and how many images were left out."""

    pixels: np.ndarray
    positions: np.ndarray
    skipped: int


class Stamp(NamedTuple):
    """What changes when an image changes: its place, size and times in words, its bytes, and the latest time in ns."""

    words: str
    size: int
    newest: int


class Fingerprint(NamedTuple):
    """The stamps of several images: a hash of them in order, the sum of their bytes, and the latest time in ns."""

    digest: str
    size: int
    newest: int


def stamp_file(path: Path, inside: str = "") -> Stamp:
    """The stamp of a file, or of what lies inside it; ctime tells of a change whose mtime was set back."""
    about = path.stat()
    times = about.st_mtime_ns, about.st_ctime_ns
    words = f"{os.path.abspath(path)}|{inside}|{about.st_size}|{about.st_ino}|{times}"
    return Stamp(words, 0 if inside else about.st_size, max(times))


class EncodedImages:
    """Images that are not decoded yet.

    Args:
        items: the path of each image, or its bytes.
        describe: returns what messages call the image at a position.
        stamp: returns what changes when the image at a position changes; None for images that are not told apart.
    """

    def __init__(
        self, items: Sequence[Any], describe: Callable[[int], str], stamp: Callable[[int], Stamp] | None = None
    ) -> None:
        self._items = items
        self._describe = describe
        self._stamp = stamp

    def __len__(self) -> int:
        return len(self._items)

    def fingerprint(self, positions: np.ndarray) -> Fingerprint | None:
        """What changes when some of the images change; None where that cannot be told."""
        if self._stamp is None:
            return None
        total, size, newest = hashlib.sha256(), 0, 0
        try:
            for position in positions.tolist():
                stamp = self._stamp(position)
                total.update(f"{position}|{stamp.words}\0".encode("utf-8", "surrogateescape"))
                size, newest = size + stamp.size, max(newest, stamp.newest)
        except OSError:
            return None
        return Fingerprint(total.hexdigest(), size, newest)

    def decode(
        self,
        positions: np.ndarray,
        size: tuple[int, int] | None = None,
        grey: bool = False,
        skip_broken: bool = False,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Decoded:
        """Decode some of the images.

        Args:
            positions: of the images, ascending.
            size: (H, W) in pixels, to which they are resized; None for images of one size.
            grey: to one channel rather than three.
            skip_broken: leave out images that cannot be read.
            progress: called as progress(done, total) after every few images.

        Raises:
            InputError: an image is broken or gigantic (unless `skip_broken`), sizes differ and no size is given, or the
                pixels do not fit into memory.
        """
        pixels = None if size is None else _allocate(len(positions), (1 if grey else 3, *size))
        kept: list[int] = []
        for done, position in enumerate(positions.tolist()):
            if progress is not None and done % PROGRESS_IMAGES == 0:
                progress(done, len(positions))
            image = self._decode_or_skip(position, size, grey, skip_broken)
            if image is None:
                continue
            if pixels is None:
                pixels = _allocate(len(positions), image.shape)
            elif image.shape != pixels.shape[1:]:
                raise InputError(self._sizes_differ(kept[0], pixels.shape[1:], position, image.shape))
            pixels[len(kept)] = image
            kept.append(position)
        if pixels is None or not kept:
            raise InputError(
                f"none of {len(positions)} images can be read, from {self._describe(int(positions[0]))} on; "
                "expected at least one"
            )
        skipped = len(positions) - len(kept)
        return Decoded(pixels[: len(kept)], np.array(kept, dtype=np.int64), skipped)

    def _decode_or_skip(
        self, position: int, size: tuple[int, int] | None, grey: bool, skip_broken: bool
    ) -> np.ndarray | None:
        try:
            return self._decode_one(position, size, grey)
        except InputError as error:
            if not skip_broken:
                raise InputError(f"{error}, or leave broken images out (skip_broken=True, --skip-broken)") from error
            logger.warning("left out: %s", error)
            return None

    def _decode_one(self, position: int, size: tuple[int, int] | None, grey: bool) -> np.ndarray:
        """One image as (C, H, W) uint8."""
        from PIL import Image, ImageOps

        with reading(self._describe(position), "an image"), warnings.catch_warnings():
            item = self._items[position]
            file = item if isinstance(item, Path) else io.BytesIO(item)
            warnings.simplefilter("ignore")  # Pillow warns of metadata; only pixels matter
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            Image.init()  # Pillow has AVIF from 11.3 on, and refuses formats that it does not have
            with Image.open(file, formats=[name for name in PILLOW_FORMATS if name in Image.OPEN]) as image:
                if image.mode not in EIGHT_BIT_MODES or _is_deep(image):
                    # Pillow would clip such values to 255, or drop the lower bytes of colours
                    kind = f"{image.mode}, 16 bits a channel" if image.mode in EIGHT_BIT_MODES else image.mode
                    raise InputError(
                        f"{self._describe(position)} has pixels of kind {kind}; expected 8 bits a channel: convert it"
                    )
                self._ask(position, image, size is None)
                ImageOps.exif_transpose(image, in_place=True)  # an upright image is not copied
                plain = _to_rgb(image)
                if grey:
                    plain = plain.convert("L")
                if size is not None:
                    plain = plain.resize((size[1], size[0]), Image.Resampling.BILINEAR)
                array = np.asarray(plain)
        return array[None] if grey else array.transpose(2, 0, 1)

    def _ask(self, position: int, image: Any, as_array: bool) -> None:
        """Ask for the memory of decoding a large image: a few bytes of a file may claim 90 million pixels."""
        stored = 1 if image.mode in ONE_BYTE_MODES else PILLOW_PIXEL_BYTES
        copies = int(image.mode != "RGB") + int("transparency" in image.info)
        # what may turn the image is not looked at: Pillow would decode a PNG for it
        copies += image.format == "TIFF" or not MAY_TURN.isdisjoint(image.info)
        decoder = DECODER_PIXEL_BYTES.get(image.format, 0)
        wanted = image.width * image.height * (stored + PILLOW_PIXEL_BYTES * copies + 6 * as_array + decoder)
        if wanted > LARGE_IMAGE_BYTES:
            what = f"decoding {self._describe(position)} of {image.height}x{image.width}"
            check_memory(wanted, what, "expected smaller images: shrink it, or leave it out")

    def _sizes_differ(self, first: int, one: tuple[int, ...], position: int, other: tuple[int, ...]) -> str:
        return (
            f"images differ in size: {self._describe(first)} is {one[1]}x{one[2]} and {self._describe(position)} is "
            f"{other[1]}x{other[2]} (height x width); expected one size: resize them (resize=N or (H, W), --resize)"
        )


def _is_deep(image: Any) -> bool:
    """Whether Pillow would read 16 bits a channel as 8; it must not be loaded yet."""
    for codec, _, _, arguments in image.tile:
        first, *_, last = arguments if isinstance(arguments, tuple) else (arguments, None)
        if re.search(r";16[BLN]", str(first)) or (codec == "ppm" and isinstance(last, int) and last > 255):
            return True
    return False


def _to_rgb(image: Any) -> Any:
    """RGB; black where an image is wholly transparent."""
    from PIL import Image

    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    full = image.convert("RGBA")
    seen = full.getchannel("A").point(lambda alpha: 255 if alpha else 0)
    return Image.composite(full.convert("RGB"), Image.new("RGB", full.size), seen)


def _allocate(count: int, shape: tuple[int, ...]) -> np.ndarray:
    what = f"decoding {count:,} images of {shape[1]}x{shape[2]} with {shape[0]} channels"
    check_memory(count * int(np.prod(shape)), what, "shrink them (resize) or take a part of them (subset)")
    return np.empty((count, *shape), dtype=np.uint8)

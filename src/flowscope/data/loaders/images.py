"""EncodedImages: folders of files and JPEG bytes, decoded by Pillow into one uint8 array (N, C, H, W).

Only the images that are wanted are decoded. Only pixels are used: orientation tags are ignored, an alpha channel is
dropped, and of an animation the first frame is taken.
"""

import io
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowscope.core.memory import check_memory
from flowscope.data.loaders.source import Source, check_inside, reading
from flowscope.errors import InputError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
# Pillow reads more formats; some of them (EPS) start other programs
PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
EIGHT_BIT_MODES = frozenset(
    {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "La", "RGBa", "CMYK", "YCbCr", "LAB", "HSV"}
)
ONE_BYTE_MODES = frozenset({"1", "L", "P"})  # of which Pillow keeps one byte a pixel
PILLOW_PIXEL_BYTES = 4  # of all others
DECODER_PIXEL_BYTES = {"WEBP": 12, "JPEG": 6}  # canvases of an animation, coefficients of a progressive image
LARGE_IMAGE_BYTES = 16 << 20  # of decoding an image, from which on they are asked for
logger = logging.getLogger("flowscope")


class Decoded(NamedTuple):
    """Pixels (n, C, H, W) uint8, the positions they come from, ascending, and how many images were left out."""

    pixels: np.ndarray
    positions: np.ndarray
    skipped: int


class EncodedImages:
    """Images that are not decoded yet.

    Args:
        items: the path of each image, or its bytes as a uint8 array.
        describe: returns what messages call the image at a position.
    """

    def __init__(self, items: Sequence[Any], describe: Callable[[int], str]) -> None:
        self._items = items
        self._describe = describe

    def __len__(self) -> int:
        return len(self._items)

    def decode(
        self, positions: np.ndarray, size: tuple[int, int] | None = None, grey: bool = False, skip_broken: bool = False
    ) -> Decoded:
        """Decode some of the images.

        Args:
            positions: of the images, ascending.
            size: (H, W) in pixels, to which they are resized; None for images of one size.
            grey: to one channel rather than three.
            skip_broken: leave out images that cannot be read.

        Raises:
            InputError: an image is broken or gigantic (unless `skip_broken`), sizes differ and no size is given, or the
                pixels do not fit into memory.
        """
        pixels = None if size is None else _allocate(len(positions), (1 if grey else 3, *size))
        kept: list[int] = []
        for position in positions.tolist():
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
        if skipped:
            logger.warning("%d of %d images are broken and were left out", skipped, len(positions))
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
        from PIL import Image

        item = self._items[position]
        file = item if isinstance(item, Path) else io.BytesIO(item.tobytes())
        with reading(self._describe(position), "an image"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of metadata; only pixels matter
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=PILLOW_FORMATS) as image:
                if image.mode not in EIGHT_BIT_MODES:
                    # Pillow would clip such values to 255 rather than scale them
                    raise InputError(
                        f"{self._describe(position)} has pixels of kind {image.mode}; expected 8 bits a channel"
                    )
                self._ask(position, image, size is None)
                plain = image.convert("RGBA") if "transparency" in image.info else image
                plain = plain if plain.mode == "RGB" else plain.convert("RGB")
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


def load_folder(root: Path) -> Source:
    """Load the images of a folder, or of its subfolders, each of which is then a class.

    Label k is the k-th subfolder that holds images, by name; images come class by class, then by path.

    Raises:
        InputError: no image, a link that leads out of the folder, or images both beside and within subfolders.
    """
    with reading(root, "a folder of images"):
        found = _find_images(root)
    if not found:
        raise InputError(
            f"{root} holds no images; expected files such as {', '.join(sorted(IMAGE_SUFFIXES)[:6])}, "
            "in subfolders by class if they have classes"
        )
    flat = [path for path in found if len(path.parts) == 1]
    if flat and len(flat) < len(found):
        nested = next(path for path in found if len(path.parts) > 1)
        raise InputError(
            f"{root} holds images beside its subfolders ({flat[0]}) and within them ({nested}); "
            "expected one or the other, since subfolders are classes: move the loose images"
        )
    values = EncodedImages([root / path for path in found], lambda i: f"image {root / found[i]}")
    name = root.resolve().name or "images"
    if flat:
        return Source(values, name)
    names = sorted({path.parts[0] for path in found})
    number = {folder: label for label, folder in enumerate(names)}
    labels = np.array([number[path.parts[0]] for path in found], dtype=np.int64)
    return Source(values, name, labels, class_names=names)


def _find_images(root: Path) -> list[Path]:
    """The paths of the images below root, relative to it and sorted; hidden files and folders are left out."""
    found = []
    for folder, subfolders, files in os.walk(root, onerror=_raise):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in subfolders:
            _check_link(Path(folder, name), root, folder=True)
        for name in files:
            path = Path(folder, name)
            if not name.startswith("."):
                _check_link(path, root, folder=False)
                # a link that leads nowhere is a broken image; pipes and devices are no images
                if path.suffix.lower() in IMAGE_SUFFIXES and (path.is_file() or not path.exists()):
                    found.append(path.relative_to(root))
    return sorted(found, key=lambda path: path.parts)


def _check_link(path: Path, root: Path, folder: bool) -> None:
    check_inside(path, root)
    if folder and path.is_symlink():
        raise InputError(f"{path} is a link to a folder, which would count images twice; expected folders: remove it")


def _raise(error: OSError) -> None:
    raise error


def _allocate(count: int, shape: tuple[int, ...]) -> np.ndarray:
    what = f"decoding {count:,} images of {shape[1]}x{shape[2]} with {shape[0]} channels"
    check_memory(count * int(np.prod(shape)), what, "shrink them (resize) or take a part of them (subset)")
    return np.empty((count, *shape), dtype=np.uint8)

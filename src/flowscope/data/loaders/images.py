"""EncodedImages: image files and JPEG bytes, decoded one by one into one uint8 array (N, C, H, W).

Only the images that are wanted are decoded; `pictures.py` says how.
"""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowscope.core.memory import check_memory
from flowscope.data.loaders.pictures import Facts, Shown, decode_picture
from flowscope.data.loaders.source import reading
from flowscope.errors import InputError

PROGRESS_IMAGES = 64  # between two reports of progress
logger = logging.getLogger("flowscope")


class Decoded(NamedTuple):
    """Pixels (n, C, H, W) uint8, the positions they come from, ascending, and how many images were left out.

    `transparent` counts images with pixels that are not opaque, `frames` those with more frames or pages than the
    first, which alone is read, and `cmyk` those whose colours were converted from CMYK.
    """

    pixels: np.ndarray
    positions: np.ndarray
    skipped: int
    transparent: int
    frames: int
    cmyk: int


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


class _Name:
    """What messages call an image, made when a message needs it: there may be a million images."""

    def __init__(self, describe: Callable[[int], str], position: int) -> None:
        self._describe, self._position = describe, position

    def __str__(self) -> str:
        return self._describe(self._position)


class EncodedImages:
    """Images that are not decoded yet.

    Args:
        items: the path of each image, its bytes, or a picture of Pillow's.
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
        shown: Shown = Shown(),
        skip_broken: bool = False,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Decoded:
        """Decode some of the images.

        Args:
            positions: of the images, ascending.
            shown: their size and channels; without a size, images have to be of one.
            skip_broken: leave out images that cannot be read.
            progress: called as progress(done, total) after every few images.

        Raises:
            InputError: an image is broken or gigantic (unless `skip_broken`), sizes differ and no size is given, or the
                pixels do not fit into memory.
        """
        channels = 1 if shown.grey else 3
        pixels = None if shown.size is None else _allocate(len(positions), (channels, *shown.size))
        kept, shape = list[int](), tuple[int, ...]()
        counts = Counter[str]()
        for done, position in enumerate(positions.tolist()):
            if progress is not None and done % PROGRESS_IMAGES == 0:
                progress(done, len(positions))
            try:
                image, facts = self._decode_one(position, shown)
            except InputError as error:
                _refuse_or_leave_out(error, skip_broken)
                continue
            counts.update(name for name, is_so in facts._asdict().items() if is_so)
            if pixels is None:
                pixels = _allocate(len(positions), image.shape)
            shape = shape or pixels.shape[1:]
            if image.shape != shape:
                raise InputError(self._sizes_differ(kept[0], shape, position, image.shape))
            pixels[len(kept)] = image
            kept.append(position)
        if pixels is None or not kept:
            raise InputError(
                f"none of {len(positions)} images can be read, from {self._describe(int(positions[0]))} on; "
                "expected at least one"
            )
        skipped = len(positions) - len(kept)
        return Decoded(
            pixels[: len(kept)],
            np.array(kept, dtype=np.int64),
            skipped,
            **{name: counts[name] for name in Facts._fields},
        )

    def _decode_one(self, position: int, shown: Shown) -> tuple[np.ndarray, Facts]:
        """One image as (C, H, W) uint8, and what was lost of it."""
        name = _Name(self._describe, position)
        with reading(name, "an image"):
            return decode_picture(self._items[position], name, shown)

    def _sizes_differ(self, first: int, one: tuple[int, ...], position: int, other: tuple[int, ...]) -> str:
        return (
            f"images differ in size: {self._describe(first)} is {one[1]}x{one[2]} and {self._describe(position)} is "
            f"{other[1]}x{other[2]} (height x width); expected one size: resize them (resize=N or (H, W), --resize)"
        )


def _refuse_or_leave_out(error: InputError, skip_broken: bool) -> None:
    if not skip_broken:
        raise InputError(f"{error}, or leave broken images out (skip_broken=True, --skip-broken)") from error
    logger.warning("left out: %s", error)


def _allocate(count: int, shape: tuple[int, ...]) -> np.ndarray:
    what = f"decoding {count:,} images of {shape[1]}x{shape[2]} with {shape[0]} channels"
    check_memory(count * int(np.prod(shape)), what, "shrink them (resize) or take a part of them (subset)")
    return np.empty((count, *shape), dtype=np.uint8)

"""Decoded images are kept in a cache, so that a folder of photographs is decoded once.

The cache is a folder of the user's: $FLOWSCOPE_CACHE, else $XDG_CACHE_HOME/flowscope, else ~/.cache/flowscope. A file
in it holds the pixels of one set under one choice of options. Its name is a hash of all that pixels depend on: path,
size, times and order of every image, the options, and the versions of the decoders. What it holds is hashed, too, and
checked before it is used: a damaged file is made again.
"""

import hashlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from flowscope.core.files import write_stream
from flowscope.core.memory import check_memory
from flowscope.core.schema import parse_json
from flowscope.data.loaders.images import Decoded, EncodedImages, Fingerprint
from flowscope.data.loaders.tensor_file import TensorFile
from flowscope.data.loaders.tensor_writer import header_bytes
from flowscope.data.options import Options
from flowscope.errors import FlowscopeError, FlowscopeWarning

SCHEMA = 2  # raised where the same options give other pixels, or the file has another form
KEY = "flowscope-cache"  # in the metadata
SUFFIX = ".safetensors"
BLOCK_BYTES = 16 << 20  # that are hashed and written at a time
STALE_SECONDS = 86_400  # after which a file that is not complete is nobody's any more
COUNTS = [name for name in Decoded._fields if name not in ("pixels", "positions")]


@dataclass(frozen=True)
class CachePolicy:
    """What is kept, and how much of it.

    Attributes:
        most_bytes: of all files together; the ones used longest ago go first. One set may take half of it.
        images, encoded_bytes: a set with fewer images and fewer bytes is decoded each time: that takes a second.
        settled_seconds: images that were changed so lately are not kept: they may change again within their timestamp.
    """

    most_bytes: int = 10 << 30
    images: int = 2_000
    encoded_bytes: int = 32 << 20
    settled_seconds: float = 2.0


def cache_folder() -> Path:
    """The folder of the cache, which need not be there."""
    if own := os.environ.get("FLOWSCOPE_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "flowscope"


def decode_cached(
    images: EncodedImages,
    positions: np.ndarray,
    options: Options,
    policy: CachePolicy | None,
    decode: Callable[[], Decoded],
) -> Decoded:
    """The decoded images, from the cache if they are there; otherwise they are decoded, and kept there.

    What is read or kept is said in a FlowscopeWarning. A cache that cannot be used costs time and changes nothing.

    Args:
        images: of which some are wanted.
        positions: which.
        options: of the user's, all of which are part of the key.
        policy: what is kept; None for no cache.
        decode: decodes them.
    """
    began = time.time_ns()
    found = None if policy is None else images.fingerprint(positions)
    if policy is None or found is None or (len(positions) < policy.images and found.size < policy.encoded_bytes):
        return decode()
    path = cache_folder() / "decoded" / f"{_key(found, options)}{SUFFIX}"
    kept = _read(path)
    if kept is not None:
        _say(f"{len(kept.positions):,} decoded images were read from the cache: {path} (--no-cache, cache=False)")
        return kept
    decoded = decode()
    settled = found.newest + policy.settled_seconds * 1e9 <= began and images.fingerprint(positions) == found
    if settled:
        _keep(path, decoded, policy)
    return decoded


def _key(found: Fingerprint, options: Options) -> str:
    """A hash of all that the pixels depend on."""
    from PIL import features

    names = ("pil", "jpg", "libjpeg_turbo", "zlib", "webp", "avif", "libtiff", "jpg_2000")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of names that it does not know
        decoders = [str(features.version(name)) for name in names]
    about = [SCHEMA, version("flowscope"), sys.byteorder, decoders, repr(options), found.digest]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:40]


def _read(path: Path) -> Decoded | None:
    """The images in a file of the cache; None where there is none, or it is damaged, which is said."""
    if not path.is_file():
        return None
    try:
        file = TensorFile(path)
        about = parse_json(file.metadata[KEY].encode(), dict[str, int | str], str(path), "what flowscope wrote")
        arrays = [_load(file, name) for name in ("positions", "pixels")]
        if about["digest"] != _digest(*arrays):
            raise ValueError
        os.utime(path)  # so that files used longest ago can be told
        return Decoded(pixels=arrays[1], positions=arrays[0], **{name: int(about[name]) for name in COUNTS})
    except (FlowscopeError, OSError, ValueError, KeyError, TypeError):
        _say(f"a file of the cache is damaged, or does not fit into memory, and is made again: {path}")
        return None


def _load(file: TensorFile, name: str) -> np.ndarray:
    """A tensor of the file, read whole."""
    dtype, shape, begin = file.entry(name)
    wanted = {"positions": "I64", "pixels": "U8"}[name]
    if dtype != wanted:
        raise ValueError
    size = int(np.prod(shape, dtype=np.int64)) * (8 if wanted == "I64" else 1)
    check_memory(size, f"{name} of {file.path}", "take a part of them (subset)")
    array = np.empty(shape, np.int64 if wanted == "I64" else np.uint8)
    with file.path.open("rb") as stream:
        stream.seek(begin)
        if stream.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:
            raise ValueError
    return array


def _digest(positions: np.ndarray, pixels: np.ndarray) -> str:
    total = hashlib.sha256(json.dumps([positions.shape, pixels.shape]).encode())
    for block in (*_blocks(positions), *_blocks(pixels)):
        total.update(block)
    return total.hexdigest()


def _blocks(array: np.ndarray) -> list[memoryview]:
    """The bytes of an array, a block at a time."""
    raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return [raw[start : start + BLOCK_BYTES] for start in range(0, len(raw), BLOCK_BYTES)]


def _keep(path: Path, decoded: Decoded, policy: CachePolicy) -> None:
    """Write a file of the cache, and remove others until all fit; a failure is said."""
    size = decoded.pixels.nbytes + decoded.positions.nbytes
    without = "(--no-cache, cache=False to do without)"
    if 2 * size > policy.most_bytes:
        _say(f"the decoded images take {size:,} bytes and are not kept: the cache holds {policy.most_bytes:,}")
        return
    about = {name: getattr(decoded, name) for name in COUNTS}
    about |= {"schema": SCHEMA, "digest": _digest(decoded.positions, decoded.pixels)}
    tensors = {
        "positions": ("I64", decoded.positions.shape, decoded.positions.nbytes),
        "pixels": ("U8", decoded.pixels.shape, decoded.pixels.nbytes),
    }
    header = header_bytes(tensors, {KEY: json.dumps(about)})
    try:
        _make_room(path, size, policy.most_bytes)
        write_stream(path, [header, *_blocks(decoded.positions), *_blocks(decoded.pixels)])
    except (FlowscopeError, OSError) as error:
        _say(f"decoded images are not kept: {error} {without}")
        return
    _say(f"{len(decoded.positions):,} decoded images, {size:,} bytes, are kept in the cache: {path} {without}")


def _make_room(path: Path, size: int, most: int) -> None:
    """Remove the files used longest ago until there is room for one more, and what killed runs have left."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in path.parent.glob(f".*{SUFFIX}.*.part"):
        with suppress(OSError):
            if left.stat().st_mtime < time.time() - STALE_SECONDS:
                left.unlink()
    found = [(file.stat().st_mtime_ns, file.stat().st_size, file) for file in path.parent.glob(f"*{SUFFIX}")]
    total = sum(one[1] for one in found)
    for _, bytes_of, file in sorted(found):
        if total + size <= most:
            return
        with suppress(FileNotFoundError):  # another run was quicker
            file.unlink()
        total -= bytes_of


def _say(words: str) -> None:
    warnings.warn(words, FlowscopeWarning, stacklevel=2)

""".npy files: memory-mapped, so that a set larger than memory is read row by row. Pickled objects are never loaded."""

import math
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from flowscope.data.loaders.source import Source, map_file, native, reading
from flowscope.errors import InputError


class Header(NamedTuple):
    """What a .npy header claims; `offset` is where the data starts."""

    shape: tuple[int, ...]
    order: str
    dtype: np.dtype
    offset: int

    @property
    def size(self) -> int:
        """Bytes of the whole file, exact whatever the shape claims."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: BinaryIO, where: object) -> Header:
    """Read the header of a .npy stream; nothing behind it.

    Raises:
        InputError: Python objects, text or records, or a version of the format that holds nothing else of use.
    """
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise InputError(f"{where} is .npy version {version[0]}.{version[1]}; expected 1.0 or 2.0: save plain numbers")
    first = np.lib.format.read_array_header_1_0
    shape, fortran, dtype = (first if version == (1, 0) else np.lib.format.read_array_header_2_0)(stream)
    if dtype.hasobject:
        raise InputError(f"{where} holds Python objects, which are never loaded; expected numbers: save a plain array")
    if any(n < 0 for n in shape):
        raise InputError(f"{where} claims the shape {shape}; expected counts: the file is damaged")
    return Header(shape, "F" if fortran else "C", dtype, stream.tell())


def load_npy(path: Path) -> Source:
    """The one array of a .npy file as points, or as pixels where it is uint8.

    Raises:
        InputError: the file is truncated, damaged or holds Python objects.
    """
    with reading(path, "a .npy array"):
        with path.open("rb") as stream:
            header = read_header(stream, path)
        there = path.stat().st_size
        if there < header.size:
            raise InputError(
                f"{path} is truncated: it has {there:,} bytes and its header claims {header.size:,}; copy it again"
            )
        return Source(native(map_file(path, header.dtype, header.shape, header.offset, header.order)), path.stem)

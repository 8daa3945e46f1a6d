""".npy files, memory-mapped, so that a set larger than memory is read row by row; pickles are never loaded."""

import math
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from flowscope.data.loaders.source import Source, check_extent, map_file, native, reading
from flowscope.errors import InputError


class Header(NamedTuple):
    """What a .npy header claims."""

    shape: tuple[int, ...]
    order: str  # "C" or "F"
    dtype: np.dtype
    offset: int  # bytes in front of the data

    @property
    def size(self) -> int:
        """Bytes of the whole file, exact whatever the shape claims."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: BinaryIO, where: object) -> Header:
    """Read the header of a .npy stream and nothing behind it.

    Raises:
        InputError: it claims Python objects or a shape that no array has, or is of a version other than 1.0 and 2.0.
    """
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise InputError(f"{where} is .npy version {version[0]}.{version[1]}; expected 1.0 or 2.0: save plain numbers")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise InputError(f"{where} holds Python objects, which are never loaded; expected numbers: save a plain array")
    if any(n < 0 for n in shape):
        raise InputError(f"{where} claims the shape {shape}; expected counts: the file is damaged")
    check_extent(shape, dtype.itemsize, where)
    return Header(shape, "F" if fortran else "C", dtype, stream.tell())


def load_npy(path: Path) -> Source:
    """Load the array of a .npy file as points, or as pixels where it is uint8.

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

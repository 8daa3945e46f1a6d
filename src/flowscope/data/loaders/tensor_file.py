"""TensorFile: one .safetensors file, of which only the header is read; its tensors are memory-mapped.

The format (huggingface/safetensors, README): 8 bytes little-endian length n, n bytes of JSON that map a name to dtype,
shape and data_offsets [begin, end) within the bytes that follow. The header is read here, since the package copies
tensors whole.
"""

import math
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Len
from typing_extensions import TypedDict

from flowscope.core.schema import Whole, check_form, check_json_memory, parse_json
from flowscope.data.loaders.source import check_extent, map_file, native, reading
from flowscope.data.rows.mapped_rows import MappedRows
from flowscope.errors import InputError

MAX_HEADER_BYTES = 100_000_000  # by the format
BFLOAT16 = "BF16"
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    BFLOAT16: "<u2",
    "U8": "u1",
    "I8": "i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "U16": "<u2",
    "U32": "<u4",
    "U64": "<u8",
}


class EntryForm(TypedDict):
    """What a header says of a tensor."""

    dtype: str
    shape: list[Whole]
    data_offsets: Annotated[list[Whole], Len(2, 2)]


class Entry(NamedTuple):
    """A tensor in a file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int  # bytes in front of it, from the start of the file


class TensorFile:
    """The header of a .safetensors file, and its tensors as memory maps.

    Attributes:
        path: the file.
        names: of its tensors.
        metadata: {word: text} that the writer left.

    Raises:
        InputError: the header is damaged, or claims more than the file holds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path, "a .safetensors file"):
            self._header, self._start, self._there = _read_header(path)
        self.names = [name for name in self._header if name != "__metadata__"]

    @property
    def metadata(self) -> dict[str, str]:
        """What the writer left beside the tensors."""
        found = self._header.get("__metadata__", {})
        check_form(found, dict[str, str], f"__metadata__ in the header of {self.path}", "texts by name")
        return dict(found)

    def entry(self, name: str) -> Entry:
        """What the header says of a tensor, held against the file."""
        entry = self._header[name]
        where = f"{name} of {self.path}"
        check_form(entry, EntryForm, f"{name} in the header of {self.path}", "its dtype, shape and data_offsets")
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if dtype not in DTYPES:
            raise InputError(f"{where} has dtype {dtype}; expected F16, BF16, F32, F64 or U8 points: convert them")
        check_extent(shape, np.dtype(DTYPES[dtype]).itemsize, where)
        size = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
        if end - begin != size or self._start + end > self._there:
            raise InputError(
                f"{where} claims {dtype} {shape}, {size:,} bytes at [{begin:,}, {end:,}) of "
                f"{self._there - self._start:,}: the file is truncated or damaged"
            )
        return Entry(dtype, tuple(shape), self._start + begin)

    def array(self, name: str) -> Any:
        """The named tensor as a memory map, bfloat16 widened to float32 row by row."""
        return map_entry(self.path, self.entry(name))


def map_entry(path: Path, entry: Entry) -> Any:
    """A tensor of a file as a memory map, bfloat16 widened to float32 row by row."""
    values = map_file(path, np.dtype(DTYPES[entry.dtype]), entry.shape, entry.begin)
    return MappedRows([values], widen_bfloat16) if entry.dtype == BFLOAT16 and entry.shape else native(values)


def widen_bfloat16(block: np.ndarray) -> np.ndarray:
    """Widen the bits of bfloat16, which are the upper half of those of a float32."""
    return (block.astype(np.uint32) << 16).view(np.float32)


def _read_header(path: Path) -> tuple[dict[str, Any], int, int]:
    """The JSON header, where the data starts and the size of the file."""
    there = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if there < 8 or length > min(MAX_HEADER_BYTES, there - 8):
            raise InputError(
                f"{path} claims a header of {length:,} bytes and has {there:,} in all; expected a .safetensors file: "
                "it is damaged or of another kind"
            )
        check_json_memory(length, f"the header of {path}")
        header = parse_json(stream.read(length), dict[str, Any], f"the header of {path}", "names and tensors")
    return header, 8 + length, there

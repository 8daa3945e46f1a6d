"""The header of a .safetensors file, for files that are written block by block: the package would need all at once."""

import json
from collections.abc import Mapping
from typing import Any

from flowscope.data.loaders.tensor_file import MAX_HEADER_BYTES
from flowscope.errors import InputError

ALIGNMENT = 8  # bytes, to which the header is filled up with spaces


def header_bytes(tensors: Mapping[str, tuple[str, tuple[int, ...], int]], metadata: Mapping[str, str]) -> bytes:
    """What stands before the tensors.

    Args:
        tensors: name -> dtype in the format's words, shape and bytes, in the order in which they follow.
        metadata: texts by name.

    Raises:
        InputError: the header is longer than the format allows.
    """
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for name, (dtype, shape, size) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(entries, ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    if len(text) > MAX_HEADER_BYTES:
        raise InputError(
            f"names and notes of the set take {len(text):,} bytes; expected at most {MAX_HEADER_BYTES:,}, by the "
            ".safetensors format: shorten the names of classes"
        )
    return len(text).to_bytes(8, "little") + text

"""Arguments of every call of a network, such as text embeddings, from a .safetensors file."""

from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from flowscope.core.memory import check_memory
from flowscope.data.loaders.source import reading
from flowscope.errors import InputError

LISTS = ("img_shapes", "txt_seq_lens")  # arguments of diffusers models that are lists of whole numbers


def read_extras(path: str | Path) -> dict[str, Any]:
    """The tensors of a file by name; "added_cond_kwargs.resolution" is "resolution" of the mapping before the point.

    Raises:
        InputError: it is no whole .safetensors file.
    """
    file = Path(path).expanduser()
    if file.suffix != ".safetensors":
        raise InputError(f"{file} is not a .safetensors file; expected tensors by the names of the network's arguments")
    with reading(file, "a whole .safetensors file of tensors by the names of the network's arguments"):
        check_memory(file.stat().st_size, str(file), "expected embeddings of one text")
        with safe_open(file, framework="pt") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    found: dict[str, Any] = {}
    for key, value in tensors.items():
        *groups, name = key.split(".", 1)
        home = found.setdefault(groups[0], {}) if groups else found
        home[name] = _as_list(value) if name in LISTS else value
    return found


def _as_list(value: Tensor) -> Any:
    return value.tolist()

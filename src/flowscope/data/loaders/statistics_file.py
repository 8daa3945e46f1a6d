"""Files of mean and standard deviation by channel: .pt, .npz or .safetensors with both names, .npy with both rows."""

from pathlib import Path
from typing import Any

import numpy as np

from flowscope.core.memory import check_memory
from flowscope.core.tensors import to_numpy
from flowscope.data.loaders.npy import load_npy
from flowscope.data.loaders.npz import Archive
from flowscope.data.loaders.pt import load_saved
from flowscope.data.loaders.source import reading
from flowscope.data.loaders.tensor_file import TensorFile
from flowscope.errors import InputError

NAMES = ("mean", "std")
MAX_STATISTICS_BYTES = 1 << 20  # of each
EXPECTED = "mean and std, each of shape (C,) or (1, C, 1, 1), in .pt, .npz or .safetensors; (2, C) in .npy"


def read_statistics(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation by channel, each (C,), float32 or float64.

    Raises:
        InputError: the file does not hold them, or a standard deviation is not above 0.
    """
    if not path.is_file():
        raise InputError(f"there is no file of statistics {path}; expected {EXPECTED}")
    with reading(path, EXPECTED):
        mean, std = (_by_channel(values, name, path) for name, values in zip(NAMES, _read(path), strict=True))
    if mean.shape != std.shape:
        raise InputError(f"{path} has {len(mean)} means and {len(std)} stds; expected one of each for a channel")
    if not np.isfinite(mean).all() or not np.isfinite(std).all() or not (std > 0).all():
        raise InputError(f"{path} holds statistics that cannot be used; expected finite ones, with std above 0")
    return mean, std


def _read(path: Path) -> tuple[Any, Any]:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        both = load_npy(path).values
        if len(both.shape) < 2 or len(both) != 2:
            raise InputError(f"{path} has shape {tuple(both.shape)}; expected (2, C), mean and std")
        return both[0], both[1]
    if suffix == ".npz":
        with path.open("rb") as stream:
            archive = Archive(stream, path)
            _check_names(archive.names, path)
            archive.ask(NAMES, "is it the right file?")
            return archive.read("mean"), archive.read("std")
    if suffix == ".safetensors":
        file = TensorFile(path)
        _check_names(file.names, path)
        return file.array("mean"), file.array("std")
    saved = load_saved(path)
    _check_names(saved if isinstance(saved, dict) else (), path)
    return saved["mean"], saved["std"]


def _check_names(found: Any, path: Path) -> None:
    if not set(NAMES) <= set(found):
        has = ", ".join(str(name)[:40] for name in sorted(found, key=str)[:12]) or "no names"
        raise InputError(f"{path} holds {has}; expected {EXPECTED}")


def _by_channel(values: Any, name: str, path: Path) -> np.ndarray:
    """(C,) of an array with one axis that is longer than 1."""
    shape = tuple(values.shape)
    size = int(np.prod(shape, dtype=object))
    if not shape or size != max(shape) or 8 * size > MAX_STATISTICS_BYTES:
        raise InputError(f"{name} of {path} has shape {shape}; expected {EXPECTED}")
    check_memory(8 * size, f"{name} of {path}", "is it the right file?")
    flat = to_numpy(values, f"{name} of {path}").reshape(-1)
    if flat.dtype.kind != "f":
        raise InputError(f"{name} of {path} is {flat.dtype}; expected floats: {EXPECTED}")
    return flat.astype(np.float64 if flat.dtype == np.float64 else np.float32)

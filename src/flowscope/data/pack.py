"""pack: a whole TrainingSet as one .safetensors file, which `load` reads back with the same digest, names and notes."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from flowscope.core.files import write_stream
from flowscope.core.serialize import to_jsonable
from flowscope.data.loaders.builtin import is_builtin
from flowscope.data.loaders.packed import KEY, SCHEMA, NormaliserForm, PackForm
from flowscope.data.loaders.tensor_writer import header_bytes
from flowscope.data.normaliser import Normaliser
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError, OutputError

SUFFIX = ".safetensors"
DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}

Tensors = dict[str, tuple[str, tuple[int, ...], int]]  # name -> dtype, shape and bytes


def pack(
    training_set: TrainingSet,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a set as one file: points in their dtype, labels, weights, names of classes and files, normalisation.

    Points are written block by block, so a set larger than memory needs little of it. The file appears when it is
    complete; an interrupted call leaves nothing.

    Args:
        training_set: the set.
        path: the file, whose name ends in .safetensors; its folder is made if it is missing.
        overwrite: replace a file that is there.
        progress: called as progress(done, total) after every block of points.

    Returns:
        The path.

    Raises:
        InputError: the name has another ending, the points were changed or have deviations, or the path lies in their
            own source.
        OutputError: a file is in the way, or it cannot be written.

    Example:
        >>> import flowscope as fs
        >>> from tempfile import TemporaryDirectory
        >>> from flowscope.data import pack
        >>> digits = fs.load("digits", subset=100)
        >>> with TemporaryDirectory() as folder:
        ...     again = fs.load(pack(digits, f"{folder}/digits.safetensors"))
        ...     again.digest == digits.digest
        True
    """
    if training_set.deviations is not None:
        raise InputError(
            f"{training_set.name} has deviations, which a packed set does not hold; expected points alone: keep the "
            "deviations in a file of their own"
        )
    path = Path(os.path.expanduser(path))
    check_place(path, training_set.source if "format" in training_set.origin else None, overwrite)
    training_set.check_unchanged()
    write_stream(path, _blocks(training_set, progress))
    return path


def check_place(path: Path, source: str | None, overwrite: bool) -> None:
    """Refuse a place for a packed set, before the work.

    Args:
        path: the place.
        source: what was loaded; None for points from memory.
        overwrite: a file may be replaced.

    Raises:
        InputError: the name has another ending, or the path is, or lies in, the source of the points.
        OutputError: something is in the way.
    """
    if path.suffix.lower() != SUFFIX:
        raise InputError(f"{path} does not end in {SUFFIX}, by which the file is known; expected such a name")
    of_files = source is not None and not is_builtin(source)
    place, data = path.resolve(), Path(os.path.expanduser(source or "")).resolve()
    if of_files and data.exists() and (place == data or (data.is_dir() and place.is_relative_to(data))):
        raise InputError(
            f"{path} is, or lies in, the source of these points ({source}), which is read while the file is written; "
            "expected another place"
        )
    if path.is_dir() or (os.path.lexists(path) and not overwrite):
        raise OutputError(
            f"{path} is in the way; expected a new name: choose another, move it away, or replace it with --overwrite "
            "(overwrite=True)"
        )


def _blocks(s: TrainingSet, progress: Callable[[int, int], None] | None) -> Iterator[bytes | memoryview]:
    """The bytes of the file, in order. Longer numbers come first, so that each tensor is aligned to its own."""
    files = b"" if s.files is None else "\n".join(s.files).encode()
    tensors: Tensors = {}
    for name, values in (("weights", s.weights), ("labels", s.labels)):
        if values is not None:
            tensors[name] = ("F64" if name == "weights" else "I64", values.shape, values.nbytes)
    size = len(s) * s.dimension * torch.empty((), dtype=getattr(torch, s.dtype)).element_size()
    tensors["points"] = (DTYPES[s.dtype], (len(s), *s.shape), size)
    if s.files is not None:
        tensors["files"] = ("U8", (len(files),), len(files))
    yield header_bytes(tensors, {KEY: json.dumps(_about(s), ensure_ascii=False)})
    for values in (s.weights, s.labels):
        if values is not None:
            yield np.ascontiguousarray(values).view(np.uint8).data
    for start, piece in s.pieces():
        yield piece.detach().cpu().contiguous().view(torch.uint8).numpy().reshape(-1).data
        if progress is not None:
            progress(start + len(piece), len(s))
    yield files


def _about(s: TrainingSet) -> PackForm:
    names = s.class_names
    augmentations = {"augmentations": list(s.augmentations)} if s.augmentations else {}
    return PackForm(
        schema=SCHEMA,
        name=s.name,
        normalisation=s.normalisation,
        class_names=None if names is None else {str(label): name for label, name in names.items()},
        notes=list(s.notes),
        source=s.source,
        origin=to_jsonable(s.origin),
        digest=s.digest,
        normaliser=None if s.normaliser is None else _normaliser(s.normaliser),
        **augmentations,  # type: ignore[typeddict-item]
    )


def _normaliser(n: Normaliser) -> NormaliserForm:
    mean, std = (None if v is None else v.astype(np.float64).tolist() for v in (n.mean, n.std))
    return NormaliserForm(factor=n.factor, dtype=None if n.mean is None else str(n.mean.dtype), mean=mean, std=std)

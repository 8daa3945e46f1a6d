"""CIFAR's batches for Python: `data_batch_1` to `data_batch_5` and `test_batch`, or `train` and `test` of CIFAR-100.

They are pickles. They are read without running what a pickle may run: only numbers, texts, lists, dictionaries and
numpy's arrays of bytes are made, and nothing else of Python is reached.
"""

import io
import os
import pickle
import posixpath
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from flowscope.core.memory import check_memory
from flowscope.data.loaders.columns import keep_columns, pick_one
from flowscope.data.loaders.part import Part
from flowscope.data.loaders.source import Source, check_class_names, reading, unread_notes
from flowscope.data.loaders.tree import Tree, open_folder
from flowscope.errors import InputError

TRAIN_10, TEST_10, META_10 = re.compile(r"data_batch_[1-5]"), "test_batch", "batches.meta"
TRAIN_100, TEST_100, META_100 = "train", "test", "meta"
BINARY = re.compile(r"(data_batch_[1-5]|test_batch|train|test)\.bin")
SHAPE = (3, 32, 32)
LABEL_NAMES = {"labels": "label_names", "fine_labels": "fine_label_names", "coarse_labels": "coarse_label_names"}
MAX_STEPS = 2_000_000  # of a pickle; a batch of CIFAR-100 has a fourth of them
STEP_BYTES = 160  # that a step makes, at most, beside the bytes of the file
EXPECTED = "a batch of CIFAR: data (N, 3072) uint8 and N labels"
ARRAY_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}
# what makes objects of other kinds, or memory by a number alone
UNUSED_OPCODES = (
    *(pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4),
    *(pickle.PERSID, pickle.BINPERSID, pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
)


def is_batch(path: Path) -> bool:
    """Whether a file is a batch of CIFAR-10 by its name."""
    return bool(TRAIN_10.fullmatch(path.name)) or path.name == TEST_10


def holds_batches(folder: Path) -> bool:
    """Whether a folder holds batches of CIFAR."""
    names = {entry.name for entry in os.scandir(folder)}
    return bool(names & {META_10, f"{TEST_10}.bin", "train.bin"}) or {META_100, TRAIN_100, TEST_100} <= names


def load_batch(path: Path, part: Part) -> Source:
    """Load one batch; see :func:`load_batches`."""
    part.refuse_split(str(path))
    beside = [file for file in (path, path.parent / META_10) if file.is_file()]
    tree = Tree(path.parent, {file.name: file for file in beside}, (), {}, lambda file: file, archive=False)
    if not find_batches(tree, None):
        raise InputError(f"{path} is no kind of file that flowscope reads; expected {EXPECTED}")
    return load_batches(tree, [path.name], path.name, part)


def load_batch_folder(folder: Path, part: Part) -> Source:
    """Load a folder of batches; see :func:`load_batches`."""
    tree = open_folder(folder)
    return load_batches(tree, find_batches(tree, part.split), folder.resolve().name, part)


def find_batches(tree: Tree, split: str | None) -> list[str]:
    """The batches in a tree, those of the part that is asked for; none where it is no CIFAR.

    Raises:
        InputError: there are training and test batches, and `split` does not say which; or binary ones.
    """
    base = {posixpath.basename(name): name for name in tree.files}
    if binary := sorted(name for name in base if BINARY.fullmatch(name)):
        raise InputError(
            f"{tree.where / base[binary[0]]} is a binary batch of CIFAR; expected the version for Python "
            "(cifar-10-python.tar.gz), or the images in folders"
        )
    train = sorted(name for name in base if TRAIN_10.fullmatch(name))
    test = [TEST_10] if TEST_10 in base else []
    if not (train or test) and META_100 in base:
        train, test = ([name] if name in base else [] for name in (TRAIN_100, TEST_100))
    parts = {"train": train, "test": test}
    there = [part for part, names in parts.items() if names]
    if split is None and len(there) > 1:
        raise InputError(
            f"{tree.where} has batches of train and test; say which to read: split='train' (--split train)"
        )
    if there and split is not None and split not in there:
        raise InputError(f"split is {split!r} and {tree.where} has batches of {' and '.join(there)}; expected one")
    return [base[name] for name in parts[split or there[0]]] if there else []


def load_batches(tree: Tree, names: Sequence[str], name: str, part: Part) -> Source:
    """Load batches as pixels with their labels.

    Raises:
        InputError: they hold anything else, do not agree, or have labels of two kinds and `columns` does not say which.
    """
    found = [_unpickled(tree, batch) for batch in names]
    where = tree.where / names[0]
    kinds = keep_columns([kind for kind in LABEL_NAMES if kind in found[0]], part.column_names, where)
    kind = pick_one("labels", kinds, where)
    pixels, labels = list[np.ndarray](), list[int]()
    for batch, said in zip(names, found, strict=True):
        data, marks = said.get("data"), said.get(kind, []) if kind else []
        good = isinstance(data, np.ndarray) and data.ndim == 2 and data.shape[1] == np.prod(SHAPE)
        fits = isinstance(marks, list) and all(type(mark) is int for mark in marks)
        if not isinstance(data, np.ndarray) or not (good and fits and len(marks) == (len(data) if kind else 0)):
            raise InputError(f"{tree.where / batch} is no batch; expected {EXPECTED}")
        pixels.append(data.reshape(-1, *SHAPE))
        labels += marks
    classes = _class_names(tree, kind)
    values = np.concatenate(pixels)
    check = None if classes is None or not kind else check_class_names(classes, labels, where)
    notes = unread_notes(set(found[0]) - {"batch_label", "filenames", *LABEL_NAMES}, {"data"}, where)
    return Source(values, name, np.array(labels) if kind else None, class_names=check, notes=notes)


def _class_names(tree: Tree, kind: str | None) -> list[str] | None:
    """The names of classes, where the file that has them lies beside the batches."""
    for name in tree.files:
        if kind and posixpath.basename(name) in (META_10, META_100):
            names = _unpickled(tree, name).get(LABEL_NAMES[kind])
            if isinstance(names, list):
                return [_text(one) for one in names]
    return None


def _unpickled(tree: Tree, name: str) -> dict[str, Any]:
    """What a batch says, by names as texts."""
    where, content = tree.where / name, tree.read(name)
    wanted = 2 * len(content) + STEP_BYTES * min(len(content), MAX_STEPS)
    check_memory(wanted, str(where), "give the images in folders")
    with reading(where, EXPECTED):
        unpickler = _Unpickler(io.BytesIO(content), encoding="bytes")
        unpickler.where = str(where)
        found = unpickler.load()
        if not isinstance(found, dict):
            raise InputError(f"{where} holds a {type(found).__name__}; expected {EXPECTED}")
        return {_text(key): value.array if isinstance(value, _Array) else value for key, value in found.items()}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class _Array:
    """What stands for an array until its bytes come."""

    def __init__(self, *_: Any) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _DType) or dtype.name not in ("u1", "|u1") or not isinstance(content, bytes):
            raise InputError("an array is not of bytes (uint8)")
        self.array = np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


class _DType:
    """What stands for a dtype: its name."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name = _text(name)

    def __setstate__(self, state: Any) -> None:
        pass


def _counted(step: Callable[[Any], None]) -> Callable[[Any], None]:
    """A step of the unpickler that is counted."""

    def run(unpickler: Any) -> None:
        unpickler.steps += 1
        if unpickler.steps > MAX_STEPS:
            raise InputError(f"the pickle has more than {MAX_STEPS:,} steps; expected {EXPECTED}")
        step(unpickler)

    return run


class _Unpickler(pickle._Unpickler):
    """Python's own unpickler in Python, which reaches nothing but stand-ins for numpy's arrays."""

    steps, where = 0, "the pickle"
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        key: _counted(step) for key, step in pickle._Unpickler.dispatch.items() if bytes([key]) not in UNUSED_OPCODES
    }

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a name; any other is refused."""
        if (module, name) not in ARRAY_NAMES:
            raise InputError(
                f"{self.where} asks for {module}.{name}, and flowscope never runs pickled code; expected {EXPECTED}: "
                "if you trust the file, load it yourself and save the arrays with numpy.savez"
            )
        return _DType if name == "dtype" else _Array

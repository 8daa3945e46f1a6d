""".pt and .pth files, read by torch.load(weights_only=True): tensors only, no code is run."""

import mmap
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowscope.core.memory import check_memory
from flowscope.core.tensors import check_dense, to_numpy
from flowscope.data.loaders.latents import FLIPPED
from flowscope.data.loaders.source import Source, check_class_names, pick_points, reading, unread_notes
from flowscope.errors import InputError

OBJECT_BYTES = 64  # that a byte of a pickle makes as objects, at most: an empty list has one
ZERO_FILLED = b"\nbytearray\n"  # in a pickle, what makes as many bytes as a number in it says


def load_pt(path: Path) -> Source:
    """Load a tensor of points, or a dict with points, images or latents, and labels.

    The storage is memory-mapped where the format (torch 1.6 and later) allows it.

    Raises:
        InputError: the file holds anything but tensors, is damaged, or lacks the entries.
    """
    with reading(path, "tensors written by torch.save"):
        saved = load_saved(path)
        if isinstance(saved, Tensor):
            return Source(checked_tensor(saved, "points", path), path.stem)
        if not isinstance(saved, dict):
            kind = type(saved).__name__
            raise InputError(f"{path} holds a {kind}; expected a tensor, or a dict with points and labels")
        key = pick_points(saved, path)
        labels, weights = (_checked_values(saved.get(name), name, path) for name in ("labels", "weights"))
        names = saved.get("classes")
        beside = {FLIPPED} & set(saved) if key == "latents" else set()
        return Source(
            checked_tensor(saved[key], key, path),
            path.stem,
            labels,
            weights,
            None if names is None else check_class_names(names, labels, path),
            latents=key == "latents",
            flipped=checked_tensor(saved[FLIPPED], FLIPPED, path) if FLIPPED in beside else None,
            notes=unread_notes(saved, (key, "labels", "weights", "classes", *beside), path),
        )


def load_saved(path: Path) -> Any:
    """What the file holds, after a look at what it would take; no code in it is run.

    Raises:
        InputError: it holds more than tensors and plain values, or would take more than there is memory.
    """
    zipped = zipfile.is_zipfile(path)
    (_check_archive if zipped else _check_legacy)(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of pickles that it did not write
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
        except (pickle.UnpicklingError, RuntimeError) as error:
            # torch's own message says how to run the code after all, so it is not passed on
            raise _foreign(path) from error


def _check_archive(path: Path) -> None:
    """Ask for the memory of the pickle in an archive; its tensors are mapped."""
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise InputError(f"{path} is compressed; expected tensors written by torch.save, which compresses nothing")
        pickles = [entry for entry in archive.infolist() if entry.filename.endswith("data.pkl")]
        check_memory(OBJECT_BYTES * sum(entry.file_size for entry in pickles), f"the pickle in {path}", _REMEDY)
        if any(ZERO_FILLED in archive.read(entry) for entry in pickles):
            raise _foreign(path)


def _check_legacy(path: Path) -> None:
    """Ask for the memory of a file of torch before 1.6, which is read whole."""
    size = path.stat().st_size
    check_memory(size, str(path), _REMEDY)
    if size:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(ZERO_FILLED) >= 0:
                raise _foreign(path)


_REMEDY = "save the points as .npy, which is memory-mapped"


def _foreign(path: Path) -> InputError:
    return InputError(
        f"{path} is damaged or holds Python objects beyond tensors, and flowscope never runs pickled code; "
        "if you trust the file, load it yourself and save the tensor alone with torch.save"
    )


def checked_tensor(values: Any, what: str, path: Path) -> Tensor:
    """What a file holds, once it is a dense tensor whose numbers are in the file.

    Raises:
        InputError: it is not.
    """
    if not isinstance(values, Tensor):
        raise InputError(f"{what} of {path} are a {type(values).__name__}; expected a tensor (N, *shape)")
    check_dense(values, f"{what} of {path}")
    held = values.untyped_storage().nbytes()
    if values.numel() * values.element_size() > held or held > path.stat().st_size:
        raise InputError(
            f"{what} of {path} have the shape {tuple(values.shape)} and fewer values: save them contiguous"
        )
    return values


def _checked_values(values: Any, name: str, path: Path) -> Any:
    """Labels or weights: a tensor of the file as it is, a list as an array; None for none."""
    if isinstance(values, Tensor):
        return checked_tensor(values, name, path)
    return None if values is None else to_numpy(values, f"{name} of {path}")

""".pt and .pth files, read by torch.load(weights_only=True): tensors only, no code is run."""

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowscope.data.loaders.latents import FLIPPED
from flowscope.data.loaders.source import Source, pick_points, reading
from flowscope.errors import InputError


def load_pt(path: Path) -> Source:
    """Load a tensor of points, or a dict with points, images or latents, and labels.

    The storage is memory-mapped where the format (torch 1.6 and later) allows it.

    Raises:
        InputError: the file holds anything but tensors, is damaged, or lacks the entries.
    """
    with reading(path, "tensors written by torch.save"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of pickles that it did not write
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except (pickle.UnpicklingError, RuntimeError) as error:
            # torch's own message says how to run the code after all, so it is not passed on
            raise InputError(
                f"{path} is damaged or holds Python objects beyond tensors, and flowscope never runs pickled code; "
                "if you trust the file, load it yourself and save the tensor alone with torch.save"
            ) from error
    if isinstance(saved, Tensor):
        return Source(_checked_tensor(saved, "the tensor", path), path.stem)
    if not isinstance(saved, dict):
        raise InputError(f"{path} holds a {type(saved).__name__}; expected a tensor, or a dict with points and labels")
    key = pick_points(saved, path)
    names = saved.get("classes")
    return Source(
        _checked_tensor(saved[key], key, path),
        path.stem,
        saved.get("labels"),
        saved.get("weights"),
        names if isinstance(names, (list, tuple)) else None,
        latents=key == "latents",
        flipped=_checked_tensor(saved[FLIPPED], FLIPPED, path) if key == "latents" and FLIPPED in saved else None,
    )


def _checked_tensor(values: Any, what: str, path: Path) -> Tensor:
    if not isinstance(values, Tensor):
        raise InputError(f"{what} of {path} is a {type(values).__name__}; expected a tensor (N, *shape)")
    if values.layout == torch.strided and values.numel() * values.element_size() > values.untyped_storage().nbytes():
        raise InputError(f"{what} of {path} has the shape {tuple(values.shape)} and fewer values: save it contiguous")
    return values

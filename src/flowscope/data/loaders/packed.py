"""Packed sets: one .safetensors file that holds all of a TrainingSet, as :func:`flowscope.data.pack` writes it.

Tensors are `points`, `labels`, `weights` and `files` (the names of files as UTF-8, one a line). The rest is JSON in the
metadata of the header, under the word "flowscope", with the number of its form.
"""

import json
from pathlib import Path
from typing import Any, NotRequired, cast

import numpy as np
import torch
from typing_extensions import TypedDict

from flowscope.core.memory import check_memory
from flowscope.core.schema import check_form, check_json_memory, parse_json
from flowscope.data.loaders.source import Source, reading
from flowscope.data.loaders.tensor_file import BFLOAT16, TensorFile
from flowscope.data.normaliser import Normaliser
from flowscope.errors import InputError

KEY = "flowscope"  # in the metadata
SCHEMA = 1  # number of the form of what stands there
NAME_BYTES = 150  # of the name of a file as an object, at most, beside its characters


class NormaliserForm(TypedDict):
    """A normaliser: its factor, and mean and std by channel in a dtype, or None."""

    factor: float
    dtype: str | None
    mean: list[float] | None
    std: list[float] | None


class PackForm(TypedDict):
    """What the metadata say of a set; `class_names` has labels as texts."""

    schema: int
    name: str
    normalisation: str
    class_names: dict[str, str] | None
    notes: list[str]
    source: str
    origin: dict[str, Any]
    digest: str
    normaliser: NormaliserForm | None
    augmentations: NotRequired[list[str]]


def read_packed(path: Path) -> Source | None:
    """Read a packed set; its points stay in the file. None for a .safetensors file of another kind.

    Raises:
        InputError: it is damaged, or was written by a later version.
    """
    with reading(path, "a set as flowscope pack writes it"):
        file = TensorFile(path)
        if KEY not in file.metadata:
            return None
        about = _read_about(file)
        names = about["class_names"]
        return Source(
            _points(file),
            about["name"],
            file.array("labels") if "labels" in file.names else None,
            file.array("weights") if "weights" in file.names else None,
            None if names is None else {int(label): name for label, name in names.items()},
            about["normalisation"],
            known=True,
            notes=tuple(about["notes"]),
            files=_files(file) if "files" in file.names else None,
            normaliser=_normaliser(about["normaliser"]),
            augmentations=tuple(about.get("augmentations", ())),
            digest=about["digest"],
            origin={**about["origin"], "packed": about["source"]},
        )


def _read_about(file: TensorFile) -> PackForm:
    text = file.metadata[KEY].encode()
    expected = "the metadata of a set as flowscope pack writes it"
    check_json_memory(len(text), f"the metadata of {file.path}")
    found = parse_json(text, dict[str, Any], f"the metadata of {file.path}", expected)
    if found.get("schema") != SCHEMA:
        raise InputError(
            f"{file.path} is a packed set of form {json.dumps(found.get('schema'))[:20]}; expected {SCHEMA}: read it "
            "with the version of flowscope that wrote it, and pack the source again"
        )
    check_form(found, PackForm, f"the metadata of {file.path}", expected)
    return cast(PackForm, found)


def _points(file: TensorFile) -> Any:
    """The points in their stored dtype; bfloat16, which numpy does not have, as a tensor on a map of the file."""
    entry = file.entry("points")
    if entry.dtype != BFLOAT16:
        return file.array("points")
    check_memory(2 * int(np.prod(entry.shape)), f"points of bfloat16 in {file.path}", "pack a part of them (subset)")
    words = np.memmap(file.path, np.dtype("<i2"), "c", entry.begin, entry.shape)
    return torch.from_numpy(words).view(torch.bfloat16)


def _files(file: TensorFile) -> list[str]:
    content = file.array("files")
    count = file.entry("points").shape[0]
    check_memory(3 * content.nbytes + NAME_BYTES * count, f"the names of files in {file.path}", "pack a part of them")
    return content.tobytes().decode().split("\n")


def _normaliser(about: NormaliserForm | None) -> Normaliser | None:
    if about is None:
        return None
    mean, std = (None if about[n] is None else np.array(about[n], about["dtype"]) for n in ("mean", "std"))
    return Normaliser(about["factor"], mean, std)

"""Caches of latents of musubi-tuner and kohya: a folder of .safetensors, one an item, beside those of text encoders.

The key of an item is latents_{F}x{H}x{W}_{dtype}, or latents; metadata say the architecture.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowscope.data.loaders.source import (
    MAX_LISTED_REASONS,
    Source,
    check_inside,
    passed_over,
    reading,
    skipped_notes,
)
from flowscope.data.loaders.tensor_file import Entry, TensorFile, map_entry
from flowscope.data.rows.item_rows import ItemRows
from flowscope.data.rows.mapped_rows import MappedRows
from flowscope.errors import InputError, listed

SUFFIX = ".safetensors"
PLAIN_KEY = "latents"
SIZED_KEY = re.compile(r"latents_(\d{1,9})x(\d{1,9})x(\d{1,9})_[a-z0-9]+")
SIZE_AND_DTYPE = re.compile(r"(_\d+x\d+x\d+)?_[a-z]+\d+$")  # at the end of other keys
TEXT_ENDING = "_te"  # of the names of caches of text encoders, some of which have no metadata
SCALES = {"hunyuan_video": "0.476986"}  # by architecture, where the trainer scales what is cached


class Item(NamedTuple):
    """A file: its latents, its architecture, and the kinds of its other tensors."""

    path: Path
    entry: Entry
    architecture: str
    others: tuple[str, ...]


def is_cache(folder: Path) -> bool:
    """Whether the .safetensors of a folder are caches, by the first of them."""
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    if not paths:
        return False
    first = next((path for path in paths if not path.stem.endswith(TEXT_ENDING)), paths[0])
    file = TensorFile(first)
    return "architecture" in file.metadata or any(map(SIZED_KEY.fullmatch, file.names))


def load_cache(folder: Path) -> Source:
    """Load the latents of a folder of caches; what is cached of text encoders is passed over.

    Raises:
        InputError: items of several sizes or architectures, a file that is damaged, or no latents.
    """
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    items, skipped = list[Item](), Counter[str]()
    for path in paths:
        check_inside(path, folder)
        with reading(path, "a cache of latents in .safetensors"):
            item = _open(path)
        skipped["caches of text encoders"] += item is None
        items += [] if item is None else [item]
    if not items:
        raise InputError(f"{folder} holds {len(paths)} caches and no latents; expected files with {PLAIN_KEY}_FxHxW_*")
    _check_one_kind(folder, items)
    skipped += passed_over(folder, SUFFIX)
    rows = ItemRows(lambda at: _read(items[at]), len(items), lambda at: str(items[at].path))
    return Source(
        MappedRows([rows]),
        folder.resolve().name,
        latents=True,
        scale_question=_scale_question(items[0].architecture),
        notes=skipped_notes(+skipped) + _others(items),
        files=[item.path.name for item in items],
    )


def _open(path: Path) -> Item | None:
    """The item of a file; None for the cache of a text encoder."""
    file = TensorFile(path)
    architecture = file.metadata.get("architecture", "")
    keys = [name for name in file.names if name == PLAIN_KEY or SIZED_KEY.fullmatch(name)]
    if not keys and (architecture or path.stem.endswith(TEXT_ENDING)):
        return None
    if len(keys) != 1:
        got = listed(keys[:3]) if keys else ", ".join(file.names[:5]) or "nothing"
        raise InputError(f"{path} holds {got}; expected one tensor of latents: {PLAIN_KEY}_FxHxW_* or {PLAIN_KEY}")
    entry, sized = file.entry(keys[0]), SIZED_KEY.fullmatch(keys[0])
    said = tuple(map(int, sized.groups())) if sized else entry.shape[-2:]
    own = (1, *entry.shape[-2:]) if sized and len(entry.shape) == 3 else entry.shape[-len(said) :]
    if len(entry.shape) < 3 or own != said:
        raise InputError(
            f"{keys[0]} of {path} has shape {entry.shape}; expected latents (C, F, H, W) or (C, H, W) of the size in "
            "its name: make the cache again"
        )
    others = tuple(SIZE_AND_DTYPE.sub("", name) for name in file.names if name != keys[0])
    return Item(path, entry, architecture, others)


def _read(item: Item) -> np.ndarray:
    values: Any = map_entry(item.path, item.entry)
    return np.array(values[:])


def _check_one_kind(folder: Path, items: Sequence[Item]) -> None:
    """Refuse latents of several sizes, dtypes or autoencoders."""
    kinds = {
        "sizes": Counter("x".join(map(str, item.entry.shape)) for item in items),
        "dtypes": Counter(item.entry.dtype for item in items),
        "architectures": Counter(item.architecture or "none" for item in items),
    }
    for what, found in kinds.items():
        if len(found) > 1:
            shown = ", ".join(_counted(found))
            raise InputError(
                f"{folder} holds latents of several {what}: {shown}; expected one, since the points of a set have one "
                "shape and one meaning: move the files of each to a folder of its own"
            )


def _scale_question(architecture: str) -> str | None:
    """What is asked of latents that a trainer scales after they are cached."""
    if architecture not in SCALES:
        return None
    scale = f"scale:{SCALES[architecture]}"
    return (
        f"holds latents of {architecture} as its autoencoder makes them, and its trainer scales them; say which: "
        f"normalise='{scale}' (--normalise {scale}) as the trainer does, or 'none' for as they are stored"
    )


def _others(items: Sequence[Item]) -> tuple[str, ...]:
    """The note on other tensors of these files."""
    found = Counter(kind for item in items for kind in item.others)
    return (f"Tensors beside latents were not read: {', '.join(_counted(found))}.",) if found else ()


def _counted(found: Counter[str]) -> Iterator[str]:
    """The most frequent kinds with their numbers."""
    first = found.most_common(MAX_LISTED_REASONS)
    yield from (f"{kind[:80]} ({count:,})" for kind, count in first)
    if len(found) > len(first):
        yield f"{len(found) - len(first):,} more"

""".safetensors files, one or a folder of shards, memory-mapped: rows are read as they are asked for."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from typing_extensions import TypedDict

from flowscope.core.schema import read_json
from flowscope.data.loaders.latents import FLIPPED, STATISTICS_FILE, find_statistics
from flowscope.data.loaders.packed import KEY, read_packed
from flowscope.data.loaders.source import (
    SPLITS,
    Source,
    check_inside,
    passed_over,
    pick_points,
    reading,
    skipped_notes,
    unread_notes,
)
from flowscope.data.loaders.tensor_file import Entry, TensorFile, map_entry
from flowscope.data.rows.mapped_rows import MappedRows
from flowscope.errors import InputError, listed

SUFFIX = ".safetensors"
KNOWN = (SUFFIX, f"{SUFFIX}.index.json", STATISTICS_FILE)  # endings of what belongs to a folder of shards
NUMBERED_SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)\.safetensors")
RANK_SHARD = re.compile(r"(.*rank)(\d+)(_shard)(\d+)\.safetensors")  # as LightningDiT names them
MAX_SHARDS = 100_000  # files of a set


class IndexForm(TypedDict):
    """What is used of the index of a folder of shards."""

    weight_map: dict[str, str]


class Shard(NamedTuple):
    """One file: the key of its points, its tensors by name, and the note on those that are passed over."""

    path: Path
    key: str
    entries: dict[str, Entry]
    notes: tuple[str, ...]

    def array(self, name: str) -> Any:
        """The named tensor as a memory map; None where it is absent."""
        return map_entry(self.path, self.entries[name]) if name in self.entries else None


def load_safetensors(path: Path) -> Source:
    """Load points, labels and weights of a .safetensors file, or of all those in a folder, by name.

    Raises:
        InputError: a damaged header, no points, shards that do not agree, or one that is missing by what their names
            or an index say (the message names the file).
    """
    paths = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if path.is_dir():
        _check_one_split(path, [file.name for file in paths])
        _check_complete(path, [file.name for file in paths])
        for file in paths:
            check_inside(file, path)
    else:
        packed = read_packed(path)
        if packed is not None:
            return packed
    shards = [_open_shard(file) for file in paths]
    for shard in shards[1:]:
        _check_agreement(shards[0], shard)
    key = shards[0].key
    parts, flipped = ([shard.array(name) for shard in shards] for name in (key, FLIPPED))
    labels, weights = ([shard.array(name) for shard in shards] for name in ("labels", "weights"))
    return Source(
        _joined(parts),
        path.resolve().name.removesuffix(".safetensors"),
        None if labels[0] is None else np.concatenate(labels),
        None if weights[0] is None else np.concatenate(weights),
        latents=key == "latents",
        flipped=None if flipped[0] is None else _joined(flipped),
        statistics=find_statistics(path if path.is_dir() else path.parent) if key == "latents" else None,
        notes=shards[0].notes + (skipped_notes(passed_over(path, KNOWN)) if path.is_dir() else ()),
    )


def _joined(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else MappedRows(parts)


def _check_one_split(folder: Path, names: list[str]) -> None:
    """Refuse shards of several parts of a data set, such as train-00000-of-00002 beside test-00000-of-00001."""
    splits = sorted({found[0] for name in names if (found := re.match(r"[A-Za-z]+", name)) and found[0] in SPLITS})
    if len(splits) > 1:
        raise InputError(
            f"{folder} holds shards of {listed(splits)}, which look like parts of a data set; expected those of one: "
            f"move each part to a folder of its own, and say which to read: split={splits[0]!r} (--split {splits[0]})"
        )


def _check_complete(folder: Path, names: list[str]) -> None:
    """Refuse a folder that lacks a shard: of "name-00002-of-00003", of an index, or a gap in "rank00_shard000"."""
    wanted = set()
    for name in names:
        if found := NUMBERED_SHARD.fullmatch(name):
            stem, number, total = found.groups()
            first = 0 if f"{stem}-{0:0{len(number)}}-of-{total}{SUFFIX}" in names else 1
            count = int(total)
            if count > MAX_SHARDS:
                raise InputError(
                    f"{folder / name} claims to be one of {count:,} shards; expected {MAX_SHARDS:,} at most"
                )
            wanted |= {f"{stem}-{k:0{len(number)}}-of-{total}{SUFFIX}" for k in range(first, first + count)}
    wanted |= _rank_shards(names)
    for index in sorted(folder.glob(f"*{SUFFIX}.index.json")):
        wanted |= set(
            read_json(index, IndexForm, 'an index of shards, {"weight_map": {tensor: file}}')["weight_map"].values()
        )
    missing = sorted(wanted - set(names))
    if missing:
        shown = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise InputError(
            f"{folder} holds {len(names)} shards and lacks {len(missing)} of theirs ({shown}); expected all of them: "
            "copy what is missing"
        )


def _rank_shards(names: list[str]) -> set[str]:
    """The files "rank00_shard000" that must be there: each rank has shards from 0 to its last, without a gap."""
    wanted, last = set(), dict[tuple[str, str, str, int], int]()
    for name in names:
        if found := RANK_SHARD.fullmatch(name):
            stem, rank, middle, shard = found.groups()
            key = (stem, rank, middle, len(shard))
            last[key] = max(last.get(key, 0), int(shard))
    for (stem, rank, middle, digits), shard in last.items():
        wanted |= {f"{stem}{rank}{middle}{k:0{digits}}{SUFFIX}" for k in range(min(shard, MAX_SHARDS) + 1)}
    return wanted


def _open_shard(path: Path) -> Shard:
    with reading(path, "a .safetensors file"):
        file = TensorFile(path)
        if KEY in file.metadata:
            raise InputError(f"{path} is a packed set, which is no shard; expected shards alone: give the file itself")
        key = pick_points(file.names, path)
        wanted = [name for name in (key, FLIPPED, "labels", "weights") if name in file.names]
        entries = {name: file.entry(name) for name in wanted}
        for name in wanted:
            if not entries[name].shape:
                raise InputError(f"{name} of {path} is a scalar; expected one entry for each point")
        return Shard(path, key, entries, unread_notes(file.names, wanted, path))


def _check_agreement(first: Shard, other: Shard) -> None:
    if other.entries.keys() != first.entries.keys():
        has, expected = (", ".join(sorted(s.entries)) for s in (other, first))
        raise InputError(f"{other.path} holds {has}; expected {expected}, as in {first.path.name}")
    for name, (dtype, shape, _) in first.entries.items():
        got = other.entries[name]
        if (got.dtype, got.shape[1:]) != (dtype, shape[1:]):
            raise InputError(
                f"{name} of {other.path} is {got.dtype} (n, {_axes(got.shape)}); "
                f"expected {dtype} (n, {_axes(shape)}), as in {first.path.name}"
            )


def _axes(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape[1:]))

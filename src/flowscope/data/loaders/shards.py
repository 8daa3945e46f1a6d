"""Folders of numbered files that together are one set: `train-000000.tar`, `train-00000-of-00002.parquet`."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from flowscope.data.loaders.pictures import IMAGE_SUFFIXES
from flowscope.data.loaders.source import SPLITS, check_inside
from flowscope.errors import InputError, listed

NUMBERED = re.compile(r"(?P<stem>.*?)(?P<number>\d+)(?:-of-(?P<count>\d+))?(?P<rest>(?:-[0-9a-f]{16})?)")


def find_shards(folder: Path, suffix: str, split: str | None) -> tuple[list[Path], str | None]:
    """The files of one set in a folder, in the order of their numbers, and the part that they are.

    Args:
        folder: where they lie.
        suffix: of their names.
        split: which part is wanted, where names begin with train, val or test; None for the one there is.

    Raises:
        InputError: there are several parts or sets, or a number is missing; a link leads out of the folder.
    """
    names = sorted(path.name for path in folder.glob(f"*{suffix}") if not path.name.startswith("."))
    for name in names:
        check_inside(folder / name, folder)
    parts = sorted({part for name in names if (part := part_of(name))})
    if split not in (None, "none"):
        if split not in parts:
            has = ", ".join(parts) or "none"
            raise InputError(f"split is {split!r} and {folder} has the parts {has}; expected one of them")
        names = [name for name in names if part_of(name) == split]
    elif len(parts) > 1:
        raise InputError(
            f"{folder} holds files of {listed(parts)}, which look like parts of a data set; say which to read: "
            f"split={parts[0]!r} (--split {parts[0]})"
        )
    if len(names) > 1:
        names = _in_order(names, folder, suffix)
    return [folder / name for name in names], (parts[0] if parts else None) if split in (None, "none") else split


def holds_only(folder: Path, suffix: str) -> bool:
    """Whether a folder holds files of a suffix, and neither subfolders nor images."""
    entries = [entry for entry in os.scandir(folder) if entry.name[0] != "."]
    others = any(entry.is_dir() or Path(entry.name).suffix.lower() in IMAGE_SUFFIXES for entry in entries)
    return not others and any(entry.name.endswith(suffix) for entry in entries)


def part_of(name: str) -> str:
    """The part of a data set, such as "train", that the name of a file begins with; "" for none."""
    found = re.match(r"[A-Za-z]+", name)
    return found[0] if found and found[0].lower() in SPLITS else ""


def _in_order(names: Iterable[str], folder: Path, suffix: str) -> list[str]:
    """The names by number, once they are those of one set without a gap."""
    found = {name: NUMBERED.fullmatch(name.removesuffix(suffix)) for name in names}
    odd = sorted(name for name, match in found.items() if match is None)
    stems = sorted({match["stem"] for match in found.values() if match})
    if odd or len(stems) > 1:
        several = odd[0] if odd else f"{stems[0]}... and {stems[1]}..."
        raise InputError(
            f"{folder} holds several {suffix} files ({several}); expected the numbered files of one set, such as "
            f"train-000000{suffix}: give the one to be read, or move the others"
        )
    numbers = {name: int(match["number"]) for name, match in found.items() if match}
    counts = {int(match["count"]) for match in found.values() if match and match["count"]}
    first = min(numbers.values())
    there = sorted(numbers.values())
    if there != list(range(first, first + len(there))) or first > 1 or counts - {len(there)}:
        raise InputError(
            f"{folder} holds {len(there)} numbered {suffix} files, from {there[0]} to {there[-1]}"
            + (f", of {max(counts)}" if counts else "")
            + "; expected each number once, without a gap: copy what is missing"
        )
    return sorted(numbers, key=lambda name: numbers[name])

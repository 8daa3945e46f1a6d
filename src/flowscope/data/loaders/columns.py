"""Columns of a table: those that the user asks for, and which of them are images and labels."""

from collections.abc import Collection, Sequence
from pathlib import Path

from flowscope.data.loaders.labels import LABEL_KEYS
from flowscope.errors import InputError, listed, unknown_name

MAX_LISTED_COLUMNS = 12
RECIPE = "columns=['image', 'label'] (--columns image,label)"


def keep_columns(found: Collection[str], asked: Sequence[str] | None, where: object) -> list[str]:
    """The columns that are looked at: those asked for, else all.

    Raises:
        InputError: one that is asked for is not there.
    """
    for name in asked or ():
        if name not in found:
            raise unknown_name(f"a column of {where}", name, list(found)[:MAX_LISTED_COLUMNS])
    return list(found if asked is None else asked)


def pick_one(kind: str, candidates: Sequence[str], where: object) -> str | None:
    """The one column of a kind; None for none.

    Raises:
        InputError: there are several, and the user has not said which.
    """
    if len(candidates) > 1:
        raise InputError(
            f"{where} has several columns of {kind} ({listed(candidates)}); say which columns to read, such as {RECIPE}"
        )
    return candidates[0] if candidates else None


def label_names(found: Collection[str]) -> list[str]:
    """The columns that are labels by their names."""
    return [name for name in found if name.lower() in LABEL_KEYS]


def no_points(kind: str, found: Collection[str], where: Path | str, remedy: str = "") -> InputError:
    """The error for a table without a column of points."""
    has = ", ".join(map(str, list(found)[:MAX_LISTED_COLUMNS])) or "nothing"
    return InputError(f"{where} has the columns {has} and none of {kind}; expected one{remedy}")

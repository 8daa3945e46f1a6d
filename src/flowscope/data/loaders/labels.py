"""Labels as files and folders say them: whole numbers, or names of classes, which become numbers in their order."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from flowscope.core.text import nfc
from flowscope.data.loaders.source import MAX_NAME_CHARACTERS
from flowscope.errors import InputError, listed

LABEL_KEYS = ("label", "labels", "cls", "class")  # names under which a table may keep labels
MAX_LABEL = 2**63


class Labels(NamedTuple):
    """Labels (N,) int64, and the name of each label; None for none."""

    values: np.ndarray | None
    names: list[str] | None = None


def make_labels(said: Sequence[Any], files: Sequence[str], where: object) -> Labels:
    """Labels of what is said of each image: whole numbers, or texts, which are names of classes; None for nothing.

    Args:
        said: one for each image.
        files: what messages call each image.
        where: the place where it is said, for messages.

    Raises:
        InputError: something is said of some images only, both numbers and names are, or what is neither.
    """
    if all(value is None for value in said):
        return Labels(None)
    for file, value in zip(files, said, strict=True):
        if value is None:
            raise InputError(f"{where} has no label for {file}, and has for others; expected all of them, or none")
        whole = type(value) is int and 0 <= value < MAX_LABEL
        if not whole and not (isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARACTERS):
            raise InputError(
                f"{where} has the label {str(value)[:40]!r} for {file}; expected a whole number from 0 on, or the name "
                "of a class"
            )
    if isinstance(said[0], str):
        said = [nfc(value) if isinstance(value, str) else value for value in said]
    if len({type(value) for value in said}) > 1:
        raise InputError(f"{where} has both numbers and names as labels; expected one kind: write names as texts")
    if isinstance(said[0], int):
        return Labels(np.array(said, dtype=np.int64))
    names = order_names(set(said))
    number = {name: label for label, name in enumerate(names)}
    return Labels(np.array([number[value] for value in said], dtype=np.int64), names)


def order_names(names: Collection[str]) -> list[str]:
    """Names of classes in the order of their labels: by name, or by number where all names are numbers."""
    numeric = all(name.isascii() and name.isdecimal() for name in names)
    return sorted(names, key=(lambda name: (int(name), name)) if numeric else None)


def pick_label_key(found: Collection[str], where: object) -> str | None:
    """The one name in LABEL_KEYS that is there; None for none.

    Raises:
        InputError: several are.
    """
    present = [key for key in LABEL_KEYS if key in found]
    if len(present) > 1:
        raise InputError(f"{where} has labels in several places ({listed(present)}); expected one: remove the others")
    return present[0] if present else None

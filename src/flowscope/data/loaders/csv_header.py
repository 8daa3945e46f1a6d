"""The first row of a .csv: the names of columns, or a point; what could be either is refused, never guessed."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from flowscope.core.text import is_number
from flowscope.data.loaders.columns import MAX_LISTED_COLUMNS
from flowscope.data.loaders.labels import LABEL_KEYS
from flowscope.errors import InputError

SEPARATORS = {";": ";", "\t": "tabs", "|": "|", " ": "spaces"}
LABEL_COLUMNS = (*LABEL_KEYS, "target")
ROW_NUMBERS = re.compile(r"(id|index|idx|unnamed)([ :_]*\d+)?", re.IGNORECASE)  # names of what counts rows
NO_NAMES = "name the columns in line 1, or leave the header out"


def find_header(first: Sequence[str], second: Sequence[str] | None, line: int, path: Path) -> list[str] | None:
    """The names of columns, where the first row holds them; None where it is a point.

    Args:
        first, second: the cells of the first rows; None where there is no second.
        line: of the first row, for messages.
        path: of the file, for messages.

    Raises:
        InputError: the row may be either, a column has no name, or cells are not separated by commas.
    """
    cells = [cell.strip() for cell in first]
    _check_commas(cells, path)
    numbers = [is_number(cell) for cell in cells]
    if all(numbers):
        if _may_be_names(cells, second):
            raise InputError(
                f"line {line} of {path} is {_shown(cells)}, which may be a point or the numbers of columns; {NO_NAMES} "
                "(pandas: header=False); of a point, write the first number with a decimal point, such as 1.0"
            )
        return None
    if any(numbers) or not any(cell[:1].isalpha() or cell[:1] == "_" for cell in cells):
        wrong = numbers.index(False)
        raise InputError(
            f"line {line}, column {wrong + 1} of {path} is {cells[wrong][:40]!r} in a row that is neither numbers nor "
            f"names; expected a point, or a name for each column: correct the cell, {NO_NAMES}"
        )
    _check_names(cells, path)
    return cells


def check_columns(names: Sequence[str], path: Path) -> None:
    """Ask about columns that count rows, and a `y` without an `x`, which may be a label.

    Raises:
        InputError: there are some; the user has not said which columns are read.
    """
    counts = [name for name in names if ROW_NUMBERS.fullmatch(name)]
    lone = [name for name in names if name.lower() == "y"] if "x" not in map(str.lower, names) else []
    if not counts and not lone:
        return
    others = [name for name in names if name not in (*counts, *lone)] or ["x", "label"]
    what, remedy = ("the number of a row", "") if counts else ("a label", ", or name it label")
    raise InputError(
        f"{path} has a column {(counts or lone)[0]!r}, which may be a coordinate or {what}; say which columns to read, "
        f"such as columns={','.join(others[:MAX_LISTED_COLUMNS])!r} (--columns), or remove it{remedy}"
    )


def _check_commas(cells: Sequence[str], path: Path) -> None:
    for mark, word in SEPARATORS.items():
        parts = [part.strip() for cell in cells for part in cell.split(mark)] if mark in "".join(cells) else []
        one = len(cells) == 1 and mark != " "  # a name may hold spaces
        if len(parts) > len(cells) and (one or all(map(is_number, parts))):
            raise InputError(f"{path} is separated by {word}: expected commas: save it so (pandas: sep=',')")


def _may_be_names(cells: Sequence[str], second: Sequence[str] | None) -> bool:
    """Whether whole numbers are those of columns: all from 0 or 1 on, or ascending above numbers of another form."""
    if not all(cell.isascii() and cell.isdecimal() and len(cell) < 20 for cell in cells):
        return False
    values = [int(cell) for cell in cells]
    if values == list(range(values[0], values[0] + len(values))) and values[0] in (0, 1):
        return True
    ascending = len(values) > 1 and all(a < b for a, b in pairwise(values))
    return ascending and second is not None and not any(cell.strip().isdecimal() for cell in second)


def _check_names(header: list[str], path: Path) -> None:
    if "" in header:
        raise InputError(
            f"column {header.index('') + 1} of {path} has no name; row numbers that were saved along would be taken "
            "for a coordinate: save it without (pandas: index=False), or name the column"
        )
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InputError(f"{path} has two columns {twice!r}; expected each name once")


def _shown(cells: Sequence[str]) -> str:
    return ",".join(cells[:5]) + ",..." * (len(cells) > 5)


def header_note(header: Sequence[str], line: int, path: Path) -> str:
    """The note on the row that was taken for names."""
    rest = f" and {len(header) - MAX_LISTED_COLUMNS:,} more" if len(header) > MAX_LISTED_COLUMNS else ""
    names = ", ".join(name[:40] for name in header[:MAX_LISTED_COLUMNS])
    return f"Line {line} of {path.name} is the names of its columns: {names}{rest}."

""".csv files of vectors: a row for each point, a header or none, and a column `label` where the header names one."""

import csv
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flowscope.core.memory import check_memory
from flowscope.core.text import is_number
from flowscope.data.loaders.columns import keep_columns, label_names, pick_one
from flowscope.data.loaders.labels import Labels, make_labels
from flowscope.data.loaders.part import Part
from flowscope.data.loaders.source import MAX_CLASS_NAMES, Source, reading
from flowscope.errors import InputError

BYTES_PER_CHARACTER = 12  # in memory for a character of text: a number takes 8 and two characters, with room to grow
EXPECTED = "rows of numbers with commas between them, all of one length"


def load_csv(path: Path, part: Part) -> Source:
    """Load the numbers of a .csv file as points, float64, and its column of labels.

    Raises:
        InputError: a cell is no number (the message names line and column), rows differ in length, labels are in
            several columns, or a column has no name.
    """
    part.refuse_split(str(path))
    check_memory(
        BYTES_PER_CHARACTER * path.stat().st_size, str(path), "save the points as .npy, which is memory-mapped"
    )
    with reading(path, EXPECTED), path.open(encoding="utf-8-sig", newline="") as stream:
        rows = ((line, row) for line, row in _rows(stream) if row)
        first = next(rows, None)
        if first is None:
            raise InputError(f"{path} is empty; expected {EXPECTED}")
        header = None if all(map(is_number, first[1])) else [cell.strip() for cell in first[1]]
        names = _column_names(header, len(first[1]), path)
        kept = keep_columns(names, part.column_names, path)
        label = pick_one("labels", label_names(kept) if header else [], path)
        used = [names.index(name) for name in kept if name != label]
        if not used:
            raise InputError(f"{path} has no column of coordinates; expected {EXPECTED}")
        points, labels = _read(rows if header else _with(first, rows), names, used, label, path)
    return Source(points, path.stem, labels.values, class_names=labels.names)


def _rows(stream: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(stream, strict=True)
    return ((reader.line_num, row) for row in reader)


def _with(first: tuple[int, list[str]], rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    yield first
    yield from rows


def _column_names(header: list[str] | None, count: int, path: Path) -> list[str]:
    if header is None:
        return [str(k) for k in range(1, count + 1)]
    if "" in header:
        raise InputError(
            f"column {header.index('') + 1} of {path} has no name; row numbers that were saved along would be taken "
            "for a coordinate: save it without (pandas: index=False), or name the column"
        )
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InputError(f"{path} has two columns {twice!r}; expected each name once")
    return header


def _read(
    rows: Iterator[tuple[int, list[str]]], names: list[str], used: list[int], label: str | None, path: Path
) -> tuple[np.ndarray, Labels]:
    values, chosen, every = array("d"), array("q"), used == list(range(len(names)))
    known, column = dict[str, int](), None if label is None else names.index(label)
    for line, row in rows:
        if len(row) != len(names):
            raise InputError(
                f"line {line} of {path} has {len(row)} cells and the first has {len(names)}; expected {EXPECTED}"
            )
        cells = row if every else [row[k] for k in used]
        try:
            values.extend(map(float, cells))
        except ValueError:
            wrong = next(k for k in used if not is_number(row[k]))
            raise InputError(
                f"line {line}, column {wrong + 1} ({names[wrong]}) of {path} is {row[wrong][:40]!r}; expected a "
                "number: fill it, or leave out this row, or this column (--columns)"
            ) from None
        if column is not None:
            chosen.append(known.setdefault(row[column].strip(), len(known)))
            if len(known) > MAX_CLASS_NAMES:
                raise InputError(
                    f"{path} has more than {MAX_CLASS_NAMES:,} labels; expected a class for many rows each"
                )
    if not values:
        raise InputError(f"{path} has a header and no rows; expected {EXPECTED}")
    points = np.frombuffer(values, np.float64).reshape(-1, len(used))
    return points, _labels(list(known), np.frombuffer(chosen, np.int64) if column is not None else None, path)


def _labels(texts: list[str], chosen: np.ndarray | None, path: Path) -> Labels:
    """Labels by the texts that stand in their column: whole numbers, or names."""
    if chosen is None:
        return Labels(None)
    whole = all(text.isascii() and text.isdecimal() and len(text) < 20 for text in texts)
    said = [int(text) for text in texts] if whole else [text or None for text in texts]
    found = make_labels(said, [f"the label {text!r}" for text in texts], path)
    return Labels(None) if found.values is None else Labels(found.values[chosen], found.names)

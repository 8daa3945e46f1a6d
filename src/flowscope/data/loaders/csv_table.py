""".csv files of vectors: a row for each point, a header or none, and labels in a column `label` or `target`."""

import csv
from array import array
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from flowscope.core.memory import check_memory
from flowscope.core.text import is_number
from flowscope.data.loaders.columns import keep_columns, pick_one
from flowscope.data.loaders.csv_header import LABEL_COLUMNS, check_columns, find_header, header_note
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
            several columns, or the first row may be a point as well as names.
    """
    part.refuse_split(str(path))
    check_memory(
        BYTES_PER_CHARACTER * path.stat().st_size, str(path), "save the points as .npy, which is memory-mapped"
    )
    with reading(path, EXPECTED), path.open(encoding="utf-8-sig", newline="") as stream:
        rows = ((line, row) for line, row in _rows(stream) if row)
        first, second = next(rows, None), next(rows, None)
        if first is None:
            raise InputError(f"{path} is empty; expected {EXPECTED}")
        header = find_header(first[1], None if second is None else second[1], first[0], path)
        names = header or [str(k) for k in range(1, len(first[1]) + 1)]
        kept = keep_columns(names, part.column_names, path)
        if part.columns is None:
            check_columns(names, path)
        label = pick_one("labels", [name for name in kept if name.lower() in LABEL_COLUMNS], path)
        used = [names.index(name) for name in kept if name != label]
        if not used:
            raise InputError(f"{path} has no column of coordinates; expected {EXPECTED}")
        read_first = [row for row in ((None if header else first), second) if row is not None]
        points, labels = _read(chain(read_first, rows), names, used, label, path)
    notes = () if header is None else (header_note(header, first[0], path),)
    return Source(points, path.stem, labels.values, class_names=labels.names, notes=notes)


def _rows(stream: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(stream, strict=True)
    return ((reader.line_num, row) for row in reader)


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
    _check_labels(list(known), label, path)
    return points, _labels(list(known), np.frombuffer(chosen, np.int64) if column is not None else None, path)


def _check_labels(texts: list[str], column: str | None, path: Path) -> None:
    """Refuse numbers with a fraction as labels: they are a value that is measured, or no names."""
    wrong = next((text for text in texts if is_number(text) and not text.lstrip("-").isdecimal()), None)
    if wrong is not None:
        raise InputError(
            f"column {column} of {path} is {wrong[:40]!r}; expected labels, whole numbers or names: write them so, or "
            "leave the column out (columns, --columns), or rename it to make it a coordinate"
        )


def _labels(texts: list[str], chosen: np.ndarray | None, path: Path) -> Labels:
    """Labels by the texts that stand in their column: whole numbers, or names."""
    if chosen is None:
        return Labels(None)
    whole = all(text.isascii() and text.isdecimal() and len(text) < 20 for text in texts)
    said = [int(text) for text in texts] if whole else [text or None for text in texts]
    found = make_labels(said, [f"the label {text!r}" for text in texts], path)
    return Labels(None) if found.values is None else Labels(found.values[chosen], found.names)

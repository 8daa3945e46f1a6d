"""The forms of results on disk: CSV for arrays, JSON for everything else."""

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flowscope.core.text import is_number

SCHEMA = 1  # number of the form of every JSON file that a study writes

# where a cell begins, also for a spreadsheet that takes semicolons or tabs for commas, and what then makes a formula
FORMULA = re.compile(r"(^|[;\t])(\s*[=+\-@\uff1d\uff0b\uff0d\uff20])")


def to_jsonable(value: Any) -> Any:
    """A value as numbers, texts, lists and dictionaries for JSON; numbers that are not finite become None."""
    if isinstance(value, np.ndarray):
        return to_jsonable(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "_asdict") and any(isinstance(v, (np.ndarray, tuple)) for v in value):
        return to_jsonable(value._asdict())
    if isinstance(value, (list, tuple)):
        return [to_jsonable(v) for v in value]
    return {key: to_jsonable(v) for key, v in value.items()} if isinstance(value, Mapping) else value


def number(value: Any) -> float:
    """Read a number that :func:`to_jsonable` wrote; None is NaN."""
    return math.nan if value is None else float(value)


def csv_text(columns: Mapping[str, Sequence[Any]]) -> str:
    """Columns by name as CSV; floats with as many digits as identify them, and no text that a spreadsheet executes."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(map(_csv_cell, columns))
    writer.writerows(zip(*(map(_csv_cell, column) for column in columns.values()), strict=True))
    return table.getvalue()


def _csv_cell(value: Any) -> Any:
    """A value as it is written; an apostrophe stands before what would make a formula of a text."""
    if not isinstance(value, str):
        return repr(value) if isinstance(value, float) else value
    return value if is_number(value) else FORMULA.sub(r"\1'\2", value)


def json_text(value: Any) -> str:
    """A value as JSON that any reader accepts; NaN and infinity raise a ValueError."""
    return json.dumps(value, indent=1, allow_nan=False) + "\n"

"""The values of a curve: a table of some timesteps, and data for the slider that reads out each of them."""

import math
from typing import Any, NamedTuple

import numpy as np

from flowscope.report.elements import Table, number_cell
from flowscope.report.formatting import number, time
from flowscope.report.plain_text import json_safe

COLUMNS = {
    "t": "t",
    "log_snr": "log-snr",
    "top1": "top-1 weight",
    "margin": "margin",
    "gap": "gap",
    "entropy": "entropy (nats)",
    "effective_size": "effective size",
    "total_variance": "total variance",
    "divergence": "divergence",
}
MAX_ROWS = 12  # of the table; the slider has every timestep
VALUE_DIGITS, ERROR_DIGITS = 6, 3  # significant digits of the slider's data


class CurveValues(NamedTuple):
    """What the section of values shows.

    Attributes:
        table: some timesteps.
        outputs: (name, label) of each value that the slider reads out.
        last: position of the last timestep. start: position where the slider stands at first.
        slider: data for the script.
    """

    table: Table
    outputs: list[tuple[str, str]]
    last: int
    start: int
    slider: dict[str, Any]


def curve_values(curve: Any) -> CurveValues:
    """The section for a curve."""
    values = {name: np.asarray(getattr(curve, name), dtype=np.float64) for name in COLUMNS}
    errors = {name: getattr(curve, f"{name}_error") for name in COLUMNS if hasattr(curve, f"{name}_error")}
    last = len(values["t"]) - 1
    chosen = np.unique(np.linspace(0, last, min(MAX_ROWS, last + 1)).round().astype(int))
    rows = [[number_cell(values[name][k], time if name == "t" else number) for name in COLUMNS] for k in chosen]
    start = int(np.argmin(np.abs(values["t"] - curve.half.t))) if math.isfinite(curve.half.t) else 0
    slider = {
        "columns": {name: [_rounded(v, VALUE_DIGITS) for v in array] for name, array in values.items()},
        "errors": {name: [_rounded(v, ERROR_DIGITS) for v in array] for name, array in errors.items()},
        "half": float(curve.half.t),
        "saturation": float(curve.saturation.t),
    }
    table = Table(f"{len(chosen)} of {last + 1} timesteps", tuple(COLUMNS.values()), rows)
    return CurveValues(table, [("stage", "stage"), *COLUMNS.items()], last, start, json_safe(slider))


def _rounded(value: float, digits: int) -> float | str:
    """A number with fewer digits; infinity, which JSON does not have, as the text to show."""
    return number(value) if math.isinf(value) else float(f"{value:.{digits}g}")

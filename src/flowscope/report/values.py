"""The values of a curve: a table of some timesteps, and a slider that reads out each of them."""

import math
from typing import Any

import numpy as np

from flowscope.report.markup import json_island, number_cell, outputs, paragraph, section, table
from flowscope.report.numbers import number, time

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
SHOWN = 12  # rows of the table; the slider has them all


def values_section(curve: Any) -> str:
    """The section for a curve."""
    values = {name: np.asarray(getattr(curve, name), dtype=np.float64) for name in COLUMNS}
    errors = {name: getattr(curve, f"{name}_error") for name in COLUMNS if hasattr(curve, f"{name}_error")}
    last = len(values["t"]) - 1
    chosen = np.unique(np.linspace(0, last, min(SHOWN, last + 1)).round().astype(int))
    rows = [[number_cell(values[name][k], time if name == "t" else number) for name in COLUMNS] for k in chosen]
    start = int(np.argmin(np.abs(values["t"] - curve.half.t))) if math.isfinite(curve.half.t) else 0
    intro = (
        "All values at a time; ± is one standard error. The gap is a mean over coordinates; total variance and "
        "divergence are sums over them."
    )
    data = {
        "columns": {name: [_rounded(v, 6) for v in array] for name, array in values.items()},
        "errors": {name: [_rounded(v, 3) for v in array] for name, array in errors.items()},
        "half": float(curve.half.t),
        "saturation": float(curve.saturation.t),
    }
    shown = table(f"{len(chosen)} of {last + 1} timesteps", tuple(COLUMNS.values()), rows)
    return section("values", "Values", paragraph(intro), _slider(last, start), shown, json_island("curve-data", data))


def _rounded(value: float, digits: int) -> float | str:
    """For the script: fewer digits, and infinity, which JSON does not have, as the text to show."""
    return number(value) if math.isinf(value) else float(f"{value:.{digits}g}")


def _slider(last: int, start: int) -> str:
    slider = f'<input type="range" id="moment" min="0" max="{last}" step="1" value="{start}">'
    shown = outputs("moment", [("stage", "stage"), *COLUMNS.items()])
    return f'<div class="control" hidden><label for="moment">Time t</label>{slider}{shown}</div>'

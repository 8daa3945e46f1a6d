"""The page of a sweep: where the boundaries lie as the training set changes."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from flowscope.core.files import write_files
from flowscope.figures import sweep_figure
from flowscope.report.elements import Cell, Table, figure_and_files, interval_cell, name_cell, number_cell
from flowscope.report.formatting import Interval, number, relative_error, signed_percent, time
from flowscope.report.page import render
from flowscope.report.plain_text import without_paths
from flowscope.report.provenance import provenance

OVER = {  # what is swept, and what stands before one value of it
    "N": ("number of points", "N = "),
    "D": ("dimension", "D = "),
    "classes": ("class", "class "),
    "resolution": ("resolution", "resolution "),
}


def sweep_files(result: Any) -> dict[str, bytes | str]:
    """sweep.png, sweep.svg and index.html, by name.

    Args:
        result: a sweep: `over`, `values`, `names`, `curves` and, for each value, `half`, `saturation` with `_low` and
            `_high`, `predicted`, `predicted_saturation`, `predicted_plain` and `deficit`; `training_set`, `settings`,
            `provenance`, `notes` and `to_files`.

    Example:
        >>> from flowscope.report import sweep_files
        >>> sorted(sweep_files(result))  # doctest: +SKIP
        ['index.html', 'sweep.png', 'sweep.svg']
    """
    boundaries = _boundaries(result)
    alt = f"Boundaries against the {_over(result)}. {boundaries} The table has all values."
    image, files = figure_and_files("sweep", lambda theme: sweep_figure(result, theme), alt)
    html = render(
        "sweep.html.j2",
        title=f"flowscope sweep: {without_paths(str(result.training_set.get('name', 'points')))}",
        subtitle=f"How the two stages move with the {_over(result)}",
        result=result,
        boundaries=boundaries,
        prediction=_prediction(result),
        image=image,
        table=_table(result),
        provenance=provenance(result),
    )
    return {**files, "index.html": html}


def write_sweep(result: Any, directory: str | os.PathLike[str]) -> Path:
    """Write `sweep_files` into a folder, whole or not at all; returns the path of index.html.

    Raises:
        OutputError: the files cannot be written.

    Example:
        >>> from flowscope.report import write_sweep
        >>> write_sweep(result, "runs/sweep")  # doctest: +SKIP
        PosixPath('runs/sweep/index.html')
    """
    write_files(directory, sweep_files(result))
    return Path(directory) / "index.html"


def _over(result: Any) -> str:
    return OVER.get(result.over, (str(result.over), ""))[0]


def _boundaries(result: Any) -> str:
    """For which values navigation ends earliest and latest."""
    half, labels = np.asarray(result.half, dtype=np.float64), result.names
    there = np.flatnonzero(np.isfinite(half))
    if len(there) == 0:
        return "The end of navigation was found for none of the values."
    low, high = there[half[there].argmin()], there[half[there].argmax()]
    at = OVER.get(result.over, (str(result.over), f"{result.over} "))[1]
    words = (
        f"Navigation ends earliest, at t = {time(half[low])}, for {at}{labels[low]}, and latest, at "
        f"t = {time(half[high])}, for {at}{labels[high]}."
    )
    missing = [labels[k] for k in range(len(half)) if not math.isfinite(half[k])]
    return words + (f" It was not found for {', '.join(missing)}." if missing else "")


def _prediction(result: Any) -> str:
    """How far the predictions are from the measurements."""
    errors = np.asarray(result.predicted, dtype=np.float64) / np.asarray(result.half, dtype=np.float64) - 1
    errors = np.abs(errors[np.isfinite(errors)])
    if len(errors) == 0:
        return "No value has both a measured and a predicted boundary."
    return f"The predicted half is at most {number(100 * float(errors.max()), 3)} % from the measured one."


def _table(result: Any) -> Table:
    """A row for each value."""
    columns = (
        *(_over(result), "half", "95 % interval", "predicted half", "error", "half by log N", "deficit (nats)"),
        *("saturation", "predicted saturation", "error"),
    )
    rows = [_row(result, k) for k in range(len(result.names))]
    return Table("Boundaries; a heading sorts", columns, rows, sortable=True)


def _row(result: Any, k: int) -> list[Cell]:
    label = result.names[k]
    half = Interval(*(float(getattr(result, name)[k]) for name in ("half", "half_low", "half_high")))
    predicted, settles, settling = (
        float(values[k]) for values in (result.predicted, result.saturation, result.predicted_saturation)
    )
    return [
        name_cell(label) if result.over == "classes" else Cell(label, float(result.values[k])),
        number_cell(half.t, time),
        interval_cell(half),
        number_cell(predicted, time),
        number_cell(relative_error(predicted, half.t), signed_percent),
        number_cell(float(result.predicted_plain[k]), time),
        number_cell(float(result.deficit[k]), lambda nats: number(nats, 2)),
        number_cell(settles, time),
        number_cell(settling, time),
        number_cell(relative_error(settling, settles), signed_percent),
    ]

"""The page of a sweep: where the boundaries lie as the training set changes."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from flowscope.core.files import write_files
from flowscope.figures import DARK, LIGHT, sweep_figure, to_png, to_svg
from flowscope.report.markup import Cell, number_cell, paragraph, section, table, text, themed_image, without_paths
from flowscope.report.numbers import Interval, interval, number, signed_percent, time
from flowscope.report.page import page
from flowscope.report.tables import notes_section, provenance_section, relative_error

OVER = {  # what is swept, and how one value of it is called
    "N": ("number of points", "N = "),
    "D": ("dimension", "D = "),
    "classes": ("class", "class "),
    "resolution": ("resolution", "resolution "),
}


def sweep_files(result: Any) -> dict[str, bytes | str]:
    """sweep.png, sweep.svg and index.html, by name.

    Args:
        result: a sweep: `over`, `values`, `names` and, for each value, `half`, `saturation` with `_low` and `_high`,
            `predicted` and `predicted_plain`; `training_set`, `settings`, `provenance`, `notes` and `to_files`.
    """
    figure = sweep_figure(result, LIGHT)
    svg = to_svg(figure)
    sections = (
        _figure(result, svg, to_svg(sweep_figure(result, DARK))),
        _table(result),
        notes_section(result),
        provenance_section(result),
    )
    name = without_paths(str(result.training_set.get("name", "points")))
    subtitle = f"How the two stages move with the {_over(result)}"
    html = page(f"flowscope sweep: {name}", subtitle, "\n".join(filter(None, sections)))
    return {"sweep.png": to_png(figure), "sweep.svg": svg, "index.html": html}


def write_sweep(result: Any, directory: str | os.PathLike[str]) -> Path:
    """Write `sweep_files` into a folder, whole or not at all; returns the path of index.html.

    Raises:
        OutputError: the files cannot be written.
    """
    write_files(directory, sweep_files(result))
    return Path(directory) / "index.html"


def _over(result: Any) -> str:
    return OVER.get(result.over, (str(result.over), ""))[0]


def _figure(result: Any, light: bytes, dark: bytes) -> str:
    meaning = (
        "Navigation ends at half, where the mean top-1 weight crosses 0.5; the transition ends at saturation, where it "
        "crosses 0.99. Bars are 95 % intervals; predictions come from the spectrum, without any oracle evaluation."
    )
    alt = f"Boundaries against the {_over(result)}. {_finding(result)} The table has all values."
    image = themed_image(light, dark, "image/svg+xml", alt)
    shown = f"<figure>{image}<figcaption>{text(meaning)}</figcaption></figure>"
    return section("sweep", "The boundaries", paragraph(_finding(result), _trust(result)), shown)


def _finding(result: Any) -> str:
    """From where to where navigation's end moved."""
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


def _trust(result: Any) -> str:
    """How far predictions were from measurements."""
    errors = np.asarray(result.predicted, dtype=np.float64) / np.asarray(result.half, dtype=np.float64) - 1
    errors = np.abs(errors[np.isfinite(errors)])
    if len(errors) == 0:
        return "Nothing was both measured and predicted."
    return f"The prediction is at most {number(100 * float(errors.max()), 3)} % from the measurement."


def _table(result: Any) -> str:
    rows = []
    for k, label in enumerate(result.names):
        half = Interval(*(float(getattr(result, name)[k]) for name in ("half", "half_low", "half_high")))
        predicted = float(result.predicted[k])
        name = Cell(label, label if result.over == "classes" else float(result.values[k]))
        cells = [number_cell(half.t, time), Cell(interval(half), half.low if math.isfinite(half.low) else None)]
        cells += [number_cell(float(result.saturation[k]), time), number_cell(predicted, time)]
        cells += [number_cell(relative_error(predicted, half.t), signed_percent)]
        cells += [number_cell(float(result.predicted_plain[k]), time)]
        rows.append([name, *cells])
    columns = (_over(result), "half", "95 % interval", "saturation", "predicted half", "error", "plain spectrum")
    shown = table("Boundaries; a heading sorts", columns, rows, sortable=True)
    return section("values", "Values", shown)

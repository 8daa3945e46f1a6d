"""Sections that are tables: measured against predicted, by class, and where the numbers come from."""

import json
import math
from typing import Any

from flowscope.report import words
from flowscope.report.markup import (
    Cell,
    bullets,
    cleaned,
    download,
    number_cell,
    pairs,
    paragraph,
    plain,
    section,
    table,
    without_paths,
)
from flowscope.report.numbers import interval, signed_percent, time

CLASS_COLUMNS = ("class", "label", "points", "half", "95 % interval", "saturation", "predicted half")


def prediction_section(curve: Any) -> str:
    """The measured end of navigation beside the predicted ones."""
    half = curve.half.t
    named = (("measured", half), ("clustered spectrum", curve.predicted), ("plain spectrum", curve.predicted_plain))
    rows = []
    for name, value in named:
        error = Cell("", None) if name == "measured" else number_cell(relative_error(value, half), signed_percent)
        rows.append([Cell(name, name), number_cell(value, time), error])
    shown = table("The end of navigation, measured and predicted", ("by", "t", "error"), rows)
    return section("prediction", "Measured and predicted", paragraph(words.prediction(curve)), shown)


def relative_error(predicted: float, measured: float) -> float:
    """predicted/measured - 1, NaN where that means nothing."""
    return predicted / measured - 1 if measured > 0 else math.nan


def classes_section(curve: Any) -> str:
    """The boundaries of each class; nothing for an unconditional curve."""
    if curve.per_class is None:
        return ""
    rows = [
        [
            Cell(str(c.name), str(c.name)),
            Cell(str(c.label), c.label),
            Cell(f"{c.points:,}", c.points),
            number_cell(c.half.t, time),
            Cell(interval(c.half), c.half.low if math.isfinite(c.half.low) else None),
            number_cell(c.saturation.t, time),
            number_cell(c.predicted, time),
        ]
        for c in curve.per_class
    ]
    intro = (
        "To a network that is given the label each class is a training set of its own. Few points bring its end of "
        "navigation forward; little variety among them puts it off."
    )
    shown = table("Boundaries by class; a heading sorts", CLASS_COLUMNS, rows, sortable=True)
    return section("classes", "By class", paragraph(intro), shown)


def notes_section(result: Any) -> str:
    """What the study had to say about anything undefined."""
    return section("notes", "Notes", bullets(without_paths(note) for note in result.notes)) if result.notes else ""


def provenance_section(result: Any, cost: str = "Versions and cost (nfe: oracle evaluations)") -> str:
    """Training set, settings, versions, and the result's own tables and numbers to download.

    Args:
        result: with the dictionaries training_set, settings and provenance, and with to_files.
        cost: caption of the table of versions.
    """
    intro = (
        "The digest names the points, labels, weights and normalisation; the same digest, settings and seed give these "
        "numbers again."
    )
    data = dict(result.training_set)
    variants = data.pop("variants", None)
    about = pairs("Training set", data) if variants is None else ""
    tables = (
        about,
        pairs("Settings", result.settings),
        pairs(cost, result.provenance),
    )
    grid = f'<div class="columns">{"".join(tables)}</div>'
    sets = "" if variants is None else _variants(variants)
    links = "".join(_download(name, source) for name, source in result.to_files().items() if isinstance(source, str))
    return section(
        "provenance", "Where this comes from", paragraph(intro), sets, grid, f'<p class="downloads">{links}</p>'
    )


def _variants(variants: list[dict[str, Any]]) -> str:
    """The training sets of a sweep, a row each."""
    columns = ("name", "N", "distinct", "shape", "digest")
    rows = [[Cell(plain(v[c]), v[c] if c in ("N", "distinct") else plain(v[c])) for c in columns] for v in variants]
    return table("Training sets", columns, rows)


def _download(name: str, source: str) -> str:
    """A link to a file kept in the page; absolute paths that JSON may hold are cut as elsewhere."""
    if not name.endswith(".json"):
        return download(name, source.encode(), "text/csv", f"Download {name}")
    shown = json.dumps(cleaned(json.loads(source)), indent=1, allow_nan=False)
    return download(name, shown.encode(), "application/json", f"Download {name}")

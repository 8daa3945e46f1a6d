"""The page of a stage curve."""

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from flowscope.core.files import write_files
from flowscope.curve.boundaries import OtherBoundary
from flowscope.curve.pictures import Pictures
from flowscope.figures import stage_figure
from flowscope.report import prose
from flowscope.report.elements import Cell, Table, figure_and_files, interval_cell, name_cell, number_cell
from flowscope.report.finding import BADGES
from flowscope.report.formatting import percent, relative_error, signed_percent, time
from flowscope.report.model import ModelPart, model_sections
from flowscope.report.page import render
from flowscope.report.pictures import pictures_part
from flowscope.report.provenance import provenance
from flowscope.report.schedule import schedule
from flowscope.report.value_table import curve_values

CLASS_COLUMNS = (
    *("class", "label", "points", "half", "95 % interval", "predicted half"),
    *("saturation", "95 % interval", "predicted saturation"),
)


class Stretch(NamedTuple):
    """A stage on the bar of time: its name, and from when to when it lasts."""

    stage: str
    start: float
    end: float


def stages_files(
    curve: Any,
    pictures: Pictures | None = None,
    model: ModelPart | None = None,
    other: OtherBoundary | None = None,
) -> dict[str, bytes | str]:
    """stages.png, stages.svg and index.html, by name.

    Args:
        curve: a :class:`flowscope.StageCurve`, or an object with its fields. Its own `to_files` makes CSV and JSON.
        pictures: of the same oracle; None leaves pictures and training images out, and the page says so.
        model: what is to be shown of a model that was trained on the same points.
        other: of labelled points the boundary that the curve did not measure, for a word on which one to take.

    Example:
        >>> import torch
        >>> import flowscope as fs
        >>> curve = fs.stages(torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), timesteps=6, probes=16)
        >>> from flowscope.report import stages_files
        >>> sorted(stages_files(curve))
        ['index.html', 'stages.png', 'stages.svg']
    """
    image, files = figure_and_files("stages", lambda theme: stage_figure(curve, theme), prose.alt_text(curve))
    given = "conditional on the label" if curve.conditional else "unconditional"
    html = render(
        "stages.html.j2",
        title=f"flowscope stages: {prose.name_of(curve)}",
        subtitle=f"{prose.describe(curve.training_set)}; {curve.settings['path']} path, {given}",
        prose=prose,
        badges=BADGES,
        curve=curve,
        image=image,
        bar=_bar(curve),
        model=model_sections(model),
        pictures=pictures_part(curve, pictures),
        schedule=schedule(curve),
        predictions=_prediction_table(curve),
        classes=_class_table(curve),
        boundaries=prose.boundaries(curve, other),
        values=curve_values(curve),
        provenance=provenance(curve),
    )
    return {**files, "index.html": html}


def write_stages(
    curve: Any, directory: str | os.PathLike[str], pictures: Pictures | None = None, model: ModelPart | None = None
) -> Path:
    """Write `stages_files` into a folder, whole or not at all; returns the path of index.html.

    Raises:
        OutputError: the files cannot be written.

    Example:
        >>> from flowscope.report import write_stages
        >>> write_stages(curve, "runs/curve")  # doctest: +SKIP
        PosixPath('runs/curve/index.html')
    """
    write_files(directory, stages_files(curve, pictures, model))
    return Path(directory) / "index.html"


def _bar(curve: Any) -> dict[str, Any]:
    """Time from 0 to 1 as one bar: its stretches, and what it shows in words."""
    half = curve.half.t
    end = curve.saturation.t if math.isfinite(curve.saturation.t) else 1.0
    all_three = (Stretch("navigation", 0.0, half), Stretch("transition", half, end), Stretch("refinement", end, 1.0))
    shown = [stretch for stretch in all_three if stretch.end > stretch.start]
    told = ", ".join(f"{stretch.stage} {percent(stretch.end - stretch.start)}" for stretch in shown)
    return {"stretches": shown, "label": f"Time from 0 to 1: {told}"}


def _prediction_table(curve: Any) -> Table:
    """The measured boundaries beside the predicted ones."""
    half, saturation = curve.half.t, curve.saturation.t
    rows = [
        [name_cell(name), number_cell(value, time), _error_cell(value, truth)]
        for name, value, truth in (
            ("half, measured", half, math.nan),
            ("half, by the finite-N threshold", curve.predicted, half),
            ("half, by log N", curve.predicted_plain, half),
            ("saturation, measured", saturation, math.nan),
            ("saturation, by the finite-N threshold", curve.predicted_saturation, saturation),
        )
    ]
    return Table("The boundaries, measured and predicted", ("boundary", "t", "error"), rows)


def _error_cell(value: float, truth: float) -> Cell:
    """The error of a prediction; empty where there is nothing to hold it against."""
    return Cell("", None) if math.isnan(truth) else number_cell(relative_error(value, truth), signed_percent)


def _class_table(curve: Any) -> Table | None:
    """The boundaries of each class; None for an unconditional curve."""
    if curve.per_class is None:
        return None
    rows = [
        [
            name_cell(str(c.name)),
            Cell(str(c.label), c.label),
            Cell(f"{c.points:,}", c.points),
            number_cell(c.half.t, time),
            interval_cell(c.half),
            number_cell(c.predicted, time),
            number_cell(c.saturation.t, time),
            interval_cell(c.saturation),
            number_cell(c.predicted_saturation, time),
        ]
        for c in curve.per_class
    ]
    return Table("Boundaries by class; a heading sorts", CLASS_COLUMNS, rows, sortable=True)

"""The page of a finding: what the paper found, what was found here, whether the two agree, and why."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowscope.core.files import write_files
from flowscope.data.pixels import is_image
from flowscope.figures import drawn_panels, finding_figure, gallery_figure, to_png, what_of
from flowscope.report import prose
from flowscope.report.elements import Cell, Table, ThemedImage, figure_and_files, themed_png
from flowscope.report.formatting import number, with_error
from flowscope.report.page import render
from flowscope.report.plain_text import as_text, without_paths
from flowscope.report.provenance import NETWORK_COST, provenance
from flowscope.studies.bench.finding import grid_names, verdict_in_words

MIN_SORTABLE_ROWS = 4  # from which a table can be sorted
MAX_ROWS = 60  # of a table; the CSV file has all
COMPANIONS = ("_low", "_high", "_error")  # endings of columns that are shown beside the column they belong to
MIN_ERROR_SHOWN = 1e-6  # in the value's own unit; an error below it is rounding
BADGES = {
    "agrees": "agrees with the paper",
    "differs": "differs from the paper",
    "cannot be tested": "cannot be tested here",
    "does not tell memory from denoising": "does not tell memory from denoising",
}


class GalleryPart(NamedTuple):
    """A gallery as a page shows it: its title, its image and that as a file (None if points are no images), a shape."""

    title: str
    image: ThemedImage | None
    shape: str
    grid: bytes | None = None


def finding_files(finding: Any) -> dict[str, bytes | str]:
    """<study>.png, <study>.svg, <study>_grid.png and index.html, by name.

    There is no figure where the finding has no panels with values, and no grid where it has no images. Further grids
    are <study>_grid_2.png and so on.

    Args:
        finding: a :class:`flowscope.studies.bench.finding.Finding`. Its own `to_files` makes CSV, JSON and images.

    Example:
        >>> from flowscope.report import finding_files
        >>> sorted(finding_files(finding))  # doctest: +SKIP
        ['index.html', 'norm.png', 'norm.svg']
    """
    image: ThemedImage | None = None
    files: dict[str, bytes | str] = {}
    if drawn_panels(finding):
        image, files = figure_and_files(
            finding.study, lambda theme: finding_figure(finding, theme), figure_alt(finding)
        )
    galleries = [gallery_part(gallery, what_of(finding)) for gallery in finding.galleries]
    grids = (part.grid for part in galleries if part.grid is not None)
    files |= dict(zip(grid_names(finding.study, len(galleries)), grids, strict=False))
    question = finding.title if finding.title.endswith(("?", ".", "!")) else f"{finding.title}."
    source = f"{finding.where} of arXiv 2512.02826" if finding.where.startswith(("Fig.", "Tab.")) else finding.where
    html = render(
        "finding.html.j2",
        title=f"flowscope study {finding.study}: {prose.name_of(finding)}",
        subtitle=f"{question} {prose.describe(dict(finding.training_set))}; {source}",
        finding=finding,
        badge=verdict_in_words(BADGES[finding.verdict], finding.provenance),
        image=image,
        errors=draws_errors(finding),
        galleries=galleries,
        tables=[table_of(name, columns) for name, columns in finding.tables.items() if columns],
        provenance=provenance(finding, NETWORK_COST),
    )
    return {**files, "index.html": html}


def write_finding(finding: Any, directory: str | os.PathLike[str]) -> Path:
    """Write `finding_files` into a folder, whole or not at all; returns the path of index.html.

    Raises:
        OutputError: the files cannot be written.

    Example:
        >>> from flowscope.report import write_finding
        >>> write_finding(finding, "runs/norm")  # doctest: +SKIP
        PosixPath('runs/norm/index.html')
    """
    write_files(directory, finding_files(finding))
    return Path(directory) / "index.html"


def figure_alt(finding: Any) -> str:
    """What the panels show, for those who do not see them."""
    told = []
    for panel in drawn_panels(finding):
        lines = []
        for series in panel.series:
            y = np.asarray(finding.tables[series.table][series.y], dtype=np.float64)
            y = y[np.isfinite(y)]
            ends = f"from {number(float(y[0]))} to {number(float(y[-1]))}" if len(y) else "undefined"
            lines.append(f"{series.label} {ends}")
        lines += [f"{mark.name} at {number(mark.at)}" for mark in panel.marks]
        told.append(f"{panel.title} ({panel.y_label} against {panel.x_label}): {'; '.join(lines)}.")
    return without_paths(" ".join(told))


def draws_errors(finding: Any) -> bool:
    """Whether the panels draw errors or intervals."""
    series = [series for panel in finding.panels for series in panel.series]
    return any(one.error is not None or one.low is not None for one in series)


def gallery_part(gallery: Any, what: str = "") -> GalleryPart:
    """A gallery as one image, if its points are images, under what it is of."""
    shape = np.asarray(gallery.images).shape
    of_point = " × ".join(map(str, shape[2:]))
    if len(shape) != 5 or 0 in shape or not is_image(shape[2:]):
        return GalleryPart(gallery.title, None, of_point)
    rows, columns = (", ".join(filter(None, names)) for names in (gallery.rows, gallery.columns))
    alt = f"{gallery.title}: {shape[0]} rows ({rows}) of {shape[1]} images ({columns})."
    image = themed_png(lambda theme: gallery_figure(gallery, theme, what), without_paths(alt))
    return GalleryPart(gallery.title, image, of_point, to_png(gallery_figure(gallery, title=what)))


def table_of(name: str, columns: Mapping[str, Any]) -> Table:
    """A table of a finding; a column of errors or of the ends of intervals is shown beside its values."""
    count = len(next(iter(columns.values())))
    chosen = np.unique(np.linspace(0, count - 1, min(count, MAX_ROWS)).round().astype(int))
    companions = {key + end for key in columns for end in COMPANIONS}
    shown = [key for key in columns if key not in companions and not _undefined(columns[key])]
    rows = [[_cell(columns, key, k) for key in shown] for k in chosen]
    part = f"{len(rows)} of {count} rows, the CSV file has all" if len(rows) < count else f"{count} rows"
    sortable = len(rows) >= MIN_SORTABLE_ROWS
    caption = f"{name.replace('_', ' ')}: {part}" + ("; a heading sorts" if sortable else "")
    return Table(caption, [key.replace("_", " ") for key in shown], rows, sortable)


def _undefined(values: Any) -> bool:
    """Whether a column says nothing at all."""
    return len(values) > 1 and all(isinstance(v, (float, np.floating)) and math.isnan(v) for v in values)


def _cell(columns: Mapping[str, Any], key: str, row: int) -> Cell:
    """A value with its error or its interval, where the table has columns of them."""
    value = columns[key][row]
    value = value.item() if isinstance(value, np.generic) else value
    if value is None:
        return Cell("undefined", None)
    if isinstance(value, (bool, str)):
        return Cell(as_text(value), as_text(value))
    if not math.isfinite(value):
        return Cell(number(float(value)), None)
    low, high, error = (float(columns[key + end][row]) if key + end in columns else math.nan for end in COMPANIONS)
    if math.isfinite(error) and error >= MIN_ERROR_SHOWN:
        return Cell(with_error(float(value), error), float(value))
    if math.isfinite(low) and math.isfinite(high):
        return Cell(f"{_short(value)} ({_short(low)} to {_short(high)})", float(value))
    return Cell(_short(value), float(value))


def _short(value: float) -> str:
    """In four digits at most: a chosen time is 0.1, and no more digits are meant."""
    whole = isinstance(value, int) or (value == round(value) and abs(value) < 1e6)
    return (f"{value:,.0f}" if whole else f"{value:.4g}").replace("-", "−")

"""The page of a finding: what the paper found, what was found here, whether the two agree, and why."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flowscope.core.files import write_files
from flowscope.data.pixels import is_image
from flowscope.figures import DARK, LIGHT, finding_figure, gallery_figure, to_png, to_svg
from flowscope.report import words
from flowscope.report.markup import (
    Cell,
    paragraph,
    plain,
    scrolling,
    section,
    table,
    text,
    themed_image,
    without_paths,
)
from flowscope.report.numbers import number, with_error
from flowscope.report.page import page
from flowscope.report.tables import notes_section, provenance_section

DPI = 110  # of galleries
SORTABLE = 4  # rows from which a table can be sorted
MOST = 60  # rows of a table that the page shows
BESIDE = ("_low", "_high", "_error")  # columns that are shown beside the one they are of
SMALL = 1e-6  # an error below this is rounding, and is not shown
BADGES = {
    "agrees": "agrees with the paper",
    "differs": "differs from the paper",
    "cannot be tested": "cannot be tested here",
    "no claim": "the paper makes no claim",
}
COST = "Versions and cost (nfe: network evaluations)"


def finding_files(finding: Any) -> dict[str, bytes | str]:
    """<study>.png, <study>.svg and index.html, by name; no figure where the finding has no panels.

    Args:
        finding: a :class:`flowscope.studies.bench.finding.Finding`. Its own `to_files` makes CSV, JSON and images.
    """
    files: dict[str, bytes | str] = {}
    shown = ""
    if finding.panels:
        figure = finding_figure(finding, LIGHT)
        svg = to_svg(figure)
        files = {f"{finding.study}.png": to_png(figure), f"{finding.study}.svg": svg}
        shown = figure_section(finding, svg, to_svg(finding_figure(finding, DARK)))
    sections = (
        claim_section(finding),
        shown,
        *(gallery_section(gallery, f"gallery{k}") for k, gallery in enumerate(finding.galleries)),
        tables_section(finding),
        notes_section(finding),
        provenance_section(finding, COST),
    )
    question = finding.title if finding.title.endswith(("?", ".", "!")) else f"{finding.title}."
    source = f"{finding.where} of arXiv 2512.02826" if finding.where.startswith(("Fig.", "Tab.")) else finding.where
    subtitle = f"{question} {words.describe(dict(finding.training_set))}; {source}"
    html = page(
        f"flowscope study {finding.study}: {words.name_of(finding)}", subtitle, "\n".join(filter(None, sections))
    )
    return {**files, "index.html": html}


def write_finding(finding: Any, directory: str | os.PathLike[str]) -> Path:
    """Write `finding_files` into a folder, whole or not at all; returns the path of index.html.

    Raises:
        OutputError: the files cannot be written.
    """
    write_files(directory, finding_files(finding))
    return Path(directory) / "index.html"


def badge(verdict: str) -> str:
    """A verdict in words, marked by its colour too."""
    return f'<strong class="badge {text(verdict.replace(" ", "-"))}">{text(BADGES[verdict])}</strong>'


def claim_section(finding: Any, name: str = "finding", title: str = "What was found", after: str = "") -> str:
    """Claim, finding, verdict and why; `after` is HTML."""
    items = (("The paper", finding.claim), ("Here", finding.found), ("Why this verdict", finding.why))
    told = "".join(f"<dt>{text(who)}</dt><dd>{text(without_paths(what))}</dd>" for who, what in items if what)
    return section(name, title, f"<p>{badge(finding.verdict)}</p>", f'<dl class="told">{told}</dl>', after)


def figure_section(finding: Any, light: bytes, dark: bytes, name: str = "figure", title: str = "The figure") -> str:
    """The panels in two schemes, with what they show in words."""
    errors = any(series.error is not None for panel in finding.panels for series in panel.series)
    caption = "Bands and bars of errors are 95 % intervals. " if errors else ""
    caption += "The tables have all values."
    image = themed_image(light, dark, "image/svg+xml", alt_text(finding))
    return section(name, title, f"<figure>{image}<figcaption>{text(caption)}</figcaption></figure>")


def alt_text(finding: Any) -> str:
    """What the panels show, for those who do not see them."""
    told = []
    for panel in finding.panels:
        lines = []
        for series in panel.series:
            y = np.asarray(finding.tables[series.table][series.y], dtype=np.float64)
            y = y[np.isfinite(y)]
            ends = f"from {number(float(y[0]))} to {number(float(y[-1]))}" if len(y) else "undefined"
            lines.append(f"{series.label} {ends}")
        told.append(f"{panel.title} ({panel.y_label} against {panel.x_label}): {'; '.join(lines)}.")
    return without_paths(" ".join(told))


def gallery_section(gallery: Any, name: str) -> str:
    """A gallery as one picture in a frame that scrolls sideways by itself, or why there is none."""
    return section(name, gallery.title, gallery_picture(gallery))


def gallery_picture(gallery: Any) -> str:
    """The picture alone; of a gallery that cannot be drawn, a sentence."""
    shape = np.asarray(gallery.images).shape
    if len(shape) != 5 or 0 in shape or not is_image(shape[2:]):
        return paragraph(f"Points of shape {' × '.join(map(str, shape[2:]))} are not images: there is nothing to show.")
    light, dark = (to_png(gallery_figure(gallery, theme), DPI) for theme in (LIGHT, DARK))
    rows, columns = (", ".join(filter(None, names)) for names in (gallery.rows, gallery.columns))
    alt = f"{gallery.title}: {shape[0]} rows ({rows}) of {shape[1]} images ({columns})."
    image = themed_image(light, dark, "image/png", without_paths(alt))
    return f"<figure>{scrolling(gallery.title, image, 'wide')}</figure>"


def tables_section(finding: Any) -> str:
    """Every table; a column of standard errors is shown beside its values."""
    shown = [_table(name, columns) for name, columns in finding.tables.items() if columns]
    intro = "± is one standard error; what stands in brackets is a 95 % interval."
    return section("values", "Values", paragraph(intro), *shown) if shown else ""


def _table(name: str, columns: Mapping[str, Any]) -> str:
    count = len(next(iter(columns.values())))
    chosen = np.unique(np.linspace(0, count - 1, min(count, MOST)).round().astype(int))
    beside = {key + end for key in columns for end in BESIDE}
    shown = [key for key in columns if key not in beside and not _undefined(columns[key])]
    rows = [[_cell(columns, key, k) for key in shown] for k in chosen]
    part = f"{len(rows)} of {count} rows, the CSV file has all" if len(rows) < count else f"{count} rows"
    sortable = len(rows) >= SORTABLE
    caption = f"{name.replace('_', ' ')}: {part}" + ("; a heading sorts" if sortable else "")
    return table(caption, [key.replace("_", " ") for key in shown], rows, sortable)


def _undefined(values: Any) -> bool:
    """Whether a column says nothing at all."""
    return len(values) > 1 and all(isinstance(v, (float, np.floating)) and math.isnan(v) for v in values)


def _cell(columns: Mapping[str, Any], key: str, row: int) -> Cell:
    """A value with its error or its interval, where the table has columns of them."""
    value = columns[key][row]
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, (bool, str)):
        return Cell("undefined" if value is None else plain(value), None if value is None else plain(value))
    if not math.isfinite(value):
        return Cell(number(float(value)), None)
    low, high, error = (float(columns[key + end][row]) if key + end in columns else math.nan for end in BESIDE)
    if math.isfinite(error) and error >= SMALL:
        return Cell(with_error(float(value), error), float(value))
    if math.isfinite(low) and math.isfinite(high):
        return Cell(f"{_short(value)} ({_short(low)} to {_short(high)})", float(value))
    return Cell(_short(value), float(value))


def _short(value: float) -> str:
    """In four digits at most: a chosen time is 0.1, and no more digits are meant."""
    whole = isinstance(value, int) or (value == round(value) and abs(value) < 1e6)
    return (f"{value:,.0f}" if whole else f"{value:.4g}").replace("-", "−")

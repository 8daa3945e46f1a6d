"""What a study of a model found: its panels as one figure, and each gallery of images as one."""

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowscope.errors import InputError
from flowscope.figures.curve import BAND
from flowscope.figures.pictures import display_range
from flowscope.figures.style import LIGHT, Theme, escape_math, finish, new_figure, styled

FEW = 20  # points up to which each is marked, and its error drawn as a bar rather than as a band
SPACE = 0.82  # of the width of a row's place that its bars fill
MANY = 10  # names under bars from which they stand upright
LETTERS = 16  # in a line of a name under a bar or above a column of images
DASHES = ("-", "--", "-.", ":")
MARKERS = "osD^vP"
CELL, GAP = 0.92, 0.04  # inches: an image with the space around it, and that space
NAMES = 1.35  # inches for the names of rows
TEXT = 0.15  # inches a line of a column's name takes


def finding_figure(finding: Any, theme: Theme = LIGHT) -> Figure:
    """The panels of a finding, two beside one another where there are several.

    Args:
        finding: a result with the fields of :class:`flowscope.studies.finding.Finding`.
        theme: LIGHT or DARK.

    Returns:
        Lines and bars as the panels say; bands and bars of errors are 95 % intervals. Rows that are NaN are left out.

    Raises:
        InputError: the finding has no panels.
    """
    panels = finding.panels
    if not panels:
        raise InputError(f"the finding of {finding.study} has no panels; expected some: read its tables instead")
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    with styled(theme):
        figure = new_figure(4.9 * columns if columns > 1 else 6.8, (3.9 if columns > 1 else 4.6) * rows)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            _panel(axes, panel, finding.tables, theme)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
    return figure


def _panel(axes: Axes, panel: Any, tables: Any, theme: Theme) -> None:
    columns = [tables[s.table] for s in panel.series]
    if panel.kind == "bar" or any(_named(table[s.x]) for s, table in zip(panel.series, columns, strict=True)):
        _bars(axes, panel, columns, theme)
    else:
        for k, (series, table) in enumerate(zip(panel.series, columns, strict=True)):
            _line(axes, series, table, k, theme)
        axes.set_xscale(panel.x_scale)
    if panel.y_scale == "log" and any(np.any(_numbers(t[s.y]) > 0) for s, t in zip(panel.series, columns, strict=True)):
        axes.set_yscale("log", nonpositive="mask")
    axes.set(xlabel=escape_math(panel.x_label), ylabel=escape_math(panel.y_label))
    axes.set_title(_wrapped(panel.title, 46))
    if len(panel.series) > 1:
        axes.legend(loc="best")
    finish(axes, theme)


def _line(axes: Axes, series: Any, table: Any, k: int, theme: Theme) -> None:
    x, y = _numbers(table[series.x]), _numbers(table[series.y])
    colour, dashes = theme.lines[k % len(theme.lines)], DASHES[k % len(DASHES)]
    marker = MARKERS[k % len(MARKERS)] if len(x) <= FEW else None
    label = _wrapped(series.label, 32)
    reach = None if series.error is None else np.nan_to_num(BAND * _numbers(table[series.error]))
    if reach is not None and marker:
        axes.errorbar(
            x, y, yerr=reach, color=colour, linestyle=dashes, marker=marker, markersize=4.5, capsize=3, label=label
        )
        return
    axes.plot(x, y, color=colour, linestyle=dashes, marker=marker, markersize=4.5, label=label)
    if reach is not None:
        axes.fill_between(x, y - reach, y + reach, color=colour, alpha=0.22, linewidth=0)


def _bars(axes: Axes, panel: Any, columns: Sequence[Any], theme: Theme) -> None:
    """A place for each name on the horizontal axis, in order of appearance, and in it a bar for each series."""
    tables = list(zip(panel.series, columns, strict=True))
    names = list(dict.fromkeys(_name(v) for series, table in tables for v in table[series.x]))
    width = SPACE / len(tables)
    for k, (series, table) in enumerate(tables):
        at = np.array([names.index(_name(v)) for v in table[series.x]]) + (k - (len(tables) - 1) / 2) * width
        colour = theme.lines[k % len(theme.lines)]
        y = _numbers(table[series.y])
        for bar in axes.bar(at, np.nan_to_num(y), width, color=colour, label=_wrapped(series.label, 32)):
            bar.set(edgecolor=theme.ground, linewidth=0.8, hatch=("", "//", "..", "xx")[k % 4])
        if series.error is not None:
            reach = np.nan_to_num(BAND * _numbers(table[series.error]))
            axes.errorbar(at, y, yerr=reach, fmt="none", ecolor=theme.ink, capsize=3, elinewidth=1.1)
    axes.set_xticks(range(len(names)), [_wrapped(n, LETTERS) for n in names])
    if len(names) > MANY:
        axes.tick_params(axis="x", labelrotation=90)
    elif len(names) > 5 or any(len(n) > LETTERS for n in names):
        for label in axes.get_xticklabels():
            label.set(rotation=35, ha="right", rotation_mode="anchor")


def _wrapped(name: str, letters: int) -> str:
    """A name in two lines at most."""
    return "\n".join(map(escape_math, wrap(name, letters, max_lines=2, placeholder="…")))


def _numbers(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


def _named(values: Any) -> bool:
    return any(isinstance(v, str) for v in values)


def _name(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def gallery_figure(gallery: Any, theme: Theme = LIGHT) -> Figure:
    """A gallery's images in its rows and columns under their names.

    Args:
        gallery: with `images` (R, C, channels, H, W), `rows` and `columns`. Of one channel or two the first is shown
            as grey, of three or more the first three as red, green and blue. An image with NaN is left empty.
        theme: LIGHT or DARK.

    Raises:
        InputError: the points are no images (channels, H, W).
    """
    images = np.asarray(gallery.images, dtype=np.float64)
    if images.ndim != 5 or 0 in images.shape:
        raise InputError(f"the images of a gallery have shape {images.shape}; expected (R, C, channels, H, W)")
    rows, columns = images.shape[:2]
    above = [_wrapped(name, LETTERS - 2) for name in gallery.columns]
    left, top = (
        (NAMES if any(gallery.rows) else 0.05),
        TEXT * max((1 + name.count("\n") for name in above), default=0) + 0.08,
    )
    with styled(theme):
        width, height = left + columns * CELL, top + rows * CELL
        figure = new_figure(width, height, layout=None)
        axes = figure.add_axes((0, 0, 1, 1))  # one for all, in inches: axes for each picture would take seconds to draw
        axes.set_axis_off()
        span = gallery_span(images)
        for (row, column), image in ((at, images[at]) for at in np.ndindex(rows, columns)):
            x, y = left + column * CELL, top + row * CELL
            if np.isfinite(image).all():
                place = (x, x + CELL - GAP, y + CELL - GAP, y)
                axes.imshow(_pixels(image, span), interpolation="nearest", extent=place, aspect="auto")
        for column, name in enumerate(above):
            x = left + column * CELL + (CELL - GAP) / 2
            axes.text(x, top - 0.04, name, fontsize=8, ha="center", va="bottom")
        for row, name in enumerate(gallery.rows):
            y = top + row * CELL + CELL / 2
            axes.text(left - 0.08, y, _wrapped(name, 18), fontsize=8, ha="right", va="center")
        axes.set(xlim=(0, width), ylim=(height, 0))
    return figure


def gallery_span(images: np.ndarray) -> tuple[float, float]:
    """What is drawn black and white where some images are noise and some reach a little beyond the data's own range."""
    flat = images.reshape(images.shape[0] * images.shape[1], -1)
    flat = flat[np.isfinite(flat).all(1)]
    if len(flat) == 0:
        return 0.0, 1.0
    low, high = float(np.median(flat.min(1))), float(np.median(flat.max(1)))
    slack = 0.1 * max(abs(low), abs(high))
    inner = np.array([low + slack if low < 0 else low, high - slack])
    return display_range(inner if inner[1] > inner[0] else np.array([low, high]))


def _pixels(image: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """(H, W, 3) in [0, 1]."""
    shown = image[:3] if len(image) >= 3 else image[:1].repeat(3, axis=0)
    return np.clip((np.moveaxis(shown, 0, -1) - span[0]) / (span[1] - span[0]), 0, 1)

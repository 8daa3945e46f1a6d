"""What a study of a model found: its panels as one figure."""

import math
from collections.abc import Sequence
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from flowscope.errors import InputError
from flowscope.figures.curve import BAND
from flowscope.figures.style import LIGHT, Theme, escape_math, finish, new_figure, styled

FEW = 12  # points up to which each is marked, and its error drawn as a bar rather than as a band
LETTER, LINE = 0.075, 0.19  # inches: a letter and a line of a legend
CLOSE = 0.5  # of the largest value: where all bars reach beyond it, points on a cut axis show more than bars from 0
SPACE = 0.82  # of the width of a row's place that its bars fill
MANY = 10  # names under bars from which they stand upright
LETTERS = 16  # in a line of a name under a bar or above a column of images
DASHES = ("-", "--", "-.", ":")
MARKERS = "osD^vP"


def finding_figure(finding: Any, theme: Theme = LIGHT) -> Figure:
    """The panels of a finding, two beside one another where there are several.

    Args:
        finding: a result with the fields of :class:`flowscope.studies.bench.finding.Finding`.
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
        width, height = (4.9, 3.7) if columns > 1 else (6.8, 4.4)
        below = [max(_legend_lines(p, width) for p in panels[k * columns : (k + 1) * columns]) for k in range(rows)]
        heights = [height + LINE * lines for lines in below]
        figure = new_figure(width * columns, sum(heights))
        grid = figure.subplots(rows, columns, squeeze=False, height_ratios=heights)
        for axes, panel in zip(grid.flat, panels, strict=False):
            _panel(axes, panel, finding.tables, theme, width)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
    return figure


def _legend_columns(panel: Any, width: float) -> int:
    """How many names of series fit beside one another under a panel of that many inches."""
    letters = max(len(line) for s in panel.series for line in wrapped(s.label, 32).split("\n")) + 4
    return max(1, min(len(panel.series), int((width - 0.6) / (LETTER * letters))))


def _legend_lines(panel: Any, width: float) -> int:
    if len(panel.series) < 2:
        return 0
    tall = max(wrapped(s.label, 32).count("\n") + 1 for s in panel.series)
    return tall * -(-len(panel.series) // _legend_columns(panel, width))


def _panel(axes: Axes, panel: Any, tables: Any, theme: Theme, width: float) -> None:
    columns, below = [tables[s.table] for s in panel.series], 0.0
    if panel.kind == "bar" or any(_named(table[s.x]) for s, table in zip(panel.series, columns, strict=True)):
        below = _bars(axes, panel, columns, theme, width)
    else:
        for k, (series, table) in enumerate(zip(panel.series, columns, strict=True)):
            _line(axes, series, table, k, theme)
        axes.set_xscale(panel.x_scale)
    if panel.y_scale == "log" and any(np.any(_numbers(t[s.y]) > 0) for s, t in zip(panel.series, columns, strict=True)):
        axes.set_yscale("log", nonpositive="mask")
    if panel.y_scale == "symlog":
        axes.set_yscale("symlog", linthresh=1)
    for axis in (axes.xaxis, axes.yaxis):
        _plain_ticks(axis)
    axes.set(xlabel=escape_math(panel.x_label), ylabel=escape_math(panel.y_label))
    axes.set_title(wrapped(panel.title, 46))
    if len(panel.series) > 1:  # under the axes, where it hides no line
        columns_ = _legend_columns(panel, width)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14 - below / 3), ncols=columns_, borderaxespad=0.6)
    finish(axes, theme)


def _plain_ticks(axis: Axis) -> None:
    """Numbers as people write them at the ticks of a logarithmic axis, and not more of them than there is room for."""
    if axis.get_scale() == "symlog":
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if axis.get_scale() != "log":
        return
    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low) if 0 < low < high else 0
    if decades < 0.7:
        axis.set_major_locator(MaxNLocator(5))
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,), numticks=9))
    axis.set_minor_locator(NullLocator())
    if decades < 6:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _reach(series: Any, table: Any, y: np.ndarray) -> np.ndarray | None:
    """(2, n) how far the 95 % interval of a series reaches below and above its values; None where it has none."""
    if series.error is not None:
        return np.tile(np.nan_to_num(BAND * _numbers(table[series.error])), (2, 1))
    if series.low is None or series.high is None:
        return None
    low, high = _numbers(table[series.low]), _numbers(table[series.high])
    known = np.isfinite([low, y, high]).all(0)
    return np.stack([np.subtract(b, a, out=np.zeros_like(y), where=known) for a, b in ((low, y), (y, high))]).clip(0)


def _line(axes: Axes, series: Any, table: Any, k: int, theme: Theme) -> None:
    x, y = _numbers(table[series.x]), _numbers(table[series.y])
    colour, dashes = theme.lines[k % len(theme.lines)], DASHES[k % len(DASHES)]
    marker = MARKERS[k % len(MARKERS)] if len(x) <= FEW else None
    label = wrapped(series.label, 32)
    reach = _reach(series, table, y)
    if reach is not None and marker:
        axes.errorbar(
            x, y, yerr=reach, color=colour, linestyle=dashes, marker=marker, markersize=4.5, capsize=3, label=label
        )
        return
    axes.plot(x, y, color=colour, linestyle=dashes, marker=marker, markersize=4.5, label=label)
    if reach is not None:
        axes.fill_between(x, y - reach[0], y + reach[1], color=colour, alpha=0.22, linewidth=0)


def _bars(axes: Axes, panel: Any, columns: Sequence[Any], theme: Theme, width: float) -> float:
    """A place for each name on the horizontal axis, in order of appearance, and in it a bar for each series.

    Returns how many inches the names take below the axis, beyond a line.
    """
    tables = list(zip(panel.series, columns, strict=True))
    names = list(dict.fromkeys(_name(v) for series, table in tables for v in table[series.x]))
    wide = SPACE / len(tables)
    points = _close(tables)
    for k, (series, table) in enumerate(tables):
        at = np.array([names.index(_name(v)) for v in table[series.x]]) + (k - (len(tables) - 1) / 2) * wide
        colour = theme.lines[k % len(theme.lines)]
        y = _numbers(table[series.y])
        label, reach = wrapped(series.label, 32), _reach(series, table, y)
        if points:
            axes.errorbar(at, y, yerr=reach, fmt=MARKERS[k % len(MARKERS)], color=colour, capsize=3, label=label)
            continue
        for bar in axes.bar(at, np.nan_to_num(y), wide, color=colour, label=label):
            bar.set(edgecolor=theme.ground, linewidth=0.8, hatch=("", "//", "..", "xx")[k % 4])
        if reach is not None:
            axes.errorbar(at, y, yerr=reach, fmt="none", ecolor=theme.ink, capsize=3, elinewidth=1.1)
    axes.set(xlim=(-0.5, len(names) - 0.5), axisbelow=True)
    if not any(np.any(np.nan_to_num(_numbers(table[series.y]))) for series, table in tables):
        axes.set_ylim(0, None if axes.get_ylim()[1] > 0.1 else 1)  # all bars are of no height
    return _name_places(axes, names, width)


def _name_places(axes: Axes, names: Sequence[str], width: float) -> float:
    """Names under their places, turned where they are too long for them; returns how many inches they take."""
    room = int((width - 0.75) / len(names) / LETTER)
    shown = [wrapped(n.replace("+", "+ "), max(min(room, LETTERS), 8)).replace("+ ", "+") for n in names]
    if max((len(line) for name in shown for line in name.split("\n")), default=0) <= room:
        axes.set_xticks(range(len(names)), shown)
        return LINE * max((name.count("\n") for name in shown), default=0)
    shown = [wrapped(n, LETTERS) for n in names]
    longest = max(len(line) for name in shown for line in name.split("\n"))
    axes.set_xticks(range(len(names)), shown)
    if len(names) > MANY:
        axes.tick_params(axis="x", labelrotation=90)
        return LETTER * longest
    for tick in axes.get_xticklabels():
        tick.set(rotation=35, ha="right", rotation_mode="anchor")
    return LETTER * longest * math.sin(math.radians(35)) + LINE


def _close(tables: Sequence[Any]) -> bool:
    """Whether all values lie so close together, far from 0, that bars from 0 would look alike."""
    ends = []
    for series, table in tables:
        y = _numbers(table[series.y])
        reach = _reach(series, table, y)
        low, high = (y, y) if reach is None else (y - reach[0], y + reach[1])
        ends += [*low[np.isfinite(low)], *high[np.isfinite(high)]]
    return bool(ends) and min(ends) > CLOSE * max(ends)


def wrapped(name: str, letters: int) -> str:
    """A name in two lines at most."""
    return "\n".join(map(escape_math, wrap(name, letters, max_lines=2, placeholder="…")))


def _numbers(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


def _named(values: Any) -> bool:
    return any(isinstance(v, str) for v in values)


def _name(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"

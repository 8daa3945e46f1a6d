"""The panels of a finding as one figure."""

import math
import re
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowscope.errors import InputError
from flowscope.figures.scales import set_scale
from flowscope.figures.style import (
    BAND_ALPHA,
    BOUNDARY_LINES,
    BOUNDARY_WIDTH,
    LIGHT,
    STANDARD_ERRORS_95,
    Theme,
    add_title,
    draw_band,
    escape_math,
    finish,
    name_of,
    new_figure,
    styled,
    title_of,
)

ERROR_WIDTH = 1.1  # of the lines of error bars, in points
MAX_DENSE_BANDS = 4  # more bands in a panel are half as dense
MAX_MARKED_POINTS = 12  # a line of more points has no markers, and bands in place of error bars
LETTER_INCHES, LINE_INCHES = 0.075, 0.19  # a letter and a line of a legend
MIN_SHARE_OF_LARGEST = 0.5  # if all bars are longer than this share of the largest, points replace them on a cut axis
BAR_SHARE = 0.82  # of the width of a row's place
MAX_SLANTED_NAMES = 10  # more names under bars stand upright
NAME_LETTERS = 16  # in a line of a name under a bar or above a column of images
TURNED_LETTERS = 24  # in a line of a name that is turned
LEGEND_LETTERS = 32  # in a line of a legend
DASHES = ("-", "--", "-.", ":")
MARKERS = "osD^vP"
MAX_MODELS = 3  # named in a title
STEP_OF_MODEL = r", step \d+$"  # in the name of a snapshot
MARK_SIZE = 7.5  # points of the name of a mark
LETTER_SHARE = 0.016  # of the axis, that a letter of the name of a mark takes
TITLE_PAD, TITLE_PAD_MARKED = 6.0, 14.0  # points between the axes and their title: the names of marks are there


def finding_figure(finding: Any, theme: Theme = LIGHT) -> Figure:
    """Draw the panels of a finding, two in a row.

    Args:
        finding: a result with the fields of :class:`flowscope.studies.bench.finding.Finding`.
        theme: LIGHT or DARK.

    Returns:
        Lines and bars as the panels say, under the names of the set and the models. Bands and error bars are 95 %
        intervals. Rows that are NaN are left out, and panels without any other.

    Raises:
        InputError: the finding has no panels with values.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.figures import finding_figure
        >>> from flowscope.studies import switch_study
        >>> oracle = fs.Oracle(fs.load("digits", subset=50))
        >>> type(finding_figure(switch_study(oracle, oracle, n=4, steps=4, times=[0.5]))).__name__
        'ShownFigure'
    """
    panels = drawn_panels(finding)
    if not panels:
        raise InputError(f"the finding of {finding.study} has no panels; expected some: read its tables instead")
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    with styled(theme):
        width, height = (4.9, 3.7) if columns > 1 else (6.8, 4.4)
        below = [max(_legend_lines(p, width) for p in panels[k * columns : (k + 1) * columns]) for k in range(rows)]
        heights = [height + LINE_INCHES * lines for lines in below]
        figure = new_figure(width * columns, sum(heights))
        add_title(figure, what_of(finding), x=0.01)
        grid = figure.subplots(rows, columns, squeeze=False, height_ratios=heights)
        for axes, panel in zip(grid.flat, panels, strict=False):
            _draw_panel(axes, panel, finding.tables, theme, width)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
    return figure


def drawn_panels(finding: Any) -> list[Any]:
    """The panels of a finding that have a value to draw.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.figures import drawn_panels
        >>> from flowscope.studies import explain_study
        >>> oracle = fs.Oracle(fs.load("gaussian:N=60,D=4"))
        >>> [panel.title for panel in drawn_panels(explain_study(oracle, oracle, n=16, steps=2))][0]
        'MSE: training states'
    """

    def has_values(panel: Any) -> bool:
        columns = (_numbers(finding.tables[s.table][s.y]) for s in panel.series)
        return any(bool(np.isfinite(values).any()) for values in columns)

    return [panel for panel in finding.panels if has_values(panel)]


def what_of(finding: Any) -> str:
    """What a figure of a finding is of: the set with N and D, and the models; "" where it says nothing of a set.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.figures import what_of
        >>> from flowscope.studies import explain_study
        >>> oracle = fs.Oracle(fs.load("gaussian:N=60,D=4"))
        >>> what_of(explain_study(oracle, oracle, n=16, steps=2))
        'gaussian:N=60,D=4,seed=0: N = 60, D = 4; model Oracle'
    """
    if not {"name", "N", "shape"} <= set(finding.training_set):
        return ""
    models = finding.provenance.get("models", ())
    named = [model.get("name", "") if isinstance(model, Mapping) else model for model in models]
    names = list(dict.fromkeys(re.sub(STEP_OF_MODEL, "", name_of({"name": str(name)})) for name in named))
    more = f" and {len(names) - MAX_MODELS} more" if len(names) > MAX_MODELS else ""
    told = f"; model{'s' * (len(names) > 1)} {', '.join(names[:MAX_MODELS])}{more}" if names else ""
    return title_of(finding.training_set) + told


def _legend_columns(panel: Any, width: float) -> int:
    """How many names of series fit into a row of the legend under a panel of that many inches."""
    letters = max(len(line) for s in panel.series for line in wrapped(s.label, LEGEND_LETTERS).split("\n")) + 4
    return max(1, min(len(panel.series), int((width - 0.6) / (LETTER_INCHES * letters))))


def _legend_lines(panel: Any, width: float) -> int:
    if len(panel.series) < 2:
        return 0
    tall = max(wrapped(s.label, LEGEND_LETTERS).count("\n") + 1 for s in panel.series)
    return tall * -(-len(panel.series) // _legend_columns(panel, width))


def _draw_panel(axes: Axes, panel: Any, tables: Any, theme: Theme, width: float) -> None:
    lines, below = [(s, tables[s.table]) for s in panel.series], 0.0
    if panel.kind == "bar" or any(_named(table[s.x]) for s, table in lines):
        below = _draw_bars(axes, lines, panel, theme, width)
    else:
        for k, (series, table) in enumerate(lines):
            _draw_line(axes, series, table, k, panel, theme)
        set_scale(axes.xaxis, panel.x_scale, np.concatenate([_numbers(table[s.x]) for s, table in lines]))
    set_scale(axes.yaxis, panel.y_scale, np.concatenate([_numbers(table[s.y]) for s, table in lines]))
    _draw_marks(axes, _marks_near(panel, lines), theme)
    axes.set(xlabel=escape_math(panel.x_label), ylabel=escape_math(panel.y_label))
    axes.set_title(wrapped(panel.title, 46), pad=TITLE_PAD_MARKED if panel.marks else TITLE_PAD)
    if len(panel.series) > 1:  # under the axes, where it hides no line
        columns = _legend_columns(panel, width)
        handles = _in_order(*axes.get_legend_handles_labels(), [series.label for series in panel.series])
        axes.legend(
            handles=handles,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.14 - below / 3),
            ncols=columns,
            borderaxespad=0.6,
        )
    finish(axes, theme)


def _in_order(handles: Sequence[Any], labels: Sequence[str], wanted: Sequence[str]) -> list[Any]:
    """The handles of a legend in the order of the series: matplotlib puts those with error bars last."""
    order = [wrapped(label, LEGEND_LETTERS) for label in wanted]
    return [handle for _, handle in sorted(zip(map(order.index, labels), handles, strict=True), key=lambda row: row[0])]


def _marks_near(panel: Any, lines: Sequence[tuple[Any, Any]]) -> list[Any]:
    """The marks of a panel, but those that would take more of its axis than what it shows."""
    if not panel.marks:
        return []
    x = np.concatenate([_numbers(table[s.x]) for s, table in lines])
    low, high = float(np.nanmin(x)), float(np.nanmax(x))
    width = high - low if high > low else math.inf
    return [mark for mark in panel.marks if low - width <= mark.at <= high + width]


def _draw_marks(axes: Axes, marks: Sequence[Any], theme: Theme) -> None:
    """Draw each mark as a vertical line, and its name above the axes: that of half before the line, others after it.

    A name that would lie over another is left out: the style of a line says what it is, and its colour of which series.
    """
    for mark in marks:
        style = BOUNDARY_LINES.get(mark.name, "-")
        axes.axvline(mark.at, color=_colour(mark, theme), linewidth=BOUNDARY_WIDTH, linestyle=style, zorder=1)
    named: list[tuple[float, float]] = []
    for mark in marks:  # once the limits of the axis are known
        place = axes.transAxes.inverted().transform(axes.transData.transform((mark.at, 0)))[0]
        before, width = mark.name == "half", LETTER_SHARE * len(mark.name)
        start, end = (place - width, place) if before else (place, place + width)
        if any(start < other_end and other_start < end for other_start, other_end in named):
            continue
        named.append((start, end))
        axes.annotate(
            mark.name,
            (mark.at, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(2 if before else -2, 2),
            textcoords="offset points",
            ha="right" if before else "left",
            va="bottom",
            fontsize=MARK_SIZE,
            color=_colour(mark, theme),
        )


def _colour(mark: Any, theme: Theme) -> str:
    return theme.ink if mark.series is None else theme.lines[mark.series % len(theme.lines)]


def _error_lengths(series: Any, table: Any, panel: Any) -> np.ndarray | None:
    """(2, n) lengths of the 95 % intervals of a series below and above its values; None if it has none.

    They reach no further than the limits of the panel.
    """
    y = _numbers(table[series.y])
    if series.error is not None:
        reach = np.nan_to_num(STANDARD_ERRORS_95 * _numbers(table[series.error]))
        low, high = y - reach, y + reach
    elif series.low is None or series.high is None:
        return None
    else:
        low, high = _numbers(table[series.low]), _numbers(table[series.high])
    low, high = (np.clip(end, panel.low, panel.high) for end in (low, high))
    known = np.isfinite([low, y, high]).all(0)
    return np.stack([np.subtract(b, a, out=np.zeros_like(y), where=known) for a, b in ((low, y), (y, high))]).clip(0)


def _draw_line(axes: Axes, series: Any, table: Any, k: int, panel: Any, theme: Theme) -> None:
    x, y = _numbers(table[series.x]), _numbers(table[series.y])
    colour, dashes = theme.lines[k % len(theme.lines)], DASHES[(k + k // len(theme.lines)) % len(DASHES)]
    marker = MARKERS[k % len(MARKERS)] if len(x) <= MAX_MARKED_POINTS else None
    label = wrapped(series.label, LEGEND_LETTERS)
    lengths = _error_lengths(series, table, panel)
    if lengths is not None and marker:
        style: dict[str, Any] = {"linestyle": dashes, "marker": marker, "markersize": 4.5, "label": label}
        axes.errorbar(x, y, yerr=lengths, color=colour, capsize=3, elinewidth=ERROR_WIDTH, **style)
        return
    axes.plot(x, y, color=colour, linestyle=dashes, marker=marker, markersize=4.5, label=label)
    if lengths is not None:
        alpha = BAND_ALPHA if len(panel.series) <= MAX_DENSE_BANDS else BAND_ALPHA / 2
        draw_band(axes, x, y - lengths[0], y + lengths[1], colour, alpha)


def _draw_bars(axes: Axes, lines: Sequence[tuple[Any, Any]], panel: Any, theme: Theme, width: float) -> float:
    """Draw a bar for each name and series, with the names along the axis in order of appearance.

    Returns:
        The inches that the names take below the axis, beyond a line.
    """
    names = list(dict.fromkeys(_name(v) for series, table in lines for v in table[series.x]))
    bar_width, points = BAR_SHARE / len(lines), _all_close(lines, panel)
    for k, (series, table) in enumerate(lines):
        at = np.array([names.index(_name(v)) for v in table[series.x]]) + (k - (len(lines) - 1) / 2) * bar_width
        colour = theme.lines[k % len(theme.lines)]
        y = _numbers(table[series.y])
        label, lengths = wrapped(series.label, LEGEND_LETTERS), _error_lengths(series, table, panel)
        if points:
            axes.errorbar(at, y, yerr=lengths, fmt=MARKERS[k % len(MARKERS)], color=colour, capsize=3, label=label)
            continue
        for bar in axes.bar(at, np.nan_to_num(y), bar_width, color=colour, label=label):
            bar.set(edgecolor=theme.ground, linewidth=0.8, hatch=("", "//", "..", "xx")[k % 4])
        if lengths is not None:
            axes.errorbar(at, y, yerr=lengths, fmt="none", ecolor=theme.ink, capsize=3, elinewidth=ERROR_WIDTH)
    axes.set(xlim=(-0.5, len(names) - 0.5), axisbelow=True)
    if not any(np.any(np.nan_to_num(_numbers(table[series.y]))) for series, table in lines):
        axes.set_ylim(0, None if axes.get_ylim()[1] > 0.1 else 1)  # all bars have no height
    return _draw_names(axes, names, width)


def _draw_names(axes: Axes, names: Sequence[str], width: float) -> float:
    """Write names under their places, turned if they are too long for them, and return the inches that they take."""
    room = int((width - 0.75) / len(names) / LETTER_INCHES)
    shown = [wrapped(n.replace("+", "+ "), max(min(room, NAME_LETTERS), 8)).replace("+ ", "+") for n in names]
    longest = max((len(line) for name in shown for line in name.split("\n")), default=0)
    if longest <= room and len(set(shown)) == len(names):  # names that look alike say nothing
        axes.set_xticks(range(len(names)), shown)
        return LINE_INCHES * max((name.count("\n") for name in shown), default=0)
    shown = [wrapped(n, TURNED_LETTERS) for n in names]
    longest = max(len(line) for name in shown for line in name.split("\n"))
    axes.set_xticks(range(len(names)), shown)
    if len(names) > MAX_SLANTED_NAMES:
        axes.tick_params(axis="x", labelrotation=90)
        return LETTER_INCHES * longest
    for tick in axes.get_xticklabels():
        tick.set(rotation=35, ha="right", rotation_mode="anchor")
    return LETTER_INCHES * longest * math.sin(math.radians(35)) + LINE_INCHES


def _all_close(lines: Sequence[tuple[Any, Any]], panel: Any) -> bool:
    """Whether all intervals lie so close together, far from 0, that bars from 0 would look alike."""
    ends = []
    for series, table in lines:
        y = _numbers(table[series.y])
        lengths = _error_lengths(series, table, panel)
        low, high = (y, y) if lengths is None else (y - lengths[0], y + lengths[1])
        ends += [*low[np.isfinite(low)], *high[np.isfinite(high)]]
    return bool(ends) and min(ends) > MIN_SHARE_OF_LARGEST * max(ends)


def wrapped(name: str, letters: int) -> str:
    """A name in two lines at most."""
    return "\n".join(map(escape_math, wrap(name, letters, max_lines=2, placeholder="…")))


def _numbers(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


def _named(values: Any) -> bool:
    return any(isinstance(v, str) for v in values)


def _name(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"

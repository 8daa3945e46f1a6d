"""The sweep: the boundaries against what changes in the training set (Fig. 3 of arXiv 2512.02826, on own data)."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from flowscope.figures.style import LIGHT, Theme, escape_math, finish, new_figure, styled

AXIS_LABELS = {
    "N": "training points N",
    "D": "dimension D",
    "classes": "class",
    "resolution": "resolution (pixels a side)",
}
BOUNDARIES = {"half": "half (top-1 = 0.5)", "saturation": "saturation (0.99)"}
LOG_AXIS_RATIO = 10.0  # of the largest to the smallest value, from which on the axis is logarithmic
MAX_TICKED_VALUES = 9  # more values do not get a tick each
MAX_NAMED_CLASSES = 60  # more classes are not named
MAX_NAME_LETTERS = 22


def sweep_figure(sweep: Any, theme: Theme = LIGHT) -> Figure:
    """Draw measured and predicted boundaries against what was swept.

    Args:
        sweep: a result with `over`, `values`, `names`, and for each value `half`, `half_low`, `half_high`,
            `saturation`, `saturation_low`, `saturation_high`, `predicted`, `predicted_plain`; NaN is left out.
        theme: LIGHT or DARK.

    Returns:
        A row for each class; anything else on the horizontal axis, logarithmic if it spans a factor of ten.
    """
    with styled(theme):
        if sweep.over == "classes":
            return _by_class(sweep, theme)
        figure = new_figure(6.8, 4.8)
        axes = figure.subplots()
        values = np.asarray(sweep.values, dtype=np.float64)
        for k, (name, label) in enumerate(BOUNDARIES.items()):
            centre, lengths = _interval(sweep, name)
            axes.errorbar(values, centre, yerr=lengths, fmt="os"[k] + "-", color=theme.lines[k], capsize=4, label=label)
        axes.plot(values, sweep.predicted, "D--", color=theme.lines[2], fillstyle="none", label="predicted half")
        axes.plot(values, sweep.predicted_plain, "x:", color=theme.lines[3], label="plain spectrum")
        axes.set(ylabel="t  (0 = noise, 1 = data)", xlabel=AXIS_LABELS.get(sweep.over, str(sweep.over)))
        axes.set_ylim(bottom=0)
        _scale(axes, values)
        finish(axes, theme)
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def _interval(sweep: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The values (n,) of one boundary, and the lengths (2, n) of its intervals below and above them."""
    centre = np.asarray(getattr(sweep, name), dtype=np.float64)
    low, high = (np.asarray(getattr(sweep, f"{name}_{end}"), dtype=np.float64) for end in ("low", "high"))
    return centre, np.nan_to_num(np.clip(np.stack([centre - low, high - centre]), 0, None))


def _scale(axes: Axes, values: np.ndarray) -> None:
    if values.min() > 0 and values.max() >= LOG_AXIS_RATIO * values.min():
        axes.set_xscale("log")
    if len(values) <= MAX_TICKED_VALUES:
        axes.xaxis.set_major_locator(FixedLocator([float(v) for v in values]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(ScalarFormatter(useOffset=False))


def _by_class(sweep: Any, theme: Theme) -> Figure:
    """A row for each class, in the given order from the top."""
    count = len(sweep.values)
    figure = new_figure(6.8, 1.9 + 0.27 * min(count, MAX_NAMED_CLASSES))
    axes = figure.subplots()
    rows = np.arange(count)
    for k, (name, label) in enumerate(BOUNDARIES.items()):
        centre, lengths = _interval(sweep, name)
        axes.errorbar(
            centre, rows, xerr=lengths, fmt="os"[k], color=theme.lines[k], capsize=3, markersize=5, label=label
        )
    axes.plot(sweep.predicted, rows, "D", color=theme.lines[2], fillstyle="none", label="predicted half")
    axes.plot(sweep.predicted_plain, rows, "x", color=theme.lines[3], label="plain spectrum")
    if count <= MAX_NAMED_CLASSES:
        axes.set_yticks(rows, [escape_math(_short(str(name))) for name in sweep.names])
    axes.set(xlabel="t  (0 = noise, 1 = data)", ylabel="class", ylim=(count - 0.4, -0.6))
    axes.set_xlim(left=0)
    finish(axes, theme)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME_LETTERS else name[: MAX_NAME_LETTERS - 1] + "…"

"""The sweep: the boundaries against what changes in the training set (Fig. 3 of arXiv 2512.02826, on own data)."""

import math
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from flowscope.figures.curve import time_limit
from flowscope.figures.style import LIGHT, Theme, add_title, escape_math, finish, name_of, new_figure, styled

AXIS_LABELS = {
    "N": "training points N",
    "D": "dimension D",
    "classes": "class",
    "resolution": "resolution (pixels a side)",
}
BOUNDARIES = {"half": "half (top-1 = 0.5)", "saturation": "saturation (0.99)"}
PREDICTIONS = {
    "predicted": "predicted half",
    "predicted_saturation": "predicted saturation",
    "predicted_plain": "half by log N",
}
LOG_AXIS_RATIO = 10.0  # of the largest to the smallest value, from which on the axis is logarithmic
MAX_TICKED_VALUES = 9  # more values do not get a tick each
MAX_NAMED_CLASSES = 60  # more classes are not named
MAX_NAME_LETTERS = 22
MAX_LABELLED_CURVES = 10  # of more, the first and the last are
CURVES_INCHES = 3.4  # height of the panel of top-1 curves
LEVELS = (0.5, 0.99)


def sweep_figure(sweep: Any, theme: Theme = LIGHT) -> Figure:
    """Draw measured and predicted boundaries against what was swept, and the top-1 curves they are read off.

    Args:
        sweep: a result with `over`, `values`, `names`, `curves`, and for each value `half`, `half_low`, `half_high`,
            `saturation`, `saturation_low`, `saturation_high`, `predicted`, `predicted_saturation`, `predicted_plain`;
            NaN is left out.
        theme: LIGHT or DARK.

    Returns:
        A row for each class; anything else on the horizontal axis, logarithmic if it spans a factor of ten.

    Example:
        >>> import torch
        >>> from flowscope.curve.sweep import sweep
        >>> from flowscope.figures import sweep_figure
        >>> points = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
        >>> type(sweep_figure(sweep(points, "N", [32, 64], timesteps=6, probes=16))).__name__
        'ShownFigure'
    """
    with styled(theme):
        if sweep.over == "classes":
            return _by_class(sweep, theme)
        figure = new_figure(6.8, 8.2)
        axes, below = figure.subplots(2, 1)
        add_title(figure, _title(sweep), x=0.02)
        _draw_curves(below, sweep, theme)
        values = np.asarray(sweep.values, dtype=np.float64)
        _draw_boundaries(axes, sweep, theme, values)
        axes.set(ylabel="t  (0 = noise, 1 = data)", xlabel=AXIS_LABELS.get(sweep.over, str(sweep.over)))
        axes.set_ylim(bottom=0)
        _scale(axes, values)
        finish(axes, theme)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _draw_boundaries(axes: Axes, sweep: Any, theme: Theme, at: np.ndarray, rows: bool = False) -> None:
    """Draw the boundaries with their intervals at these places: a row each, or along the horizontal axis as lines."""
    for k, (name, label) in enumerate(BOUNDARIES.items()):
        t, low, high = (np.asarray(getattr(sweep, name + end), dtype=np.float64) for end in ("", "_low", "_high"))
        lengths = np.nan_to_num(np.clip(np.stack([t - low, high - t]), 0, None))
        colour = theme.lines[k]
        if rows:
            axes.errorbar(t, at, xerr=lengths, fmt="os"[k], color=colour, capsize=3, markersize=5, label=label)
        else:
            axes.errorbar(at, t, yerr=lengths, fmt="os"[k] + "-", color=colour, capsize=4, label=label)
    styles, colours = (
        (("D", "s", "x"), ("D--", "s--", "x:"))[not rows],
        (theme.lines[0], theme.lines[1], theme.lines[2]),
    )
    for style, colour, (name, label) in zip(styles, colours, PREDICTIONS.items(), strict=True):
        t = getattr(sweep, name)
        axes.plot(*((t, at) if rows else (at, t)), style, color=colour, fillstyle="none", alpha=0.8, label=label)


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
    height = 1.9 + 0.27 * min(count, MAX_NAMED_CLASSES)
    figure = new_figure(6.8, height + CURVES_INCHES)
    axes, below = figure.subplots(2, 1, height_ratios=(height, CURVES_INCHES))
    add_title(figure, _title(sweep), x=0.02)
    _draw_curves(below, sweep, theme)
    rows = np.arange(count)
    _draw_boundaries(axes, sweep, theme, rows, rows=True)
    if count <= MAX_NAMED_CLASSES:
        axes.set_yticks(rows, [escape_math(_short(str(name))) for name in sweep.names])
    axes.set(xlabel="t  (0 = noise, 1 = data)", ylabel="class", ylim=(count - 0.4, -0.6))
    axes.set_xlim(left=0)
    finish(axes, theme)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _draw_curves(axes: Axes, sweep: Any, theme: Theme) -> None:
    """The top-1 curve of each value, from dark to light, with the predicted one dashed."""
    colours = colormaps["viridis"](np.linspace(*((0.0, 0.75) if theme is LIGHT else (0.3, 1.0)), len(sweep.curves)))
    few = len(sweep.curves) <= MAX_LABELLED_CURVES
    for k, (curve, name, colour) in enumerate(zip(sweep.curves, sweep.names, colours, strict=True)):
        of = curve if curve.fine is None else curve.fine
        label = escape_math(_short(str(name))) if few or k in (0, len(sweep.curves) - 1) else None
        axes.plot(of.t, of.top1, color=colour, linewidth=1.5, label=label)
        axes.plot(of.t, of.predicted_top1, color=colour, linewidth=0.9, linestyle=(0, (5, 2)))
    for level in LEVELS:
        axes.axhline(level, color=theme.faint, linewidth=0.8, linestyle=(0, (2, 2)))
    limit = max(time_limit(curve) for curve in sweep.curves)
    cut = "" if limit == 1 else f", axis cut at {limit:g}"
    axes.set(title="Mean top-1 weight (dashed: predicted)", ylim=(0, 1.04), xlim=(0, limit))
    axes.set_xlabel(f"t  (0 = noise, 1 = data{cut})")
    axes.legend(loc="lower right", title=AXIS_LABELS.get(sweep.over, str(sweep.over)))
    finish(axes, theme)


def _title(sweep: Any) -> str:
    """The set, and from which N and D to which the variants go."""
    variants = [curve.training_set for curve in sweep.curves]
    counts, sizes = [v["N"] for v in variants], [math.prod(v["shape"]) for v in variants]
    return f"{name_of(sweep.training_set)}: N = {_range(counts)}, D = {_range(sizes)}"


def _range(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME_LETTERS else name[: MAX_NAME_LETTERS - 1] + "…"

"""The stage curve: the measures of one data set against t, and its curves on several paths."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from flowscope.figures.style import (
    BOUNDARY_LINES,
    BOUNDARY_WIDTH,
    LIGHT,
    LONG_DASHES,
    STANDARD_ERRORS_95,
    Theme,
    add_title,
    draw_band,
    escape_math,
    finish,
    new_figure,
    styled,
    title_of,
)

CUT_BELOW_TIME = 0.3  # the time axis is cut if both boundaries lie below this time
CUT_AT_BOUNDARIES = 2.5  # the cut axis ends at this multiple of the last boundary
DASH_DOT, DOTS, SHORT_DASHES = (0, (4, 2, 1, 2)), (0, (1, 1.5)), (0, (2, 2))


def stage_figure(curve: Any, theme: Theme = LIGHT) -> Figure:
    """Draw what flow matching asks a network to learn, against t.

    Args:
        curve: a result with the fields of :class:`flowscope.StageCurve`.
        theme: LIGHT or DARK.

    Returns:
        Three panels over t: the weight of the heaviest point, the gap, and how many points share the posterior. The
        stages are shaded, half and saturation carry their 95 % intervals, bands are 95 %, and what is predicted is
        dashed. Top-1 weight and gap are drawn on the internal grid. Where an interval cannot be trusted, the line is
        dotted and has no band; a crossing is hollow.

    Example:
        >>> import torch
        >>> import flowscope as fs
        >>> curve = fs.stages(torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), timesteps=6, probes=16)
        >>> from flowscope.figures import stage_figure
        >>> type(stage_figure(curve)).__name__
        'ShownFigure'
    """
    with styled(theme):
        figure = new_figure(6.8, 8.6, layout=None)  # a layout engine would double the time
        panels = figure.subplots(3, 1, sharex=True, height_ratios=(1.35, 1, 1))
        figure.subplots_adjust(left=0.1, right=0.91, top=0.935, bottom=0.16, hspace=0.2)
        add_title(figure, title_of(curve.training_set), x=0.1, y=0.985)
        top, middle, bottom = panels
        _weights(top, curve, theme)
        _gap(middle, curve, theme)
        middle.set(title="Gap to the conditional velocity", ylabel="mean over coordinates")
        middle.set_ylim(bottom=0)
        _sharing(bottom, curve, theme)
        for axes in panels:
            _shade(axes, curve, theme)
            finish(axes, theme)
        limit = time_limit(curve)
        cut = "" if limit == 1 else f", axis cut at {limit:g}"
        bottom.set(xlim=(0, limit), xlabel=f"t  (0 = noise, 1 = data{cut})")
        figure.legend(handles=_legend(curve, theme), loc="lower center", ncols=3)
    return figure


def time_limit(curve: Any) -> float:
    """The end of the time axis: 1, or earlier if both boundaries lie below CUT_BELOW_TIME."""
    last = float(curve.saturation.t)
    if not 0 < last < CUT_BELOW_TIME:
        return 1.0
    return float(np.ceil(CUT_AT_BOUNDARIES * last * 20) / 20)


def path_figure(curves: Sequence[Any], theme: Theme = LIGHT) -> Figure:
    """Draw one training set on several paths against log-snr, where the curves of all paths coincide.

    Args:
        curves: results with the fields of a StageCurve; the label is `settings["path"]`.
        theme: LIGHT or DARK.

    Example:
        >>> import torch
        >>> import flowscope as fs
        >>> curve = fs.stages(torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), timesteps=6, probes=16)
        >>> from flowscope.figures import path_figure
        >>> type(path_figure([curve])).__name__
        'ShownFigure'
    """
    with styled(theme):
        figure = new_figure(6.8, 5.6)
        top, bottom = figure.subplots(2, 1, sharex=True)
        add_title(figure, title_of(curves[0].training_set), x=0.02)
        for k, curve in enumerate(curves):
            colour, label = theme.lines[k % len(theme.lines)], escape_math(str(curve.settings["path"]))
            shown = np.isfinite(curve.log_snr)
            # later paths are thinner, so that equal curves show as one line of several colours
            width = 1.5 + 2.2 * (len(curves) - 1 - k)
            for axes, name in ((top, "top1"), (bottom, "entropy")):
                axes.plot(curve.log_snr[shown], getattr(curve, name)[shown], color=colour, linewidth=width, label=label)
        top.set(title="Mean top-1 weight", ylim=(0, 1.02))
        bottom.set(title="Entropy of the posterior", ylabel="nats", xlabel="log-snr  2 log(alpha/sigma)")
        bottom.set_ylim(bottom=0)
        top.legend(loc="upper left")
        for axes in (top, bottom):
            finish(axes, theme)
    return figure


def _line(axes: Axes, curve: Any, name: str, colour: str, label: str | None, dashes: str = "-") -> None:
    mean, error = getattr(curve, name), STANDARD_ERRORS_95 * getattr(curve, f"{name}_error")
    least, most = (1, curve.training_set["N"]) if name == "effective_size" else (0, 1)
    low, high = np.clip([mean - error, mean + error], least, most)
    _draw(axes, curve, "top1", (curve.t, mean, low, high), colour, label, dashes)


def _top1(axes: Axes, curve: Any, theme: Theme) -> None:
    """The measured top-1 weight and the predicted one, on the internal grid where there is one."""
    of = curve if curve.fine is None else curve.fine
    error = STANDARD_ERRORS_95 * of.top1_error
    shown = (of.t, of.top1, *np.clip([of.top1 - error, of.top1 + error], 0, 1))
    _draw(axes, curve, "top1", shown, theme.lines[0], "top-1 weight")
    axes.plot(of.t, of.predicted_top1, color=theme.lines[1], linewidth=1.4, linestyle=LONG_DASHES, label="predicted")


def _gap(axes: Axes, curve: Any, theme: Theme) -> None:
    """The gap, on the internal grid where there is one and enough probes carry it."""
    if curve.fine is None:
        shown = (curve.t, curve.gap, *curve.gap_interval)
    else:
        known = np.isfinite(curve.fine.gap)
        t = np.concatenate([curve.fine.t[known], curve.t])  # the timesteps are in both, and are kept once
        fine, asked = curve.fine[-3:], (curve.gap, *curve.gap_interval)  # the gap with its interval
        values = [np.concatenate([a[known], b]) for a, b in zip(fine, asked, strict=True)]
        t, first = np.unique(t, return_index=True)
        shown = (t, *(v[first] for v in values))
    _draw(axes, curve, "gap", shown, theme.lines[0], None)


def _draw(
    axes: Axes, curve: Any, doubt: str, values: Sequence[Any], colour: str, label: str | None, dashes: str = "-"
) -> None:
    """Draw a mean and its band: a dotted line and no band where the interval named by `doubt` cannot be trusted.

    Args:
        axes: to draw on.
        curve: whose timesteps tell where intervals cannot be trusted; times between are as the next timestep is.
        doubt: the name in `untrusted`.
        values: t, mean, low and high.
        colour, label, dashes: of the line.
    """
    t, mean, low, high = values
    next_asked = np.minimum(np.searchsorted(curve.t, t), len(curve.t) - 1)
    doubtful = np.isin(curve.t, curve.untrusted[doubt])[next_asked]
    alone = "o" if len(t) == 1 else None
    # the line reaches up to the first doubtful time, and the dotted one from there to the next that is not
    solid, dotted = ~doubtful | np.append(False, ~doubtful[:-1]), doubtful | np.append(False, doubtful[:-1])
    axes.plot(t, np.where(solid, mean, np.nan), dashes, color=colour, label=label, marker=alone)
    if doubtful.any():
        axes.plot(t, np.where(dotted, mean, np.nan), ":", color=colour)
    draw_band(axes, t, np.where(doubtful, np.nan, low), np.where(doubtful, np.nan, high), colour)


def _weights(axes: Axes, curve: Any, theme: Theme) -> None:
    levels = (("half", "predicted", 0.5), ("saturation", "predicted_saturation", 0.99))
    for _, _, level in levels:
        axes.axhline(level, color=theme.faint, linewidth=0.8, linestyle=SHORT_DASHES)
    for part in curve.per_class or ():
        axes.plot(curve.t, part.top1, color=theme.faint, linewidth=0.7, alpha=0.6)
    _top1(axes, curve, theme)
    _line(axes, curve, "margin", theme.lines[3], "margin (first less second)", "--")
    for name, predicted, level in levels:
        _mark_crossing(axes, curve, name, level, theme)
        own = [getattr(part, name).t for part in curve.per_class or ()]
        axes.plot(own, [level] * len(own), "|", color=theme.ink, markersize=9, alpha=0.5)
        axes.plot(getattr(curve, predicted), level, "D", color=theme.lines[1], fillstyle="none", zorder=6)
    axes.set(title="Weight of the heaviest training point", ylim=(0, 1.04))
    axes.legend(loc="best")


def _mark_crossing(axes: Axes, curve: Any, name: str, level: float, theme: Theme) -> None:
    """A crossing with its interval; hollow where that cannot be trusted."""
    crossing = getattr(curve, name)
    if np.isfinite(crossing.t):
        lengths = [[crossing.t - crossing.low], [crossing.high - crossing.t]]
        bar = np.nan_to_num(np.clip(lengths, 0, None))
        (mark, *_) = axes.errorbar(
            crossing.t, level, xerr=bar, fmt="o", color=theme.ink, markersize=6, capsize=4, zorder=5
        )
        mark.set_fillstyle("none" if name in curve.untrusted["crossings"] else "full")


def _sharing(axes: Axes, curve: Any, theme: Theme) -> None:
    """The numbers of points exp(entropy) and 1/sum gamma^2; the axis on the right shows the entropy itself."""
    error, most = STANDARD_ERRORS_95 * curve.entropy_error, np.log(curve.training_set["N"])
    ends = np.clip([curve.entropy - error, curve.entropy + error], 0, most)
    shown = (curve.t, *np.exp([curve.entropy, *ends]))
    _draw(axes, curve, "top1", shown, theme.lines[2], "exp(entropy)")
    _line(axes, curve, "effective_size", theme.lines[3], "effective size 1/Σγ²", "--")
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.9)
    axes.set(title="How many points share the posterior", ylabel="points")
    axes.yaxis.set_major_formatter("{x:g}")
    nats = axes.twinx()
    nats.set_ylim(*np.log(axes.get_ylim()))
    nats.spines["right"].set_visible(True)
    nats.grid(False)
    nats.set_ylabel("entropy (nats)")
    nats.tick_params(length=0, labelsize=9.5, labelcolor=theme.ink)
    axes.legend(loc="best")


def _shade(axes: Axes, curve: Any, theme: Theme) -> None:
    half, saturation = float(curve.half.t), float(curve.saturation.t)
    if np.isfinite(half):
        axes.axvspan(0, half, color=theme.navigation, zorder=0, linewidth=0)
        axes.axvspan(half, saturation if np.isfinite(saturation) else 1, color=theme.transition, zorder=0, linewidth=0)
        axes.axvline(half, color=theme.ink, linewidth=BOUNDARY_WIDTH, linestyle=BOUNDARY_LINES["half"])
    if np.isfinite(saturation):
        axes.axvline(saturation, color=theme.ink, linewidth=BOUNDARY_WIDTH, linestyle=BOUNDARY_LINES["saturation"])
    predictions = (curve.predicted, DASH_DOT), (curve.predicted_saturation, DASH_DOT), (curve.predicted_plain, DOTS)
    for value, dashes in predictions:
        if 0 <= value <= 1:  # False for NaN
            axes.axvline(value, color=theme.lines[1], linewidth=1.4, linestyle=dashes)


def _legend(curve: Any, theme: Theme) -> list[Any]:
    def line(label: str, colour: str, dashes: Any) -> Line2D:
        return Line2D([], [], color=colour, linestyle=dashes, linewidth=1.4, label=label)

    handles: list[Any] = []
    if np.isfinite(curve.half.t):
        for stage in ("navigation", "transition", "refinement"):
            handles += [Patch(facecolor=getattr(theme, stage), label=stage, edgecolor=theme.faint, linewidth=0.6)]
        handles += [line("half (top-1 = 0.5)", theme.ink, BOUNDARY_LINES["half"])]
    if np.isfinite(curve.saturation.t):
        handles += [line("saturation (0.99)", theme.ink, BOUNDARY_LINES["saturation"])]
    if np.isfinite(curve.predicted):
        handles += [line("predicted half, saturation", theme.lines[1], DASH_DOT)]
    if np.isfinite(curve.predicted_plain):
        handles += [line("half by log N", theme.lines[1], DOTS)]
    if any(curve.untrusted.values()):
        handles += [line("interval not to be trusted", theme.ink, ":")]
    return handles

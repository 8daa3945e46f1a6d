"""The stage curve: the measures of one data set against t, and its curves on several paths."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from flowscope.figures.style import (
    LIGHT,
    STANDARD_ERRORS_95,
    Theme,
    draw_band,
    escape_math,
    finish,
    new_figure,
    styled,
)

CUT_BELOW_TIME = 0.3  # the time axis is cut if both boundaries lie below this time
CUT_AT_BOUNDARIES = 2.5  # the cut axis ends at this multiple of the last boundary
DASH_DOT, DOTS, LONG_DASHES, SHORT_DASHES = (0, (4, 2, 1, 2)), (0, (1, 1.5)), (0, (6, 2)), (0, (2, 2))


def stage_figure(curve: Any, theme: Theme = LIGHT) -> Figure:
    """Draw what flow matching asks a network to learn, against t.

    Args:
        curve: a result with the fields of :class:`flowscope.StageCurve`.
        theme: LIGHT or DARK.

    Returns:
        Three panels over t: the weight of the heaviest point, the gap, and how many points share the posterior. The
        stages are shaded, half and saturation carry their 95 % intervals, bands are 95 %, and the predicted boundary
        is dashed. Where an interval cannot be trusted, the line is dotted and has no band; a crossing is hollow.

    Example:
        >>> import torch
        >>> import flowscope as fs
        >>> curve = fs.stages(torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), timesteps=6, probes=16)
        >>> from flowscope.figures import stage_figure
        >>> type(stage_figure(curve)).__name__
        'Figure'
    """
    with styled(theme):
        figure = new_figure(6.8, 8.6, layout=None)  # a layout engine would double the time
        panels = figure.subplots(3, 1, sharex=True, height_ratios=(1.35, 1, 1))
        figure.subplots_adjust(left=0.1, right=0.91, top=0.965, bottom=0.15, hspace=0.2)
        top, middle, bottom = panels
        _weights(top, curve, theme)
        _line(middle, curve, "gap", theme.lines[0], None)
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
        'Figure'
    """
    with styled(theme):
        figure = new_figure(6.8, 5.6)
        top, bottom = figure.subplots(2, 1, sharex=True)
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
    low, high = curve.gap_interval if name == "gap" else (mean - error, mean + error)
    _draw(axes, curve, "gap" if name == "gap" else "top1", (mean, low, high), colour, label, dashes)


def _draw(
    axes: Axes, curve: Any, doubt: str, values: Sequence[Any], colour: str, label: str | None, dashes: str = "-"
) -> None:
    """Draw a mean and its band: a dotted line and no band where the interval named by `doubt` cannot be trusted."""
    mean, low, high = values
    doubtful = np.isin(curve.t, curve.untrusted[doubt])
    alone = "o" if len(curve.t) == 1 else None
    # the line reaches up to the first doubtful time, and the dotted one goes on from there
    solid = ~doubtful | np.append(False, ~doubtful[:-1])
    axes.plot(curve.t, np.where(solid, mean, np.nan), dashes, color=colour, label=label, marker=alone)
    if doubtful.any():
        axes.plot(curve.t, np.where(doubtful, mean, np.nan), ":", color=colour)
    draw_band(axes, curve.t, np.where(doubtful, np.nan, low), np.where(doubtful, np.nan, high), colour)


def _weights(axes: Axes, curve: Any, theme: Theme) -> None:
    for level in (0.5, 0.99):
        axes.axhline(level, color=theme.faint, linewidth=0.8, linestyle=SHORT_DASHES)
    for part in curve.per_class or ():
        axes.plot(curve.t, part.top1, color=theme.faint, linewidth=0.7, alpha=0.6)
    _line(axes, curve, "top1", theme.lines[0], "top-1 weight")
    _line(axes, curve, "margin", theme.lines[1], "margin (first less second)", "--")
    for name, level in (("half", 0.5), ("saturation", 0.99)):
        crossing = getattr(curve, name)
        if np.isfinite(crossing.t):
            lengths = [[crossing.t - crossing.low], [crossing.high - crossing.t]]
            bar = np.nan_to_num(np.clip(lengths, 0, None))
            (mark, *_) = axes.errorbar(
                crossing.t, level, xerr=bar, fmt="o", color=theme.ink, markersize=6, capsize=4, zorder=5
            )
            mark.set_fillstyle("none" if name in curve.untrusted["crossings"] else "full")
    axes.set(title="Weight of the heaviest training point", ylim=(0, 1.04))
    axes.legend(loc="best")


def _sharing(axes: Axes, curve: Any, theme: Theme) -> None:
    """The numbers of points exp(entropy) and 1/sum gamma^2; the axis on the right shows the entropy itself."""
    error = STANDARD_ERRORS_95 * curve.entropy_error
    shown = [np.exp(value) for value in (curve.entropy, curve.entropy - error, curve.entropy + error)]
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
        axes.axvline(half, color=theme.ink, linewidth=1.2)
    if np.isfinite(saturation):
        axes.axvline(saturation, color=theme.ink, linewidth=1.2, linestyle=LONG_DASHES)
    for value, dashes in ((curve.predicted, DASH_DOT), (curve.predicted_plain, DOTS)):
        if 0 <= value <= 1:  # False for NaN
            axes.axvline(value, color=theme.lines[1], linewidth=1.4, linestyle=dashes)


def _legend(curve: Any, theme: Theme) -> list[Any]:
    def line(label: str, colour: str, dashes: Any) -> Line2D:
        return Line2D([], [], color=colour, linestyle=dashes, linewidth=1.4, label=label)

    handles: list[Any] = []
    if np.isfinite(curve.half.t):
        for stage in ("navigation", "transition", "refinement"):
            handles += [Patch(facecolor=getattr(theme, stage), label=stage, edgecolor=theme.faint, linewidth=0.6)]
        handles += [line("half (top-1 = 0.5)", theme.ink, "-")]
    if np.isfinite(curve.saturation.t):
        handles += [line("saturation (0.99)", theme.ink, LONG_DASHES)]
    if np.isfinite(curve.predicted):
        handles += [line("predicted half", theme.lines[1], DASH_DOT)]
    if np.isfinite(curve.predicted_plain):
        handles += [line("plain spectrum", theme.lines[1], DOTS)]
    if any(curve.untrusted.values()):
        handles += [line("interval not to be trusted", theme.ink, ":")]
    return handles

"""Scales: logarithmic axes that keep zeros in sight, with ticks as plain numbers."""

import math

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, SymmetricalLogLocator

DECADES_ABOVE_ZERO = 4  # of a logarithmic axis that shows 0: what is smaller than its largest value by more lies at 0
ZERO_DECADES = 0.5  # the room between 0 and the first decade, in decades
MAX_TICKS = 9


def set_scale(axis: Axis, scale: str, values: np.ndarray) -> None:
    """Scale an axis for the values on it.

    Args:
        axis: of the panel.
        scale: "linear"; "log"; or "symlog", which is linear within -1 and 1. A logarithmic axis stays linear where no
            value is above 0, and is linear near 0 where one is not, so that this one is seen.
        values: all that are drawn along it; NaN where there is none.
    """
    change = axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale
    shown = values[np.isfinite(values)]
    if scale == "symlog":
        if np.any(np.abs(shown) > 1):  # else it would be linear with three ticks
            change("symlog", linthresh=1)
    elif scale == "log" and np.any(shown > 0):
        if np.all(shown > 0):
            change("log", nonpositive="clip")
        else:
            change("symlog", linthresh=_first_decade(shown), linscale=ZERO_DECADES)
    _plain_ticks(axis)


def _first_decade(values: np.ndarray) -> float:
    """The power of ten at or below the least value above 0, no more than DECADES_ABOVE_ZERO below the largest."""
    least = max(values[values > 0].min(), values.max() / 10**DECADES_ABOVE_ZERO)
    return float(10.0 ** math.floor(math.log10(least)))


def _plain_ticks(axis: Axis) -> None:
    """Write the ticks of a logarithmic axis as plain numbers, and no more of them than there is room for."""
    scale = axis.get_scale()
    if scale == "linear":
        return
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "\N{MINUS SIGN}")))
    if scale == "symlog":
        locator = SymmetricalLogLocator(axis.get_transform())
        locator.set_params(numticks=MAX_TICKS)
        axis.set_major_locator(locator)
        return
    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low) if 0 < low < high else 0
    if decades < 0.7:
        axis.set_major_locator(MaxNLocator(5))
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,), numticks=MAX_TICKS))

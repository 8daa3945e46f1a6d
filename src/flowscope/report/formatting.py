"""Numbers as people read them."""

import math
from typing import NamedTuple, Protocol

NBSP = "\u00a0"  # a space at which no line is broken


class Crossing(Protocol):
    """A time with its interval; NaN where there is none."""

    @property
    def t(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


class Interval(NamedTuple):
    """A time with its interval, and nothing else."""

    t: float
    low: float
    high: float


def number(value: float, digits: int = 3) -> str:
    """A number with that many significant digits, plainly where it can be; "undefined" for NaN."""
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e6:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        return f"{value:.{decimals}f}".replace("-", "−")
    return f"{value:.{digits - 1}e}".replace("-", "−")


def time(value: float) -> str:
    """A time with three decimals, four where it is below 0.1."""
    if not math.isfinite(value):
        return "undefined"
    return f"{value:.4f}" if abs(value) < 0.1 else f"{value:.3f}"


def crossing(value: Crossing) -> str:
    """A crossing (t, low, high) with its interval."""
    if not math.isfinite(value.t):
        return "undefined"
    return f"{time(value.t)} (95 % interval {interval(value)})"


def interval(value: Crossing) -> str:
    """The interval of a crossing alone."""
    if not (math.isfinite(value.low) and math.isfinite(value.high)):
        return "undefined"
    return f"{time(value.low)} to {time(value.high)}"


def with_error(value: float, error: float) -> str:
    """A value and its standard error, to two digits of the error."""
    if not math.isfinite(value):
        return "undefined"
    if not math.isfinite(error) or error <= 0:
        return number(value, 4)
    decimals = min(12, max(0, 1 - math.floor(math.log10(error))))
    return f"{value:.{decimals}f}{NBSP}±{NBSP}{error:.{decimals}f}".replace("-", "−")


def percent(share: float) -> str:
    """0.537 -> "54 %", with a space that does not break."""
    return f"{100 * share:.0f}{NBSP}%"


def signed_percent(share: float) -> str:
    """0.034 -> "+3.4 %"."""
    return f"{100 * share:+.1f}{NBSP}%".replace("-", "−") if math.isfinite(share) else "undefined"


def relative_error(predicted: float, measured: float) -> float:
    """predicted/measured - 1; NaN where that means nothing."""
    return predicted / measured - 1 if measured > 0 else math.nan

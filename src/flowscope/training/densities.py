r"""Densities of the timesteps that training draws, by their distribution functions.

    uniform       F(t) = t
    logit-normal  F(t) = Phi(logit t)                                  (arXiv 2403.03206, location 0 and scale 1)
    staged        a share `navigation` uniform on [0, boundary), the rest uniform on [boundary, 1)

A shift s maps a drawn t to t' = s t / (1 + (s - 1) t). For training on a part [lo, hi) of time, the density is
restricted to it: t = F^{-1}(F(lo) + v (F(hi) - F(lo))), v uniform.
"""

from typing import Any, Protocol

import numpy as np

from flowscope.errors import InputError

DENSITIES = ("uniform", "logit-normal", "shifted", "staged")


class DensitySettings(Protocol):
    """The settings of a density; see :class:`flowscope.training.TrainSettings`."""

    @property
    def density(self) -> str: ...
    @property
    def shift(self) -> float: ...
    @property
    def navigation(self) -> float: ...
    @property
    def boundary(self) -> float: ...
    @property
    def interval(self) -> tuple[float, float]: ...


def check_density(settings: DensitySettings) -> None:
    """Refuse settings that make no density or would have no effect.

    Raises:
        InputError: the message names the setting.
    """
    check_number(settings.shift, "shift", 0.0, np.inf, False)
    for name in ("navigation", "boundary"):
        check_number(getattr(settings, name), name, 0.0, 1.0, False)
    if settings.density == "shifted" and settings.shift == 1:
        raise InputError("density is 'shifted' with shift 1, which is uniform; expected another shift, such as 0.5")
    if settings.density == "staged" and settings.shift != 1:
        raise InputError(f"density is 'staged' with shift {settings.shift}; expected one of them: leave the shift at 1")


def check_number(value: Any, what: str, low: float, high: float, closed: bool) -> None:
    """Refuse what is not a finite number between two bounds.

    Args:
        value: to be checked.
        what: the name of the value, for the message.
        low: the lower bound.
        high: the upper bound.
        closed: whether the bounds themselves are allowed.

    Raises:
        InputError: it is not.
    """
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and bool(np.isfinite(value))
    if not number or not (low <= value <= high if closed else low < value < high):
        left, right = ("[", "]") if closed else ("(", ")")
        raise InputError(f"{what} is {value!r}; expected a finite number in {left}{low:g}, {high:g}{right}")


def cumulative(settings: DensitySettings, t: np.ndarray) -> np.ndarray:
    """F(t) of the whole density, before it is restricted to the interval; float64 of t's shape, 0 <= t <= 1."""
    from scipy.special import logit, ndtr

    s = settings.shift
    t = np.asarray(t, dtype=np.float64)
    t = t / (s + (1 - s) * t)  # undo the shift
    if settings.density == "logit-normal":
        return ndtr(logit(t))
    if settings.density == "staged":
        share, at = settings.navigation, settings.boundary
        return np.where(t < at, share * t / at, share + (1 - share) * (t - at) / (1 - at))
    return t


def quantile(settings: DensitySettings, v: np.ndarray) -> np.ndarray:
    """F^{-1}(v), float64 of v's shape, 0 <= v <= 1."""
    from scipy.special import expit, ndtri

    s = settings.shift
    v = np.asarray(v, dtype=np.float64)
    if settings.density == "logit-normal":
        v = expit(ndtri(v))
    if settings.density == "staged":
        share, at = settings.navigation, settings.boundary
        v = np.where(v < share, v / share * at, at + (v - share) / (1 - share) * (1 - at))
    return s * v / (1 + (s - 1) * v)


def draw_times(settings: DensitySettings, rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw (count,) independent timesteps, float64, lo <= t < hi."""
    low, high = settings.interval
    first, last = cumulative(settings, np.array([low, high]))
    t = quantile(settings, first + rng.random(count) * (last - first))
    return np.clip(t, low, np.nextafter(high, 0.0))  # rounding must not leave the interval

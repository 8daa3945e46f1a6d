r"""Schedules: where the steps lie in time, and what other projects call the same thing.

A timestep shift s moves a uniform time t to (arXiv 2512.02826, Tab. 2; LightningDiT)

    t' = s t / (1 + (s - 1) t),    in other words    logit t' = logit t + log s

so that shifts compose by multiplication: s < 1 spends more steps near noise. On the linear path, with diffusers'
sigma = 1 - t, the same map is sigma' = s_d sigma / (1 + (s_d - 1) sigma) with s_d = 1/s.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from flowscope.core.settings import check_count
from flowscope.errors import InputError, unknown_name
from flowscope.fields import check_interval
from flowscope.paths import Path, get_path

DEFAULT_STEPS = 50  # uniform ones, at times k/50, k = 0..49
EARLY_UNTIL = 0.2  # t: steps that start up to here are the early ones of arXiv 2512.02826, Tab. 2
Times = TypeVar("Times", float, Tensor, np.ndarray)


def check_shift(shift: Any, what: str = "shift") -> float:
    """A shift: a finite number above 0.

    Raises:
        InputError: it is not.
    """
    number = isinstance(shift, (int, float, np.integer, np.floating)) and not isinstance(shift, bool)
    if not number or not 0 < shift < math.inf:
        raise InputError(f"{what} is {shift!r}; expected a finite number above 0: 1 is no shift")
    return float(shift)


def _number(value: Any, what: str) -> float:
    """A number, as a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)) or math.isnan(value):
        raise InputError(f"{what} is {value!r}; expected a number")
    return float(value)


def _exp(value: float) -> float:
    """exp, infinite where it is beyond the range of floats."""
    return math.exp(value) if value < 700 else math.inf


def shift_time(t: Times, s: float) -> Times:
    """t' = s t/(1 + (s - 1) t), in a form that keeps 0 and 1 exactly; t in [0, 1].

    Args:
        t: times in [0, 1], a number, an array or a tensor.
        s: a finite number above 0; 1 is no shift, s < 1 spends more steps near noise.

    Raises:
        InputError: s is not a finite number above 0, or t is not in [0, 1].

    Example:
        >>> from flowscope.sampling import shift_time
        >>> float(shift_time(0.5, 3.0)), float(shift_time(1.0, 3.0))
        (0.75, 1.0)
    """
    s = check_shift(s)
    try:
        known = t if isinstance(t, Tensor) else np.asarray(t, dtype=np.float64)
        inside = bool(((known >= 0) & (known <= 1)).all())
    except (TypeError, ValueError):
        inside = False
    if not inside:
        raise InputError(f"t is {repr(t)[:60]}; expected times in [0, 1]")
    return s * t / (s * t + (1 - t))


def from_diffusers_shift(shift: float) -> float:
    """s of diffusers' static `shift`: SD3's 3 is s = 1/3, Wan's 5 is s = 0.2."""
    return 1 / check_shift(shift)


def to_diffusers_shift(s: float) -> float:
    """diffusers' static `shift` of s."""
    return 1 / check_shift(s)


TIME_SHIFTS = ("exponential", "linear")  # diffusers' time_shift_type


def from_mu(mu: float, kind: str = "exponential") -> float:
    """s of diffusers' dynamic `mu`, power parameter 1.

    Args:
        mu: which a pipeline makes of the size of its image.
        kind: its scheduler's time_shift_type. The shift s_d is exp(mu) with "exponential" (FLUX), mu with "linear".

    Raises:
        InputError: mu or kind is not usable.
    """
    if kind not in TIME_SHIFTS:
        raise unknown_name("kind", kind, TIME_SHIFTS)
    if kind == "linear":
        return 1 / check_shift(mu, "mu")
    return check_shift(_exp(-_number(mu, "mu")), "exp(-mu)")


def to_mu(s: float, kind: str = "exponential") -> float:
    """diffusers' `mu` of s: -log s, or 1/s of a linear time shift."""
    if kind not in TIME_SHIFTS:
        raise unknown_name("kind", kind, TIME_SHIFTS)
    return 1 / check_shift(s) if kind == "linear" else -math.log(check_shift(s))


def from_log_snr(change: float) -> float:
    """s that adds `change` to the log-SNR, log (alpha/sigma)^2, of every time on the linear path: 2 log s."""
    return check_shift(_exp(_number(change, "change") / 2), "exp(change/2)")


def to_log_snr(s: float) -> float:
    """What s adds to the log-SNR of every time on the linear path, in nats."""
    return 2 * math.log(check_shift(s))


def shift_for(share: float, t: float) -> float:
    """The shift s that spends this share of uniform steps before t: s = t (1 - f)/(f (1 - t)). Both in (0, 1).

    Raises:
        InputError: share or t is not in (0, 1).
    """
    for what, value in (("share", share), ("t", t)):
        if not 0 < _number(value, what) < 1:
            raise InputError(f"{what} is {value!r}; expected a number between 0 and 1, without the ends")
    return t * (1 - share) / (share * (1 - t))


def share_before(t: float, s: float) -> float:
    """The share of uniform steps, shifted by s, that start before t: t/(s + (1 - s) t), what shift_for inverts."""
    return float(shift_time(float(t), 1 / check_shift(s)))


def steps_before(share: float, steps: int = DEFAULT_STEPS) -> int:
    """How many of `steps` uniform steps start in the first `share` of them: those with k/steps < share."""
    return min(steps, math.ceil(steps * share - 1e-9))


def early_share(nodes: Any, until: float = EARLY_UNTIL) -> float:
    """The share of steps that start at t <= until: the early steps of arXiv 2512.02826, Tab. 2.

    Args:
        nodes: (T+1,) increasing times, ends included; a step starts at all but the last.
        until: the last time that is early.
    """
    return float((check_nodes(nodes)[:-1] <= _number(until, "until")).to(torch.float64).mean())


def make_nodes(
    steps: int = DEFAULT_STEPS, shift: float = 1.0, timesteps: Any = None, *, num_steps: int | None = None
) -> Tensor:
    """The nodes of a schedule, (steps+1,) float64: uniform times from 0 to 1, moved by the shift; or `timesteps`.

    Uniform nodes are k/steps, rounded once: 0.1 is a node of 50 steps exactly.

    Args:
        steps: how many.
        shift: s of :func:`shift_time`.
        timesteps: the nodes themselves, instead of steps and shift.
        num_steps: how many nodes, instead of steps: what SiT and LightningDiT call so. 250 of them are 249 steps.

    Raises:
        InputError: steps or shift is not usable, or timesteps are no increasing times in [0, 1], or come with a number
            of steps or a shift that says something else.

    Example:
        >>> from flowscope.sampling import make_nodes
        >>> make_nodes(4).tolist()
        [0.0, 0.25, 0.5, 0.75, 1.0]
        >>> make_nodes(2, shift=3.0).tolist()
        [0.0, 0.75, 1.0]
    """
    count, s = check_count(steps, "steps"), check_shift(shift)
    if num_steps is not None:
        if timesteps is not None or count != DEFAULT_STEPS:
            raise InputError(f"num_steps is {num_steps!r} beside steps or timesteps; expected one of the three")
        count = check_count(num_steps, "num_steps", least=2) - 1
    if timesteps is None:
        nodes = shift_time(torch.arange(count + 1, dtype=torch.float64, device="cpu") / count, s)
        if not bool((nodes.diff() > 0).all()):
            raise InputError(f"shift {shift!r} moves some of the {count} steps onto one time; expected one nearer to 1")
        return nodes
    nodes = check_nodes(timesteps)
    if count not in (DEFAULT_STEPS, len(nodes) - 1) or s != 1:
        raise InputError(
            f"timesteps with {len(nodes) - 1} steps are given together with steps {steps} and shift {shift}; expected "
            "either timesteps, which are taken as they are, or steps and shift: leave the others out"
        )
    return nodes


def check_nodes(timesteps: Any) -> Tensor:
    """Nodes as given: (T+1,) float64 on the CPU, increasing, in [0, 1], at least two.

    Raises:
        InputError: they are not.
    """
    expected = "expected at least two increasing times in [0, 1], ends included, such as [0, 0.3, 1]"
    try:
        values = timesteps.tolist() if hasattr(timesteps, "tolist") else [float(t) for t in timesteps]
        nodes = torch.tensor(values, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"timesteps are {repr(timesteps)[:60]}; {expected}") from None
    if nodes.ndim != 1 or len(nodes) < 2:
        raise InputError(f"timesteps have shape {tuple(nodes.shape)}; {expected}")
    outside = nodes[~((nodes >= 0) & (nodes <= 1))]
    if len(outside):
        raise InputError(f"timesteps hold {outside[0].item()}; {expected}: t = 0 is noise, t = 1 is data")
    falling = (nodes.diff() <= 0).nonzero()
    if len(falling):
        at = int(falling[0])
        raise InputError(f"timesteps do not increase: {nodes[at]} is followed by {nodes[at + 1]}; {expected}")
    return nodes


def diffusers_sigmas(nodes: Any) -> list[float]:
    """The `sigmas` that make a diffusers flow-matching scheduler step at these nodes: 1 - t, from noise down.

    The last node, t = 1, is left out, since the scheduler appends sigma = 0. A scheduler with a static shift of its own
    applies it to these: give it shift=1, or the nodes of an unshifted schedule. (Left to itself it applies the shift to
    its least sigma twice.)

    Raises:
        InputError: the nodes are not usable, or do not end at 1.
    """
    nodes = check_nodes(nodes)
    if nodes[-1] != 1:
        raise InputError(f"the nodes end at {nodes[-1]}; expected 1: a diffusers scheduler always ends at sigma = 0")
    return (1 - nodes[:-1]).tolist()


def edm_levels(interval: Sequence[float], path: str | Path = "linear") -> tuple[float, float]:
    """The EDM noise levels sigma/alpha, from low to high, of an interval (lo, hi) of t (arXiv 2206.00364).

    On the linear path ((1 - hi)/hi, (1 - lo)/lo): infinite for lo = 0.

    Raises:
        InputError: the interval or the path is not usable.
    """
    low, high = check_interval(interval)
    alpha, sigma, _, _ = get_path(path).formula(torch.tensor([high, low], dtype=torch.float64, device="cpu"))
    least, most = (sigma / alpha).tolist()
    return least, most


def from_edm_levels(levels: Sequence[float], path: str | Path = "linear") -> tuple[float, float]:
    """The interval (lo, hi) of t between two EDM noise levels (low, high), what `edm_levels` inverts.

    Raises:
        InputError: the levels are not two numbers with 0 <= low <= high.
    """
    try:
        low, high = (float(level) for level in levels)
    except (TypeError, ValueError):
        low = high = math.nan
    if isinstance(levels, str) or not 0 <= low <= high:
        raise InputError(f"levels are {levels!r}; expected two noise levels (low, high) with 0 <= low <= high")
    snr = torch.tensor([high, low], dtype=torch.float64, device="cpu") ** -2
    first, last = (1.0 if math.isinf(r) else float(get_path(path).time_of_snr(r)) for r in snr.tolist())
    return first, last

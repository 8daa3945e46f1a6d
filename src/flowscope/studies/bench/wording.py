"""Wording: phrases that the words of several studies share."""

import math
from collections.abc import Sequence
from itertools import groupby

from flowscope.data.pixels import is_image

NEARLY_NONE = 0.05  # a share up to this counts as hardly any, and from 1 less this on as nearly all
MAX_SINGLE_SHARES = 3  # more neighbouring shares than this are told as one range


def noun(shape: Sequence[int]) -> str:
    """What a point of this shape is called: "image" if it can be drawn, else "point"."""
    return "image" if is_image(shape) else "point"


def shares_in_words(name: str, times: Sequence[float], shares: Sequence[tuple[float, float, float]]) -> str:
    """Shares by time in words, such as "none up to t = 0.5, 39 % (36 to 42 %) at 0.88, all from 0.94 on".

    Neighbouring times with hardly any, with nearly all, or with more than MAX_SINGLE_SHARES shares between are merged.

    Args:
        name: of the time, such as "t".
        times: (T,) ascending.
        shares: (T,) each with the ends of its interval.
    """
    parts: list[list[int]] = []
    for extreme, group in groupby(range(len(times)), key=lambda k: _extreme(shares[k][0])):
        run = list(group)
        parts += [run] if extreme or len(run) > MAX_SINGLE_SHARES else [[k] for k in run]
    phrases = (
        f"{_amount([shares[k] for k in part])} {_when(times, part, '' if k else f'{name} = ')}"
        for k, part in enumerate(parts)
    )
    return ", ".join(phrases)


def _extreme(share: float) -> int:
    """-1 for hardly any, 1 for nearly all, else 0."""
    return -1 if share <= NEARLY_NONE else 1 if share >= 1 - NEARLY_NONE else 0


def _amount(shares: Sequence[tuple[float, float, float]]) -> str:
    """How much the shares of one part are."""
    values = [value for value, _, _ in shares]
    low, high = min(values), max(values)
    if high == 0 or low == 1:
        return "none" if high == 0 else "all"
    if _extreme(low) < 0:
        return f"at most {100 * high:.2g} %"
    if _extreme(low) > 0:  # rounded down, so that it is true, and never 100
        return f"at least {math.floor(1000 * low) / 10:g} %"
    if len(shares) > 1:
        return f"between {100 * low:.0f} and {100 * high:.0f} %"
    return f"{100 * low:.0f} % ({100 * shares[0][1]:.0f} to {100 * shares[0][2]:.0f} %)"


def _when(times: Sequence[float], part: Sequence[int], name: str) -> str:
    """At which of the tested times one part lies."""
    first, last, end = part[0], part[-1], len(times) - 1
    start = f"{name}{times[first]:.3g}"
    if first == last:
        return f"at {start}"
    if first == 0 < last < end:
        return f"up to {name}{times[last]:.3g}"
    return f"from {start} on" if last == end and first > 0 else f"from {start} to {times[last]:.3g}"

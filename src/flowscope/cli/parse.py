"""What is given to an option as text, as a value; what cannot be is refused in one line that says what can."""

import math
import re
from collections.abc import Callable

import torch

from flowscope.curve.placement import AUTO
from flowscope.errors import InputError
from flowscope.paths import get_path


def whole(least: int) -> Callable[[str, str], int]:
    """A parser of whole numbers of at least `least`."""

    def parse(option: str, text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,18}", text.strip(), re.ASCII) or int(text) < least:
            raise InputError(f"{option} is {text!r}; expected a whole number of at least {least} and at most 18 digits")
        return int(text)

    return parse


def positive(expected: str, most: float = math.inf) -> Callable[[str, str], float]:
    """A parser of finite numbers above zero.

    Args:
        expected: for the message: "seconds above 0, such as 60". most: the largest that is taken.
    """

    def parse(option: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not (0 < value <= most and math.isfinite(value)):
            raise InputError(f"{option} is {text!r}; expected {expected}")
        return value

    return parse


def share(option: str, text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise InputError(f"{option} is {text!r}; expected a share from 0 to 1, such as 0.02")
    return value


def device(option: str, text: str) -> str:
    """cpu, or cuda with or without a number; torch knows other names, which cannot do float64 or are not there."""
    if re.fullmatch(r"cpu|cuda(:\d{1,3})?", text, re.ASCII):
        return text
    raise InputError(f"{option} is {text!r}; expected cpu, or cuda (cuda:1 for the second) where there is one")


def size(option: str, text: str) -> int | tuple[int, int]:
    """32 or 32x48 (height by width)."""
    match = re.fullmatch(r"(\d{1,6})(?:[xX](\d{1,6}))?", text, re.ASCII)
    if match is None:
        raise InputError(f"{option} is {text!r}; expected a side such as 32, or HxW such as 32x48")
    return int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))


def shape(option: str, text: str) -> tuple[int, ...]:
    """4x32x32: the sides of one state."""
    if not re.fullmatch(r"[1-9]\d{0,6}([xX][1-9]\d{0,6})*", text, re.ASCII):
        raise InputError(f"{option} is {text!r}; expected the sides of one state, such as 4x32x32")
    return tuple(map(int, re.split("[xX]", text)))


def whole_numbers(option: str, text: str) -> list[int]:
    """Whole numbers separated by commas."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"{option} is {text!r}; expected whole numbers separated by commas, such as 100,1000"
        ) from None


def names(option: str, text: str) -> list[str]:
    """Names separated by commas."""
    return [name.strip() for name in text.split(",")]


def timesteps(option: str, text: str, path: str) -> int | str | list[float]:
    """A count, "auto", or times separated by commas; on the path named, which is checked, too."""
    on = get_path(path)
    expected = "expected a count such as 64, auto, or times in [0, 1) such as 0,0.1,0.5"
    if text.strip() == AUTO:
        return AUTO
    if re.fullmatch(r"[+-]?\d+", text.strip(), re.ASCII):
        try:
            return whole(1)(option, text)
        except InputError:
            raise InputError(f"{option} is {text!r}; {expected}") from None
    try:
        times = [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} is {text!r}; {expected}") from None
    on(torch.tensor(times, dtype=torch.float64))
    return times

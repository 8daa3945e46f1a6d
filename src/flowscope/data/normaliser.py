"""Normaliser: (value - mean) / std * factor by channel, the scale on which a network is given its points."""

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from flowscope.errors import InputError

STATISTICS_SUFFIXES = (".pt", ".pth", ".npz", ".npy", ".safetensors")  # of files that may hold mean and std
EXPECTED = (
    "'none', 'lightningdit' or 'lightningdit:0.5' for (value - mean)/std by the statistics beside latents, "
    "'scale:0.18215', 'channel' for mean and std of the points themselves, or a file of mean and std "
    f"({', '.join(STATISTICS_SUFFIXES)})"
)
DIGEST_DIGITS = 16  # of the statistics, in words


@dataclass(frozen=True, eq=False)
class Normaliser:
    """A function of rows (n, C, ...): (value - mean) / std * factor; value * factor without mean and std.

    Args:
        factor: above 0.
        mean, std: (C,) by channel, the first axis of a point; float32, or float64 for float64 arithmetic.

    Example:
        >>> import numpy as np
        >>> normaliser = Normaliser(0.5, mean=np.array([1.0, 2.0]), std=np.array([2.0, 4.0]))
        >>> normaliser(np.array([[3.0, 6.0]])).tolist()
        [[0.5, 0.5]]
    """

    factor: float = 1.0
    mean: np.ndarray | None = None
    std: np.ndarray | None = None

    def __call__(self, block: np.ndarray) -> np.ndarray:
        values = block.astype(np.promote_types(block.dtype, np.float32))
        with np.errstate(all="ignore"):  # what leaves the range of floats is refused
            found = self._scaled(values).astype(values.dtype, copy=False)
        if not np.isfinite(found).all() and not np.isfinite(found[np.isfinite(values)]).all():
            raise InputError(
                f"the normalisation {self} makes of finite values what {found.dtype} cannot hold; expected values near "
                "1: choose another normalisation (normalise, --normalise)"
            )
        return found

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        if self.mean is None or self.std is None:
            return values * self.factor
        mean, std = (by_channel.reshape(-1, *(1,) * (values.ndim - 2)) for by_channel in (self.mean, self.std))
        return (values - mean) / std * self.factor

    def __str__(self) -> str:
        """What is done to a value, in words; different statistics have different ones."""
        if self.mean is None or self.std is None:
            return f"value * {self.factor!r}"
        both = np.stack([self.mean, self.std]).astype("<f8")
        times = "" if self.factor == 1 else f" * {self.factor!r}"
        return f"(value - mean) / std{times} by channel, statistics {_digest(both.tobytes())}"

    def check(self, shape: tuple[int, ...], name: str) -> None:
        """Refuse points with another number of channels.

        Args:
            shape: of all points, (N, C, ...).
            name: of the set.

        Raises:
            InputError: they have.
        """
        if self.mean is not None and shape[1] != len(self.mean):
            raise InputError(
                f"{name} has points of shape {shape[1:]} and statistics of {len(self.mean)} channels; expected one "
                "mean and std for each channel, the first axis of a point: give the statistics of these points"
            )


class Normalised(Protocol):
    """What is compared of a training set."""

    name: str
    normaliser: Normaliser | None


class Wanted(NamedTuple):
    """A normaliser that depends on the source.

    Attributes:
        kind: "none", "lightningdit", "channel" or "file".
        factor: of "lightningdit".
        path: of "file".
    """

    kind: str
    factor: float = 1.0
    path: Path | None = None

    def __str__(self) -> str:
        if self.kind == "lightningdit":
            return f"{self.kind}:{self.factor!r}"
        return self.kind if self.path is None else str(self.path)


NONE = Wanted("none")


def check_normalise(value: Any) -> Normaliser | Wanted:
    """What a user asks for: a word, a file of statistics, or a normaliser.

    Raises:
        InputError: it is none of them.
    """
    if isinstance(value, Normaliser):
        return value
    text = os.fsdecode(value) if isinstance(value, (str, os.PathLike)) else str(value)
    word, colon, number = text.replace(" ", "").partition(":")
    if word in ("none", "channel") and not colon:
        return Wanted(word)
    if word == "lightningdit":
        return Wanted(word, _factor(number, text) if colon else 1.0)
    if word == "scale" and colon:
        return Normaliser(_factor(number, text))
    if Path(text).suffix.lower() in STATISTICS_SUFFIXES:
        return Wanted("file", path=Path(text).expanduser())
    raise InputError(f"normalise is {text!r}; expected {_new_word(word) or EXPECTED}")


def check_one_scale(data: Normalised, other: Normalised, what: str) -> None:
    """Refuse points that are normalised otherwise than those that a network was trained on.

    Args:
        data: the training set.
        other: points beside it.
        what: the others, in a word.

    Raises:
        InputError: their normalisers differ.
    """
    own, theirs = (str(points.normaliser or "not normalised") for points in (data, other))
    if own != theirs:
        raise InputError(
            f"the {what} points are {theirs}, and those of {data.name} are {own}; expected one scale: --normalise on "
            "the command line holds for both, by the statistics of the data; in Python load them with "
            "normalise=data.normaliser"
        )


def _factor(number: str, text: str) -> float:
    try:
        factor = float(number)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise InputError(f"normalise is {text!r}; expected a number above 0 behind the colon, such as 'scale:0.18215'")
    return factor


def _new_word(word: str) -> str:
    """What is now said for "stats", "stats*0.5" and a factor alone; empty for all else."""
    stats, _, number = word.partition("*")
    if stats == "stats":
        return f"'lightningdit{number and ':'}{number}'"
    try:
        return f"'scale:{word}'" if 0 < float(word) < math.inf else ""
    except ValueError:
        return ""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGEST_DIGITS]

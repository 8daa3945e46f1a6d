"""Options: what the options of load ask for, checked, and the points that they choose."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from flowscope.core.memory import GIB
from flowscope.core.text import nfc
from flowscope.data.normaliser import Normaliser, Wanted, check_normalise
from flowscope.errors import InputError, unknown_name

EAGER_BYTES = GIB
CENTRE = "center"  # how images are cropped: as ADM and its followers do
LAYOUTS = ("chw", "hwc")  # orders of an image's axes
POSTERIORS = ("mean", "sample")  # points of posteriors
RANGES = ("[0,1]", "[0,255]", "[-1,1]", "stored")  # what floats with an image's shape may be assumed to be


@dataclass(frozen=True)
class Options:
    """Checked options; :func:`flowscope.data.load.load` says what each does.

    Attributes:
        eager_bytes: of a set, at most, that is mapped at once; a larger one is mapped as it is read.
    """

    resize: tuple[int, int] | None = None
    crop: bool = False
    grey: bool = False
    flips: bool | None = None
    subset: int | None = None
    classes: tuple[int | str, ...] | None = None
    skip_broken: bool = False
    layout: str | None = None
    assume: str | None = None
    normalise: Normaliser | Wanted | None = None
    posterior: str | None = None
    seed: int = 0
    eager_bytes: int = EAGER_BYTES

    @property
    def for_images(self) -> list[str]:
        """The names of the options in use that apply to images only."""
        used = {"resize": self.resize is not None, "grey": self.grey, "flips": bool(self.flips)}
        return [name for name, on in used.items() if on]

    @property
    def in_use(self) -> dict[str, Any]:
        """The options that differ from their defaults, by name; what only says how a set is read is none of them."""
        of_reading = ("eager_bytes", "seed" if self.subset is None and self.posterior != "sample" else "")
        named = {f.name: (f.default, getattr(self, f.name)) for f in fields(self) if f.name not in of_reading}
        used = {name: value for name, (default, value) in named.items() if value != default}
        return used | ({"normalise": str(self.normalise)} if "normalise" in used else {})

    @property
    def note(self) -> str:
        """The options in use, in words, for the name of the set; empty for none."""
        words = []
        if self.classes is not None:
            words.append(f"class {', '.join(map(str, self.classes))}")
        if self.subset is not None:
            words.append(f"subset {self.subset}, seed {self.seed}")
        if self.resize is not None:
            words.append(f"{self.resize[0]}x{self.resize[1]}{', centre crop' * self.crop}")
        if self.posterior is not None:
            words.append("posterior mean" if self.posterior == "mean" else f"posterior sample, seed {self.seed}")
        words += [name for name, on in (("grey", self.grey), ("flips", self.flips)) if on]
        return "; ".join(words)


def check_options(
    *,
    resize: Any,
    crop: Any,
    grey: Any,
    flips: Any,
    subset: Any,
    classes: Any,
    skip_broken: Any,
    layout: Any,
    assume: Any,
    normalise: Any,
    posterior: Any,
    seed: Any,
) -> Options:
    """Check the options as a user gives them.

    Raises:
        InputError: one has the wrong type or lies out of range.
    """
    for name, value in (("grey", grey), ("flips", flips), ("skip_broken", skip_broken)):
        if not isinstance(value, (bool, np.bool_)) and not (name == "flips" and value is None):
            raise InputError(f"{name} is {value!r}; expected True or False")
    if layout not in (None, *LAYOUTS):
        raise InputError(
            f"layout is {layout!r}; expected {' or '.join(map(repr, LAYOUTS))}, the order of an image's axes"
        )
    if assume is not None:
        assume = str(assume).replace(" ", "")
        if assume not in RANGES:
            raise unknown_name("assume", assume, RANGES)
    if posterior not in (None, *POSTERIORS):
        raise unknown_name("posterior", posterior, POSTERIORS)
    size = _check_size(resize)
    return Options(
        size,
        _check_crop(crop, size),
        bool(grey),
        None if flips is None else bool(flips),
        None if subset is None else _integer("subset", subset, 1),
        None if classes is None else _check_classes(classes),
        bool(skip_broken),
        layout,
        assume,
        None if normalise is None else check_normalise(normalise),
        posterior,
        _integer("seed", seed, 0),
    )


def choose(
    count: int, labels: np.ndarray | None, names: Mapping[int, str] | None, options: Options
) -> np.ndarray | None:
    """The positions (n,) of the points that `classes` and `subset` keep, ascending; None for all of them.

    Args:
        count: of points in the source.
        labels: (count,) of the source; None for none.
        names: of labels, {label: name}; None for none.
        options: what the user asked for.

    Raises:
        InputError: a class that no point has, or a subset larger than what there is.
    """
    chosen = None
    if options.classes is not None:
        if labels is None:
            raise InputError(
                "classes are given and the source has no labels; expected labels (labels=...), or no classes"
            )
        present = np.unique(labels).tolist()
        kept = {label for wanted in options.classes for label in find_class(wanted, present, names)}
        chosen = np.flatnonzero(np.isin(labels, sorted(kept)))
        count = len(chosen)
    if options.subset is not None:
        picked = draw_subset(count, options.subset, options.seed)
        chosen = picked if chosen is None else chosen[picked]
    return chosen


def draw_subset(count: int, size: int, seed: int) -> np.ndarray:
    """The positions (size,) of a random part of `count` points, ascending.

    Raises:
        InputError: there are not so many points.
    """
    if size > count:
        raise InputError(f"subset is {size} and there are {count} points to choose from; expected at most that")
    return np.sort(np.random.default_rng(seed).choice(count, size, replace=False))


def find_class(wanted: int | str, present: Sequence[int], names: Mapping[int, str] | None) -> list[int]:
    """The labels that a class means: an integer is a label, a text is a name; a label without a name is called by it.

    Args:
        wanted: the class.
        present: the labels there are.
        names: of labels, {label: name}; None for none.

    Raises:
        InputError: there is none.
    """
    called = {label: (names or {}).get(label, str(label)) for label in present}
    plain = nfc(wanted) if isinstance(wanted, str) else wanted
    found = [label for label in present if plain == (nfc(called[label]) if isinstance(plain, str) else label)]
    if not found:
        known = list(map(str, called.values() if isinstance(wanted, str) else called))
        listed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
        raise InputError(f"class {wanted!r} has no points; expected one of {listed}")
    return found


def _integer(name: str, value: Any, lowest: int | None = None) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, (bool, np.bool_)) or (lowest is not None and number < lowest):
        limit = "" if lowest is None else f" of at least {lowest}"
        raise InputError(f"{name} is {value!r}; expected an integer{limit}")
    return number


def _check_size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise InputError(f"resize is {value!r}; expected one size or (height, width)")
        return _integer("resize", value[0], 1), _integer("resize", value[1], 1)
    side = _integer("resize", value, 1)
    return side, side


def _check_crop(value: Any, size: tuple[int, int] | None) -> bool:
    if value is None:
        return False
    if value != CENTRE:
        raise unknown_name("crop", value, [CENTRE])
    if size is None or size[0] != size[1]:
        raise InputError(f"crop is {CENTRE!r} and resize is {size}; expected the side of the square: resize=N")
    return True


def _check_classes(value: Any) -> tuple[int | str, ...]:
    wanted = (
        [value] if isinstance(value, str) or not isinstance(value, (Sequence, set, frozenset, np.ndarray)) else value
    )
    checked = tuple(one if isinstance(one, str) else _integer("classes", one) for one in wanted)
    if not checked:
        raise InputError(f"classes is {value!r}, which keeps nothing; expected a label, a name or several")
    return checked

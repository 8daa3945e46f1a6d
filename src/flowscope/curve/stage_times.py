"""Stage times: where the oracle's own stages end, and in which of them a state lies.

Classes end their stages at different times: of MNIST the class 1 late, all others early. So a state that has a label
lies in the stages of its class. What takes one time for all states takes that of the mean curve over classes.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from flowscope.curve.crossing import Crossing
from flowscope.curve.stages import stages
from flowscope.errors import listed
from flowscope.oracle import Oracle

CURVE_PROBES = 256  # probes of the stage curve that gives the times; where conditional, in each class
STAGES = ("navigation", "transition", "refinement")


class Boundaries(NamedTuple):
    """The times at which the oracle's stages end; NaN for a stage without an end."""

    half: float
    saturation: float

    @property
    def none(self) -> bool:
        """Whether no stage has an end, as for a class of one point."""
        return math.isnan(self.half) and math.isnan(self.saturation)

    def in_words(self) -> str:
        """The sentence that says where the stages end."""
        if not math.isfinite(self.half + self.saturation):
            return "The oracle's own stages have no clear end on these points."
        return f"The oracle's half is at t = {self.half:.3g}, its saturation at {self.saturation:.3g}."


class StageTimes(NamedTuple):
    """The ends of the oracle's stages with intervals: navigation ends at half, refinement starts at saturation.

    Attributes:
        half: with its interval; where conditional, of the mean curve over classes.
        saturation: likewise.
        by_class: label -> the ends of that class; empty where states have no labels.
        names: label -> the name of that class.
    """

    half: Crossing
    saturation: Crossing
    by_class: Mapping[int, Boundaries] = {}
    names: Mapping[int, str] = {}

    @property
    def boundaries(self) -> Boundaries:
        """The times without their intervals."""
        return Boundaries(self.half.t, self.saturation.t)

    @property
    def latest(self) -> Boundaries:
        """For each stage the end that comes last among the classes; NaN for none."""
        return Boundaries(*(max(_finite(ends), default=math.nan) for ends in zip(*self._all, strict=True)))

    @property
    def _all(self) -> list[Boundaries]:
        return list(self.by_class.values()) or [self.boundaries]

    def ends(self, y: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Half and saturation of each of n labels, (n,) each; the only ones, (), without labels.

        Args:
            y: (n,) labels as a tensor or an array, or None.
        """
        if y is None or not self.by_class:
            return np.array(self.half.t), np.array(self.saturation.t)
        labels, where = np.unique(np.asarray(y.cpu() if hasattr(y, "cpu") else y), return_inverse=True)
        rows = np.array([self.by_class.get(int(label), Boundaries(math.nan, math.nan)) for label in labels])
        half, saturation = rows.reshape(-1, 2)[where].T
        return half, saturation

    def of(self, t: np.ndarray, y: Any = None) -> dict[str, np.ndarray]:
        """For each stage, which states lie in it, as bool. A state of a class without ends lies in none.

        Args:
            t: (n,) times, or (T, 1) for n states at each of T times.
            y: (n,) labels of the states, or None.
        """
        half, saturation = self.ends(y)
        navigation, refinement = t < half, t >= saturation
        left_out = np.isnan(half) & np.isnan(saturation) & (half.ndim > 0)
        transition = ~(navigation | refinement | left_out)
        return dict(zip(STAGES, (navigation, transition, refinement), strict=True))

    def after_half(self, t: np.ndarray, y: Any = None) -> np.ndarray:
        """(n,) which states lie after the half of their class; all of them where the oracle has no half at all.

        Args:
            t: (n,) times.
            y: (n,) labels of the states, or None.
        """
        half, _ = self.ends(y)
        return t >= (half if any(math.isfinite(ends.half) for ends in self._all) else np.zeros_like(half))

    def notes(self, one_time: bool = False) -> list[str]:
        """How the ends differ by class, and what that means for a page; nothing without labels.

        Args:
            one_time: whether the page takes one time for all states, not for each that of its class.
        """
        if not self.by_class:
            return []
        spread = [f"the oracle's {end} {words}" for end in Boundaries._fields if (words := self._spread(end))]
        told = [f"By class, {listed(spread)}."] if spread else []
        told.append(
            "Where one time stands for all classes, it is that of the mean curve over classes."
            if one_time
            else "Each state counts in the stages of its own class."
        )
        without = sorted(self.names[label] for label, ends in self.by_class.items() if ends.none)
        if without:
            told.append(f"Without stages, as of one point: class {listed(without)}.{'' if one_time else ' Left out.'}")
        return told

    def _spread(self, end: str) -> str:
        """Least, median and greatest of an end over classes; "" if no class has it."""
        ends = [(getattr(b, end), self.names[label]) for label, b in self.by_class.items()]
        found = sorted(row for row in ends if math.isfinite(row[0]))
        if not found:
            return ""
        (least, first), (greatest, last) = found[0], found[-1]
        median = float(np.median([t for t, _ in found]))
        return f"lies from t = {least:.3g} (class {first}) to {greatest:.3g} (class {last}), with median {median:.3g}"


def _finite(ends: tuple[float, ...]) -> list[float]:
    return [t for t in ends if math.isfinite(t)]


def stage_times(oracle: Oracle, conditional: bool, seed: int) -> StageTimes:
    """The ends of the oracle's stages; of each class and of the mean over classes if `conditional`.

    Example:
        >>> import torch
        >>> import flowscope as fs
        >>> near = 0.1 * torch.randn(40, 4, generator=torch.manual_seed(0))
        >>> points = fs.TrainingSet(torch.cat([near, 10 * near]), [0] * 40 + [1] * 40)
        >>> times = stage_times(fs.Oracle(points), True, 0)
        >>> near_ends, far_ends = times.by_class[0], times.by_class[1]
        >>> far_ends.saturation < times.half.t < near_ends.half
        True
        >>> times.of(np.array([0.5, 0.5]), np.array([0, 1]))["refinement"].tolist()
        [False, True]
    """
    curve = stages(oracle, 1, CURVE_PROBES, seed, conditional)
    rows = curve.per_class or ()
    by_class = {row.label: Boundaries(row.half.t, row.saturation.t) for row in rows}
    return StageTimes(curve.half, curve.saturation, by_class, {row.label: row.name for row in rows})

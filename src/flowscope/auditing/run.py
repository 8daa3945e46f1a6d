"""audit: are samples copies of training points?"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowscope.auditing import rule
from flowscope.auditing.duplicates import audit_training_set
from flowscope.auditing.inputs import (
    about,
    as_float,
    as_points,
    check_comparable,
    drawn,
    names,
    shown_pairs,
    with_weight,
)
from flowscope.auditing.matches import Index, Matches
from flowscope.auditing.measures import measures
from flowscope.auditing.planted import Values, kinds_for, originals, values_of
from flowscope.auditing.result import Audit, Pair
from flowscope.auditing.spaces import find_space, make_index
from flowscope.core.settings import check_count, check_seed, versions
from flowscope.data.training_set import TrainingSet
from flowscope.errors import FlowscopeWarning, InputError
from flowscope.metrics.features import PIXELS
from flowscope.metrics.memorised import MEMORISED_RATIO

PLANTED = 100  # copies of each kind
MAX_HELD_OUT = 2000  # points that the null is measured on
MAX_MEASURED = 1000  # samples, and held-out points, that the other measures are taken of
ROWS = 256  # samples that are matched between two reports of progress
Progress = Callable[[int, int], None]  # called as progress(done, total)


def audit(
    generated: Any,
    training_set: Any,
    held_out: Any = None,
    space: Any = "pixels",
    *,
    planted: int = PLANTED,
    measure: bool = True,
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Tell how many samples are copies of training points, which, and how well copies of each kind would be found.

    A sample is a copy where d1/d2 is below a threshold: d1 is its distance to the nearest training point, d2 that to
    the nearest one that is no near-copy of it. The threshold is 1/3, or what at least 99 held-out points allow at one
    false alarm in a hundred (:mod:`flowscope.auditing.rule`).

    Args:
        generated: samples, as a TrainingSet, floating-point (n, *shape), or whatever `load` reads; None to look for
            copies and near-copies within the training set alone.
        training_set: likewise, at least two points that are no near-copies of one another.
        held_out: likewise, real points that the model was not trained on; None for no null.
        space: "pixels", "mobilenet:FILE", "taef2:FILE", a TorchScript file, "file.py:make", a torch.nn.Module or a
            FeatureSpace. Networks get points (B, *shape) in the data's own range and return features (B, d).
        planted: copies of each kind that are planted, at most; of small sets fewer.
        measure: take the other measures, too.
        seed: of the draws of planted copies and of held-out points, where there are more than 2,000.
        device: where a network runs; None for the CPU.
        progress: called as progress(done, total) in points.

    Raises:
        InputError: the sets differ in shape or range, the training set has fewer than two points that are no
            near-copies, there is no such space, or its network does not return one feature vector a point.
        NumericalError: the network returns NaN or infinity.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.metrics import hold_out
        >>> train, rest = hold_out(fs.load("digits"), 300)
        >>> fs.audit(train.rows(slice(0, 20)), train, rest, planted=10).share
        1.0
    """
    s, seed, planted = with_weight(as_points(training_set)), check_seed(seed), check_count(planted, "planted", 0)
    if generated is None:
        if held_out is not None or find_space(space) is not PIXELS:
            raise InputError(
                "generated is None, for copies within the training set, and held_out or a space is given; expected "
                "samples with them: leave them out, or give samples"
            )
        return audit_training_set(s, planted, seed)
    samples, rest = as_points(generated), None if held_out is None else as_points(held_out)
    values = values_of(s)
    for what, points in (("generated", samples), ("held-out", rest)):
        if points is not None:
            check_comparable(points, s, what, values)
    run = _Run(make_index(s, space, device), values, seed, progress)
    return run.audit(samples, rest, planted, measure)


class _Run:
    """An audit under way: matches of samples, held-out points and planted copies, and what they come to."""

    def __init__(self, index: Index, values: Values, seed: int, progress: Progress | None) -> None:
        self.index, self.values, self.seed, self.progress = index, values, seed, progress
        self.s = index.training_set
        self.notes: list[str] = []
        self.done = self.total = 0

    def audit(self, samples: TrainingSet, rest: TrainingSet | None, planted: int, measure: bool) -> Audit:
        """Match everything, and say what it comes to."""
        positions = originals(self.s, self.index.group, planted, self.seed)
        null_points = None if rest is None else drawn(rest, MAX_HELD_OUT, self.seed)
        kinds = kinds_for(self.s)
        self.total = len(samples) + len(() if null_points is None else null_points) + len(kinds) * len(positions)
        matches = self.match(samples.rows(slice(None)))
        null = None if null_points is None else self.match(null_points)
        theta = rule.threshold(None if null is None else null.ratio)
        self.note(samples, rest, null)
        share = rule.share_of(matches.ratio < theta)
        third = rule.share_of(matches.ratio < MEMORISED_RATIO)
        others, told = self.measures(samples, null_points) if measure else ((), ())
        self.notes += told
        pairs, order = self.pairs(samples, matches, theta)
        return Audit(
            len(samples),
            *share,
            null=None if null is None else rule.share_of(rule.null_hits(null.ratio)),
            pairs=pairs,
            planted=self.recall(positions, theta),
            rule=rule.in_words(theta, None if null is None else len(null.ratio)),
            threshold=theta,
            third=(third, None if null is None else rule.share_of(null.ratio < MEMORISED_RATIO)),
            measures=others,
            space={"name": self.index.space, "method": self.index.method, "features": self.index.described},
            ratios=(_ascending(matches), _ascending(null)),
            shown=shown_pairs(samples, order, self.s, matches.indices[order], matches.mirrored[order], self.values),
            notes=tuple(self.notes),
            training_set=about(self.s) | {"near_copies": len(self.s) - int(self.index.group.max()) - 1},
            settings=self.settings(samples, rest, len(positions)),
            provenance={"criteria": rule.VERSION, **versions()},
        )

    def match(self, points: Tensor) -> Matches:
        """Match points, and report how far it is."""
        found = []
        for part in as_float(points).split(ROWS):
            found.append(self.index(part))
            self.done += len(part)
            if self.progress is not None:
                self.progress(self.done, self.total)
        return Matches(*(torch.cat(values) for values in zip(*found, strict=True)))

    def measures(self, samples: TrainingSet, rest: Tensor | None) -> Any:
        """The other measures, and notes on them."""
        own = self.index.features(as_float(drawn(samples, MAX_MEASURED, self.seed)))
        null = None if rest is None else self.index.features(as_float(rest[:MAX_MEASURED]))
        return measures(self.index.features(), own, null, self.seed)

    def recall(self, positions: np.ndarray, theta: float) -> dict[str, float]:
        """The share of planted copies of each kind that the rule finds, as copies of what they were made of."""
        if not len(positions):
            return {}
        points, own = as_float(self.s.rows(positions)), self.index.group[positions]
        found = {}
        for kind, change in kinds_for(self.s).items():
            matches = self.match(change(points, self.values).to(points.dtype))
            hit = (matches.ratio < theta) & (self.index.group[matches.indices] == own)
            found[kind] = float(hit.to(torch.float64).mean())
        return found

    def pairs(self, samples: TrainingSet, matches: Matches, theta: float) -> tuple[tuple[Pair, ...], Tensor]:
        """A pair for each sample, worst first, and the order (n,) of samples that is."""
        ratio, distance = matches.ratio.numpy(), matches.nearest.numpy()
        order = torch.from_numpy(np.lexsort((distance, ratio)))  # stable: equal ones stay in the order of the samples
        copy = matches.ratio < theta
        told = names(samples, order), names(self.s, matches.indices[order])
        numbers = [values[order].tolist() for values in (matches.nearest, matches.ratio, copy)]
        return tuple(Pair(*row) for row in zip(*told, *numbers, strict=True)), order

    def note(self, samples: TrainingSet, rest: TrainingSet | None, null: Matches | None) -> None:
        """Say what a reader must know of the points."""
        self.notes += [*self.s.notes, *(note for note in samples.notes if note not in self.s.notes)]
        if rest is None or null is None:
            self.notes.append("There are no held-out points, so how often the rule is wrong is not known.")
            return
        if len(rest) > len(null.ratio):
            self.notes.append(f"The null is measured on {len(null.ratio)} of {len(rest)} held-out points.")
        wrong = []
        if shared := int(np.isin(samples.statistics.keys, rest.statistics.keys).sum()):
            wrong.append(f"{shared} samples are also among the held-out points: hold out points that are no samples.")
        if same := int((null.nearest == 0).sum()):
            wrong.append(
                f"{same} held-out points are also in the training set, so the null is too large: hold out others."
            )
        self.notes += wrong
        for told in wrong:
            warnings.warn(f"{rest.name}: {told}", FlowscopeWarning, stacklevel=4)

    def settings(self, samples: TrainingSet, rest: TrainingSet | None, planted: int) -> dict[str, Any]:
        """The arguments, as results keep them."""
        return {
            "generated": samples.name,
            "held_out": None if rest is None else rest.name,
            "held_out_points": None if rest is None else len(rest),
            "space": self.index.space,
            "planted": planted,
            "false_alarms": rule.FALSE_ALARMS,
            "seed": self.seed,
        }


def _ascending(matches: Matches | None) -> np.ndarray:
    return np.empty(0) if matches is None else matches.ratio.sort().values.numpy()

"""Trainings by size: models that were trained, or are trained now, on random parts of one set.

A part of n points is the one that `load(..., subset=n)` and `flowscope train --subset n` draw; draw k has seed k. A
model's record names the digest of its points, so a folder is matched with its part or refused.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowscope.core.settings import check_count
from flowscope.data.options import draw_subset
from flowscope.data.split import take
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError
from flowscope.fields import VelocityField, check_field
from flowscope.metrics import near_copies
from flowscope.studies.bench.variants import load_snapshots, record_of
from flowscope.studies.inputs import DIGEST_DIGITS, check_distinct, check_kinds
from flowscope.training import load_model
from flowscope.training.model_store import read_about

LEAST_POINTS = 2  # of a part: with one there is no second-nearest point
MAX_HELD_OUT = 2000  # points, of those that no model was trained on
HELD_OUT_STREAM = 11  # of random numbers
Snapshots = list[tuple[int, VelocityField]]  # (step, model), ascending


class Training(NamedTuple):
    """One training: its points, and what gives its snapshots, which may train first."""

    points: TrainingSet
    draw: int
    snapshots: Callable[[], Snapshots]


def part_of(training_set: TrainingSet, size: int, draw: int) -> TrainingSet:
    """The part of `size` points that `load(..., subset=size, seed=draw)` keeps."""
    rows = draw_subset(len(training_set), size, draw)
    return take(training_set, rows, f"{training_set.name} (subset {size}, seed {draw})")


def check_part_sizes(sizes: Any, training_set: TrainingSet) -> list[int]:
    """Sizes of parts, ascending.

    Raises:
        InputError: they are no list of different numbers of at least 2 points that the set has.
    """
    try:
        found = sorted(check_count(size, "a size") for size in sizes)
    except TypeError:
        found = []
    if not found or len(set(found)) < len(found) or found[0] < LEAST_POINTS or found[-1] > len(training_set):
        raise InputError(
            f"sizes are {sizes!r}; expected different numbers of points from {LEAST_POINTS} to {len(training_set)}, "
            f"which {training_set.name} has"
        )
    return found


def made_trainings(
    make: Callable[[TrainingSet], Any], training_set: TrainingSet, sizes: Sequence[int], draws: int
) -> list[Training]:
    """The trainings of a maker, each of which is made when its snapshots are asked for."""
    parts = [(part_of(training_set, size, draw), draw) for size in sizes for draw in range(draws)]
    return [Training(part, draw, lambda part=part: read_made(make(part), part)) for part, draw in parts]  # type: ignore[misc]


def read_made(made: Any, part: TrainingSet) -> Snapshots:
    """The snapshots of what a maker returned.

    Raises:
        InputError: it is no folder of a model of this part, no field, and no (step, field) pairs.
    """
    if isinstance(made, (str, Path)):
        check_trained_on(Path(made), part)
        return list(load_snapshots(made))
    if callable(made) and not isinstance(made, Mapping):
        check_field(made, "what the maker returned")
        return [(int(record_of(made).get("step", 1)), made)]
    pairs = made.items() if isinstance(made, Mapping) else made
    try:
        found = sorted(((check_count(step, "step"), field) for step, field in pairs), key=lambda pair: pair[0])
    except (TypeError, ValueError):
        found = []
    if not found:
        raise InputError(
            f"the maker returned a {type(made).__name__} for {part.name}; expected a folder of flowscope train, a "
            "velocity field, or (step, field) pairs"
        )
    for step, field in found:
        check_field(field, f"the model after step {step}")
    return found


def read_trainings(folders: Any, training_set: TrainingSet) -> list[Training]:
    """The trainings of folders of flowscope train, matched with the parts they were trained on, by size.

    Snapshots count up to the last step that all of them have reached.

    Raises:
        InputError: a folder is no model of a part of this set, is given twice, or differs in its settings.
    """
    paths = [Path(f) for f in ([folders] if isinstance(folders, (str, Path)) else _listed(folders))]
    check_distinct(paths)
    first, *others = [load_model(path, shape=training_set.shape) for path in paths]
    check_kinds([first], others, "models that differ in their points alone", ("steps",))
    last = min(int(model.about["step"]) for model in (first, *others))
    found: list[Training] = []
    for path in paths:
        size = int(read_about(path)["training_set"].get("points") or 0)
        part = _matching_part(path, training_set, size, len(paths))
        draw = sum(len(other.points) == size for other in found)
        found.append(Training(part, draw, lambda path=path: _up_to(last, path)))  # type: ignore[misc]
    return sorted(found, key=lambda training: (len(training.points), training.draw))


def _up_to(last: int, path: Path) -> Snapshots:
    """The snapshots of a folder up to a step that all folders have reached: longer training would see more copies."""
    return [(step, model) for step, model in load_snapshots(path) if step <= last]


def _listed(folders: Any) -> list[Any]:
    found = list(folders.values() if isinstance(folders, Mapping) else folders) if isinstance(folders, Iterable) else []
    if not found or not all(isinstance(folder, (str, Path)) for folder in found):
        raise InputError(
            f"make_or_folders is {str(folders)[:60]!r}; expected folders of flowscope train, one or more for each "
            "size, or a function that trains on a TrainingSet"
        )
    return found


def _matching_part(path: Path, training_set: TrainingSet, size: int, seeds: int) -> TrainingSet:
    """The part that a folder's model was trained on: one of the first `seeds` draws, by its digest."""
    if not LEAST_POINTS <= size <= len(training_set):
        raise InputError(f"{path} was trained on {size} points; expected a part of the {len(training_set)} points")
    parts = [part_of(training_set, size, draw) for draw in range(seeds)]
    own = read_about(path)["training_set"]["digest"]
    matching = [part for part in parts if part.digest == own]
    if not matching:
        check_trained_on(path, parts[0])
    return matching[0]


def check_trained_on(path: Path, part: TrainingSet) -> None:
    """Refuse the folder of a model that was trained on other points.

    Raises:
        InputError: its record has another digest.
    """
    own = read_about(path)["training_set"]["digest"]
    if own != part.digest:
        raise InputError(
            f"{path} was trained on other points (digest {own[:DIGEST_DIGITS]}...) than {part.name} (digest "
            f"{part.digest[:DIGEST_DIGITS]}...); expected flowscope train SOURCE --subset {len(part)} of the same "
            "source and options, without --held-out"
        )


def points_left(training_set: TrainingSet, parts: Iterable[TrainingSet], seed: int) -> TrainingSet | None:
    """At most MAX_HELD_OUT points, at random, that are in no part and no near-copies of those; None for none."""
    keys = training_set.statistics.keys
    trained = np.isin(keys, np.concatenate([part.statistics.keys for part in parts]))
    rows, rest = np.flatnonzero(trained), np.flatnonzero(~trained)
    rest = np.sort(np.random.default_rng((seed, HELD_OUT_STREAM)).permutation(rest)[:MAX_HELD_OUT])
    group = near_copies(take(training_set, np.concatenate([rows, rest]), "points"))
    rest = rest[~np.isin(group[len(rows) :], group[: len(rows)])]
    return take(training_set, rest, f"{len(rest)} other points of {training_set.name}") if len(rest) else None

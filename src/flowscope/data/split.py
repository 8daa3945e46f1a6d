"""split: set some points aside, so that a network can be tested on points that it was not trained on."""

import numpy as np

from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError


def split(training_set: TrainingSet, held_out: int, seed: int = 0) -> tuple[TrainingSet, TrainingSet | None]:
    """Set points aside, drawn without replacement; a seed draws the same ones each time.

    Args:
        training_set: the whole set.
        held_out: how many points to set aside; 0 for none.
        seed: of the draw.

    Returns:
        The points that stay, and those set aside (None for none), each in the order of the whole.

    Raises:
        InputError: held_out is not a number of points that leaves at least one.
    """
    count = len(training_set)
    check_held_out(held_out, count)
    if held_out == 0:
        return training_set, None
    aside = np.zeros(count, dtype=bool)
    aside[np.random.default_rng((seed, count, held_out)).choice(count, held_out, replace=False)] = True
    stay = take(training_set, np.flatnonzero(~aside), f"{training_set.name}, {held_out} held out")
    return stay, take(training_set, np.flatnonzero(aside), f"{held_out} held out of {training_set.name}")


def check_held_out(held_out: object, count: int) -> None:
    """Refuse a number of held-out points, of `count`, that leaves none to train on.

    Raises:
        InputError: it is not.
    """
    if isinstance(held_out, bool) or not isinstance(held_out, (int, np.integer)) or not 0 <= held_out < count:
        raise InputError(f"held_out is {held_out!r} of {count} points; expected a whole number from 0 to {count - 1}")


def take(whole: TrainingSet, positions: np.ndarray, name: str) -> TrainingSet:
    """Some points of a set, with their labels and weights."""
    labels, weights = (None if v is None else v[positions] for v in (whole.labels, whole.weights))
    points = whole.rows(positions)
    return TrainingSet(
        points,
        labels,
        weights,
        name,
        normalisation=whole.normalisation,
        class_names=whole.class_names,
        notes=whole.notes,
    )

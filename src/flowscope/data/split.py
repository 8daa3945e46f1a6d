"""split: set some points aside, so that a network can be tested on points that it was not trained on."""

import numpy as np

from flowscope.data.distinct import find_distinct
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError


def split(
    training_set: TrainingSet, held_out: int, seed: int = 0, groups: np.ndarray | None = None
) -> tuple[TrainingSet, TrainingSet | None]:
    """Set points aside, drawn without replacement; a seed draws the same ones each time.

    Points of a group stay together: a held-out point that is a copy of a training point tests nothing. Where the number
    cannot be had of whole groups, fewer points are set aside, and the notes of both parts say so.

    Args:
        training_set: the whole set.
        held_out: how many points to set aside, at most; 0 for none.
        seed: of the draw.
        groups: (N,) the group of each point; None for one group of each point and its exact copies. See
            :func:`flowscope.metrics.hold_out` for near-copies.

    Returns:
        The points that stay, and those set aside (None for none), each in the order of the whole.

    Raises:
        InputError: held_out is not a number of points that leaves at least one, or no group is so small.
    """
    count = len(training_set)
    check_held_out(held_out, count)
    if held_out == 0:
        return training_set, None
    groups = find_distinct(training_set)[1] if groups is None else groups
    aside = _draw(groups, held_out, np.random.default_rng((seed, count, held_out)))
    got, notes = int(aside.sum()), training_set.notes
    if got == 0:
        raise InputError(
            f"held_out is {held_out} and every point of {training_set.name} has more copies than that, which stay "
            f"together; expected at least {np.bincount(groups).min()}"
        )
    if got < held_out:
        notes += (f"{got} points are held out instead of {held_out}, since copies of a point stay together.",)
    stay = take(training_set, np.flatnonzero(~aside), f"{training_set.name}, {got} held out", notes)
    return stay, take(training_set, np.flatnonzero(aside), f"{got} held out of {training_set.name}", notes)


def _draw(groups: np.ndarray, held_out: int, rng: np.random.Generator) -> np.ndarray:
    """(N,) which points are set aside: the groups whose first points are drawn, and others until as many are."""
    count, sizes = len(groups), np.bincount(groups)
    drawn = rng.choice(count, held_out, replace=False)
    rest = rng.permutation(np.setdiff1d(np.arange(count), drawn)) if sizes.max() > 1 else drawn[:0]
    is_first = np.zeros(count, bool)
    is_first[np.unique(groups, return_index=True)[1]] = True  # so that a group is as likely as a point alone
    order = np.concatenate([drawn, rest])
    chosen, left = np.zeros(len(sizes), bool), held_out
    for group in groups[order[is_first[order]]].tolist():
        if sizes[group] <= left:
            chosen[group] = True
            left -= sizes[group]
        if left == 0:
            break
    return chosen[groups]


def check_held_out(held_out: object, count: int) -> None:
    """Refuse a number of held-out points, of `count`, that leaves none to train on.

    Raises:
        InputError: it is not.
    """
    if isinstance(held_out, bool) or not isinstance(held_out, (int, np.integer)) or not 0 <= held_out < count:
        raise InputError(f"held_out is {held_out!r} of {count} points; expected a whole number from 0 to {count - 1}")


def take(whole: TrainingSet, positions: np.ndarray, name: str, notes: tuple[str, ...] | None = None) -> TrainingSet:
    """Some points of a set, with their labels and weights; with its notes, unless others are given."""
    labels, weights = (None if v is None else v[positions] for v in (whole.labels, whole.weights))
    return TrainingSet(
        whole.rows(positions),
        labels,
        weights,
        name,
        normalisation=whole.normalisation,
        class_names=whole.class_names,
        notes=whole.notes if notes is None else notes,
        files=None if whole.files is None else [whole.files[at] for at in positions.tolist()],
        source=whole.source,
        normaliser=whole.normaliser,
        origin=whole.origin,
        deviations=whole.deviation_rows(positions) if whole.own_deviations else whole.deviations,
        augmentations=whole.augmentations,
    )

"""What an audit is given: three sets of points that must be comparable."""

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from flowscope.auditing.planted import Values
from flowscope.auditing.result import ShownPairs
from flowscope.data import load
from flowscope.data.pixels import is_image
from flowscope.data.split import take
from flowscope.data.training_set import TrainingSet, as_training_set
from flowscope.errors import InputError

SHOWN_PAIRS = 24  # as images
SLACK = 0.5  # of the range of the training points, by which samples may leave it


def as_points(source: Any) -> TrainingSet:
    """A set of points as it is, floats as a set, and all else as `load` reads it."""
    pixels = str(getattr(source, "dtype", "")) in ("uint8", "torch.uint8")
    read = pixels or isinstance(source, (str, os.PathLike, Dataset, DataLoader))
    return load(source) if read else as_training_set(source)


def with_weight(points: TrainingSet) -> TrainingSet:
    """The points of a set that have weight: no other one is trained on."""
    kept = np.flatnonzero(points.relative_weights)
    return points if len(kept) == len(points) else take(points, kept, points.name)


def check_comparable(points: TrainingSet, training_set: TrainingSet, what: str, values: Values) -> None:
    """Refuse points that cannot be compared with the training points.

    Args:
        points: the samples, or the held-out points.
        training_set: the training points.
        what: the kind of points, for the message.
        values: of the training set.

    Raises:
        InputError: their shape is another one; or they are images of another range.
    """
    if points.shape != training_set.shape:
        remedy = "points of different kinds are not compared; one sample is given as x[None]"
        if len(points.shape) == len(training_set.shape) == 3:
            side = min(training_set.shape[1:])
            remedy = f"bring both to one size, as by --resize {side} (resize={side})"
            if points.shape[1:] == training_set.shape[1:]:
                remedy = "bring both to one number of channels, as by --grey (grey=True)"
        raise InputError(
            f"{what} points have shape {points.shape}; expected {training_set.shape}, as {training_set.name} has: "
            f"{remedy}"
        )
    known = points.normalisation == training_set.normalisation != "none"
    if is_image(points.shape) and not known:
        _check_range(points, training_set, what, values)


def _check_range(points: TrainingSet, training_set: TrainingSet, what: str, values: Values) -> None:
    """Refuse images that lie far outside of the range of the training images, or in its upper half alone."""
    least, most = _range(points)
    width, middle = values.high - values.low, (values.low + values.high) / 2
    if values.low - SLACK * width <= least and most <= values.high + SLACK * width and not least >= middle:
        return
    if least >= middle and _range(training_set)[0] >= middle:
        return
    raise InputError(
        f"{what} images lie mostly from {least:.3g} to {most:.3g} and those of {training_set.name} from "
        f"{values.low:.3g} to {values.high:.3g}; expected one range: convert one of them, or say what its values are "
        "(--assume, assume=)"
    )


def _range(points: TrainingSet) -> tuple[float, float]:
    """The ends of a typical image, the median of theirs: a model leaves the range at single pixels."""
    ends = torch.cat([torch.stack(block.flatten(1).aminmax(dim=1), 1) for _, block in points.pieces()])
    low, high = ends.to(torch.float64).quantile(0.5, dim=0).tolist()
    return low, high


def names(points: TrainingSet, positions: Tensor) -> list[str | int]:
    """What points are called: their files where they have such, else their positions."""
    return [int(at) if points.files is None else points.files[at] for at in positions.tolist()]


def shown_pairs(
    samples: TrainingSet, at: Tensor, training_set: TrainingSet, near: Tensor, mirrored: Tensor, values: Values
) -> ShownPairs | None:
    """Samples at some positions beside the training images near them, mirrored where that is the match.

    Args:
        samples: of which `at` (n,) are shown.
        at: the worst first, of which SHOWN_PAIRS are shown.
        training_set: of which `near` (n,) lie beside them.
        near: positions.
        mirrored: (n,) whether the mirror image of each is shown.
        values: of the training set.

    Returns:
        None where points are no images, or there are none.
    """
    if not is_image(training_set.shape) or not len(at):
        return None
    at, near, mirrored = at[:SHOWN_PAIRS], near[:SHOWN_PAIRS], mirrored[:SHOWN_PAIRS]
    own, images = (s.rows(part.numpy()).cpu().float() for s, part in ((samples, at), (training_set, near)))
    images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    return ShownPairs(own.numpy(), images.numpy(), (values.low, values.high))


def about(points: TrainingSet) -> dict[str, Any]:
    """What results say of a set."""
    return {
        "name": points.name,
        "N": len(points),
        "shape": list(points.shape),
        "dtype": points.dtype,
        "normalisation": points.normalisation,
        "digest": points.digest,
    }


def drawn(points: TrainingSet, most: int, seed: int) -> Tensor:
    """At most `most` points (n, *shape), drawn by the seed, in the order of the set."""
    if len(points) <= most:
        return points.rows(slice(None))
    return points.rows(np.sort(np.random.default_rng((seed, len(points))).choice(len(points), most, replace=False)))


def as_float(points: Tensor) -> Tensor:
    """Points on the CPU in float32, or float64 where they have it."""
    return points.to("cpu", torch.promote_types(points.dtype, torch.float32))

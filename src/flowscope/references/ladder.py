"""The ladder of references: from no memory of the training points to nothing but memory, for a set as it is.

| row | what it knows of the points | memoryless |
| --- | --- | --- |
| Wiener | mean and covariance of all | yes |
| class-wise Wiener | mean and covariance of each class | yes |
| Gaussian mixture | those of a few parts | yes |
| local | patches of them | no |
| smoothed | all, through a posterior of temperature SMOOTHED_TEMPERATURE | no |
| oracle of more data | those of a larger set that contains them | no |
| oracle | all | no |

"Memoryless" are those that keep no training point and no part of one.
"""

from typing import Any, NamedTuple

import numpy as np
import torch

from flowscope.core.settings import check_seed
from flowscope.data.pixels import is_image
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError
from flowscope.fields import VelocityField
from flowscope.oracle import Oracle
from flowscope.paths import Path
from flowscope.references.local import LocalOracle
from flowscope.references.mixture import GaussianMixture
from flowscope.references.smoothed import SmoothedOracle
from flowscope.references.wiener import Wiener

MIXTURE_PARTS = 8  # of the mixture's row, at most
MAX_SIDE = 4096  # points or coordinates of a covariance, which is decomposed in about a minute
LEAST_POINTS = 16  # of a Gaussian, on average: fewer points would be remembered by their mean and covariance
SMOOTHED_TEMPERATURE = 4.0  # the posterior collapses at half the noise level at which the oracle's does


class Reference(NamedTuple):
    """A row of the ladder.

    Example:
        >>> import flowscope as fs
        >>> row = fs.references.ladder(fs.load("gaussian:N=40,D=3"))["Wiener"]
        >>> isinstance(row, fs.references.Reference), row.memoryless, row.about
        (True, True, 'mean and covariance of all points')

    Attributes:
        field: the velocity field.
        memoryless: whether it keeps no training point and no part of one.
        about: what it is, in a sentence with its settings.
    """

    field: VelocityField
    memoryless: bool
    about: str


class Ladder(dict[str, Reference]):
    """The rows of a ladder by name, in their order.

    Example:
        >>> import flowscope as fs
        >>> rows = fs.references.ladder(fs.load("gaussian:N=40,D=3"))
        >>> isinstance(rows, fs.references.Ladder), rows.left_out["local"]
        (True, 'Points of shape (3,) are no images, so they have no patches.')

    Attributes:
        left_out: name of a row that does not fit the set -> why, in a sentence.
    """

    def __init__(self) -> None:
        super().__init__()
        self.left_out: dict[str, str] = {}


def ladder(
    training_set: Any,
    path: str | Path = "linear",
    *,
    conditional: bool = False,
    more: Any = None,
    seed: int = 0,
    memory: str | int = "512MB",
    device: str | torch.device | None = None,
) -> Ladder:
    """Make the references that fit a training set.

    Args:
        training_set: a TrainingSet, or an array or tensor (N, *shape) of points; or its Oracle, whose path, memory and
            device are then those of all rows (and the last row is the Oracle itself).
        path: "linear", "cosine", "vp", "ve", or a Path.
        conditional: whether the rows will be asked with labels. Then the mixture has parts for each label.
        more: a larger set that contains the training points, or its Oracle; None for no such row.
        seed: of the mixture's k-means.
        memory: budget of a call of a row.
        device: where to compute; None for where the points are.

    Returns:
        The rows, and which were left out.

    Raises:
        InputError: an argument is not usable, or `more` does not contain the training points.
        NumericalError: the fit of a row did not come to an end.

    Example:
        >>> import flowscope as fs
        >>> rows = fs.references.ladder(fs.load("digits"))
        >>> [name for name, row in rows.items() if row.memoryless]
        ['Wiener', 'class-wise Wiener', 'Gaussian mixture']
        >>> list(rows.left_out)
        ['oracle of more data']
    """
    oracle = training_set if isinstance(training_set, Oracle) else None
    if oracle is None:
        oracle = Oracle(training_set, path, memory=memory, device=device)
    if not isinstance(conditional, bool):
        raise InputError(f"conditional is {conditional!r}; expected True or False")
    data, rows = oracle.training_set, Ladder()
    where: dict[str, Any] = {"memory": oracle.memory, "device": oracle.device}
    _add_gaussians(rows, oracle, conditional, check_seed(seed), where)
    if is_image(data.shape):
        local = LocalOracle(data, oracle.path, **where)
        rows["local"] = Reference(local, False, "the posterior over patches, whose side follows the noise level")
    else:
        rows.left_out["local"] = f"Points of shape {data.shape} are no images, so they have no patches."
    smoothed = SmoothedOracle(data, oracle.path, temperature=SMOOTHED_TEMPERATURE, **where)
    rows["smoothed"] = Reference(smoothed, False, f"the oracle at temperature {SMOOTHED_TEMPERATURE:g}")
    if more is None:
        rows.left_out["oracle of more data"] = "No larger set that contains the training points was given."
    else:
        field = more if isinstance(more, Oracle) else Oracle(more, oracle.path, **where)
        check_contains(field.training_set, data)
        about = f"the oracle of {len(field.training_set):,} points, the {len(data):,} training points among them"
        rows["oracle of more data"] = Reference(field, False, about)
    rows["oracle"] = Reference(oracle, False, f"the oracle of the {len(data):,} training points")
    return rows


def _add_gaussians(rows: Ladder, oracle: Oracle, conditional: bool, seed: int, where: dict[str, Any]) -> None:
    """Add the rows that hold means and covariances, where there are points enough for them and not too many."""
    data, count = oracle.training_set, len(oracle.support.law())
    if min(count, data.dimension) > MAX_SIDE:
        size = f"{count:,} points of {data.dimension:,} coordinates"
        why = f"The covariance of {size} takes long: at most {MAX_SIDE} of one of them are decomposed here."
        rows.left_out |= dict.fromkeys(("Wiener", "class-wise Wiener", "Gaussian mixture"), why)
        return
    least = min(len(c.law) for c in oracle.support.class_laws()) if data.classes else 0
    few = "{} distinct points{} are too few for a covariance that does not remember them; expected " + str(LEAST_POINTS)
    if count >= LEAST_POINTS:
        rows["Wiener"] = Reference(Wiener(data, oracle.path, **where), True, "mean and covariance of all points")
    else:
        rows.left_out["Wiener"] = few.format(count, "") + "."
    if least >= LEAST_POINTS:
        wiener = Wiener(data, oracle.path, by_class=True, **where)
        rows["class-wise Wiener"] = Reference(wiener, True, "mean and covariance of each class")
    else:
        too_few = few.format(least, " of a class") + "."
        rows.left_out["class-wise Wiener"] = too_few if data.classes else "The set has no labels."
    by_label = conditional and bool(data.classes)
    enough = least if by_label else count
    parts = min(MIXTURE_PARTS, enough // LEAST_POINTS)
    if parts > 1:
        mixture = GaussianMixture(data, oracle.path, parts=parts, seed=seed, **where)
        about = f"{parts} Gaussians{' for each label' if by_label else ''} with {mixture.rank} "
        rows["Gaussian mixture"] = Reference(mixture, True, about + "principal directions each, at most")
    else:
        rows.left_out["Gaussian mixture"] = few.format(enough, " of a class" if by_label else "") + " for each of two."


def check_contains(more: TrainingSet, training_set: TrainingSet) -> None:
    """Refuse a larger set that does not contain the training points, each exactly as it is stored.

    Raises:
        InputError: it does not, or is not larger; the message names the first point that is missing.
    """
    if more.digest == training_set.digest or len(more) <= len(training_set):
        raise InputError(
            f"more data, {more.name}, has {len(more):,} points and the training set {len(training_set):,}; expected a "
            "larger set that contains them"
        )
    if more.shape != training_set.shape or more.dtype != training_set.dtype:
        raise InputError(
            f"more data holds {more.dtype} points of shape {more.shape}, and the training set {training_set.dtype} of "
            f"shape {training_set.shape}; expected the same of both"
        )
    keys, sought = more.statistics.keys, training_set.statistics.keys  # different keys are different points
    order = np.argsort(keys, kind="stable")
    at = order[np.searchsorted(keys[order], sought).clip(max=len(keys) - 1)]
    missing = np.flatnonzero(keys[at] != sought)
    for start, block in training_set.pieces():
        if len(missing):
            break
        there = more.rows(at[start : start + len(block)]).to(block.device)
        missing = start + (there != block).flatten(1).any(1).nonzero()[:, 0].cpu().numpy()
    if len(missing):
        raise InputError(
            f"point {missing[0]} of the training set is not in more data, {more.name}; expected a set that contains "
            "all training points as they are stored: join them, and load both in the same way"
        )

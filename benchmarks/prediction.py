"""How well the boundary is predicted without a pass over all points.

    python benchmarks/prediction.py [--quick] [--only TEXT]

A row is a set and a number N of its points. `half` and `saturation` are measured, and predicted: by the plain form with
log N, by the finite-N threshold, and from subsets of the points. Errors are in log-snr and, in per cent, in t on the
linear path. What is measured is kept in results/prediction.partial, so that a run that was stopped goes on there.

CHOSEN_ON are the sets on which the predictors were chosen. HELD_OUT were named before any predictor was tried on them,
and nothing was chosen by them. SEEN were in earlier tables, with other predictors.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

import flowscope as fs

DATA = Path(os.environ.get("FLOWSCOPE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
MNIST, TINY = DATA / "mnist_train.npz", DATA / "tinyimagenet64_jpegbytes_train_0.npz"
CIFAR = DATA / "cifar10_jpegbytes_train.npz"
SIZES = (32, 128, 512, 2048, 8192, 60_000)  # the first N points of a shuffled set, and all of them
TINY_CLASSES = tuple(range(0, 200, 17))
MAP_POINTS, MAP_SIDE = 10_000, 64  # MobileNetV1's last maps: 2 x 2 x 1,024 numbers an image
TAIL_DIMENSION = 64

Points = np.ndarray


class Source(NamedTuple):
    """A set, or all classes of one: whether the predictors were chosen on it, and how its points are made."""

    role: str
    make: Callable[[], fs.TrainingSet]


def rows_t(rng: np.random.Generator, count: int) -> Points:
    """Multivariate Student t with 3 degrees of freedom: a Gaussian of random scale."""
    scale = np.sqrt(3 / rng.chisquare(3, (count, 1)))
    return rng.standard_normal((count, TAIL_DIMENSION)) * scale


def coordinates_t(rng: np.random.Generator, count: int) -> Points:
    """Independent coordinates of Student's t law with 3 degrees of freedom."""
    return rng.standard_t(3, (count, TAIL_DIMENSION))


def lognormal(rng: np.random.Generator, count: int) -> Points:
    """Independent coordinates exp(g)."""
    return np.exp(rng.standard_normal((count, TAIL_DIMENSION)))


def falling_laplace(rng: np.random.Generator, count: int) -> Points:
    """Independent Laplace coordinates whose deviation falls as 1/k."""
    return rng.laplace(size=(count, TAIL_DIMENSION)) / np.arange(1, TAIL_DIMENSION + 1)


HEAVY_TAILS = {
    "Student t rows": rows_t,
    "Student t coordinates": coordinates_t,
    "log-normal coordinates": lognormal,
    "Laplace, falling spectrum": falling_laplace,
}
CHOSEN_ON = ("digits", "MNIST", "CIFAR-10", "unit Gaussians", "scale mixture", "ten far modes")
SEEN = ("MNIST class 1", "MNIST class 3")
HELD_OUT = (
    "Tiny-ImageNet",
    *(f"Tiny-ImageNet class {y}" for y in TINY_CLASSES),
    *(f"MNIST class {y}" for y in (0, 2, 4, 5, 6, 7, 8, 9)),
    "MobileNetV1 maps of Tiny-ImageNet",
    "MobileNetV1 maps of MNIST",
    *HEAVY_TAILS,
)

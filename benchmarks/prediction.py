"""How well the boundary is predicted without a pass over all points.

    python benchmarks/prediction.py [--quick] [--only TEXT]

A row is a set and a number N of its points. `half` and `saturation` are measured, and predicted: by the plain form with
log N, by the finite-N threshold, and from subsets of the points. Errors are in log-snr and, in per cent, in t on the
linear path. What is measured is kept in results/prediction.partial, so that a run that was stopped goes on there.

CHOSEN_ON are the sets on which the predictors were chosen. HELD_OUT were named before any predictor was tried on them,
and nothing was chosen by them. SEEN were in earlier tables, with other predictors.
"""

from pathlib import Path

import numpy as np
import torch

import flowscope as fs
from flowscope.data.split import take
from mobilenet import DATA, MobileNetV1

MNIST, TINY = DATA / "mnist_train.npz", DATA / "tinyimagenet64_jpegbytes_train_0.npz"
CIFAR = DATA / "cifar10_jpegbytes_train.npz"
SIZES = (32, 128, 512, 2048, 8192, 60_000)  # points drawn with one seed, each set within the next, and all of them
TINY_CLASSES = tuple(range(0, 200, 17))
MAP_POINTS, MAP_SIDE = 10_000, 64  # MobileNetV1's last maps: 2 x 2 x 1,024 numbers an image
TAIL_DIMENSION = 64

Points = np.ndarray


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


def gaussians(dimension: int) -> fs.TrainingSet:
    return fs.load(f"gaussian:N=1400,D={dimension}")


def scale_mixture() -> fs.TrainingSet:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((3000, 64)) * np.exp(rng.standard_normal((3000, 1)))
    return fs.TrainingSet(points, name="scale mixture")


def heavy_tail(name: str) -> fs.TrainingSet:
    rng = np.random.default_rng(list(HEAVY_TAILS).index(name))
    return fs.TrainingSet(HEAVY_TAILS[name](rng, SIZES[-1]).astype(np.float32), name=name)


def maps(source: Path, count: int = MAP_POINTS) -> fs.TrainingSet:
    """What MobileNetV1's last layer makes of images, before the mean over positions."""
    network = MobileNetV1(side=MAP_SIDE)
    images = fs.load(str(source), subset=count)
    found = []
    with torch.inference_mode():
        for at in range(0, count, 250):
            x = images.rows(np.arange(at, min(at + 250, count))).float()
            found.append(network.maps(x).flatten(1))
    return fs.TrainingSet(torch.cat(found), name=f"maps of {images.name}")


def make(name: str) -> fs.TrainingSet:
    """A set by its name."""
    if name in HEAVY_TAILS:
        return heavy_tail(name)
    if name.startswith("MobileNetV1 maps of "):
        return maps(TINY if "Tiny" in name else MNIST)
    if name.startswith("unit Gaussians, D = "):
        return gaussians(int(name.rpartition(" ")[2]))
    if name == "scale mixture":
        return scale_mixture()
    if name == "ten far modes":
        return fs.load("mixture:N=5000,D=64,modes=10,spread=0.05")
    source, _, label = name.partition(" class ")
    files = {"MNIST": MNIST, "CIFAR-10": CIFAR, "Tiny-ImageNet": TINY}
    return fs.load(str(files.get(source, source)), classes=int(label) if label else None)


def draw(whole: fs.TrainingSet, count: int, seed: int = 0) -> fs.TrainingSet:
    """So many points of a set."""
    order = np.random.default_rng(seed).permutation(len(whole))[:count]
    return take(whole, np.sort(order), f"{whole.name}, {count} points")

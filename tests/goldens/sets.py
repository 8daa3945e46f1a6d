"""The sets that golden values are of, and the states at which they are asked: numpy's seeded generators alone."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor

import flowscope as fs

TIMES = (0.0, 0.05, 0.3, 0.5, 0.9, 0.99)
CLUSTERS, COPIES = 100, 42  # of the large set; its points leave float32 products worth while: N D >= 2^20
WIDTH = 256


def three(_: Path) -> fs.TrainingSet:
    """Three points on a line."""
    return fs.TrainingSet(np.array([[0.0], [1.0], [4.0]]), labels=[0, 1, 1])


def digits(_: Path) -> fs.TrainingSet:
    """Small real images, float32, that come with scikit-learn."""
    whole = fs.load("digits")
    assert whole.labels is not None
    return fs.TrainingSet(whole.rows(slice(0, 120)), labels=whole.labels[:120])


def labelled(_: Path) -> fs.TrainingSet:
    """Three classes of unlike sizes and widths, float32."""
    rng = np.random.default_rng(1)
    labels = np.arange(90) % 9 // 4  # 0: 40, 1: 40, 2: 10
    points = rng.standard_normal((90, 5)) * np.array([0.3, 1.0, 2.0])[labels, None] + labels[:, None]
    return fs.TrainingSet(points.astype(np.float32), labels=labels)


def weighted(_: Path) -> fs.TrainingSet:
    """Weights over many orders of magnitude, one of them 0, and labels; float64."""
    rng = np.random.default_rng(2)
    weights = rng.random(80) ** 12
    weights[7] = 0.0
    return fs.TrainingSet(rng.standard_normal((80, 6)), labels=np.arange(80) % 2, weights=weights)


def duplicates(_: Path) -> fs.TrainingSet:
    """Points that come up to five times, under different labels and weights; float32."""
    rng = np.random.default_rng(3)
    points = rng.standard_normal((30, 4)).astype(np.float32)[rng.integers(0, 30, 70)]
    return fs.TrainingSet(points, labels=np.arange(70) % 2, weights=rng.random(70) + 0.1)


def near_duplicates(_: Path) -> fs.TrainingSet:
    """Pairs 1e-7 apart, far from 0; float64."""
    rng = np.random.default_rng(4)
    points = rng.standard_normal((25, 8)) + 30.0
    return fs.TrainingSet(np.concatenate([points, points + 1e-7 * rng.standard_normal((25, 8))]))


def _stored() -> np.ndarray:
    return np.random.default_rng(5).standard_normal((150, 7)).astype(np.float32)


def npy(folder: Path) -> fs.TrainingSet:
    """Points that stay in a file of numpy's."""
    np.save(folder / "points.npy", _stored())
    return fs.TrainingSet(np.load(folder / "points.npy", mmap_mode="r"))


def shards(folder: Path) -> fs.TrainingSet:
    """The same points in three files of safetensors, with labels."""
    (folder / "shards").mkdir()
    for k, rows in enumerate(np.array_split(np.arange(150), 3)):
        save_file({"points": _stored()[rows], "labels": rows % 2}, folder / "shards" / f"{k}.safetensors")
    return fs.load(folder / "shards")


def _clusters() -> np.ndarray:
    """Clusters so far apart, and so tight, that what a state can do without is beyond doubt."""
    rng = np.random.default_rng(6)
    centres = rng.standard_normal((CLUSTERS, WIDTH))
    return (
        (centres[:, None] + 1e-4 * rng.standard_normal((CLUSTERS, COPIES, WIDTH))).reshape(-1, WIDTH).astype(np.float32)
    )


def large(_: Path) -> fs.TrainingSet:
    """Enough points for a float32 pass and for pruning."""
    return fs.TrainingSet(_clusters())


def large_npy(folder: Path) -> fs.TrainingSet:
    """The same points, which stay in a file."""
    np.save(folder / "large.npy", _clusters())
    return fs.TrainingSet(np.load(folder / "large.npy", mmap_mode="r"))


SETS: dict[str, Callable[[Path], fs.TrainingSet]] = {
    "three": three,
    "digits": digits,
    "labels": labelled,
    "weights": weighted,
    "duplicates": duplicates,
    "near-duplicates": near_duplicates,
    "npy": npy,
    "shards": shards,
    "large": large,
    "large npy": large_npy,
}


def alpha_sigma(path: str, t: float) -> tuple[float, float]:
    """About where a path is at t: four digits are enough to place a state, and the same on every machine."""
    if path == "linear":
        found = t, 1 - t
    elif path == "cosine":
        found = math.sin(math.pi * t / 2), math.cos(math.pi * t / 2)
    elif path == "ve":
        found = 1.0, 80 * (0.002 / 80) ** t
    else:
        r = 1 - t
        total = r**2 * 19.9 / 2 + 0.1 * r
        found = math.exp(-total / 2), math.sqrt(1 - math.exp(-total))
    return float(f"{found[0]:.4g}"), float(f"{found[1]:.4g}")


def states(data: fs.TrainingSet, path: str) -> tuple[Tensor, Tensor, Tensor]:
    """States x (8, *shape), representable in float32, their times t (8,), and labels y (8,) to ask for.

    One at each of TIMES; one far out; and one between two points.
    """
    rng = np.random.default_rng(9)
    t = np.array([*TIMES, 0.5, 0.9])
    first, second = rng.permutation(len(data))[np.arange(16) % len(data)].reshape(2, 8)
    noise = rng.standard_normal((8, data.dimension))
    points, others = (data.rows(which).flatten(1).double().numpy() for which in (first, second))
    alpha, sigma = np.array([alpha_sigma(path, s) for s in t]).T[:, :, None]
    x = alpha * points + sigma * noise
    x[6] *= 3
    x[7] = alpha[7] * (0.502 * points[7] + 0.498 * others[7]) + sigma[7] * noise[7]
    labels = np.resize(data.classes or (0,), 8)
    shaped = torch.from_numpy(x.astype(np.float32)).double().reshape(8, *data.shape)
    return shaped, torch.from_numpy(t), torch.from_numpy(labels)

"""Toy models in folders, trained for a few steps on a few small images: for whatever takes the folder of a model."""

from pathlib import Path
from typing import Any

import numpy as np

from flowscope.data import TrainingSet
from flowscope.studies.memorise.sizes import part_of
from flowscope.training import TrainSettings, train_to

SHAPE, HELD_OUT = (1, 4, 4), 12


def toy_points(count: int = 60, seed: int = 0) -> dict[str, np.ndarray]:
    """Images of three classes: blobs of another mean each."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    points = np.tanh(0.4 * rng.standard_normal((count, *SHAPE)) + (labels - 1)[:, None, None, None])
    return {"points": points.astype(np.float32), "labels": labels}


def toy_file(folder: Path, name: str = "toy.npz", **changes: Any) -> Path:
    """The same as a file that can be loaded by its name."""
    np.savez(folder / name, **toy_points(**changes))  # type: ignore[arg-type]
    return folder / name


def toy_set(**changes: Any) -> TrainingSet:
    return TrainingSet(**toy_points(**changes), name="toy.npz")  # type: ignore[arg-type]


def toy_model(folder: Path, held_out: int = HELD_OUT, subset: int | None = None, **settings: Any) -> Path:
    """The folder of an MLP that was trained for a few steps on all of the toy points but those held out, or a part."""
    usual: dict[str, Any] = {"model": "mlp", "width": 8, "steps": 4, "batch": 8, "snapshots": 2, "warmup": 0}
    points = toy_set() if subset is None else part_of(toy_set(), subset, 0)
    return train_to(points, TrainSettings(**usual | settings), folder, held_out=held_out, tracker=None)

"""Side by side: samples of the oracle and of a model from the same noise, with the nearest training points."""

import numpy as np
import torch

from flowscope.core.settings import check_count
from flowscope.errors import InputError
from flowscope.fields import VelocityField
from flowscope.metrics import neighbours
from flowscope.oracle import Oracle
from flowscope.sampling import draw_noise, sample
from flowscope.studies.bench.finding import Gallery
from flowscope.studies.bench.wording import noun
from flowscope.training.monitor.evaluate import label_count


def side_by_side(model: VelocityField, oracle: Oracle, n: int = 10, steps: int = 50, seed: int = 0) -> Gallery:
    """Sample the oracle and a model from the same noise, class after class if the model takes labels.

    Args:
        model: a velocity field.
        oracle: of the points it was trained on.
        n: samples of each.
        steps: uniform Euler steps.
        seed: of the noise.

    Returns:
        Three rows of n points: the oracle's samples, the model's, and the training point nearest to each of the latter.

    Raises:
        InputError: an argument cannot be used, or the model takes labels and the training set has none.
    """
    s, count = oracle.training_set, check_count(n, "n")
    noise = float(oracle.path(0.0).sigma) * draw_noise(count, s.shape, seed=seed, device=oracle.device)
    y = None
    names = [f"{k + 1}" for k in range(count)]
    if label_count(model):
        if s.labels is None:
            raise InputError(f"the model takes labels, and {s.name} has none; expected those it was trained with")
        labels = np.resize(s.classes, count)
        y, names = torch.as_tensor(labels, device=oracle.device), [s.class_name(int(label)) for label in labels]
    drawn = [sample(field, noise, steps=steps, y=y) for field in (oracle, model)]
    nearest = neighbours(drawn[1], s, k=1).indices[:, 0]
    images = [*(x.cpu().to(torch.float64).numpy() for x in drawn), np.asarray(s.rows(nearest.cpu().numpy()))]
    rows = ("the oracle", "the model", f"nearest training {noun(s.shape)}")
    return Gallery("From the same noise", np.stack(images), rows, tuple(names))

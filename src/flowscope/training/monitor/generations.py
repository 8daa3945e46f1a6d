"""Own generations: samples that a model draws itself, from noise, for the memorised share."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowscope.core.settings import check_count
from flowscope.networks.eval_mode import eval_mode
from flowscope.oracle import Oracle
from flowscope.sampling import draw_noise, sample
from flowscope.training.monitor.evaluate import call

LABEL_STREAM = 2  # of random numbers


def draw_own(model: Any, oracle: Oracle, samples: int, steps: int, conditional: bool, seed: int, batch: int) -> Tensor:
    """Draw (samples, *shape) Euler samples of a field or a module, always from the same noise and labels.

    Args:
        model: of the oracle's path and shape.
        oracle: of the training set, whose labels are drawn by its weights.
        samples: how many.
        steps: uniform steps of each.
        conditional: whether the model is given labels.
        seed: of noise and labels.
        batch: how many at a time.
    """
    s, count = oracle.training_set, check_count(samples, "samples")
    noise = draw_noise(count, s.shape, seed, device=oracle.device) * float(oracle.path(0.0).sigma)
    y = None
    if conditional and s.labels is not None:
        order, chance = s.draw_order, s.relative_weights / s.relative_weights.sum()
        rows = np.random.default_rng((seed, LABEL_STREAM)).choice(order, count, p=chance[order])
        y = torch.as_tensor(s.labels[rows], device=oracle.device)

    rounds = list[bool]()

    def field(x: Tensor, t: Any, y: Tensor | None = None) -> Tensor:
        return call(model, x, torch.as_tensor(t, dtype=torch.float64, device=x.device).expand(len(x)), y, rounds)

    with eval_mode(model):
        drawn = model if not isinstance(model, torch.nn.Module) else field
        return sample(drawn, noise, steps=check_count(steps, "steps"), y=y, batch=batch)

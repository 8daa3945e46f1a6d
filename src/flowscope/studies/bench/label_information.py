r"""Label information: what the oracle says of a label y along t, which guidance amplifies.

    difference(t)  = (E |u*_y(x_t, t) - u*(x_t, t)|^2 / D)^1/2,  an rms over coordinates: the direction of guidance
    information(t) = I(y; x_t) = E[log p(x_t | y) - log p(x_t)],  in nats: 0 at t = 0, and as t -> 1 H(y) less what
                     points of several classes leave open

Here (x1, y) is drawn from the training law and x_t = alpha x1 + sigma x0. Both are exact but for the mean over probes.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.core.settings import check_count, check_seed
from flowscope.data.training_set import points_alone
from flowscope.errors import InputError
from flowscope.oracle import Oracle
from flowscope.sampling import draw_noise
from flowscope.studies.bench.paired import standard_error

LAST_TIME = 0.999  # stands for t = 1, where the densities are not defined
MAX_VELOCITY_VALUES = 1 << 24  # numbers in the velocities of all labels that are held at a time


class LabelCurve(NamedTuple):
    """What a label says at times t: arrays (T,), with standard errors over probes.

    Attributes:
        t: times in [0, 1).
        difference: rms of u*_y - u* over coordinates and probes.
        difference_error: its standard error.
        information: I(y; x_t) in nats.
        information_error: its standard error.
        entropy: H(y) in nats.
    """

    t: np.ndarray
    difference: np.ndarray
    difference_error: np.ndarray
    information: np.ndarray
    information_error: np.ndarray
    entropy: float


def label_curve(oracle: Oracle, t: np.ndarray, probes: int = 256, seed: int = 0) -> LabelCurve:
    """Measure what the label says of x_t and of the velocity; every probe keeps its point and its noise over t.

    Args:
        oracle: of a training set with labels.
        t: (T,) times in [0, 1).
        probes: pairs (x1, x0).
        seed: of the probes.

    Raises:
        InputError: the set has no labels, or an argument cannot be used.
    """
    s = oracle.training_set
    points_alone(s, "label curves")
    if s.labels is None:
        raise InputError(f"{s.name} has no labels; expected a labelled set, since the curve is of what a label says")
    rows = s.draw(check_count(probes, "probes"), np.random.default_rng((check_seed(seed), 4)))
    x1 = s.rows(rows).to(oracle.device, torch.float64)
    x0 = draw_noise(probes, s.shape, seed=seed, dtype=torch.float64, device=oracle.device)
    y = torch.as_tensor(s.labels[rows], device=oracle.device)
    squares, gains = (np.stack(v) for v in zip(*(_at_time(oracle, x1, x0, y, float(v)) for v in t), strict=True))
    rms = np.sqrt(squares.mean(1))
    with np.errstate(invalid="ignore", divide="ignore"):  # the error is 0 where the difference is
        rms_error = np.where(rms > 0, standard_error(squares) / (2 * rms), 0.0)
    mass = np.array([s.relative_weights[s.labels == label].sum() for label in s.classes])
    p = mass[mass > 0] / mass.sum()
    entropy = float(-(p * np.log(p)).sum())
    return LabelCurve(np.asarray(t), rms, rms_error, gains.mean(1), standard_error(gains), entropy)


def _at_time(oracle: Oracle, x1: Tensor, x0: Tensor, y: Tensor, t: float) -> tuple[np.ndarray, np.ndarray]:
    """(P,) mean squares of u*_y - u*, and log p(x_t|y) - log p(x_t) = log p(y|x_t) - log p(y)."""
    c, laws = oracle.path(t), oracle.support.class_laws()
    shares = torch.tensor([law.share for law in laws], dtype=torch.float64, device=oracle.device)
    batch = max(1, MAX_VELOCITY_VALUES // (len(laws) * x1[0].numel()))
    squares, gains = [], []
    for part in torch.arange(len(x1), device=oracle.device).split(batch):
        found = oracle.conditions(c.alpha.item() * x1[part] + c.sigma.item() * x0[part], t)
        own = torch.searchsorted(found.labels, y[part])
        row = torch.arange(len(part), device=oracle.device)
        squares.append((found.velocities[row, own] - found.velocity).square().flatten(1).mean(1))
        gains.append((found.probabilities[row, own] / shares[own]).log())
    return torch.cat(squares).cpu().numpy(), torch.cat(gains).cpu().numpy()

"""Traces: what the oracle's posterior says along a trajectory, of whatever field."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.errors import InputError
from flowscope.fields import VelocityField, path_name
from flowscope.oracle import Oracle
from flowscope.sampling.trajectory import trajectory


class Trace(NamedTuple):
    """The posterior at the start of each of T steps, for B samples.

    Attributes:
        t: (T,) the times.
        index: (T, B) the training point of largest posterior weight, by its first position in the training set.
        weight: (T, B) its weight, between 0 and 1.
        entropy: (T, B) of the weights, in nats.
        nfe: (T,) evaluations of the field so far.
        x: (B, *shape) the state at the last node.

    Example:
        >>> import torch
        >>> from flowscope import Oracle
        >>> from flowscope.sampling import trace
        >>> oracle = Oracle(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        >>> found = trace(oracle, oracle, torch.zeros(1, 2), [0, 0.5, 1])
        >>> found.t.tolist(), found.nfe.tolist(), tuple(found.entropy.shape), tuple(found.x.shape)
        ([0.0, 0.5], [1, 2], (2, 1), (1, 2))
    """

    t: np.ndarray
    index: np.ndarray  # type: ignore[assignment]  # hides a method of tuples that has no meaning here
    weight: np.ndarray
    entropy: np.ndarray
    nfe: np.ndarray
    x: Tensor


def trace(
    oracle: Oracle, field: VelocityField, x0: Tensor, timesteps: Any, solver: str = "euler", y: Any = None
) -> Trace:
    """Follow a field from x0 and ask the oracle at the start of every step which training point the state belongs to.

    Args:
        oracle: of the training set, on the path of the field.
        field: that is followed; the oracle itself is one.
        x0, timesteps, solver: as in :func:`flowscope.sampling.trajectory`.
        y: as there; with labels the posterior is that within the class.

    Raises:
        InputError: an argument is not usable, or the field is on another path than the oracle.

    Example:
        >>> import torch
        >>> from flowscope import Oracle
        >>> from flowscope.sampling import trace
        >>> oracle = Oracle(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        >>> found = trace(oracle, oracle, torch.tensor([[0.1, 0.9]]), [0, 0.5, 0.9, 1])
        >>> found.index[:, 0].tolist()  # at t = 0 both weigh the same, and the first position counts
        [0, 0, 0]
        >>> found.weight[:, 0].round(2).tolist()
        [0.5, 0.69, 1.0]
    """
    if not isinstance(oracle, Oracle):
        raise InputError(f"oracle is a {type(oracle).__name__}; expected an Oracle of the training set to look among")
    name = path_name(field)
    if name not in (None, oracle.path.name):
        raise InputError(f"the field is on the {name} path and the oracle on {oracle.path.name}; expected one path")
    found, x = [], x0
    for step in trajectory(field, x0, timesteps, solver, y):
        x = step.x
        if step.velocity is not None:
            p = oracle.posterior(x.to(torch.float64), step.t, y)
            posterior = (p.indices[:, 0], p.weights[:, 0], p.entropy)
            found.append((np.float64(step.t), *(v.cpu().numpy() for v in posterior), np.int64(step.nfe)))
    t, index, weight, entropy, nfe = (np.stack(column) for column in zip(*found, strict=True))
    return Trace(t, index, weight, entropy, nfe, x)

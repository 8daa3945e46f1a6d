r"""The log-likelihood of states by the ODE of a field: the change of variables along the flow (docs/mathematics.md).

    log p_t(x_t) = log N(x_0; 0, sigma_0^2 I) - int_0^t div u(x_s, s) ds                                   (13)

solved backwards from x by classical Runge-Kutta steps, evenly in t and in log sigma, for near t = 1 a velocity changes
as fast as sigma does.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowscope.core.settings import check_count, check_seed
from flowscope.errors import InputError
from flowscope.fields import VelocityField, ask, check_field
from flowscope.paths import Path
from flowscope.sampling.noise import NoiseStream
from flowscope.sampling.solvers import get_solver
from flowscope.sampling.trajectory import check_start, path_of

LIKELIHOOD_END = 0.999  # t up to which the oracle of points has a density
DIFFERENCE = 1e-4  # of sigma: the step of differences along a probe, where autograd does not follow the field
FINE = 4096  # intervals in which the nodes are looked for
Divergence = Callable[[Tensor, float], tuple[Tensor, Tensor]]  # (x, t) -> velocity (B, *shape) and divergence (B,)


def log_likelihood(
    field: VelocityField,
    x: Tensor,
    steps: int = 100,
    at: float = LIKELIHOOD_END,
    probes: int | None = None,
    seed: int = 0,
    *,
    y: Any = None,
) -> Tensor:
    """log p_t(x) at the time `at`, the density that the field's ODE carries there from noise: (B,) in nats.

    The noise is N(0, sigma(0)^2 I), also on "vp" and "ve", whose states at t = 0 hold a little data. At t = 1 the
    oracle of points has no density.

    Args:
        field: a VelocityField.
        x: (B, *shape) the states at the time `at`.
        steps: how many, of four evaluations each.
        at: a time in (0, 1).
        probes: None for the exact divergence, which an Oracle knows; else how many random signs estimate it for each
            sample (Hutchinson), the same ones along its whole way.
        seed: of the probes.
        y: None, a label for all, or (B,) integer labels.

    Raises:
        InputError: an argument is not usable, or the field knows no divergence and probes is None.
        NumericalError: the field answers with NaN or infinity.

    Example:
        >>> import torch
        >>> from flowscope import Oracle
        >>> from flowscope.sampling import log_likelihood
        >>> oracle = Oracle(torch.tensor([[0.0], [1.0], [4.0]], dtype=torch.float64))
        >>> x = torch.tensor([[1.0]], dtype=torch.float64)
        >>> print(f"{log_likelihood(oracle, x, at=0.5).item():.6f} {oracle.log_density(x, 0.5).item():.6f}")
        -1.455423 -1.455423
    """
    check_field(field, "field")
    count, seed = check_count(steps, "steps"), check_seed(seed)
    if isinstance(at, bool) or not isinstance(at, (int, float, np.number)) or not 0 < at < 1:
        raise InputError(f"at is {at!r}; expected a time between 0 and 1, without the ends: a density is wanted there")
    x, labels = check_start(x, float(at), y)
    if probes is not None:
        with_divergence = _hutchinson(field, x, labels, check_count(probes, "probes"), seed)
    elif callable(getattr(field, "divergence", None)):
        with_divergence = _exact(field, labels, x.dtype)
    else:
        raise InputError(
            f"probes is None and the {type(field).__name__} knows no divergence, as an Oracle does; expected how many "
            "random probes estimate it: probes=8"
        )
    return _follow(with_divergence, x, path_of(field), likelihood_nodes(path_of(field), float(at), count))


@torch.no_grad()
def _follow(with_divergence: Divergence, x: Tensor, path: Path, nodes: list[float]) -> Tensor:
    """log p at the last of the increasing nodes from 0."""
    advance, shape = get_solver("rk4"), x.shape

    def backward(state: Tensor, s: float) -> Tensor:  # of the states with the integral beside them, at t = 1 - s
        u, divergence = with_divergence(state[:, :-1].reshape(shape).to(x.dtype), 1 - s)
        return torch.cat([-u.flatten(1), divergence[:, None]], 1)

    flat = x.to(torch.float64).flatten(1)
    state = torch.cat([flat, flat.new_zeros(len(x), 1)], 1)
    for t, before in itertools.pairwise(reversed(nodes)):
        state = advance(backward, state, 1 - t, 1 - before, backward(state, 1 - t), 0.0)
    size = float(path(0.0).sigma)
    dimension = state.shape[1] - 1
    base = -state[:, :-1].square().sum(1) / (2 * size**2) - dimension * (0.5 * math.log(2 * math.pi) + math.log(size))
    return (base - state[:, -1]).to(x.dtype)


def likelihood_nodes(path: Path, at: float, steps: int) -> list[float]:
    """Nodes from 0 to `at`, half of them evenly in t and half evenly in log sigma."""
    t = at * torch.linspace(0, 1, FINE + 1, dtype=torch.float64, device="cpu")
    fall = -path(t).sigma.log()
    spent = t / at + (fall - fall[0]) / (fall[-1] - fall[0])
    wanted = np.linspace(0, 2, steps + 1)
    found = np.interp(wanted, np.maximum.accumulate(spent.numpy()), t.numpy()).tolist()
    return [0.0, *found[1:-1], at]


def _exact(field: Any, y: Tensor | None, dtype: torch.dtype) -> Divergence:
    """The velocity with the divergence that the field knows."""

    def with_divergence(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        return ask(field, x, t, y).to(torch.float64), field.divergence(x, t, y).to(torch.float64)

    return with_divergence


def _hutchinson(field: VelocityField, x: Tensor, y: Tensor | None, probes: int, seed: int) -> Divergence:
    """The velocity with an estimate of its divergence, the mean of v J v over random signs v."""
    drawn = NoiseStream(seed, range(len(x)), (probes, *x.shape[1:]), NoiseStream.PROBES).draw()
    signs = torch.where(drawn < 0, -1.0, 1.0).to(x.device, torch.float64)
    path = path_of(field)

    def with_divergence(z: Tensor, t: float) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            at = z.detach().requires_grad_()
            u = ask(field, at, t, y)
            followed = u.requires_grad
            found = _pulled(u, at, signs) if followed else None
        if found is None:
            found = _differences(field, z, t, y, signs, DIFFERENCE * float(path(t).sigma))
        return u.detach().to(torch.float64), found

    return with_divergence


def _pulled(u: Tensor, at: Tensor, signs: Tensor) -> Tensor:
    """(B,) the mean of v J v by autograd."""
    total = torch.zeros(len(at), dtype=torch.float64, device=at.device)
    for v in signs.unbind(1):
        (pulled,) = torch.autograd.grad(u, at, v.to(u), retain_graph=True, allow_unused=True)
        if pulled is not None:
            total += (pulled.to(torch.float64) * v).flatten(1).sum(1)
    return total / signs.shape[1]


def _differences(field: VelocityField, z: Tensor, t: float, y: Tensor | None, signs: Tensor, step: float) -> Tensor:
    """(B,) the mean of v J v by central differences in float64, of fields that autograd does not follow."""
    total, wide = torch.zeros(len(z), dtype=torch.float64, device=z.device), z.to(torch.float64)
    for v in signs.unbind(1):
        ahead, behind = (ask(field, wide + side * step * v, t, y).to(torch.float64) for side in (1, -1))
        total += ((ahead - behind) * v).flatten(1).sum(1) / (2 * step)
    return total / signs.shape[1]

r"""From data back to noise: the ODE of a field, followed from t = 1 to 0.

Where the field allows it, the solver itself starts at t = 1. Else the interval at t = 1 turns the landing of
:mod:`flowscope.sampling.trajectory` round: the state at t whose predicted data are x. It is found by DDIM's inversion,
four times over, each from the state that the last one found:

    x_t = alpha x + sigma x0_hat(x_t, t)
"""

import itertools
from typing import Any

import torch
from torch import Tensor

from flowscope.errors import InputError
from flowscope.fields import VelocityField, check_field
from flowscope.paths import Path, convert
from flowscope.sampling.schedules import DEFAULT_STEPS, make_nodes
from flowscope.sampling.solvers import get_solver
from flowscope.sampling.trajectory import CountedField, Method, check_start, ode_method, path_of, rounded

TURNS = 4  # of DDIM's inversion: each gains an order in the length of the interval, or two where data are smooth


def invert(
    field: VelocityField,
    x: Tensor,
    steps: int = DEFAULT_STEPS,
    solver: str = "euler",
    shift: float = 1.0,
    timesteps: Any = None,
    y: Any = None,
    *,
    tolerance: float | None = None,
) -> Tensor:
    """The states from which the field's ODE leads to x: (B, *shape) at the first node, in x's dtype.

    :func:`sample` with the same nodes and solver leads back, up to the error of the solver. An oracle leads to its
    training points alone, and other data x come from noise far out.

    Args:
        field: a VelocityField.
        x: (B, *shape) the data, or the states at the last node.
        steps: how many, from t = 1 to 0.
        solver: one of SOLVERS.
        shift: s of t' = s t/(1 + (s - 1) t), which moves the nodes.
        timesteps: the increasing nodes themselves, instead of steps and shift; a last one below 1 begins there.
        y: None, a label for all, or (B,) integer labels.
        tolerance: absolute and relative, of an adaptive solver; None for 1e-6, or what x's dtype allows.

    Raises:
        InputError: an argument is not usable, or the field answers with another shape.
        NumericalError: the field answers with NaN or infinity, or the state leaves the range of x's dtype.

    Example:
        >>> import torch
        >>> from flowscope.sampling import invert, sample
        >>> def shrink(x, t, y=None):
        ...     return -x
        >>> noise = invert(shrink, torch.ones(1, 2, dtype=torch.float64), steps=40, solver="rk4")
        >>> bool((sample(shrink, noise, steps=40, solver="rk4") - 1).abs().max() < 1e-5)
        True
    """
    check_field(field, "field")
    get_solver(solver)
    nodes = make_nodes(steps, shift, timesteps).tolist()
    if nodes[0] == 1:
        raise InputError("the first node is 1; expected one below")
    x, labels = check_start(x, nodes[-1] if nodes[-1] < 1 else 0.0, y)
    return _backward(CountedField(field, x.dtype, labels), x, nodes, ode_method(solver, field, x.dtype, tolerance))


@torch.no_grad()
def _backward(ask: CountedField, x: Tensor, nodes: list[float], method: Method) -> Tensor:
    """The states at the first node."""
    advance, landing, tolerance = method
    state, path = x.to(torch.float64), path_of(ask.field)

    def reversed_ask(z: Tensor, s: float) -> Tensor:
        return -ask(z, 1 - s)

    for before, t in itertools.pairwise(reversed(nodes)):
        if before == 1 and landing < 1:
            before = max(t, landing)  # from which the state lands
            ask.begin_step(before)
            state = _take_off(ask, state, before, path)
        ask.begin_step(before)
        if before > t:
            u = reversed_ask(state, 1 - before)
            state = advance(reversed_ask, state, 1 - before, 1 - t, u, tolerance)
    return rounded(state, x.dtype)


def _take_off(ask: CountedField, x: Tensor, t: float, path: Path) -> Tensor:
    """The state at t that lands on x."""
    c = path(torch.tensor(t, dtype=torch.float64, device=x.device))
    state = c.alpha * x
    for _ in range(TURNS):
        noise = convert(ask(state, t), state, c, "velocity", "noise")
        state = c.alpha * x + c.sigma * noise
    return state

r"""Solvers: one interval of dx/dt = u(x, t), from t to `after`, given u at (x, t).

Each advances the float64 state x by calling ask(x, t) -> float64 velocity. None is asked to go to t = 1, where a
velocity is not defined: there the state lands on the predicted data (trajectory.py).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flowscope.core.settings import need
from flowscope.errors import NumericalError, unknown_name

Ask = Callable[[Tensor, float], Tensor]
Advance = Callable[[Ask, Tensor, float, float, Tensor, float], Tensor]
MAX_DOPRI5_STEPS = 1000  # in one interval: a field that needs more is not smooth at its tolerance


def _euler(ask: Ask, x: Tensor, t: float, after: float, u: Tensor, tolerance: float) -> Tensor:
    return x + (after - t) * u


def _midpoint(ask: Ask, x: Tensor, t: float, after: float, u: Tensor, tolerance: float) -> Tensor:
    h = after - t
    return x + h * ask(x + h / 2 * u, t + h / 2)


def _heun(ask: Ask, x: Tensor, t: float, after: float, u: Tensor, tolerance: float) -> Tensor:
    h = after - t
    return x + h / 2 * (u + ask(x + h * u, after))


def _rk4(ask: Ask, x: Tensor, t: float, after: float, u: Tensor, tolerance: float) -> Tensor:
    h = after - t
    second = ask(x + h / 2 * u, t + h / 2)
    third = ask(x + h / 2 * second, t + h / 2)
    fourth = ask(x + h * third, after)
    return x + h / 6 * (u + 2 * second + 2 * third + fourth)


def _dopri5(ask: Ask, x: Tensor, t: float, after: float, u: Tensor, tolerance: float) -> Tensor:
    """Adaptive, within the interval alone: the field is asked nowhere outside it."""
    torchdiffeq = need("torchdiffeq", "ode")

    def field(s: Tensor, state: Tensor) -> Tensor:
        return u if state is x else ask(state, float(s))

    options = {
        "norm": _worst_row,
        "first_step": 2 * (after - t),  # all of it at once, for step_t cuts it at the end
        "step_t": torch.tensor([after], dtype=torch.float64, device=x.device),
        "max_num_steps": MAX_DOPRI5_STEPS,
    }
    times = torch.tensor([t, after], dtype=torch.float64, device=x.device)
    try:
        return torchdiffeq.odeint(field, x, times, rtol=tolerance, atol=tolerance, method="dopri5", options=options)[-1]
    except AssertionError as error:  # how torchdiffeq says that it gave up
        raise NumericalError(
            f"dopri5 cannot go from t = {t} to {after} within its tolerance {tolerance:.0e} ({error}); expected a "
            "field that is smooth there: use a solver of fixed steps, or put a node where the field jumps"
        ) from None


def _worst_row(error: Tensor) -> Tensor:
    """The largest root mean square of a row, so that no sample's error hides among the others of its batch."""
    return error.flatten(1).square().mean(1).sqrt().max() if error.ndim > 1 else error.abs().max()


_SOLVERS: dict[str, Advance] = {"euler": _euler, "heun": _heun, "midpoint": _midpoint, "rk4": _rk4, "dopri5": _dopri5}
SOLVERS = tuple(_SOLVERS)
ADAPTIVE_SOLVERS = ("dopri5",)  # which choose their steps


def get_solver(solver: Any) -> Advance:
    """A solver by name.

    Raises:
        InputError: there is none of that name.
    """
    if not isinstance(solver, str) or solver not in _SOLVERS:
        raise unknown_name("solver", solver, SOLVERS)
    return _SOLVERS[solver]

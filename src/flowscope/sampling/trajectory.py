r"""A velocity field followed step by step: a generator of named steps.

    dx/dt = u(x, t),    from t0, noise, to t = 1, data

The last interval, to t = 1, is solved by the solver itself where the field allows it (:func:`flowscope.fields.
allows_end`: networks that predict the velocity), which is then asked at 1 - 2^-53 for 1. Other fields are not defined
there. For them, and for Euler always, it is one step on every path: the state lands on the data E[x1|x] that the
velocity at (x, t) predicts (on the linear path that is an Euler step). An adaptive solver first goes on to t = 0.999.

The state is carried in float64 and handed to the field in x0's dtype, so that rounding does not add up over the steps.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowscope.errors import InputError, NumericalError
from flowscope.fields import (
    MAX_TIME,
    VelocityField,
    allows_end,
    ask,
    at_step,
    check_field,
    check_query,
    evaluations,
)
from flowscope.paths import Path, convert, get_path
from flowscope.sampling.schedules import check_nodes
from flowscope.sampling.solvers import ADAPTIVE_SOLVERS, Advance, get_solver

LANDING_TIME = 0.999  # t from which an adaptive solver lands on the data
NEVER = math.inf  # a landing time that no step reaches: the solver goes on to t = 1
TOLERANCE = 1e-6  # of adaptive solvers, absolute and relative, where none is given and rounding allows it
LEAST_TOLERANCE = 8  # units of rounding of x0's dtype


class Step(NamedTuple):
    """One node of a trajectory, before the step that starts there; the last has no velocity and no data.

    Attributes:
        index: 0, 1, ... of the node.
        t: its time.
        x: (B, *shape) the state there, in x0's dtype.
        velocity: (B, *shape) the field's answer at (x, t), or None at the last node.
        data: (B, *shape) the data E[x1|x] that this velocity predicts, or None at the last node.
        nfe: network (or oracle) evaluations so far, that of `velocity` included.

    Example:
        >>> import torch
        >>> from flowscope import Oracle
        >>> from flowscope.sampling import trajectory
        >>> first, *_, last = trajectory(Oracle(torch.tensor([[2.0]])), torch.zeros(1, 1), [0, 0.5, 1])
        >>> first.velocity.item(), first.data.item(), first.nfe
        (2.0, 2.0, 1)
        >>> last.velocity is None, last.nfe
        (True, 2)
    """

    index: int  # type: ignore[assignment]  # hides a method of tuples that has no meaning here
    t: float
    x: Tensor
    velocity: Tensor | None
    data: Tensor | None
    nfe: int


class Method(NamedTuple):
    """How a state goes from node to node.

    Attributes:
        advance: over one interval.
        landing: the time from which an interval to t = 1 is one step onto the data: 0 for all of them, NEVER for none.
        tolerance: of an adaptive solver.
    """

    advance: Advance
    landing: float = 0.0
    tolerance: float = TOLERANCE


def trajectory(
    field: VelocityField,
    x0: Tensor,
    timesteps: Any,
    solver: str = "euler",
    y: Any = None,
    *,
    tolerance: float | None = None,
) -> Iterator[Step]:
    """The steps of a field from x0, one at every node of `timesteps`.

    Args:
        field: called as field(x, t, y) with x in x0's dtype, t a Python float (float64) and y (B,) int64 or None.
        x0: (B, *shape) the state at the first node.
        timesteps: (T+1,) increasing times in [0, 1], ends included, as :func:`make_nodes` makes them.
        solver: one of SOLVERS.
        y: None, a label for all, or (B,) integer labels.
        tolerance: absolute and relative, of an adaptive solver; None for 1e-6, or what x0's dtype allows.

    Raises:
        InputError: an argument is not usable, or the field answers with another shape.
        NumericalError: the field answers with NaN or infinity, or the state leaves the range of x0's dtype.

    Example:
        >>> import torch
        >>> from flowscope import Oracle
        >>> from flowscope.sampling import trajectory
        >>> oracle = Oracle(torch.tensor([[2.0]]))  # one point: every state moves straight to it
        >>> [(step.index, step.t, step.x.item()) for step in trajectory(oracle, torch.zeros(1, 1), [0, 0.25, 1])]
        [(0, 0.0, 0.0), (1, 0.25, 0.5), (2, 1.0, 2.0)]
    """
    check_field(field, "field")
    nodes = check_nodes(timesteps)
    get_solver(solver)
    x0, y = check_start(x0, float(nodes[0]), y)
    return follow(field, x0, nodes, ode_method(solver, field, x0.dtype, tolerance), y)


def ode_method(solver: str, field: VelocityField, dtype: torch.dtype, tolerance: float | None = None) -> Method:
    """How a solver takes a field's states of a dtype from node to node.

    Raises:
        InputError: there is no such solver, or the tolerance is not one, is below rounding, or not the solver's.
    """
    advance, adaptive = get_solver(solver), solver in ADAPTIVE_SOLVERS
    least = LEAST_TOLERANCE * torch.finfo(dtype).eps
    if tolerance is not None:
        number = isinstance(tolerance, (int, float)) and not isinstance(tolerance, bool)
        if not number or not 0 < tolerance < math.inf:
            raise InputError(f"tolerance is {tolerance!r}; expected None, or a number above 0 such as 1e-6")
        if not adaptive:
            raise InputError(
                f"tolerance is {tolerance!r} and {solver} takes fixed steps; expected it with {ADAPTIVE_SOLVERS[0]}"
            )
        if tolerance < least:
            raise InputError(
                f"tolerance is {tolerance!r}, below the rounding of {str(dtype).removeprefix('torch.')}; expected at "
                f"least {least:.2g}, or states in float64"
            )
    landing = NEVER if allows_end(field) and solver != "euler" else LANDING_TIME if adaptive else 0.0
    return Method(advance, landing, max(TOLERANCE, least) if tolerance is None else tolerance)


@torch.no_grad()
def follow(field: VelocityField, x0: Tensor, nodes: Tensor, method: Method, y: Tensor | None = None) -> Iterator[Step]:
    """The steps of a field by some method, from checked states x0 with checked labels; see :func:`trajectory`."""
    ask, path = CountedField(field, x0.dtype, y), path_of(field)
    advance, landing, tolerance = method
    x = x0.to(torch.float64)
    for index, (t, after) in enumerate(itertools.pairwise(nodes.tolist())):
        ask.begin_step(t)
        seen, u, data = ask.with_data(x, t, path)
        yield Step(index, t, seen, u.to(x0.dtype), data.to(x0.dtype), ask.nfe)
        if after == 1 and t >= landing:
            x = data
        elif after == 1 and landing < 1:
            x = ask.with_data(advance(ask, x, t, landing, u, tolerance), landing, path)[2]
        else:
            x = advance(ask, x, t, after, u, tolerance)
    yield Step(len(nodes) - 1, float(nodes[-1]), rounded(x, x0.dtype), None, None, ask.nfe)


def path_of(field: VelocityField) -> Path:
    """The field's path; linear where it has none."""
    path = getattr(field, "path", None)
    return get_path("linear" if path is None else path)


def check_start(x0: Any, t: float, y: Any) -> tuple[Tensor, Tensor | None]:
    """The first state and the labels of its rows, checked.

    Raises:
        InputError: x0 is no batch of finite floating-point states, or y is not one integer for each.
    """
    if not isinstance(x0, Tensor) or x0.ndim < 1:
        got = "a tensor of no axes" if isinstance(x0, Tensor) else f"a {type(x0).__name__}"
        raise InputError(f"x0 is {got}; expected a floating-point tensor (B, *shape), the states at the first node")
    query = check_query(x0, t, y, tuple(x0.shape[1:]))
    return query.x, query.y


class CountedField:
    """A field asked at float64 states, which go to it in its dtype; answers are checked and evaluations counted."""

    def __init__(self, field: VelocityField, dtype: torch.dtype, y: Tensor | None) -> None:
        self.field, self.dtype, self.y, self.nfe = field, dtype, y, 0
        self._held = field

    def begin_step(self, t: float) -> None:
        """Ask the field from here on as it is in a step that starts at t."""
        self._held = at_step(self.field, t)

    def at(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """The state as the field sees it, and the velocity there in float64; at t = 1 that of the time before it."""
        x, t = rounded(x, self.dtype), min(t, MAX_TIME)
        velocity = ask(self._held, x, t, self.y)
        self.nfe += evaluations(self._held, t)
        return x, velocity.to(x.device, torch.float64)

    def with_data(self, x: Tensor, t: float, path: Path) -> tuple[Tensor, Tensor, Tensor]:
        """The state as the field sees it, the velocity there and the data that it predicts, both in float64."""
        seen, u = self.at(x, t)
        at = path(torch.tensor(min(t, MAX_TIME), dtype=torch.float64, device=x.device))
        return seen, u, convert(u, seen.to(torch.float64), at, "velocity", "data")

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """The velocity alone, as solvers ask for it."""
        return self.at(x, t)[1]


def rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    """A state as a field sees it; NumericalError where it leaves the range of its dtype."""
    rounded = x.to(dtype)
    if not bool(torch.isfinite(rounded).all()):
        raise NumericalError(
            f"the state reached {float(x.abs().max()):.3g}, beyond the range of {str(dtype).removeprefix('torch.')}; "
            "expected states near noise and data: check the field, or sample in float32"
        )
    return rounded

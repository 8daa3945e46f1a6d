r"""A velocity field followed step by step: a generator of named steps.

    dx/dt = u(x, t),    from t0, noise, to t = 1, data

An interval that ends at t = 1 is one step for every solver of fixed steps, on every path: the state lands on the data
E[x1|x] that the velocity at (x, t) predicts (on the linear path that is an Euler step), and the field is never asked at
t = 1. An adaptive solver goes on to t = 0.999 by steps of its own and lands from there, however long the interval is.

The state is carried in float64 and handed to the field in x0's dtype, so that rounding does not add up over the steps.
"""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowscope.errors import InputError, NumericalError
from flowscope.fields import VelocityField, ask, check_field, check_query, evaluations
from flowscope.paths import Path, convert, get_path
from flowscope.sampling.schedules import check_nodes
from flowscope.sampling.solvers import ADAPTIVE_SOLVERS, Advance, get_solver

LANDING_TIME = 0.999  # t from which an adaptive solver lands on the data
DOPRI5_TOLERANCE = 1e-6  # absolute and relative, but no less than rounding allows: 8 units of x0's dtype


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


def trajectory(
    field: VelocityField, x0: Tensor, timesteps: Any, solver: str = "euler", y: Any = None
) -> Iterator[Step]:
    """The steps of a field from x0, one at every node of `timesteps`.

    Args:
        field: called as field(x, t, y) with x in x0's dtype, t a Python float (float64) and y (B,) int64 or None.
        x0: (B, *shape) the state at the first node.
        timesteps: (T+1,) increasing times in [0, 1], ends included, as :func:`make_nodes` makes them.
        solver: one of SOLVERS.
        y: None, a label for all, or (B,) integer labels.

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
    nodes, advance = check_nodes(timesteps).tolist(), get_solver(solver)
    x0, y = check_start(x0, nodes[0], y)
    landing = LANDING_TIME if solver in ADAPTIVE_SOLVERS else 0.0
    return _steps(_CountedField(field, x0.dtype, y), x0, nodes, advance, landing, path_of(field))


@torch.no_grad()
def _steps(
    ask: "_CountedField", x0: Tensor, nodes: list[float], advance: Advance, landing: float, path: Path
) -> Iterator[Step]:
    """The steps of a field that is asked by `ask`; to t = 1 it lands from no earlier a time than `landing`."""
    tolerance = max(DOPRI5_TOLERANCE, 8 * torch.finfo(x0.dtype).eps)
    x = x0.to(torch.float64)
    for index, (t, after) in enumerate(itertools.pairwise(nodes)):
        seen, u, data = ask.with_data(x, t, path)
        yield Step(index, t, seen, u.to(x0.dtype), data.to(x0.dtype), ask.nfe)
        if after < 1:
            x = advance(ask, x, t, after, u, tolerance)
        elif t < landing:
            x = ask.with_data(advance(ask, x, t, landing, u, tolerance), landing, path)[2]
        else:
            x = data
    yield Step(len(nodes) - 1, nodes[-1], _rounded(x, x0.dtype), None, None, ask.nfe)


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


class _CountedField:
    """A field asked at float64 states, which go to it in its dtype; answers are checked and evaluations counted."""

    def __init__(self, field: VelocityField, dtype: torch.dtype, y: Tensor | None) -> None:
        self.field, self.dtype, self.y, self.nfe = field, dtype, y, 0

    def at(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """The state as the field sees it, and the velocity there in float64."""
        x = _rounded(x, self.dtype)
        velocity = ask(self.field, x, t, self.y)
        self.nfe += evaluations(self.field, t)
        return x, velocity.to(x.device, torch.float64)

    def with_data(self, x: Tensor, t: float, path: Path) -> tuple[Tensor, Tensor, Tensor]:
        """The state as the field sees it, the velocity there and the data that it predicts, both in float64."""
        seen, u = self.at(x, t)
        at = path(torch.tensor(t, dtype=torch.float64, device=x.device))
        return seen, u, convert(u, seen.to(torch.float64), at, "velocity", "data")

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """The velocity alone, as solvers ask for it."""
        return self.at(x, t)[1]


def _rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    """A state as a field sees it; NumericalError where it leaves the range of its dtype."""
    rounded = x.to(dtype)
    if not bool(torch.isfinite(rounded).all()):
        raise NumericalError(
            f"the state reached {float(x.abs().max()):.3g}, beyond the range of {str(dtype).removeprefix('torch.')}; "
            "expected states near noise and data: check the field, or sample in float32"
        )
    return rounded

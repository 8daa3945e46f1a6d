"""VelocityField: anything callable as field(x, t, y) -> velocity.

The oracle is one, a trained network is one. So truth and model are interchangeable wherever a field is wanted.
"""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from flowscope.errors import NumericalError
from flowscope.fields.checks import check_velocity


@runtime_checkable
class VelocityField(Protocol):
    """The protocol of a velocity field u(x, t, y): any callable that returns one velocity for each state.

    Args:
        x: (B, *shape), the states.
        t: a number or (B,), 0 <= t < 1.
        y: (B,) integer labels; None for no label.

    Returns:
        (B, *shape), the velocities.

    Example:
        >>> import torch
        >>> import flowscope as fs
        >>> def shrink(x, t, y=None):
        ...     return -x
        >>> isinstance(shrink, fs.VelocityField)
        True
        >>> x = fs.sample(shrink, torch.ones(1, 2), steps=2, solver="euler")  # two steps of x <- x + u / 2
        >>> x.tolist()
        [[0.25, 0.25]]
    """

    def __call__(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor: ...


def unchecked(field: VelocityField, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
    """field(x, t, y) without a look for NaN in the answer, for callers that look themselves.

    On a GPU every look waits for the device. So a field that looks at its own answers may have a method `unchecked`
    that does not and takes the same arguments; fields made of fields call that of their parts.
    """
    return getattr(field, "unchecked", field)(x, t, y)


def ask(field: VelocityField, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
    """What a field answers for the states x, checked once.

    Raises:
        InputError: it is not a floating-point tensor of x's shape.
        NumericalError: it holds NaN or infinity; the message says of which field and where.
    """
    u = unchecked(field, x, t, y)
    try:
        return check_velocity(u, x, "the field", t)
    except NumericalError:
        field(x, t, y)  # a field that checks itself says which of its parts that was
        raise


def evaluations(field: Any, t: float) -> int:
    """How many network (or oracle) evaluations one call of a field takes at time t: its NFE."""
    count = getattr(field, "evaluations", None)
    return 1 if count is None else int(count(t))


def shape_of(field: Any) -> tuple[int, ...] | None:
    """The shape of one state of a field: its `shape`, or that of its training set; None where it has neither."""
    shape = getattr(field, "shape", None)
    if shape is None:
        shape = getattr(getattr(field, "training_set", None), "shape", None)
    return None if shape is None else tuple(shape)


def allows_end(field: Any) -> bool:
    """Whether a field may be asked at times up to 1 - 2^-53, the largest float64 below 1: its `allows_end`.

    There most velocities are not defined, as the oracle's. A network that predicts the velocity itself is.
    """
    return bool(getattr(field, "allows_end", False))


def at_step(field: VelocityField, t: float) -> VelocityField:
    """The field as it is asked within a solver's step that starts at t.

    A field that decides something once a step has a method `at_step` which says what it then is; others stay as they
    are.
    """
    own = getattr(type(field), "at_step", None)  # of the class, so that what wraps a field is not left out
    return field if own is None else own(field, t)


def path_name(field: Any) -> str | None:
    """The name of a field's path, which may be given by name itself; None for a field that does not say."""
    path = getattr(field, "path", None)
    return getattr(path, "name", path)

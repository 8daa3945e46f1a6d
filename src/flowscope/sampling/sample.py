"""Sampling: from noise, or from given states, to the last node of a schedule."""

from collections.abc import Callable
from typing import Any

import torch

from flowscope.errors import InputError
from flowscope.fields import VelocityField, check_field, shape_of
from flowscope.oracle.oracle import resolve_device
from flowscope.sampling.noise import draw_noise
from flowscope.sampling.schedules import STEPS, make_nodes
from flowscope.sampling.solvers import get_solver
from flowscope.sampling.trajectory import check_start, path_of, trajectory
from flowscope.settings import check_count, check_seed, check_sizes

Tensor = torch.Tensor


def sample(
    field: VelocityField,
    x0: Tensor | None = None,
    n: int | None = None,
    shape: tuple[int, ...] | None = None,
    steps: int = STEPS,
    solver: str = "euler",
    shift: float = 1.0,
    timesteps: Any = None,
    y: Any = None,
    seed: int = 0,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    batch: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Samples of a field: (B, *shape) at the last node, in x0's dtype.

    Args:
        field: a VelocityField. Its `path`, where it has one, says how noise and data are mixed; else it is linear.
        x0: (B, *shape) the state at the first node; or
        n: how many to draw at t = 0, sigma(0) times noise. Sample i has noise of its own, see :func:`draw_noise`.
        shape: of one sample, where the field does not know it.
        steps: how many, from t = 0 to 1.
        solver: one of SOLVERS; "dopri5" needs the extra `ode`.
        shift: s of t' = s t/(1 + (s - 1) t), which moves the nodes.
        timesteps: the increasing nodes themselves, ends included, instead of steps and shift. A last node below 1
            returns the state there.
        y: None, a label for all, or (B,) integer labels.
        seed: of the noise.
        dtype: of drawn samples; None for float32.
        device: where the samples are; None for x0's own, or the field's.
        batch: how many at a time; None for all at once. Samples do not depend on it beyond rounding (with dopri5,
            beyond its tolerance).
        progress: called as progress(done, total) in steps.

    Raises:
        InputError: an argument is not usable, or the field answers with another shape.
        NumericalError: the field answers with NaN or infinity, or the state leaves the range of x0's dtype.
        MissingExtraError: dopri5 is asked for without torchdiffeq.
    """
    check_field(field, "field")
    get_solver(solver)
    nodes = make_nodes(steps, shift, timesteps)
    x0, labels = check_start(
        _first_states(field, x0, n, shape, float(nodes[0]), seed, dtype, device), float(nodes[0]), y
    )
    size = max(1, len(x0)) if batch is None else check_count(batch, "batch")
    parts = x0.split(size)
    rows = [None] * len(parts) if labels is None else labels.split(size)
    done, total = 0, len(parts) * (len(nodes) - 1)
    ends = []
    for start, label in zip(parts, rows, strict=True):
        x = start
        for step in trajectory(field, start, nodes, solver, label):
            x = step.x
            if progress is not None and step.index:
                done += 1
                progress(done, total)
        ends.append(x)
    return torch.cat(ends)


def _first_states(
    field: VelocityField, x0: Any, n: Any, shape: Any, t: float, seed: int, dtype: Any, device: Any
) -> Any:
    """x0 as given, or drawn, on the device where the samples are to be."""
    check_seed(seed)
    if x0 is None:
        x0 = _drawn(field, n, shape, t, seed, dtype)
        home = torch.device(getattr(field, "device", None) or "cpu")
        return x0.to(resolve_device(device if device is not None else home if home.type == "cuda" else "cpu"))
    if n is not None:
        raise InputError("x0 and n are both given; expected one: x0 for the first states, or n to draw them")
    if dtype is not None:
        raise InputError("x0 and dtype are both given; expected dtype with n alone: samples have the dtype of x0")
    if not isinstance(x0, Tensor):
        return x0
    if shape is not None and tuple(x0.shape[1:]) != check_sizes(shape):
        raise InputError(
            f"x0 has shape {tuple(x0.shape)} and shape is {shape!r}; expected (B, *shape): leave shape out"
        )
    return x0.to(resolve_device(x0.device if device is None else device))


def _drawn(field: VelocityField, n: Any, shape: Any, t: float, seed: int, dtype: Any) -> Tensor:
    if n is None:
        raise InputError("neither x0 nor n is given; expected the first states x0, or how many to draw: n=16")
    if t > 0:
        raise InputError(
            f"n is given and the first node is {t}, where a state holds data as well as noise; expected x0, the states "
            "at that node, or nodes from 0"
        )
    known = shape_of(field)
    wanted = known if shape is None else check_sizes(shape)
    if wanted is None:
        raise InputError("the field does not know the shape of a sample; expected it with n: shape=(3, 32, 32)")
    if known not in (None, wanted):
        raise InputError(f"shape is {shape!r} and the field's samples are {known}; expected the same: leave shape out")
    noise = draw_noise(n, wanted, seed, dtype=torch.float32 if dtype is None else dtype)
    return (float(path_of(field)(0.0).sigma) * noise.to(torch.float64)).to(noise.dtype)

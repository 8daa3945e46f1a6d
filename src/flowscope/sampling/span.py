"""Samples of an Oracle by coordinates in the span of its points (span_field.py), where that is cheaper and as exact."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowscope.fields import VelocityField
from flowscope.oracle.law import Law
from flowscope.oracle.oracle import Oracle
from flowscope.sampling.span_field import Span, SpanField
from flowscope.sampling.trajectory import trajectory

EVALUATIONS = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4}  # of a step; solvers that choose their steps measure x


class Inside(NamedTuple):
    """Rows of one label that are followed in the span of its points."""

    rows: Tensor  # (n,) which of x0
    oracle: Oracle
    law: Law
    most: int  # states at a time, for the memory's sake


def suited(field: VelocityField, x0: Tensor, y: Tensor | None, steps: int, solver: str) -> tuple[list[Inside], Tensor]:
    """Which rows are followed in the span of their label's points; and the rows that are not."""
    every = torch.arange(len(x0), device=x0.device)
    if type(field) is not Oracle or solver not in EVALUATIONS or len(x0) == 0:  # a subclass may ask elsewhere
        return [], every
    if field.device.type != "cpu" or x0.device.type != "cpu":  # the costs of `pays` are those of a CPU
        return [], every
    if tuple(x0.shape[1:]) != field.training_set.shape:
        return [], every  # which the field refuses
    labels: list[Any] = [None] if y is None else y.unique().tolist()
    found, taken = [], torch.zeros(len(x0), dtype=torch.bool, device=x0.device)
    for label in labels:
        member = torch.ones_like(taken) if y is None else y == label
        law = field.support.law(label)
        if pays(law, int(member.sum()), 1 + (steps - 1) * EVALUATIONS[solver], field.memory):
            found.append(Inside(every[member], field, law, at_once(law, field.memory)))
            taken |= member
    return found, every[~taken]


def pays(law: Law, rows: int, evaluations: int, memory: int) -> bool:
    """Whether the span fits into memory, and takes less than the ordinary way.

    Counted are multiplications in float64; the ordinary way's two products are float32, each at half of the cost.
    """
    points, dimension = len(law), law.support.dimension
    ordinary = evaluations * rows * points * dimension
    around = points**2 * dimension + 2 * rows * points * dimension  # G; <x_0, p_i>, and the way back
    return around + evaluations * rows * points**2 < ordinary and at_once(law, memory) > 0


def at_once(law: Law, memory: int) -> int:
    """How many states may be followed together; 0 where the law's matrices do not fit."""
    points, dimension = len(law), law.support.dimension
    left = memory - 8 * points * (2 * dimension + points)  # the points as read, and in float64
    return max(0, left // (8 * (6 * dimension + 24 * points)))


def follow(
    inside: Inside, x0: Tensor, nodes: Tensor, solver: str, size: int, tick: Callable[[], None]
) -> tuple[Tensor, Tensor]:
    """The states at the last node, and which of them are not exact enough.

    Args:
        x0: (B, *shape) the rows' first states. size: how many at a time. tick: called after every step.

    Returns:
        (B, *shape) in x0's dtype, and (B,) bool: rows to be followed in the ordinary way.
    """
    span, ends, unsure = Span(inside.law), [], []
    for part in x0.split(size):
        first = part.to(torch.float64).flatten(1)
        field = SpanField(span, inside.oracle.path, first, torch.finfo(x0.dtype).max)
        coordinates = span.start(first)
        for step in trajectory(field, coordinates, nodes, solver):
            coordinates = step.x
            if step.index:
                tick()
        end = span.states(coordinates, first).reshape(part.shape).to(x0.dtype)
        ends.append(end)
        unsure.append(field.unsure | ~torch.isfinite(end).flatten(1).all(1))
    return torch.cat(ends), torch.cat(unsure)

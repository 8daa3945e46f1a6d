r"""Samples of an oracle in the span of a small law: coordinates instead of states (docs/mathematics.md, (10)).

The velocity (6) is a combination of x and the points. So whatever is integrated from x_0 stays in the span of x_0, the
centre c and the points about it, p_j = x1_j - c,

    x = a x_0 + b c + sum_j w_j p_j,    da/dt = B a,  db/dt = B b + A,  dw_j/dt = B w_j + A gamma_j        (10)

and solvers, being linear in the state, work on (a, b, w) as they do on x. The products that the logits (4) take follow
from those of x_0 with the points and the Gram matrix G_ij = <p_i, p_j>, without the D coordinates:

    <z, p_i> = a <x_0, p_i> + (b - alpha) <c, p_i> + sum_j G_ij w_j,    z = x - alpha c                   (10a)

Such logits err like expanded ones, by at most (4a) with a|x_0| + |b - alpha||c| + sum_j |w_j||p_j| for |z|. Where that
is too much and more than one point may lead, doubled arithmetic would be needed, and there is none for products: those
rows are `unsure`, and have to be followed by calls of the oracle.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowscope.fields import VelocityField
from flowscope.oracle.equation.posterior import leading, logit_error, product_logits
from flowscope.oracle.law import Law
from flowscope.oracle.oracle import Oracle
from flowscope.paths import Path
from flowscope.sampling.trajectory import trajectory

EVALUATIONS = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4}  # of a step; solvers that choose their steps measure x
AFFINE = 2  # coordinates before those of the points: a and b


class SpanRows(NamedTuple):
    """Rows of one label that are followed in the span of its points.

    Attributes:
        rows: (n,) which of x0.
        oracle: that they are samples of.
        law: of the label.
        at_once: how many states memory holds together.
    """

    rows: Tensor
    oracle: Oracle
    law: Law
    at_once: int


def split_rows(
    field: VelocityField, x0: Tensor, y: Tensor | None, steps: int, solver: str | None
) -> tuple[list[SpanRows], Tensor]:
    """Divide first states into those to follow in the span of their label's points, and (n,) the others.

    Args:
        field: that is followed.
        x0: (B, *shape) the first states.
        y: (B,) labels, or None.
        steps: how many.
        solver: by name; None for what draws noise on the way, which leaves the span.
    """
    every = torch.arange(len(x0), device=x0.device)
    if type(field) is not Oracle or len(x0) == 0:  # a subclass may ask elsewhere
        return [], every
    if solver is None or solver not in EVALUATIONS:
        return [], every
    if field.device.type != "cpu" or x0.device.type != "cpu":  # the costs of `span_is_cheaper` are those of a CPU
        return [], every
    if tuple(x0.shape[1:]) != field.training_set.shape:
        return [], every  # which the field refuses
    if field.support.own_deviations:  # what moves a state depends on more than its place in the span
        return [], every
    labels: list[Any] = [None] if y is None else y.unique().tolist()
    found, taken = [], torch.zeros(len(x0), dtype=torch.bool, device=x0.device)
    for label in labels:
        member = torch.ones_like(taken) if y is None else y == label
        law = field.support.law(label)
        if span_is_cheaper(law, int(member.sum()), 1 + (steps - 1) * EVALUATIONS[solver], field.memory):
            found.append(SpanRows(every[member], field, law, states_at_once(law, field.memory)))
            taken |= member
    return found, every[~taken]


def span_is_cheaper(law: Law, rows: int, evaluations: int, memory: int) -> bool:
    """Whether the span fits into memory, and takes less than calls of the oracle.

    Counted are multiplications in float64; the oracle's two products are float32, each at half of the cost.
    """
    points, dimension = len(law), law.support.dimension
    calls = evaluations * rows * points * dimension
    around = points**2 * dimension + 2 * rows * points * dimension  # G; <x_0, p_i>, and the way back
    return around + evaluations * rows * points**2 < calls and states_at_once(law, memory) > 0


def states_at_once(law: Law, memory: int) -> int:
    """How many states may be followed together; 0 where the law's matrices do not fit."""
    points, dimension = len(law), law.support.dimension
    left = memory - 8 * points * (2 * dimension + points)  # the points as read, and in float64
    return max(0, left // (8 * (6 * dimension + 24 * points)))


def follow_in_span(
    part: SpanRows, x0: Tensor, nodes: Tensor, solver: str, size: int, tick: Callable[[], None]
) -> tuple[Tensor, Tensor]:
    """The states at the last node, and which of them are not exact enough.

    Args:
        part: of the oracle and its law.
        x0: (B, *shape) the rows' first states.
        nodes: (T+1,) of the schedule.
        solver: by name.
        size: how many states at a time.
        tick: called after every step.

    Returns:
        (B, *shape) in x0's dtype, and (B,) bool: rows to be followed by calls of the oracle.
    """
    span, ends, unsure = Span(part.law), [], []
    for states in x0.split(size):
        first = states.to(torch.float64).flatten(1)
        field = SpanField(span, part.oracle.law_path, first, torch.finfo(x0.dtype).max)
        coordinates = span.start(first)
        for step in trajectory(field, coordinates, nodes, solver):
            coordinates = step.x
            if step.index:
                tick()
        end = span.states(coordinates, first).reshape(states.shape).to(x0.dtype)
        ends.append(end)
        unsure.append(field.unsure | ~torch.isfinite(end).flatten(1).all(1))
    return torch.cat(ends), torch.cat(unsure)


class Span:
    """A law as its Gram matrix.

    Attributes:
        law: whose points are held in float64, 8 N (D + N) bytes with their Gram matrix.
        block: all its points.
        gram: (N, N) G.
        lengths: (N,) |p_i|.
        centre_products: (N,) <c, p_i>.
    """

    def __init__(self, law: Law) -> None:
        self.law, self.block = law, law.block(0, len(law))
        self.gram = self.block.points @ self.block.points.T
        self.lengths = self.block.norms.sqrt()
        self.centre_products = self.block.points @ law.support.centre

    def start(self, x: Tensor) -> Tensor:
        """(B, 2 + N) the coordinates of first states, (1, 0, 0)."""
        coordinates = x.new_zeros(len(x), AFFINE + len(self.law), dtype=torch.float64)
        coordinates[:, 0] = 1
        return coordinates

    def states(self, coordinates: Tensor, x0: Tensor) -> Tensor:
        """(B, D) float64 what the coordinates stand for, from first states x0 (B, D)."""
        a, b, w = coordinates[:, :1], coordinates[:, 1:AFFINE], coordinates[:, AFFINE:]
        return a * x0 + b * self.law.support.centre + w @ self.block.points


class SpanField:
    """The oracle of a law on the coordinates of states that began at x0; a VelocityField.

    Args:
        span: of the law.
        path: of the oracle.
        x0: (B, D) float64, the first states.
        largest: what no coordinate of a state may exceed.

    Attributes:
        unsure: (B,) bool, rows of which an answer may have been less exact than the oracle's, or a state too far out.
    """

    def __init__(self, span: Span, path: Path, x0: Tensor, largest: float) -> None:
        self.span, self.path, self.largest = span, path, largest
        self.unsure = torch.zeros(len(x0), dtype=torch.bool, device=x0.device)
        centre = span.law.support.centre
        self._products = x0 @ span.block.points.T  # <x_0, p_i>
        self._square, self._centre_product = (x0 * x0).sum(1), x0 @ centre
        self._centre_square = float(centre @ centre)

    def __call__(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """(B, 2 + N) how the coordinates x move at t, one time for all, (10)."""
        c = self.path(t)
        gamma = self._weights(x, c.alpha.expand(len(x)).to(x.device), c.sigma.expand(len(x)).to(x.device))
        u = x * float(c.B)
        u[:, 1] += float(c.A)
        u[:, AFFINE:].add_(gamma, alpha=float(c.A))
        return u

    def _weights(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """(B, N) the posterior's weights."""
        a, b, w = x[:, 0], x[:, 1] - alpha, x[:, AFFINE:]
        products = w @ self.span.gram
        # |z|^2, as the sum of <z, .> over the parts of z
        norms = (w * products).sum(1) + a**2 * self._square + b**2 * self._centre_square
        norms += 2 * a * b * self._centre_product
        other = a[:, None] * self._products + torch.outer(b, self.span.centre_products)
        norms += 2 * (w * other).sum(1)
        logits = product_logits(products.add_(other), self.span.block, norms, alpha, sigma)
        self._mark_unsure(x, logits, alpha, sigma)
        return logits.softmax(1).nan_to_num_()

    def _mark_unsure(self, x: Tensor, logits: Tensor, alpha: Tensor, sigma: Tensor) -> None:
        """Mark the rows whose logits are not exact enough."""
        law, dimension = self.span.law, self.span.law.support.dimension
        offset = self._centre_square**0.5
        parts = x[:, 0].abs() * self._square.sqrt() + x[:, AFFINE:].abs() @ self.span.lengths
        reach = parts + (x[:, 1] - alpha).abs() * offset
        whole = parts + x[:, 1].abs() * offset
        error = logit_error(reach, whole + alpha * offset, alpha, sigma, law.radius, dimension + len(law))
        # a single leader is as exact as the others, not exact: beside it they err by 2 E
        leaders = leading(logits, logits.amax(1), 2 * error, len(law)).sum(1)
        self.unsure |= (leaders > 1) | ~torch.isfinite(error) | (whole > self.largest)

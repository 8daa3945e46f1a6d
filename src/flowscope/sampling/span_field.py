r"""The oracle in the span of a small law: coordinates instead of states (docs/mathematics.md, (10)).

The velocity (6) is a combination of x and the points. So whatever is integrated from x_0 stays in the span of x_0, the
centre c and the points about it, p_j = x1_j - c,

    x = a x_0 + b c + sum_j w_j p_j,    da/dt = B a,  db/dt = B b + A,  dw_j/dt = B w_j + A gamma_j        (10)

and solvers, being linear in the state, work on (a, b, w) as they do on x. The products that the logits (4) take follow
from those of x_0 with the points and the Gram matrix G_ij = <p_i, p_j>, without the D coordinates:

    <z, p_i> = a <x_0, p_i> + (b - alpha) <c, p_i> + sum_j G_ij w_j,    z = x - alpha c                   (10a)

Such logits err like expanded ones, by at most (4a) with a|x_0| + |b - alpha||c| + sum_j |w_j||p_j| for |z|. Where that
is too much and more than one point may lead, doubled arithmetic would be needed, and there is none for products: those
rows are `unsure`, and have to be followed in the ordinary way.
"""

from typing import Any

import torch
from torch import Tensor

from flowscope.oracle.equation.posterior import leading, logit_error, product_logits
from flowscope.oracle.law import Law
from flowscope.paths import Path

OWN = 2  # coordinates before those of the points: a and b


class Span:
    """A law as its Gram matrix.

    Attributes:
        law: whose points are held in float64, 8 N (D + N) bytes with their Gram matrix.
    """

    def __init__(self, law: Law) -> None:
        self.law, self.block = law, law.block(0, len(law))
        self.gram = self.block.points @ self.block.points.T
        self.lengths = self.block.norms.sqrt()
        self.beside = self.block.points @ law.support.centre  # <c, p_i>

    def start(self, x: Tensor) -> Tensor:
        """(B, 2 + N) the coordinates of first states, (1, 0, 0)."""
        coordinates = x.new_zeros(len(x), OWN + len(self.law), dtype=torch.float64)
        coordinates[:, 0] = 1
        return coordinates

    def states(self, coordinates: Tensor, x0: Tensor) -> Tensor:
        """(B, D) float64 what the coordinates stand for, from first states x0 (B, D)."""
        a, b, w = coordinates[:, :1], coordinates[:, 1:OWN], coordinates[:, OWN:]
        return a * x0 + b * self.law.support.centre + w @ self.block.points


class SpanField:
    """The oracle of a law on the coordinates of states that began at x0; a VelocityField.

    Args:
        x0: (B, D) float64, the first states.
        most: what no coordinate of a state may exceed.

    Attributes:
        unsure: (B,) bool, rows of which an answer may have been less exact than the oracle's, or a state too far out.
    """

    def __init__(self, span: Span, path: Path, x0: Tensor, most: float) -> None:
        self.span, self.path, self.most = span, path, most
        self.unsure = torch.zeros(len(x0), dtype=torch.bool, device=x0.device)
        centre = span.law.support.centre
        self._products = x0 @ span.block.points.T  # <x_0, p_i>
        self._square, self._beside = (x0 * x0).sum(1), x0 @ centre
        self._far = float(centre @ centre)

    def __call__(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """(B, 2 + N) how the coordinates x move at t, one time for all, (10)."""
        c = self.path(t)
        gamma = self._weights(x, c.alpha.expand(len(x)).to(x.device), c.sigma.expand(len(x)).to(x.device))
        u = x * float(c.B)
        u[:, 1] += float(c.A)
        u[:, OWN:].add_(gamma, alpha=float(c.A))
        return u

    def _weights(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """(B, N) the posterior's weights."""
        a, b, w = x[:, 0], x[:, 1] - alpha, x[:, OWN:]
        products = w @ self.span.gram
        # |z|^2, as the sum of <z, .> over the parts of z
        norms = (w * products).sum(1) + a**2 * self._square + b**2 * self._far + 2 * a * b * self._beside
        other = a[:, None] * self._products + torch.outer(b, self.span.beside)
        norms += 2 * (w * other).sum(1)
        logits = product_logits(products.add_(other), self.span.block, norms, alpha, sigma)
        self._watch(x, logits, alpha, sigma)
        return logits.softmax(1).nan_to_num_()

    def _watch(self, x: Tensor, logits: Tensor, alpha: Tensor, sigma: Tensor) -> None:
        """Mark the rows whose logits are not exact enough."""
        law, dimension = self.span.law, self.span.law.support.dimension
        offset = self._far**0.5
        parts = x[:, 0].abs() * self._square.sqrt() + x[:, OWN:].abs() @ self.span.lengths
        reach = parts + (x[:, 1] - alpha).abs() * offset
        whole = parts + x[:, 1].abs() * offset
        error = logit_error(reach, whole + alpha * offset, alpha, sigma, law.radius, dimension + len(law))
        # a single leader is as exact as the others, not exact: beside it they err by 2 E
        leaders = leading(logits, logits.amax(1), 2 * error, len(law)).sum(1)
        self.unsure |= (leaders > 1) | ~torch.isfinite(error) | (whole > self.most)

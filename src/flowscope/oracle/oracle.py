r"""Oracle: TrainingSet + Path -> the exact posterior, velocity, score and density (arXiv 2512.02826, Theorem 2.1).

    u*(x, t) = A_t sum_i gamma_i(x, t) x1_i + B_t x                                                       (6)

with gamma from posterior.py; for a label y the same sum over that class alone. Answers are exact up to rounding:
nothing is dropped or approximated, and they do not depend on the memory budget or on the order of the points.
Nothing is tracked for autograd: the oracle is a fixed function of the data, and its derivatives are asked for by
name (score, divergence).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from flowscope.data.training_set import TrainingSet, as_training_set
from flowscope.errors import InputError
from flowscope.fields import Query, check_query
from flowscope.oracle.budget import parse_memory, plan
from flowscope.oracle.moments import Moments, combine
from flowscope.oracle.posterior import State, block_moments, logit_error
from flowscope.oracle.support import Law, Support
from flowscope.paths import Coefficients, Path, Quantity, convert, get_path

Tensor = torch.Tensor


@dataclass(frozen=True)
class Posterior:
    """The posterior of the data given B states, over the distinct points.

    Attributes:
        mean: (B, *shape) E[x1|x].
        weights: (B, k) gamma of the heaviest points, descending.
        indices: (B, k) int64, their first positions in the training set; among equal weights the lowest first.
        entropy: (B,) in nats.
        effective_size: (B,) 1 / sum gamma^2.
        total_variance: (B,) trace of the posterior covariance, a sum over coordinates.
        log_density: (B,) log p_t(x).
    """

    mean: Tensor
    weights: Tensor
    indices: Tensor
    entropy: Tensor
    effective_size: Tensor
    total_variance: Tensor
    log_density: Tensor


class Oracle:
    """The exact velocity field that flow matching asks for on a finite training set; a VelocityField.

    Every method takes `(x, t, y=None)`: x (B, *shape) of any float dtype, t a float or (B,) with 0 <= t < 1, y None
    or (B,) integer labels. Results have x's dtype and device; arithmetic is float64 and leading points are refined
    beyond it, so that the velocity's error relative to sqrt(|u|^2 + A^2 tr Cov), the size of a conditional velocity,
    is under 1e-6 (before rounding to x's dtype).

    Args:
        training_set: a TrainingSet, or an array or tensor (N, *shape) of points.
        path: "linear", "cosine", "vp", "ve", or a Path.
        tolerance: None, or the largest relative velocity error allowed, above 0. Nothing is left out so far: answers
            are exact whatever it is.
        memory: budget for what a call needs beyond the data and its own arguments and results.
        device: where to compute, such as "cpu" or "cuda"; None for where the points are.

    Raises:
        InputError: an argument is not usable; the message says why.
    """

    def __init__(
        self,
        training_set: Any,
        path: str | Path = "linear",
        *,
        tolerance: float | None = None,
        memory: str | int = "512MB",
        device: str | torch.device | None = None,
    ) -> None:
        check_tolerance(tolerance)
        self.training_set: TrainingSet = as_training_set(training_set)
        self.path = get_path(path)
        self.memory = parse_memory(memory)
        self.device = resolve_device(device, self.training_set.points)
        plan(self.memory, 1, 1, self.training_set.dimension)  # a budget too small is said now, not at the first call
        self.support = Support(self.training_set, self.device)

    def __repr__(self) -> str:
        return f"Oracle({self.training_set!r}, path={self.path.name!r}, device={str(self.device)!r})"

    def velocity(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """u*(x, t), equation (6); (B, *shape)."""
        return self._converted(x, t, y, "velocity")

    __call__ = velocity

    def denoise(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """E[x1|x], the predicted data; (B, *shape)."""
        return self._converted(x, t, y, "data")

    def noise(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """E[x0|x], the predicted noise; (B, *shape)."""
        return self._converted(x, t, y, "noise")

    def score(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """The gradient of log p_t(x) by x; (B, *shape)."""
        return self._converted(x, t, y, "score")

    def log_density(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """log p_t(x), the density of x_t by Lebesgue measure, in nats; (B,). Given y, of that class."""
        return self._answer(x, t, y, self._log_density)

    def divergence(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        r"""div u*(x, t) = A alpha/sigma^2 tr Cov(x1|x) + D B, a sum over coordinates; (B,)."""

        def value(m: Moments, c: Coefficients, _: Tensor) -> Tensor:
            return c.A * c.alpha / c.sigma**2 * m.total_variance + self.training_set.dimension * c.B

        return self._answer(x, t, y, value)

    def posterior(self, x: Tensor, t: float | Tensor, y: Any = None, k: int = 1) -> Posterior:
        """The posterior of x1 given x, with its k heaviest points.

        Raises:
            InputError: k is not between 1 and the number of distinct points (of the label).
        """
        query = self._check(x, t, y)
        moments, _, coefficients = self._moments(query, k)
        dtype, device = query.x.dtype, query.x.device
        out = [
            (moments.mean + self.support.centre).reshape(query.x.shape),
            moments.weights,
            moments.top_index,
            moments.entropy,
            moments.effective_size,
            moments.total_variance,
            self._log_density(moments, coefficients, moments.mean),
        ]
        return Posterior(*(v.to(device, dtype if v.dtype.is_floating_point else v.dtype) for v in out))

    def _log_density(self, m: Moments, c: Coefficients, _: Tensor) -> Tensor:
        normaliser = self.training_set.dimension * (0.5 * math.log(2 * math.pi) + c.sigma.log())
        return m.peak + (m.peak_low + m.mass.log() - normaliser)

    def _converted(self, x: Tensor, t: Any, y: Any, target: Quantity) -> Tensor:
        def value(m: Moments, c: Coefficients, z: Tensor) -> Tensor:
            # About the centre c, where nothing large cancels; what c itself adds follows from x = alpha x1 + sigma x0.
            shift = {"data": torch.ones_like(c.alpha), "velocity": c.d_alpha}.get(target, torch.zeros_like(c.alpha))
            return convert(m.mean, z, c, "data", target) + shift[:, None] * self.support.centre

        return self._answer(x, t, y, value)

    def _answer(self, x: Tensor, t: Any, y: Any, value: Callable[[Moments, Coefficients, Tensor], Tensor]) -> Tensor:
        query = self._check(x, t, y)
        moments, z, coefficients = self._moments(query, 1)
        result = value(moments, coefficients, z)
        return result.to(query.x.device, query.x.dtype).reshape(query.x.shape if result.ndim == 2 else (-1,))

    def _check(self, x: Tensor, t: Any, y: Any) -> Query:
        return check_query(x, t, y, self.training_set.shape)

    def _moments(self, query: Query, k: int) -> tuple[Moments, Tensor, Coefficients]:
        """Moments (mean about the centre), z = x - alpha c and coefficients of all queries; one pass for each label."""
        x = query.x.to(self.device).flatten(1).to(torch.float64)
        coefficients = self.path(query.t.to(self.device))
        z = x - coefficients.alpha[:, None] * self.support.centre
        if len(x) == 0:
            return _no_moments(k, x), z, coefficients
        pieces: list[tuple[Tensor, Moments]] = []
        for rows, law in self._by_label(query.y, len(x)):
            if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= len(law):
                raise InputError(
                    f"k is {k!r}; expected a whole number from 1 to {len(law)}, the number of distinct points"
                )
            sizes = plan(self.memory, len(rows), len(law), self.training_set.dimension)
            for part in rows.split(sizes.queries):
                state = self._state(x[part], z[part], coefficients.alpha[part], coefficients.sigma[part], law)
                pieces.append((part, _law_moments(law, state, k, sizes.points, sizes.pairs)))
        order = torch.cat([rows for rows, _ in pieces]).argsort()
        columns = zip(*(m for _, m in pieces), strict=True)
        return Moments(*(torch.cat(column)[order] for column in columns)), z, coefficients

    def _by_label(self, y: Tensor | None, count: int) -> Iterator[tuple[Tensor, Law]]:
        if y is None:
            yield torch.arange(count, device=self.device), self.support.law()
            return
        y = y.to(self.device)
        for label in y.unique().tolist():
            yield (y == label).nonzero()[:, 0], self.support.law(label)

    def _state(self, x: Tensor, z: Tensor, alpha: Tensor, sigma: Tensor, law: Law) -> State:
        norms = (z * z).sum(1)
        offset = x.norm(dim=1) + alpha * self.support.centre.norm()
        error = logit_error(norms.sqrt(), offset, alpha, sigma, law.radius, x.shape[1])
        return State(x, z, norms, alpha, sigma, error, len(law))


def _law_moments(law: Law, state: State, k: int, rows: int, pairs: int) -> Moments:
    """One pass over a law, block by block."""

    blocks = law.blocks(rows)
    total = block_moments(next(blocks), state, None, k, pairs)
    for block in blocks:
        total = combine(total, block_moments(block, state, total.peak, k, pairs))
    return total


def _no_moments(k: int, x: Tensor) -> Moments:
    row = x.new_empty(0)
    return Moments(row, row, row, row, row, x, row, x.new_empty(0, k), torch.empty(0, k, dtype=torch.int64))


def check_tolerance(tolerance: Any) -> None:
    """Refuse what is neither None nor a finite number above 0."""
    number = isinstance(tolerance, (int, float)) and not isinstance(tolerance, bool)
    if tolerance is not None and not (number and 0 < tolerance < math.inf):
        raise InputError(f"tolerance is {tolerance!r}; expected None, or a number above 0 such as 1e-6")


def resolve_device(device: str | torch.device | None, points: Any = None) -> torch.device:
    """The device by name, checked to be there; None for where the points are.

    Raises:
        InputError: the name is unknown, the device is absent, or it has no float64.
    """
    if device is None:
        return points.device if isinstance(points, torch.Tensor) else torch.device("cpu")
    try:
        found = torch.device(device)
        torch.empty(1, dtype=torch.float64, device=found)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0][:120]
        raise InputError(
            f'device is {device!r}, which cannot be used ({reason}); expected "cpu", or "cuda" where there is one'
        ) from None
    return found

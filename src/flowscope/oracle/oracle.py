r"""Oracle: TrainingSet + Path -> the exact posterior, velocity, score and density (arXiv 2512.02826, Theorem 2.1).

    u*(x, t) = A_t sum_i gamma_i(x, t) x1_i + B_t x                                                       (6)

with gamma from posterior.py; for a label y the same sum over that class alone. Answers are exact up to rounding:
nothing is dropped or approximated, and they do not depend on the memory budget or on the order of the points.
Nothing is tracked for autograd: the oracle is a fixed function of the data, and its derivatives are asked for by
name (score, divergence).
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.core.memory import check_memory
from flowscope.data.training_set import TrainingSet, as_training_set
from flowscope.errors import InputError
from flowscope.fields import Query, check_query
from flowscope.oracle.carried import Carried
from flowscope.oracle.conditions import Conditions, all_labels
from flowscope.oracle.engines.matmul import APPLE, check_library
from flowscope.oracle.engines.plan import parse_memory, plan
from flowscope.oracle.engines.pruning.bounds import Sketches
from flowscope.oracle.engines.pruning.engine import Certificate
from flowscope.oracle.engines.select import Engines
from flowscope.oracle.equation.moments import Moments
from flowscope.oracle.equation.posterior import Queries, logit_error
from flowscope.oracle.law import Law, Support
from flowscope.paths import Coefficients, Path, Quantity, convert, get_path


@dataclass(frozen=True)
class Posterior:
    """The posterior of the data given B states, over the distinct points.

    Attributes:
        mean: (B, *shape) E[x1|x].
        weights: (B, k) gamma of the heaviest points, descending.
        indices: (B, k) int64, their first positions in the training set; among equal weights the lowest first.
        entropy: (B,) in nats.
        effective_size: (B,) 1 / sum gamma^2.
        total_variance: (B,) trace of the posterior covariance, a sum over coordinates. Its error is about 1e-15
            of the mean squared distance of the points from their centre, however small the trace itself is.
        log_density: (B,) log p_t(x).
    """

    mean: Tensor
    weights: Tensor
    indices: Tensor
    entropy: Tensor
    effective_size: Tensor
    total_variance: Tensor
    log_density: Tensor


FARTHEST = 1e18  # of a state, in units of what data and noise reach: beyond it even doubled logits are rounding


class Batch(NamedTuple):
    """Some queries of a call, and what a pass over the points found of them; float64."""

    rows: Tensor  # (b,) which rows of the call
    moments: Moments  # the mean is about the centre
    z: Tensor  # (b, D) x - alpha c
    coefficients: Coefficients


class Oracle:
    """The exact velocity field that flow matching asks for on a finite training set; a VelocityField.

    Every method takes `(x, t, y=None)`: x (B, *shape) of any float dtype, t a float or (B,) with 0 <= t < 1, y None
    or (B,) integer labels. Results have x's dtype and device; arithmetic is float64 and leading points are refined
    beyond it, so that the velocity's error relative to sqrt(|u|^2 + A^2 tr Cov), the size of a conditional velocity,
    is under 1e-6 (before rounding to x's dtype), as long as the set is less than about 1e8 times as wide as the spread
    of the points that share a posterior. Numbers beyond the range of x's dtype come out as infinity (half precision
    ends at 65,504).

    Args:
        training_set: a TrainingSet, or an array or tensor (N, *shape) of points.
        path: "linear", "cosine", "vp", "ve", or a Path.
        tolerance: None, the default, leaves nothing out. A number above 0 lets velocity, data, noise and score of large
            sets in memory leave out points, as long as the velocity's error by that, relative to the same size, is
            proven to be at most this; see :meth:`certify`. It takes a second, coarse copy of the points.
        memory: budget for what a call needs beyond the data and its own arguments and results.
        device: where to compute, such as "cpu" or "cuda"; None for where the points are. "mps", which has no float64,
            takes float32 products alone: all else is done on the CPU.
        library: of the products for means, "torch" or, on the CPU, "numpy", or, for float32, "mps" there and "triton"
            on CUDA; None for the one that suits the machine.

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
        library: str | None = None,
    ) -> None:
        check_tolerance(tolerance)
        if str(device).partition(":")[0] == APPLE:
            device, library = "cpu", library or APPLE
        self.training_set: TrainingSet = as_training_set(training_set)
        self.path = get_path(path)
        self.memory = parse_memory(memory)
        self.device = resolve_device(device, self.training_set.points)
        plan(self.memory, 1, 1, self.training_set.dimension)  # a budget too small is said now, not at the first call
        self.support = Support(self.training_set, self.device, self.memory)
        self.tolerance, self.library = tolerance, check_library(library)
        self.engines = Engines(self.support, self.memory, self.library, tolerance, Sketches(self.support))

    def __repr__(self) -> str:
        return f"Oracle({self.training_set!r}, path={self.path.name!r}, device={str(self.device)!r})"

    def restrict(self, positions: Any) -> "Oracle":
        """The oracle of some of the points, with their weights, and with what this one has computed.

        Args:
            positions: of the points in the training set; which indices still refer to.

        Raises:
            InputError: there are none, or one is not a position.
        """
        member = np.zeros(len(self.training_set), bool)
        try:
            chosen = np.asarray(positions)
        except ValueError:  # rows of different lengths
            raise InputError("positions are not an array; expected whole numbers, such as [0, 5, 7]") from None
        if chosen.size == 0 or chosen.dtype.kind not in "iu" or chosen.min() < 0 or chosen.max() >= len(member):
            raise InputError(f"positions are {chosen!r}; expected at least one position from 0 to {len(member) - 1}")
        member[chosen] = True
        part = copy.copy(self)
        part.support = self.support.restrict(member)
        part.engines = replace(self.engines, support=part.support, weights={})
        return part

    def along(self) -> "Oracle":
        """An oracle for states that are followed in time: with a tolerance it carries from call to call what it knows.

        Its answers are as good as this one's. It is cheap where a call's states go on from those of the call before,
        and keeps the products of all points with one batch of states, 4 N B bytes.
        """
        if self.tolerance is None:
            return self
        followed = copy.copy(self)
        followed.engines = replace(self.engines, carried=Carried(self.engines.sketches))
        return followed

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
        return self._answer(x, t, y, lambda batch: (self._log_density(batch),))[0]

    def divergence(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        r"""div u*(x, t) = A alpha/sigma^2 tr Cov(x1|x) + D B, a sum over coordinates; (B,)."""

        def value(batch: Batch) -> tuple[Tensor]:
            c = batch.coefficients
            trace = batch.moments.total_variance
            return (c.A * c.alpha / c.sigma**2 * trace + self.training_set.dimension * c.B,)

        return self._answer(x, t, y, value)[0]

    def certify(self, x: Tensor, t: float | Tensor, y: Any = None) -> tuple[Tensor, Certificate]:
        """u*(x, t), (B, *shape), with a proof of how far it may be off; what is not left out is done in float64."""
        query = check_query(x, t, y, self.training_set.shape)
        velocity, pieces, order = torch.empty_like(x), [], []
        for rows, law in self._by_label(query.y, len(x)):
            at_once = plan(self.memory, max(1, len(rows)), len(law), self.training_set.dimension).queries
            for part in rows.split(at_once):
                c, state = self._state(query, part)
                state = self._facing(law, state)
                moments, proof = self.engines.proven(law, state, (c.A, c.B), torch.finfo(x.dtype).eps)
                velocity[part] = self._quantity(Batch(part, moments, state.z, c), "velocity").to(x.device, x.dtype)
                order.append(part)
                pieces.append([column.to(x.device) for column in vars(proof).values()])
        back = torch.cat(order).argsort().to(x.device)
        return velocity, Certificate(*(torch.cat(column)[back] for column in zip(*pieces, strict=True)))

    def posterior(self, x: Tensor, t: float | Tensor, y: Any = None, k: int = 1) -> Posterior:
        """The posterior of x1 given x, with its k heaviest points.

        Raises:
            InputError: k is not between 1 and the number of distinct points (of the label).
        """

        def values(batch: Batch) -> tuple[Tensor, ...]:
            m = batch.moments
            mean = (m.mean + self.support.centre).reshape(-1, *self.training_set.shape)
            sizes = m.entropy, m.effective_size, m.total_variance, self._log_density(batch)
            return mean, m.weights, m.top_index, *sizes

        return Posterior(*self._answer(x, t, y, values, k))

    def conditions(self, x: Tensor, t: float | Tensor) -> Conditions:
        """The oracle of every label and of all points, and p(y | x_t), from one pass over the points.

        The results take C + 1 times the memory of x, beside the budget; in half precision three times that on the way.

        Raises:
            InputError: the set has no labels, or the results do not fit into memory.
        """
        query = check_query(x, t, None, self.training_set.shape)
        laws = self.support.class_laws()
        half = x.dtype not in (torch.float32, torch.float64)  # then velocities may leave its range, and not the whole
        check_memory(
            len(laws) * x.numel() * (6 if half else x.element_size()),
            f"velocities of {len(laws)} labels",
            "give fewer states at a time",
        )
        if half:
            found = self.conditions(x.to(torch.float32), t)
            return Conditions(
                found.labels, found.velocity.to(x.dtype), found.velocities.to(x.dtype), found.probabilities.to(x.dtype)
            )
        velocities = x.new_empty(len(x), len(laws), self.training_set.dimension)
        whole, probabilities = x.new_empty(len(x), self.training_set.dimension), x.new_empty(len(x), len(laws))
        at_once = plan(self.memory, max(1, len(x)), len(self.support.law()), self.training_set.dimension).queries
        for low in range(0, len(x), at_once):
            part = slice(low, low + at_once)
            c, state = self._state(query, torch.arange(len(x), device=self.device)[part])
            beside = c.B[:, None] * state.z + c.d_alpha[:, None] * self.support.centre  # of A E[x1|x] in (6)
            of = partial(self._moments, state=state, c=c, k=1, mean=x.dtype)
            whole[part], probabilities[part] = all_labels(laws, of, (c.A, beside), velocities[part])
        labels = torch.tensor([law.label for law in laws], device=x.device)
        shape = self.training_set.shape
        return Conditions(
            labels, whole.reshape(-1, *shape), velocities.reshape(len(x), len(laws), *shape), probabilities
        )

    def _log_density(self, batch: Batch) -> Tensor:
        m = batch.moments
        normaliser = self.training_set.dimension * (0.5 * math.log(2 * math.pi) + batch.coefficients.sigma.log())
        return m.peak + (m.peak_low + m.mass.log() - normaliser)

    def _converted(self, x: Tensor, t: Any, y: Any, target: Quantity) -> Tensor:
        mean = x.dtype if isinstance(x, Tensor) else None
        return self._answer(x, t, y, lambda batch: (self._quantity(batch, target),), mean=mean)[0]

    def _quantity(self, batch: Batch, target: Quantity) -> Tensor:
        """(b, *shape) what the mean of the posterior says of data, noise, velocity or score."""
        # About the centre c, where nothing large cancels; what c itself adds follows from x = alpha x1 + sigma x0.
        c = batch.coefficients
        shift = {"data": torch.ones_like(c.alpha), "velocity": c.d_alpha}.get(target, torch.zeros_like(c.alpha))
        about = convert(batch.moments.mean, batch.z, c, "data", target)
        return (about + shift[:, None] * self.support.centre).reshape(-1, *self.training_set.shape)

    def _answer(
        self,
        x: Tensor,
        t: Any,
        y: Any,
        values: Callable[[Batch], tuple[Tensor, ...]],
        k: int = 1,
        mean: torch.dtype | None = None,
    ) -> tuple[Tensor, ...]:
        """What `values` makes of the moments of all queries, batch by batch, in x's order, dtype and device."""
        query = check_query(x, t, y, self.training_set.shape)
        order, pieces = [], []
        for batch in self._batches(query, k, mean):
            order.append(batch.rows)
            found = (v.to(x.device, x.dtype if v.dtype.is_floating_point else v.dtype) for v in values(batch))
            pieces.append(tuple(found))
        if len(pieces) == 1:
            return pieces[0]
        back = torch.cat(order).argsort().to(x.device)
        return tuple(torch.cat(column)[back] for column in zip(*pieces, strict=True))

    def _batches(self, query: Query, k: int, mean: torch.dtype | None) -> Iterator[Batch]:
        """The moments of all queries: one pass over its law for every batch that the budget allows.

        Args:
            mean: only means are wanted, to be rounded to this dtype; None for all moments.
        """
        for rows, law in self._by_label(query.y, len(query.x)):
            if isinstance(k, bool) or not isinstance(k, Integral) or not 1 <= k <= len(law):
                raise InputError(
                    f"k is {k!r}; expected a whole number from 1 to {len(law)}, the number of distinct points"
                )
            at_once = plan(self.memory, max(1, len(rows)), len(law), self.training_set.dimension).queries
            for part in rows.split(at_once):
                c, state = self._state(query, part)
                yield Batch(part, self._moments(law, state, c, k, mean), state.z, c)

    def _moments(self, law: Law, state: Queries, c: Coefficients, k: int, mean: torch.dtype | None) -> Moments:
        """The moments of a law at some states."""
        state = self._facing(law, state)
        if mean is None:
            return self.engines.moments(law, state, k)
        return self.engines.means(law, state, (c.A, c.B), single=mean != torch.float64)

    def _by_label(self, y: Tensor | None, count: int) -> Iterator[tuple[Tensor, Law]]:
        if y is None or count == 0:
            yield torch.arange(count, device=self.device), self.support.law()
            return
        y = y.to(self.device)
        for label in y.unique().tolist():
            yield (y == label).nonzero()[:, 0], self.support.law(label)

    def _state(self, query: Query, part: Tensor) -> tuple[Coefficients, Queries]:
        """Some rows of a call, without what depends on a law."""
        c = self.path(query.t.to(self.device)[part])
        x = query.x[part.to(query.x.device)].to(self.device).flatten(1).to(torch.float64)
        z = x - c.alpha[:, None] * self.support.centre
        norms = (z * z).sum(1)
        return c, Queries(x, z, norms, c.alpha, c.sigma, torch.zeros_like(norms), 0)

    def _facing(self, law: Law, state: Queries) -> Queries:
        """The states with what depends on a law."""
        norms = state.norms.sqrt()
        reach = state.alpha * law.radius + state.sigma * math.sqrt(state.x.shape[1])
        if len(law) > 1 and bool((norms > FARTHEST * reach).any()):
            raise InputError(
                f"x lies over {FARTHEST:.0e} times further out than data and noise reach; expected a state near them"
            )
        offset = state.x.norm(dim=1) + state.alpha * self.support.centre.norm()
        error = logit_error(norms, offset, state.alpha, state.sigma, law.radius, state.x.shape[1])
        return state._replace(error=error, points=len(law))


def check_tolerance(tolerance: Any) -> None:
    """Refuse what is neither None nor a finite number above 0."""
    number = isinstance(tolerance, Real) and not isinstance(tolerance, bool)
    if tolerance is not None and not (number and 0 < tolerance < math.inf):
        raise InputError(f"tolerance is {tolerance!r}; expected None, or a number above 0 such as 1e-6")


def resolve_device(device: str | torch.device | None, points: Any = None) -> torch.device:
    """The device by name, checked to be there; None for where the points are.

    Raises:
        InputError: the name is unknown, the device is absent, or it has no float64.
    """
    if device is None:
        return points.device if isinstance(points, Tensor) else torch.device("cpu")
    try:
        found = torch.device(device)
        if found.type not in ("cpu", "cuda"):
            raise RuntimeError("flowscope computes in float64 on these alone: cpu, cuda")
        torch.empty(1, dtype=torch.float64, device=found)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0][:120]
        raise InputError(
            f'device is {device!r}, which cannot be used ({reason}); expected "cpu", or "cuda" where there is one'
        ) from None
    return found

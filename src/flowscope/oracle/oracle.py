r"""Oracle: TrainingSet + Path -> the exact posterior, velocity, score and density (arXiv 2512.02826, Theorem 2.1).

    u*(x, t) = A_t sum_i gamma_i(x, t) x1_i + B_t x                                                       (6)

with gamma from equation/posterior.py; for a label y the sum runs over that class alone. Answers are exact up to
rounding. They do not depend on the memory budget or on the order of the points.

The way of a call: `velocity` says what it wants (:class:`Want`) and what to make of it; `_answer` cuts the states into
batches (:class:`Queries`), asks the first engine that suits for their :class:`Moments`, and puts the answers in order.

Nothing is tracked for autograd: the oracle is a fixed function of the data, and its derivatives have names (score,
divergence).
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.core.device import resolve_device
from flowscope.core.frames import to_frame
from flowscope.core.memory import check_memory, parse_memory
from flowscope.core.surroundings import plain_arithmetic, undisturbed
from flowscope.data.training_set import TrainingSet, as_training_set
from flowscope.errors import InputError
from flowscope.fields import check_query
from flowscope.oracle.certificate import Certificate, certificate
from flowscope.oracle.conditions import Conditions, all_labels
from flowscope.oracle.distributed.process_group import Ranks
from flowscope.oracle.engines.base import Want, select
from flowscope.oracle.engines.distributed import shared_query
from flowscope.oracle.engines.float64 import Float64Engine
from flowscope.oracle.engines.matmul import APPLE, check_library
from flowscope.oracle.engines.select import Policies, make_engines
from flowscope.oracle.equation.moments import Moments
from flowscope.oracle.last_step import exact_variance, last_step
from flowscope.oracle.law import Law, Support
from flowscope.oracle.plan import plan
from flowscope.oracle.queries import Queries
from flowscope.paths import Path, Quantity, get_path, widen

TIED = 2.0**36  # weights that differ by less than one part in it are equal


@dataclass(frozen=True, repr=False)
class Posterior:
    """The posterior of the data given B states, over the distinct points.

    Example:
        >>> import flowscope as fs
        >>> digits = fs.load("digits")
        >>> posterior = fs.Oracle(digits).posterior(digits.rows(slice(0, 2)) * 0.9, 0.9, k=3)
        >>> posterior.indices[:, 0].tolist(), posterior.weights.shape
        ([0, 1], torch.Size([2, 3]))

    Attributes:
        mean: (B, *shape) E[x1|x].
        weights: (B, k) gamma of the heaviest points, descending.
        indices: (B, k) int64, their first positions in the training set; among equal weights the lowest first. Of N
            points with augmentations, k N + i is transformation k of point i.
        entropy: (B,) in nats.
        effective_size: (B,) 1 / sum gamma^2.
        total_variance: (B,) trace of the posterior covariance of x1, a sum over coordinates. Its error is about 1e-15
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

    def __repr__(self) -> str:
        return f"Posterior(of {len(self.entropy)} states, {self.weights.shape[1]} heaviest points of each)"

    def to_frame(self) -> Any:
        """The numbers of each state as a pandas DataFrame, with its heaviest point and that point's weight.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        names = ("entropy", "effective_size", "total_variance", "log_density")
        heaviest = {"index": self.indices[:, 0], "weight": self.weights[:, 0]}
        columns = heaviest | {name: getattr(self, name) for name in names}
        return to_frame({name: value.detach().cpu().numpy() for name, value in columns.items()})


class Batch(NamedTuple):
    """Some states of a call, and what an engine found of them.

    Attributes:
        law: of all points, or of the states' label.
        queries: the states, float64.
        moments: of their law; the mean is about the centre.
    """

    law: Law
    queries: Queries
    moments: Moments


class Oracle:
    """The exact velocity field that flow matching asks for on a finite training set; a VelocityField.

    Every method takes `(x, t, y=None)`: states x (B, *shape) of any float dtype, times t, a float or (B,) with
    0 <= t < 1, and labels y, None or (B,) integers. Results have x's dtype and device. Of a set with deviations, whose
    law has a density, t = 1 is a time like any other, and weights are those of the Gaussians that data are drawn from.

    The velocity's error is under 1e-6 of sqrt(|u|^2 + A^2 tr Cov), the size of a conditional velocity, before rounding
    to x's dtype. This holds where the set is less than about 1e8 times as wide as the spread of the points that share
    a posterior. Numbers beyond the range of x's dtype become infinity (half precision ends at 65,504).

    Args:
        training_set: a TrainingSet, or an array or tensor (N, *shape) of points.
        path: "linear", "cosine", "vp", "ve", or a Path.
        tolerance: None prunes nothing. A number above 0 lets velocity, data, noise and score of large sets in memory
            leave out points, where the velocity's relative error by that is proven to be at most this number; see
            :meth:`certify`. Pruning keeps coordinates of the points along principal directions.
        memory: budget for what a call needs beyond the data, its arguments and its results.
        device: where to compute, such as "cpu" or "cuda"; None for where the points are. "mps" has no float64: it
            computes float32 products, and the CPU all else.
        library: of the products for means: "torch"; "numpy" on the CPU; "triton" on CUDA and "mps" there for float32;
            None for the one that suits the machine.
        ranks: of a job that share the points (:class:`flowscope.oracle.Ranks`, entered): every rank makes every call,
            and every rank gets the answer. None for this process alone.

    Raises:
        InputError: an argument is not usable; the message says why.
        RankError: the ranks hold other data, settings or states, or one of them has failed.

    Example:
        >>> import torch
        >>> import flowscope as fs
        >>> oracle = fs.Oracle(torch.tensor([[0.0], [1.0], [4.0]], dtype=torch.float64))
        >>> x = torch.tensor([[1.0]], dtype=torch.float64)
        >>> print(f"{oracle.denoise(x, 0.5).item():.6f} {oracle.velocity(x, 0.5).item():.6f}")
        1.308562 0.617123
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
        ranks: Ranks | None = None,
    ) -> None:
        check_tolerance(tolerance)
        if str(device).partition(":")[0] == APPLE:
            device, library = "cpu", library or APPLE
        self.training_set: TrainingSet = as_training_set(training_set)
        self.path = get_path(path)
        deviation = self.training_set.least_deviation
        self.law_path = self.path if deviation is None else widen(self.path, deviation)
        self.memory = parse_memory(memory)
        self.device = resolve_device(device, self.training_set.points)
        plan(self.memory, 1, 1, self.training_set.dimension)  # a budget too small is said now, not at the first call
        with plain_arithmetic():
            self.support = Support(self.training_set, self.device, self.memory)
        self.tolerance, self.library = tolerance, check_library(library)
        self.ranks = ranks
        self.use(Policies())
        if ranks is not None:
            settings = {"path": self.path.name, "memory": self.memory, "tolerance": tolerance, "queries": ranks.queries}
            ranks.agree("their data", {"digest": self.training_set.digest})
            ranks.agree("the oracle's settings", settings)

    def __repr__(self) -> str:
        return f"Oracle({self.training_set!r}, path={self.path.name!r}, device={str(self.device)!r})"

    def use(self, policies: Policies) -> None:
        """Let the engines decide by other policies than the usual ones.

        Args:
            policies: when the float32 pass serves, how points are pruned, and the like.
        """
        self.engines = make_engines(self.support, self.memory, self.library, self.tolerance, self.ranks, policies)

    def restrict(self, positions: Any) -> "Oracle":
        """The oracle of some of the points, with their weights, and with what this one has computed.

        Args:
            positions: of the points in the training set, with all their transformations; which indices still refer to.

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
        return part

    def velocity(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """u*(x, t), equation (6); (B, *shape)."""
        return self._answer(x, t, y, *self._mean_as("velocity", x))[0]

    __call__ = velocity

    def denoise(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """E[x1|x], the predicted data; (B, *shape)."""
        return self._answer(x, t, y, *self._mean_as("data", x))[0]

    def noise(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """E[x0|x], the predicted noise; (B, *shape)."""
        return self._answer(x, t, y, *self._mean_as("noise", x))[0]

    def score(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """The gradient of log p_t(x) by x; (B, *shape)."""
        return self._answer(x, t, y, *self._mean_as("score", x))[0]

    def log_density(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """log p_t(x), the density of x_t by Lebesgue measure, in nats; (B,). Given y, of that class."""
        return self._answer(x, t, y, Want(), lambda batch: (self._log_density(batch).to(x.dtype),))[0]

    def divergence(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        r"""div u*(x, t) = A alpha/sigma^2 tr Cov(x1|x) + D B, a sum over coordinates; (B,)."""

        def value(batch: Batch) -> tuple[Tensor]:
            c = batch.queries.path
            trace = exact_variance(*batch, self._exact)
            return ((c.A * c.alpha / c.sigma**2 * trace + self.training_set.dimension * c.B).to(x.dtype),)

        return self._answer(x, t, y, Want(), value)[0]

    def certify(self, x: Tensor, t: float | Tensor, y: Any = None) -> tuple[Tensor, Certificate]:
        """u*(x, t), (B, *shape), with a proof of how far it may be off; what is not left out is done in float64.

        Raises:
            InputError: points have deviations of their own: of logits that are no products nothing is proven.
        """
        if self.support.own_deviations:
            raise InputError(
                f"{self.training_set.name} has deviations that differ, and certificates are of points and of one "
                "shared deviation; expected one number as deviations, or velocity, which is good to 1e-6, unproven"
            )

        def value(batch: Batch) -> tuple[Tensor, ...]:
            step = last_step(*batch, "velocity", self._exact)
            proof = certificate(batch.law, batch.queries, batch.moments, step, x.dtype)
            value = self._shaped(step.value).to(x.dtype)
            lost = ~torch.isfinite(value).flatten(1).all(1)  # beyond the range of the dtype
            error, relative = (bound.masked_fill(lost, math.inf) for bound in (proof.error, proof.relative))
            return value, *vars(replace(proof, error=error, relative=relative)).values()

        velocity, *proof = self._answer(x, t, y, Want("proof"), value)
        return velocity, Certificate(*proof)

    def posterior(self, x: Tensor, t: float | Tensor, y: Any = None, k: int = 1) -> Posterior:
        """The posterior of x1 given x, with its k heaviest points.

        Raises:
            InputError: k is not between 1 and the number of distinct points (of the label).
        """

        def values(batch: Batch) -> tuple[Tensor, ...]:
            m = batch.moments
            mean = self._shaped(m.mean + self.support.centre) if self._of_points else self._quantity(batch, "data")
            variance = batch.queries.path.data_variance(m.total_variance, self.training_set.dimension)
            sizes = m.entropy, m.effective_size, variance, self._log_density(batch)
            mean, weights, *rounded = (v.to(x.dtype) for v in (mean, m.weights, *sizes))
            return mean, *ordered(weights, m.top_index), *rounded

        return Posterior(*self._answer(x, t, y, Want(), values, k))

    @undisturbed
    def conditions(self, x: Tensor, t: float | Tensor) -> Conditions:
        """The oracle of every label and of all points, and p(y | x_t), from one pass over the points.

        The results take C + 1 times the memory of x, beside the budget; in half precision three times that on the way.

        Raises:
            InputError: the set has no labels, the results do not fit into memory, or each rank has states of its own.
        """
        query = check_query(x, t, None, self.training_set.shape, not self._of_points)
        self.support.training_set.check_unchanged()
        if self.ranks is not None:
            if self.ranks.queries != "replicated":
                raise InputError(
                    "conditions are asked of an oracle whose ranks have states of their own; expected ranks, not "
                    "ranks.sharded: every label's velocities of all ranks' states would be on every rank"
                )
            shared_query(query, self.ranks)
        laws = self.support.class_laws()
        half = x.dtype not in (torch.float32, torch.float64)  # then velocities may leave its range, and not the whole
        check_memory(
            len(laws) * x.numel() * (6 if half else x.element_size()),
            f"velocities of {len(laws)} labels",
            "give fewer states at a time",
        )
        if half:
            return self.conditions(x.to(torch.float32), t).to(x.dtype)
        velocities = x.new_empty(len(x), len(laws), self.training_set.dimension)
        whole, probabilities = x.new_empty(len(x), self.training_set.dimension), x.new_empty(len(x), len(laws))
        for _, queries in Queries.batches(query, self.support, self.law_path, self.memory):
            part = slice(int(queries.positions[0]), int(queries.positions[-1]) + 1) if len(queries) else slice(0)
            found_of = self._velocities_of(queries, Want("mean", x.dtype))
            whole[part], probabilities[part] = all_labels(laws, found_of, velocities[part])
        shape = self.training_set.shape
        labels = torch.tensor([law.label for law in laws], device=x.device)
        return Conditions(
            labels, whole.reshape(-1, *shape), velocities.reshape(len(x), len(laws), *shape), probabilities
        )

    def _velocities_of(self, queries: Queries, want: Want) -> Callable[[Law], tuple[Moments, Tensor]]:
        """What gives the moments of any law at some states, and the velocity (b, D)."""

        def found_of(law: Law) -> tuple[Moments, Tensor]:
            bounded = queries.with_error_bound(law)
            moments = select(self.engines, law, bounded, want).moments(law, bounded, want)
            return moments, last_step(law, bounded, moments, "velocity", self._exact).value

        return found_of

    def _log_density(self, batch: Batch) -> Tensor:
        m = batch.moments
        normaliser = self.training_set.dimension * (0.5 * math.log(2 * math.pi) + batch.queries.sigma.log())
        return m.peak + (m.peak_low + m.mass.log() - normaliser)

    def _quantity(self, batch: Batch, target: Quantity) -> Tensor:
        """(b, *shape) what the mean of the posterior says of data, noise, velocity or score."""
        return self._shaped(last_step(*batch, target, self._exact).value)

    @property
    def _of_points(self) -> bool:
        """Whether data are points, and not drawn from Gaussians about them."""
        return self.law_path is self.path

    def _shaped(self, values: Tensor) -> Tensor:
        return values.reshape(-1, *self.training_set.shape)

    @property
    def _exact(self) -> Float64Engine:
        """The engine for states that need more care: every rank does them by itself."""
        return Float64Engine(self.memory, self.library)

    def _mean_as(self, target: Quantity, x: Any) -> tuple[Want, Callable[[Batch], tuple[Tensor, ...]]]:
        """What to ask of an engine for a quantity, and what to make of its answer."""
        dtype = x.dtype if isinstance(x, Tensor) else torch.float64
        return Want("mean", dtype), lambda batch: (self._quantity(batch, target).to(dtype),)

    def _answer(
        self,
        x: Tensor,
        t: Any,
        y: Any,
        want: Want,
        values: Callable[[Batch], tuple[Tensor, ...]],
        k: int = 1,
    ) -> tuple[Tensor, ...]:
        """What `values` makes of the moments of all states, batch by batch, in x's order and on its device."""
        if torch.compiler.is_compiling():  # what reads points block by block is no graph
            answer: Callable[..., tuple[Tensor, ...]] = torch.compiler.disable(self._answer)
            return answer(x, t, y, want, values, k)
        with plain_arithmetic():
            query, own = check_query(x, t, y, self.training_set.shape, not self._of_points), slice(None)
            self.support.training_set.check_unchanged()
            if self.ranks is not None:
                query, own = shared_query(query, self.ranks)
            order, pieces = [], []
            for law, queries in Queries.batches(query, self.support, self.law_path, self.memory):
                check_k(k, law)
                moments = select(self.engines, law, queries, want).moments(law, queries, want, k)
                order.append(queries.positions)
                pieces.append(tuple(v.to(x.device) for v in values(Batch(law, queries, moments))))
            back = torch.cat(order).argsort().to(x.device)
            return tuple(torch.cat(column)[back][own] for column in zip(*pieces, strict=True))


def ordered(weights: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (B, k), descending, and their indices; of those that only rounding tells apart the lowest index first."""
    mantissa, exponent = torch.frexp(weights.to(torch.float64))
    alike = torch.ldexp((mantissa * TIED).round() / TIED, exponent).to(weights.dtype)
    by_index = index.argsort(1)
    order = by_index.gather(1, alike.gather(1, by_index).sort(dim=1, descending=True, stable=True).indices)
    return weights.gather(1, order), index.gather(1, order)


def check_k(k: Any, law: Law) -> None:
    """Refuse what is not a number of a law's points."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= len(law):
        raise InputError(f"k is {k!r}; expected a whole number from 1 to {len(law)}, the number of distinct points")


def check_tolerance(tolerance: Any) -> None:
    """Refuse what is neither None nor a finite number above 0."""
    number = isinstance(tolerance, Real) and not isinstance(tolerance, bool)
    if tolerance is not None and not (number and 0 < tolerance < math.inf):
        raise InputError(f"tolerance is {tolerance!r}; expected None, or a number above 0 such as 1e-6")

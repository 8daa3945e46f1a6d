"""Queries: B states at their times, and what an engine needs to know of them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flowscope.errors import InputError
from flowscope.fields import Query
from flowscope.oracle.equation.posterior import logit_error
from flowscope.oracle.law import Law, Support
from flowscope.oracle.plan import plan
from flowscope.paths import Coefficients, Path

FARTHEST_STATE = 1e18  # in units of what data and noise reach: beyond it even doubled logits are rounding


@dataclass(frozen=True, eq=False)
class Queries:
    """B states of a call, float64.

    Attributes:
        positions: (B,) int64, which states of the call they are.
        x: (B, D) the states.
        z: (B, D) x - alpha c, about the centre of the points.
        norms: (B,) |z|^2.
        path: the path's coefficients at their times, (B,) each: alpha, sigma, their derivatives, A and B of (6); of
            the widened path where data are Gaussians.
        error: (B,) E of (4a), a bound on the error of their logits expanded in float64; of a law.
        points: N, how many points that law has.
        spread: (B,) log of 4 R^2 |A| alpha / (sigma^2 D |B|), what its widest points may add to a divergence.
    """

    positions: Tensor
    x: Tensor
    z: Tensor
    norms: Tensor
    path: Coefficients
    error: Tensor
    points: int
    spread: Tensor

    @property
    def alpha(self) -> Tensor:
        return self.path.alpha

    @property
    def sigma(self) -> Tensor:
        return self.path.sigma

    @property
    def A(self) -> Tensor:
        return self.path.A

    @property
    def B(self) -> Tensor:
        return self.path.B

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, which: slice | Tensor) -> "Queries":
        """Some of the states; those of a slice are views."""
        x, z, norms, error, spread = (value[which] for value in (self.x, self.z, self.norms, self.error, self.spread))
        return replace(
            self,
            positions=self.positions[which],
            x=x,
            z=z,
            norms=norms,
            path=self.path.rows(which),
            error=error,
            spread=spread,
        )

    def about(self, law: Law) -> "Queries":
        """The states about the centre of a law, with its error bound."""
        z = self.x - self.alpha[:, None] * law.support.centre
        return replace(self, z=z, norms=(z * z).sum(1)).with_error_bound(law)

    def with_error_bound(self, law: Law) -> "Queries":
        """The states with E and N of a law.

        Raises:
            InputError: a state lies too far out for its logits to be told apart.
        """
        norms, dimension = self.norms.sqrt(), self.x.shape[1]
        reach = self.alpha * law.radius + self.sigma * math.sqrt(dimension)
        if len(law) > 1 and bool((norms > FARTHEST_STATE * reach).any()):
            raise InputError(
                f"x lies over {FARTHEST_STATE:.0e} times further out than data and noise reach; expected a state near "
                "them"
            )
        offset = self.x.norm(dim=1) + self.alpha * law.support.centre.norm()
        error = logit_error(norms, offset, self.alpha, self.sigma, law.radius, dimension)
        wide = 4 * law.radius**2 * (self.A * self.alpha).abs() / (self.sigma**2 * dimension * self.B.abs())
        wide = wide.nan_to_num(nan=0.0)  # A = B = 0, where a widened path neither moves points nor spreads them
        return replace(self, error=error, points=len(law), spread=wide.log())

    @classmethod
    def of(cls, query: Query, rows: Tensor, support: Support, path: Path) -> "Queries":
        """Some rows of a call, without what depends on a law."""
        c = path(query.t.to(support.device)[rows])
        x = query.x[rows.to(query.x.device)].to(support.device).flatten(1).to(torch.float64)
        z = x - c.alpha[:, None] * support.centre
        norms = (z * z).sum(1)
        return cls(rows, x, z, norms, c, torch.zeros_like(norms), 0, torch.zeros_like(norms))

    @classmethod
    def batches(cls, query: Query, support: Support, path: Path, memory: int) -> Iterator[tuple[Law, "Queries"]]:
        """A checked call in parts: states of one label each, as many as the memory budget allows.

        Yields:
            The law of the label (of all points where there are no labels), and the states.
        """
        for rows, law in _by_label(query, support):
            at_once = plan(memory, max(1, len(rows)), len(law), support.dimension).queries
            for part in rows.split(at_once):
                yield law, cls.of(query, part, support, path).with_error_bound(law)


def _by_label(query: Query, support: Support) -> Iterator[tuple[Tensor, Law]]:
    if query.y is None or len(query.x) == 0:
        yield torch.arange(len(query.x), device=support.device), support.law()
        return
    y = query.y.to(support.device)
    for label in y.unique().tolist():
        yield (y == label).nonzero()[:, 0], support.law(label)

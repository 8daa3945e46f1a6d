r"""The float32 pass (float32.py) on a CUDA device, by kernels of its own (kernels.py) on points as they are stored.

Float32-accurate products on tensor cores. Half-precision points are exact factors already. So only the other factor
(queries, then weights) is split into parts of the points' type: two of float16 hold 22 bits, once scaled by a power of
two to the top of its range; three of bfloat16 hold 24. Two or three fast products are then as exact as a float32 one,
where plain TF32 would keep 11 bits. Float32 points take three TF32 products of split factors (`tf32x3`).

One state, or a few. Reading the points is all that costs, so they are read once: a program holds whole points in
registers, computes their logits, and sums those that do not lead, relative to the largest logit so far. Which lead must
be known when a point is seen: those above the state's share of the mass of all *earlier* blocks. As this is less than
that of all, too many are left out; when the mass of the block is known, those that lead no more are added. Blocks
grow, so that these are few. Programs take different points, and their sums are joined at the end.

Many states. Sums of B states of thousands of coordinates do not fit into registers, and the products cost more than
reading: a block of points is met twice. First its logits, with maximum and mass of every tile; from these follow,
without reading anything large, the level and who leads; then weights, once, in split parts; then their product with
the points, a tile of coordinates and some thousand points a program. For B >= 64 or so products hide both reads.

The sums of all programs and blocks are joined in float64 as Moments. Logits are kept for one block at a time.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from flowscope.errors import InputError
from flowscope.oracle.engines.accumulator import (
    DominantPairs,
    Float32Accumulator,
    Float32Policy,
    Frame,
    centred,
    make_rows,
)
from flowscope.oracle.engines.cuda.launch import (
    FORMS,
    INTERPRETED,
    dense,
    dots,
    run_logits,
    run_rows,
    run_sums,
    run_weights,
    split_queries,
    sums,
    tiles,
)
from flowscope.oracle.engines.cuda.policy import FusedPolicy
from flowscope.oracle.engines.matmul import MatmulBackend
from flowscope.oracle.law import Law, RawBlock


def fused_backend(device: torch.device) -> MatmulBackend:
    """The kernels' products.

    Raises:
        InputError: there is no Triton for this device.
    """
    if device.type != "cuda" and not INTERPRETED:
        raise InputError(
            f"library is 'triton', which computes on CUDA devices, not on {device}; expected torch or numpy there"
        )
    return MatmulBackend(dots, sums, tuple(FORMS))


class FusedAccumulator(Float32Accumulator):
    """:class:`Float32Accumulator` by the kernels.

    Args:
        law, frame, most, by, policy: as there.
        fused: what the kernels' pass decides by.
    """

    def __init__(
        self,
        law: Law,
        frame: Frame,
        most: int,
        by: MatmulBackend,
        policy: Float32Policy,
        fused: FusedPolicy = FusedPolicy(),
    ) -> None:
        super().__init__(law, frame, most, by, policy)
        self.fused, self.tiles = fused, fused.tiles or tiles(len(frame.q), frame.q.device)
        self.few = len(frame.q) <= fused.few and law.support.dimension <= fused.widest
        self._parts: dict[torch.dtype, tuple[Tensor, Tensor]] = {}

    def blocks(self, room: int) -> Iterator[RawBlock]:
        """The law as stored, in blocks whose logits and weights need `room` bytes; growing ones for few states."""
        law, queries = self.law, len(self.frame.q)
        step = max(self.fused.least, room // (16 * queries + (0 if self._in_place else 12 * law.support.dimension)))
        start = 0
        while self.few and start < len(law):
            stop = min(len(law), start + min(step, max(self.fused.first, (self.fused.growth - 1) * start)))
            if stop - start == step:
                break
            yield law.raw_block(start, stop)
            start = stop
        yield from law.raw_blocks(step, start)

    @property
    def _in_place(self) -> bool:
        """Whether blocks are the points themselves, and not copies."""
        law, positions = self.law, self.law.positions
        stored = not law.support.streamed and not law.support.transformed
        whole = int(positions[-1] - positions[0]) == len(law) - 1 and stored
        return whole and not centred(law) and law.raw_block(0, 1).raw.dtype in self.by.takes

    def add(self, block: RawBlock) -> None:
        """Some points of the law."""
        rows = dense(make_rows(self.law, block.raw, self.by))
        norms, log_weights = block.norms.to(torch.float32), block.log_weights.to(torch.float32)
        (self._once if self.few else self._twice)(rows, norms, log_weights, block.start)

    def _bound(self) -> Tensor:
        """(B,) float32, the logit above which a point leads, as far as is known."""
        known = torch.maximum(self.seen, self.frame.floor)
        bound = known + self.frame.share - 2 * self.frame.error
        return torch.where(self.crowded, torch.inf, bound).to(torch.float32)

    def _twice(self, rows: Tensor, norms: Tensor, log_weights: Tensor, start: int) -> None:
        """Logits first, then sums of those that do not lead."""
        if rows.dtype not in self._parts:
            self._parts[rows.dtype] = split_queries(self.frame.q, rows.dtype)
        factors = self._parts[rows.dtype]
        logits, tops, masses = run_logits(rows, factors, self.frame.slope, norms, log_weights, self.tiles)
        top = tops.amax(0)
        self._see(top, (tops.to(torch.float64) + masses.log()).logsumexp(0))
        bound = self._bound()
        level = torch.minimum(top, bound)  # no weight is above 1
        weights, mass, second = run_weights(logits, level, bound, norms, rows.dtype, self.tiles)
        vector = run_sums(weights, rows, self.tiles).sum(0, dtype=torch.float64)
        kept = weights.to(torch.float64).sum(0) / FORMS[rows.dtype].scale
        self._compare(vector, kept.T @ dots(rows, self.directions).to(torch.float64), mass)
        self._join(level, mass, second, vector)
        dominant = logits > bound
        self._draw((logits - level).exp().masked_fill(dominant, 0), logits, level, norms, start)
        point, row = dominant.nonzero(as_tuple=True)
        self._keep(DominantPairs(row, point + start, logits[point, row].to(torch.float64)))

    def _once(self, rows: Tensor, norms: Tensor, log_weights: Tensor, start: int) -> None:
        """Logits and sums together, without those that lead by what was known before; then those that do not."""
        before = self._bound()
        logits, added = run_rows(
            rows, (self.frame.q, self.frame.slope), norms, log_weights, before, self.tiles.programs
        )
        level = added.level.amax(0)
        scale = (added.level - level.clamp_min(-1e30)).exp()
        mass, second = ((value * scale).sum(0, dtype=torch.float64) for value in (added.mass, added.second))
        vector = torch.einsum("sb,sbd->bd", scale.to(torch.float64), added.vector.to(torch.float64))
        kept = (logits - level).exp().masked_fill(logits > before, 0).to(torch.float64)
        self._compare(vector, kept.T @ dots(rows, self.directions).to(torch.float64), mass)
        self._join(level, mass, second, vector)
        self._see(logits.amax(0), logits.logsumexp(0).to(torch.float64))
        point, row = (logits > before).nonzero(as_tuple=True)
        logit = logits[point, row]
        leads = logit > self._bound()[row]
        self._keep(DominantPairs(row[leads], point[leads] + start, logit[leads].to(torch.float64)))
        top = logits.amax(0)
        rest = (logits - top).exp()
        rest[point[leads], row[leads]] = 0
        self._draw(rest, logits, top, norms, start)
        self.add_back(rows, norms, DominantPairs(row[~leads], point[~leads], logit[~leads]))

    def _draw(self, weights: Tensor, logits: Tensor, level: Tensor, norms: Tensor, start: int) -> None:
        """Draw points of the rest, whose weights are relative to e^level, by logits that are not."""
        points = torch.arange(start, start + len(weights), device=weights.device)
        self.draws.add(weights, logits - level, level.to(torch.float64), norms + self.least_height, points)

    def _see(self, top: Tensor, mass: Tensor) -> None:
        """Take notice of the largest logit of some points, and of the log of their mass."""
        self.best = torch.maximum(self.best, top)
        self.seen = torch.logaddexp(self.seen, mass)

    def add_back(self, rows: Tensor, norms: Tensor, found: DominantPairs) -> None:
        """Add points that were left out, and lead no more; positions are those of rows."""
        count = max(1, self.fused.gathered_bytes // (8 * rows.shape[1]))
        for row, point, logit in zip(*(column.split(count) for column in found), strict=True):
            if len(row) == 0:
                continue
            level = torch.full_like(self.frame.slope, -torch.inf).scatter_reduce(0, row, logit, "amax")
            weights = torch.zeros(len(self.frame.q), len(row), dtype=torch.float64, device=row.device)
            weights[row, torch.arange(len(row), device=row.device)] = (logit - level[row]).to(torch.float64).exp()
            second = weights @ norms[point].to(torch.float64)
            self._join(level, weights.sum(1), second, weights @ rows[point].to(torch.float64))

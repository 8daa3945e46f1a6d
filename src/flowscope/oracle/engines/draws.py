r"""Draws: some points of the rest of a float32 pass, drawn where their errors would matter, to be looked at again.

The rest U of a pass (float32.py) has float32 logits, each off by some delta_i. To first order the velocity is off by

    A sum_{i in U} gamma_i delta_i (x1_i - x1^).                                                            (5d)

No sample of the *set* says what this sum is: the weight may lie where no sample does, and points that are alike are
rounded alike, so that their errors add up. So every state draws points of its own while the pass goes by, with
probability proportional to v_i = gamma_i (|p_i|^2 + nu), nu the mean of |p|^2: heavy ones, and those that are light but
far away, whose logits err most. With k draws,

    sum_{i in U} gamma_i f_i  =  V E[f / (|p|^2 + nu)]  ~  V/k sum_draws f_i / (|p_i|^2 + nu),    V = sum_U v_i.

A block is searched in two steps: a group of points by the groups' sums, then a point of the group.
"""

import torch
from torch import Tensor

GROUP = 32  # points of a group


class Draws:
    """k points of the rest for each of B states.

    Args:
        states: B.
        count: k.
        device: of what is added.

    Attributes:
        index: (B, k) positions in the law.
        logit: (B, k) float64, their float32 logits.
        log_total: (B,) float64, the log of V, relative to nothing; -inf where there is no rest.
    """

    def __init__(self, states: int, count: int, device: torch.device) -> None:
        self.index = torch.zeros(states, count, dtype=torch.int64, device=device)
        self.logit = torch.zeros(states, count, dtype=torch.float64, device=device)
        self.log_total = torch.full((states,), -torch.inf, dtype=torch.float64, device=device)
        self._generator = torch.Generator().manual_seed(0)

    def add(self, weights: Tensor, logits: Tensor, level: Tensor, heights: Tensor, points: Tensor) -> None:
        """Let some points take the place of others, as their share of all so far is.

        Args:
            weights: (M, B) float32 e^(l - level), 0 for points that are not of the rest.
            logits: (M, B) l - level.
            level: (B,).
            heights: (M,) float32 |p|^2 + nu.
            points: (M,) positions in the law.
        """
        sums = _group_sums(weights, heights)
        total = sums.sum(0)
        added = level + total.log()
        self.log_total = torch.logaddexp(self.log_total, added)
        share = (added - self.log_total).exp().nan_to_num(0.0)  # -inf less -inf: no rest at all
        row, slot = (self._random(self.index.shape) < share[:, None]).nonzero(as_tuple=True)
        if len(row) == 0:
            return
        group = _search(sums.T[row], self._random(row.shape))
        inside = (GROUP * group[:, None] + torch.arange(GROUP, device=row.device)).clamp_max(len(weights) - 1)
        own = weights[inside, row[:, None]] * heights[inside]
        own[:, 1:] *= inside[:, 1:] > inside[:, :-1]  # the last group may be short
        chosen = inside.gather(1, _search(own.to(torch.float64), self._random(row.shape))[:, None])[:, 0]
        self.index[row, slot] = points[chosen]
        self.logit[row, slot] = logits[chosen, row].to(torch.float64) + level[row]

    def _random(self, shape: torch.Size) -> Tensor:
        """Uniform on [0, 1), the same on every device."""
        return torch.rand(shape, generator=self._generator, dtype=torch.float64).to(self.index.device)


def _group_sums(weights: Tensor, heights: Tensor) -> Tensor:
    """(groups, B) float64 sums of weights (M, B) by heights (M,), of groups of points."""
    whole = len(weights) // GROUP * GROUP
    parts = [torch.bmm(heights[:whole].view(-1, 1, GROUP), weights[:whole].view(-1, GROUP, weights.shape[1]))[:, 0]]
    if whole < len(weights):
        parts.append((heights[whole:] @ weights[whole:])[None])
    return torch.cat(parts).to(torch.float64)


def _search(values: Tensor, at: Tensor) -> Tensor:
    """(n,) which of the values (n, m), not negative, are drawn by uniform numbers `at` (n,): none of value 0."""
    sums = values.cumsum(1)
    return torch.searchsorted(sums, (at * sums[:, -1])[:, None], right=True)[:, 0].clamp_max(values.shape[1] - 1)

r"""The direct form of the equation, for data of Gaussians N(m_i, s_i^2) whose deviations differ: one block -> Moments.

With s the least deviation of all, the data are y_i + s n, y_i ~ N(m_i, s_i^2 - s^2), and on the widened path (14a) x_t
is alpha y_i + sqrt(sigma^2 + alpha^2 s^2) n. So what is wanted of x1 follows from the moments of y as from those of
points (docs/mathematics.md, (14f) and (14g)):

    v_i = sigma^2 + alpha^2 s_i^2,    l_i = log w_i - sum_k [(x - alpha m_i)_k^2 / (2 v_ik) + log(v_ik / v_k) / 2]
    E[y|x, i] = m_i + alpha (s_i^2 - s^2) (x - alpha m_i) / v_i                                           (14f)

with v of the widened path. Differences are taken one by one, so that nothing large cancels in a logit.
"""

import torch
from torch import Tensor

from flowscope.oracle.equation.moments import Moments, evaluated_all, top_of, weights_of
from flowscope.oracle.equation.posterior import States
from flowscope.oracle.law import Block


def gaussian_moments(block: Block, extra: Tensor, states: States, k: int) -> Moments:
    """The moments of one block.

    Args:
        block: M points m_i.
        extra: (M, D) s_i^2 - s^2, not negative.
        states: B states on the widened path.
        k: how many of the heaviest points to name.
    """
    alpha, square = states.alpha[:, None, None], states.sigma[:, None, None] ** 2
    ratio = alpha**2 * extra / square  # (B, M, D) v_i over that of the widened path, less 1
    off = states.z[:, None] - alpha * block.points
    noise = off / (square * (1 + ratio))
    logits = block.log_weights - 0.5 * ((off * noise).sum(2) + ratio.log1p().sum(2))
    own = noise.mul_(alpha * extra).add_(block.points)
    inner = (extra / (1 + ratio)).sum(2)
    peak = logits.amax(1)
    logits -= peak[:, None]
    gamma = weights_of(logits)
    mass = gamma.sum(1)
    mean = torch.einsum("bm,bmd->bd", gamma, own) / mass[:, None]
    variance = (gamma * (inner + own.sub_(mean[:, None]).square_().sum(2))).sum(1) / mass
    slope, mass2 = torch.einsum("bm,bm->b", gamma, logits), torch.einsum("bm,bm->b", gamma, gamma)
    top = top_of(logits, block.positions, k)
    whole = evaluated_all(mass, len(block.norms))
    return Moments(peak, torch.zeros_like(peak), mass, mass2, slope, mean, variance, *top, *whole)

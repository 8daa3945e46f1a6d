"""Bounds tested as bounds: no adversary gets past one, and the worst one comes close to it.

The error of a logit (4a), the window of logits that are done again (5), and the certificate of what is left out (9). A
bound that is too small is passed by an adversary here; one that is far too large is not reached by any.
"""

import mpmath
import numpy as np
import pytest
import torch

from flowscope import Oracle, TrainingSet
from flowscope.oracle.equation.posterior import LOGIT_TOLERANCE, leading, logit_error
from tests.reference import oracles
from tests.support.cases import expected, flat
from tests.support.engines import small_oracle

ROWS = 300


def two_points(dimension, offset):
    """Two points of opposite sides of a centre that lies `offset` from the origin, each with a label of its own."""
    side = torch.from_numpy(np.random.default_rng(dimension).standard_normal(dimension))
    return TrainingSet(torch.stack([offset + side, offset - side]), labels=[0, 1])


def bound_of(data, x, t):
    """(4a) for the first point at states (B, D)."""
    points = data.rows(slice(None)).double()
    centre, alpha, sigma = points.mean(0), t, 1 - t
    z = (x - alpha[:, None] * centre).norm(dim=1)
    radius = float((points[0] - centre).norm())
    return logit_error(z, x.norm(dim=1) + alpha * centre.norm(), alpha, sigma, radius, data.dimension)


def states_at(data, share):
    """States (B, D) around the second point, so late that (4a) for the first is a share (B,) of what is done again."""
    points, rng = data.rows(slice(None)).double(), np.random.default_rng(7)
    noise = torch.from_numpy(rng.standard_normal((ROWS, data.dimension)))
    t = torch.full((ROWS,), 0.9, dtype=torch.float64)
    for _ in range(30):  # sigma, by which (4a) falls as its square
        x = t[:, None] * points[1] + (1 - t)[:, None] * noise
        t = 1 - (1 - t) * (bound_of(data, x, t) / (share * LOGIT_TOLERANCE / 2)).sqrt()
    return t[:, None] * points[1] + (1 - t)[:, None] * noise, t


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dimensions", "offset", "least"),
    [((1, 2, 4, 16, 64), 0.0, 0.15), ((1, 2), 1e5, 0.07)],
    ids=["products", "centring"],
)
def test_logits_err_by_less_than_their_bound_and_by_a_good_part_of_it(dimensions, offset, least, record_property):
    """The log-density of a class of one point is a logit, and is not done again where 2 E is below tau.

    Near the origin its error is that of products and sums, far from it that of the centring.
    """
    nearest = 0.0
    for dimension in dimensions:
        data = two_points(dimension, offset)
        x, t = states_at(data, torch.linspace(0.5, 0.95, ROWS, dtype=torch.float64))
        bound = bound_of(data, x, t)
        assert 2 * float(bound.max()) < LOGIT_TOLERANCE and float(t.min()) > 0.5  # 1 - t is exact
        found = Oracle(data).log_density(x, t, torch.zeros(ROWS, dtype=torch.int64))
        truth = oracles(flat(data.rows(slice(0, 1))), x.numpy(), t.numpy(), exact=True).log_density
        share = np.abs(found.numpy() - truth) / bound.numpy()
        assert share.max() <= 1
        nearest = max(nearest, share.max())
    record_property("nearest", float(nearest))
    assert nearest > least


def window(error, points):
    """How far below the best logit the last one lies that is done again; by bisection."""

    def again(depth):
        logits = torch.tensor([[0.0, -depth]], dtype=torch.float64)
        best, bound = torch.zeros(1, dtype=torch.float64), torch.tensor([error], dtype=torch.float64)
        return bool(leading(logits, best, bound, points)[0, 1])

    low, high = 0.0, 1e9
    assert again(low) and not again(high)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if again(middle) else (low, middle)
    return high


@pytest.mark.parametrize("points", [2, 1000, 10**8])
@pytest.mark.parametrize("error", [1e-6, 1e-4, 0.1, 1.0, 20.0, 149.0, 151.0, 400.0, 1e5])
def test_what_is_not_done_again_has_the_weight_that_tau_allows_and_hardly_less(error, points):
    """Logits as far apart as they can be in truth: each of the others just outside the window, and E above its value.

    The best one is E below its own. What is left then weighs as much as it can, and (5b) says what that does.
    """
    with mpmath.workdps(60):
        gap = mpmath.mpf(window(error, points)) - 2 * mpmath.mpf(error)
        left = (points - 1) * mpmath.exp(-gap)
        reached = mpmath.expm1(2 * mpmath.mpf(error)) * mpmath.sqrt(left / (1 + left)) / LOGIT_TOLERANCE
    assert 0.7 < reached <= 1 + 1e-6


def test_rows_whose_logits_are_good_enough_are_left_as_they_are():
    logits = torch.zeros(2, 5, dtype=torch.float64)
    error = torch.tensor([0.49 * LOGIT_TOLERANCE, 0.51 * LOGIT_TOLERANCE], dtype=torch.float64)
    assert leading(logits, logits[:, 0], error, 5).tolist() == [[False] * 5, [True] * 5]


def crowd(gap, count, dimension):
    """One point, and far from it a crowd of near-copies that together are just about left out."""
    points = torch.zeros(count + 1, dimension)
    points[1:, 0] = gap
    points[1:] += 1e-3 * torch.randn(count, dimension, generator=torch.Generator().manual_seed(0))
    return points


@pytest.mark.slow
def test_the_certificate_is_within_2_3_times_of_an_error_found(record_property):
    """docs/mathematics.md says so. States move towards the crowd until it can no longer be left out."""
    gap, t = 3.0, 0.8
    points = crowd(gap, 2000, 64)
    x = 0.2 * torch.randn(64, generator=torch.Generator().manual_seed(1), dtype=torch.float64).expand(41, -1).clone()
    x[:, 0] = gap * torch.linspace(0.25, 0.35, 41)
    early = {"state_share": 0.9, "mean_share": 0.9, "kept_share": 0.9, "level_share": 0.9}  # no matter what it saves
    oracle = small_oracle(points, tolerance=0.1, pruning=early)
    nearest = 0.0
    for row in x:
        velocity, proof = oracle.certify(row[None], t)
        off = float(np.linalg.norm(flat(velocity) - expected(points, row[None], t).velocity))
        assert off <= float(proof.error[0])
        if int(proof.touched[0]) < len(points):
            nearest = max(nearest, off / float(proof.error[0]))
    record_property("nearest", nearest)
    assert 1 / 2.3 <= nearest <= 1

"""The mixture of Gaussians: against parts that are known by how they are made."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

import flowscope as fs
from flowscope.errors import InputError, NumericalError
from flowscope.references import GaussianMixture, Wiener
from tests.support.cases import cloud, flat, states


def test_one_part_of_full_rank_is_the_wiener_filter():
    points = cloud(30, (4,), dtype=torch.float64)
    x = states(points, 0.5)
    torch.testing.assert_close(GaussianMixture(points, parts=1)(x, 0.5), Wiener(points)(x, 0.5))


def far_parts():
    """30 points in two far groups of 20 and 10; the groups."""
    points = cloud(30, (5,), dtype=torch.float64) * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.1])
    points[20:] += 50.0
    return points, [flat(points[:20]), flat(points[20:])]


def low_rank(rows, rank):
    """The covariance with the widest directions of its own, and the mean of the other variances in all others."""
    values, vectors = np.linalg.eigh(np.cov(rows.T, ddof=0))
    if rest := len(values) - rank:
        values[:rest] = values[:rest].mean()
    return vectors @ np.diag(values) @ vectors.T


@pytest.mark.parametrize("rank", [2, 5])
def test_parts_of_low_rank(rank):
    points, groups = far_parts()
    mixture, t = GaussianMixture(points, parts=2, rank=rank), 0.03  # so noisy that the parts overlap
    x = states(points, t, rows=8)
    terms, means = [], []
    for group in groups:
        m, c = group.mean(0), low_rank(group, rank)
        seen = t**2 * c + (1 - t) ** 2 * np.eye(5)
        terms.append(len(group) / 30 * multivariate_normal(t * m, seen).pdf(flat(x)))
        means.append(m + t * (flat(x) - t * m) @ np.linalg.solve(seen, c))
    p = np.array(terms) / np.sum(terms, axis=0)
    assert p.min(0).max() > 0.01  # the posterior has something to weigh
    np.testing.assert_allclose(flat(mixture.denoise(x, t)), (p[..., None] * means).sum(0), rtol=1e-9)
    np.testing.assert_allclose(mixture.log_density(x, t).numpy(), np.log(np.sum(terms, axis=0)), rtol=1e-10)


def test_a_label_has_a_mixture_of_its_own():
    points, labels = cloud(40, (3,)), np.arange(40) % 2
    mixture, x = GaussianMixture(fs.TrainingSet(points, labels), parts=3), states(points, 0.5)
    alone = GaussianMixture(points[labels == 1], parts=3)
    torch.testing.assert_close(mixture(x, 0.5, torch.ones(4, dtype=torch.int64)), alone(x, 0.5))


def test_the_seed_decides_where_k_means_begins():
    points = cloud(60, (3,))
    same, x = [GaussianMixture(points, parts=8, seed=seed) for seed in (5, 5, 6)], states(points, 0.7)
    assert torch.equal(same[0](x, 0.7), same[1](x, 0.7)) and not torch.allclose(same[0](x, 0.7), same[2](x, 0.7))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"parts": 31}, "parts is 31, and there are 30 distinct points"),
        ({"parts": 0}, "parts is 0; expected a whole number of at least 1"),
        ({"rank": 2.5}, "rank is 2.5; expected a whole number"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_that_cannot_be_used(settings, expected):
    with pytest.raises(InputError, match=expected):
        GaussianMixture(cloud(30, (5,)), **settings)


def test_a_class_with_fewer_points_than_parts_is_refused_when_it_is_asked_for():
    mixture = GaussianMixture(fs.TrainingSet(cloud(30, (2,)), labels=[0] * 26 + [1] * 4), parts=5)
    with pytest.raises(InputError, match="parts is 5, and there are 4 distinct points"):
        mixture(torch.zeros(1, 2), 0.5, 1)


def test_a_fit_that_does_not_come_to_rest_is_refused():
    with pytest.raises(NumericalError, match=r"did not come to rest within 2 rounds; .*give it more rounds"):
        GaussianMixture(cloud(400, (2,)), parts=9, rounds=2)

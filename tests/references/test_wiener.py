"""The Wiener filter: against its definition by explicit inverses, and the law of the classes together."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

import flowscope as fs
from flowscope.errors import InputError
from flowscope.references import Wiener
from tests.reference import coefficients
from tests.support.cases import PATHS, cloud, flat, ladder, states


def filtered(mean, covariance, x, t, path="linear"):
    """m + alpha C (alpha^2 C + sigma^2)^-1 (x - alpha m) for states x (B, D)."""
    alpha, sigma = (float(c) for c in coefficients(path, t)[:2])
    gain = alpha * covariance @ np.linalg.inv(alpha**2 * covariance + sigma**2 * np.eye(len(mean)))
    return mean + (x - alpha * mean) @ gain.T


def known_gaussian():
    """Points whose mean and covariance are known by how they are made, and these two."""
    half = flat(cloud(6, (6,), seed=3, dtype=torch.float64))
    mean = np.arange(6.0)
    return mean + np.sqrt(6) * np.concatenate([half, -half]), mean, half.T @ half


@pytest.mark.parametrize("path", [PATHS[0], *(pytest.param(path, marks=pytest.mark.slow) for path in PATHS[1:])])
def test_it_is_the_filter_of_a_known_gaussian(path):
    points, mean, covariance = known_gaussian()
    wiener = Wiener(torch.from_numpy(points), path)
    for t in ladder(path)[:6]:
        x = states(torch.from_numpy(points), t, path)
        np.testing.assert_allclose(flat(wiener.denoise(x, t)), filtered(mean, covariance, flat(x), t, path), atol=1e-9)


def test_fewer_points_than_coordinates():
    points = cloud(5, (2, 4), dtype=torch.float64)
    rows, x = flat(points), states(points, 0.6)
    answer = filtered(rows.mean(0), np.cov(rows.T, ddof=0), flat(x), 0.6)
    np.testing.assert_allclose(flat(Wiener(points).denoise(x, 0.6)), answer, atol=1e-12)


def test_a_point_alone_is_its_own_mean():
    point = cloud(1, (3,), dtype=torch.float64)
    assert torch.allclose(Wiener(point).denoise(states(point, 0.5), 0.5), point)


def test_weights_and_rank_one_data():
    rows, weights = np.outer([1.0, 2.0, 4.0], [3.0, 4.0]), np.array([1.0, 2.0, 1.0])
    wiener = Wiener(fs.TrainingSet(rows, weights=weights))
    x = np.array([[0.5, -1.0], [2.0, 2.0]])
    answer = filtered(weights @ rows / 4, np.cov(rows.T, aweights=weights, ddof=0), x, 0.4)
    np.testing.assert_allclose(wiener.denoise(torch.from_numpy(x), 0.4).numpy(), answer, atol=1e-12)


def test_classes_have_filters_of_their_own_and_their_mixture_without_a_label():
    points = cloud(40, (3,), dtype=torch.float64)
    labels, t = np.arange(40) % 4 // 3, 0.4  # 30 and 10 points
    points[labels == 1] += 2.0
    by_class, x = Wiener(fs.TrainingSet(points, labels), by_class=True), states(points, t, rows=6)
    parts = [points[torch.from_numpy(labels == k)] for k in (0, 1)]
    for label, part in enumerate(parts):
        y = torch.full((6,), label)
        torch.testing.assert_close(by_class(x, t, y), Wiener(part)(x, t))
    covariance = [0.16 * np.cov(part.T.numpy(), ddof=0) + 0.36 * np.eye(3) for part in parts]
    density = np.array(
        [
            share * multivariate_normal(t * part.mean(0).numpy(), c).pdf(x.numpy())
            for share, part, c in zip((0.75, 0.25), parts, covariance, strict=True)
        ]
    )
    p = torch.from_numpy(density / density.sum(0))[:, :, None]
    mixed = sum(w * Wiener(part).denoise(x, t) for w, part in zip(p, parts, strict=True))
    torch.testing.assert_close(by_class.denoise(x, t), mixed)
    np.testing.assert_allclose(by_class.log_density(x, t).numpy(), np.log(density.sum(0)), rtol=1e-10)


def test_labels_change_nothing_where_classes_do_not_count():
    data = fs.TrainingSet(cloud(12, (3,)), labels=np.arange(12) % 2)
    wiener, x = Wiener(data), cloud(4, (3,), seed=1)
    assert torch.equal(wiener(x, 0.3, torch.tensor([0, 1, 1, 0])), wiener(x, 0.3)) and wiener.classes == ()


def test_what_cannot_be_used():
    with pytest.raises(InputError, match="has no labels, so there are no classes"):
        Wiener(cloud(5, (2,)), by_class=True)
    with pytest.raises(InputError, match="by_class is 1; expected True or False"):
        Wiener(cloud(5, (2,)), by_class=1)

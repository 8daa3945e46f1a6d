"""The last step, and the certificate's rounding, where outliers move the centre and sigma is next to nothing."""

import numpy as np
import pytest
import torch

from flowscope import InputError, Oracle, TrainingSet
from tests.support.exact import exact_oracle

OUTLIERS = (1e2, 1e4, 1e5, 4e7, 1e9)
TIMES = (0.9, 0.999, 1 - 1e-6, 1 - 1e-9)


def crowd(outlier, count=60, dimension=4, seed=0):
    """(N, D) Gaussian points, one of which lies that far out in every coordinate."""
    points = np.random.default_rng(seed).normal(size=(count, dimension))
    points[2] = outlier / np.sqrt(dimension)
    return points


def path_at(oracle, t):
    c = oracle.path(t)
    return tuple(float(value) for value in (c.alpha, c.sigma, c.d_alpha, c.d_sigma))


def near_points(points, coefficients, rows=2, seed=1):
    """(B, D) states on the path of the first points."""
    noise = np.random.default_rng(seed).normal(size=(rows, points.shape[1]))
    return coefficients[0] * points[:rows] + coefficients[1] * noise


@pytest.mark.slow_but("1000000000.0-None")
@pytest.mark.parametrize("tolerance", [None, 1e-6])
@pytest.mark.parametrize("outlier", OUTLIERS)
def test_no_error_exceeds_what_is_proven(outlier, tolerance):
    """Nor 1e-6 of the size, by any way to ask."""
    for count in (3, 60):
        points = crowd(outlier, count)
        oracle = Oracle(points, tolerance=tolerance)
        for t in TIMES:
            at = path_at(oracle, t)
            x = near_points(points, at)
            velocity, proof = oracle.certify(torch.from_numpy(x), t)
            plain, noise = oracle(torch.from_numpy(x), t), oracle.noise(torch.from_numpy(x), t)
            for row in range(len(x)):
                truth = exact_oracle(points, x[row], at)
                error = np.linalg.norm(velocity[row].numpy() - truth.velocity)
                assert error <= float(proof.error[row]) <= 1e-6 * truth.size, (outlier, count, t)
                assert error <= float(proof.relative[row]) * truth.size
                assert np.linalg.norm(plain[row].numpy() - truth.velocity) <= 1e-6 * truth.size
                assert np.linalg.norm(noise[row].numpy() - truth.noise) <= 1e-6 * np.linalg.norm(truth.noise)


@pytest.mark.slow_but("linear")
@pytest.mark.parametrize("path", ["linear", "cosine", "vp", "ve"])
def test_far_from_0(path):
    """An offset of 1e4, with states on a point, where every path but `ve` has a velocity."""
    points = crowd(0.0) + 1e4
    oracle = Oracle(points, path)
    for t in TIMES:
        at = path_at(oracle, t)
        x = np.concatenate([near_points(points, at), at[0] * points[:1]])
        velocity, proof = oracle.certify(torch.from_numpy(x), t)
        for row in range(len(x)):
            truth = exact_oracle(points, x[row], at)
            error = np.linalg.norm(velocity[row].numpy() - truth.velocity)
            assert error <= float(proof.error[row]) and error <= 1e-6 * truth.size, (path, t, row)


def test_a_result_rounded_to_float32_is_within_its_proof():
    points = crowd(1e4)
    oracle = Oracle(points)
    for t in TIMES[:2]:
        at = path_at(oracle, t)
        x = torch.from_numpy(near_points(points, at)).float()
        velocity, proof = oracle.certify(x, t)
        for row in range(len(x)):
            truth = exact_oracle(points, x[row].double().numpy(), at)
            assert np.linalg.norm(velocity[row].double().numpy() - truth.velocity) <= float(proof.error[row])


@pytest.mark.parametrize(("outlier", "t"), [(1e6, 0.999), (1e4, 0.9), (1e5, 0.5), (1e5, 0.1), (1e8, 0.3)])
def test_the_divergence_of_a_crowd_beside_an_outlier(outlier, t):
    """Where many points share the posterior, and where one has it."""
    points = crowd(outlier)
    oracle = Oracle(points)
    at = path_at(oracle, t)
    x = near_points(points, at)
    found = oracle.divergence(torch.from_numpy(x), t)
    for row in range(len(x)):
        assert float(found[row]) == pytest.approx(exact_oracle(points, x[row], at).divergence, rel=1e-6)


def test_class_velocities_are_as_exact():
    """Every label has a heaviest point of its own."""
    points, labels, t = crowd(1e9), np.arange(60) % 2, 0.999
    oracle = Oracle(TrainingSet(points, labels))
    at = path_at(oracle, t)
    x = near_points(points, at)
    found = oracle.conditions(torch.from_numpy(x), t)
    for row in range(len(x)):
        for label in (0, 1):
            truth = exact_oracle(points[labels == label], x[row], at)
            assert np.linalg.norm(found.velocities[row, label].numpy() - truth.velocity) <= 1e-6 * truth.size


def test_ties_that_doubled_arithmetic_does_not_tell_are_not_proven():
    """Four points at nearly one distance, at which a logit has more digits than two float64 numbers hold."""
    points = 1e6 * np.array([[16.0, 63.0], [33.0, 56.0], [25.0, 60.0], [39.0, 52.0]])
    oracle, t = Oracle(points), 1 - 1e-9
    velocity, proof = oracle.certify(torch.zeros(1, 2, dtype=torch.float64), t)
    truth = exact_oracle(points, np.zeros(2), path_at(oracle, t))
    assert np.linalg.norm(velocity[0].numpy() - truth.velocity) <= float(proof.error[0])


@pytest.mark.parametrize(
    ("dtype", "point", "x", "t"),
    [
        (torch.float16, [1e-8, 2e-8], [0.0, 0.0], 0.5),  # below the smallest number
        (torch.float16, [1e-6, 1e-6], [0.0, 0.0], 0.5),
        (torch.float32, [1e-46, 1e-46], [0.0, 0.0], 0.5),
        (torch.float16, [1.0, 2.0], [100.0, 0.0], 0.999),  # beyond the largest one
    ],
)
def test_results_at_the_ends_of_a_dtype_are_within_their_proof(dtype, point, x, t):
    points = np.array([point])
    oracle = Oracle(points)
    states = torch.tensor([x], dtype=dtype)
    velocity, proof = oracle.certify(states, t)
    truth = exact_oracle(points, states[0].double().numpy(), path_at(oracle, t))
    assert np.linalg.norm(velocity[0].double().numpy() - truth.velocity) <= float(proof.error[0])


@pytest.mark.parametrize("seed", range(8))
def test_the_divergence_where_a_far_point_hardly_weighs(seed):
    """Its share e^-G times the square of its distance is what counts."""
    random = np.random.default_rng(seed)
    dimension, t = int(random.choice([2, 8])), 0.5
    far = random.normal(size=dimension)
    distance = 10 ** random.uniform(5, 7.6)
    far *= distance / np.linalg.norm(far)
    nats = random.uniform(15, 40)
    x = (t * t * distance**2 - 2 * nats * (1 - t) ** 2) / (2 * t * distance) * far / distance
    oracle, points = Oracle(np.stack([0 * far, far])), np.stack([0 * far, far])
    found = float(oracle.divergence(torch.from_numpy(x)[None], t)[0])
    assert found == pytest.approx(exact_oracle(points, x, path_at(oracle, t)).divergence, rel=1e-6)


def test_weights_that_float64_does_not_hold_are_refused():
    with pytest.raises(InputError, match="smallest positive weight"):
        TrainingSet(crowd(0.0, 3), weights=[1e3, 1e-320, 2e-321])

"""The spectrum of sets whose covariance is known, and the boundary that follows from it."""

import math

import numpy as np
import pytest
import torch

import flowscope as fs
from flowscope.curve.prediction import Spectrum, boundary_snr, measure_spectra


def spectrum_of(data: fs.TrainingSet, clusters: int = 1) -> Spectrum:
    return measure_spectra(data, np.arange(len(data)), np.full(len(data), 1 / len(data)), [clusters])[0]


def test_eigenvalues_are_those_of_the_sample_covariance() -> None:
    X = np.random.default_rng(0).standard_normal((500, 6)) * [5, 4, 3, 2, 1, 0.1] + 1e3
    found = spectrum_of(fs.TrainingSet(X))
    truth = np.linalg.eigvalsh(np.cov(X.T, bias=True))[::-1]
    np.testing.assert_allclose(found.eigenvalues[0], truth, rtol=1e-4)
    assert found.total_variance == pytest.approx(truth.sum(), rel=1e-5)


def test_fewer_points_than_coordinates_give_the_same_information() -> None:
    """The Gram matrix of the points has the eigenvalues of the covariance, and the note says that its rank is short."""
    X = np.random.default_rng(1).standard_normal((20, 300))
    found = spectrum_of(fs.TrainingSet(X))
    truth = 0.5 * np.linalg.slogdet(np.eye(300) + 0.3 * np.cov(X.T, bias=True))[1]
    assert found.information(0.3) == pytest.approx(truth, rel=1e-5)
    assert len(found.eigenvalues[0]) == 19 and "of rank N - 1 at most" in found.note


def test_effective_rank_counts_equal_directions() -> None:
    X = np.zeros((4000, 50))
    X[:, :7] = np.random.default_rng(2).standard_normal((4000, 7))
    assert spectrum_of(fs.TrainingSet(X)).effective_rank == pytest.approx(7, rel=0.01)


def test_weights_count_as_repetitions() -> None:
    X = np.random.default_rng(3).standard_normal((60, 4))
    times = np.random.default_rng(4).integers(1, 5, 60)
    (weighted,) = measure_spectra(fs.TrainingSet(X), np.arange(60), times / times.sum(), [1])
    repeated = spectrum_of(fs.TrainingSet(np.repeat(X, times, axis=0)))
    np.testing.assert_allclose(weighted.eigenvalues[0], repeated.eigenvalues[0], rtol=1e-5)


def test_far_clusters_carry_their_entropy() -> None:
    """Ten far modes: the clusters' entropy is known at once, and what is left is the spread within each."""
    data = fs.load("mixture:N=4000,D=32,modes=8,spread=0.01,seed=1")
    found = spectrum_of(data, 8)
    np.testing.assert_allclose(found.weights, 1 / 8, rtol=1e-6)
    snr = 1e4
    truth = math.log(8) + 0.5 * 32 * math.log1p(snr * 1e-4)
    assert found.information(snr) == pytest.approx(truth, rel=0.02)


@pytest.mark.parametrize("path", ["linear", "cosine", "vp", "ve"])
def test_the_boundary_of_an_isotropic_gaussian_has_a_closed_form(path: str) -> None:
    """D/2 log(1 + snr) = log N."""
    exact = Spectrum(np.ones(1), (np.ones(128),), "")
    snr = boundary_snr([(1.0, math.log(1400), exact)])
    assert snr == pytest.approx(math.expm1(2 * math.log(1400) / 128), rel=1e-9)
    assert float(fs.Oracle(torch.eye(3), path).path(fs.Oracle(torch.eye(3), path).path.time_of_snr(snr)).snr) == (
        pytest.approx(snr, rel=1e-9)
    )


@pytest.mark.parametrize("entropy", [0.0, math.log(2)])
def test_two_points_or_fewer_have_no_boundary(entropy: float) -> None:
    assert math.isnan(boundary_snr([(1.0, entropy, Spectrum(np.ones(1), (np.ones(3),), ""))]))


def test_a_set_without_spread_has_no_boundary() -> None:
    assert math.isnan(boundary_snr([(1.0, 5.0, Spectrum(np.ones(1), (np.empty(0),), ""))]))


def test_large_sets_are_sampled_always_in_the_same_way() -> None:
    data = fs.load("gaussian:N=9000,D=8,seed=3")
    one, other = spectrum_of(data, 8), spectrum_of(data, 8)
    assert "4,096 of 9,000" in one.note
    assert one.information(1.0) == other.information(1.0)

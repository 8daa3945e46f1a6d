"""Spectra of known covariances, the finite-N threshold, and the boundaries that follow from both."""

import math

import numpy as np
import pytest
import torch

import flowscope as fs
from flowscope.curve.prediction import PredictedLaw, plain_snr, predicted_snr, predicted_top1, threshold
from flowscope.curve.spectrum import Spectrum, measure_spectra
from flowscope.curve.subsets import predict_from_subsets
from flowscope.errors import InputError


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
    assert float(found.information(np.array(0.3))) == pytest.approx(truth, rel=1e-5)
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
    assert float(found.information(np.array(snr))) == pytest.approx(truth, rel=0.02)


@pytest.mark.parametrize("path", ["linear", "cosine", "vp", "ve"])
def test_the_boundary_of_an_isotropic_gaussian_has_a_closed_form(path: str) -> None:
    """D/2 log(1 + snr) = log N."""
    exact = Spectrum(np.ones(1), (np.ones(128),), "")
    snr = plain_snr([PredictedLaw(1.0, math.log(1400), (exact,))])
    assert snr == pytest.approx(math.expm1(2 * math.log(1400) / 128), rel=1e-9)
    assert float(fs.Oracle(torch.eye(3), path).path(fs.Oracle(torch.eye(3), path).path.time_of_snr(snr)).snr) == (
        pytest.approx(snr, rel=1e-9)
    )


@pytest.mark.parametrize("entropy", [0.0, math.log(2)])
def test_two_points_or_fewer_have_no_boundary(entropy: float) -> None:
    law = PredictedLaw(1.0, entropy, (Spectrum(np.ones(1), (np.ones(3),), ""),))
    assert math.isnan(plain_snr([law])) and math.isnan(predicted_snr([law], 0.5))


def test_a_set_without_spread_has_no_boundary() -> None:
    law = PredictedLaw(1.0, 5.0, (Spectrum(np.ones(1), (np.empty(0),), ""),))
    assert math.isnan(plain_snr([law])) and math.isnan(predicted_snr([law], 0.5))


def test_large_sets_are_sampled_always_in_the_same_way() -> None:
    data = fs.load("gaussian:N=9000,D=8,seed=3")
    one, other = spectrum_of(data, 8), spectrum_of(data, 8)
    assert "4,096 of 9,000" in one.note
    assert one.information(np.array(1.0)) == other.information(np.array(1.0))


# The threshold


def mean_heaviest(n: int, nats: float, draws: int, seed: int = 0) -> tuple[float, float]:
    """The mean top-1 weight of one signal among n with its standard error, by simulation of all n logits."""
    rng, power = np.random.default_rng(seed), 2 * nats
    heaviest = []
    for _ in range(0, draws, 500):
        logits = math.sqrt(power) * rng.standard_normal((500, n))
        logits[:, 0] += power
        weights = np.exp(logits - logits.max(1, keepdims=True))
        heaviest.append(weights.max(1) / weights.sum(1))
    values = np.concatenate(heaviest)
    return float(values.mean()), float(values.std() / math.sqrt(len(values)))


@pytest.mark.parametrize(
    ("n", "level"),
    [
        (32, 0.5),
        (1400, 0.99),
        pytest.param(3, 0.7, marks=pytest.mark.slow),
        pytest.param(32, 0.99, marks=pytest.mark.slow),
        pytest.param(10_000, 0.5, marks=pytest.mark.slow),
    ],
)
def test_the_threshold_is_where_simulated_weights_reach_the_level(n: int, level: float) -> None:
    mean, error = mean_heaviest(n, threshold(n, level), 4000 if n < 5000 else 1500)
    assert abs(mean - level) < 4 * error


def test_thresholds_worked_out_by_hand() -> None:
    """Values found by simulation before, to their errors."""
    by_hand = {32: 2.10, 48: 2.45, 128: 3.36, 512: 4.62, 1400: 5.55, 3000: 6.2, 10_000: 7.33}
    for n, nats in by_hand.items():
        assert threshold(n) == pytest.approx(nats, rel=0.012)
    for n, nats in {32: 11.0, 1400: 17.0, 10_000: 20.3}.items():
        assert threshold(n, 0.99) == pytest.approx(nats, rel=0.025)


@pytest.mark.parametrize("level", [0.6, 0.99, 1 - 1e-9])
def test_the_threshold_of_two_signals_has_a_closed_form(level: float) -> None:
    """One of two is told rightly with probability Phi(sqrt(P/2))."""
    from statistics import NormalDist

    assert threshold(2, level) == pytest.approx(NormalDist().inv_cdf(level) ** 2, rel=1e-7)
    assert threshold(2, 0.5) == 0


def test_thresholds_grow_with_points_and_level_towards_the_capacity() -> None:
    """Of without end many signals each is told from log N nats on, and not below."""
    counts = [2, 3, 10, 32.5, 1e3, 1e6, 1e9, 1e12]
    found = np.array([[threshold(n, level) for level in (0.2, 0.5, 0.9, 0.99, 0.9999)] for n in counts])
    assert (np.diff(found, axis=0) >= 0).all() and (np.diff(found[1:], axis=0)[:, 1:] > 0).all()
    assert (np.diff(found, axis=1) >= 0).all() and (np.diff(found[2:], axis=1) > 0).all()
    shares = found[3:, 1] / np.log(counts[3:])
    assert (np.diff(shares) > 0).all() and 0.88 < shares[-1] < 1


@pytest.mark.parametrize(
    ("n", "level", "said"),
    [
        (1, 0.5, "n is 1"),
        (1.9, 0.5, "n is 1.9"),
        (math.nan, 0.5, "n is nan"),
        (math.inf, 0.5, "n is inf"),
        ("9", 0.5, "n is '9'"),
        (True, 0.5, "n is True"),
        (9, 0, "level is 0"),
        (9, 1, "level is 1"),
        (9, -0.5, "level is -0.5"),
        (9, math.nan, "level is nan"),
        (9, None, "level is None"),
    ],
)
def test_a_threshold_of_what_is_none_is_refused(n: object, level: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        threshold(n, level)  # type: ignore[arg-type]


# Boundaries and the top-1 curve


def test_in_many_dimensions_the_prediction_is_the_threshold() -> None:
    """D/2 log(1 + snr) = I*(N), and V is 2 I there."""
    law = PredictedLaw(1.0, math.log(1400), (Spectrum(np.ones(1), (np.ones(10_000),), ""),))
    for level in (0.3, 0.5, 0.99):
        exact = math.expm1(2 * threshold(1400, level) / 10_000)
        assert predicted_snr([law], level) == pytest.approx(exact, rel=3e-3)


def test_the_predicted_curve_rises_from_one_in_n_to_one() -> None:
    eigenvalues = 1 / np.arange(1, 40.0) ** 2
    laws = [PredictedLaw(0.4, math.log(50), (Spectrum(np.ones(1), (eigenvalues,), ""),))]
    laws += [PredictedLaw(0.6, math.log(9000), (Spectrum(np.ones(1), (2 * eigenvalues,), ""),))]
    top1 = predicted_top1(laws, np.exp(np.linspace(-20, 25, 200)))
    assert (np.diff(top1) >= -1e-12).all()
    assert top1[0] == pytest.approx(0.4 / 50 + 0.6 / 9000, rel=1e-2) and top1[-1] == pytest.approx(1, abs=1e-4)
    assert predicted_top1(laws, np.array([0.0])) == pytest.approx(0.4 / 50 + 0.6 / 9000)


def test_the_predicted_curve_goes_through_the_predicted_boundaries() -> None:
    curve = fs.stages(fs.load("gaussian:N=300,D=12"), timesteps=4, probes=64)
    times = [curve.predicted, curve.predicted_saturation]
    again = fs.stages(fs.load("gaussian:N=300,D=12"), timesteps=times, probes=64)
    np.testing.assert_allclose(again.predicted_top1, [0.5, 0.99], atol=1e-7)
    assert (np.diff(curve.fine.predicted_top1) >= 0).all() and np.isin(curve.t, curve.fine.t).all()


@pytest.mark.parametrize(
    ("dimension", "room"),
    [
        (16, 0.03),
        pytest.param(4, 0.03, marks=pytest.mark.slow),
        pytest.param(1024, 0.03, marks=pytest.mark.slow),
    ],
)
def test_boundaries_of_unit_gaussians(dimension: int, room: float) -> None:
    """N = 1,400: no number is fitted, and the deficit is about 0."""
    curve = fs.stages(fs.load(f"gaussian:N=1400,D={dimension}"), timesteps=2, probes=512)
    assert curve.predicted == pytest.approx(curve.half.t, rel=room)
    assert curve.predicted_saturation == pytest.approx(curve.saturation.t, rel=2 * room)
    assert abs(curve.deficit) < (0.8 if dimension < 16 else 0.4)
    assert np.abs(curve.fine.predicted_top1 - curve.fine.top1).max() < 0.06


def test_the_deficit_is_what_the_threshold_leaves_of_the_gaussian_information() -> None:
    points = np.random.default_rng(7).standard_normal((60, 5)) * np.exp(np.random.default_rng(8).normal(size=(60, 1)))
    curve = fs.stages(fs.TrainingSet(points), timesteps=2, probes=64)
    snr = (curve.half.t / (1 - curve.half.t)) ** 2
    told = 0.5 * np.linalg.slogdet(np.eye(5) + snr * np.cov(points.T, bias=True))[1]
    assert curve.deficit == pytest.approx(told - threshold(60), rel=1e-4) and curve.deficit > 0.5


def test_copies_change_no_prediction_and_weights_count_by_their_entropy() -> None:
    points = np.random.default_rng(9).standard_normal((80, 8))
    once, twice = (fs.stages(fs.TrainingSet(np.repeat(points, k, axis=0)), timesteps=3, probes=32) for k in (1, 2))
    for name in ("predicted", "predicted_saturation", "predicted_plain", "predicted_top1"):
        np.testing.assert_allclose(getattr(twice, name), getattr(once, name), rtol=1e-6)
    weights = np.r_[np.ones(40), 3 * np.ones(40)] / 160
    uneven = fs.stages(fs.TrainingSet(points, weights=weights), timesteps=3, probes=32)
    assert uneven.predicted_top1[0] == pytest.approx(math.exp((weights * np.log(weights)).sum()))
    assert any("entropy of their weights" in note for note in uneven.notes)
    assert not any("entropy of their weights" in note for note in twice.notes)


def test_each_class_has_predictions_of_its_own() -> None:
    near, far = (scale * np.random.default_rng(k).standard_normal((50, 8)) for k, scale in ((1, 0.2), (2, 5)))
    data = fs.TrainingSet(np.concatenate([near, far]), np.repeat([0, 1], 50))
    curve = fs.stages(data, timesteps=2, probes=64, conditional=True)
    late, early = curve.per_class
    for own, points in ((late, near), (early, far)):
        alone = fs.stages(fs.TrainingSet(points), timesteps=2, probes=64)
        assert own.predicted == pytest.approx(alone.predicted, rel=1e-6)
        assert own.predicted_saturation == pytest.approx(alone.predicted_saturation, rel=1e-6)
        assert own.predicted == pytest.approx(own.half.t, rel=0.1)
    assert early.predicted < curve.predicted < late.predicted


# From subsets


@pytest.mark.slow
def test_subsets_tell_what_a_gaussian_does_not() -> None:
    """A mixture of scales: the spectrum alone errs by a quarter of t, subsets of a tenth of the points by far less."""
    rng = np.random.default_rng(0)
    data = fs.TrainingSet(rng.standard_normal((1600, 32)) * np.exp(rng.standard_normal((1600, 1))))
    curve = fs.stages(data, timesteps=2, probes=256)
    found = predict_from_subsets(data, points=160, probes=128)
    assert found.half.t == pytest.approx(curve.half.t, rel=0.15)
    assert abs(curve.predicted / curve.half.t - 1) > 0.2
    assert found.half.low < found.half.t < found.half.high and (found.points, found.subsets) == (160, 6)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"points": 31}, "points is 31"),
        ({"points": 101}, "of 101 points are asked for of 200"),
        ({"points": 32, "subsets": 1}, "subsets is 1"),
        ({"points": 32, "probes": 1}, "probes is 1"),
        ({"points": 32, "seed": -1}, "seed is -1"),
    ],
)
def test_subsets_that_tell_nothing_are_refused(settings: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        predict_from_subsets(fs.load("gaussian:N=200,D=4"), **settings)


def test_a_level_that_holds_from_the_start_is_not_reached() -> None:
    """Classes of one to four points, two on average: without a state the mean top-1 weight is 1/2, but for rounding."""
    sizes = [1, 2, 3, 4, 1, 2, 1, 3, 2, 1]
    labels = np.repeat(np.arange(10), sizes)
    points = np.random.default_rng(0).standard_normal((20, 3, 6, 6))
    curve = fs.stages(fs.TrainingSet(points, labels), timesteps=2, probes=4, conditional=True)
    assert math.isnan(curve.predicted)
    assert math.isfinite(curve.predicted_saturation)

"""Curves of data that are drawn from Gaussians, or of images with flips: direct means, limits and what is exact."""

import math

import numpy as np
import pytest
import torch

from flowscope import Oracle, StageCurve, TrainingSet, stages
from flowscope.curve.info import training_set_info
from flowscope.curve.subsets import predict_from_subsets
from flowscope.errors import InputError
from tests.reference import coefficients
from tests.support.cases import cloud
from tests.support.laws import DEVIATIONS, gaussian_states

POINTS = cloud(30, (6,), dtype=torch.float64)
TIMES = [0.0, 0.2, 0.4, 0.6, 0.8, 0.95]


def direct(data, s, t, path, count=3000):
    """Means of |u* - u_c|^2 / D, top-1 weight, trace, divergence and entropy over data of the law."""
    generator = torch.Generator().manual_seed(5)
    which = torch.randint(len(POINTS), (count,), generator=generator)
    moved, x0 = torch.randn(2, count, 6, generator=generator, dtype=torch.float64)
    x1 = POINTS[which] + torch.as_tensor(s).expand_as(POINTS)[which] * moved
    alpha, sigma, d_alpha, d_sigma = map(float, coefficients(path, t))
    oracle, x = Oracle(data, path), alpha * x1 + sigma * x0
    found = oracle.posterior(x, t)
    gap = (oracle.velocity(x, t) - d_alpha * x1 - d_sigma * x0).square().mean(1)
    every = gap, found.weights[:, 0], found.total_variance, oracle.divergence(x, t), found.entropy
    return [(float(v.mean()), float(v.std()) / math.sqrt(count)) for v in every]


@pytest.mark.slow_but("linear-*")
@pytest.mark.parametrize("kind", DEVIATIONS)
@pytest.mark.parametrize("path", ["linear", "vp", "ve"])
def test_the_curve_is_the_mean_over_data_of_the_law(path, kind):
    s = DEVIATIONS[kind](POINTS)
    data = TrainingSet(POINTS, deviations=s)
    curve = stages(Oracle(data, path), TIMES, probes=512, seed=1)
    names = ("gap", "top1", "total_variance", "divergence", "entropy")
    for k, t in enumerate(TIMES):
        for name, (mean, error) in zip(names, direct(data, s, t, path), strict=True):
            ours, own = getattr(curve, name)[k], getattr(curve, f"{name}_error")[k]
            assert abs(ours - mean) <= 5 * math.hypot(error, own) + 1e-9 * abs(mean), f"{name} at t = {t}"
    assert curve.gap_interval[0].min() > 0 and (curve.gap_interval[0] <= curve.gap).all()
    form = "in one pass" if kind == "shared" else "in the direct form"
    assert any(form in note for note in curve.notes)
    assert any("that of a datum's own spread" in note for note in curve.notes)
    assert math.isnan(curve.predicted) == (kind == "own")
    assert curve.training_set["deviations"] == ("0.3" if kind == "shared" else "of each point and coordinate")
    assert curve.information.agrees is (True if kind == "shared" else None)


@pytest.mark.parametrize("kind", DEVIATIONS)
def test_one_gaussian_has_a_known_gap(kind):
    """Of one Gaussian nothing is unknown but the share of noise and spread in x_t."""
    s = torch.as_tensor(DEVIATIONS[kind](POINTS), dtype=torch.float64).expand_as(POINTS)[:1]
    curve = stages(TrainingSet(POINTS[:1], deviations=s), TIMES, probes=8)
    t = np.array(TIMES)[:, None]
    variance = s.numpy() ** 2
    np.testing.assert_allclose(curve.gap, (variance / (t**2 * variance + (1 - t) ** 2)).mean(1), rtol=1e-9)
    expected = np.pi / 2 * s.numpy().mean()  # the integral of s^2 / (t^2 s^2 + (1 - t)^2) over t
    assert curve.loss_floor.value == pytest.approx(expected, rel=1e-6 if kind == "shared" else 0.02)


@pytest.mark.slow
@pytest.mark.parametrize("kind", DEVIATIONS)
def test_the_loss_floor_is_the_mean_gap(kind):
    data = TrainingSet(POINTS, deviations=DEVIATIONS[kind](POINTS))
    curve = stages(data, (np.arange(40) + 0.5) / 40, probes=64)
    assert curve.loss_floor.value == pytest.approx(curve.gap.mean(), rel=0.01)
    assert math.isfinite(stages(Oracle(data, "cosine"), 4, probes=8).loss_floor.value)


def test_on_vp_no_loss_is_finite_and_the_curve_says_so(tmp_path):
    """u_c has sigma' x0 in it, which grows as (1 - t)^-1/2, and x0 stays unknown."""
    curve = stages(Oracle(TrainingSet(POINTS, deviations=0.3), "vp"), 4, probes=16)
    assert curve.loss_floor.value == math.inf
    assert any("the loss has no finite floor" in note for note in curve.notes)
    curve.save(tmp_path)
    assert StageCurve.load(tmp_path).notes == curve.notes


@pytest.mark.parametrize("kind", DEVIATIONS)
def test_boundaries_need_not_exist(kind):
    """Gaussians that overlap are never told apart: the snr of their means ends at 1/s^2."""
    s = 3.0 if kind == "shared" else 3 + 0.1 * DEVIATIONS["own"](POINTS)
    curve = stages(TrainingSet(POINTS, deviations=s), TIMES, probes=64)
    assert math.isnan(curve.half.t) and math.isnan(curve.saturation.t) and math.isnan(curve.deficit)
    assert any("half is undefined" in note for note in curve.notes)
    assert any("a boundary need not exist" in note for note in curve.notes)


@pytest.mark.slow
def test_small_deviations_give_the_curve_of_the_points():
    points, near = (stages(TrainingSet(POINTS, deviations=s), TIMES, probes=64) for s in (None, 1e-5))
    for name in ("gap", "top1", "entropy", "divergence", "total_variance"):
        np.testing.assert_allclose(getattr(near, name), getattr(points, name), rtol=1e-4, atol=1e-6, err_msg=name)
    assert near.half.t == pytest.approx(points.half.t, rel=1e-4)
    assert near.predicted == pytest.approx(points.predicted, rel=1e-4)


@pytest.mark.slow
def test_the_direct_form_of_one_deviation_is_the_pass():
    nearly = np.full((30, 6), 0.3)
    nearly[0, 0] *= 1 + 1e-13
    labels = np.arange(30) % 2
    one, other = (
        stages(TrainingSet(POINTS, labels, deviations=s), TIMES, probes=400, conditional=True) for s in (0.3, nearly)
    )
    for name in ("gap", "top1", "entropy"):
        error = np.hypot(getattr(one, f"{name}_error"), getattr(other, f"{name}_error"))
        assert (np.abs(getattr(one, name) - getattr(other, name)) <= 5 * error + 1e-9).all(), name
    assert one.half.t == pytest.approx(other.half.t, abs=0.03)
    assert len(other.per_class) == 2 and math.isnan(other.per_class[0].predicted)


@pytest.mark.parametrize("conditional", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_flips_give_the_curve_of_the_doubled_set(conditional):
    images, labels = cloud(20, (1, 4, 4)), np.arange(20) % 2
    law = TrainingSet(images, labels, augmentations=("flip",))
    copies = TrainingSet(torch.cat([images, images.flip(-1)]), np.tile(labels, 2))
    one, other = (stages(data, TIMES, probes=64, conditional=conditional) for data in (law, copies))
    for name in ("gap", "top1", "entropy", "predicted_top1"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-12, err_msg=name)
    assert one.half == other.half and one.training_set["digest"] == other.training_set["digest"]
    assert (one.training_set["N"], one.training_set["distinct"], one.training_set["augmentations"]) == (20, 40, "flip")
    assert any("Augmentations are points of the law: flip, made of 20 images." in note for note in one.notes)


def test_what_needs_a_prediction_is_refused_where_deviations_differ():
    data = TrainingSet(POINTS, np.arange(30) % 2, deviations=DEVIATIONS["own"](POINTS))
    with pytest.raises(InputError, match="'auto', which needs a prediction"):
        stages(data, "auto")
    with pytest.raises(InputError, match="predictions are of points and of one shared"):
        predict_from_subsets(Oracle(data), 32)
    assert training_set_info(Oracle(data))["predicted"] is None
    shared = Oracle(TrainingSet(POINTS, deviations=0.3))
    assert training_set_info(shared)["predicted"] > training_set_info(Oracle(POINTS))["predicted"]
    with pytest.raises(InputError, match="expected 0 <= t < 1"):
        stages(shared, [0.5, 1.0])


@pytest.mark.slow
def test_probes_with_shared_deviations_are_states_of_the_law():
    """The mean top-1 weight of data of the law, at a time between nodes of any grid."""
    oracle = Oracle(TrainingSet(POINTS, deviations=0.3))
    x = gaussian_states(POINTS, 0.3, 0.437, rows=4000)
    top1 = oracle.posterior(x, 0.437).weights[:, 0]
    curve = stages(oracle, [0.437], probes=512)
    assert abs(curve.top1[0] - float(top1.mean())) < 5 * math.hypot(curve.top1_error[0], float(top1.std()) / 63)

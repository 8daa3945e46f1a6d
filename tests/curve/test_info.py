"""What `training_set_info` says of sets whose numbers are known."""

import json
import math

import numpy as np
import pytest

import flowscope
from flowscope.curve.boundaries import boundary_beside
from flowscope.curve.info import training_set_info
from flowscope.curve.prediction import threshold


def about(
    points: np.ndarray, labels: np.ndarray | None = None, weights: np.ndarray | None = None, path: str = "linear"
):
    found = training_set_info(flowscope.Oracle(flowscope.TrainingSet(points, labels, weights, "a set"), path))
    json.dumps(found, allow_nan=False)  # plain values, none of them NaN
    return found


def isotropic(count: int, dimension: int, rank: int) -> np.ndarray:
    """Points of a standard normal law on a subspace."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((dimension, rank)))[0]
    return rng.standard_normal((count, rank)) @ basis.T


@pytest.mark.parametrize(("dimension", "rank"), [(8, 8), (40, 40), (40, 5)])
def test_isotropic_gaussians(dimension: int, rank: int) -> None:
    """The total variance of N(0, I) on a subspace is its dimension, and so is nearly the effective rank."""
    found = about(isotropic(6000, dimension, rank))
    assert found["total_variance"] == pytest.approx(rank, rel=0.03)
    assert 0.98 * rank < found["effective_rank"] <= rank
    assert found["spectrum"].startswith("sample covariance of all 6,000 points") or "of 6,000" in found["spectrum"]


def test_the_plain_prediction_solves_its_equation() -> None:
    """For N(0, I) the information D/2 log(1 + snr) is log N at snr = N^(2/D) - 1."""
    count, dimension = 4000, 20
    found = about(isotropic(count, dimension, dimension))
    snr = count ** (2 / dimension) - 1
    assert found["predicted_plain"] == pytest.approx(math.sqrt(snr) / (1 + math.sqrt(snr)), rel=0.01)


def test_the_prediction_is_the_same_noise_level_on_every_path() -> None:
    points = isotropic(500, 6, 6)
    levels = []
    for path in ("linear", "cosine", "vp", "ve"):
        found = about(points, path=path)
        assert found["path"] == path
        levels.append(found["predicted_log_snr"])
        snr = float(flowscope.Oracle(points, path).path(found["predicted"]).snr)
        assert math.log(snr) == pytest.approx(found["predicted_log_snr"], abs=1e-6)
    assert levels == pytest.approx([levels[0]] * 4)


def test_duplicates_are_counted_and_merged() -> None:
    points = np.repeat(isotropic(10, 3, 3), [1, 2, 3, 1, 1, 1, 1, 1, 1, 1], axis=0)
    found = about(points)
    assert (found["N"], found["distinct"], found["duplicates"]) == (13, 10, 3)
    weights = np.array([1, 2, 3, 1, 1, 1, 1, 1, 1, 1]) / 13
    assert found["entropy"] == pytest.approx(-(weights * np.log(weights)).sum())
    once = about(points[[0, 1, 3, *range(6, 13)]], weights=weights)
    for name in ("entropy", "total_variance", "effective_rank", "predicted_plain"):
        assert found[name] == pytest.approx(once[name])
    assert once["weighted"] is True


def test_points_of_no_weight_do_not_count() -> None:
    points = isotropic(30, 3, 3)
    weights = np.r_[np.ones(20), np.zeros(10)]
    found, kept = about(points, weights=weights), about(points[:20])
    assert found["N"] == 30
    for name in ("distinct", "entropy", "total_variance", "predicted"):
        assert found[name] == pytest.approx(kept[name])


def test_two_points_of_which_one_stands_there_more_often_have_no_threshold() -> None:
    """Their weights have the entropy of fewer than two points."""
    found = about(np.array([[0.0], [0.0], [1.0]]))
    assert found["threshold"] is None and found["duplicates"] == 1
    assert about(np.array([[0.0], [1.0]]))["threshold"] == pytest.approx(threshold(2))


def test_classes_and_their_sizes() -> None:
    points, labels = isotropic(9, 2, 2), np.array([3, 3, 3, 0, 0, -1, -1, -1, -1])
    assert about(points)["classes"] == {}
    assert about(points, labels)["classes"] == {"-1": 4, "0": 2, "3": 3}
    named = flowscope.TrainingSet(points, abs(labels), class_names=["crane", "bird", "cat", "crane"])
    assert training_set_info(flowscope.Oracle(named))["classes"] == {"crane (0)": 2, "bird": 4, "crane (3)": 3}


@pytest.mark.parametrize("count", [1, 2])
def test_what_is_undefined_is_none(count: int) -> None:
    points = isotropic(count, 3, 3)
    found = about(points)
    assert [found[name] for name in ("predicted", "predicted_plain", "predicted_log_snr")] == [None] * 3
    assert found["total_variance"] == pytest.approx(float(np.var(points, axis=0).sum()), rel=1e-6)


def test_points_that_coincide_have_no_boundary() -> None:
    found = about(np.ones((5, 3)))
    assert (found["distinct"], found["duplicates"], found["total_variance"]) == (1, 4, 0)
    assert found["predicted"] is None


def test_far_apart_points_beyond_a_path_are_none() -> None:
    """On ve no t has an snr below (1/80)^2: points a million apart are told apart before."""
    points = 1e6 * isotropic(50, 4, 4)
    assert about(points, path="ve")["predicted"] is None
    assert about(points, path="linear")["predicted"] == pytest.approx(0, abs=1e-4)


def test_it_names_the_set_as_results_do() -> None:
    data = flowscope.load("gaussian:N=60,D=4")
    curve, found = flowscope.stages(data, 2, 4), training_set_info(flowscope.Oracle(data))
    assert all(found[key] == value for key, value in curve.training_set.items() if key != "classes")
    assert found["predicted"] == pytest.approx(curve.predicted)
    assert found["predicted_plain"] == pytest.approx(curve.predicted_plain)


def test_subsets_are_measured_only_if_asked_for() -> None:
    oracle = flowscope.Oracle(flowscope.TrainingSet(isotropic(200, 16, 16)))
    plain, found = training_set_info(oracle), training_set_info(oracle, subsets=True)
    assert set(found) - set(plain) == {"half_from_subsets", "saturation_from_subsets"}
    t, low, high = found["half_from_subsets"].values()
    assert low < t < high and t == pytest.approx(plain["predicted"], rel=0.06)
    assert found["threshold"] == pytest.approx(threshold(200))


def test_values_by_channel_are_numpys_and_weighted() -> None:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((50, 3, 4, 5)) * [[[1.0]], [[2.0]], [[1e-3]]] + [[[0.0]], [[5.0]], [[100.0]]]
    weights = np.r_[np.arange(45), np.zeros(5)]
    found = about(points, weights=weights)
    mean = np.average(points, axis=0, weights=weights).mean((1, 2))
    square = np.average((points - mean[:, None, None]) ** 2, axis=0, weights=weights).mean((1, 2))
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-12)
    np.testing.assert_allclose(found["standard_deviation"], np.sqrt(square), rtol=1e-9)
    inside = points[1:45]
    assert found["range"] == np.stack([inside.min((0, 2, 3)), inside.max((0, 2, 3))], 1).tolist()
    assert about(points[:, 0, 0])["mean"] == [pytest.approx(points[:, 0, 0].mean())]


def test_how_a_set_was_read_is_told() -> None:
    found = training_set_info(flowscope.Oracle(flowscope.load("digits", flips=True, subset=60, seed=3)))
    assert (found["source"], found["format"], found["flips"]) == ("digits", "set by name", True)
    assert found["options"] == {"subset": 60, "seed": 3}
    assert about(isotropic(5, 2, 2))["format"] is None


def test_near_duplicates_are_neither_copies_nor_mirror_images_that_were_added() -> None:
    images = np.random.default_rng(0).standard_normal((40, 1, 8, 8))
    more = np.concatenate([images, 1.1 * images[:3] + 0.1, images[:2]])
    found = training_set_info(flowscope.Oracle(flowscope.load(more, flips=True)))
    assert found["near_duplicates"] == 3
    assert about(more)["duplicates"] == 2
    assert about(isotropic(9, 3, 3))["near_duplicates_skipped"] == "points are no images"


def test_near_duplicates_of_many_images_are_looked_for_if_asked_for() -> None:
    images = np.random.default_rng(0).standard_normal((5_001, 2, 4, 4))
    oracle = flowscope.Oracle(flowscope.TrainingSet(images.astype("f4")))
    found = training_set_info(oracle)
    assert found["near_duplicates"] is None and "--near-duplicates" in found["near_duplicates_skipped"]
    few = flowscope.Oracle(flowscope.TrainingSet(images[:30]))
    assert training_set_info(few, near_duplicates=False)["near_duplicates"] is None
    assert training_set_info(few, near_duplicates=True)["near_duplicates"] == 0


def test_classes_of_one_form_have_the_boundary_of_one_of_them() -> None:
    """Where a class is another one moved, the mean over classes is either; the nearest of all points are fewer."""
    points = isotropic(300, 6, 6)
    found = about(np.concatenate([points, points + 50]), np.repeat([0, 1], 300))
    assert found["predicted_by_class"] == pytest.approx(about(points)["predicted"], rel=1e-4)
    assert f"conditional one, t = {found['predicted_by_class']:.4f}" in found["recommended"]
    assert "predicted_by_class" not in about(points)


def test_many_classes_are_sampled_and_it_is_said() -> None:
    found = about(isotropic(320, 3, 3), np.arange(320) % 80)
    assert "32 of 80 classes" in found["recommended"]


def test_a_curve_beside_must_be_of_the_same_points_and_of_the_other_kind() -> None:
    oracle = flowscope.Oracle(flowscope.TrainingSet(isotropic(20, 3, 3), np.arange(20) % 2))
    curve = flowscope.stages(oracle, 2, 4)
    assert boundary_beside(curve, oracle, True) == (curve.half.t, True, "")
    other = flowscope.Oracle(flowscope.TrainingSet(isotropic(21, 3, 3)))
    for of, conditional, said in ((oracle, False, "unconditional"), (other, True, "digest")):
        with pytest.raises(flowscope.InputError, match=said):
            boundary_beside(curve, of, conditional)

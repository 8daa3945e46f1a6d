"""Sets at the edge of what floats hold: a right answer, or an error, and never a number that is silently wrong."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import flowscope as fs
from flowscope import InputError, Oracle, TrainingSet
from flowscope.curve.info import training_set_info
from tests.support.cases import cloud


def gaussians(n: int = 300, d: int = 8) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e-3, 1e3, 1e15])
def test_the_prediction_does_not_depend_on_the_unit(scale: float) -> None:
    """On data in other units the snr of the boundary changes by the square of the unit, and nothing else."""
    one = training_set_info(fs.Oracle(gaussians().double()))["predicted_log_snr"]
    other = training_set_info(fs.Oracle(gaussians().double() * scale))["predicted_log_snr"]
    assert other == pytest.approx(one - 2 * math.log(scale), abs=1e-4)


@pytest.mark.slow
def test_wide_half_precision_points_are_predicted_and_measured() -> None:
    points = (20000 * gaussians()).clamp(-60000, 60000).half()
    curve = fs.stages(fs.Oracle(points, "ve"), timesteps=4, probes=32)
    wide = fs.stages(fs.Oracle(points.double(), "ve"), timesteps=4, probes=32)
    np.testing.assert_allclose(curve.total_variance, wide.total_variance)
    assert training_set_info(fs.Oracle(points))["predicted_log_snr"] == pytest.approx(
        training_set_info(fs.Oracle(points.double()))["predicted_log_snr"], abs=1e-4
    )


def test_squares_beyond_float64_are_refused() -> None:
    with pytest.raises(fs.InputError, match="rescale"):
        fs.Oracle(gaussians().double() * 1e160)


@pytest.mark.slow
def test_a_far_point_without_weight_is_not_there() -> None:
    points = gaussians().double()
    far = torch.cat([points, torch.full((1, 8), 1e30, dtype=torch.float64)])
    weights = [1.0] * 300 + [0.0]
    x = 0.5 * points[:4] + 0.5
    found = fs.Oracle(fs.TrainingSet(far, weights=weights))(x, 0.5)
    torch.testing.assert_close(found, fs.Oracle(points)(x, 0.5), rtol=1e-12, atol=1e-12)


def test_a_weight_too_small_for_float64_is_refused_and_0_is_none() -> None:
    with pytest.raises(fs.InputError, match="make smaller ones 0"):
        fs.TrainingSet(gaussians(), weights=[1.0] * 299 + [5e-324])
    curve = fs.stages(fs.TrainingSet(gaussians(), weights=[1.0] * 299 + [0.0]), timesteps=2, probes=16)
    assert curve.information.log_n == pytest.approx(math.log(299))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int32, torch.complex64])
def test_other_dtypes_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(fs.InputError, match="float16"):
        fs.TrainingSet(torch.zeros(3, 2).to(dtype))
    with pytest.raises(fs.InputError, match="float16"):
        fs.Oracle(gaussians(5, 2))(torch.zeros(3, 2).to(dtype), 0.5)


def test_labels_beyond_int64_are_refused() -> None:
    with pytest.raises(fs.InputError, match="2\\^63"):
        fs.TrainingSet(gaussians(2, 2), labels=np.array([1, 2**63 + 5], dtype=np.uint64))


def test_one_probe_has_no_interval() -> None:
    curve = fs.stages(gaussians(), timesteps=4, probes=1)
    assert math.isfinite(curve.half.t) and math.isnan(curve.half.low) and math.isnan(curve.half.high)
    assert any("One probe" in note for note in curve.notes)
    assert any("too narrow" in note for note in fs.stages(gaussians(), timesteps=4, probes=8).notes)


def test_a_self_check_that_fails_is_said() -> None:
    """One point so far away that the grid, laid by the total variance, ends before the others are told apart."""
    points = gaussians(400).double()
    points[0] = 1e15
    notes = fs.stages(points, timesteps=8, probes=64).notes
    assert any("The self-check fails: the information integral is" in note for note in notes)


def test_conditional_is_a_truth_value() -> None:
    with pytest.raises(fs.InputError, match="True or False"):
        fs.stages(gaussians(), conditional="no")


def test_a_state_too_far_out_to_be_resolved_is_refused() -> None:
    oracle, x = fs.Oracle(gaussians()), gaussians(4).double()
    # so far out the point furthest along x has all the weight
    furthest = gaussians()[(x @ gaussians().double().T).argmax(1)]
    torch.testing.assert_close(oracle.denoise(1e15 * x, 0.1).float(), furthest)
    with pytest.raises(fs.InputError, match="further out"):
        oracle(1e30 * x, 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e18, 1e30])
@pytest.mark.parametrize("dimension", [8, 300])  # by float64 and by float32 products
def test_numpy_warns_of_nothing_in_a_curve(scale: float, dimension: int) -> None:
    """Whatever a user has numpy do about overflow and underflow; and the points are told apart where they should be."""
    points = gaussians(300, dimension).double()
    with np.errstate(all="raise"):
        wide = fs.stages(fs.Oracle(points * scale, library="numpy"), timesteps=8, probes=64)
    t = fs.stages(fs.Oracle(points), timesteps=8, probes=64).half.t
    assert wide.half.t == pytest.approx(t / (1 - t) / scale, rel=0.02)


def test_points_beyond_what_float64_can_square_twice_are_refused():
    for size in (1e101, 1e152):
        with pytest.raises(InputError, match="rescale them"):
            Oracle(size * cloud(5, (3,), dtype=torch.float64))
    points = 1e90 * cloud(5, (3,), dtype=torch.float64)
    assert bool(torch.isfinite(Oracle(points)(points, 0.5)).all())


@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_points_that_are_changed_in_place_are_noticed(kind):
    points = cloud(50, (4,))
    data = TrainingSet(points if kind == "tensor" else points.numpy())
    oracle = Oracle(data)
    x = points[:2].clone()
    oracle(x, 0.5)
    if kind == "tensor":
        points[7] += 1.0  # tensors count their changes
    else:
        points.numpy()[:] *= 2.0
    for ask in (lambda: oracle(x, 0.5), lambda: Oracle(data), lambda: oracle.posterior(x, 0.5)):
        with pytest.raises(InputError, match="changed in place"):
            ask()
    assert Oracle(TrainingSet(points))(x, 0.5).shape == x.shape


def test_a_part_of_a_part():
    points = cloud(20, (3,))
    whole = Oracle(points)
    part = whole.restrict(range(10)).restrict(range(5, 15))
    torch.testing.assert_close(part(points[:3], 0.5), Oracle(points[5:10])(points[:3], 0.5))
    with pytest.raises(InputError, match="none of these positions"):
        whole.restrict(range(10)).restrict(range(12, 15))


def test_weights_that_only_rounding_tells_apart_are_in_order_of_their_index():
    """Six points at the same distance from the state, in every order of the points."""
    angles = torch.arange(6, dtype=torch.float64) * (torch.pi / 3) + 0.1
    points = torch.stack([angles.cos(), angles.sin()], 1)
    for seed in range(5):
        order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
        found = Oracle(points[order]).posterior(torch.zeros(1, 2, dtype=torch.float64), 0.5, k=6)
        assert found.indices[0].tolist() == list(range(6))

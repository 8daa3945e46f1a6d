"""Pictures: what is shown is the oracle's answer on the states that are shown."""

import numpy as np
import pytest
import torch

from flowscope.curve.pictures import make_pictures, times_around
from flowscope.data.pixels import is_image
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError
from flowscope.oracle import Oracle

SHAPE = (1, 4, 5)


def images(count: int = 30, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, channels, *SHAPE[1:]))


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(TrainingSet(images(), labels=np.arange(30) % 3, class_names=("a", "b", "c")))


def test_prediction_goes_from_the_mean_to_the_point_itself(oracle: Oracle) -> None:
    shown = make_pictures(oracle, probes=5, times=[0.0, 0.999], seed=3)
    points = oracle.training_set.points
    np.testing.assert_allclose(shown.predictions[:, 0], np.broadcast_to(points.mean(0), (5, *SHAPE)), atol=1e-12)
    np.testing.assert_allclose(shown.predictions[:, 1], points[shown.probes], atol=1e-9)
    assert (shown.indices[:, 1, 0] == shown.probes).all()
    np.testing.assert_allclose(shown.weights[:, 1, 0], 1)
    np.testing.assert_allclose(shown.weights[:, 0], 1 / 30)


def test_neighbours_are_the_points_that_indices_name_heaviest_first(oracle: Oracle) -> None:
    shown = make_pictures(oracle, probes=3, times=6)
    np.testing.assert_array_equal(shown.neighbours, oracle.training_set.points[shown.indices])
    assert (np.diff(shown.weights, axis=-1) <= 0).all()
    assert shown.t[0] == 0
    assert shown.t[-1] == 0.95
    assert shown.note == ""


def test_a_state_is_on_the_path_between_its_point_and_one_noise(oracle: Oracle) -> None:
    shown = make_pictures(oracle, probes=2, times=[0.2, 0.7])
    x1 = oracle.training_set.points[shown.probes]
    noise = [(shown.states[:, k] - t * x1) / (1 - t) for k, t in enumerate(shown.t)]
    np.testing.assert_allclose(noise[0], noise[1], atol=1e-12)
    assert 0.5 < noise[0].std() < 1.5


def test_given_the_label_neighbours_are_of_its_class(oracle: Oracle) -> None:
    shown = make_pictures(oracle, probes=6, times=3, conditional=True)
    labels = oracle.training_set.labels
    assert labels is not None
    assert (labels[shown.indices] == labels[shown.probes][:, None, None]).all()
    assert shown.names == tuple("abc"[y] for y in labels[shown.probes])


def test_probes_repeat_with_their_seed_and_leave_global_randomness_alone(oracle: Oracle) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = (make_pictures(oracle, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.states, again.states)
    assert not np.array_equal(first.states, other.states)
    assert torch.equal(before, torch.get_rng_state())


def test_points_without_weight_are_never_drawn() -> None:
    weights = np.r_[np.zeros(27), np.ones(3)]
    shown = make_pictures(Oracle(TrainingSet(images(), weights=weights)), probes=10, times=2, neighbours=7)
    assert sorted(shown.probes) == [27, 28, 29]
    assert shown.weights.shape == (3, 2, 3)


@pytest.mark.parametrize(("channels", "shown"), [(1, 1), (2, 1), (3, 3), (4, 3), (32, 3)])
def test_other_channel_counts_show_the_first_and_say_so(channels: int, shown: int) -> None:
    found = make_pictures(Oracle(images(6, channels)), probes=1, times=2)
    assert found.states.shape[2] == found.predictions.shape[2] == found.neighbours.shape[3] == shown
    assert (f"{channels} channels" in found.note) == (channels != shown)


def test_what_is_no_image_or_no_count_is_refused(oracle: Oracle) -> None:
    assert not is_image((64,))
    assert not is_image((3, 2, 8))
    assert is_image((4, 4, 4))
    with pytest.raises(InputError, match="images"):
        make_pictures(Oracle(np.eye(5)))
    with pytest.raises(InputError, match="labels"):
        make_pictures(Oracle(images()), conditional=True)
    for wrong, said in (
        ({"probes": 0}, "probes is 0"),
        ({"times": 0}, "times is 0"),
        ({"neighbours": -1}, "neighbours is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"times": [0.5, 1.0]}, "t is 1.0; expected 0 <= t < 1"),
        ({"times": []}, "expected a count, or a list of at least one time"),
    ):
        with pytest.raises(InputError, match=said):
            make_pictures(oracle, **wrong)


@pytest.mark.parametrize("half", [0.049, 0.537, 0.9])
def test_times_lie_evenly_around_the_boundary_in_log_odds(half: float) -> None:
    t = times_around(half, 8)
    assert t[0] == 0
    assert ((t >= 0) & (t < 1)).all()
    odds = t[1:] / (1 - t[1:])
    np.testing.assert_allclose(odds[3], half / (1 - half))
    np.testing.assert_allclose(odds[1:] / odds[:-1], odds[1] / odds[0])


def test_without_a_boundary_times_are_even() -> None:
    np.testing.assert_allclose(np.diff(times_around(np.nan, 5), 2), 0, atol=1e-12)

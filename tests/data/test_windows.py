"""Windows of trajectories: every one, in order, and none across the end of a trajectory."""

import numpy as np
import pytest
import torch

from flowscope.data import load, windows
from flowscope.data.split import split
from flowscope.errors import InputError

RNG = np.random.default_rng(2)


def test_each_window_is_a_part_of_its_trajectory():
    parts = [RNG.standard_normal((length, 3)) for length in (7, 4, 12)]
    points, episode = windows(parts, 4)
    expected = [(k, part[at : at + 4]) for k, part in enumerate(parts) for at in range(len(part) - 3)]
    assert episode.tolist() == [k for k, _ in expected]
    np.testing.assert_array_equal(points, [window for _, window in expected])
    few, of = windows(parts, 4, stride=3)
    np.testing.assert_array_equal(few[of == 2], [parts[2][at : at + 4] for at in (0, 3, 6)])


def test_an_array_of_trajectories_is_a_list_of_them():
    whole = RNG.standard_normal((5, 9, 2)).astype(np.float32)
    for one in (whole, torch.from_numpy(whole)):
        points, episode = windows(one, 6)
        assert points.dtype == np.float32
        np.testing.assert_array_equal(points, windows(list(whole), 6)[0])
    assert np.bincount(episode).tolist() == [4] * 5
    assert windows([whole[0, :, 0]], 6)[0].shape == (4, 6)


def test_whole_trajectories_are_held_out():
    points, episode = windows(RNG.standard_normal((8, 20, 2)), 5)
    kept, aside = split(load(points, labels=episode), 32, groups=episode)
    assert not set(kept.labels) & set(aside.labels) and len(aside) == 32


@pytest.mark.parametrize(
    ("trajectories", "steps", "said"),
    [
        (np.ones((9, 2)), 3, "give one trajectory as a list of one"),
        (3.0, 3, "expected"),
        ([np.ones((9, 2)), np.ones((2, 2))], 3, r"trajectory 1 has shape \(2, 2\); expected at least 3 steps"),
        ([np.ones((9, 2)), np.ones((9, 3))], 3, r"trajectory 1 has shape \(9, 3\)"),
        ([], 3, "no trajectories"),
        ([np.ones((9, 2))], 0, "steps is 0"),
        ([np.ones((9, 2))], 2.5, "steps is 2.5"),
    ],
)
def test_what_are_no_trajectories(trajectories, steps, said):
    with pytest.raises(InputError, match=said):
        windows(trajectories, steps)

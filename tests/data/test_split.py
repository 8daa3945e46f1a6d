"""Points set aside: none is lost, none is in both parts, and the same ones every time."""

import numpy as np
import pytest

import flowscope as fs
from flowscope.data.split import split


def numbered(count=50):
    points = np.arange(count, dtype=np.float64)[:, None]
    names = [f"class {y}" for y in range(3)]
    return fs.TrainingSet(
        points,
        np.arange(count) % 3,
        1.0 + np.arange(count),
        "numbers",
        class_names=names,
        files=[f"{k}.png" for k in range(count)],
    )


def test_every_point_is_in_one_part_with_its_label_and_weight():
    stay, aside = split(numbered(), 12, seed=3)
    values = [part.rows(slice(None))[:, 0].numpy().astype(int) for part in (stay, aside)]
    assert sorted(np.concatenate(values)) == list(range(50)) and len(values[1]) == 12
    for part, v in zip((stay, aside), values, strict=True):
        assert (np.diff(v) > 0).all()  # in the order of the whole
        assert np.array_equal(part.labels, v % 3) and np.array_equal(part.weights, 1.0 + v)
        assert part.class_name(2) == "class 2"
        assert part.files == tuple(f"{k}.png" for k in v)


def test_the_draw_depends_on_its_seed_alone():
    same = [split(numbered(), 12, seed=3)[1].digest for _ in range(2)]
    assert same[0] == same[1] != split(numbered(), 12, seed=4)[1].digest


@pytest.mark.slow
def test_every_point_is_as_likely_to_be_set_aside():
    times = np.zeros(50)
    for seed in range(400):
        times[split(numbered(), 10, seed)[1].rows(slice(None))[:, 0].numpy().astype(int)] += 1
    # a binomial of 400 draws at 0.2: standard deviation 8; the largest of 50 stays within 4.5 of them
    assert (np.abs(times - 80) < 4.5 * 8).all()


def test_nothing_set_aside_is_the_set_itself():
    whole = numbered()
    assert split(whole, 0) == (whole, None)


@pytest.mark.parametrize("held_out", [-1, 50, 51, 1.5, True, "ten", None])
def test_a_number_that_leaves_no_point_or_is_none_is_refused(held_out):
    with pytest.raises(fs.InputError, match=r"expected a whole number from 0 to 49"):
        split(numbered(), held_out)


def test_copies_stay_on_one_side():
    points = np.random.default_rng(0).standard_normal((100, 3))
    for seed in range(20):
        stay, aside = split(fs.TrainingSet(np.concatenate([points, points])), 60, seed)
        assert len(aside) == 60
        assert not {tuple(p) for p in stay.points.tolist()} & {tuple(p) for p in aside.points.tolist()}


@pytest.mark.slow
def test_groups_stay_on_one_side_and_points_are_still_as_likely_to_be_set_aside():
    groups = np.array([0, 0, 0, 1, 1, *range(2, 47)])
    times = np.zeros(50)
    for seed in range(400):
        _, aside = split(numbered(), 10, seed, groups)
        drawn = aside.rows(slice(None))[:, 0].numpy().astype(int)
        assert len(drawn) == 10
        assert all(np.isin(np.flatnonzero(groups == g), drawn).all() for g in set(groups[drawn].tolist()))
        times[drawn] += 1
    assert (np.abs(times - 80) < 4.5 * 8).all()  # as without groups


def test_fewer_points_are_set_aside_where_copies_do_not_let_as_many():
    points = np.repeat(np.random.default_rng(0).standard_normal((10, 3)), 4, axis=0)
    stay, aside = split(fs.TrainingSet(points), 11)
    assert (len(stay), len(aside)) == (32, 8)
    assert stay.notes == aside.notes == ("8 points are held out instead of 11, since copies of a point stay together.",)
    with pytest.raises(fs.InputError, match=r"expected at least 4"):
        split(fs.TrainingSet(points), 3)

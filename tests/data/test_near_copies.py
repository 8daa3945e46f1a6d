"""Near-copies: what is found of images that are saved again, brightened, shifted or flipped, and what is not one."""

import math

import numpy as np
import pytest
import torch

from flowscope import FlowscopeError, TrainingSet, load
from flowscope.errors import FlowscopeWarning
from flowscope.metrics import hold_out, memorised, near_copies
from tests.support.photographs import CHANGES, photographs, reencoded


def pairs_found(images, changed):
    """The share of changed images that are in the group of their own image, and the size of the largest group."""
    group, n = near_copies(torch.cat([images, changed])), len(images)
    return float((group[:n] == group[n:]).mean()), np.bincount(group).max()


@pytest.mark.slow_but("re-encoded-*")
@pytest.mark.parametrize(
    ("change", "least"),
    [
        ("re-encoded", 0.98),
        ("brightened by a tenth", 0.98),
        ("brightened by 0.1", 0.98),
        ("brightened by a quarter", 0.9),
        ("shifted by a 64th", 0.9),
        ("flipped", 1.0),
    ],
)
def test_the_recall_of_changed_photographs(change, least):
    images = photographs(64)
    share, largest = pairs_found(images, CHANGES[change](images))
    assert share >= least
    assert largest <= 4  # two pieces of the background are near-copies of each other


def test_copies_of_copies_and_many_copies_are_one_group():
    images = photographs()
    many = torch.cat([images, *(reencoded(images, quality) for quality in (95, 90, 85, 80)), images.flip(-1)])
    group = near_copies(many).reshape(6, -1)
    assert (group == group[0]).mean() > 0.95
    assert len(np.unique(group[0])) >= 58


@pytest.mark.parametrize("name", ["digits", "photographs", "noise"])
def test_images_of_one_kind_are_no_near_copies(name):
    noise = torch.randn(300, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    images = {"digits": load("digits").points, "photographs": photographs(), "noise": noise}[name]
    sizes = np.bincount(near_copies(images))
    assert (sizes > 1).sum() <= 1


def test_a_dense_set_does_not_become_one_group():
    """A bar that moves by a little from image to image: each is near the next, and none is far nearer than others."""
    at = torch.linspace(4, 12, 200)[:, None, None, None]
    bars = torch.exp(-((torch.arange(16.0).expand(1, 1, 16, 16) - at) ** 2))
    bars = bars + torch.linspace(0, 1, 16)[:, None]
    assert np.bincount(near_copies(bars)).max() <= 2


def test_groups_do_not_depend_on_the_order_or_the_scale_of_points():
    images = photographs()
    whole = torch.cat([images, reencoded(images)[:30]])
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    group, shuffled = near_copies(whole), near_copies(whole[order])
    same = group[:, None] == group
    assert np.array_equal(same[order][:, order], shuffled[:, None] == shuffled)
    assert np.array_equal(group, near_copies(1000 * whole.double() + 5))
    assert list(dict.fromkeys(group.tolist())) == list(range(group.max() + 1))  # numbered by first points


@pytest.mark.parametrize(
    "points",
    [
        np.random.default_rng(0).standard_normal((6, 3)),
        np.arange(6.0)[:, None],
        np.full((6, 1, 8, 8), 0.3) + np.arange(6)[:, None, None, None],  # flat images
        np.random.default_rng(0).standard_normal((6, 1, 3, 3)),  # too small to be images
    ],
)
def test_points_that_are_no_images_have_exact_copies_alone(points):
    assert near_copies(np.concatenate([points, points[:2]])).tolist() == [0, 1, 2, 3, 4, 5, 0, 1]


def test_one_point_and_two():
    one = np.random.default_rng(0).standard_normal((1, 1, 8, 8))
    assert near_copies(one).tolist() == [0]
    assert near_copies(np.concatenate([one, one])).tolist() == [0, 0]
    assert near_copies(np.concatenate([one, one + one[..., ::-1]])).tolist() == [0, 1]


def test_copies_do_not_hide_copying():
    """Samples that are copies are memorised, whether or not the set has each image twice."""
    images = photographs()
    noise = 0.01 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    assert memorised(images + noise, images).share == 1.0
    assert memorised(images + noise, torch.cat([images, reencoded(images, 95)])).share == 1.0
    assert memorised(images + noise, torch.cat([images, images.flip(-1), reencoded(images, 95)])).share == 1.0


def test_one_image_and_its_copies_are_too_few():
    images = photographs()[:1]
    with pytest.raises(FlowscopeError, match="near-copies of one; expected at least two"):
        memorised(images, torch.cat([images, images.flip(-1)]))


@pytest.mark.slow
def test_labels_still_restrict_what_samples_are_compared_with():
    images = photographs()
    labels = np.arange(60) % 2
    twice = TrainingSet(torch.cat([images, reencoded(images, 95)]), np.tile(labels, 2))
    near = images + 0.01
    assert memorised(near, twice, y=torch.from_numpy(labels)).share > 0.95
    assert memorised(near, twice, y=torch.from_numpy(1 - labels)).share < 0.1


@pytest.mark.parametrize("again", [lambda x: x, lambda x: reencoded(x, 95), lambda x: x.flip(-1)])
def test_a_split_keeps_copies_on_one_side(again):
    images = photographs()
    whole = TrainingSet(torch.cat([images, again(images)]), name="twice")
    with pytest.warns(FlowscopeWarning, match="near-copies of others, and are on the same side"):
        train, aside = hold_out(whole, 20)
    assert (len(train), len(aside)) == (100, 20)
    group = near_copies(torch.cat([train.points, aside.points]))
    assert not set(group[:100]) & set(group[100:])
    assert memorised(aside, train).share == 0.0
    assert "60 points" in train.notes[0] or "59 points" in train.notes[0] or "61 points" in train.notes[0]


def test_without_copies_a_split_is_as_it_was():
    digits = load("digits")
    aside = np.zeros(1797, bool)
    aside[np.random.default_rng((0, 1797, 97)).choice(1797, 97, replace=False)] = True
    train, rest = hold_out(digits, 97)
    assert torch.equal(rest.rows(slice(None)), digits.rows(aside.nonzero()[0])) and train.notes == ()
    assert hold_out(digits, 0) == (digits, None)
    assert math.isclose(len(train), 1700)

"""Flips and shifts as transformations: the law of a longer set, of which no more is kept than of the images."""

import tracemalloc

import numpy as np
import pytest
import torch

from flowscope import Oracle, TrainingSet, load
from flowscope.data.pack import pack
from flowscope.data.split import split
from flowscope.errors import InputError
from flowscope.metrics import neighbours
from tests.support.cases import cloud, same_posterior
from tests.support.laws import DEVIATIONS, all_shifts

IMAGES = cloud(12, (2, 4, 6))
LABELS, WEIGHTS = np.arange(12) % 3, np.arange(1.0, 13.0)


def doubled(images=IMAGES, **options):
    return TrainingSet(torch.cat([images, images.flip(-1)]), np.tile(LABELS, 2), np.tile(WEIGHTS, 2), **options)


def flipped(images=IMAGES, **options):
    return TrainingSet(images, LABELS, WEIGHTS, augmentations=("flip",), **options)


@pytest.mark.parametrize("kind", [None, *DEVIATIONS])
def test_flips_are_a_doubled_set_in_every_answer(kind):
    """Deviations are mirrored, too."""
    s = None if kind is None else DEVIATIONS[kind](IMAGES)
    twice = torch.cat([s, s.flip(-1)]) if kind == "own" else s
    law, copies = flipped(deviations=s), doubled(deviations=twice)
    one, other = Oracle(law), Oracle(copies)
    x, y = cloud(5, (2, 4, 6), seed=4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    for t in (0.0, 0.4, 0.9) if kind is None else (0.0, 0.9, 1.0):
        for labels in (None, y):
            for name in ("velocity", "denoise", "noise", "score", "log_density", "divergence"):
                found, expected = (getattr(oracle, name)(x, t, labels) for oracle in (one, other))
                torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
            same_posterior(one.posterior(x, t, labels, k=4), other.posterior(x, t, labels, k=4), 1e-12)
    assert len(law) == 12 and len(one.support.law()) == 24
    if kind is None:
        assert law.digest == copies.digest != TrainingSet(IMAGES, LABELS, WEIGHTS).digest


def test_shifts_are_the_set_of_all_of_them():
    law, copies = TrainingSet(IMAGES, augmentations=("shift:2",)), all_shifts(IMAGES, 2)
    assert len(copies) == 25 * 12 == len(Oracle(law).support.law())
    x = cloud(4, (2, 4, 6), seed=4, dtype=torch.float64)
    for t in (0.0, 0.5, 0.95):
        torch.testing.assert_close(Oracle(law).velocity(x, t), Oracle(copies).velocity(x, t), rtol=1e-12, atol=1e-12)
    both = TrainingSet(IMAGES, augmentations=["shift:1", "flip"])
    assert both.augmentations == ("flip", "shift:1") and "flip, shift:1" in repr(both)
    made = Oracle(both).support.training_set.rows(slice(None))
    shifted = all_shifts(IMAGES, 1)
    expected = torch.cat([shifted, shifted.flip(-1)]).flatten(1)
    assert sorted(map(tuple, made.flatten(1).tolist())) == sorted(map(tuple, expected.tolist()))


def test_positions_beyond_the_points_are_transformations_of_them():
    law = flipped()
    found = Oracle(law).posterior(IMAGES[3:5].flip(-1).double() * 0.99, 0.99)
    assert found.indices.flatten().tolist() == [15, 16]  # mirror images of 3 and 4
    assert torch.equal(law.rows(found.indices.flatten().numpy()), IMAGES[3:5].flip(-1))
    assert torch.equal(law.rows(np.array([1, 13, 2])), torch.stack([IMAGES[1], IMAGES[1].flip(-1), IMAGES[2]]))
    with pytest.raises(IndexError, match="beyond the 2 times 12 points"):
        law.rows(np.array([3, 24]))
    near = neighbours(IMAGES[7:8].flip(-1), law, k=1)
    assert (near.indices.item(), near.distances.item()) == (19, 0.0)


def test_images_that_are_their_own_mirror_image_are_one_point():
    even = torch.cat([IMAGES, IMAGES.flip(-1)], 3)  # each is symmetric
    assert len(Oracle(TrainingSet(even, augmentations=("flip",))).support.law()) == 12


@pytest.mark.parametrize("kind", ["points", "own"])
def test_what_was_changed_in_place_is_refused(kind):
    images = IMAGES.clone()
    own = DEVIATIONS["own"](images)
    law = flipped(images, deviations=own)
    oracle = Oracle(law)
    (images if kind == "points" else own)[0] += 1
    with pytest.raises(InputError, match="changed in place"):
        oracle.velocity(torch.zeros(1, 2, 4, 6), 0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_what_is_stored_stays_as_it_is(dtype):
    images = IMAGES.to(dtype)
    law = flipped(images)
    assert law.points.data_ptr() == images.data_ptr() and law.rows(np.array([12])).dtype == dtype
    assert torch.equal(law.rows(np.arange(24)), torch.cat([images, images.flip(-1)]))


@pytest.mark.slow
def test_memory_does_not_double():
    images = np.random.default_rng(0).standard_normal((300, 1, 32, 32)).astype(np.float32)
    law = TrainingSet(images, augmentations=("flip", "shift:2"))
    x = torch.zeros(1, 1, 32, 32)
    tracemalloc.start()
    try:
        Oracle(law, memory="4MB").velocity(x, 0.5)
        assert tracemalloc.get_traced_memory()[1] < 50 * images.nbytes / 2  # a pass over points takes 16 MB of them
    finally:
        tracemalloc.stop()


def test_parts_and_files_keep_their_augmentations(tmp_path):
    own = DEVIATIONS["own"](IMAGES)
    stay, aside = split(flipped(deviations=own), 4, seed=1)
    assert stay.augmentations == aside.augmentations == ("flip",)
    at = [int((one == IMAGES).flatten(1).all(1).nonzero()[0, 0]) for one in aside.rows(slice(None))]
    assert torch.equal(aside.deviation_rows(slice(None)), own[at])
    again = load(pack(flipped(), tmp_path / "set.safetensors"))
    assert (again.augmentations, again.digest) == (("flip",), flipped().digest)
    assert load(tmp_path / "set.safetensors", flips=False).augmentations == ()
    part = load(flipped(deviations=own), classes=1)
    assert torch.equal(part.deviation_rows(slice(None)), own[1::3]) and part.augmentations == ("flip",)
    with pytest.raises(InputError, match="deviations, which a packed set does not hold"):
        pack(flipped(deviations=0.1), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="resize applies to points, and points has deviations"):
        load(flipped(deviations=0.1), resize=8)


@pytest.mark.parametrize(
    ("names", "shape", "said"),
    [
        ("flip", (2, 4, 6), "expected a sequence of names"),
        (("mirror",), (2, 4, 6), "augmentation is 'mirror'; expected 'flip'"),
        (("flip", "flip"), (2, 4, 6), "each of flip and shift once"),
        (("shift:1", "shift:2"), (2, 4, 6), "each of flip and shift once"),
        (("shift:0",), (2, 4, 6), "shift of 1 to 3 pixels"),
        (("shift:4",), (2, 4, 6), "leaves images of 4 x 6 pixels"),
        (("shift:-1",), (2, 4, 6), "augmentation is 'shift:-1'"),
        (("shift:1.5",), (2, 4, 6), "augmentation is 'shift:1.5'"),
        ((3,), (2, 4, 6), "augmentation is 3"),
        (("flip",), (48,), r"points have shape \(48,\); expected \(C, H, W\)"),
        (("shift:1",), (4, 6), "is of images"),
        (("flip",), (8, 8, 3), r"look like \(H, W, C\)"),
    ],
    ids=str,
)
def test_what_is_no_augmentation_of_these_points_is_refused(names, shape, said):
    with pytest.raises(InputError, match=said):
        TrainingSet(torch.zeros(3, *shape), augmentations=names)

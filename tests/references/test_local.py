"""The local oracle: against the loops of tests/support/slow_patches.py, and its limits."""

import numpy as np
import pytest
import torch

import flowscope as fs
from flowscope.errors import InputError
from flowscope.references import LocalOracle
from flowscope.references.patches import PatchSchedule
from tests.support.cases import PATHS, cloud, states
from tests.support.slow_patches import local_mean

SHAPE = (2, 4, 5)


@pytest.fixture(scope="module")
def images():
    return cloud(6, SHAPE, dtype=torch.float64)


SLOW = [(2, False), (4, False), (1, True), (2, True), (4, True)]


@pytest.mark.parametrize(
    ("patch", "equivariant"),
    [(1, False), (3, False), (3, True), *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
)
def test_equals_the_loops(images, patch, equivariant):
    weights = np.array([1, 2, 1, 1, 3, 1.0])
    local = LocalOracle(fs.TrainingSet(images, weights=weights), patch=patch, equivariant=equivariant)
    for t in (0.2, 0.7):
        x = states(images, t, rows=2)
        for row, data in zip(x, local.denoise(x, t), strict=True):
            slow = local_mean(images.numpy(), row.numpy(), t, patch, "linear", weights, equivariant)
            np.testing.assert_allclose(data.numpy(), slow, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS[1:])
def test_equals_the_loops_on_every_path(images, path):
    x = states(images, 0.4, path, rows=1)
    slow = local_mean(images.numpy(), x[0].numpy(), 0.4, 3, path)
    np.testing.assert_allclose(LocalOracle(images, path, patch=3).denoise(x, 0.4)[0].numpy(), slow, atol=1e-9)


@pytest.mark.parametrize("equivariant", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_patch_as_large_as_the_image_is_the_oracle(images, equivariant):
    data = fs.TrainingSet(images, labels=[0, 1] * 3)
    whole, oracle = LocalOracle(data, patch=5, equivariant=equivariant), fs.Oracle(data)
    for t in (0.0, 0.5, 0.99):
        x = states(images, t)
        for y in (None, torch.tensor([0, 1, 1, 0])):
            assert torch.equal(whole(x, t, y), oracle(x, t, y)) and torch.equal(
                whole.score(x, t, y), oracle.score(x, t, y)
            )


@pytest.mark.parametrize("equivariant", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_patches_that_reach_every_border_are_the_oracle(images, equivariant):
    """Where all patches but the corners' hold the whole image, the centre's posterior is that of the oracle."""
    small = images[:, :, :, 1:]
    local, oracle = LocalOracle(small[:, :, :4], patch=3, equivariant=equivariant), fs.Oracle(small[:, :, 1:4, 1:4])
    x = states(small, 0.4)
    inner = oracle.denoise(x[:, :, 1:4, 1:4].contiguous(), 0.4)[:, :, 1, 1]
    if equivariant:  # the four pixels inside share their patches, so that the posterior knows more of them
        assert not torch.allclose(local.denoise(x, 0.4)[:, :, 2, 2], inner)
    else:
        torch.testing.assert_close(local.denoise(x, 0.4)[:, :, 2, 2], inner)


def test_a_side_by_t(images):
    local = LocalOracle(images, patch=lambda t: 5 if t < 0.3 else 3)
    x, t = states(images, np.array([0.1, 0.6, 0.29, 0.3])), torch.tensor([0.1, 0.6, 0.29, 0.3], dtype=torch.float64)
    assert local.patch_sizes(t).tolist() == [5, 3, 5, 3]
    whole, small = fs.Oracle(images), LocalOracle(images, patch=3)
    for row, (field, time) in enumerate(zip((whole, small, whole, small), t.tolist(), strict=True)):
        torch.testing.assert_close(local(x, t)[row], field(x[row : row + 1], time)[0])


def test_a_pixel_alone_is_an_oracle_of_its_values(images):
    local, x = LocalOracle(images, patch=1), states(images, 0.5)
    pixel = fs.Oracle(images[:, :, 2, 3].contiguous())
    torch.testing.assert_close(local(x, 0.5)[:, :, 2, 3], pixel(x[:, :, 2, 3].contiguous(), 0.5))


@pytest.mark.slow
def test_a_shifted_set_is_denoised_alike_where_the_border_is_far():
    """Equivariance: images and states moved by two pixels, within a frame of zeros wider than a patch."""
    frames = torch.zeros(2, 4, 1, 11, 11, dtype=torch.float64)
    small = cloud(4, (1, 3, 3), dtype=torch.float64)
    frames[0, :, :, 3:6, 3:6], frames[1, :, :, 5:8, 5:8] = small, small
    noise = cloud(2, (1, 11, 11), seed=5, dtype=torch.float64)
    x = 0.5 * frames[0, :2] + 0.5 * noise
    moved = x.roll((2, 2), (2, 3))
    local = [LocalOracle(images, patch=3, equivariant=True) for images in frames]
    inside = slice(3, 10)
    here, there = (field.denoise(x, 0.5) for field in local)
    torch.testing.assert_close(here[:, :, 1:10, 1:10], there[:, :, 1:10, 1:10])
    again = local[0].denoise(moved, 0.5)
    torch.testing.assert_close(again[:, :, inside, inside], here[:, :, 1:8, 1:8])


def test_the_usual_side_shrinks_with_noise():
    smooth = torch.nn.functional.avg_pool2d(cloud(400, (1, 16, 16)), 5, 1, 2)
    rough = cloud(400, (1, 16, 16))
    sides = {}
    for name, images in (("smooth", smooth), ("rough", rough)):
        schedule = PatchSchedule(fs.Oracle(images).support.law(), (1, 16, 16))
        sides[name] = [schedule(snr) for snr in (0.0, 1.0, 1e2, 1e4, 1e6)]
    assert sides["smooth"][0] == 9 and sides["smooth"][-1] == 3  # boxes of 5 are correlated up to 4 pixels away
    assert set(sides["rough"]) == {3}


def test_the_usual_side_is_that_of_the_noise_level_on_every_path():
    images = fs.load("digits", subset=50)
    linear, vp = (LocalOracle(images, path) for path in ("linear", "vp"))
    for t in (0.2, 0.5, 0.8):
        assert linear.patch_sizes(t) == vp.patch_sizes(vp.path.time_of_snr(linear.path(t).snr))


@pytest.mark.parametrize(
    ("points", "settings", "expected"),
    [
        ((6,), {}, r"points have shape \(6,\), and patches are of images"),
        ((1, 2, 8), {}, "sides? |of at least 4"),
        (SHAPE, {"patch": 6}, "patch is 6, and images are 4 x 5; expected at most 5"),
        (SHAPE, {"patch": 0}, "patch is 0; expected a whole number of at least 1"),
        (SHAPE, {"patch": 2.5}, "patch is 2.5; expected a whole number"),
        (SHAPE, {"patch": "large"}, "patch is 'large'; expected a whole number"),
        (SHAPE, {"equivariant": "yes"}, "equivariant is 'yes'; expected True or False"),
    ],
)
def test_what_cannot_be_used(points, settings, expected):
    with pytest.raises(InputError, match=expected):
        LocalOracle(cloud(5, points), **settings)


def test_a_function_that_gives_no_side_is_refused(images):
    local = LocalOracle(images, patch=lambda t: 9 if t > 0.5 else 3)
    local(states(images, 0.4), 0.4)
    with pytest.raises(InputError, match=r"patch at t = 0.75 is 9, and images are 4 x 5"):
        local(states(images, 0.75), 0.75)

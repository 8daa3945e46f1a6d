"""What stored numbers mean: read rightly, or refused with the option that answers; never guessed."""

import numpy as np
import pytest
import safetensors.numpy
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from flowscope.data import TrainingSet, load
from flowscope.errors import FlowscopeWarning
from tests.support.refusals import refused

RNG = np.random.default_rng(5)
PIXELS = RNG.integers(0, 256, (6, 10, 9, 3), dtype=np.uint8)  # (N, H, W, C)
FIRST = np.ascontiguousarray(np.moveaxis(PIXELS, -1, 1))


# scales and axes of floats


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_one_set_of_photographs_is_one_set_of_points_however_it_is_stored(dtype):
    points = load(PIXELS).points
    exact = FIRST.astype(dtype)
    for stored, options in (
        (exact, {"assume": "[0,255]"}),
        (exact.astype(np.float64) / 255, {"assume": "[0,1]"}),
        (np.moveaxis(exact, 1, -1), {"assume": "[0, 255]", "layout": "hwc"}),
        (points.astype(np.float64), {"assume": "[-1, 1]"}),
        (torch.from_numpy(exact), {"assume": "[0,255]"}),
        (points.astype(np.float64), {}),
    ):
        np.testing.assert_allclose(np.asarray(load(stored, **options).points), points, atol=1e-6)
    assert load(FIRST.astype(np.float32), assume="[0,255]").digest == load(PIXELS).digest


@pytest.mark.parametrize("most", [1, 255])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_floats_on_another_scale_are_asked_about(most, kind):
    values = kind((FIRST / 255 * most).astype(np.float32))
    said = refused(values, "say what they are")
    assert f"--assume '[0,{most}]'" in said and "assume='stored'" in said
    taken = load(values, assume="stored")
    assert taken.normalisation == "none"
    np.testing.assert_array_equal(np.asarray(taken.points), np.asarray(values))


def test_an_answer_that_cannot_be_is_refused():
    refused((FIRST / 255).astype(np.float32), r"assume is '\[0,255\]' and no value is above 1", assume="[0,255]")


def test_floats_on_a_file_are_asked_about_too(tmp_path):
    np.save(tmp_path / "x.npy", (FIRST / 255).astype(np.float32))
    np.savez(tmp_path / "x.npz", images=(FIRST / 255).astype(np.float32))
    torch.save(torch.from_numpy(FIRST / 255), tmp_path / "x.pt")
    safetensors.numpy.save_file({"images": (FIRST / 255).astype(np.float32)}, tmp_path / "x.safetensors")
    for path in tmp_path.iterdir():
        refused(path, "assume")
        np.testing.assert_allclose(np.asarray(load(path, assume="[0,1]").points), load(PIXELS).points, atol=1e-6)


def test_arrays_that_are_not_read_are_named(tmp_path):
    """ "label" for "labels" would else pass for a set without classes."""
    arrays = {"images": FIRST, "label": np.arange(len(FIRST)), "extra": np.zeros(3)}
    np.savez(tmp_path / "x.npz", **arrays)
    torch.save({name: torch.from_numpy(values) for name, values in arrays.items()}, tmp_path / "x.pt")
    safetensors.numpy.save_file(arrays, tmp_path / "x.safetensors")
    for path in sorted(tmp_path.iterdir()):
        with pytest.warns(FlowscopeWarning, match="was not read"):
            assert load(path).notes == (f"Of {path.name} was not read: extra, label.",)


@pytest.mark.parametrize(
    "values",
    [
        FIRST / 127.5 - 1,  # on [-1, 1]
        RNG.standard_normal((5, 3, 10, 10)),
        RNG.random((5, 16, 7)),  # a side below 8
        RNG.standard_normal((5, 16, 16)),
        RNG.random((5, 64)),
        RNG.random((5, 3, 7, 10)),  # a side below 8
        RNG.random((5, 2, 10, 10)),  # 2 channels
        RNG.random((5, 10, 10, 5)),
    ],
)
def test_what_does_not_look_like_images_on_another_scale_stays_as_it_is(values):
    np.testing.assert_array_equal(load(values).points, values)


@pytest.mark.parametrize("most", [1, 255])
def test_grey_images_without_an_axis_of_channels_are_asked_about(most):
    grey = FIRST[:, 0]
    said = refused(grey / 255 * most, rf"look like grey images and go .*--assume '\[0,{most}\]'")
    assert "assume='stored'" in said
    data = load(grey / 255 * most, assume=f"[0,{most}]")
    np.testing.assert_allclose(data.points, load(grey[:, None].astype(np.uint8)).points, atol=1e-6)
    assert data.shape == (1, *grey.shape[1:])
    assert load(grey / 255 * most, assume="stored").shape == grey.shape[1:]
    one = PIXELS[0] / 255 * most  # (10, 9, 3): one picture, which no one takes for ten points of 9 x 3
    refused(one, "assume=")
    refused(one, r"may be one image or several.*image\[None\]", assume=f"[0,{most}]")


def test_what_is_known_is_not_asked_about():
    bright = TrainingSet(RNG.random((5, 3, 10, 10)))
    assert load(bright, subset=3).shape == (3, 10, 10)
    assert load("digits", resize=9).shape == (1, 9, 9)


def test_channels_last_are_asked_about():
    values = PIXELS / 127.5 - 1
    said = refused(values, "layout")
    assert "--layout hwc" in said and "--layout chw" in said
    assert load(values, layout="hwc").shape == (3, 10, 9)
    assert load(values, layout="chw").shape == (10, 9, 3)
    assert load(values, assume="stored", layout="chw").shape == (10, 9, 3)


def test_an_answer_that_is_wrong_or_of_no_use_is_refused():
    refused(FIRST.astype(np.float32), "values go from 0 to 255", assume="[0,1]")
    refused(FIRST - 1.0, "values go from -1", assume="[0,255]")
    refused(PIXELS, "assume is given and the source holds uint8", assume="[0,255]")
    refused(PIXELS, "the source holds uint8 pixels.*leave normalise out", normalise="scale:2")
    refused(RNG.random((5, 4)), "expected images", assume="[0,1]")
    refused(FIRST * 2.0, r"assume is '\[-1,1\]' and values go from 0 to 510", assume="[-1,1]")
    refused(RNG.random((5, 4)), "expected one of", assume="[0,2]")
    refused("digits", "split is 'train' and 'digits' has no parts", split="train")


@pytest.mark.parametrize("shape", [(32, 32, 3), (32, 20, 1), (9, 8, 4), (3, 32, 32), (4, 8, 9)])
def test_one_image_of_pixels_is_not_taken_for_many(shape):
    image = RNG.integers(0, 256, shape, dtype=np.uint8)
    assert "image[None]" in refused(image, "may be one image or several")
    assert len(load(image[None], layout="hwc" if shape[2] < 8 else "chw")) == 1
    assert load(image[:, None], layout="chw").shape == (1, *shape[1:])


def test_one_grey_image_and_many_are_read_as_ever():
    assert load(PIXELS[:1, :, :, 0]).shape == (1, 10, 9)
    assert len(load(np.zeros((10, 9, 9), np.uint8))) == 10


def test_a_dataset_of_tensors_is_its_points():
    points, labels = torch.randn(7, 4), torch.arange(7) % 3
    assert load(TensorDataset(points)).shape == (4,)
    assert torch.equal(load(TensorDataset(points)).points, points)
    labelled = load(TensorDataset(points, labels))
    assert labelled.shape == (4,) and labelled.labels.tolist() == labels.tolist()
    refused(TensorDataset(points, points), "2 tensors")


# sizes


def test_files_and_arrays_of_the_same_pixels_are_the_same_points_at_any_size(tmp_path):
    pixels = RNG.integers(0, 256, (4, 33, 33, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    for options in ({"resize": 16}, {"resize": (12, 40)}, {"resize": 16, "grey": True}):
        assert load(pixels, **options).digest == load(tmp_path, **options).digest


def test_resized_pixels_are_those_of_a_float_resize_but_for_rounding():
    pixels = RNG.integers(0, 256, (4, 33, 33, 3), dtype=np.uint8)
    floats = load(load(pixels), resize=16).points
    assert np.abs(load(pixels, resize=16).points - floats).max() * 127.5 < 1

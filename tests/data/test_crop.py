"""The centre crop of ADM, to the pixel, and sizes that differ wherever images are read."""

import numpy as np
import pytest
from PIL import Image

from flowscope.cli.options import DataOptions
from flowscope.cli.study import load_beside
from flowscope.data import load
from flowscope.errors import InputError

RNG = np.random.default_rng(8)


def center_crop_arr(pil_image, image_size):
    """As guided-diffusion's image_datasets.py has it."""
    while min(*pil_image.size) >= 2 * image_size:
        pil_image = pil_image.resize(tuple(x // 2 for x in pil_image.size), resample=Image.BOX)
    scale = image_size / min(*pil_image.size)
    pil_image = pil_image.resize(tuple(round(x * scale) for x in pil_image.size), resample=Image.BICUBIC)
    arr = np.array(pil_image)
    crop_y = (arr.shape[0] - image_size) // 2
    crop_x = (arr.shape[1] - image_size) // 2
    return arr[crop_y : crop_y + image_size, crop_x : crop_x + image_size]


@pytest.mark.parametrize("shape", [(33, 70), (70, 33), (16, 16), (32, 32), (31, 64), (10, 13)])
def test_the_crop_is_that_of_guided_diffusion_for_files_and_arrays(shape, tmp_path):
    pixels = RNG.integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    theirs = np.stack([center_crop_arr(Image.fromarray(image), 16) for image in pixels])
    expected = load(theirs, layout="hwc")
    for source in (tmp_path, pixels):
        options = {} if source is tmp_path else {"layout": "hwc"}
        np.testing.assert_array_equal(load(source, resize=16, crop="center", **options).points, expected.points)
    floats = np.moveaxis(pixels, -1, 1).astype(np.float64)
    close = load(floats, resize=16, crop="center", assume="[0,255]").points
    np.testing.assert_allclose(
        close, expected.points, atol=(12 if min(shape) < 16 else 4) / 127.5
    )  # pixels are rounded, and clipped, at each step


def test_a_grey_crop_is_one_of_grey_images(tmp_path):
    pixels = RNG.integers(0, 256, (20, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    grey = center_crop_arr(Image.fromarray(pixels).convert("L"), 8)
    data = load(tmp_path, resize=8, crop="center", grey=True)
    np.testing.assert_array_equal(data.points, load(grey[None]).points)
    assert data.name == f"{tmp_path.name} (8x8, centre crop; grey)"


@pytest.mark.parametrize("options", [{}, {"resize": (8, 9)}])
def test_a_crop_needs_the_side_of_a_square(options):
    with pytest.raises(InputError, match="expected the side of the square: resize=N"):
        load(np.zeros((2, 20, 20), np.uint8), crop="center", **options)
    with pytest.raises(InputError, match="crop is 'centre'; expected one of center: did you mean 'center'"):
        load(np.zeros((2, 20, 20), np.uint8), crop="centre", resize=8)


@pytest.mark.parametrize("crop", [None, "center"])
def test_sources_beside_the_data_are_resized_as_the_data_are(crop, tmp_path):
    """--foreign and --held-out-data of study."""
    pixels = [RNG.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in ((33, 40), (20, 18), (16, 50))]
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    options = DataOptions(resize=(16, 16), crop=crop)
    data = load(RNG.integers(0, 256, (4, 20, 20, 3), dtype=np.uint8), resize=16, crop=crop)
    beside = load_beside(str(tmp_path), data, options)
    np.testing.assert_array_equal(beside.points, load(tmp_path, resize=16, crop=crop).points)

"""samples.png: samples of the averaged network during training."""

import io
import math

import numpy as np
import torch
from torch import Tensor

from flowscope.data.training_set import TrainingSet
from flowscope.networks.field import NetworkField
from flowscope.sampling import sample


def draw_samples(field: NetworkField, training_set: TrainingSet, count: int = 36, steps: int = 25) -> Tensor:
    """Draw `count` samples, class by class in turn, always from the same noise, so that two calls can be compared.

    A field that takes no labels, as of a training that drops all of them, is given none.

    An expert for a part of time is sampled over all times, as if it were trained there, too.
    """
    classes = training_set.classes if field.classes else ()
    y = None if not classes else torch.tensor([classes[i % len(classes)] for i in range(count)], device="cpu")
    return sample(field, n=count, shape=training_set.shape, steps=steps, y=y)


def display_range(training_set: TrainingSet) -> tuple[float, float]:
    """The values that are shown as black and as white."""
    from flowscope.figures.pictures import display_range as range_of

    return range_of(training_set.rows(slice(0, 256)).to(torch.float32).cpu().numpy())


def grid_png(images: np.ndarray, span: tuple[float, float], min_side: int = 48) -> bytes:
    """Draw images in one PNG, row by row in a square.

    Args:
        images: (n, C, H, W).
        span: the values that are shown as black and as white; others are clipped.
        min_side: pixels that the longer side of an image has at least; smaller images are enlarged.
    """
    from PIL import Image

    n, channels, height, width = images.shape
    values = to_pixels(images if channels == 3 else images[:, :1], span)
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, values.shape[1]), 255, np.uint8)
    for i, image in enumerate(values):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        sheet[top : top + height, left : left + width] = np.moveaxis(image, 0, -1)
    picture = Image.fromarray(_greys_or_colours(sheet))
    factor = max(1, math.ceil(min_side / max(height, width)))
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def to_pixels(images: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """Images as uint8, of values that are black and white; others are clipped, and pixels are rounded."""
    low, high = span
    return np.round(np.clip((images - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def png_of(pixels: np.ndarray) -> bytes:
    """A PNG of one image (C, H, W) of 1 or 3 channels of uint8."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(_greys_or_colours(np.moveaxis(pixels, 0, -1))).save(buffer, "PNG")
    return buffer.getvalue()


def _greys_or_colours(pixels: np.ndarray) -> np.ndarray:
    """(H, W) of one channel, (H, W, 3) of three."""
    return np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)

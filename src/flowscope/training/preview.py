"""samples.png: what the averaged network draws so far, one picture beside the other."""

import io
import math

import numpy as np
import torch

from flowscope.data.training_set import TrainingSet
from flowscope.networks.field import NetworkField
from flowscope.sampling import sample

COUNT, STEPS = 36, 25
SIDE = 48  # pixels a picture has at least


def sample_pictures(field: NetworkField, training_set: TrainingSet, count: int = COUNT) -> bytes:
    """A PNG of `count` samples, the classes in turn; always from the same noise, so that two can be compared.

    Where the field is an expert for a part of time, or undertrained, so are its samples: they are what it draws alone.
    """
    classes = training_set.classes
    y = None if not classes else torch.tensor([classes[i % len(classes)] for i in range(count)])
    found = sample(field, n=count, shape=training_set.shape, steps=STEPS, y=y)
    return grid_png(found.cpu().numpy(), display_range(training_set))


def display_range(training_set: TrainingSet) -> tuple[float, float]:
    """What is shown as black and as white."""
    from flowscope.figures.pictures import display_range as span

    return span(training_set.rows(slice(0, 256)).to(torch.float32).cpu().numpy())


def grid_png(images: np.ndarray, span: tuple[float, float]) -> bytes:
    """Images (n, C, H, W) as one PNG, row by row in a square; values outside `span` are clipped."""
    from PIL import Image

    n, channels, height, width = images.shape
    shown = images if channels == 3 else images[:, :1]
    low, high = span
    values = np.round(np.clip((shown - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, values.shape[1]), 255, np.uint8)
    for i, image in enumerate(values):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        sheet[top : top + height, left : left + width] = np.moveaxis(image, 0, -1)
    picture = Image.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet)
    factor = max(1, math.ceil(SIDE / max(height, width)))
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()

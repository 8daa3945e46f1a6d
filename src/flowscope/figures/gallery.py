"""A gallery of images as one figure."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from flowscope.errors import InputError
from flowscope.figures.finding import LETTERS, wrapped
from flowscope.figures.pictures import display_range
from flowscope.figures.style import LIGHT, Theme, new_figure, styled

CELL, GAP = 0.92, 0.04  # inches: an image with the space around it, and that space
NAMES = 1.35  # inches for the names of rows
TEXT = 0.15  # inches a line of a column's name takes


def gallery_figure(gallery: Any, theme: Theme = LIGHT) -> Figure:
    """A gallery's images in its rows and columns under their names.

    Args:
        gallery: with `images` (R, C, channels, H, W), `rows` and `columns`. Of one channel or two the first is shown
            as grey, of three or more the first three as red, green and blue. An image with NaN is left empty.
        theme: LIGHT or DARK.

    Raises:
        InputError: the points are no images (channels, H, W).
    """
    images = np.asarray(gallery.images, dtype=np.float64)
    if images.ndim != 5 or 0 in images.shape:
        raise InputError(f"the images of a gallery have shape {images.shape}; expected (R, C, channels, H, W)")
    rows, columns = images.shape[:2]
    above = [wrapped(name, LETTERS - 2) for name in gallery.columns]
    left, top = (
        (NAMES if any(gallery.rows) else 0.05),
        TEXT * max((1 + name.count("\n") for name in above), default=0) + 0.08,
    )
    with styled(theme):
        width, height = left + columns * CELL, top + rows * CELL
        figure = new_figure(width, height, layout=None)
        axes = figure.add_axes((0, 0, 1, 1))  # one for all, in inches: axes for each picture would take seconds to draw
        axes.set_axis_off()
        span = gallery_span(images)
        for (row, column), image in ((at, images[at]) for at in np.ndindex(rows, columns)):
            x, y = left + column * CELL, top + row * CELL
            if np.isfinite(image).all():
                place = (x, x + CELL - GAP, y + CELL - GAP, y)
                axes.imshow(_pixels(image, span), interpolation="nearest", extent=place, aspect="auto")
        for column, name in enumerate(above):
            x = left + column * CELL + (CELL - GAP) / 2
            axes.text(x, top - 0.04, name, fontsize=8, ha="center", va="bottom")
        for row, name in enumerate(gallery.rows):
            y = top + row * CELL + CELL / 2
            axes.text(left - 0.08, y, wrapped(name, 18), fontsize=8, ha="right", va="center")
        axes.set(xlim=(0, width), ylim=(height, 0))
    return figure


def gallery_span(images: np.ndarray) -> tuple[float, float]:
    """What is drawn black and white where some images are noise and some reach a little beyond the data's own range."""
    flat = images.reshape(images.shape[0] * images.shape[1], -1)
    flat = flat[np.isfinite(flat).all(1)]
    if len(flat) == 0:
        return 0.0, 1.0
    low, high = float(np.median(flat.min(1))), float(np.median(flat.max(1)))
    slack = 0.1 * max(abs(low), abs(high))
    inner = np.array([low + slack if low < 0 else low, high - slack])
    return display_range(inner if inner[1] > inner[0] else np.array([low, high]))


def _pixels(image: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """(H, W, 3) in [0, 1]."""
    shown = image[:3] if len(image) >= 3 else image[:1].repeat(3, axis=0)
    return np.clip((np.moveaxis(shown, 0, -1) - span[0]) / (span[1] - span[0]), 0, 1)

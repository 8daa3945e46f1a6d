"""The gallery of a finding: images in rows and columns under their names."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowscope.errors import InputError
from flowscope.figures.finding import NAME_LETTERS, wrapped
from flowscope.figures.pictures import display_range
from flowscope.figures.style import LIGHT, TITLE_INCHES, Theme, fitting_size, new_canvas, styled

CELL_INCHES = 0.92  # an image with the gap after it
GAP_INCHES = 0.04
ROW_NAME_INCHES = 1.35
NAME_LINE_INCHES = 0.15  # a line of a column's name
RANGE_SLACK = 0.1  # of the largest value: images may reach this far beyond the data's own range


def gallery_figure(gallery: Any, theme: Theme = LIGHT, title: str = "") -> Figure:
    """Draw a gallery's images in rows and columns under their names.

    Args:
        gallery: with `images` (R, C, channels, H, W), `rows` and `columns`. Of one channel or two the first is shown
            as grey, of three or more the first three as red, green and blue. An image with NaN is left empty.
        theme: LIGHT or DARK.
        title: what the images are of, written above them.

    Raises:
        InputError: the points are no images (channels, H, W).

    Example:
        >>> import flowscope as fs
        >>> from flowscope.figures import gallery_figure
        >>> from flowscope.studies.bench.side_by_side import side_by_side
        >>> oracle = fs.Oracle(fs.load("digits", subset=50))
        >>> type(gallery_figure(side_by_side(oracle, oracle, n=2, steps=3))).__name__
        'ShownFigure'
    """
    images = np.asarray(gallery.images, dtype=np.float64)
    if images.ndim != 5 or 0 in images.shape:
        raise InputError(f"the images of a gallery have shape {images.shape}; expected (R, C, channels, H, W)")
    names = [wrapped(name, NAME_LETTERS - 2) for name in gallery.columns]
    left = ROW_NAME_INCHES if any(gallery.rows) else 0.05
    above = TITLE_INCHES if title else 0.0
    top = above + NAME_LINE_INCHES * max((1 + name.count("\n") for name in names), default=0) + 0.08
    with styled(theme):
        rows, columns = images.shape[:2]
        width = left + columns * CELL_INCHES
        figure, axes = new_canvas(width, top + rows * CELL_INCHES)
        size = fitting_size(title, width - 2 * GAP_INCHES)
        axes.text(2 * GAP_INCHES, above, title, fontsize=size, ha="left", va="bottom")
        _draw_images(axes, images, left, top)
        for column, name in enumerate(names):
            x = left + column * CELL_INCHES + (CELL_INCHES - GAP_INCHES) / 2
            axes.text(x, top - 0.04, name, fontsize=8, ha="center", va="bottom")
        for row, name in enumerate(gallery.rows):
            y = top + row * CELL_INCHES + CELL_INCHES / 2
            axes.text(left - 0.08, y, wrapped(name, 18), fontsize=8, ha="right", va="center")
    return figure


def _draw_images(axes: Axes, images: np.ndarray, left: float, top: float) -> None:
    """Draw the finite images (R, C, channels, H, W) from this corner on."""
    span, size = gallery_span(images), CELL_INCHES - GAP_INCHES
    for row, column in np.ndindex(*images.shape[:2]):
        image, x, y = images[row, column], left + column * CELL_INCHES, top + row * CELL_INCHES
        if np.isfinite(image).all():
            extent = (x, x + size, y + size, y)
            axes.imshow(_pixels(image, span), interpolation="nearest", extent=extent, aspect="auto")


def gallery_span(images: np.ndarray) -> tuple[float, float]:
    """The values drawn as black and white, if some images are noise and some lie slightly outside the data's range."""
    flat = images.reshape(images.shape[0] * images.shape[1], -1)
    flat = flat[np.isfinite(flat).all(1)]
    if len(flat) == 0:
        return 0.0, 1.0
    low, high = float(np.median(flat.min(1))), float(np.median(flat.max(1)))
    slack = RANGE_SLACK * max(abs(low), abs(high))
    inner = np.array([low + slack if low < 0 else low, high - slack])
    return display_range(inner if inner[1] > inner[0] else np.array([low, high]))


def _pixels(image: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """The image as (H, W, 3) in [0, 1]."""
    shown = image[:3] if len(image) >= 3 else image[:1].repeat(3, axis=0)
    return np.clip((np.moveaxis(shown, 0, -1) - span[0]) / (span[1] - span[0]), 0, 1)

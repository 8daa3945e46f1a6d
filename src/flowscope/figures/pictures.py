"""Pictures of one probe over t: the state, the oracle's prediction of the data, and the heaviest training points."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowscope.figures.style import LIGHT, TITLE_INCHES, Theme, fitting_size, new_canvas, styled

COLUMN_INCHES = 0.92  # from picture to picture
PICTURE_INCHES = 0.86
LABEL_INCHES = 0.17  # above a picture
LEFT_INCHES, TOP_INCHES = 0.3, 0.1  # for the names of rows, and above the times
NEIGHBOUR_NAMES = ("nearest", "second", "third")


def picture_figure(pictures: Any, probe: int, theme: Theme = LIGHT, title: str = "") -> Figure:
    """Draw one probe: a column for each time, and rows for x_t, E[x1|x_t] and the neighbours under their weights.

    Args:
        pictures: a result with the fields of :class:`flowscope.curve.pictures.Pictures`.
        probe: the index of the probe.
        theme: LIGHT or DARK.
        title: what the pictures are of, written above them.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.curve.pictures import make_pictures
        >>> from flowscope.figures import picture_figure
        >>> pictures = make_pictures(fs.Oracle(fs.load("digits", subset=50)), times=3, probes=1)
        >>> type(picture_figure(pictures, 0)).__name__
        'ShownFigure'
    """
    neighbours = range(pictures.neighbours.shape[2])
    names = ["state", "prediction", *((*NEIGHBOUR_NAMES, f"{k + 1}th")[min(k, 3)] for k in neighbours)]
    span, row_inches = display_range(pictures.neighbours), PICTURE_INCHES + LABEL_INCHES
    with styled(theme):
        top = TOP_INCHES + (TITLE_INCHES if title else 0.0)
        width, height = LEFT_INCHES + len(pictures.t) * COLUMN_INCHES, top + len(names) * row_inches
        figure, axes = new_canvas(width, height)
        axes.text(0.1, TITLE_INCHES, title, fontsize=fitting_size(title, width - 0.2), ha="left", va="bottom")
        for column, t in enumerate(pictures.t):
            x, at = LEFT_INCHES + column * COLUMN_INCHES, (probe, column)
            labels = [f"t = {t:.2f}", "", *map(_label, pictures.weights[at], pictures.indices[at])]
            images = [pictures.states[at], pictures.predictions[at], *pictures.neighbours[at]]
            for row, (image, label) in enumerate(zip(images, labels, strict=True)):
                y = top + row * row_inches + LABEL_INCHES
                _draw_image(axes, image, span, (x, x + PICTURE_INCHES, y + PICTURE_INCHES, y))
                size, weight = (9, "bold") if row == 0 else (7.5, "normal")
                axes.text(
                    x + PICTURE_INCHES / 2, y - 0.03, label, fontsize=size, fontweight=weight, ha="center", va="bottom"
                )
        for row, name in enumerate(names):
            y = top + row * row_inches + LABEL_INCHES + PICTURE_INCHES / 2
            axes.text(LEFT_INCHES - 0.06, y, name, fontsize=9, rotation=90, ha="right", va="center")
    return figure


def _label(weight: float, index: int) -> str:
    return f"{format_weight(weight)}  #{index}"


def display_range(points: np.ndarray) -> tuple[float, float]:
    """The values drawn as black and as white: [0, 1] or [-1, 1] if the points lie in it, else their own range."""
    low, high = float(points.min()), float(points.max())
    if low >= 0 and high <= 1 and high > low:
        return 0.0, 1.0
    if low >= -1 and high <= 1:
        return -1.0, 1.0
    return low, max(high, low + 1e-12)


def format_weight(weight: float) -> str:
    """A weight in at most four characters."""
    return f"{weight:.2f}" if weight >= 0.005 else "<.01"


def _draw_image(
    axes: Axes, image: np.ndarray, span: tuple[float, float], place: tuple[float, float, float, float]
) -> None:
    """Draw an image.

    Args:
        axes: to draw on.
        image: (C, H, W) with C = 1 (grey) or 3.
        span: the values of black and white; values outside are clipped.
        place: left, right, bottom, top.
    """
    low, high = span
    channels = np.clip((np.moveaxis(image, 0, -1) - low) / (high - low), 0, 1)
    pixels = channels[..., 0] if channels.shape[-1] == 1 else channels
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=place, aspect="auto")

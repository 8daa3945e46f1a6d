"""Pictures of one probe over t: the state, the oracle's prediction of the data, the heaviest training points."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowscope.figures.style import LIGHT, Theme, new_figure, styled

CELL = 0.92  # inches from picture to picture, of which ...
WIDE = 0.86  # ... the picture takes these
LINE = 0.17  # inches above a picture for its weight
LEFT, TOP = 0.3, 0.1  # inches for the rows' names and above the times
ORDER = ("nearest", "second", "third")


def picture_figure(pictures: Any, probe: int, theme: Theme = LIGHT) -> Figure:
    """One probe's pictures: a column a time; rows x_t, E[x1|x_t] and the neighbours under their weights.

    Args:
        pictures: a result with the fields of :class:`flowscope.curve.pictures.Pictures`.
        probe: which of its probes.
        theme: LIGHT or DARK.
    """
    count = pictures.neighbours.shape[2]
    names = ["state", "prediction", *(ORDER[k] if k < len(ORDER) else f"{k + 1}th" for k in range(count))]
    span = display_range(pictures.neighbours)
    with styled(theme):
        width, height = LEFT + len(pictures.t) * CELL, TOP + len(names) * (WIDE + LINE)
        figure = new_figure(width, height, layout=None)
        axes = figure.add_axes((0, 0, 1, 1))  # one for all, in inches: axes for each picture would take seconds to draw
        axes.set_axis_off()
        for column, t in enumerate(pictures.t):
            x, at = LEFT + column * CELL, (probe, column)
            labels = [f"t = {t:.2f}", "", *map(_label, pictures.weights[at], pictures.indices[at])]
            images = [pictures.states[at], pictures.predictions[at], *pictures.neighbours[at]]
            for row, (image, label) in enumerate(zip(images, labels, strict=True)):
                y = TOP + row * (WIDE + LINE) + LINE
                _show(axes, image, span, (x, x + WIDE, y + WIDE, y))
                size, weight = (9, "bold") if row == 0 else (7.5, "normal")
                axes.text(x + WIDE / 2, y - 0.03, label, fontsize=size, fontweight=weight, ha="center", va="bottom")
        for row, name in enumerate(names):
            y = TOP + row * (WIDE + LINE) + LINE + WIDE / 2
            axes.text(LEFT - 0.06, y, name, fontsize=9, rotation=90, ha="right", va="center")
        axes.set(xlim=(0, width), ylim=(height, 0))
    return figure


def _label(weight: float, index: int) -> str:
    return f"{format_weight(weight)}  #{index}"


def display_range(points: np.ndarray) -> tuple[float, float]:
    """The values drawn as black and as white: [-1, 1] or [0, 1] where the points lie in them, else what they span."""
    low, high = float(points.min()), float(points.max())
    if low >= 0 and high <= 1 and high > low:
        return 0.0, 1.0
    if low >= -1 and high <= 1:
        return -1.0, 1.0
    return low, max(high, low + 1e-12)


def format_weight(weight: float) -> str:
    """A weight in three characters or four."""
    return f"{weight:.2f}" if weight >= 0.005 else "<.01"


def _show(axes: Axes, image: np.ndarray, span: tuple[float, float], place: tuple[float, float, float, float]) -> None:
    """image: (C, H, W), C = 1 (grey) or 3; what lies outside `span` is clipped. place: left, right, bottom, top."""
    low, high = span
    channels = np.clip((np.moveaxis(image, 0, -1) - low) / (high - low), 0, 1)
    pixels = channels[..., 0] if channels.shape[-1] == 1 else channels
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=place, aspect="auto")

"""Pictures of one probe over t: the state, the oracle's prediction of the data, the heaviest training points."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowscope.figures.style import LIGHT, Theme, new_figure, styled

CELL = 0.92  # inches a picture is wide
TITLE = 0.17  # and inches above it for its weight
LEFT, TOP = 0.3, 0.26  # inches for the rows' names and for the times
ORDER = ("nearest", "second", "third")


def picture_figure(pictures: Any, probe: int, theme: Theme = LIGHT) -> Figure:
    """One probe's pictures: a column a time; rows x_t, E[x1|x_t] and the neighbours under their weights.

    Args:
        pictures: a result with the fields of :class:`flowscope.studies.pictures.Pictures`.
        probe: which of its probes.
        theme: LIGHT or DARK.
    """
    count = pictures.neighbours.shape[2]
    names = ["state", "prediction", *(ORDER[k] if k < len(ORDER) else f"{k + 1}th" for k in range(count))]
    low, high = display_range(pictures.neighbours)
    with styled(theme):
        figure, grid = _grid(len(names), len(pictures.t))
        for column, t in enumerate(pictures.t):
            at = (probe, column)
            images = [pictures.states[at], pictures.predictions[at], *pictures.neighbours[at]]
            for axes, image in zip(grid[:, column], images, strict=True):
                _show(axes, (image - low) / (high - low))
            grid[0, column].set_title(f"t = {t:.2f}", fontsize=9, loc="center", pad=3)
            for axes, weight, index in zip(grid[2:, column], pictures.weights[at], pictures.indices[at], strict=True):
                label = f"{format_weight(weight)}  #{index}"
                axes.set_title(label, fontsize=7.5, loc="center", fontweight="normal", pad=2)
        for axes, name in zip(grid[:, 0], names, strict=True):
            axes.set_ylabel(name, fontsize=9)
    return figure


def _grid(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    """Axes in rows and columns, placed by hand: a layout engine takes seconds for so many."""
    width, height = LEFT + columns * CELL, TOP + rows * (CELL + TITLE)
    figure = new_figure(width, height, layout=None)
    grid = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={
            "left": LEFT / width,
            "right": 1,
            "top": 1 - TOP / height,
            "bottom": 0,
            "wspace": 0.08,
            "hspace": TITLE / CELL,
        },
    )
    return figure, np.asarray(grid)


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


def _show(axes: Axes, image: np.ndarray) -> None:
    """image: (C, H, W), C = 1 (grey) or 3; what lies outside [0, 1] is clipped."""
    channels = np.clip(np.moveaxis(image, 0, -1), 0, 1)
    pixels = channels[..., 0] if channels.shape[-1] == 1 else channels
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)

"""The figures of an audit: the worst pairs side by side with their difference, and how the ratios are spread."""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from flowscope.figures.gallery import gallery_figure
from flowscope.figures.style import (
    LIGHT,
    LONG_DASHES,
    Theme,
    add_title,
    escape_math,
    finish,
    name_of,
    new_figure,
    styled,
)

NAME_LETTERS = 24  # of a file's name beside a pair; its end tells more than its beginning
COLUMNS = ("sample", "training", "difference")


class PairGallery(NamedTuple):
    """Pairs as a gallery: the sample, the training image, and where they differ."""

    images: np.ndarray  # (R, 3, C, H, W)
    rows: list[str]
    columns: tuple[str, ...] = COLUMNS


def pairs_figure(result: Any, theme: Theme = LIGHT) -> Figure:
    """Draw the worst pairs: sample, nearest training image, and their difference, black where there is none.

    Args:
        result: an :class:`flowscope.auditing.Audit` of images, which has `shown` and `pairs`.
        theme: LIGHT or DARK.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.figures import pairs_figure
        >>> points = fs.load("digits", subset=50)
        >>> type(pairs_figure(fs.audit(points.rows(slice(0, 3)), points, planted=0))).__name__
        'ShownFigure'
    """
    return gallery_figure(pair_gallery(result), theme)


def pair_gallery(result: Any) -> PairGallery:
    """The pairs that an audit shows, with a name for each row."""
    own, near, (low, high) = result.shown
    own, near = (np.clip(images, low, high) for images in (own, near))
    images = np.stack([own, near, low + np.abs(own - near)], 1)
    return PairGallery(images, [_name(pair) for pair in result.pairs[: len(own)]])


def _name(pair: Any) -> str:
    """Who is beside whom, and how near."""
    sample, training = (escape_math(_short(name)) for name in (pair.sample, pair.training))
    near = f"{pair.ratio if np.isfinite(pair.ratio) else pair.distance:.2f}"
    return f"{near}: {sample} {'of' if pair.copy else 'by'} {training}"


def _short(name: str | int) -> str:
    if isinstance(name, int):
        return f"#{name}"
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return last if len(last) <= NAME_LETTERS else f"…{last[1 - NAME_LETTERS :]}"


def ratio_figure(result: Any, theme: Theme = LIGHT) -> Figure:
    """Draw which share of samples, and of held-out points, has a ratio d1/d2 below each value.

    Args:
        result: an :class:`flowscope.auditing.Audit`, which has `ratios` and `threshold`.
        theme: LIGHT or DARK.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.figures import ratio_figure
        >>> points = fs.load("gaussian:N=50,D=4")
        >>> type(ratio_figure(fs.audit(points.rows(slice(0, 3)), points))).__name__
        'ShownFigure'
    """
    with styled(theme):
        figure = new_figure(6.4, 3.4)
        axes = figure.add_subplot()
        for name, ratios, colour in zip(("samples", "held-out points"), result.ratios, theme.lines, strict=False):
            if len(ratios):
                share = np.arange(1, len(ratios) + 1) / len(ratios)
                axes.step(np.r_[0, ratios], np.r_[0, share], where="post", color=colour, label=name)
        axes.axvline(result.threshold, color=theme.ink, linestyle=LONG_DASHES, linewidth=1.2, label="copies lie below")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="d1/d2", ylabel="share of points below")
        axes.legend(loc="upper left")
        finish(axes, theme)
        add_title(figure, f"Audit against {name_of(result.training_set)}")
    return figure

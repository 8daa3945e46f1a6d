"""The style of figures: two themes with colours for the colour-blind, and output that repeats bit for bit."""

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

PNG_DPI = 160
STANDARD_ERRORS_95 = 1.96  # bands and bars reach as many standard errors to each side: 95 % intervals
TITLE_SIZE, TITLE_LETTERS_PER_INCH = 11, 10.5  # points, and how many letters of them fit
TITLE_INCHES = 0.26  # the room of a title above images
MAX_TITLE_LETTERS = 60  # of the name of a set
BAND_ALPHA = 0.22  # opacity of the bands
LONG_DASHES = (0, (6, 2))
BOUNDARY_LINES: dict[str, Any] = {"half": "-", "saturation": LONG_DASHES}  # the lines of the oracle's boundaries
BOUNDARY_WIDTH = 1.2  # of these lines, in points


@dataclass(frozen=True)
class Theme:
    """The colours of one scheme. Lines follow Okabe and Ito's palette, with a contrast of at least 3 to 1.

    Example:
        >>> from flowscope.figures import DARK, LIGHT
        >>> type(LIGHT).__name__, LIGHT == DARK
        ('Theme', False)
    """

    ground: str
    ink: str
    faint: str
    navigation: str
    transition: str
    refinement: str
    lines: tuple[str, ...]


LIGHT = Theme(
    ground="#ffffff",
    ink="#1b1f24",
    faint="#8a929b",
    navigation="#dbe9f6",
    transition="#fbe7c6",
    refinement="#ffffff",
    lines=("#0072b2", "#c25400", "#008a64", "#a3508a", "#8a6d00", "#3f3f9f", "#5c6670", "#b3123e"),
)
DARK = Theme(
    ground="#15191e",
    ink="#e6e9ec",
    faint="#7d8790",
    navigation="#1d3147",
    transition="#463817",
    refinement="#15191e",
    lines=("#56b4e9", "#ff8c42", "#2fc79a", "#dd8fc4", "#f0e442", "#a9a9ff", "#b8c0c8", "#ff7f96"),
)


@contextmanager
def styled(theme: Theme) -> Iterator[None]:
    """Use matplotlib's defaults with the theme's rules within the block; the caller's settings come back after it."""
    rules = {
        "axes.edgecolor": theme.faint,
        "axes.facecolor": theme.ground,
        "axes.grid": True,
        "axes.labelcolor": theme.ink,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "figure.facecolor": theme.ground,
        "font.size": 10,
        "grid.alpha": 0.25,
        "grid.color": theme.faint,
        "legend.edgecolor": "none",
        "legend.facecolor": theme.ground,
        "legend.framealpha": 0.8,
        "legend.fontsize": 9.5,
        "lines.linewidth": 1.9,
        "svg.fonttype": "path",
        "svg.hashsalt": "flowscope",
        "text.color": theme.ink,
        "xtick.color": theme.ink,
        "ytick.color": theme.ink,
    }
    with matplotlib.style.context(rules, after_reset=True):
        yield


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """An empty figure of that many inches, without pyplot."""
    figure = ShownFigure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


class ShownFigure(Figure):
    """A Figure that a notebook shows, also where nobody has told it to draw matplotlib's figures."""

    def _repr_png_(self) -> bytes:
        return to_png(self)


def new_canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of that many inches, with axes that count in inches from its top left corner.

    Pictures share these axes: axes for each of them would take seconds to draw.
    """
    figure = new_figure(width, height, layout=None)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_autoscale_on(False)
    return figure, axes


def draw_band(axes: Axes, x: Any, low: Any, high: Any, colour: str, alpha: float = BAND_ALPHA) -> None:
    """Fill the interval from `low` to `high` along x."""
    axes.fill_between(x, low, high, color=colour, alpha=alpha, linewidth=0)


def to_png(figure: Figure, dpi: int = PNG_DPI) -> bytes:
    """The figure as PNG bytes; equal figures give equal bytes under one version of matplotlib.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from flowscope.figures import to_png
        >>> to_png(Figure())[1:4]
        b'PNG'
    """
    return _save(figure, "png", dpi=dpi, metadata={"Software": None})


def to_svg(figure: Figure) -> bytes:
    """The figure as SVG bytes, without a date and with text as outlines, so that no font is needed.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from flowscope.figures import to_svg
        >>> b"<svg" in to_svg(Figure())
        True
    """
    return _save(figure, "svg", metadata={"Date": None, "Creator": None})


def _save(figure: Figure, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    # ticks and text are made at drawing time, and must not take the caller's settings then; a letter that the font
    # lacks is drawn as a box, which needs no warning
    with styled(LIGHT), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format=form, facecolor=figure.get_facecolor(), **options)
    return buffer.getvalue()


def finish(axes: Axes, theme: Theme) -> None:
    """Hide the marks of ticks, since the grid shows them; set on the axes, as drawing may make further ticks."""
    axes.tick_params(
        which="both",
        length=0,
        labelsize=9.5,
        labelcolor=theme.ink,
        grid_color=theme.faint,
        grid_alpha=0.25,
        grid_linewidth=0.8,
    )


def escape_math(text: str) -> str:
    """A name for matplotlib: dollar signs are escaped, and control characters, which no SVG may hold, replaced."""
    return "".join(c if c.isprintable() else "?" for c in text).replace("$", r"\$")


def name_of(training_set: Mapping[str, Any]) -> str:
    """What a figure calls a training set; of a path its last part."""
    name = re.split(r"[/\\]", str(training_set["name"]))[-1]
    return escape_math(name if len(name) <= MAX_TITLE_LETTERS else name[: MAX_TITLE_LETTERS - 1] + "…")


def title_of(training_set: Mapping[str, Any]) -> str:
    """What a figure is of: the set, its number of points and their dimension.

    Args:
        training_set: of a result: its name, N and shape.

    Example:
        >>> from flowscope.figures import title_of
        >>> title_of({"name": "digits", "N": 1797, "shape": [1, 8, 8]})
        'digits: N = 1,797, D = 64'
    """
    return f"{name_of(training_set)}: N = {training_set['N']:,}, D = {math.prod(training_set['shape']):,}"


def add_title(figure: Any, title: str, **place: float) -> None:
    """Set what a figure is of above it, in letters as large as its width allows; nothing if it is ""."""
    if not title:
        return
    figure.suptitle(title, ha="left", fontsize=fitting_size(title, figure.get_figwidth()), **place)


def fitting_size(title: str, inches: float) -> float:
    """The size of the letters of a title, in points, so that it takes no more than these inches."""
    return TITLE_SIZE * min(1.0, TITLE_LETTERS_PER_INCH * inches / max(1, len(title)))

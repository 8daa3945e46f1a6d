"""How figures look: colours that the colour-blind can tell apart, two schemes, output that repeats bit for bit."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

PNG_DPI = 160


@dataclass(frozen=True)
class Theme:
    """Colours of one scheme. Lines are after Okabe and Ito's palette, at 3 to 1 or more on every ground."""

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
    lines=("#0072b2", "#c25400", "#008a64", "#a3508a", "#8a6d00", "#3f3f9f"),
)
DARK = Theme(
    ground="#15191e",
    ink="#e6e9ec",
    faint="#7d8790",
    navigation="#1d3147",
    transition="#463817",
    refinement="#15191e",
    lines=("#56b4e9", "#ff8c42", "#2fc79a", "#dd8fc4", "#f0e442", "#a9a9ff"),
)


@contextmanager
def styled(theme: Theme) -> Iterator[None]:
    """matplotlib's defaults with our rules, for the time of the block; the caller's settings come back after it."""
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
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure, dpi: int = PNG_DPI) -> bytes:
    """The figure as PNG bytes; equal figures give equal bytes under one version of matplotlib."""
    return _saved(figure, "png", dpi=dpi, metadata={"Software": None})


def to_svg(figure: Figure) -> bytes:
    """The figure as SVG bytes, with text as outlines (no font is needed) and without a date."""
    return _saved(figure, "svg", metadata={"Date": None, "Creator": None})


def _saved(figure: Figure, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    # ticks and text that are made at drawing time take no settings of the caller's; a letter that the font lacks is
    # drawn as a box, and nobody need be warned of it
    with styled(LIGHT), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format=form, facecolor=figure.get_facecolor(), **options)
    return buffer.getvalue()


def finish(axes: Axes, theme: Theme) -> None:
    """Ticks without marks, since the grid shows where they are. Said on the axes: drawing may make further ticks."""
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
    """A name in which dollar signs are dollar signs, and control characters, which no SVG may hold, are gone."""
    return "".join(c if c.isprintable() else "?" for c in text).replace("$", r"\$")

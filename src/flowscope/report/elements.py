"""What the macros of `templates/macros.html.j2` print: tables, images, downloads. Nothing here is HTML."""

import base64
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flowscope.figures import DARK, LIGHT, Theme, to_png, to_svg
from flowscope.report.formatting import Crossing, interval

MAX_UNBROKEN = 20  # characters; a cell's text up to this length stays on one line
IMAGE_DPI = 110  # of PNG images in a page

Draw = Callable[[Theme], Any]


class Cell(NamedTuple):
    """A table's cell.

    Attributes:
        text: what is shown.
        key: what the cell is sorted by; None sorts last.
        href: where the text leads, or None.
    """

    text: str
    key: float | str | None
    href: str | None = None

    @property
    def kind(self) -> str:
        """The CSS class: a number, a name on one line, or words that may be broken."""
        return "number" if not isinstance(self.key, str) else kind_of(self.text)


class Table(NamedTuple):
    """A table; the first cell of a row names the row."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    sortable: bool = False


class ThemedImage(NamedTuple):
    """One image in two colour schemes, as data URIs, with what it shows in words."""

    light: str
    dark: str
    alt: str


class Download(NamedTuple):
    """A file kept in the page: its name and its data URI."""

    name: str
    href: str


def kind_of(text: str) -> str:
    """The CSS class of a cell with that text."""
    return "name" if len(text) <= MAX_UNBROKEN else "words"


def name_cell(text: str) -> Cell:
    """A cell of text that is sorted by itself."""
    return Cell(text, text)


def number_cell(value: float, form: Callable[[float], str]) -> Cell:
    """A number's cell; a number that is not finite has no key and sorts last."""
    return Cell(form(float(value)), float(value) if math.isfinite(value) else None)


def interval_cell(crossing: Crossing) -> Cell:
    """The interval of a crossing, sorted by its lower end."""
    return Cell(interval(crossing), crossing.low if math.isfinite(crossing.low) else None)


def data_uri(data: bytes, content_type: str) -> str:
    """Bytes as a data URI."""
    return f"data:{content_type};base64,{base64.b64encode(data).decode()}"


def themed_svg(draw: Draw, alt: str) -> ThemedImage:
    """The figure that `draw` makes in a theme, as SVG."""
    light, dark = (data_uri(to_svg(draw(theme)), "image/svg+xml") for theme in (LIGHT, DARK))
    return ThemedImage(light, dark, alt)


def themed_png(draw: Draw, alt: str) -> ThemedImage:
    """The figure that `draw` makes in a theme, as PNG."""
    light, dark = (data_uri(to_png(draw(theme), IMAGE_DPI), "image/png") for theme in (LIGHT, DARK))
    return ThemedImage(light, dark, alt)


def figure_and_files(name: str, draw: Draw, alt: str) -> tuple[ThemedImage, dict[str, bytes | str]]:
    """The figure of a page, and the same figure as the files <name>.png and <name>.svg.

    Args:
        name: of the files, without their ending.
        draw: makes the figure in a theme.
        alt: what the figure shows, in words.
    """
    figure = draw(LIGHT)
    svg = to_svg(figure)
    light, dark = (data_uri(source, "image/svg+xml") for source in (svg, to_svg(draw(DARK))))
    return ThemedImage(light, dark, alt), {f"{name}.png": to_png(figure), f"{name}.svg": svg}

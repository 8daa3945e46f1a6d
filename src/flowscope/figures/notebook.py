"""Figures in notebooks: images that the page holds itself."""

import base64
import html

from matplotlib.figure import Figure

from flowscope.figures.style import to_svg


def html_image(figure: Figure, alt: str) -> str:
    """A figure as an <img> element that holds its own data.

    Args:
        figure: to show.
        alt: its text for readers who cannot see it.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from flowscope.figures import html_image
        >>> html_image(Figure(), "an empty figure")[:27]
        '<img alt="an empty figure" '
    """
    image = base64.b64encode(to_svg(figure)).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/svg+xml;base64,{image}">'

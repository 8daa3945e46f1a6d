"""Figures: arrays in, matplotlib figures out.

No other room imports matplotlib. It is used by its object API, without pyplot's global state, and the caller's settings
stay as they are. A result is read by its fields, so any object with the same fields can be drawn.
"""

from flowscope.figures.audit import pairs_figure, ratio_figure
from flowscope.figures.curve import path_figure, stage_figure
from flowscope.figures.finding import drawn_panels, finding_figure, what_of
from flowscope.figures.gallery import gallery_figure
from flowscope.figures.notebook import html_image
from flowscope.figures.pictures import picture_figure
from flowscope.figures.style import DARK, LIGHT, Theme, title_of, to_png, to_svg
from flowscope.figures.sweep import sweep_figure

__all__ = [
    "DARK",
    "LIGHT",
    "Theme",
    "drawn_panels",
    "finding_figure",
    "gallery_figure",
    "html_image",
    "pairs_figure",
    "path_figure",
    "picture_figure",
    "ratio_figure",
    "stage_figure",
    "sweep_figure",
    "title_of",
    "to_png",
    "to_svg",
    "what_of",
]

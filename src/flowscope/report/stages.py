"""The page of a stage curve."""

import math
import os
from pathlib import Path
from typing import Any

from flowscope.core.files import write_files
from flowscope.curve.pictures import Pictures
from flowscope.figures import DARK, LIGHT, stage_figure, to_png, to_svg
from flowscope.report import words
from flowscope.report.markup import paragraph, section, text, themed_image
from flowscope.report.model import ModelPart, model_sections
from flowscope.report.numbers import percent
from flowscope.report.page import page
from flowscope.report.pictures import pictures_section
from flowscope.report.schedule import schedule_section
from flowscope.report.tables import classes_section, notes_section, prediction_section, provenance_section
from flowscope.report.values import values_section


def stages_files(
    curve: Any, pictures: Pictures | None = None, model: ModelPart | None = None
) -> dict[str, bytes | str]:
    """stages.png, stages.svg and index.html, by name.

    Args:
        curve: a :class:`flowscope.StageCurve`, or an object with its fields. Its own `to_files` makes CSV and JSON.
        pictures: of the same oracle; None leaves pictures and training images out, and the page says so.
        model: what is to be shown of a model that was trained on the same points.
    """
    figure = stage_figure(curve, LIGHT)
    svg = to_svg(figure)
    sections = (
        _summary(curve),
        _figure(curve, svg, to_svg(stage_figure(curve, DARK))),
        model_sections(model),
        pictures_section(curve, pictures),
        schedule_section(curve),
        section("guidance", "Guidance", paragraph(words.guidance(curve))),
        section("floor", "What no network can beat", paragraph(*words.floor(curve))),
        section("check", "Self-check", paragraph(*words.self_check(curve))),
        prediction_section(curve),
        classes_section(curve),
        values_section(curve),
        notes_section(curve),
        provenance_section(curve),
    )
    given = "conditional on the label" if curve.conditional else "unconditional"
    subtitle = f"{words.describe(curve.training_set)}; {curve.settings['path']} path, {given}"
    html = page(f"flowscope stages: {words.name_of(curve)}", subtitle, "\n".join(filter(None, sections)))
    return {"stages.png": to_png(figure), "stages.svg": svg, "index.html": html}


def write_stages(
    curve: Any, directory: str | os.PathLike[str], pictures: Pictures | None = None, model: ModelPart | None = None
) -> Path:
    """Write `stages_files` into a folder, whole or not at all; returns the path of index.html.

    Raises:
        OutputError: the files cannot be written.
    """
    write_files(directory, stages_files(curve, pictures, model))
    return Path(directory) / "index.html"


def _summary(curve: Any) -> str:
    cards = words.stage_cards(curve)
    items = "".join(
        f'<li class="{name}">{name}<strong>{text(times)}</strong><span>{text(meaning)}</span></li>'
        for name, times, meaning in cards
    )
    shown = f'{_bar(curve)}<ul class="cards">{items}</ul>' if cards else ""
    return section("summary", "The two stages", paragraph(words.verdict(curve)), shown, paragraph(words.steps(curve)))


def _bar(curve: Any) -> str:
    """Time from 0 to 1 as one bar in the stages' colours."""
    half = curve.half.t
    end = curve.saturation.t if math.isfinite(curve.saturation.t) else 1.0
    parts = [("navigation", 0.0, half), ("transition", half, end), ("refinement", end, 1.0)]
    parts = [(name, low, high) for name, low, high in parts if high > low]
    rects = "".join(
        f'<rect class="{name}" x="{1000 * low:.1f}" y="0" width="{1000 * (high - low):.1f}" height="10"/>'
        for name, low, high in parts
    )
    label = "Time from 0 to 1: " + ", ".join(f"{name} {percent(high - low)}" for name, low, high in parts)
    shape = 'class="bar" viewBox="0 0 1000 10" preserveAspectRatio="none"'
    return f'<svg {shape} role="img" aria-label="{text(label)}">{rects}</svg>'


def _figure(curve: Any, light: bytes, dark: bytes) -> str:
    image = themed_image(light, dark, "image/svg+xml", words.alt_text(curve))
    caption = (
        "Means over the probes; bands and bars are 95 % intervals. Top: how much of the posterior the heaviest "
        "training point carries, and by how much it leads the second. Middle: how far the oracle velocity is from the "
        "conditional target that a network is trained on. Bottom: how many training points share the posterior."
    )
    return section("curve", "The curve", f"<figure>{image}<figcaption>{text(caption)}</figcaption></figure>")

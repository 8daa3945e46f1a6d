"""The section with pictures, or the sentence that says why there are none."""

from typing import Any

import numpy as np

from flowscope.curve.pictures import Pictures
from flowscope.data.pixels import is_image
from flowscope.figures import DARK, LIGHT, picture_figure, to_png
from flowscope.report.markup import paragraph, scrolling, section, text, themed_image
from flowscope.report.numbers import time

DPI = 110


def pictures_section(curve: Any, pictures: Pictures | None) -> str:
    """A figure for each probe, in a frame that scrolls sideways by itself."""
    if pictures is None:
        shape = curve.training_set["shape"]
        none = f"There are no pictures: points of shape {' × '.join(map(str, shape))} are not images."
        left_out = "Pictures were left out of this page, and no training image is in it."
        return section("pictures", "Pictures", paragraph(left_out if is_image(shape) else none))
    intro = (
        "A training image x1 behind noise, x_t, at growing t; what the oracle predicts of the data there, E[x1 | x_t]; "
        "and the training images that carry most of the posterior, under their weight and their position in the set. "
        "While navigation lasts the prediction is an average of many images."
    )
    probes = (_probe(pictures, k) for k in range(len(pictures.probes)))
    return section("pictures", "Pictures", paragraph(intro, pictures.note), *probes)


def _probe(pictures: Pictures, k: int) -> str:
    light, dark = (to_png(picture_figure(pictures, k, theme), DPI) for theme in (LIGHT, DARK))
    name = f"Training point {pictures.probes[k]}" + (f", class {pictures.names[k]}" if pictures.names else "")
    when = _takeover(pictures, k)
    times = ", ".join(time(float(t)) for t in pictures.t)
    alt = f"{name}: state, prediction and nearest training images at t = {times}. {when}"
    image = themed_image(light, dark, "image/png", alt)
    caption = f"<figcaption>{text(name)}. {text(when)}</figcaption>"
    return f"<figure>{scrolling(name, image, 'wide')}{caption}</figure>"


def _takeover(pictures: Pictures, k: int) -> str:
    """When one training point first has half of the weight, and which."""
    found = np.flatnonzero(pictures.weights[k, :, 0] >= 0.5)
    if len(found) == 0:
        return "The heaviest weight stays below 0.5 at the times shown."
    t, index = pictures.t[found[0]], pictures.indices[k, found[0], 0]
    which = "this point itself" if index == pictures.probes[k] else f"training point {index}"
    return f"Of the times shown, t = {time(float(t))} is the first with a weight above 0.5: on {which}."

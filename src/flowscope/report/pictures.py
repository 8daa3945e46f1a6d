"""Pictures of probes for a stage page, or the reason why there are none."""

from typing import Any, NamedTuple

import numpy as np

from flowscope.curve.pictures import Pictures
from flowscope.data.pixels import is_image
from flowscope.figures import picture_figure, title_of
from flowscope.report.elements import ThemedImage, themed_png
from flowscope.report.formatting import time


class ProbePicture(NamedTuple):
    """The picture of one probe: the training point's name, and from when on one point has half of the weight."""

    name: str
    takeover: str
    image: ThemedImage


class PicturesPart(NamedTuple):
    """What the section of pictures shows.

    Attributes:
        probes: a picture each; empty where pictures were left out.
        note: what a reader must know about the channels, or "".
        image_shape: whether the points are images at all.
        shape: of a point, as text.
    """

    probes: list[ProbePicture]
    note: str
    image_shape: bool
    shape: str


def pictures_part(curve: Any, pictures: Pictures | None) -> PicturesPart:
    """The section for a curve; `pictures` is None where they were left out."""
    shape = curve.training_set["shape"]
    probes = (
        []
        if pictures is None
        else [_probe(pictures, k, title_of(curve.training_set)) for k in range(len(pictures.probes))]
    )
    note = "" if pictures is None else pictures.note
    return PicturesPart(probes, note, is_image(shape), " × ".join(map(str, shape)))


def _probe(pictures: Pictures, k: int, title: str) -> ProbePicture:
    name = f"Training point {pictures.probes[k]}" + (f", class {pictures.names[k]}" if pictures.names else "")
    when = _takeover(pictures, k)
    times = ", ".join(time(float(t)) for t in pictures.t)
    alt = f"{name}: state, prediction and nearest training images at t = {times}. {when}"
    return ProbePicture(name, when, themed_png(lambda theme: picture_figure(pictures, k, theme, title), alt))


def _takeover(pictures: Pictures, k: int) -> str:
    """When one training point first has half of the weight, and which."""
    found = np.flatnonzero(pictures.weights[k, :, 0] >= 0.5)
    if len(found) == 0:
        return "The heaviest weight stays below 0.5 at the times shown."
    t, index = pictures.t[found[0]], pictures.indices[k, found[0], 0]
    which = "this point itself" if index == pictures.probes[k] else f"training point {index}"
    return f"Of the times shown, t = {time(float(t))} is the first with a weight above 0.5: on {which}."

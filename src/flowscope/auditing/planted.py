"""Planted copies: training points, changed in known ways, that an audit has to find.

They are made of the user's own training points. So how well copies of each kind are found is measured where it counts:
on this data, in this space, by this rule.
"""

import io
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from flowscope.data.channels import channel_statistics
from flowscope.data.pixels import is_image
from flowscope.data.training_set import TrainingSet

NOISE = 0.1  # of the standard deviation of the values
SHIFT = 3  # pixels, to the right and down
CROP = 16  # a side is cropped by this part of it at every edge
PATCH = 2  # the side of the patch that is replaced is this part of the image's
PICTURE_CHANNELS = (1, 3)  # of images that a codec takes
LEAST_SIDE = 8  # pixels, from which on an image has room for a shift of 3 pixels


class Values(NamedTuple):
    """The values of a training set: the least and largest, and the standard deviation."""

    low: float
    high: float
    spread: float


Change = Callable[[Tensor, Values], Tensor]


def exact(points: Tensor, values: Values) -> Tensor:
    """The points as they are."""
    return points


def noise(points: Tensor, values: Values) -> Tensor:
    """Gaussian noise of a tenth of the set's standard deviation, the same for the same points."""
    rng = np.random.default_rng(0)
    return points + NOISE * values.spread * torch.from_numpy(rng.standard_normal(points.shape, np.float32))


def jpeg50(images: Tensor, values: Values) -> Tensor:
    """Saved as JPEG at quality 50, and read again."""
    from PIL import Image

    span = values.high - values.low
    pixels = (255 * (images - values.low) / span).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    found = []
    for picture in pixels:
        stream = io.BytesIO()
        Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(stream, "JPEG", quality=50)
        found.append(np.asarray(Image.open(stream)).reshape(picture.shape))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 255 * span + values.low


def flip(images: Tensor, values: Values) -> Tensor:
    """The mirror image, left for right."""
    return images.flip(-1)


def shift3(images: Tensor, values: Values) -> Tensor:
    """Moved by 3 pixels to the right and down; the edge is repeated."""
    moved = functional.pad(images, (SHIFT, 0, SHIFT, 0), mode="replicate")
    return moved[:, :, : images.shape[2], : images.shape[3]]


def crop(images: Tensor, values: Values) -> Tensor:
    """The middle seven eighths, at the size of the whole."""
    rows, columns = (max(1, round(side / CROP)) for side in images.shape[2:])
    middle = images[:, :, rows:-rows, columns:-columns]
    return functional.interpolate(middle, images.shape[2:], mode="bilinear", antialias=True)


def _brighter(share: float) -> Change:
    def change(images: Tensor, values: Values) -> Tensor:
        return (values.low + (1 + share) * (images - values.low)).clamp_max(values.high)

    return change


def patch(images: Tensor, values: Values) -> Tensor:
    """A quarter of the image, in its middle, replaced by that of another image; by grey where there is none."""
    height, width = (side // PATCH for side in images.shape[2:])
    rows = slice((images.shape[2] - height) // 2, (images.shape[2] + height) // 2)
    columns = slice((images.shape[3] - width) // 2, (images.shape[3] + width) // 2)
    changed = images.clone()
    grey = (values.low + values.high) / 2
    changed[:, :, rows, columns] = images.roll(1, 0)[:, :, rows, columns] if len(images) > 1 else grey
    return changed


PICTURE_KINDS: Mapping[str, Change] = {
    "exact": exact,
    "jpeg50": jpeg50,
    "flip": flip,
    "shift3": shift3,
    "crop": crop,
    "brightness15": _brighter(0.15),
    "brightness25": _brighter(0.25),
    "patch": patch,
}
VECTOR_KINDS: Mapping[str, Change] = {"exact": exact, "noise": noise}


def kinds_for(training_set: TrainingSet) -> Mapping[str, Change]:
    """The kinds of copies that a set can have: those of pictures, or those of other points."""
    shape = training_set.shape
    picture = is_image(shape) and shape[0] in PICTURE_CHANNELS and min(shape[1:]) >= LEAST_SIDE
    return PICTURE_KINDS if picture else VECTOR_KINDS


def originals(training_set: TrainingSet, group: Tensor, most: int, seed: int) -> np.ndarray:
    """The positions of at most `most` training points, of groups of near-copies that differ."""
    first = np.unique(group.numpy(), return_index=True)[1]
    drawn = np.random.default_rng((seed, len(training_set))).permutation(len(first))[:most]
    return np.sort(first[drawn])


def values_of(training_set: TrainingSet) -> Values:
    """Black and white of a set, its least and largest value unless they lie on [0, 1] or [-1, 1]; and its spread."""
    found = channel_statistics(training_set)
    low, high = min(ends[0] for ends in found.range), max(ends[1] for ends in found.range)
    if low >= -1 and high <= 1:
        low, high = (0.0 if low >= 0 and high > low else -1.0), 1.0
    spread = float(np.sqrt(np.square(found.standard_deviation).mean()))
    return Values(low, max(high, low + 1e-12), spread)

"""Augmentations: flips and shifts that a network is given beside the images, as transformations rather than copies.

A set of N images with K transformations is a law of K N points: point k N + i is the k-th transformation of image i,
made when it is read. Transformation 0 leaves an image as it is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowscope.errors import InputError

FLIP = "flip"
KNOWN = "'flip' for the horizontal mirror image, 'shift:K' for all shifts by up to K pixels each way"
CHANNELS_LAST = (1, 3, 4)  # sizes of a last axis behind two equal ones by which an image (H, W, C) is told


@dataclass(frozen=True)
class Augmentations:
    """The transformations of an image (C, H, W): shifts, each as it is and mirrored.

    Attributes:
        flip: whether images are also mirrored.
        shift: K, pixels by which images are shifted each way at most; their edges are repeated.

    Example:
        >>> import torch
        >>> from flowscope.data.augmentations import Augmentations
        >>> image = torch.arange(3.0).reshape(1, 1, 1, 3)
        >>> Augmentations(flip=True).apply(image, np.array([1])).flatten().tolist()
        [2.0, 1.0, 0.0]
    """

    flip: bool = False
    shift: int = 0

    @property
    def shifts(self) -> list[tuple[int, int]]:
        """(down, right) of every shift, that by nothing first."""
        moves = range(-self.shift, self.shift + 1)
        return sorted(((down, right) for down in moves for right in moves), key=lambda s: s != (0, 0))

    def __len__(self) -> int:
        """K, how many transformations there are; 1 for none but the image itself."""
        return (1 + self.flip) * (2 * self.shift + 1) ** 2

    @property
    def names(self) -> tuple[str, ...]:
        """The names by which they are asked for, in one order."""
        return (FLIP,) * self.flip + ((f"shift:{self.shift}",) if self.shift else ())

    def apply(self, images: Tensor, which: np.ndarray) -> Tensor:
        """Transform images (n, C, H, W), each by the transformation of its number in `which` (n,)."""
        numbers = np.unique(which)
        if len(numbers) == 1:
            return self._one(images, int(numbers[0]))
        out = torch.empty_like(images)
        for number in numbers.tolist():
            rows = torch.from_numpy(np.flatnonzero(which == number)).to(images.device)
            out[rows] = self._one(images[rows], number)
        return out

    def _one(self, images: Tensor, number: int) -> Tensor:
        shifts = self.shifts
        down, right = shifts[number % len(shifts)]
        if (down, right) != (0, 0):
            for axis, move in ((2, down), (3, right)):
                at = torch.arange(images.shape[axis], device=images.device) - move
                images = images.index_select(axis, at.clamp_(0, images.shape[axis] - 1))
        return images.flip(3) if number >= len(shifts) else images


def check_augmentations(names: Any, shape: tuple[int, ...]) -> Augmentations:
    """The augmentations of these names.

    Args:
        names: "flip", "shift:K", each once at most.
        shape: of a point.

    Raises:
        InputError: a name is unknown or comes twice, points are no images, or a shift leaves the image.
    """
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise InputError(f"augmentations are {names!r}; expected a sequence of names, such as ('flip', 'shift:2')")
    flips, shifts = [n for n in names if n == FLIP], [n for n in names if isinstance(n, str) and _SHIFT.fullmatch(n)]
    if unknown := [n for n in names if n not in flips and n not in shifts]:
        raise InputError(f"augmentation is {unknown[0]!r}; expected {KNOWN}")
    if len(flips) > 1 or len(shifts) > 1:
        raise InputError(f"augmentations are {tuple(names)!r}; expected each of flip and shift once at most")
    if names:
        _check_images(shape, names[0])
    shift = int(shifts[0].partition(":")[2]) if shifts else 0
    if shifts and not 1 <= shift < min(shape[1:]):
        raise InputError(
            f"augmentation {shifts[0]!r} leaves images of {shape[1]} x {shape[2]} pixels; expected a shift of 1 to "
            f"{min(shape[1:]) - 1} pixels: leave it out for none"
        )
    return Augmentations(bool(flips), shift)


_SHIFT = re.compile("shift:[0-9]{1,6}")


def _check_images(shape: tuple[int, ...], name: Any) -> None:
    if len(shape) != 3:
        raise InputError(
            f"augmentation {name!r} is of images and points have shape {shape}; expected (C, H, W): one grey image is "
            "image[None]"
        )
    if shape[0] == shape[1] and shape[0] not in CHANNELS_LAST and shape[2] in CHANNELS_LAST:
        raise InputError(
            f"augmentation {name!r} is of images (C, H, W) and points have shape {shape}, which look like (H, W, C); "
            "expected channels first: points.permute(0, 3, 1, 2)"
        )

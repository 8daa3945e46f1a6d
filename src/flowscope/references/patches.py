r"""Patches: which pixels a pixel sees, and how many of them matter at a noise level.

A patch of side p about the pixel (i, j) holds the rows from i - (p-1)//2 to i + p//2 and the columns about j alike,
where they lie in the image: at the border it is cut off. A patch as large as the image is the whole image for every
pixel.

**The usual side at a noise level.** Published local denoisers fit it to a network (arXiv 2412.20292 and 2411.19339).
Here it follows from the training set alone: pixels matter as far as the best linear denoiser looks (arXiv 2509.09672
finds that networks look as far). Let S be the mean power spectrum of the points about their mean, each padded with
zeros to twice its sides, and snr = (alpha/sigma)^2. The best linear filter that is the same at every pixel has the
kernel

    k = F^-1[ S / (snr S + 1) ]

up to a factor. The side is the smallest odd one whose square about the centre holds PATCH_ENERGY of |k|^2, and at least
LEAST_SIDE. With noise alone k is the autocovariance of the images and the patch is wide; without noise k is a point.

Of 0.9, 0.95, 0.98, 0.99 and 0.995 the share 0.98 was chosen by how well held-out digits and MNIST are denoised
(docs/references.md has the numbers of MNIST; benchmarks/patch_sides.py measures them).
"""

import math

import numpy as np
import torch
from torch import Tensor

from flowscope.core.settings import check_count
from flowscope.core.surroundings import undisturbed
from flowscope.data.pixels import is_image
from flowscope.errors import InputError
from flowscope.oracle.law import Law

PATCH_ENERGY = 0.98  # share of the filter's energy that the usual patch holds
LEAST_SIDE = 3  # pixels, of the usual patch: a pixel alone has no surroundings
BLOCK_BYTES = 16 << 20  # bytes of spectra made at a time, at most


def check_images(shape: tuple[int, ...]) -> None:
    """Refuse points that are no images.

    Raises:
        InputError: the shape is not (C, H, W) with sides of at least 4.
    """
    if not is_image(shape):
        raise InputError(
            f"points have shape {shape}, and patches are of images; expected (C, H, W) with H and W of at least 4: "
            "give images or latents in that form"
        )


def check_patch(patch: object, shape: tuple[int, ...], what: str = "patch") -> int:
    """Check the side of a patch, in pixels.

    Raises:
        InputError: it is no whole number from 1 to the longer side of the image.
    """
    side = check_count(patch, what)
    if side > max(shape[1:]):
        raise InputError(
            f"{what} is {side}, and images are {shape[1]} x {shape[2]}; expected at most {max(shape[1:])}, which is "
            "the whole image: that of the oracle"
        )
    return side


def reach(patch: int) -> tuple[int, int]:
    """How many pixels before and after its own a patch holds."""
    return (patch - 1) // 2, patch // 2


def window(patch: int, side: int) -> Tensor:
    """(side, side) float64, 1 where the patch of a row's pixel holds the column's pixel, else 0."""
    before, after = reach(patch)
    offset = torch.arange(side)[None] - torch.arange(side)[:, None]
    return ((offset >= -before) & (offset <= after)).to(torch.float64)


class PatchSchedule:
    """The usual side of a patch at any noise level.

    Args:
        law: all points of the set; two passes over them.
        shape: (C, H, W).
    """

    @undisturbed
    def __init__(self, law: Law, shape: tuple[int, ...]) -> None:
        self.largest = max(shape[1:])
        padded = [2 * side for side in shape[1:]]
        rows = max(1, BLOCK_BYTES // (16 * shape[0] * math.prod(padded)))
        mean = torch.zeros(law.support.dimension, dtype=torch.float64, device=law.support.device)
        for block in law.blocks(rows):
            mean += block.log_weights.exp() @ block.points
        spectrum = torch.zeros(padded, dtype=torch.float64, device=mean.device)
        for block in law.blocks(rows):
            power = torch.fft.fft2((block.points - mean).reshape(-1, *shape), s=padded).abs().square().mean(1)
            spectrum += torch.einsum("n,nhw->hw", block.log_weights.exp(), power)
        self.spectrum = spectrum.cpu() / math.prod(shape[1:])
        distance = [np.minimum(np.arange(side), side - np.arange(side)) for side in padded]
        self._distance = torch.from_numpy(np.maximum.outer(*distance)).flatten()

    def __call__(self, snr: float, share: float = PATCH_ENERGY) -> int:
        """The side in pixels at (alpha/sigma)^2 that holds a share of the filter's energy."""
        kernel = torch.fft.ifft2(self.spectrum / (snr * self.spectrum + 1)).real
        energy = torch.bincount(self._distance, weights=kernel.square().flatten()).cumsum(0)
        radius = int((energy < share * energy[-1]).sum())
        return min(max(LEAST_SIDE, 2 * radius + 1), self.largest)

r"""How far apart two images are once shift, crop, brightness and contrast are undone.

Both images are shrunk to 32 pixels at most and blurred a little, so that noise of a codec does not count. A window of
the sample is held against the training image: as it is, and zoomed in by an eighth, as if the sample were a crop of it.
In each the window is moved by up to 3 pixels, and brightness and contrast are fitted. With the correlation rho of the
values,

    d = sqrt(2 (1 - rho)),   least over shifts and zooms,

which is the distance of the two windows without their means and of length 1. It lies between 0, the same image, and 2.
"""

import torch
from torch import Tensor
from torch.nn import functional

from flowscope.data.near_copies import blur, shrink

SIDE = 32  # pixels, at most, at which images are aligned
BLUR = 1.0  # pixels there, the standard deviation
REACH = 3  # pixels there: shifts looked at, to every side
MARGIN = 16  # a crop that is looked at leaves out this part of a side, at every edge
FLAT = 1e-6  # of its largest value: a window of less contrast has no pattern
PAIRS = 256  # of images that are aligned at a time


def prepare(images: Tensor) -> Tensor:
    """Images (n, C, H, W) as they are aligned: float32, shrunk and blurred."""
    return blur(shrink(images.to("cpu", torch.float32), SIDE), BLUR)


def aligned_distances(samples: Tensor, points: Tensor) -> Tensor:
    """The distances (n,) float64 of prepared samples (n, C, h, w) to prepared points, pair by pair."""
    pairs = zip(samples.split(PAIRS), points.split(PAIRS), strict=True)
    return torch.cat([torch.empty(0, dtype=torch.float64), *(_aligned(*pair) for pair in pairs)])


def reach(height: int, width: int) -> int:
    """How many pixels images of that size are shifted by, at most."""
    return min(REACH, min(height, width) // 8)


def zoomed(points: Tensor) -> list[Tensor]:
    """The images themselves, and their middle part at the same size, where it is another one."""
    rows, columns = (round(side / MARGIN) for side in points.shape[2:])
    if not rows or not columns:
        return [points]
    middle = points[:, :, rows:-rows, columns:-columns]
    return [points, functional.interpolate(middle, points.shape[2:], mode="bilinear")]


def _aligned(samples: Tensor, points: Tensor) -> Tensor:
    far, height, width = reach(*samples.shape[2:]), *samples.shape[2:]
    window = samples[:, :, far : height - far, far : width - far]
    best = torch.full((len(samples),), -1.0, dtype=torch.float64)
    for other in zoomed(points):
        rows, columns = _best_shift(window, other)
        reached = other[
            torch.arange(len(other))[:, None, None, None],
            torch.arange(other.shape[1])[:, None, None],
            rows[:, None, None, None] + torch.arange(window.shape[2])[:, None],
            columns[:, None, None, None] + torch.arange(window.shape[3]),
        ]
        best = torch.maximum(best, _correlation(window, reached))
    return (2 * (1 - best)).clamp_min(0).sqrt()


def _best_shift(window: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """The (n,) rows and columns at which each window (n, C, h, w) correlates most with its point (n, C, H, W)."""
    height, width = window.shape[2:]
    shifts = tuple(whole - part + 1 for whole, part in zip(points.shape[2:], (height, width), strict=True))
    points = points - points.mean((1, 2, 3), keepdim=True)  # nothing large cancels
    centred, size = window - window.mean((1, 2, 3), keepdim=True), points.shape[2:]
    spectrum = (torch.fft.rfft2(points) * torch.fft.rfft2(centred, s=tuple(size)).conj()).sum(1)
    products = torch.fft.irfft2(spectrum, s=tuple(size))[:, : shifts[0], : shifts[1]]
    pooled = [functional.avg_pool2d(v.sum(1, keepdim=True), (height, width), 1)[:, 0] for v in (points, points**2)]
    count = height * width
    spread = pooled[1] * count - (pooled[0] * count) ** 2 / (count * points.shape[1])
    rating = products / spread.clamp_min(torch.finfo(torch.float32).tiny).sqrt()
    place = torch.where(spread > 0, rating, -torch.inf).flatten(1).argmax(1)
    return place // shifts[1], place % shifts[1]


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """(n,) float64 correlation of the values of windows pair by pair; 0 where one has no pattern, 1 where equal."""
    a, b = a.flatten(1).to(torch.float64), b.flatten(1).to(torch.float64)
    equal = (a == b).all(1)
    flat = [v.std(1, correction=0) <= FLAT * v.abs().amax(1) for v in (a, b)]
    a, b = (functional.normalize(v - v.mean(1, keepdim=True), dim=1) for v in (a, b))
    rho = torch.where(flat[0] | flat[1], 0.0, (a * b).sum(1).clamp(-1, 1))
    return torch.where(equal, 1.0, rho)

"""The space "pixels" of images: candidates by blurred pixels, then distances after alignment.

Candidates are found by the descriptors of :mod:`flowscope.data.near_copies`, which neither brightness nor contrast
changes: those of a sample and of its mirror image, as they are and moved by a 16th of an image to each corner. The
CANDIDATES nearest groups of near-copies are then aligned (:mod:`flowscope.auditing.alignment`), each by its nearest
image. d1 is the least of these distances, and d2 the next, but for near-copies that alignment alone shows.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from flowscope.auditing.alignment import aligned_distances, prepare
from flowscope.auditing.matches import Matches
from flowscope.core.memory import check_memory
from flowscope.data.near_copies import NEAR, SIDE, describe, near_copies, shrink
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError

CANDIDATES = 6  # groups of near-copies that a sample is aligned with
MOVES = ((0, 0), (0, 2), (2, 0), (2, 2), (1, 1))  # corners of a window in an image with a border of 1 pixel
TWIN = 0.5  # of the farthest candidate: a second one nearer than that is looked at for a near-copy of the first
BLOCK_ROWS = 4096  # training images that are described at a time
DISTANCE_BYTES = 64 << 20  # of distances from samples to all training images that are held at a time


class PixelIndex:
    """A training set of images in the space "pixels"; see the module.

    Args:
        training_set: of images.

    Raises:
        InputError: there are fewer than two images that are no near-copies of one another.
    """

    space = "pixels"
    described = "blurred pixels, at most 16 to a side, without mean and contrast"
    method = "blurred pixels, least over mirror images, shifts, crops, brightness and contrast"

    def __init__(self, training_set: TrainingSet) -> None:
        s = self.training_set = training_set
        self.group = torch.from_numpy(near_copies(s))
        self._groups = check_groups(self.group, s)
        check_memory(4 * len(s) * s.shape[0] * SIDE**2, "descriptors of images", "take a part of them (subset)")
        self._described = torch.cat([describe(block)[0].flatten(1) for _, block in s.blocks(BLOCK_ROWS)])

    def __call__(self, samples: Tensor) -> Matches:
        """Match images (B, C, H, W)."""
        step = max(1, DISTANCE_BYTES // (4 * 4 * len(self.training_set)))
        found = [self._match(part) for part in samples.split(step)]
        return Matches(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def features(self, points: Tensor | None = None) -> Tensor:
        """The descriptors (B, d) of images, or (N, d) of the training images."""
        return self._described if points is None else describe(points)[0].flatten(1)

    def _match(self, images: Tensor) -> Matches:
        points = self._candidates(images)
        own, near = prepare(images), prepare(self.training_set.rows(points.flatten().numpy()))
        each = own.repeat_interleave(points.shape[1], 0)
        plain, mirrored = (aligned_distances(x, near).reshape(points.shape) for x in (each, each.flip(-1)))
        distances = torch.minimum(plain, mirrored)
        first = distances.argmin(1, keepdim=True)  # the first of equal ones
        nearest = distances.gather(1, first)[:, 0]
        others = distances.scatter(1, first, torch.inf)
        hidden = (others.amin(1) < TWIN * distances.amax(1)).nonzero()[:, 0]
        if len(hidden):
            images = near.reshape(*points.shape, *near.shape[1:])[hidden]
            others[hidden] = others[hidden].masked_fill(twins(images, first[hidden, 0]), torch.inf)
        return Matches(nearest, others.amin(1), *(v.gather(1, first)[:, 0] for v in (points, mirrored < plain)))

    def _candidates(self, images: Tensor) -> Tensor:
        """(B, k) the nearest image of each of the nearest groups, in the order of the groups."""
        least = torch.minimum(self._least(images), self._least(images.flip(-1)))
        groups = self.group.expand(len(images), -1)
        whole = torch.full((len(images), self._groups), torch.inf).scatter_reduce(1, groups, least, "amin")
        chosen = whole.topk(min(CANDIDATES, self._groups), dim=1, largest=False).indices.sort(1).values
        return _first_of(least == whole.gather(1, groups), groups, self._groups).gather(1, chosen)

    def _least(self, images: Tensor) -> Tensor:
        """(B, N) the least distance of the descriptors, over the places that images are moved to."""
        least = torch.full((len(images), len(self.training_set)), torch.inf)
        for moved in _moved(shrink(images.to("cpu", torch.float32), SIDE)):
            distances = torch.cdist(describe(moved)[0].flatten(1), self._described)
            torch.minimum(least, distances, out=least)
        return least


def twins(images: Tensor, first: Tensor) -> Tensor:
    """(B, k) which of the prepared candidates (B, k, C, h, w) are near-copies of the first one once they are aligned.

    The distances e_1 <= e_2 <= ... of the others to it are taken: the last one with e_i < 0.3 e_(i+1) ends them. So
    training images that were shifted or cropped, which blurred pixels do not tell, hide no copy either.
    """
    count, k = images.shape[:2]
    one = images[torch.arange(count), first].repeat_interleave(k, 0)
    rest = images.flatten(0, 1)
    apart = torch.minimum(*(aligned_distances(x, rest).reshape(count, k) for x in (one, one.flip(-1))))
    ordered = apart.scatter(1, first[:, None], -1).sort(dim=1).values[:, 1:]
    gap = ordered[:, :-1] < NEAR * ordered[:, 1:]
    last = torch.where(gap, torch.arange(1, k - 1), 0).amax(1, keepdim=True) if k > 2 else first[:, None] * 0
    bound = ordered.gather(1, (last - 1).clamp_min(0))
    return (apart <= bound) & (last > 0) & (torch.arange(k) != first[:, None])


def check_groups(group: Tensor, training_set: TrainingSet) -> int:
    """The number of groups of near-copies.

    Raises:
        InputError: there is one alone.
    """
    groups = int(group.max()) + 1
    if groups < 2:
        what = "is one point" if len(group) == 1 else f"is {len(group)} near-copies of one point"
        raise InputError(
            f"{training_set.name} {what}; expected at least two that are no near-copies, since a copy is told by how "
            "much farther the next one is: give more points"
        )
    return groups


def _moved(images: Tensor) -> Iterator[Tensor]:
    """The images, moved to each corner by a pixel and as they are."""
    height, width = images.shape[2:]
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    for row, column in MOVES:
        yield padded[:, :, row : row + height, column : column + width]


def _first_of(is_least: Tensor, groups: Tensor, count: int) -> Tensor:
    """(B, groups) the first position in each group at which `is_least` (B, N) holds."""
    position = torch.where(is_least, torch.arange(is_least.shape[1]), is_least.shape[1])
    found = torch.full((len(position), count), is_least.shape[1], dtype=torch.int64)
    return found.scatter_reduce(1, groups, position, "amin")

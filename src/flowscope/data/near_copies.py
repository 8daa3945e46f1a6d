r"""Near-copies: which points of a set are one image, saved again, brightened, shifted a little or mirrored.

Images are compared by descriptors: shrunk to 16 pixels at most, blurred, without their mean and of length 1, so that
neither brightness nor contrast counts. The distance d_ij of two images is that of their descriptors, or of one and the
other's mirror image, whichever is less. They are near-copies if

    d_ij < 0.3 min(s_i, s_j),   s_i the distance of image i to the nearest other image that is no near-copy.

To find s_i, the distances e_1 <= e_2 <= ... of image i to its 8 nearest images are taken: the last k of them with
e_k < 0.3 e_(k+1) ends the near-copies, and s_i = e_(k+1). So images of one kind are no near-copies unless they are far
nearer to each other than to any other image, and up to 7 near-copies of an image are known as such. In sets of more
than 2,048 images the neighbours are those among 2,048 of them. Near-copies of near-copies are one group. Points that
are no images, and images without contrast, have exact copies alone. `benchmarks/near_copies.py` measures how many
near-copies are found, and how many images are taken for some.
"""

import warnings
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from flowscope.core.memory import check_memory
from flowscope.data.distinct import find_distinct
from flowscope.data.pixels import is_image
from flowscope.data.split import split
from flowscope.data.training_set import TrainingSet, as_training_set
from flowscope.errors import FlowscopeWarning

NEAR = 0.3  # of the distance to an image that is no near-copy: below that, an image is one
NEIGHBOURS = 8  # of an image, that this distance is looked for among
SIDE = 16  # pixels of a descriptor, at most
BLUR = 1.0  # pixels of a descriptor, the standard deviation
SAMPLE = 2048  # images, at most, among which neighbours are looked for
DIRECTIONS = 12  # principal directions in which pairs are looked for
FLAT = 1e-3  # of the median contrast: an image with less has no pattern to be known by
BLOCK_ROWS = 4096  # images, or pairs, that are worked on at a time
DISTANCE_BYTES = 64 << 20  # of distances that are held at a time
ROUNDING = 1e-5  # relative, of descriptors and their distances

_found: WeakKeyDictionary[TrainingSet, np.ndarray] = WeakKeyDictionary()  # a study asks several times


def near_copies(points: Any) -> np.ndarray:
    """Group the near-copies of a set.

    Args:
        points: a TrainingSet, or points (N, *shape). Labels and weights do not count.

    Returns:
        (N,) the group of each point, numbered from 0 in the order of their first points.

    Raises:
        InputError: the descriptors, 1 KB for each image and channel, do not fit into memory.

    Example:
        >>> import numpy as np
        >>> from flowscope.metrics import near_copies
        >>> images = np.random.default_rng(0).standard_normal((4, 1, 8, 8))
        >>> near_copies(np.concatenate([images, 1.1 * images[:2] + 0.1, images[2:3, :, :, ::-1]]))
        array([0, 1, 2, 3, 0, 1, 2])
    """
    s = as_training_set(points)
    if s not in _found:
        _found[s] = _group(s)
    return _found[s]


def hold_out(training_set: TrainingSet, held_out: int, seed: int = 0) -> tuple[TrainingSet, TrainingSet | None]:
    """Set points aside by :func:`flowscope.data.split.split`, with near-copies on one side.

    Args:
        training_set: the whole set.
        held_out: how many points to set aside, at most; 0 for none.
        seed: of the draw.

    Raises:
        InputError: as for `split` and :func:`near_copies`.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.metrics import hold_out
        >>> train, rest = hold_out(fs.load("digits"), 97)
        >>> len(train), len(rest)
        (1700, 97)
    """
    if not held_out:
        return split(training_set, held_out, seed)
    groups = near_copies(training_set)
    stay, aside = split(training_set, held_out, seed, groups)
    copies = len(groups) - len(np.unique(groups))
    if copies:
        note = f"{copies} points are copies or near-copies of others, and are on the same side of the split as those."
        stay.notes += (note,)
        for said in stay.notes[len(training_set.notes) :]:
            warnings.warn(f"{training_set.name}: {said}", FlowscopeWarning, stacklevel=2)
    return stay, aside


def _group(s: TrainingSet) -> np.ndarray:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    first, exact = find_distinct(s)
    pairs = _near_pairs(s, first) if is_image(s.shape) and len(first) > 1 else np.empty((0, 2), np.int64)
    graph = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(first), len(first)))
    group = connected_components(graph, directed=False)[1][exact]
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def _near_pairs(s: TrainingSet, positions: np.ndarray) -> np.ndarray:
    """(P, 2) pairs of near-copies among the points at these positions, by their places there."""
    check_memory(8 * len(positions) * s.shape[0] * SIDE**2, "descriptors of images", "take a part of them (subset)")
    blocks = [positions[start : start + BLOCK_ROWS] for start in range(0, len(positions), BLOCK_ROWS)]
    described, contrast = (torch.cat(parts) for parts in zip(*(describe(s.rows(b)) for b in blocks), strict=True))
    patterned = (contrast > FLAT * contrast.median()).nonzero()[:, 0]  # contrast of rounding alone is 0
    if len(patterned) < 2:
        return np.empty((0, 2), np.int64)
    images = described[patterned]
    radius, directions = NEAR * _distances_to_others(images), _directions(images)
    found = [_pairs_within(images, radius, directions, mirrored) for mirrored in (False, True)]
    return patterned.numpy()[np.concatenate(found)]


def describe(images: Tensor) -> tuple[Tensor, Tensor]:
    """Descriptors (n, C, h, w) float32 of images, blurred and of length 1, and the contrast (n,) of the images."""
    x = blur(shrink(images.to("cpu", torch.float32), SIDE), BLUR)
    size = x.flatten(1).norm(dim=1)
    x = x - x.mean((1, 2, 3), keepdim=True)
    contrast = x.flatten(1).norm(dim=1)
    contrast = torch.where(contrast > ROUNDING * size, contrast, 0.0)
    return x / contrast.clamp_min(torch.finfo(torch.float32).tiny)[:, None, None, None], contrast


def shrink(images: Tensor, side: int) -> Tensor:
    """Images (n, C, H, W) with no side longer than `side` pixels, by antialiased interpolation."""
    scale = side / max(images.shape[2:])
    if scale >= 1:
        return images
    size = [max(1, round(length * scale)) for length in images.shape[2:]]
    return functional.interpolate(images, size, mode="bilinear", antialias=True)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Images (n, C, H, W), blurred by a Gaussian of that standard deviation in pixels, at most 1."""
    channels, reach = images.shape[1], torch.arange(-3.0, 4.0)
    kernel = torch.exp(-(reach**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(channels, 1, 1, -1)
    x = functional.pad(images, (3, 3, 3, 3), mode="replicate")
    return functional.conv2d(functional.conv2d(x, kernel, groups=channels), kernel.mT, groups=channels)


def _flat(images: Tensor, mirrored: bool) -> Tensor:
    """(n, d) the descriptors of some images, or of their mirror images."""
    return (images.flip(-1) if mirrored else images).flatten(1)


def _distances_to_others(images: Tensor) -> Tensor:
    """(n,) s_i, the distance of each image to the nearest one that is no near-copy."""
    sample = torch.from_numpy(np.linspace(0, len(images) - 1, min(SAMPLE, len(images))).astype(np.int64))
    count, some = min(NEIGHBOURS, len(sample) - 1), images[sample].flatten(1)
    found = []
    for rows in torch.arange(len(images)).split(max(1, DISTANCE_BYTES // (4 * len(sample)))):
        distances = torch.minimum(*(torch.cdist(_flat(images[rows], mirrored), some) for mirrored in (False, True)))
        distances[rows[:, None] == sample] = torch.inf  # an image is no neighbour of its own
        near = distances.topk(count, dim=1, largest=False).values
        gap = near[:, :-1] < NEAR * near[:, 1:]
        ends = torch.where(gap, torch.arange(1, count), 0).amax(1, keepdim=True) if count > 1 else near.long() * 0
        found.append(near.gather(1, ends)[:, 0])
    return torch.cat(found)


def _directions(images: Tensor) -> Tensor:
    """(d, k) orthonormal directions in which descriptors differ most: distances along them are never larger."""
    some = images[:: -(-len(images) // SAMPLE)].flatten(1)
    _, _, directions = torch.linalg.svd(some - some.mean(0), full_matrices=False)
    return directions[:DIRECTIONS].T


def _pairs_within(images: Tensor, radius: Tensor, directions: Tensor, mirrored: bool) -> np.ndarray:
    """(P, 2) pairs of images nearer than the radius of either, the second one mirrored or not."""
    from scipy.spatial import cKDTree

    plain, other = (
        torch.cat([_flat(part, m) @ directions for part in images.split(BLOCK_ROWS)]).double().numpy()
        for m in (False, mirrored)
    )
    around = cKDTree(other).query_ball_point(plain, radius.double().numpy() * (1 + ROUNDING) + ROUNDING)
    first = np.repeat(np.arange(len(images)), [len(found) for found in around])
    pairs = np.stack([first, np.concatenate([*around, []]).astype(np.int64)], 1)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    near = [
        (images[i].flatten(1) - _flat(images[j], mirrored)).norm(dim=1) < torch.minimum(radius[i], radius[j]) + ROUNDING
        for i, j in (torch.from_numpy(part).T for part in np.array_split(pairs, 1 + len(pairs) // BLOCK_ROWS))
    ]
    return pairs[torch.cat(near).numpy()]

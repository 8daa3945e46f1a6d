"""The aligned distance: against a slow search through every shift, and against what was done to an image."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from flowscope.auditing.alignment import MARGIN, aligned_distances, prepare, reach
from tests.support.photographs import photographs

IMAGES = photographs()


def slow_distance(sample: np.ndarray, point: np.ndarray) -> float:
    """The least distance of the sample's window to windows of the point and of its middle part, by numpy in loops."""
    far = reach(*sample.shape[1:])
    height, width = sample.shape[1] - 2 * far, sample.shape[2] - 2 * far
    window = sample[:, far : far + height, far : far + width].ravel().astype(np.float64)
    edge = round(sample.shape[1] / MARGIN), round(sample.shape[2] / MARGIN)
    others = [point]
    if all(edge):
        middle = torch.from_numpy(point[:, edge[0] : -edge[0], edge[1] : -edge[1]])[None]
        others.append(functional.interpolate(middle, sample.shape[1:], mode="bilinear")[0].numpy())
    best = -1.0
    for other in others:
        for row in range(2 * far + 1):
            for column in range(2 * far + 1):
                part = other[:, row : row + height, column : column + width].ravel().astype(np.float64)
                best = max(best, float(np.corrcoef(window, part)[0, 1]))
    return float(np.sqrt(2 * (1 - best)))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 11), (2, 20, 14)])
def test_it_is_the_least_over_all_shifts_and_zooms(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(rng.standard_normal((6, *shape), np.float32)) for _ in range(2))
    found = aligned_distances(a, b).numpy()
    np.testing.assert_allclose(
        found, [slow_distance(x, y) for x, y in zip(a.numpy(), b.numpy(), strict=True)], atol=1e-6
    )


def test_shift_brightness_and_contrast_are_undone() -> None:
    moved = 0.4 * functional.pad(IMAGES, (2, 0, 0, 3), mode="replicate")[:, :, 3:, :32] + 0.1
    found = aligned_distances(prepare(moved), prepare(IMAGES))
    apart = aligned_distances(prepare(IMAGES), prepare(IMAGES.roll(1, 0)))
    assert float(found.max()) < 0.02 < 0.15 < float(apart.min())
    assert float(aligned_distances(prepare(IMAGES), prepare(IMAGES)).max()) == 0


def test_what_has_no_pattern_is_near_its_equal_alone() -> None:
    grey = torch.full((1, 1, 16, 16), 0.25)
    pattern = prepare(IMAGES[:1, :1])[:, :, :16, :16]
    assert aligned_distances(grey, grey).item() == 0
    for other in (pattern, grey + 0.5):
        assert aligned_distances(grey, other).item() == pytest.approx(2**0.5)
        assert aligned_distances(other, grey).item() == pytest.approx(2**0.5)

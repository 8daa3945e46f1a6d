"""Laws beside points: deviations, flips and shifts, and states on their paths."""

import torch

from tests.reference import alpha_sigma
from tests.support.cases import cloud


def _own(points):
    """Deviations from 0.1 to about 1, another for each coordinate of each point."""
    return (0.1 + cloud(len(points), points.shape[1:], seed=11, dtype=torch.float64).abs() / 3).to(points.device)


DEVIATIONS = {"shared": lambda points: 0.3, "own": _own}


def gaussian_states(points, deviations, t, path="linear", rows=4, seed=1):
    """States (rows, *shape) float64 on the path of data N(m_i, s_i^2), t in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(len(points), (rows,), generator=generator)
    data, noise = torch.randn(2, rows, *points.shape[1:], generator=generator, dtype=torch.float64)
    alpha, sigma = map(float, alpha_sigma(path, t))
    s = torch.as_tensor(deviations).expand_as(points)[which]
    return alpha * (points[which].double() + s * data) + sigma * noise


def all_shifts(images, most):
    """Every image (N, C, H, W) shifted by up to `most` pixels each way, its edge repeated; by hand."""
    height, width = images.shape[2:]
    moved = []
    for down in range(-most, most + 1):
        for right in range(-most, most + 1):
            rows = [min(max(y - down, 0), height - 1) for y in range(height)]
            columns = [min(max(x - right, 0), width - 1) for x in range(width)]
            moved.append(images[:, :, rows][:, :, :, columns])
    return torch.cat(moved)

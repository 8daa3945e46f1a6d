"""Training sets and states on which arithmetic is hard, and what float64 can know of a logit there."""

import numpy as np
import torch

from tests.reference import coefficients
from tests.support.cases import cloud, flat, states

TOLERANCE = 1e-6
GRID = (0.0, 1e-3, 0.05, 0.15, 0.3, 0.5, 0.9, 0.99, 0.999)
D = 256


def near_duplicates(count=40):
    base = cloud(count, (D,))
    return torch.cat([base, base + cloud(count, (D,), seed=7, scale=1e-4)])


def swarm():
    return torch.cat([cloud(20, (64,)), cloud(1, (64,), seed=5) + cloud(300, (64,), seed=7, scale=1e-4)])


def far_modes():
    side = torch.where(torch.arange(40) < 20, 100.0, -100.0)[:, None]
    return cloud(40, (D,)) + side


SETS = {
    "ordinary": lambda: cloud(80, (D,)),
    "offset 1e3": lambda: cloud(80, (D,)) + 1e3,
    "offset 1e6": lambda: cloud(80, (D,)) + 1e6,
    "near-duplicates": near_duplicates,
    "swarm": swarm,
    "one point": lambda: cloud(1, (D,)),
    "two points": lambda: cloud(2, (D,)),
    "two far modes": far_modes,
    "scale 1e-3": lambda: cloud(80, (D,), scale=1e-3),
    "scale 1e3": lambda: cloud(80, (D,), scale=1e3),
    "near-duplicates at scale 1e3": lambda: 1000 * near_duplicates(20),
    "near-duplicates with offset": lambda: near_duplicates(20) + 3.0,
    "signs": lambda: torch.sign(cloud(80, (D,))),
}


def crowd_and_rare(random, t, count):
    """A tight crowd, and a few far points close together."""
    points, direction = 1e-4 * random.normal(size=(count, 64)), random.normal(size=64)
    rare = random.choice(count, 30, replace=False)
    points[rare] = 30 * direction / np.linalg.norm(direction) + 0.5 * (1 - t) / t * random.normal(size=(30, 64))
    return points, points[rare]


def periodic(random, t, count):
    """Just those points are blank that lie where a sample of the set would lie."""
    points = random.normal(size=(200, 64))[random.integers(0, 200, count)] + 0.1 * random.normal(size=(count, 64))
    blank = np.linspace(0, count - 1, 64).round().astype(int)
    points[blank] = points.mean(0) + 1e-4 * random.normal(size=(64, 64))
    return points, np.delete(points, blank, 0)[:8]


def pair(random, t, count):
    """A near-duplicate pair in a tight crowd."""
    points = 1e-4 * random.normal(size=(count, 64))
    points[7], noise = 1.0, random.normal(size=64)
    points[77] = points[7] + 1e-4 * noise / np.linalg.norm(noise)
    return points, points[[7, 77]]


def far_classes(random, t, count):
    """Classes far apart, of points that are nearly alike: they are rounded alike, and their errors add up."""
    points = np.repeat(30 * random.normal(size=(1, 64)) + 0.3 * random.normal(size=(2, 64)), count // 2, 0)
    points = points + 1e-3 * random.normal(size=(count, 64))
    return points, points[:8]


def queries(points, t, path):
    """On the path of training points, of held-out points and of midpoints; pure noise; a corner of space."""
    held_out = points.mean(0) + points.std(0, correction=0) * cloud(2, (points.shape[1],), seed=20)
    middle = (points[:1].double() + points[-1:].double()) / 2
    kinds = [states(source, t, path, rows=2, seed=21) for source in (points, held_out, middle)]
    return torch.cat([*kinds, cloud(2, (points.shape[1],), seed=22, dtype=torch.float64)])


def resolution(points, x, t, path):
    """2^-52 |x - alpha x1|^2 / sigma^2 of the nearest point, for each row: what float64 knows of a logit."""
    alpha, sigma = (float(c) for c in coefficients(path, float(t))[:2])
    squares = [((row - alpha * flat(points)) ** 2).sum(1).min() for row in flat(x)]
    return 2.0**-52 * np.array(squares) / sigma**2

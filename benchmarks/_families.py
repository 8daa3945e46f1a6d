"""Thirteen families of small sets, and what their stage curves are, by arithmetic of its own."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

PLAIN = 0.1  # share of plain draws among the tilted ones
CHUNK = 4000  # probes followed at a time
RARE = 0.02  # 1 less a top-1 weight, under which tilted probes tell it better than plain ones


class Family(NamedTuple):
    """Points (N, D) with their weights (N,)."""

    points: np.ndarray
    weights: np.ndarray


class Truth(NamedTuple):
    """(T,) gap and top-1 weight, each with its own error."""

    gap: np.ndarray
    gap_error: np.ndarray
    top1: np.ndarray
    top1_error: np.ndarray


def _digits() -> np.ndarray:
    from sklearn.datasets import load_digits

    return np.asarray(load_digits().data[:400] / 8 - 1)


def _outliers(rng: np.random.Generator, count: int, scale: float) -> np.ndarray:
    points = rng.standard_normal((200, 8))
    points[:count] *= scale
    return points


def _pairs(rng: np.random.Generator) -> np.ndarray:
    base = rng.standard_normal((40, 16))
    return np.concatenate([base, base + 1e-4 * rng.standard_normal((40, 16))])


def _modes(rng: np.random.Generator) -> np.ndarray:
    return (10 * rng.standard_normal((10, 1, 8)) + 0.3 * rng.standard_normal((10, 20, 8))).reshape(-1, 8)


MAKERS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "Gaussian, D = 8": lambda rng: rng.standard_normal((100, 8)),
    "Gaussian, D = 64": lambda rng: rng.standard_normal((200, 64)),
    "Gaussian, D = 2": lambda rng: rng.standard_normal((300, 2)),
    "digits": lambda _: _digits(),
    "two scales": lambda rng: _outliers(rng, 10, 30.0),
    "an outlier": lambda rng: _outliers(rng, 1, 100.0),
    "pairs": _pairs,
    "modes": _modes,
    "grid": lambda _: np.stack(np.meshgrid(*[np.arange(5.0)] * 3, indexing="ij"), -1).reshape(-1, 3),
    "Zipf weights": lambda rng: rng.standard_normal((150, 16)),
    "scale mixture": lambda rng: rng.standard_normal((200, 12)) * np.exp(1.2 * rng.standard_normal((200, 1))),
    "falling spectrum": lambda rng: rng.standard_normal((200, 64)) / np.arange(1, 65),
    "line": lambda rng: rng.random((120, 1)),
}


def make_family(name: str) -> Family:
    """A family by its name; always the same points."""
    points = MAKERS[name](np.random.default_rng(list(MAKERS).index(name)))
    weights = 1 / np.arange(1, len(points) + 1) if name == "Zipf weights" else np.ones(len(points))
    return Family(points, weights / weights.sum())


def truth(family: Family, times: Sequence[float], draws: int, seed: int = 0) -> Truth:
    """Gap and top-1 weight on the linear path; of the two ways to draw probes the one that suits a quantity."""
    rng = np.random.default_rng(seed)
    centred = family.points - family.points.mean(0)
    squares = np.stack([((centred - point) ** 2).sum(1) for point in centred])
    rows = []
    for t in times:
        r, scale = t / (1 - t), 1 / (1 - t) ** 2 / centred.shape[1]
        rare = np.concatenate([_probes(family.weights, centred, squares, r, n, rng, True) for n in _chunks(draws)], 1)
        plain = np.concatenate([_probes(family.weights, centred, squares, r, n, rng, False) for n in _chunks(draws)], 1)
        (gap, deficit), errors = rare.mean(1), rare.std(1) / draws**0.5
        top1 = (1 - deficit, errors[1]) if deficit < RARE else (1 - plain[1].mean(), plain[1].std() / draws**0.5)
        rows.append((scale * gap, scale * errors[0], *top1))
    return Truth(*np.array(rows).T)


def _chunks(draws: int) -> list[int]:
    return [min(CHUNK, draws - start) for start in range(0, draws, CHUNK)]


def _probes(
    weights: np.ndarray,
    points: np.ndarray,
    squares: np.ndarray,
    r: float,
    draws: int,
    rng: np.random.Generator,
    tilted: bool,
) -> np.ndarray:
    """(2, n) the pair form of the trace and 1 less the top-1 weight, over the density of the probes."""
    count, roots = len(points), np.sqrt(weights)
    table = roots[:, None] * roots * squares * np.exp(-r * r * squares / 8)
    total, source = table.sum(), rng.choice(count, draws, p=weights)
    noise = rng.standard_normal((draws, points.shape[1]))
    if tilted and total > 0:
        pair, driven = rng.choice(count**2, draws, p=(table / total).ravel()), rng.random(draws) >= PLAIN
        source = np.where(driven, pair // count, source)
        noise += np.where(driven, r / 2, 0)[:, None] * (points[pair % count] - points[source])
    apart = squares[source]
    cross = (noise * points[source]).sum(1)[:, None] - noise @ points.T
    logits = np.log(weights) - np.log(weights[source])[:, None] - r * r * apart / 2 - r * cross
    weight = np.exp(logits - logits.max(1, keepdims=True))
    mass, best = weight.sum(1), weight.argmax(1)
    trace = (weight * apart).sum(1) / mass / 2
    weight[np.arange(draws), best] = 0
    density = np.ones(draws)
    if tilted and total > 0:
        with np.errstate(over="ignore"):
            density = PLAIN + (1 - PLAIN) * (apart * np.exp(logits / 2)).sum(1) / total
    return np.stack([trace, weight.sum(1) / mass]) / density

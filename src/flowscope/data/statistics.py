"""Statistics: what has to be known of every point of a set, measured in one pass over all of them.

A pass over points in a file takes seconds for every 10 GB, so there is one, by several threads. It refuses numbers that
are not finite, hashes the blocks of the set's digest and each point, and measures squared distances from a centre and
heights along a direction, by which points are drawn.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from flowscope.errors import InputError

T = TypeVar("T")

DIGEST_ROWS = 4096  # points in a hashed block: fixed, so that the digest does not depend on how points are read
PIECE_BYTES = 16 << 20  # of points in float64, at most, that are looked at at a time
MAX_CACHED_FLOAT64S = 1 << 15  # numbers of a block that stays in the caches and that torch does not share among threads
MAX_THREADS = 8  # that look at blocks at the same time
MAX_KEY_COORDINATES = 512  # of a point that its key hashes
HEIGHT_STEPS = 2.0**40  # to the largest height: finer ones are rounding
CENTRE_POINTS = 4096  # of a file, at most, whose mean is the centre

_WORDS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of a number


class Rows(Protocol):
    """What the pass needs of a training set; see :class:`flowscope.data.training_set.TrainingSet`."""

    name: str

    def __len__(self) -> int: ...
    @property
    def dimension(self) -> int: ...
    @property
    def streamed(self) -> bool: ...
    @property
    def relative_weights(self) -> np.ndarray: ...
    def rows(self, which: slice | np.ndarray) -> Tensor: ...
    def pieces(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Tensor]]: ...


class Statistics(NamedTuple):
    """What one pass measures."""

    digests: bytes | None  # SHA-256 of each block of DIGEST_ROWS points, one behind the other; None if not asked for
    keys: np.ndarray  # (N,) int64: points with different keys are different, others may be equal
    centre: Tensor  # (D,) float64 on the CPU, near the mean of all points with weight, or that mean
    norms: np.ndarray  # (N,) |x1 - centre|^2, float64
    heights: np.ndarray  # (N,) int64, <x1 - centre, v> with v random and fixed, in steps of a share of the largest
    mean: Tensor  # (D,) float64, the mean of all points with weight

    def draw_order(self, which: np.ndarray | slice = slice(None), *ties: np.ndarray) -> np.ndarray:
        """An order of points for random numbers to choose from, so that what is drawn does not hang on the set's own.

        It is that of heights, which a shift, a scale and the dtype of the points leave as it is, too.

        Args:
            which: (M,) positions of points; all of them by default.
            ties: (M,) what tells copies apart, the most important first.

        Returns:
            (M,) places in `which`.
        """
        return np.lexsort((*reversed(ties), self.keys[which], self.heights[which]))


def measure_statistics(points: Rows, digest: bool) -> Statistics:
    """Read all points once; twice where they are in memory, for a centre that is their mean exactly.

    Args:
        points: the training set.
        digest: also hash the blocks of the digest.

    Raises:
        InputError: a point holds NaN or infinity, or squares leave float64.
    """
    counted = torch.from_numpy(points.relative_weights > 0)  # others are in no law
    centre = _sample_mean(points, counted) if points.streamed else _mean(points, counted)
    key = _KeyHash(points.dimension)
    direction = torch.from_numpy(np.random.default_rng(0xD1CE).standard_normal(points.dimension))
    found = list(_map_blocks(points, partial(_measure_block, points, counted, centre, direction, key, digest)))
    digests, keys, norms, heights, totals = zip(*found, strict=True)
    mean = centre + torch.stack(totals).sum(0) / int(counted.sum())
    columns = [np.concatenate(column) for column in (keys, norms, heights)]
    return Statistics(b"".join(digests) if digest else None, columns[0], centre, columns[1], _steps(columns[2]), mean)


def _map_blocks(points: Rows, work: Callable[[int, int], T]) -> Iterator[T]:
    """Yield `work(start, stop)` for each block of DIGEST_ROWS points, in order; several threads work at a time.

    Hashing, reading and sums let other threads run. The sums are small enough for torch not to divide them again.
    """
    starts = range(0, len(points), DIGEST_ROWS)
    pool = ThreadPoolExecutor(min(torch.get_num_threads(), MAX_THREADS) + int(points.streamed), "flowscope statistics")
    try:
        yield from pool.map(work, starts, (min(start + DIGEST_ROWS, len(points)) for start in starts))
    finally:
        pool.shutdown(cancel_futures=True)


def _measure_block(
    points: Rows,
    counted: Tensor,
    centre: Tensor,
    direction: Tensor,
    key: "_KeyHash",
    digest: bool,
    start: int,
    stop: int,
) -> tuple[bytes, np.ndarray, np.ndarray, np.ndarray, Tensor]:
    """(hash, keys, norms, heights, sum about the centre of those counted) of the points from `start` to `stop`."""
    block, total = hashlib.sha256(), torch.zeros_like(centre)
    keys, norms, heights = np.empty(stop - start, np.int64), np.empty(stop - start), np.empty(stop - start)
    for at, piece in points.pieces(start, stop):
        if digest:
            block.update(_raw_bytes(piece))
        flat, of = piece.flatten(1).cpu(), slice(at - start, at - start + len(piece))
        norms[of], heights[of] = _norms(flat, centre, direction, counted[at : at + len(flat)], total)
        if not np.isfinite(norms[of]).all():
            refuse_infinite(points.name, at, flat)
            raise InputError(
                f"{points.name} spans so wide that squared distances leave float64; expected points whose squares can "
                "be computed: rescale them"
            )
        keys[of] = key(flat)
    return block.digest(), keys, norms, heights, total


def hash_blocks(points: Rows) -> bytes:
    """The hashes of the digest's blocks alone: `digests` of :class:`Statistics`."""

    def hash_block(start: int, stop: int) -> bytes:
        block = hashlib.sha256()
        for _, piece in points.pieces(start, stop):
            block.update(_raw_bytes(piece))
        return block.digest()

    return b"".join(_map_blocks(points, hash_block))


def _raw_bytes(piece: Tensor) -> memoryview:
    """The bytes of some points as they are stored."""
    return piece.detach().cpu().contiguous().view(torch.uint8).numpy().reshape(-1).data


def _mean(points: Rows, counted: Tensor) -> Tensor:
    """(D,) float64, the mean of the points counted."""
    total = torch.zeros(points.dimension, dtype=torch.float64)
    for start, piece in points.pieces():
        chosen = counted[start : start + len(piece)]
        total += piece.flatten(1).cpu()[chosen].to(torch.float64).sum(0)
    return total / int(counted.sum())


def _sample_mean(points: Rows, counted: Tensor, read_rows: int = 256) -> Tensor:
    """(D,) float64, the mean of CENTRE_POINTS points spread evenly over those counted, read a few rows at a time."""
    positions = counted.nonzero()[:, 0].numpy()
    chosen = positions[np.linspace(0, len(positions) - 1, min(CENTRE_POINTS, len(positions))).astype(np.int64)]
    total = torch.zeros(points.dimension, dtype=torch.float64)
    for start in range(0, len(chosen), read_rows):
        total += points.rows(chosen[start : start + read_rows]).flatten(1).to(torch.float64).sum(0)
    mean = total / len(chosen)
    return mean if bool(torch.isfinite(mean).all()) else torch.zeros_like(mean)  # the pass then names the point


def _norms(
    flat: Tensor, centre: Tensor, direction: Tensor, counted: Tensor, total: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) |x1 - centre|^2 and <x1 - centre, v>; the sum of x1 - centre over those counted is added to `total`."""
    norms, heights, v = np.empty(len(flat)), np.empty(len(flat)), direction.numpy()
    step = max(1, MAX_CACHED_FLOAT64S // len(centre))
    about = torch.empty(min(step, len(flat)), len(centre), dtype=torch.float64)
    single = torch.empty(about.shape, dtype=torch.float32) if flat.element_size() == 2 else None
    for start in range(0, len(flat), step):
        stop = min(start + step, len(flat))
        rows = flat[start:stop]
        if single is not None:
            rows = single[: stop - start].copy_(rows)  # half to float to double is three times as fast
        part = about[: stop - start].copy_(rows).sub_(centre)
        chosen = counted[start:stop]
        values = part.numpy()
        total += (part if bool(chosen.all()) else part[chosen]).sum(0)
        with np.errstate(over="ignore"):  # what is not finite is refused
            norms[start:stop] = np.matmul(values[:, None, :], values[:, :, None])[:, 0, 0]
            heights[start:stop] = values @ v
    return norms, heights


def _steps(heights: np.ndarray) -> np.ndarray:
    """(N,) heights in whole steps, so that rounding tells no copies apart."""
    largest = float(np.abs(heights).max())
    return (
        np.rint(heights * (HEIGHT_STEPS / 2.0 ** math.frexp(largest)[1])).astype(np.int64)
        if largest
        else np.zeros(len(heights), np.int64)
    )


class _KeyHash:
    """A multilinear hash modulo 2^64 of a point's coordinates; of some, spread evenly, where there are many."""

    def __init__(self, dimension: int) -> None:
        self._chosen = slice(0, None, -(-dimension // MAX_KEY_COORDINATES))
        count = len(range(dimension)[self._chosen])
        draw = np.random.default_rng(0x5EED).integers(-(2**63), 2**63, count, dtype=np.int64)
        self._factors = draw | 1

    def __call__(self, flat: Tensor) -> np.ndarray:
        """(n,) keys: equal points have equal ones, and -0 is 0."""
        words = flat.contiguous().view(_WORDS[flat.element_size()]).numpy()[:, self._chosen]
        words = np.where(words == np.iinfo(words.dtype).min, 0, words)
        return words.astype(np.int64) @ self._factors


def refuse_infinite(name: str, start: int, flat: Tensor) -> None:
    """Refuse points with a number that is not finite.

    Args:
        name: of the set.
        start: position of the first of these points in the set.
        flat: (n, D), the points.

    Raises:
        InputError: the message names the first such point.
    """
    finite = torch.isfinite(flat)
    if not bool(finite.all()):
        row = int((~finite).any(1).nonzero()[0])
        value = flat[row][~finite[row]][0].item()
        raise InputError(
            f"point {start + row} of {name} holds {value}; expected finite numbers: remove or repair such points"
        )

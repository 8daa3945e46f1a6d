"""Census: what has to be known of every point of a set, found in one pass over all of them.

A pass over points in a file costs seconds for every 10 GB, so there is one, by several threads: it looks for numbers
that are not finite, names the set (digest) and each point (key), and measures squared distances from a centre.
"""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from flowscope.errors import InputError

if TYPE_CHECKING:
    from flowscope.data.training_set import TrainingSet

T = TypeVar("T")

DIGEST_ROWS = 4096  # rows to a hashed block: fixed, so that the digest does not depend on how points are read
PIECE_BYTES = 16 << 20  # float64 bytes of points looked at at a time, at most
CACHED = 1 << 15  # numbers in float64 that stay in the caches, and that torch does not share out among threads
MOST_WORKERS = 8  # blocks looked at at a time
KEYED = 512  # coordinates that a key is made of, at most
SAMPLE = 4096  # points of a file whose mean is the centre

_WORDS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class Statistics(NamedTuple):
    """What one pass finds."""

    blocks: bytes | None  # SHA-256 of each block of DIGEST_ROWS points, one behind the other; None if not asked for
    keys: np.ndarray  # (N,) int64: points with different keys are different, others may be equal
    centre: Tensor  # (D,) float64 on the CPU, near the mean of all points with weight, or that mean
    norms: np.ndarray  # (N,) |x1 - centre|^2, float64
    mean: Tensor  # (D,) float64, the mean of all points with weight


def measure_statistics(points: "TrainingSet", digest: bool) -> Statistics:
    """Read all points once; twice where they are in memory, for a centre that is their mean exactly.

    Raises:
        InputError: a point holds NaN or infinity, or squares leave float64.
    """
    counted = torch.from_numpy(points.relative_weights > 0)  # others are in no law
    centre = _sample_mean(points, counted) if points.streamed else _mean(points, counted)
    key = _Key(points.dimension)
    found = list(_each_block(points, partial(_take_block, points, counted, centre, key, digest)))
    digests, keys, norms, totals = zip(*found, strict=True)
    mean = centre + torch.stack(totals).sum(0) / int(counted.sum())
    return Statistics(b"".join(digests) if digest else None, np.concatenate(keys), centre, np.concatenate(norms), mean)


def _each_block(points: "TrainingSet", work: Callable[[int, int], T]) -> Iterator[T]:
    """What `work(start, stop)` gives for each block of DIGEST_ROWS points, in order; several are done at a time.

    Hashing, reading and sums let other threads run. They are small enough for torch not to share them out again.
    """
    starts = range(0, len(points), DIGEST_ROWS)
    pool = ThreadPoolExecutor(min(torch.get_num_threads(), MOST_WORKERS) + int(points.streamed), "flowscope census")
    try:
        yield from pool.map(work, starts, (min(start + DIGEST_ROWS, len(points)) for start in starts))
    finally:
        pool.shutdown(cancel_futures=True)


def _take_block(
    points: "TrainingSet", counted: Tensor, centre: Tensor, key: "_Key", digest: bool, start: int, stop: int
) -> tuple[bytes, np.ndarray, np.ndarray, Tensor]:
    """(hash, keys, norms, sum about the centre of those counted) of some points."""
    block, total = hashlib.sha256(), torch.zeros_like(centre)
    keys, norms = np.empty(stop - start, np.int64), np.empty(stop - start)
    for at, piece in points.pieces(start, stop):
        if digest:
            block.update(raw_bytes(piece))
        flat, of = piece.flatten(1).cpu(), slice(at - start, at - start + len(piece))
        norms[of] = _norms(flat, centre, counted[at : at + len(flat)], total)
        if not np.isfinite(norms[of]).all():
            refuse_infinite(points.name, at, flat)
            raise InputError(
                f"{points.name} spans so wide that squared distances leave float64; expected points whose squares can "
                "be computed: rescale them"
            )
        keys[of] = key(flat)
    return block.digest(), keys, norms, total


def hash_blocks(points: "TrainingSet") -> bytes:
    """The hashes of the digest alone; `blocks` of a census."""

    def hashed(start: int, stop: int) -> bytes:
        block = hashlib.sha256()
        for _, piece in points.pieces(start, stop):
            block.update(raw_bytes(piece))
        return block.digest()

    return b"".join(_each_block(points, hashed))


def raw_bytes(piece: Tensor) -> memoryview:
    """The bytes of some points as they are stored."""
    return piece.detach().cpu().contiguous().view(torch.uint8).numpy().reshape(-1).data


def _mean(points: "TrainingSet", counted: Tensor) -> Tensor:
    total = torch.zeros(points.dimension, dtype=torch.float64)
    for start, piece in points.pieces():
        chosen = counted[start : start + len(piece)]
        total += piece.flatten(1).cpu()[chosen].to(torch.float64).sum(0)
    return total / int(counted.sum())


def _sample_mean(points: "TrainingSet", counted: Tensor) -> Tensor:
    """The mean of points spread evenly over those with weight."""
    known = counted.nonzero()[:, 0].numpy()
    chosen = known[np.linspace(0, len(known) - 1, min(SAMPLE, len(known))).astype(np.int64)]
    total = torch.zeros(points.dimension, dtype=torch.float64)
    for start in range(0, len(chosen), 256):
        total += points.rows(chosen[start : start + 256]).flatten(1).to(torch.float64).sum(0)
    mean = total / len(chosen)
    return mean if bool(torch.isfinite(mean).all()) else torch.zeros_like(mean)  # the census says which point it is


def _norms(flat: Tensor, centre: Tensor, counted: Tensor, total: Tensor) -> np.ndarray:
    """(n,) |x1 - centre|^2; the sum of x1 - centre over those counted is added to `total`."""
    norms = np.empty(len(flat))
    step = max(1, CACHED // len(centre))
    about = torch.empty(min(step, len(flat)), len(centre), dtype=torch.float64)
    single = torch.empty(about.shape, dtype=torch.float32) if flat.element_size() == 2 else None
    for start in range(0, len(flat), step):  # rows that stay in the caches
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
    return norms


class _Key:
    """A multilinear hash modulo 2^64 of some coordinates, spread evenly; of all of them, where there are few."""

    def __init__(self, dimension: int) -> None:
        self._chosen = slice(0, None, -(-dimension // KEYED))
        count = len(range(dimension)[self._chosen])
        draw = np.random.default_rng(0x5EED).integers(-(2**63), 2**63, count, dtype=np.int64)
        self._factors = draw | 1

    def __call__(self, flat: Tensor) -> np.ndarray:
        """(n,) keys: equal points have equal ones, and -0 is 0."""
        words = flat.contiguous().view(_WORDS[flat.element_size()]).numpy()[:, self._chosen]
        words = np.where(words == np.iinfo(words.dtype).min, 0, words)
        return words.astype(np.int64) @ self._factors


def refuse_infinite(name: str, start: int, flat: Tensor) -> None:
    """Say which point holds a number that is not finite, if there is one."""
    finite = torch.isfinite(flat)
    if not bool(finite.all()):
        row = int((~finite).any(1).nonzero()[0])
        value = flat[row][~finite[row]][0].item()
        raise InputError(
            f"point {start + row} of {name} holds {value}; expected finite numbers: remove or repair such points"
        )

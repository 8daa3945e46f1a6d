"""What the suite measures: data sets, sizes, queries, and the float64 truth that every contender is compared with."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import flowscope as fs

DATA = Path(os.environ.get("FLOWSCOPE_DATA", Path(__file__).resolve().parent.parent.parent / "shared" / "data"))
CIFAR = ("cifar10_jpegbytes_train.npz", "cifar10_jpegbytes_test.npz")
HELD_OUT = 512  # points beside the set from which every other query starts
CHECKED = 8  # queries of a case that are compared with float64


@dataclass(frozen=True)
class Case:
    """One setting: B queries at time t, or at each of `timesteps` times from 0.05 to 0.95, on points (N, D)."""

    data: str
    N: int
    D: int
    B: int
    t: float = 0.1
    timesteps: int | None = None

    @property
    def work(self) -> int:
        """The operations of both products for one time."""
        return 4 * self.N * self.D * self.B

    @property
    def times(self) -> list[float]:
        return [self.t] if self.timesteps is None else np.linspace(0.05, 0.95, self.timesteps).tolist()

    def __str__(self) -> str:
        when = f"t={self.t}" if self.timesteps is None else f"{self.timesteps} timesteps"
        return f"{self.data} N={self.N} D={self.D} B={self.B} {when}"


CHECK = Case("check", 50, 48, 8)
FULL = [
    *(Case("mnist-like", 10_000, 768, 256, t) for t in (0.1, 0.5, 0.9)),
    *(Case("cifar10", 50_000, 3072, B, t) for B in (256, 64, 16, 1) for t in (0.1, 0.5, 0.9)),
    *(Case("latents-like", 100_000, 4096, 64, t) for t in (0.1, 0.5, 0.9)),
]
QUICK = [Case("tiny", 1500, 96, B, t) for B in (16, 1) for t in (0.1, 0.9)]


def growth(quick: bool) -> dict[str, list[Case]]:
    """Each quantity alone, the others as in `base`."""
    base = Case("growth", 10_000, 768, 64) if not quick else Case("growth", 1000, 48, 8)
    sizes = {
        "N": (500, 1000, 2000) if quick else (2500, 5000, 10_000, 20_000, 40_000),
        "D": (24, 48, 96) if quick else (192, 384, 768, 1536, 3072),
        "B": (2, 4, 8) if quick else (1, 4, 16, 64, 256),
        "timesteps": (1, 2, 4) if quick else (1, 4, 16, 64),
    }
    return {axis: [replace(base, **{axis: size}) for size in several] for axis, several in sizes.items()}


def stored(folder: Path, cases: list[Case]) -> tuple[Path, np.ndarray, np.ndarray]:
    """The points that some cases of one data set need, the largest of them: file, points, and held-out points."""
    name, N, D = cases[0].data, max(case.N for case in cases), max(case.D for case in cases)
    if name == "cifar10" and all((DATA / file).exists() for file in CIFAR):
        points, apart = (np.asarray(fs.load(DATA / file).points, np.float32).reshape(-1, D) for file in CIFAR)
        points, apart = points[:N], apart[:HELD_OUT]
    else:
        generator = np.random.default_rng(N + D)
        both = generator.standard_normal((N + HELD_OUT, D), np.float32)
        both *= np.linspace(1, 0.05, D, dtype=np.float32)  # a falling spectrum, as images have
        points, apart = both[:N], both[N:]
    file = folder / f"{name}.npy"
    np.save(file, points)
    return file, np.load(file, mmap_mode="r"), apart.copy()


def queries(case: Case, points: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """(B, D), or (T, B, D) for timesteps: on the paths of points of the set and of held-out points, in turn."""
    generator = np.random.default_rng(case.B)
    rows = np.arange(case.B)
    own, other = points[rows * 7 % case.N, : case.D], apart[rows % len(apart), : case.D]
    x1 = np.where((rows % 2 == 0)[:, None], own, other)
    noise = generator.standard_normal(x1.shape, np.float32)
    x = np.stack([np.float32(t) * x1 + np.float32(1 - t) * noise for t in case.times])
    return x[0] if case.timesteps is None else x


def blocks(case: Case, points: np.ndarray) -> Iterator[tuple[slice, Tensor]]:
    for start in range(0, case.N, 4096):
        rows = slice(start, min(start + 4096, case.N))
        yield rows, torch.from_numpy(np.array(points[rows, : case.D], np.float64))


def truth(case: Case, points: np.ndarray, x: np.ndarray) -> tuple[Tensor, Tensor]:
    """The velocity (B, D) and the size of a conditional velocity (B,), by float64 differences.

    The size is sqrt(|u|^2 + tr Cov/(1-t)^2), of which an error is a part: u itself can vanish.
    """
    q, t = torch.from_numpy(x).double(), case.t
    distance, square = (torch.empty(len(q), case.N, dtype=torch.float64) for _ in range(2))
    for rows, X in blocks(case, points):
        for i, state in enumerate(q):
            distance[i, rows] = ((state - t * X) ** 2).sum(1)
            square[i, rows] = (X - state).square_().sum(1)
    gamma = (distance / (-2 * (1 - t) ** 2)).softmax(1)
    mean = torch.zeros_like(q)
    for rows, X in blocks(case, points):
        mean += gamma[:, rows] @ X
    return (mean - q) / (1 - t), (gamma * square).sum(1).sqrt() / (1 - t)


def error(answer: np.ndarray, u: Tensor, size: Tensor) -> float:
    """The largest relative error over the rows that both have; NaN counts as infinite."""
    count = min(len(answer), len(u))
    apart = torch.from_numpy(np.array(answer[:count], np.float64)) - u[:count]
    return float((apart.norm(dim=1) / size[:count]).nan_to_num(nan=float("inf")).max())

"""The usual side of the local oracle's patches: how well held-out images are denoised with patches of several sides.

    python benchmarks/patch_sides.py [--points 5000] [--held-out 24] [SET ...]

SET is one of digits, mnist, cifar10, tiny; all by default. Some images are held out, and noised once for each time on
the linear path. Errors are mean squared, over pixels. The first table of a set has a row for each side; the second one
for each share of the filter's energy by which a side can be chosen (references/patches.py), of which 0.98 is usual.
"""

import argparse
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import flowscope as fs
from _harness import save, table
from flowscope.data.split import take
from flowscope.references import LocalOracle, Wiener
from flowscope.references.patches import PATCH_ENERGY, PatchSchedule

DATA = Path(os.environ.get("FLOWSCOPE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SETS: dict[str, tuple[Any, dict[str, Any]]] = {
    "digits": ("digits", {}),
    "mnist": (DATA / "mnist_train.npz", {}),
    "cifar10": (DATA / "cifar10_jpegbytes_train.npz", {"resize": 16}),
    "tiny": (DATA / "tinyimagenet64_jpegbytes_train_0.npz", {"resize": 16}),
}
TIMES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
SIDES = (3, 5, 9, 17)
SHARES = (0.9, 0.95, PATCH_ENERGY, 0.99, 0.995)


class Errors:
    """Mean squared errors of denoised held-out images."""

    def __init__(self, points: fs.TrainingSet, held_out: fs.TrainingSet) -> None:
        self.points, self.images = points, held_out.rows(slice(None)).double()
        self.noise = torch.from_numpy(np.random.default_rng(0).standard_normal(self.images.shape))
        self.schedule = PatchSchedule(fs.Oracle(points).support.law(), points.shape)
        self.of_side = cache(self._of_side)

    def of(self, field: Any, t: float) -> float:
        """The error of a reference at a time."""
        denoised: Tensor = field.denoise(t * self.images + (1 - t) * self.noise, t)
        return float((denoised - self.images).square().mean())

    def _of_side(self, side: int, t: float) -> float:
        return self.of(LocalOracle(self.points, patch=side), t)

    def side(self, share: float, t: float) -> int:
        """The side that holds a share of the filter's energy."""
        return self.schedule((t / (1 - t)) ** 2, share)


def measure(name: str, points: int, held_out: int) -> dict[str, Any]:
    """The two tables of a set, printed."""
    source, options = SETS[name]
    whole = fs.load(source, **options)
    whole = fs.load(source, subset=min(points, len(whole)), **options)
    order = np.random.default_rng(0).permutation(len(whole))
    training, rest = (take(whole, np.sort(part), name) for part in (order[held_out:], order[:held_out]))
    errors, largest = Errors(training, rest), max(training.shape[1:])
    sides = sorted({side for side in SIDES if side < largest} | {largest})
    rows = [[f"side {s}{', the oracle' * (s == largest)}", *(errors.of_side(s, t) for t in TIMES)] for s in sides]
    wiener = Wiener(training)
    rows += [["Wiener", *(errors.of(wiener, t) for t in TIMES)]]
    rows += [["usual side", *(errors.side(PATCH_ENERGY, t) for t in TIMES)]]
    what = f"{name}, {largest} px: {len(rest)} held-out images from {len(training):,} others"
    table(f"{what}, mean squared error", ["t", *map(str, TIMES)], rows)
    shares = [[s, *(errors.of_side(errors.side(s, t), t) for t in TIMES)] for s in SHARES]
    shares = [[*row, float(np.mean(row[1:]))] for row in shares]
    table(f"{what}, by share of the filter's energy", ["share", *map(str, TIMES), "mean"], shares)
    return {"set": what, "times": TIMES, "sides": rows, "shares": shares}


def main() -> None:
    """Measure the sets that are asked for and there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", metavar="SET", default=list(SETS))
    parser.add_argument("--points", type=int, default=5000)
    parser.add_argument("--held-out", type=int, default=24)
    asked = parser.parse_args()
    found = []
    for name in asked.sets:
        source = SETS[name][0]
        if isinstance(source, Path) and not source.is_file():
            print(f"{name} is not there: left out")
            continue
        found.append(measure(name, asked.points, asked.held_out))
        save("patch_sides", {"sets": found})


if __name__ == "__main__":
    main()

"""The floor from subsets against the exact one, on CIFAR-10: `python benchmarks/minibatch_floor.py [POINTS ...]`.

For all 50,000 images together and for one class alone, by log-snr: the exact floor, its estimates from subsets of
POINTS (10,000 by default, and 1,000), and the bound of their bias. Exits with 1 where the exact floor lies outside the
interval of an estimate by more than three of its own errors. CIFAR-10 is looked for in the folder that FLOWSCOPE_DATA
names (else ../shared/data).
"""

import sys
import time

import numpy as np

import flowscope as fs
from _cases import CIFAR, DATA
from _harness import save, table
from flowscope.training import minibatch_floor

SUBSETS = (10_000, 1_000)
PROBES, BINS, LABEL = 256, 10, 3


def main(*points: str) -> int:
    if not (DATA / CIFAR[0]).exists():
        print(f"{DATA / CIFAR[0]} is not there: set FLOWSCOPE_DATA to the folder that holds it")
        return 2
    training_set = fs.load(DATA / CIFAR[0])
    subsets = tuple(map(int, points)) or SUBSETS
    outside, saved = 0, {}
    for label in (None, LABEL):
        began = time.process_time()
        exact = minibatch_floor(training_set, subset=len(training_set), probes=PROBES, bins=BINS, label=label)
        seconds = {"exact": time.process_time() - began}
        rows = [
            [float(2 * np.log(t / (1 - t))), f, e]
            for t, f, e in zip(exact.t, exact.floor, exact.floor_error, strict=True)
        ]
        columns = ["log-snr", "exact", "error"]
        for n in subsets:
            size = len(training_set) if label is None else int((training_set.labels == label).sum())
            if n >= size:
                continue
            began = time.process_time()
            found = minibatch_floor(training_set, subset=n, probes=PROBES, bins=BINS, label=label, seed=1)
            seconds[str(n)] = time.process_time() - began
            columns += [f"n = {n:,}", "error", "bias", "bound of the bias", "error"]
            for k, row in enumerate(rows):
                bias = found.floor[k] - exact.floor[k]
                row += [float(v) for v in (found.floor[k], found.floor_error[k], bias)]
                row += [float(found.bound[k]), float(found.bound_error[k])]
            low, high = found.low - 3 * exact.floor_error, found.high + 3 * exact.floor_error
            outside += int(((exact.floor < low) | (exact.floor > high)).sum())
        what = "all images" if label is None else f"class {label}"
        table(f"CIFAR-10, {what}: {PROBES} pairs; seconds of the processor: {seconds}", columns, rows)
        saved[what] = {"columns": columns, "rows": rows, "seconds": seconds}
    print(f"\n{outside} of the exact values lie outside.")
    save("minibatch_floor", {"outside": outside, **saved})
    return int(outside > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""The same questions, asked of two ranks: run as a program on each, it prints what has changed."""

import sys
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

import flowscope as fs
from flowscope.oracle import Ranks
from tests.goldens.measure import measure
from tests.goldens.store import FILE, changes, from_text

ASKED = (("weights", torch.float64), ("weights", torch.float32), ("large", torch.float64))


def make_shared(ranks: Ranks, data: fs.TrainingSet, path: str, tolerance: float | None = None) -> fs.Oracle:
    """An oracle that shares the points out among the ranks."""
    return fs.Oracle(data, path, tolerance=tolerance, ranks=ranks)


def main(folder: Path) -> None:
    torch.set_num_threads(1)  # as under torchrun: more would wait for one another
    dist.init_process_group("gloo")
    recorded = from_text(FILE.read_text(encoding="utf-8"))
    with Ranks(timeout=60) as ranks:
        for name, dtype in ASKED:
            found = measure(name, folder, dtype, partial(make_shared, ranks), ("linear",))
            for change in changes(recorded, found):
                if "pruned certify" not in str(change):  # each rank prunes its own points, so others are left out
                    print(change)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

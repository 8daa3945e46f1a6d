"""What the oracle target costs in training at the size of CIFAR-10: `python benchmarks/oracle_target.py [--quick]`.

Runs of one network, class-conditional, at the default batch, that differ in the target alone: the usual one, the
oracle, and the oracle with a tolerance. They take a step in turn, on the same draws, so that the machine's drift hits
all; medians of steps are compared, in seconds and in processor time, which other work on the machine touches less. The
goal is at most twice the usual target's step with `dit-s`; a small U-Net, whose steps are shorter, is the harder case.

CIFAR-10 is looked for in the folder that FLOWSCOPE_DATA names (else ../shared/data); without it Gaussian points of the
same size and ten labels are used, and the table says so.
"""

import statistics
import time

import torch

import flowscope as fs
from _harness import save, table
from flowscope.training import TrainSettings
from flowscope.training.targets import make_target
from flowscope.training.trainer import Run
from oracle import DATA, QUICK

CASES = {"dit-s": None, "unet": 32} if not QUICK else {"unet": 8}  # model and its width
STEPS = 3 if not QUICK else 2  # timed, after one that is not
TOLERANCE = 1e-6


def labelled() -> fs.TrainingSet:
    """The training points with their labels."""
    file, count = DATA / "cifar10_jpegbytes_train.npz", 2000 if QUICK else 50000
    if file.exists():
        whole = fs.load(str(file))
        return fs.TrainingSet(whole.rows(slice(count)), whole.labels[:count], name="CIFAR-10 (JPEG)")
    points = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return fs.TrainingSet(points, torch.arange(count) % 10, name="gaussian")


def make_runs(points: fs.TrainingSet, model: str, width: int | None) -> dict[str, Run]:
    """A run for each target."""
    runs = {}
    for target in ("cfm", "oracle"):
        runs[target] = Run(points, TrainSettings(model=model, width=width, target=target), device="cpu")
    certified = Run(points, TrainSettings(model=model, width=width), device="cpu")
    certified.target = make_target(runs["oracle"].settings, fs.Oracle(points, tolerance=TOLERANCE))
    return runs | {f"oracle, {TOLERANCE:g}": certified}


def steps(runs: dict[str, Run]) -> dict[str, tuple[float, float]]:
    """Median seconds and processor seconds of a step of each run."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(1 + STEPS):
        for name, run in runs.items():
            began = time.perf_counter(), time.process_time()
            run.advance()
            spent[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return {name: tuple(map(statistics.median, zip(*taken[1:], strict=True))) for name, taken in spent.items()}  # type: ignore[misc]


def main() -> None:
    points, rows = labelled(), []
    columns = ("model", "target", "s a step", "over cfm", "processor s a step", "over cfm, processor")
    for model, width in CASES.items():
        found = steps(make_runs(points, model, width))
        wall, worked = found["cfm"]
        rows += [(model, name, s, s / wall, p, p / worked) for name, (s, p) in found.items()]
    title = f"Targets: {points.name}, N = {len(points):,}, batch {TrainSettings().batch}, goal 2 with dit-s"
    table(title, columns, rows)
    if not QUICK:
        save("oracle_target", {"title": title, "rows": [dict(zip(columns, row, strict=True)) for row in rows]})


if __name__ == "__main__":
    main()

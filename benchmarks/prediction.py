"""How well the boundary is predicted without a pass over all points.

    python benchmarks/prediction.py [--quick] [--only TEXT]   # --quick: small sets; --only: sets with TEXT in the name

A row is a set and a number N of its points. `half` and `saturation` are measured, and predicted: by the plain form with
log N, by the finite-N threshold, and from subsets of the points. Errors are in log-snr and, in per cent, in t on the
linear path. What is measured is kept in results/prediction.partial, so that a run that was stopped goes on there.

CHOSEN_ON are the sets on which the predictors were chosen. HELD_OUT were named before any predictor was tried on them,
and nothing was chosen by them. SEEN were in earlier tables, with other predictors.
"""

import argparse
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import flowscope as fs
from _harness import RESULTS, save, table
from flowscope.curve.prediction import information_deficit
from flowscope.curve.subsets import predict_from_subsets
from flowscope.curve.summary import predict, predicted_law
from flowscope.data.split import take
from flowscope.oracle.law import ClassLaw
from mobilenet import DATA, MobileNetV1

MNIST, TINY = DATA / "mnist_train.npz", DATA / "tinyimagenet64_jpegbytes_train_0.npz"
CIFAR = DATA / "cifar10_jpegbytes_train.npz"
SIZES = (32, 128, 512, 2048, 8192, 60_000)  # points drawn with one seed, each set within the next, and all of them
TINY_CLASSES = tuple(range(0, 200, 17))
MAP_POINTS, MAP_SIDE = 10_000, 64  # MobileNetV1's last maps: 2 x 2 x 1,024 numbers an image
TAIL_DIMENSION = 64
SUBSET_POINTS = 512
PAGE = Path(__file__).resolve().parents[1] / "docs" / "results" / "prediction.md"
HEAD = """# The predicted boundary, by set and number of points

Made by `python benchmarks/prediction.py`, which also writes `benchmarks/results/prediction.json`. Columns in per cent
are errors of the predicted time on the linear path: by log N (the old form), by I*(N) with the plain spectrum alone, by
`predicted`, and from six subsets of 512 points with half the width of their 95 % interval. With 512 probes the measured
half has an error of 1 to 2 %. [The mathematics](../mathematics.md#the-predicted-boundary) derives the predictions."""
QUICK = ("digits", "unit Gaussians, D = 16")

Points = np.ndarray


def rows_t(rng: np.random.Generator, count: int) -> Points:
    """Multivariate Student t with 3 degrees of freedom: a Gaussian of random scale."""
    scale = np.sqrt(3 / rng.chisquare(3, (count, 1)))
    return rng.standard_normal((count, TAIL_DIMENSION)) * scale


def coordinates_t(rng: np.random.Generator, count: int) -> Points:
    """Independent coordinates of Student's t law with 3 degrees of freedom."""
    return rng.standard_t(3, (count, TAIL_DIMENSION))


def lognormal(rng: np.random.Generator, count: int) -> Points:
    """Independent coordinates exp(g)."""
    return np.exp(rng.standard_normal((count, TAIL_DIMENSION)))


def falling_laplace(rng: np.random.Generator, count: int) -> Points:
    """Independent Laplace coordinates whose deviation falls as 1/k."""
    return rng.laplace(size=(count, TAIL_DIMENSION)) / np.arange(1, TAIL_DIMENSION + 1)


HEAVY_TAILS = {
    "Student t rows": rows_t,
    "Student t coordinates": coordinates_t,
    "log-normal coordinates": lognormal,
    "Laplace, falling spectrum": falling_laplace,
}
CHOSEN_ON = (
    "digits",
    "MNIST",
    "CIFAR-10",
    *(f"unit Gaussians, D = {d}" for d in (4, 16, 64, 1024, 4096)),
    "scale mixture",
    "ten far modes",
)
SEEN = ("MNIST class 1", "MNIST class 3")
HELD_OUT = (
    "Tiny-ImageNet",
    *(f"Tiny-ImageNet class {y}" for y in TINY_CLASSES),
    *(f"MNIST class {y}" for y in (0, 2, 4, 5, 6, 7, 8, 9)),
    "MobileNetV1 maps of Tiny-ImageNet",
    "MobileNetV1 maps of MNIST",
    *HEAVY_TAILS,
)


def gaussians(dimension: int) -> fs.TrainingSet:
    return fs.load(f"gaussian:N=1400,D={dimension}")


def scale_mixture() -> fs.TrainingSet:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((3000, 64)) * np.exp(rng.standard_normal((3000, 1)))
    return fs.TrainingSet(points, name="scale mixture")


def heavy_tail(name: str) -> fs.TrainingSet:
    rng = np.random.default_rng(list(HEAVY_TAILS).index(name))
    return fs.TrainingSet(HEAVY_TAILS[name](rng, SIZES[-1]).astype(np.float32), name=name)


def maps(source: Path, count: int = MAP_POINTS) -> fs.TrainingSet:
    """What MobileNetV1's last layer makes of images, before the mean over positions."""
    network = MobileNetV1(side=MAP_SIDE)
    images = fs.load(str(source), subset=count)
    found = []
    with torch.inference_mode():
        for at in range(0, count, 250):
            x = images.rows(np.arange(at, min(at + 250, count))).float()
            found.append(network.maps(x).flatten(1))
    return fs.TrainingSet(torch.cat(found), name=f"maps of {images.name}")


def make(name: str) -> fs.TrainingSet:
    """A set by its name."""
    if name in HEAVY_TAILS:
        return heavy_tail(name)
    if name.startswith("MobileNetV1 maps of "):
        return maps(TINY if "Tiny" in name else MNIST)
    if name.startswith("unit Gaussians, D = "):
        return gaussians(int(name.rpartition(" ")[2]))
    if name == "scale mixture":
        return scale_mixture()
    if name == "ten far modes":
        return fs.load("mixture:N=5000,D=64,modes=10,spread=0.05")
    source, _, label = name.partition(" class ")
    files = {"MNIST": MNIST, "CIFAR-10": CIFAR, "Tiny-ImageNet": TINY}
    return fs.load(str(files.get(source, source)), classes=int(label) if label else None)


def draw(whole: fs.TrainingSet, count: int, seed: int = 0) -> fs.TrainingSet:
    """So many points of a set."""
    order = np.random.default_rng(seed).permutation(len(whole))[:count]
    return take(whole, np.sort(order), f"{whole.name}, {count} points")


def measure(part: fs.TrainingSet) -> dict[str, Any]:
    """Half and saturation with their intervals, each as t, low, high."""
    curve = fs.stages(part, [0.5])
    return {"half": list(curve.half), "saturation": list(curve.saturation), "D": part.dimension}


def threshold_alone(known: Any) -> float:
    """The time at which the information of the plain spectrum is I*(N), without dispersion or clusters."""
    from scipy.optimize import brentq

    largest = known.spectra[-1].total_variance
    root = brentq(lambda x: information_deficit([known], math.exp(x) / largest), -20, 20)
    r = math.sqrt(math.exp(root) / largest)
    return r / (1 + r)


def foretell(part: fs.TrainingSet, half: float) -> dict[str, Any]:
    """Everything that is predicted of a set, and its deficit at the measured half."""
    oracle = fs.Oracle(part)
    known = predicted_law(oracle, ClassLaw(1.0, None, oracle.support.law()))
    expected = predict(oracle.path, [known])
    snr = (half / (1 - half)) ** 2
    row = {"log N": expected.plain, "threshold": threshold_alone(known), "predicted": expected.half}
    row |= {"predicted saturation": expected.saturation, "deficit": information_deficit([known], snr)}
    if len(part) >= 2 * SUBSET_POINTS:
        found = predict_from_subsets(oracle, SUBSET_POINTS)
        row |= {"subsets": list(found.half), "subsets saturation": list(found.saturation)}
    return row


def rows_of(
    name: str, role: str, sizes: tuple[int, ...], kept: dict[str, Any], partial: Path | None
) -> Iterator[dict[str, Any]]:
    """The rows of a set, one for each number of points; what is not in `kept` is made, and kept in a file."""
    whole: fs.TrainingSet | None = None
    for size in sizes:
        row = kept.setdefault(f"{name}|{size}", {})
        if "predicted" not in row:
            whole = make(name) if whole is None else whole
            part = whole if size >= len(whole) else draw(whole, size)
            row |= {"set": name, "role": role, "N": len(part)} | ({} if "half" in row else measure(part))
            row |= foretell(part, row["half"][0])
            if partial is not None:
                partial.write_text(json.dumps(kept))
        yield row
        if row["N"] < size:
            return


def error(predicted: float, measured: float) -> float:
    """Of a time, in per cent."""
    return 100 * (predicted / measured - 1)


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the table."""
    half, saturation = row["half"][0], row["saturation"][0]
    found = [row["set"], f"{row['N']:,}", f"{half:.3f}"]
    found += [f"{error(row[name], half):+.1f}" for name in ("log N", "threshold", "predicted")]
    subsets = row.get("subsets")
    spread = "" if subsets is None else f" ± {50 * (subsets[2] - subsets[1]) / half:.1f}"
    found += ["" if subsets is None else f"{error(subsets[0], half):+.1f}{spread}", f"{row['deficit']:.2f}"]
    settled = row.get("subsets saturation")
    found += [f"{saturation:.3f}", f"{error(row['predicted saturation'], saturation):+.1f}"]
    return [*found, "" if settled is None else f"{error(settled[0], saturation):+.1f}"]


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Median and largest size of the errors in per cent, by predictor."""
    found = {}
    for name in ("log N", "threshold", "predicted", "subsets", "predicted saturation", "subsets saturation"):
        errors = [abs(error(_time(row[name]), row[_boundary(name)][0])) for row in rows if name in row]
        if errors:
            shares = {"median": statistics.median(errors), "largest": max(errors)}
            found[name] = {"rows": len(errors), **shares, "within 5 %": sum(e <= 5 for e in errors) / len(errors)}
    return found


def summaries(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """By role, and for real sets that were held out by the number of points."""
    real = [row for row in found.get("held out", []) if row["set"] not in HEAVY_TAILS]
    sizes = {"N = 32": (0, 33), "N from 33 to 511": (33, 512), "N from 512 on": (512, math.inf)}
    groups = {role: summary(rows) for role, rows in found.items()}
    for label, (low, high) in sizes.items():
        groups[f"held out, real, {label}"] = summary([row for row in real if low <= row["N"] < high])
    groups["held out, heavy tails"] = summary([row for row in found.get("held out", []) if row["set"] in HEAVY_TAILS])
    return {label: by for label, by in groups.items() if by}


def _time(value: Any) -> float:
    return float(value[0] if isinstance(value, list) else value)


def _boundary(predictor: str) -> str:
    return "saturation" if "saturation" in predictor else "half"


COLUMNS = (
    *("set", "N", "half", "by log N, %", "by I*, %", "predicted, %", "subsets, %", "deficit, nats"),
    *("saturation", "predicted, %", "subsets, %"),
)
SUMMARY_COLUMNS = ("predictor", "rows", "median, %", "largest, %", "share within 5 %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="digits and one Gaussian, up to 512 points")
    parser.add_argument("--only", default="", help="sets with this in their name")
    given = parser.parse_args()
    partial = None if given.quick else RESULTS / "prediction.partial"
    kept = json.loads(partial.read_text()) if partial is not None and partial.exists() else {}
    roles = {"chosen on": CHOSEN_ON, "seen before": SEEN, "held out": HELD_OUT}
    found: dict[str, list[dict[str, Any]]] = {}
    for role, names in roles.items():
        for name in names:
            if given.only in name and (not given.quick or name in QUICK):
                found.setdefault(role, []).extend(
                    rows_of(name, role, SIZES[:3] if given.quick else SIZES, kept, partial)
                )
                print(f"{name}: done", flush=True)
    for role, rows in found.items():
        table(role, COLUMNS, [cells(row) for row in rows])
    groups = summaries(found)
    for label, by in groups.items():
        table(label, SUMMARY_COLUMNS, _listed(by))
    if not given.quick and not given.only:
        PAGE.write_text(page(found, groups))
        save("prediction", {"summary": groups, "rows": [row for rows in found.values() for row in rows]})


def page(found: dict[str, list[dict[str, Any]]], groups: dict[str, Any]) -> str:
    """The tables as a page of the documentation."""
    parts = [HEAD]
    for role, by in groups.items():
        parts.append(f"## Errors: {role}\n\n{markdown(SUMMARY_COLUMNS, _listed(by))}")
    for role, rows in found.items():
        parts.append(f"## Sets: {role}\n\n{markdown(COLUMNS, [cells(row) for row in rows])}")
    return "\n\n".join(parts) + "\n"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table of texts and numbers."""
    lines = [columns, ["---"] * len(columns)]
    lines += [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _listed(by: dict[str, Any]) -> list[list[Any]]:
    return [[name, *values.values()] for name, values in by.items()]


if __name__ == "__main__":
    main()

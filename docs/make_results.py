"""Regenerate docs/results: `python docs/make_results.py [SET ...]`, where SET is a name below; all by default.

Every result is made by the command line, with the command that its page prints. The data sets other than digits and the
synthetic ones are looked for in the folder that FLOWSCOPE_DATA names (else ../shared/data); a set that is not there is
left as it is, and said. No training image is written.
"""

import csv
import json
import math
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from flowscope.cli import main as flowscope

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
DATA = Path(os.environ.get("FLOWSCOPE_DATA", ROOT.parent / "shared" / "data"))

TITLES = {
    "digits": "digits (scikit-learn)",
    "mnist": "MNIST, training set",
    "cifar10": "CIFAR-10 (JPEG), training set",
    "tinyimagenet": "Tiny-ImageNet 64 px, 25,000 training images",
    "gaussian": "unit Gaussians",
}
FILES = {
    "mnist": "mnist_train.npz",
    "cifar10": "cifar10_jpegbytes_train.npz",
    "tinyimagenet": "tinyimagenet64_jpegbytes_train_0.npz",
}
KEPT = {".json", ".csv", ".png"}


def commands(name: str) -> dict[str, list[str]]:
    """The results of a set and the arguments that make each."""
    if name == "gaussian":
        return {
            "stages": ["stages", "gaussian:N=1400,D=4096"],
            "sweep-D": ["sweep", "gaussian:N=1400,D=64", "--over", "D"],
            "sweep-N": ["sweep", "gaussian:N=20000,D=256", "--over", "N"],
        }
    source = FILES.get(name, name)
    made = {
        "stages": ["stages", source],
        "by-class": ["stages", source, "--conditional"],
        "sweep-N": ["sweep", source, "--over", "N"],
    }
    if name in ("digits", "mnist"):
        made["sweep-classes"] = ["sweep", source, "--over", "classes"]
    if name in ("cifar10", "tinyimagenet"):
        made["sweep-resolution"] = ["sweep", source, "--over", "resolution", "--subset", "10000"]
    return made


def make(name: str) -> None:
    """Run the commands of a set and keep tables, numbers and figures."""
    for result, arguments in commands(name).items():
        if arguments[1] in FILES.values():
            arguments[1] = str(DATA / arguments[1])
        with tempfile.TemporaryDirectory() as folder:
            images = ["--no-images"] if arguments[0] == "stages" else []
            if flowscope([*arguments, *images, "--out", folder]) != 0:
                raise SystemExit(f"{name}/{result} failed")
            target = RESULTS / name / result
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            for file in Path(folder).iterdir():
                if file.suffix in KEPT and not file.name.startswith("."):
                    shutil.copy(file, target / file.name)


def read(name: str, result: str) -> dict[str, Any] | None:
    """The numbers of a result, or None where it was not made."""
    files = list((RESULTS / name / result).glob("*.json"))
    return json.loads(files[0].read_text()) if files else None


def shown(value: float | None, digits: int = 4) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def crossing(values: list[float | None]) -> str:
    return f"{shown(values[0])} ({shown(values[1])} to {shown(values[2])})"


def error(predicted: float | None, measured: float | None) -> str:
    return "-" if predicted is None or measured is None else f"{100 * (predicted / measured - 1):+.0f} %"


def stage_row(title: str, found: dict[str, Any]) -> str:
    check, floor, half = found["information"], found["loss_floor"], found["half"][0]
    cells = [
        title,
        f"{found['training_set']['distinct']:,}",
        str(math.prod(found["training_set"]["shape"])),
        crossing(found["half"]),
        crossing(found["saturation"]),
        f"{shown(found['predicted'])} ({error(found['predicted'], half)})",
        f"{shown(found['predicted_plain'])} ({error(found['predicted_plain'], half)})",
        f"{shown(check[0], 2)} ± {shown(check[1], 2)} / {shown(check[2], 2)}",
        f"{shown(floor[0])} ± {shown(floor[1])}",
    ]
    return "| " + " | ".join(cells) + " |"


def sweep_table(found: dict[str, Any]) -> list[str]:
    lines = [f"| {found['over']} | half | saturation | predicted | by log N |", "|---|---|---|---|---|"]
    for name, variant in zip(found["names"], found["rows"], strict=True):
        half = variant["half"]
        cells = [
            name,
            crossing([half, variant["half_low"], variant["half_high"]]),
            shown(variant["saturation"]),
            f"{shown(variant['predicted'])} ({error(variant['predicted'], half)})",
            f"{shown(variant['predicted_plain'])} ({error(variant['predicted_plain'], half)})",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def read_sweep(name: str, result: str) -> dict[str, Any] | None:
    """A sweep's JSON with the rows of its CSV."""

    found = read(name, result)
    if found is None:
        return None
    with open(RESULTS / name / result / "sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found["names"] = [row.pop("name") for row in rows]
    found["rows"] = [{k: None if v == "nan" else float(v) for k, v in row.items()} for row in rows]
    return found


def write_page() -> None:
    """docs/results/README.md from what lies in docs/results."""
    columns = ["set", "N", "D", "half", "saturation", "predicted", "by log N", "self-check / log N", "floor"]
    out = [
        "# Results",
        "",
        "Made by `python docs/make_results.py`, which runs the commands printed here and writes this page from their",
        "JSON. Linear path, seed 0, 512 probes (by class: in each class). N counts distinct points. CIFAR-10 and",
        "Tiny-ImageNet are read from lossy JPEG copies.",
        "",
        "- `half`, `saturation`: where the mean top-1 weight crosses 0.5 and 0.99, with 95 % bootstrap intervals.",
        "- `predicted`: half by the finite-N threshold, and its error; beside it the old form, by log N.",
        "- `self-check`: the information integral with its standard error, in nats, against log N.",
        "- `floor`: the conditional flow-matching loss (mean over coordinates, t uniform) that no network can beat.",
        "",
        "Results with trained models: [the paper's claims on digits](models.md),",
        "[when samples become copies](memorise.md) and [which reference explains a network](explain.md). Results on",
        "trained models of MNIST are not made yet. A result names the version of the",
        "[criteria](../../src/flowscope/studies/criteria.toml) that it was judged by.",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
    ]
    for name, title in TITLES.items():
        for result, suffix in (("stages", ""), ("by-class", ", by class")):
            found = read(name, result)
            if found is not None:
                out.append(stage_row(title + suffix, found))
    for name, title in TITLES.items():
        out += ["", f"## {title}", ""]
        made = commands(name)
        out += ["```", *("flowscope " + " ".join(a) + " --out DIR" for a in made.values()), "```"]
        for result in made:
            found = read_sweep(name, result) if result.startswith("sweep") else read(name, result)
            if found is None:
                out += ["", f"{result}: not run."]
            elif result.startswith("sweep"):
                out += ["", f"### Sweep over {found['over']}", "", f"![boundaries]({name}/{result}/sweep.png)", ""]
                out += sweep_table(found)
            else:
                out += ["", f"![the two-stage curve, {result}]({name}/{result}/stages.png)"]
    (RESULTS / "README.md").write_text("\n".join(out) + "\n")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or list(TITLES):
        if chosen != "page":
            missing = FILES.get(chosen) and not (DATA / FILES[chosen]).exists()
            print(
                f"{chosen}: {FILES[chosen]} is not there, left as it is" if missing else f"making {chosen}", flush=True
            )
            if not missing:
                make(chosen)
        write_page()

"""Regenerate the results of explain: `python docs/make_explain.py SET [NETWORK ...] [--quick]`.

SET is digits or cifar16 (10,000 images of CIFAR-10, reduced to 16 pixels). An MLP, a U-Net without and with attention,
and a DiT are trained on it, in runs/explain/SET; then each is held against the references. Without a set only
docs/results/explain.md is written anew. A run can be broken off and gone on with. --quick trains for few steps into
runs/explain/quick, and leaves docs as it is. CIFAR-10 is looked for in the folder that FLOWSCOPE_DATA names (else
../shared/data).
"""

import argparse
import json
import os
import shutil
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import diffusers
import numpy as np
import torch
from torch import nn

import flowscope as fs
from flowscope.data.split import split
from flowscope.metrics import features, precision_recall
from flowscope.networks.architectures import build_network
from flowscope.report import write_finding
from flowscope.studies import Finding, explain_study
from flowscope.studies.bench.criteria import read_criteria
from flowscope.studies.bench.sample_bench import SampleBench
from flowscope.training import TrainSettings, train_to

ROOT = Path(__file__).resolve().parent.parent
RESULTS, RUNS = ROOT / "docs" / "results", ROOT / "runs" / "explain"
DATA = Path(os.environ.get("FLOWSCOPE_DATA", ROOT.parent / "shared" / "data"))
KEPT = {".json", ".csv", ".png"}
SAMPLES, STEPS, PRECISION_SAMPLES = 64, 25, 1000
NETWORKS = {
    "mlp": "MLP",
    "plain-unet": "U-Net without attention",
    "unet": "U-Net with attention",
    "dit-s": "DiT",
}


class Plan(NamedTuple):
    """How the results of a set are made."""

    title: str
    source: str
    resize: int | None
    subset: int | None
    held_out: int
    settings: dict[str, dict[str, Any]]  # of training, by network; those under "all" are for each


PLANS = {
    "digits": Plan(
        "digits (scikit-learn), 8 px",
        "digits",
        None,
        None,
        180,
        {
            "all": {"batch": 64, "schedule": "cosine", "snapshots": 2, "checkpoint_every": 1000},
            "mlp": {"width": 256, "steps": 12000},
            "plain-unet": {"width": 32, "steps": 6000},
            "unet": {"width": 32, "steps": 6000},
            "dit-s": {"width": 64, "steps": 3000, "learning_rate": 5e-4},
        },
    ),
    "cifar16": Plan(
        "CIFAR-10 (JPEG), 16 px",
        str(DATA / "cifar10_jpegbytes_train.npz"),
        16,
        11000,
        1000,
        {
            "all": {"batch": 64, "schedule": "cosine", "snapshots": 2, "checkpoint_every": 250},
            "plain-unet": {"width": 32, "steps": 2500},
            "unet": {"width": 32, "steps": 2500},
        },
    ),
}  # fmt: skip


def build(name: str, settings: TrainSettings, shape: tuple[int, ...], classes: int) -> Any:
    """flowscope's own U-Net with convolutions alone; None for networks that flowscope builds."""
    if name != "plain-unet":
        return None
    own: Any = build_network("unet", shape, classes, width=settings.width, seed=settings.seed)
    config = dict(own.config)
    levels = len(config["block_out_channels"])
    config |= {"down_block_types": ("DownBlock2D",) * levels, "up_block_types": ("UpBlock2D",) * levels}
    torch.manual_seed(settings.seed)
    make: Any = diffusers.UNet2DModel  # untyped
    network: Any = make(**(config | {"add_attention": False}))
    for weight in network.conv_out.parameters():
        nn.init.zeros_(weight)  # begins as the zero field, as flowscope's networks do
    return network


def train(name: str, plan: Plan, points: fs.TrainingSet, folder: Path, quick: bool) -> Any:
    """The trained network as a field; what is there is gone on with."""
    chosen: dict[str, Any] = {"model": "unet" if name == "plain-unet" else name, "steps": 2000}
    chosen |= plan.settings["all"] | plan.settings[name] | ({"steps": 40} if quick else {})
    settings = TrainSettings(**chosen)
    classes = len(points.classes)
    network = build(name, settings, points.shape, classes)
    train_to(points, settings, folder, held_out=plan.held_out, resume=True, device="cpu", network=network, tracker=None)
    return fs.load_model(folder, network=build(name, settings, points.shape, classes))


def quality(field: Any, oracle: fs.Oracle, rest: fs.TrainingSet, count: int) -> dict[str, float]:
    """Precision of the model's samples and of held-out points."""
    bench = SampleBench(oracle, rest, (field,), 1, count, None, 0, 250, None, fd=False)
    drawn = bench.draw(field, np.linspace(0, 1, STEPS + 1))
    own = precision_recall(bench.real_subset, features(drawn, bench.feature_space), bench.space_of_features)
    return {"precision": own.precision, "recall": own.recall, "held_out_precision": bench.held_out_precision}


def make(set_name: str, names: list[str], quick: bool) -> None:
    """Train, run the study on each network, and keep tables, numbers and figures."""
    plan = PLANS[set_name]
    runs = RUNS / "quick" / set_name if quick else RUNS / set_name
    points = fs.load(plan.source, resize=plan.resize, subset=600 if quick else plan.subset)
    plan = plan._replace(held_out=60) if quick else plan
    stay, rest = split(points, plan.held_out)
    if rest is None:
        raise SystemExit("no points are held out")
    oracle = fs.Oracle(stay)
    for name in [n for n in plan.settings if n != "all" and (not names or n in names)]:
        print(f"{set_name}: {name}", flush=True)
        field = train(name, plan, points, runs / name, quick)
        found = explain_study(field, oracle, rest, n=8 if quick else SAMPLES, steps=4 if quick else STEPS)
        page = runs / f"{name}-page"
        found.save(page)
        write_finding(found, page)
        about = {n: field.about.get(n) for n in ("step", "seconds", "parameters", "device", "versions", "settings")}
        about |= quality(field, oracle, rest, 60 if quick else PRECISION_SAMPLES)
        (page / "model.json").write_text(json.dumps(about, indent=1) + "\n")
        if not quick:
            keep(page, RESULTS / set_name / "explain" / name)


def keep(page: Path, target: Path) -> None:
    """Tables, numbers and figures to docs/results; no picture of training images is among them."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for file in page.iterdir():
        if file.suffix in KEPT and not file.name.startswith(".") and "_grid" not in file.stem:
            shutil.copy(file, target / file.name)


def write_page() -> None:
    """docs/results/explain.md from what lies in docs/results."""
    out = [
        "# Which reference explains a network?",
        "",
        "Made by `python docs/make_explain.py SET`: networks trained for it on the CPU, held against the",
        "[references](../references.md) by the study [explain](../studies.md#explain); this page from its JSON.",
        "",
        "Published, of final samples from equal noise: Kamb and Ganguli (arXiv 2412.20292), local denoisers with",
        "patches fitted to the network: median r2 of 0.94 to 0.96 for convolutional networks, 0.77 with attention.",
        "GoldDiff (arXiv 2602.16498), the oracle: -0.40, 0.01 and -0.71 on three sets. Here samples start from equal",
        "noise and labels, too, and r2 is over the pixels of each sample, the median over samples with its 95 %",
        f"interval. What differs: {SAMPLES} samples, {STEPS} Euler steps, smaller images and networks, and patches",
        "whose side follows the noise level and the training set, none of it fitted to a network.",
    ]
    for set_name, plan in PLANS.items():
        out += ["", f"## {plan.title}", ""]
        folder = RESULTS / set_name / "explain"
        names = [n for n in NETWORKS if (folder / n / "explain.json").exists()]
        out += about_set(set_name, folder, names) if names else ["Not run."]
    (RESULTS / "explain.md").write_text("\n".join(out) + "\n")


def about_set(set_name: str, folder: Path, names: list[str]) -> list[str]:
    """The table of a set, and a sentence and a figure for each network."""
    found = {name: Finding.load(folder / name, "explain") for name in names}
    about = {name: json.loads((folder / name / "model.json").read_text()) for name in names}
    weak = read_criteria()["shared"]["weak_precision"]
    first = found[names[0]]
    made = (
        f"`python docs/make_explain.py {set_name}`, N = {first.training_set['N']:,}. A network whose precision is "
        f"under {weak:g} of that of held-out points is too weak for a conclusion. Criteria: version "
        f"{first.provenance['criteria']}."
    )
    lines = [
        wrapped(made),
        "",
        "| network | parameters | steps | seconds | precision, of that of held-out points | "
        + " | ".join(f"{name}: r2 of final samples" for name in first.tables["final"]["reference"])
        + " |",
    ]
    lines.append("|" + "---|" * (5 + len(first.tables["final"]["reference"])))
    for name in names:
        model, final = about[name], found[name].tables["final"]
        share = model["precision"] / model["held_out_precision"]
        cells = [NETWORKS[name], f"{model['parameters']:,}", f"{model['step']:,}", f"{model['seconds']:,.0f}"]
        cells.append(f"{share:.2f}" + ("" if share >= weak else ", too weak"))
        ends = zip(final["r2"], final["r2_low"], final["r2_high"], strict=True)
        cells += [f"{value:.2f} ({low:.2f} to {high:.2f})" for value, low, high in ends]
        lines.append("| " + " | ".join(cells) + " |")
    for name in names:
        picture = f"{set_name}/explain/{name}/explain.png"
        lines += ["", f"### {NETWORKS[name]}, {PLANS[set_name].title}", "", wrapped(found[name].found), ""]
        lines.append(f"![{NETWORKS[name]}, {set_name}]({picture})")
    return lines


def wrapped(text: str) -> str:
    return fill(text, 120, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("set", nargs="?", choices=[*PLANS])
    parser.add_argument("network", nargs="*", choices=[[], *NETWORKS])
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.set:
        make(given.set, given.network, given.quick)
    if not given.quick:
        write_page()

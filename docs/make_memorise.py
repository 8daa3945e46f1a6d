"""Regenerate the results of memorise: `python docs/make_memorise.py SET [--steps N] [--draws K] [--quick]`.

SET is digits or mnist14 (MNIST reduced to 14 pixels); without one only docs/results/memorise.md is written anew. One
model is trained for each number of points and each draw of them, all for the same steps, in runs/memorise. A run can be
broken off and gone on with: first every model takes an eighth of the steps, then a quarter, a half, and all. --quick
trains on few points for few steps into runs/memorise/quick, and leaves docs as it is. MNIST is looked for in the folder
that FLOWSCOPE_DATA names (else ../shared/data).
"""

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch

import flowscope as fs
from flowscope.report import write_finding
from flowscope.studies import Finding, memorise_study
from flowscope.studies.memorise.sizes import part_of
from flowscope.training import TrainSettings, train_to
from flowscope.training.model_store import read_about

ROOT = Path(__file__).resolve().parent.parent
RESULTS, RUNS = ROOT / "docs" / "results", ROOT / "runs" / "memorise"
DATA = Path(os.environ.get("FLOWSCOPE_DATA", ROOT.parent / "shared" / "data"))
KEPT = {".json", ".csv", ".png"}
ROUNDS = (8, 4, 2, 1)  # what every model has taken of the steps, before any takes more


class Plan(NamedTuple):
    """How the results of a set are made."""

    title: str
    source: str
    resize: int | None
    sizes: tuple[int, ...]
    settings: dict[str, Any]


SHARED = {"model": "mlp", "width": 256, "batch": 64, "label_dropout": 1.0, "snapshots": 12, "checkpoint_every": 2048}
PLANS = {
    "digits": Plan("digits (scikit-learn), 8 px", "digits", None, (64, 256, 1024), SHARED),
    "mnist14": Plan("MNIST, 14 px", str(DATA / "mnist_train.npz"), 14, (64, 256, 1024, 4096), SHARED),
}
QUICK_STEPS, QUICK_SHARE = 256, 4  # of a quick run: its steps, and what its sizes are divided by
QUICK_EFFORT = {"n": 64, "steps": 10, "probes": 80}


def folder_of(name: str, size: int, draw: int, quick: bool) -> Path:
    return (RUNS / "quick" if quick else RUNS) / f"{name}-{size}-{draw}"


def train_all(name: str, whole: fs.TrainingSet, sizes: list[int], draws: int, steps: int, quick: bool) -> list[Path]:
    """Train what is missing, in rounds, so that whatever is broken off has models of equal steps."""
    wanted = [(size, draw) for draw in range(draws) for size in sizes]
    for part in (1,) if quick else ROUNDS:
        for size, draw in wanted:
            settings = TrainSettings(**PLANS[name].settings, steps=steps // part, seed=draw)
            folder = folder_of(name, size, draw, quick)
            finished = (folder / "model.json").exists() or part > 1
            if steps_of(folder) < settings.steps or not finished:
                print(f"{name}: N = {size}, draw {draw}, to step {settings.steps}", flush=True)
                train_to(part_of(whole, size, draw), settings, folder, resume=True, device="cpu", tracker=None)
    return [folder_of(name, size, draw, quick) for size, draw in wanted]


def steps_of(folder: Path) -> int:
    """The steps that a model has taken, finished or not; 0 where there is none."""
    try:
        return int(read_about(folder)["step"])
    except fs.InputError:
        return 0


def make(name: str, steps: int, draws: int, quick: bool) -> None:
    """Train, run the study, and keep tables, numbers and figures."""
    plan = PLANS[name]
    whole = fs.load(plan.source, resize=plan.resize)
    sizes = [size // QUICK_SHARE for size in plan.sizes[:2]] if quick else list(plan.sizes)
    folders = train_all(name, whole, sizes, draws, steps, quick)
    found = memorise_study(folders, whole, sizes=sizes, **(QUICK_EFFORT if quick else {}))  # type: ignore[arg-type]
    place = (RUNS / "quick" if quick else RUNS) / f"{name}-page"
    found.save(place)
    write_finding(found, place)
    if quick:
        print(found.found)
        return
    target = RESULTS / name / "memorise"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for file in place.iterdir():
        if file.suffix in KEPT and not file.name.startswith("."):
            shutil.copy(file, target / file.name)
    (target / "models.json").write_text(json.dumps([about_of(folder) for folder in folders], indent=1) + "\n")


def about_of(folder: Path) -> dict[str, Any]:
    """What a page says of a model."""
    about = json.loads((folder / "model.json").read_text())
    names = ("step", "seconds", "parameters", "settings", "device", "versions")
    return {"points": about["training_set"]["points"]} | {name: about.get(name) for name in names}


def write_page() -> None:
    """docs/results/memorise.md from what lies in docs/results."""
    out = ["# When do samples become copies?", "", "Made by `python docs/make_memorise.py SET`: the study "]
    out[-1] += "[memorise](../studies.md#memorise) on"
    out += ["models that were trained for it on the CPU, and this page from its JSON.", ""]
    for name, plan in PLANS.items():
        folder = RESULTS / name / "memorise"
        out += [f"## {plan.title}", ""]
        if not (folder / "memorise.json").exists():
            out += ["Not run.", ""]
            continue
        out += about_set(name, Finding.load(folder, "memorise"), json.loads((folder / "models.json").read_text()))
    (RESULTS / "memorise.md").write_text("\n".join(out).rstrip("\n") + "\n")


def about_set(name: str, found: Finding, models: list[dict[str, Any]]) -> list[str]:
    """The words, times and figure of a set."""
    settings, seconds = models[0]["settings"], sum(model["seconds"] for model in models)
    command, network = f"python docs/make_memorise.py {name} --steps {settings['steps']}", settings["model"]
    trained = (
        f"`{command}`: {len(models)} models ({network}, width {settings['width']}, {models[0]['parameters']:,} "
        f"parameters, without labels), {settings['steps']:,} steps with a batch of {settings['batch']}, "
        f"{seconds:,.0f} s in all on {models[0]['device']}."
    )
    lines = [f"**{found.verdict}.** {found.found}", "", trained, "", f"Criterion: {found.why}", ""]
    names = ("points", "draw", "last_step", "copies_after", "copies_by", "good_after", "good_by", "gap_by", "half")
    columns = [found.tables["memorise"][column] for column in names]
    lines += ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(shown(value) for value in row) + " |" for row in zip(*columns, strict=True)]
    pictures = {"memorise": "when samples become copies", "memorise_grid": "samples and their nearest training images"}
    for picture, what in pictures.items():
        if (RESULTS / name / "memorise" / f"{picture}.png").exists():
            lines += ["", f"![{what}, {name}]({name}/memorise/{picture}.png)"]
    return [*lines, ""]


def shown(value: Any) -> str:
    if value != value:
        return "censored"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.3f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("set", nargs="*", choices=[[], *PLANS])
    parser.add_argument("--steps", type=int, default=65536)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for chosen in given.set:
        make(chosen, QUICK_STEPS if given.quick else given.steps, given.draws, given.quick)
    if not given.quick:
        write_page()

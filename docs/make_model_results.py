"""Regenerate the results with trained models: `python docs/make_model_results.py SET [--device D] ...`.

SET is digits, mnist14 (MNIST reduced to 14 pixels) or cifar10; without one only docs/results/models.md is written
anew, from what lies there. Models and pages are kept in runs/results/SET, so that a
run can be broken off and gone on with; tables, numbers and figures go to docs/results/SET/models. --quick trains small
networks for few steps, runs every study with few samples in runs/results/quick/SET, and leaves docs as it is. MNIST and
CIFAR-10 are looked for in the folder that FLOWSCOPE_DATA names (else ../shared/data). Training images are written to
docs of digits and MNIST alone.
"""

import argparse
import json
import math
import os
import shutil
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch

import flowscope as fs
from flowscope.data.split import split
from flowscope.report import write_finding, write_stages
from flowscope.reproduction.plan import NEEDS, make_recipe
from flowscope.reproduction.reproduce import held_out_count, reproduce
from flowscope.studies.bench.criteria import read_criteria
from flowscope.training import train_to

ROOT = Path(__file__).resolve().parent.parent
RESULTS, RUNS = ROOT / "docs" / "results", ROOT / "runs" / "results"
DATA = Path(os.environ.get("FLOWSCOPE_DATA", ROOT.parent / "shared" / "data"))
KEPT = {".json", ".csv", ".png"}
GRIDS = "*_grid*.png"  # pictures with training images
SPAWN = get_context("spawn")  # a forked process cannot use a GPU


class Plan(NamedTuple):
    """How the results of a set are made."""

    title: str
    source: str
    held_out: int
    seeds: int
    steps: int
    settings: dict[str, dict[str, Any]]
    options: dict[str, dict[str, Any]]
    foreign: str | None = None
    only: list[str] | None = None
    made: str = ""  # where the results in docs were made
    resize: int | None = None  # the side of its images in pixels; None for what they have
    grids: bool = False  # whether its training images may be shown in docs


PLANS = {
    "digits": Plan(
        title="digits (scikit-learn)",
        grids=True,
        source="digits",
        held_out=180,
        seeds=5,
        steps=12000,
        settings={"all": {"model": "mlp", "width": 128, "batch": 64}, "large": {"width": 256}},
        options={"all": {"n": 1000, "batch": 500}, "intermediate": {"n": 64}, "refine": {"n": 64}},
        made="Made on one core of a shared machine.",
    ),
    "mnist14": Plan(
        title="MNIST, 14 px",
        grids=True,
        source=str(DATA / "mnist_train.npz"),
        resize=14,
        held_out=6000,
        seeds=3,
        steps=16000,
        settings={"all": {"model": "mlp", "width": 256, "batch": 64}, "large": {"width": 512}},
        options={"all": {"n": 2048, "batch": 512}, "intermediate": {"n": 64}, "refine": {"n": 64}},
        foreign="digits",
        made="Made on one core of a shared machine.",
    ),
    "cifar10": Plan(
        title="CIFAR-10 (JPEG)",
        source=str(DATA / "cifar10_jpegbytes_train.npz"),
        held_out=5000,
        seeds=1,
        steps=4000,
        settings={
            "all": {"batch": 128, "width": 32, "precision": "no", "learning_rate": 1e-3, "schedule": "cosine"},
            "large": {"width": 32},
        },
        options={
            "all": {"batch": 64},
            "intermediate": {"n": 16},
            "switch": {"n": 32},
            "refine": {"n": 16},
            "norm": {"n": 128},
            "alignment": {"n": 512},
        },
        only=["intermediate", "switch", "refine", "norm", "alignment"],
        made="The studies were run on one CPU core.",
    ),
}  # fmt: skip


def load_points(plan: Plan) -> fs.TrainingSet:
    return fs.load(plan.source, resize=plan.resize)


def foreign_of(plan: Plan, shape: Any) -> fs.TrainingSet | None:
    return None if plan.foreign is None else fs.load(plan.foreign, resize=shape[1:])


def run(
    name: str,
    device: str,
    only: list[str] | None,
    say: Callable[[str], None] = print,
    budget: float = math.inf,
) -> None:
    """reproduce() with the settings of a set, for some of its studies; what is there is not made again."""
    plan = PLANS[name]
    data = load_points(plan)

    def page(result: Any, folder: Path) -> None:
        (write_stages if isinstance(result, fs.StageCurve) else write_finding)(result, folder)

    reproduce(
        data,
        RUNS / name,
        held_out=plan.held_out,
        seeds=plan.seeds,
        steps=plan.steps,
        settings=plan.settings,
        options=plan.options,
        foreign=foreign_of(plan, data.shape),
        only=only,
        resume=True,
        budget=budget,
        device=device,
        memory="4GB",
        tell=lambda what: say(f"{name}: {what}"),
        each=page,
    )


def run_quick(name: str, device: str) -> None:
    """Every study of a set with small networks and few samples, in a folder of its own."""
    plan = PLANS[name]
    data = load_points(plan)
    folder, held_out = RUNS / "quick" / name, min(plan.held_out, len(data) // 10)
    say = partial(print, f"{name}:", flush=True)
    reproduce(data, folder, held_out=held_out, quick=True, only=plan.only, resume=True, device=device, tell=say)


def train_one(name: str, model: str, settings: Any, device: str) -> str:
    """One model of a set, in a process of its own."""
    torch.set_num_threads(1)
    plan = PLANS[name]
    folder = RUNS / name / "models" / model
    train_to(load_points(plan), settings, folder, held_out=plan.held_out, resume=True, device=device, tracker=None)
    return f"{name}: {model} is trained"


def study_one(name: str, study: str, device: str) -> str:
    """One study of a set, in a process of its own."""
    torch.set_num_threads(2)
    run(name, device, [study], lambda what: None)
    return f"{name}: {study} is done"


ORDER = ("oracle", "small", "large")  # what most studies wait for, and what takes longest, first


def order_of(model: str) -> tuple[int, int]:
    """Where a model comes in the queue."""
    kind, seed = model.rsplit("-", 1)
    return (ORDER.index(kind) if kind in ORDER else len(ORDER), int(seed))


def in_processes(name: str, device: str, workers: int) -> list[str]:
    """Train in several processes, and run every study as soon as its models are there. Returns the studies done."""
    plan, data = PLANS[name], load_points(PLANS[name])
    train, _ = split(data, held_out_count(data, plan.held_out))
    curve = fs.StageCurve.load(RUNS / name / "stages")
    recipe = make_recipe(False, plan.seeds, plan.steps, plan.settings, plan.only, device)
    models = recipe.models(train.shape, round(curve.half.t, 3))
    waiting = {study: {m for m in models if m.rsplit("-", 1)[0] in sum(NEEDS[study], ())} for study in recipe.studies}
    done: list[str] = []
    with ProcessPoolExecutor(workers, SPAWN) as trainers, ProcessPoolExecutor(max(2, workers // 2), SPAWN) as students:
        jobs = {trainers.submit(train_one, name, m, models[m], device): m for m in sorted(models, key=order_of)}
        while jobs:
            for job in wait(jobs, return_when=FIRST_COMPLETED).done:
                what = jobs.pop(job)
                if job.exception() is not None:  # the others go on; what is missing is said at the end
                    print(f"{name}: {what} failed: {job.exception()!r}", flush=True)
                    continue
                print(job.result(), flush=True)
                done += [what] if what in recipe.studies else []
                for study in [s for s, needed in waiting.items() if what in needed]:
                    waiting[study].discard(what)
                    if not waiting[study]:
                        jobs[students.submit(study_one, name, study, device)] = study
    return [study for study in recipe.studies if study in done]


def make(name: str, device: str, workers: int, budget: float) -> None:
    """Everything of one set, in several processes where that is wanted, or what fits into a budget."""
    wanted = PLANS[name].only
    run(name, device, [])
    if workers > 1:
        wanted = in_processes(name, device, workers)
    run(name, device, wanted, budget=budget)
    keep(name)


def keep(name: str) -> None:
    """Tables, numbers and figures to docs/results."""
    target = RESULTS / name / "models"
    shutil.rmtree(target, ignore_errors=True)
    for file in sorted((RUNS / name).rglob("*")):
        place = file.relative_to(RUNS / name)
        if (
            file.suffix in KEPT
            and not file.name.startswith(".")
            and place.parts[0] not in ("models", "stages")
            and file.name != "inputs.json"
            and (PLANS[name].grids or not file.match(GRIDS))
        ):
            (target / place.parent).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target / place)
    for samples in (RUNS / name / "models").glob("large-0/samples.png"):
        shutil.copy(samples, target / "samples.png")


def write_page() -> None:
    """docs/results/models.md from what lies in docs/results."""
    found = {}
    for name in PLANS:
        file = RESULTS / name / "models" / "reproduction.json"
        if file.exists():
            found[name] = json.loads(file.read_text())
    out = [
        "# Results with trained models",
        "",
        "Made by `python docs/make_model_results.py SET`, which trains the models, runs every study on them and writes",
        "this page from the results. Claims are those of arXiv 2512.02826; every verdict rests on the criterion said",
        "with it, of the version that the result names. These are small models on small data: what they say of the",
        "paper's models is what the last column says, no more.",
        "",
        "## The paper's claims",
        "",
        "The last column says which [references](../references.md) lie on the model's side of halfway to the oracle.",
        "If those without memory do (Wiener, class-wise Wiener, Gaussian mixture), the finding is no sign of memory.",
        "",
        "| in the paper | claim | what was found | with what | verdict | the references that share it |",
        "|---|---|---|---|---|---|",
        *claims(found),
    ]
    for name, plan in PLANS.items():
        out += ["", f"## {plan.title}", ""]
        out += (
            [*about(name, found[name]), *rows(name, found[name]), *studies(name, found[name])]
            if name in found
            else ["Not run."]
        )
    (RESULTS / "models.md").write_text("\n".join(out) + "\n")


def claims(found: dict[str, dict[str, Any]]) -> list[str]:
    """A row for each claim of the paper and each set."""
    order = list(dict.fromkeys(row["study"] for one in found.values() for row in one["rows"]))
    lines = []
    for study in order:
        for name, one in found.items():
            for row in (row for row in one["rows"] if row["study"] == study and row["page"]):
                count = f"{row['models']} model{'s' * (row['models'] != 1)}" if row["models"] else "no model"
                first = ". ".join(row["found"].split(". ")[:2]).rstrip(".") + "."
                cells = [row["where"], row["claim"], first, f"{PLANS[name].title}; {count}", row["verdict"]]
                lines.append(
                    "| " + " | ".join(cell.replace("|", "\\|") for cell in [*cells, shared(name, study)]) + " |"
                )
    return lines


def shared(name: str, study: str) -> str:
    """The references whose place lies on the model's side of halfway between no memory and the oracle."""
    file = RESULTS / name / "models" / study / f"{study}.json"
    if not file.exists():
        return "-"
    table = json.loads(file.read_text())["tables"].get("references", {})
    if "place" not in table:
        return "see its page"
    places = dict(zip(table["reference"], table["place"], strict=True))
    own = places.pop("model", None)
    if own is None:
        return "it cannot tell"
    halfway = read_criteria()["shared"]["halfway"]
    return (
        ", ".join(n for n, place in places.items() if place is not None and (place > halfway) == (own > halfway))
        or "none"
    )


def about(name: str, found: dict[str, Any]) -> list[str]:
    """What was trained, and what it took."""
    plan, models = PLANS[name], found["models"]
    kinds = sorted({model.rsplit("-", 1)[0] for model in models})
    made = (
        f"`python docs/make_model_results.py {name}`: {len(models)} models on {found['training_set']['N']:,} points "
        f"({plan.held_out:,} held out). Frechet distances in {found['settings']['space']}. torch "
        f"{found['provenance']['torch']}. {plan.made}"
    )
    lines = [
        made,
        "",
        "| model | network | seeds | width | parameters | steps | batch | seconds a model |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind in kinds:
        same = [about for model, about in models.items() if model.rsplit("-", 1)[0] == kind]
        settings = same[0]["settings"]
        seconds = ", ".join(f"{about['seconds']:.0f}" for about in same)
        seeds = ", ".join(str(about["settings"]["seed"]) for about in same)
        sizes = [settings["width"], f"{same[0]['parameters']:,}", settings["steps"], settings["batch"]]
        cells = [kind, settings["model"], seeds, *sizes]
        lines.append("| " + " | ".join(map(str, [*cells, seconds])) + " |")
    return lines


def rows(name: str, found: dict[str, Any]) -> list[str]:
    """A row for each figure and table of the paper."""
    lines = ["", "| in the paper | study | what was found here | verdict | why |", "|---|---|---|---|---|"]
    for row in found["rows"]:
        if row["study"] == "sweep":
            row |= {"verdict": "see there", "why": "it needs no model: [the sweeps](README.md)"}
        link = f"[{row['study']}]({name}/models/{row['study']}/{row['study']}.png)" if row["page"] else row["study"]
        link = row["study"] if row["study"] == "stages" else link
        words = (row["found"] or "-").replace("|", "\\|"), row["why"].replace("|", "\\|")
        lines.append(f"| {row['where']} | {link} | {words[0]} | {row['verdict']} | {words[1]} |")
    return lines


def studies(name: str, found: dict[str, Any]) -> list[str]:
    """The figures."""
    lines = []
    for row in found["rows"]:
        picture = f"{name}/models/{row['study']}/{row['study']}.png"
        if (RESULTS / picture).exists():
            lines += ["", f"### {row['title']} ({row['where']})", "", f"![{row['title']}]({picture})"]
        for grid in sorted((RESULTS / name / "models" / row["study"]).glob(GRIDS)):
            lines += ["", f"![{row['title']}: images]({grid.relative_to(RESULTS).as_posix()})"]
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("set", nargs="*", choices=[[], *PLANS])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="small networks and few samples; docs stay as they are")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--budget", type=float, default=math.inf, help="minutes after which nothing new is begun")
    given = parser.parse_args()
    for chosen in given.set:
        if given.quick:
            run_quick(chosen, given.device)
        else:
            make(chosen, given.device, given.workers, given.budget)
    if not given.quick:
        write_page()

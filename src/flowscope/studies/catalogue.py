"""Catalogue: the studies of a model by name, and how each is called with what is given."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, NamedTuple

from flowscope.errors import InputError, unknown_name
from flowscope.metrics.features import PIXELS
from flowscope.networks import NetworkField
from flowscope.studies.ablation import ablation_study
from flowscope.studies.alignment import alignment_study
from flowscope.studies.bench.finding import Finding
from flowscope.studies.bench.variants import snapshots_of
from flowscope.studies.capacity import capacity_study
from flowscope.studies.convergence import convergence_study
from flowscope.studies.experts import experts_study
from flowscope.studies.guidance import guidance_study
from flowscope.studies.inputs import Given, check_kinds, check_seeds
from flowscope.studies.intermediate import intermediate_study
from flowscope.studies.loss import loss_study
from flowscope.studies.norm import norm_study
from flowscope.studies.refine import refine_study
from flowscope.studies.shift import shift_study
from flowscope.studies.switch import switch_study
from flowscope.studies.target import target_study

QUICK = {"n": 128, "samples": 128, "steps": 20}  # what gives a first impression
COUNTS = ("n", "samples")
SCHEDULE = ("density", "shift", "navigation", "boundary", "path")  # what `ablation` is about


class Entry(NamedTuple):
    """A study.

    Attributes:
        where: its row among the paper's figures and tables. question: what it asks, in a line.
        study: the function. arguments: those of its arguments that come from what is given.
        seeds: whether it takes a model for each of several seeds.
        other: which models of a second kind it takes; "" for none. optional: whether it can do without.
    """

    where: str
    question: str
    study: Callable[..., Finding]
    arguments: Callable[[Given], tuple[Any, ...]]
    seeds: bool = False
    other: str = ""
    optional: bool = False


def _one(g: Given) -> tuple[Any, ...]:
    return g.models[0], g.oracle


def _one_and_held_out(g: Given) -> tuple[Any, ...]:
    return g.models[0], g.oracle, g.held_out


def _one_and_foreign(g: Given) -> tuple[Any, ...]:
    return g.models[0], g.oracle, g.held_out, g.foreign


def _seeds(g: Given) -> tuple[Any, ...]:
    return list(g.models), g.oracle, g.held_out


def _two_kinds(g: Given) -> tuple[Any, ...]:
    check_seeds(g.others, "--other")
    return list(g.models), list(g.others), g.oracle, g.held_out


def _larger(g: Given) -> tuple[Any, ...]:
    found = _two_kinds(g)
    sizes = [[model.about["parameters"] for model in group] for group in (g.models, g.others)]
    if min(sizes[1]) <= max(sizes[0]):
        raise InputError(
            f"--model has {max(sizes[0]):,} parameters and --other {min(sizes[1]):,}; expected {LARGE}: the small one "
            "as --model, the large one as --other"
        )
    return found


def _targets(g: Given) -> tuple[Any, ...]:
    found = [sorted({str(model.about["settings"]["target"]) for model in group}) for group in (g.models, g.others)]
    if found[1] != ["oracle"] or "oracle" in found[0]:
        raise InputError(
            f"the targets are {', '.join(found[0])} of --model and {', '.join(found[1])} of --other; expected "
            f"{ORACLE}, and --model with the usual target"
        )
    check_kinds(g.models, g.others, ORACLE, ("target",))
    return _two_kinds(g)


def _experts(g: Given) -> tuple[Any, ...]:
    first = [m for m in g.others if _interval(m)[0] == 0]
    second = [m for m in g.others if _interval(m)[0] > 0]
    for experts in (first, second):
        if len(experts) != len(g.models):
            raise InputError(
                f"got {len(g.models)} models of all of [0, 1], {len(first)} of a part from 0 on and {len(second)} of a "
                "later part; expected as many of each: train the experts with --interval 0 T and --interval T 1"
            )
        check_seeds(experts, "--other")
    return list(g.models), first, second, g.oracle, g.held_out


def _interval(model: NetworkField) -> tuple[float, float]:
    low, high = model.about["settings"]["interval"]
    return float(low), float(high)


def _all_kinds(g: Given) -> tuple[Any, ...]:
    check_kinds(g.models, g.others, SCHEDULES, SCHEDULE)
    return [*g.models, *g.others], g.oracle


def _losses(g: Given) -> tuple[Any, ...]:
    early = [model for folder in g.folders for _, model in snapshots_of(folder, g.oracle.device)[:-1]]
    return [*early, *g.models, *g.others], g.oracle, g.held_out


def _runs(g: Given) -> tuple[Any, ...]:
    return [*g.folders, *g.other_folders], g.oracle


ASKED = "a question of the paper's reviewers"
LARGE = "models of a larger size, one for each --model"
ORACLE = "models trained with --target oracle, one for each --model"
EXPERTS = "the two experts, trained with --interval 0 T and --interval T 1"
SCHEDULES = "models trained with other timestep densities, shifts or paths"
SIZES = "models of other sizes"
TRAININGS = "models trained otherwise"

CATALOGUE: Mapping[str, Entry] = {
    "intermediate": Entry("Fig. 4, 15", "What do model and oracle predict on the way?", intermediate_study, _one),
    "switch": Entry("Fig. 5, 13, 14", "When does the oracle's way turn into copies?", switch_study, _one_and_held_out),
    "refine": Entry("Fig. 6", "Does refinement work on what it never saw?", refine_study, _one_and_foreign),
    "loss": Entry("Fig. 7", "Where in time is the loss?", loss_study, _losses, True, SIZES, True),
    "norm": Entry("Fig. 8", "How long is the velocity, and how does it diverge?", norm_study, _one),
    "convergence": Entry("Fig. 10, 12", "How fast is training?", convergence_study, _runs, True, TRAININGS, True),
    "capacity": Entry("Tab. 1", "Which stage needs the large model?", capacity_study, _larger, True, LARGE),
    "shift": Entry("Tab. 2", "How many steps belong before the boundary?", shift_study, _seeds, True),
    "guidance": Entry("Tab. 3", "Where in time does guidance help?", guidance_study, _seeds, True),
    "experts": Entry(ASKED, "Are two experts better than one model?", experts_study, _experts, True, EXPERTS),
    "target": Entry(ASKED, "What if a model learns the oracle itself?", target_study, _targets, True, ORACLE),
    "alignment": Entry(ASKED, "Which part of the oracle does the model follow?", alignment_study, _one_and_held_out),
    "ablation": Entry(ASKED, "Does the schedule move the transition?", ablation_study, _all_kinds, True, SCHEDULES),
}


def find(name: str) -> Entry:
    """A study by name.

    Raises:
        InputError: there is none of that name; the message lists them.
    """
    if name not in CATALOGUE:
        raise unknown_name("the study", name, CATALOGUE)
    return CATALOGUE[name]


def options_of(name: str) -> tuple[str, ...]:
    """The options of a study by name: all its arguments that are not models or points."""
    known = signature(find(name).study).parameters.values()
    return tuple(p.name for p in known if p.kind == p.KEYWORD_ONLY and p.name != "space")


def check_study(name: str, models: int, others: int, **options: Any) -> None:
    """Refuse a study without the models it needs, or with options it does not have, before anything is loaded.

    Raises:
        InputError: that is so.
    """
    entry = find(name)
    if entry.other and not others and not entry.optional:
        raise InputError(f"study {name} compares two kinds of models; expected {entry.other}: --other MODEL_DIR")
    if others and not entry.other:
        raise InputError(f"study {name} is of one kind of model; expected no --other: leave it out")
    if models > 1 and not entry.seeds:
        raise InputError(f"study {name} is of a single model, and there are {models}; expected one --model")
    unknown = [option for option in options if option not in options_of(name)]
    if unknown:
        has = [option for option in options_of(name) if option != "progress"]
        raise unknown_name(f"an option of study {name}", unknown[0], has)


def quick_options(name: str, given: Given) -> dict[str, Any]:
    """Options of a study that make it quick. A Frechet distance needs more samples than there are features."""
    found = {key: value for key, value in QUICK.items() if key in options_of(name)}
    if "space" not in signature(find(name).study).parameters:
        return found
    if given.space is not None and given.space.module is not None:  # who knows how many features
        return {key: value for key, value in found.items() if key not in COUNTS}
    least = 2 * given.oracle.training_set.dimension
    return {key: max(value, least) if key in COUNTS else value for key, value in found.items()}


def run_study(name: str, given: Given, *, quick: bool = False, **options: Any) -> Finding:
    """A study of what is given.

    Args:
        name: of the catalogue. given: models, oracle and points. quick: fewer samples and steps, where not said.
        options: further arguments of the study, as far as it has them.

    Raises:
        InputError: something of it cannot be used.
    """
    entry = find(name)
    check_study(name, len(given.models), len(given.others), **options)
    defaults = quick_options(name, given) if quick else {}
    if "space" in signature(entry.study).parameters:
        defaults["space"] = given.space or PIXELS
        few = len(given.oracle.training_set) <= given.oracle.training_set.dimension
        if name == "convergence" and given.space is None and few:  # it can do without, and has no distance in pixels
            defaults["space"] = None
    return entry.study(*entry.arguments(given), **defaults | options)

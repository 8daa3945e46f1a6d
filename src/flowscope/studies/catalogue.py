"""The catalogue: every study by name, and how each is called with the inputs of a command."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from inspect import signature
from typing import Any, NamedTuple

from flowscope.errors import InputError, listed, unknown_name
from flowscope.metrics.features import PIXELS
from flowscope.studies.ablation import ablation_study
from flowscope.studies.alignment import alignment_study
from flowscope.studies.bench.finding import REVIEWERS, Finding
from flowscope.studies.bench.runs import earlier, runs_of
from flowscope.studies.bench.variants import settings_of
from flowscope.studies.capacity import capacity_study
from flowscope.studies.convergence import convergence_study
from flowscope.studies.experts import experts_study, trained_interval
from flowscope.studies.explain import explain_study
from flowscope.studies.guidance import guidance_study
from flowscope.studies.inputs import StudyInputs, check_kinds, check_seeds
from flowscope.studies.intermediate import intermediate_study
from flowscope.studies.loss import loss_study
from flowscope.studies.memorise import WHERE, memorise_study
from flowscope.studies.norm import norm_study
from flowscope.studies.refine import refine_study
from flowscope.studies.shift import shift_study
from flowscope.studies.switch import switch_study
from flowscope.studies.target import target_study

QUICK_OPTIONS = {"n": 128, "samples": 128, "steps": 20}  # enough for a first impression
SAMPLE_COUNTS = ("n", "samples")  # the options that count samples
BESIDE = {"held_out": "--held-out-data", "foreign": "--foreign", "more": "--more"}  # data beside, and their options
SCHEDULE_SETTINGS = ("density", "shift", "navigation", "boundary", "path")  # those that `ablation` is about


class Entry(NamedTuple):
    """A study in the catalogue.

    Attributes:
        where: the paper's figures and tables that it tests.
        question: what it asks, in a line.
        study: the function.
        arguments: makes the function's positional arguments from the inputs.
        seeds: whether it takes a model for each of several seeds.
        other: the models of a second kind that it takes, in words; "" for none.
        optional: whether it can do without them.
        parts: whether its models are trained on parts of the data, each on its own.
    """

    where: str
    question: str
    study: Callable[..., Finding]
    arguments: Callable[[StudyInputs], tuple[Any, ...]]
    seeds: bool = False
    other: str = ""
    optional: bool = False
    parts: bool = False


def _one_model(g: StudyInputs) -> tuple[Any, ...]:
    return g.models[0], g.oracle


def _model_and_held_out(g: StudyInputs) -> tuple[Any, ...]:
    return g.models[0], g.oracle, g.held_out


def _model_and_foreign(g: StudyInputs) -> tuple[Any, ...]:
    return g.models[0], g.oracle, g.held_out, g.foreign


def _all_seeds(g: StudyInputs) -> tuple[Any, ...]:
    return list(g.models), g.oracle, g.held_out


def _two_kinds(g: StudyInputs) -> tuple[Any, ...]:
    check_seeds(g.others, "--other")
    return list(g.models), list(g.others), g.oracle, g.held_out


def _larger(g: StudyInputs) -> tuple[Any, ...]:
    arguments = _two_kinds(g)
    small, large = ([model.about["parameters"] for model in group] for group in (g.models, g.others))
    if min(large) <= max(small):
        raise InputError(
            f"--model has {max(small):,} parameters and --other {min(large):,}; expected {LARGE}: the small one as "
            "--model, the large one as --other"
        )
    return arguments


def _targets(g: StudyInputs) -> tuple[Any, ...]:
    first, second = (sorted({str(settings_of(m).get("target")) for m in group}) for group in (g.models, g.others))
    if second != ["oracle"] or "oracle" in first:
        raise InputError(
            f"the targets are {', '.join(first)} of --model and {', '.join(second)} of --other; expected "
            f"{ORACLE_TARGET}, and --model with the usual target"
        )
    check_kinds(g.models, g.others, ORACLE_TARGET, ("target",))
    return _two_kinds(g)


def _experts(g: StudyInputs) -> tuple[Any, ...]:
    if any("interval" in settings_of(m) for m in g.others):
        first = [m for m in g.others if trained_interval(m)[0] == 0]
        second = [m for m in g.others if trained_interval(m)[0] > 0]
    else:  # of another project: in the order in which they are given, which --boundary belongs to
        half = len(g.others) // 2
        first, second = list(g.others[:half]), list(g.others[half:])
    for experts in (first, second):
        if len(experts) != len(g.models):
            raise InputError(
                f"got {len(g.models)} models of all of [0, 1], {len(first)} of a part from 0 on and {len(second)} of a "
                "later part; expected as many of each: train the experts with --interval 0 T and --interval T 1"
            )
        check_seeds(experts, "--other")
    return list(g.models), first, second, g.oracle, g.held_out


def _all_kinds(g: StudyInputs) -> tuple[Any, ...]:
    check_kinds(g.models, g.others, SCHEDULES, SCHEDULE_SETTINGS)
    return [*g.models, *g.others], g.oracle


def _losses(g: StudyInputs) -> tuple[Any, ...]:
    early = [model for folder in g.folders for model in earlier(folder, g.oracle.device)]
    return [*early, *g.models, *g.others], g.oracle, g.held_out


def _runs(g: StudyInputs) -> tuple[Any, ...]:
    return runs_of([*g.folders, *g.other_folders], [*g.models, *g.others]), g.oracle


def _trainings(g: StudyInputs) -> tuple[Any, ...]:
    for model in g.models:
        if "training_set" not in model.about:
            raise InputError(
                f"study memorise counts the points that a model was trained on, and {model.name} does not say which; "
                "expected models of flowscope train, or memorise_study in Python with a function that trains"
            )
    return list(g.folders), g.oracle.training_set, g.held_out


LARGE = "models of a larger size, one for each --model"
ORACLE_TARGET = "models trained with --target oracle, one for each --model"
EXPERTS = "the two experts, trained with --interval 0 T and --interval T 1"
SCHEDULES = "models trained with other timestep densities, shifts or paths"
SIZES = "models of other sizes"
TRAININGS = "models trained otherwise"

CATALOGUE: Mapping[str, Entry] = {
    "intermediate": Entry("Fig. 4, 15", "What do model and oracle predict on the way?", intermediate_study, _one_model),
    "switch": Entry(
        "Fig. 5, 13, 14", "From which t on does the oracle lead to copies?", switch_study, _model_and_held_out
    ),
    "refine": Entry("Fig. 6", "Does refinement work on unseen images?", refine_study, _model_and_foreign),
    "loss": Entry("Fig. 7", "Where in time is the loss?", loss_study, _losses, True, SIZES, True),
    "norm": Entry("Fig. 8", "How long is the velocity, and how does it diverge?", norm_study, _one_model),
    "convergence": Entry("Fig. 10, 12", "How fast is training?", convergence_study, _runs, True, TRAININGS, True),
    "capacity": Entry("Tab. 1", "Which stage needs the large model?", capacity_study, _larger, True, LARGE),
    "shift": Entry("Tab. 2", "How many steps belong before the boundary?", shift_study, _all_seeds, True),
    "guidance": Entry("Tab. 3", "Where in time does guidance help?", guidance_study, _all_seeds, True),
    "experts": Entry(REVIEWERS, "Are two experts better than one model?", experts_study, _experts, True, EXPERTS),
    "target": Entry(
        REVIEWERS, "What if a model learns the oracle itself?", target_study, _targets, True, ORACLE_TARGET
    ),
    "alignment": Entry(
        REVIEWERS, "Which part of the oracle does the model follow?", alignment_study, _model_and_held_out
    ),
    "explain": Entry(REVIEWERS, "Which reference explains the model?", explain_study, _model_and_held_out),
    "ablation": Entry(REVIEWERS, "Does the schedule move the transition?", ablation_study, _all_kinds, True, SCHEDULES),
    "memorise": Entry(WHERE, "When do samples become copies?", memorise_study, _trainings, True, parts=True),
}


def find(name: str) -> Entry:
    """The entry of a study by name.

    Raises:
        InputError: there is none of that name; the message lists them.
    """
    if name not in CATALOGUE:
        raise unknown_name("the study", name, CATALOGUE)
    return CATALOGUE[name]


def options_of(name: str) -> tuple[str, ...]:
    """The names of a study's options: its keyword arguments but for the feature space and data beside."""
    known = signature(find(name).study).parameters.values()
    return tuple(p.name for p in known if p.kind == p.KEYWORD_ONLY and p.name not in ("space", *BESIDE))


def check_study(name: str, models: int, others: int, beside: Collection[str] = (), **options: Any) -> None:
    """Refuse a study, before anything is loaded, that lacks models it needs or gets options it does not have.

    Args:
        name: of the study.
        models: how many there are.
        others: how many there are of a second kind.
        beside: which data are given besides, by their names in BESIDE.
        options: of the study.

    Raises:
        InputError: it does; the message says what to give or leave out.
    """
    entry = find(name)
    for what in beside:
        if what not in signature(entry.study).parameters:
            takers = [other for other, its in CATALOGUE.items() if what in signature(its.study).parameters]
            raise InputError(
                f"study {name} takes no {BESIDE[what]}; expected it with {listed(takers)} alone: leave it out"
            )
    if entry.other and not others and not entry.optional:
        raise InputError(f"study {name} compares two kinds of models; expected {entry.other}: --other MODEL")
    if others and not entry.other:
        raise InputError(f"study {name} takes one kind of model; expected no --other: leave it out")
    if models > 1 and not entry.seeds:
        raise InputError(f"study {name} takes a single model, and there are {models}; expected one --model")
    unknown = [option for option in options if option not in options_of(name)]
    if unknown:
        has = [option for option in options_of(name) if option != "progress"]
        raise unknown_name(f"an option of study {name}", unknown[0], has)


def quick_options(name: str, inputs: StudyInputs) -> dict[str, Any]:
    """The options that make a study quick; a Frechet distance needs more samples than there are features."""
    found = {key: value for key, value in QUICK_OPTIONS.items() if key in options_of(name)}
    if "space" not in signature(find(name).study).parameters:
        return found
    if inputs.space is not None and inputs.space.module is not None:  # the number of features is not known yet
        return {key: value for key, value in found.items() if key not in SAMPLE_COUNTS}
    least = 2 * inputs.oracle.training_set.dimension
    return {key: max(value, least) if key in SAMPLE_COUNTS else value for key, value in found.items()}


def run_study(name: str, inputs: StudyInputs, *, quick: bool = False, **options: Any) -> Finding:
    """Run a study by name.

    Args:
        name: of the study.
        inputs: models, oracle and points.
        quick: fewer samples and steps, if `options` do not give them.
        options: keyword arguments of the study.

    Raises:
        InputError: the study is unknown, or an input or option cannot be used.
    """
    entry = find(name)
    check_study(name, len(inputs.models), len(inputs.others), **options)
    given = {} if inputs.more is None else {"more": inputs.more}
    defaults = quick_options(name, inputs) if quick else {}
    if "space" in signature(entry.study).parameters:
        defaults["space"] = inputs.space or PIXELS
        few = len(inputs.oracle.training_set) <= inputs.oracle.training_set.dimension
        if name == "convergence" and inputs.space is None and few:  # no Frechet distance in pixels, and none is needed
            defaults["space"] = None
    found = entry.study(*entry.arguments(inputs), **defaults | given | options)
    return replace(found, provenance={**found.provenance, "quick": True}) if quick else found

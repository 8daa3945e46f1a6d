"""Experts: two models trained on a stage each, one after the other, against one model of the same compute."""

from collections.abc import Sequence
from typing import Any

from flowscope.core.settings import check_count
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError
from flowscope.fields import VelocityField, check_interval, switch
from flowscope.metrics import FeatureSpace
from flowscope.oracle import Oracle
from flowscope.sampling import make_nodes
from flowscope.studies.bench.finding import Finding, Panel, Series
from flowscope.studies.bench.paired import CRITERION, difference, errors_in_words, frechet_of, quality_columns
from flowscope.studies.bench.sample_bench import BATCH, SAMPLES, Progress, SampleBench, as_models, same_seeds

CLAIM = "The paper trains no experts: that stage-wise models follow from its two stages is a question of its reviewers."
WHY = (
    "There is no claim to compare with. Experts are called better, or worse, where the difference of FD lies "
    + CRITERION
    + "."
)


def experts_study(
    whole: VelocityField | Sequence[VelocityField],
    navigation: VelocityField | Sequence[VelocityField],
    refinement: VelocityField | Sequence[VelocityField],
    oracle: Oracle,
    held_out: TrainingSet | None = None,
    *,
    boundary: float | None = None,
    steps: int = 50,
    n: int = SAMPLES,
    space: FeatureSpace | None = None,
    seed: int = 0,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Finding:
    """FD of `switch(navigation, refinement, boundary)` against one model, and of each expert beside that model.

    Args:
        whole: a model trained on all of [0, 1], or a list of seeds.
        navigation, refinement: models trained on [0, boundary] and on [boundary, 1], as many seeds each.
        oracle: of the training set. held_out: points for the null of the memorised share, or None.
        boundary: where the second expert begins; None for what the experts' own settings say.
        steps: uniform Euler steps. The rest as in :func:`flowscope.studies.capacity.capacity_study`.

    Raises:
        InputError: an argument is not usable, or the experts do not share a boundary.
    """
    models = {
        "whole": as_models(whole, "whole"),
        "navigation": as_models(navigation, "navigation"),
        "refinement": as_models(refinement, "refinement"),
    }
    seeds, steps = same_seeds(models), check_count(steps, "steps")
    at = shared_boundary(models["navigation"], models["refinement"]) if boundary is None else boundary
    at, _ = check_interval((at, 1.0), "the part of the second expert")
    pairs = {
        "whole": ("whole", "whole"),
        "navigation+refinement": ("navigation", "refinement"),
        "navigation+whole": ("navigation", "whole"),
        "whole+refinement": ("whole", "refinement"),
    }
    everyone = models["whole"] + models["navigation"] + models["refinement"]
    bench = SampleBench(oracle, held_out, everyone, len(pairs) * seeds, n, space, seed, batch, progress)
    nodes = make_nodes(steps).numpy()
    runs = {
        name: [bench.measure(switch(a, b, at), nodes) for a, b in zip(models[i], models[j], strict=True)]
        for name, (i, j) in pairs.items()
    }
    names = list(runs)
    gain = {name: difference(runs["whole"], runs[name]) for name in names[1:]}
    better = {1: "better than", 0: "not to be told from", -1: "worse than"}[gain[names[1]].clear]
    columns: dict[str, Any] = {"variant": names} | quality_columns(bench, runs.values())
    gains = {
        "variant": list(gain),
        "gain": [d.value for d in gain.values()],
        "gain_error": [d.error for d in gain.values()],
    }
    label = f"FD ({bench.feature_space.name})"
    return Finding(
        study="experts",
        title="Two experts of a stage each against one model",
        where="a question of the paper's reviewers",
        claim=CLAIM,
        found=f"Two experts that meet at t = {at:.3g} are {better} one model: FD {frechet_of(runs[names[1]])} against "
        f"{frechet_of(runs['whole'])}, a gain of {gain[names[1]]}. With one expert beside the whole model the gain is "
        f"{gain[names[2]]} (navigation) and {gain[names[3]]} (refinement). {errors_in_words(seeds)}",
        verdict="no claim",
        why=WHY,
        tables={"experts": columns, "gains": gains},
        panels=(Panel("Experts", "", label, (Series("FD", "experts", "variant", "fd", "fd_error"),), "bar"),),
        notes=(
            *bench.notes(),
            compute_in_words(models),
            "Each expert is a network of its own: together they hold twice the weights of one.",
        ),
        **bench.about(boundary=at, steps=steps, seeds=seeds),
    )


def shared_boundary(navigation: Sequence[VelocityField], refinement: Sequence[VelocityField]) -> float:
    """Where the navigation experts end and the refinement experts begin, from the settings they were trained with.

    Raises:
        InputError: settings are missing, or the intervals are not [0, b] and [b, 1] of one b.
    """
    parts = [[_interval(model) for model in group] for group in (navigation, refinement)]
    low, high = parts[0][0][1], parts[1][0][0]
    if low != high or set(parts[0]) != {(0.0, low)} or set(parts[1]) != {(low, 1.0)}:
        raise InputError(
            f"the experts were trained on {parts[0]} and {parts[1]}; expected [0, b] and [b, 1] of one b: train them "
            "so, or give the boundary"
        )
    return low


def _interval(model: VelocityField) -> tuple[float, float]:
    settings = (getattr(model, "about", None) or {}).get("settings") or {}
    if "interval" not in settings:
        raise InputError("an expert does not say which part of [0, 1] it was trained on; give the boundary")
    return check_interval(settings["interval"])


def compute_in_words(models: dict[str, tuple[VelocityField, ...]]) -> str:
    """Whether the experts together had the training of the whole model, as their settings say."""
    spent = {name: [_points_seen(model) for model in group] for name, group in models.items()}
    if any(count is None for group in spent.values() for count in group):
        return "How long the models were trained is not recorded with them: whether compute was equal is not known."
    whole, experts = sum(spent["whole"]), sum(spent["navigation"]) + sum(spent["refinement"])  # type: ignore[arg-type]
    return f"Both experts together saw {experts / whole:.2f} times as many training points as the whole model."


def _points_seen(model: VelocityField) -> int | None:
    settings = (getattr(model, "about", None) or {}).get("settings") or {}
    return settings["steps"] * settings["batch"] if {"steps", "batch"} <= settings.keys() else None

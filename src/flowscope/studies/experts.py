"""Experts: two models, each trained on one stage and used one after the other, against one model of equal compute."""

import math
from collections.abc import Sequence

from flowscope.core.settings import check_count
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError
from flowscope.fields import VelocityField, check_interval, switch
from flowscope.metrics import FeatureSpace
from flowscope.oracle import Oracle
from flowscope.sampling import make_nodes
from flowscope.studies.bench.criteria import criterion
from flowscope.studies.bench.finding import REVIEWERS, Finding, Panel, Progress, Series
from flowscope.studies.bench.noted import noted
from flowscope.studies.bench.own_samples import OwnSamples, nats, own_samples
from flowscope.studies.bench.paired import (
    Estimate,
    Quality,
    errors_in_words,
    frechet_difference,
    frechet_estimate,
    holm,
    interval_columns,
)
from flowscope.studies.bench.sample_bench import SAMPLES_PER_VARIANT, SampleBench
from flowscope.studies.bench.variants import Models, as_models, count_seeds, settings_of

PAIRS = {  # variant -> the model before the boundary and the one after it
    "whole": ("whole", "whole"),
    "navigation+refinement": ("navigation", "refinement"),
    "navigation+whole": ("navigation", "whole"),
    "whole+refinement": ("whole", "refinement"),
}
COMPARISONS = {1: "better than", 0: "not clearly different from", -1: "worse than"}
CLAIM = "The paper trains no experts: that stage-wise models follow from its two stages is a question of its reviewers."


@noted
def experts_study(
    whole: Models,
    navigation: Models,
    refinement: Models,
    oracle: Oracle,
    held_out: TrainingSet | None = None,
    *,
    boundary: float | None = None,
    steps: int = 50,
    n: int = SAMPLES_PER_VARIANT,
    space: FeatureSpace | None = None,
    seed: int = 0,
    batch: int = 256,
    references: bool | None = None,
    progress: Progress | None = None,
) -> Finding:
    """Compare FD of `switch(navigation, refinement, boundary)`, and of each expert beside one model, with that model.

    Args:
        whole: a model trained on all of [0, 1], or a list with one for each seed.
        navigation: models trained on [0, boundary], as many seeds.
        refinement: models trained on [boundary, 1], as many seeds.
        oracle: of the training set.
        held_out: points for the null of the memorised share, or None.
        boundary: where the second expert begins; None for what the experts' own settings say.
        steps: uniform Euler steps.
        n, space, seed, batch, references, progress: as for :func:`flowscope.studies.capacity_study`.

    Raises:
        InputError: an argument cannot be used, or the experts do not share a boundary.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.studies import experts_study
        >>> oracle = fs.Oracle(fs.load("gaussian:N=60,D=2"))
        >>> finding = experts_study(oracle, oracle, oracle, oracle, boundary=0.5, n=20, steps=4)
        >>> finding.tables["gains"]["gain"]  # the oracle in all three places
        [0.0, 0.0, 0.0]
    """
    models = {
        "whole": as_models(whole, "whole"),
        "navigation": as_models(navigation, "navigation"),
        "refinement": as_models(refinement, "refinement"),
    }
    seeds, steps = count_seeds(models), check_count(steps, "steps")
    at = shared_boundary(models["navigation"], models["refinement"]) if boundary is None else boundary
    at, _ = check_interval((at, 1.0), "the part of the second expert")
    everyone = models["whole"] + models["navigation"] + models["refinement"]
    bench = SampleBench(oracle, held_out, everyone, len(PAIRS) * seeds, n, space, seed, batch, progress)
    nodes = make_nodes(steps).numpy()
    runs = {
        name: [bench.measure(switch(a, b, at), nodes) for a, b in zip(models[i], models[j], strict=True)]
        for name, (i, j) in PAIRS.items()
    }
    own = own_samples(bench, runs["whole"], nodes, references)
    return _finding(bench, runs, at, compute_in_words(models), own, steps=steps, seeds=seeds)


def _finding(
    bench: SampleBench, runs: dict[str, list[Quality]], at: float, compute: str, own: OwnSamples, **settings: int
) -> Finding:
    whole, *others = runs
    gains = {name: frechet_difference(runs[whole], runs[name]) for name in others}
    fd = (Series.with_error("FD", "experts", "variant", "fd"),)
    gain = (Series.with_interval("gain", "gains", "variant", "gain"),)
    agreement = tuple(Series.with_error(name, "experts", "variant", name) for name in ("precision", "recall"))
    nodes = make_nodes(settings["steps"]).numpy()
    width = {
        "navigation": nats(bench.oracle.path, 0.0, at, nodes),
        "refinement": nats(bench.oracle.path, at, 1.0, nodes),
    }
    widths = (sum(w for part, w in width.items() if part in name) for name in others)
    per_nat = [gains[name].value / w if w > 0 else math.nan for name, w in zip(others, widths, strict=True)]
    return Finding(
        study="experts",
        title="Two experts of a stage each against one model",
        where=REVIEWERS,
        claim=CLAIM,
        found=own.in_words(f"{_in_words(runs, gains, at, bool(own.weak))} {errors_in_words(settings['seeds'])}"),
        verdict="cannot be tested",
        why=criterion("experts").why,
        tables={
            "experts": {"variant": list(runs)} | bench.quality_columns(runs.values()),
            "gains": {"variant": others} | interval_columns("gain", gains.values()) | {"gain_per_nat": per_nat},
        }
        | own.tables,
        panels=(
            Panel("Experts", "", f"FD ({bench.feature_space.name})", fd, "bar", low=0),
            Panel("Gain over one model", "", f"FD less, paired ({bench.feature_space.name})", gain, "bar"),
            Panel("Precision and recall", "", "share", agreement, "bar", low=0, high=1),
        ),
        notes=(
            *bench.notes(),
            *own.notes,
            compute,
            "Each expert is a network of its own: together they hold twice the weights of one.",
        ),
        **bench.about(boundary=at, **settings),
    )


def _in_words(runs: dict[str, list[Quality]], gains: dict[str, Estimate], at: float, weak: bool) -> str:
    both, sign = gains["navigation+refinement"], holm(gains)["navigation+refinement"]
    judged = not weak and len(runs["whole"]) >= criterion("experts")["seeds"]
    compared = COMPARISONS[sign] if judged else "not judged against"
    fd = {name: frechet_estimate(runs[name]) for name in ("whole", "navigation+refinement")}
    return (
        f"Two experts that meet at t = {at:.3g} are {compared} one model: FD "
        f"{fd['navigation+refinement']} against {fd['whole']}, a gain of {both}. With one expert beside the whole "
        f"model the gain is {gains['navigation+whole']} (navigation) and {gains['whole+refinement']} (refinement)."
    )


def shared_boundary(navigation: Sequence[VelocityField], refinement: Sequence[VelocityField]) -> float:
    """The time at which navigation experts end and refinement experts begin, from the settings of their training.

    Raises:
        InputError: settings are missing, or the intervals are not [0, b] and [b, 1] of one b.
    """
    parts = [[trained_interval(model) for model in group] for group in (navigation, refinement)]
    low, high = parts[0][0][1], parts[1][0][0]
    if low != high or set(parts[0]) != {(0.0, low)} or set(parts[1]) != {(low, 1.0)}:
        raise InputError(
            f"the experts were trained on {parts[0]} and {parts[1]}; expected [0, b] and [b, 1] of one b: train them "
            "so, or give the boundary"
        )
    return low


def trained_interval(model: VelocityField) -> tuple[float, float]:
    """The part of [0, 1] that a model was trained on, from its settings.

    Raises:
        InputError: its settings do not say.
    """
    settings = settings_of(model)
    if "interval" not in settings:
        raise InputError(
            "an expert does not say which part of [0, 1] it was trained on; expected the boundary: --boundary T"
        )
    return check_interval(settings["interval"])


def compute_in_words(models: dict[str, tuple[VelocityField, ...]]) -> str:
    """Whether the experts together had the compute of the whole model, as their settings say."""
    seen = {name: [_points_seen(model) for model in group] for name, group in models.items()}
    if any(count is None for group in seen.values() for count in group):
        return "The models do not record how long they were trained, so it is not known whether compute was equal."
    whole, experts = sum(seen["whole"]), sum(seen["navigation"]) + sum(seen["refinement"])  # type: ignore[arg-type]
    return f"Both experts together saw {experts / whole:.2f} times as many training points as the whole model."


def _points_seen(model: VelocityField) -> int | None:
    settings = settings_of(model)
    return settings["steps"] * settings["batch"] if {"steps", "batch"} <= settings.keys() else None

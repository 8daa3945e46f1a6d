"""Target: models trained on the oracle velocity u* against models trained on the usual conditional target.

A question of the reviewers of arXiv 2512.02826. Both targets have the same minimiser over the training law, u* itself.
So only optimisation and capacity can separate them: the oracle target has none of the variance of the usual one.
"""

from typing import Any

import numpy as np
from torch import Tensor

from flowscope.core.settings import check_count
from flowscope.curve.stage_times import StageTimes
from flowscope.data.training_set import TrainingSet
from flowscope.fields import VelocityField
from flowscope.metrics import FeatureSpace
from flowscope.oracle import Oracle
from flowscope.sampling import make_nodes
from flowscope.studies.bench.criteria import criterion
from flowscope.studies.bench.finding import REVIEWERS, Finding, Panel, Progress, Series
from flowscope.studies.bench.noted import noted
from flowscope.studies.bench.own_samples import OwnSamples, nats, own_samples
from flowscope.studies.bench.paired import (
    Quality,
    errors_in_words,
    estimate_columns,
    estimate_mean,
    frechet_difference,
    frechet_estimate,
    interval_columns,
)
from flowscope.studies.bench.sample_bench import SAMPLES_PER_VARIANT, SampleBench
from flowscope.studies.bench.variants import Models, as_models, count_seeds
from flowscope.training.monitor.evaluate import velocities
from flowscope.training.monitor.probes import Probes, draw_probes

PROBE_BINS = 16  # parts of time in which the probes lie by turns
USUAL, EXACT = "usual target", "oracle target"
CLAIM = "The paper trains on the usual target alone: what the oracle target would do is a question of its reviewers."
OUTCOMES = {1: "clear: it helps", 0: "not clear", -1: "clear: it harms"}


@noted
def target_study(
    cfm: Models,
    oracle_trained: Models,
    oracle: Oracle,
    held_out: TrainingSet | None = None,
    *,
    steps: int = 50,
    probes: int = 1024,
    n: int = SAMPLES_PER_VARIANT,
    space: FeatureSpace | None = None,
    seed: int = 0,
    batch: int = 256,
    references: bool | None = None,
    progress: Progress | None = None,
) -> Finding:
    """Compare FD, precision, recall, memorised share and oracle loss by stage of the two targets.

    Args:
        cfm: a model trained on the usual target, or a list with one for each seed.
        oracle_trained: likewise on the oracle target, with as many seeds.
        oracle: of the training set.
        held_out: points for the null of the memorised share, or None.
        steps: uniform Euler steps.
        probes: states of the training law on which the oracle loss is measured.
        n, space, seed, batch, references, progress: as for :func:`flowscope.studies.capacity_study`.

    Raises:
        InputError: an argument cannot be used, or there are too few samples for the space.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.studies import target_study
        >>> oracle = fs.Oracle(fs.load("gaussian:N=60,D=2"))
        >>> finding = target_study(oracle, oracle, oracle, n=20, steps=5, probes=32)
        >>> finding.tables["oracle_loss"]["gain"][0]  # two models alike
        0.0
    """
    groups = {USUAL: as_models(cfm, "cfm"), EXACT: as_models(oracle_trained, "oracle_trained")}
    seeds, steps, probes = count_seeds(groups), check_count(steps, "steps"), check_count(probes, "probes")
    bench = SampleBench(oracle, held_out, groups[USUAL] + groups[EXACT], 2 * seeds, n, space, seed, batch, progress)
    nodes = make_nodes(steps).numpy()
    runs = {name: [bench.measure(model, nodes) for model in group] for name, group in groups.items()}
    states = draw_probes(oracle, oracle.training_set, probes, PROBE_BINS, seed, bench.conditional, 0.0)
    losses = {name: np.stack([oracle_losses(m, states, batch) for m in group]) for name, group in groups.items()}
    stages = losses_by_stage(losses, states.t.cpu().numpy(), bench.stage_times, states.y)
    widths = (nats(oracle.path, low, high, nodes) for low, high in zip(stages["lo"], stages["hi"], strict=True))
    stages["gain_per_nat"] = [g / w if w > 0 else np.nan for g, w in zip(stages["gain"], widths, strict=True)]
    own = own_samples(bench, runs[USUAL], nodes, references)
    return _finding(bench, runs, stages, own, steps=steps, probes=probes, seeds=seeds)


def _finding(
    bench: SampleBench, runs: dict[str, list[Quality]], stages: dict[str, Any], own: OwnSamples, **settings: int
) -> Finding:
    columns = {"target": list(runs)} | bench.quality_columns(runs.values())
    gain = {"of": ["FD"]} | interval_columns("gain", [frechet_difference(runs[USUAL], runs[EXACT])])
    return Finding(
        study="target",
        title="Trained on the oracle target against the usual one",
        where=REVIEWERS,
        claim=CLAIM,
        found=own.in_words(
            f"{_quality_in_words(runs, columns, bool(own.weak))} Oracle loss, usual against oracle target: "
            f"{_stages_in_words(stages)}. {errors_in_words(settings['seeds'])}"
        ),
        verdict="cannot be tested",
        why=criterion("target").why,
        tables={"target": columns, "oracle_loss": stages, "gain": gain} | own.tables,
        panels=_panels(bench.feature_space.name),
        notes=(
            *bench.notes(one_time=False),
            *own.notes,
            f"The oracle loss is a mean over coordinates on {settings['probes']:,} states of the training law.",
        ),
        **bench.about(**settings, **bench.boundaries._asdict()),
    )


def oracle_losses(model: VelocityField, states: Probes, batch: int) -> np.ndarray:
    """(probes,) oracle loss |m - u*|^2 / D of a model at fixed states."""
    u = velocities(model, states, batch)
    return (u - states.oracle).double().square().flatten(1).mean(1).cpu().numpy()


def losses_by_stage(
    losses: dict[str, np.ndarray], t: np.ndarray, times: StageTimes, y: Tensor | None = None
) -> dict[str, Any]:
    """A table of the oracle loss of both targets in each of the oracle's stages, and of the gain, paired.

    The row of all of [0, 1) is always there. A stage without states is left out. `lo` and `hi` are those
    of the mean curve over classes.

    Args:
        losses: (S, probes) by target.
        t: (probes,) their times.
        times: where the stages end.
        y: (probes,) their labels, or None.
    """
    own, parts = times.boundaries, {"all": np.ones(len(t), bool)}
    if np.isfinite(times.ends(y)).any():
        parts |= {name: inside for name, inside in times.of(t, y).items() if inside.sum() > 1}
    edges = {"all": (0.0, 1.0), "navigation": (0.0, own.half), "refinement": (own.saturation, 1.0)}
    edges["transition"] = 0.0 if np.isnan(own.half) else own.half, 1.0 if np.isnan(own.saturation) else own.saturation
    table: dict[str, Any] = {"stage": list(parts)}
    table |= {end: [edges[name][k] for name in parts] for k, end in enumerate(("lo", "hi"))}
    sets = {"usual": losses[USUAL], "oracle": losses[EXACT], "gain": losses[USUAL] - losses[EXACT]}
    for name, values in sets.items():
        table |= estimate_columns(name, (estimate_mean(values[:, inside]) for inside in parts.values()))
    return table


def _quality_in_words(runs: dict[str, list[Quality]], columns: dict[str, Any], weak: bool) -> str:
    judged = not weak and len(runs[USUAL]) >= criterion("target")["seeds"]
    fd = {name: frechet_estimate(run) for name, run in runs.items()}
    gain = frechet_difference(runs[USUAL], runs[EXACT])
    shares = ", ".join(
        f"{100 * value:.2f} ± {100 * error:.2f} % ({name})"
        for name, value, error in zip(runs, columns["memorised"], columns["memorised_error"], strict=True)
    )
    return (
        f"FD is {fd[USUAL]} with the usual target and {fd[EXACT]} with the oracle target: the difference, {gain}, is "
        f"{OUTCOMES[gain.clear] if judged else 'not judged'}. Memorised: {shares}."
    )


def _stages_in_words(table: dict[str, Any]) -> str:
    columns = (table[name] for name in ("stage", "usual", "usual_error", "oracle", "oracle_error"))
    rows = zip(*columns, strict=True)
    return "; ".join(f"{stage} {a:.4g} ± {ae:.2g} against {b:.4g} ± {be:.2g}" for stage, a, ae, b, be in rows)


def _panels(space: str) -> tuple[Panel, ...]:
    losses = tuple(Series.with_error(f"{name} target", "oracle_loss", "stage", name) for name in ("usual", "oracle"))
    gain = (Series.with_interval("gain", "gain", "of", "gain"),)
    gains = (Series.with_error("gain", "oracle_loss", "stage", "gain"),)
    shares = tuple(Series.with_error(name, "target", "target", name) for name in ("precision", "memorised"))
    less = "usual target less oracle target, paired"
    return (
        Panel("Quality", "", f"FD ({space})", (Series.with_error("FD", "target", "target", "fd"),), "bar", low=0),
        Panel("Gain of the oracle target", "", less, gain, "bar"),
        Panel("Oracle loss by stage", "", "mean over coordinates", losses, "bar", low=0),
        Panel("Gain in oracle loss by stage", "", less, gains, "bar"),
        Panel("Precision, memorised", "", "share", shares, "bar", low=0, high=1),
    )

"""Target: models trained on the oracle velocity u* against models trained on the usual conditional target.

Both targets have the same minimiser over the training law, u* itself, so only optimisation and capacity can part them;
the variance of the usual target is what the oracle target takes away. A question of the reviewers of arXiv 2512.02826.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from flowscope.core.settings import check_count
from flowscope.data.training_set import TrainingSet
from flowscope.fields import VelocityField
from flowscope.metrics import FeatureSpace
from flowscope.oracle import Oracle
from flowscope.sampling import make_nodes
from flowscope.studies.bench.finding import Finding, Panel, Series
from flowscope.studies.bench.paired import (
    CRITERION,
    difference,
    errors_in_words,
    estimate,
    frechet_of,
    quality_columns,
)
from flowscope.studies.bench.sample_bench import (
    BATCH,
    SAMPLES,
    Boundaries,
    Progress,
    SampleBench,
    as_models,
    same_seeds,
)
from flowscope.training.monitor.evaluate import velocities
from flowscope.training.monitor.probes import Probes, draw_probes

BINS = 16  # of time, for probes spread evenly
USUAL, EXACT = "usual target", "oracle target"
CLAIM = "The paper trains on the usual target alone: what the oracle target would do is a question of its reviewers."
CLEARLY = {1: "clear: it helps", 0: "not clear", -1: "clear: it harms"}
WHY = f"There is no claim to compare with. A difference between the targets is called clear where it lies {CRITERION}."


def target_study(
    cfm: VelocityField | Sequence[VelocityField],
    oracle_trained: VelocityField | Sequence[VelocityField],
    oracle: Oracle,
    held_out: TrainingSet | None = None,
    *,
    steps: int = 50,
    probes: int = 1024,
    n: int = SAMPLES,
    space: FeatureSpace | None = None,
    seed: int = 0,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Finding:
    """FD, precision, recall, memorised share and oracle loss by stage, for both targets.

    Args:
        cfm, oracle_trained: models trained on the usual and on the oracle target, as many seeds of each.
        oracle: of the training set. held_out: points for the null of the memorised share, or None.
        steps: uniform Euler steps. probes: states of the training law on which the oracle loss is measured.
        The rest as in :func:`flowscope.studies.capacity.capacity_study`.

    Raises:
        InputError: an argument is not usable, or there are too few samples for the space.
    """
    groups = {USUAL: as_models(cfm, "cfm"), EXACT: as_models(oracle_trained, "oracle_trained")}
    seeds, steps, probes = same_seeds(groups), check_count(steps, "steps"), check_count(probes, "probes")
    bench = SampleBench(oracle, held_out, groups[USUAL] + groups[EXACT], 2 * seeds, n, space, seed, batch, progress)
    nodes = make_nodes(steps).numpy()
    runs = {name: [bench.measure(model, nodes) for model in group] for name, group in groups.items()}
    states = draw_probes(oracle, oracle.training_set, probes, BINS, seed, bench.conditional, 0.0)
    losses = {name: np.stack([oracle_losses(m, states, batch) for m in group]) for name, group in groups.items()}
    stages = losses_by_stage(losses, states.t.cpu().numpy(), bench.boundaries)
    fd = {name: frechet_of(run) for name, run in runs.items()}
    change = difference(runs[USUAL], runs[EXACT])
    columns: dict[str, Any] = {"target": list(runs)} | quality_columns(bench, runs.values())
    return Finding(
        study="target",
        title="Trained on the oracle target against the usual one",
        where="a question of the paper's reviewers",
        claim=CLAIM,
        found=f"FD is {fd[USUAL]} with the usual target and {fd[EXACT]} with the oracle target: the "
        f"difference, {change}, is {CLEARLY[change.clear]}. {_memorised_in_words(columns)} "
        f"Oracle loss, usual against oracle target: {_stages_in_words(stages)}. {errors_in_words(seeds)}",
        verdict="no claim",
        why=WHY,
        tables={"target": columns, "oracle_loss": stages},
        panels=_panels(bench.feature_space.name),
        notes=(*bench.notes(), f"The oracle loss is a mean over coordinates on {probes:,} states of the training law."),
        **bench.about(steps=steps, probes=probes, seeds=seeds, **bench.boundaries._asdict()),
    )


def oracle_losses(model: VelocityField, states: Probes, batch: int) -> np.ndarray:
    """(probes,) |m - u*|^2 / D of a model at fixed states."""
    u = velocities(model, states, batch)
    return (u - states.oracle).double().square().flatten(1).mean(1).cpu().numpy()


def losses_by_stage(losses: dict[str, np.ndarray], t: np.ndarray, own: Boundaries) -> dict[str, Any]:
    """The oracle loss of both targets in each of the oracle's stages, and the gain, paired by seed and probe.

    Args:
        losses: (S, probes) by target. t: (probes,) their times. own: where the stages end; a stage without an end is
            left out, and all of [0, 1) is always there.
    """
    edges = [0.0, *(b for b in own if 0 < b < 1), 1.0]
    names = ["navigation", "transition", "refinement"] if len(edges) == 4 else ["navigation", "after navigation"]
    parts = {"all": (0.0, 1.0)}
    if len(edges) > 2:
        parts |= dict(zip(names, pairwise(edges), strict=True))
    parts = {name: part for name, part in parts.items() if ((t >= part[0]) & (t < part[1])).sum() > 1}
    table: dict[str, Any] = {
        "stage": list(parts),
        "lo": [p[0] for p in parts.values()],
        "hi": [p[1] for p in parts.values()],
    }
    sets = {"usual": losses[USUAL], "oracle": losses[EXACT], "gain": losses[USUAL] - losses[EXACT]}
    for name, values in sets.items():
        inside = [values[:, (t >= lo) & (t < hi)] for lo, hi in parts.values()]
        found = [estimate(v.mean(1), v) for v in inside]
        table |= {name: [e.value for e in found], f"{name}_error": [e.error for e in found]}
    return table


def _memorised_in_words(columns: dict[str, Any]) -> str:
    pairs = zip(columns["target"], columns["memorised"], columns["memorised_error"], strict=True)
    return "Memorised: " + ", ".join(f"{100 * v:.2f} ± {100 * e:.2f} % ({name})" for name, v, e in pairs) + "."


def _stages_in_words(table: dict[str, Any]) -> str:
    columns = (table[name] for name in ("stage", "usual", "usual_error", "oracle", "oracle_error"))
    rows = zip(*columns, strict=True)
    return "; ".join(f"{stage} {a:.4g} ± {ae:.2g} against {b:.4g} ± {be:.2g}" for stage, a, ae, b, be in rows)


def _panels(space: str) -> tuple[Panel, ...]:
    losses = tuple(
        Series(f"{name} target", "oracle_loss", "stage", name, f"{name}_error") for name in ("usual", "oracle")
    )
    return (
        Panel("Quality", "", f"FD ({space})", (Series("FD", "target", "target", "fd", "fd_error"),), "bar"),
        Panel("Oracle loss by stage", "", "mean over coordinates", losses, "bar"),
        Panel("Memorised", "", "share", (Series("share", "target", "target", "memorised", "memorised_error"),), "bar"),
    )

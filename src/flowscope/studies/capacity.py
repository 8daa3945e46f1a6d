"""Capacity: which of the two stages needs a large model (arXiv 2512.02826, Tab. 1).

A small and a large model each take one part of the trajectory, `switch(first, second, split)`, in all four ways.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowscope.core.settings import check_count
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError
from flowscope.fields import VelocityField, switch
from flowscope.metrics import FeatureSpace
from flowscope.oracle import Oracle
from flowscope.studies.bench.finding import Finding, Panel, Series
from flowscope.studies.bench.paired import CRITERION, Estimate, difference, errors_in_words, quality_columns, verdict
from flowscope.studies.bench.sample_bench import (
    BATCH,
    SAMPLES,
    Boundaries,
    Progress,
    Quality,
    SampleBench,
    as_models,
    same_seeds,
)

PAPER_SPLITS = (0.1, 0.2)
PAIRS = ("small+small", "small+large", "large+small", "large+large")
COSTS = {  # what a small model costs: FD of the first pair less that of the second
    "refinement": ("large+small", "large+large"),
    "navigation": ("small+large", "large+large"),
    "difference": ("large+small", "small+large"),
    "both": ("small+small", "large+large"),
}
CLAIM = (
    "Refinement needs the capacity (LightningDiT-B and -XL, gFID@50K). Split at 0.1: XL+XL 2.94, B+XL 3.71, "
    "XL+B 11.26, B+B 12.45; at 0.2: 2.60, 4.47, 9.24, 12.01."
)
WHY = (
    "Agrees where FD(large first, small after) is above FD(small first, large after) " + CRITERION + " at every split "
    "of the data set's own (half and saturation; those given where it has none: 0.1 and 0.2 belong to the paper's "
    "latents); differs where it is below at one of them. It cannot be tested where the large model alone is not better "
    "than the small one by as much."
)


def capacity_study(
    small: VelocityField | Sequence[VelocityField],
    large: VelocityField | Sequence[VelocityField],
    oracle: Oracle,
    held_out: TrainingSet | None = None,
    *,
    splits: Sequence[float] = PAPER_SPLITS,
    steps: int = 25,
    n: int = SAMPLES,
    space: FeatureSpace | None = None,
    seed: int = 0,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Finding:
    """FD of the four ways to give each part of the trajectory to a small or a large model.

    Args:
        small, large: models, or lists of as many seeds each.
        oracle: of the training set; its own half and saturation are split at besides `splits`.
        held_out: points for the null of the memorised share, or None.
        splits: times in (0, 1). steps: uniform Euler steps in each of the two parts, as in the paper.
        n: samples a variant. space: of FD, precision and recall; None for the values themselves.
        seed: of noise and labels, the same for all variants. batch: samples at a time. progress: (done, total).

    Raises:
        InputError: an argument is not usable, or there are too few samples for the space.
    """
    groups = {"small": as_models(small, "small"), "large": as_models(large, "large")}
    seeds, steps = same_seeds(groups), check_count(steps, "steps")
    bench = SampleBench(oracle, held_out, groups["small"] + groups["large"], 0, n, space, seed, batch, progress)
    at = all_splits(splits, bench.boundaries)
    bench.variants = len(at) * len(PAIRS) * seeds
    runs = {(split, pair): _runs(bench, groups, split, pair, steps) for split in at for pair in PAIRS}
    deciding = [s for s in at if s in bench.boundaries] or list(at)
    return _finding(bench, runs, at, deciding, seeds, steps)


def all_splits(splits: Sequence[float], own: Boundaries) -> list[float]:
    """The splits asked for and the set's own half and saturation, ascending, each once.

    Raises:
        InputError: one is not a time inside (0, 1).
    """
    for split in splits:
        if isinstance(split, bool) or not isinstance(split, (int, float, np.number)) or not 0 < split < 1:
            raise InputError(f"split {split!r} is not a time inside (0, 1); expected such times, as 0.1")
    return sorted({float(s) for s in splits} | {s for s in own if 0 < s < 1})


def two_part_nodes(split: float, steps: int) -> np.ndarray:
    """(2 steps + 1,) times: `steps` uniform steps on [0, split] and as many on [split, 1]."""
    return np.concatenate([np.linspace(0, split, steps + 1), np.linspace(split, 1, steps + 1)[1:]])


def _runs(bench: SampleBench, groups: dict[str, Any], split: float, pair: str, steps: int) -> list[Quality]:
    first, second = (groups[size] for size in pair.split("+"))
    nodes = two_part_nodes(split, steps)
    return [bench.measure(switch(a, b, split), nodes) for a, b in zip(first, second, strict=True)]


def _finding(
    bench: SampleBench,
    runs: dict[tuple[float, str], list[Quality]],
    at: list[float],
    deciding: list[float],
    seeds: int,
    steps: int,
) -> Finding:
    tables: dict[str, dict[str, Any]] = {"capacity": {"split": [s for s, _ in runs], "pair": [p for _, p in runs]}}
    tables["capacity"] |= quality_columns(bench, runs.values())
    costs = {name: {s: difference(runs[s, a], runs[s, b]) for s in at} for name, (a, b) in COSTS.items()}
    tables["costs"] = {"split": at}
    for name, cost in costs.items():
        tables["costs"] |= {name: [d.value for d in cost.values()], f"{name}_error": [d.error for d in cost.values()]}
    for pair in PAIRS:
        rows = [k for k, (_, p) in enumerate(runs) if p == pair]
        tables[pair] = {c: [tables["capacity"][c][k] for k in rows] for c in ("split", "fd", "fd_error")}
    panel = Panel("Which stage needs the large model", "split t", f"FD ({bench.feature_space.name})", _series())
    costs_panel = Panel(
        "What the small model costs in a stage", "split t", "FD above the large model's, paired",
        tuple(Series(stage, "costs", "split", stage, f"{stage}_error") for stage in ("navigation", "refinement")),
    )  # fmt: skip
    testable = all(costs["both"][s].clear > 0 for s in deciding)
    own = bench.boundaries
    return Finding(
        study="capacity",
        title="A stage each for a small and a large model",
        where="Tab. 1",
        claim=CLAIM,
        found=_words(costs) + " " + errors_in_words(seeds),
        verdict=verdict({f"{s}": costs["difference"][s] for s in deciding}) if testable else "cannot be tested",
        why=WHY + f" Here it rests on split{'s' * (len(deciding) > 1)} {', '.join(f'{s:.3g}' for s in deciding)}.",
        tables=tables,
        panels=(panel, costs_panel),
        notes=(
            *bench.notes(),
            f"{steps} uniform Euler steps on each side of a split: {2 * steps} evaluations a sample.",
            "The later the split, the shorter the part that is called refinement: compare costs at one split.",
        ),
        **bench.about(splits=at, steps=steps, half=own.half, saturation=own.saturation, seeds=seeds),
    )


def _series() -> tuple[Series, ...]:
    return tuple(Series(f"{pair.replace('+', ' first, ')} after", pair, "split", "fd", "fd_error") for pair in PAIRS)


def _words(cost: dict[str, dict[float, Estimate]]) -> str:
    return " ".join(
        f"Split at {split:.3g}: a small model costs {refine} of FD in refinement and {cost['navigation'][split]} in "
        f"navigation, a difference of {cost['difference'][split]}; in both it costs {cost['both'][split]}."
        for split, refine in cost["refinement"].items()
    )

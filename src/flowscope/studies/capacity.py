"""Capacity: which of the two stages needs a large model (arXiv 2512.02826, Tab. 1).

A small and a large model each take one part of the trajectory, `switch(first, second, split)`, in all four ways.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from flowscope.core.settings import check_count
from flowscope.curve.stage_times import Boundaries
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError
from flowscope.fields import switch
from flowscope.metrics import FeatureSpace
from flowscope.oracle import Oracle
from flowscope.studies.bench.criteria import criterion
from flowscope.studies.bench.finding import Finding, Panel, Progress, Series
from flowscope.studies.bench.marks import mark_stages
from flowscope.studies.bench.noted import noted
from flowscope.studies.bench.own_samples import OwnSamples, nats, own_samples
from flowscope.studies.bench.paired import (
    Estimate,
    Quality,
    errors_in_words,
    frechet_difference,
    interval_columns,
    verdict,
)
from flowscope.studies.bench.sample_bench import SAMPLES_PER_VARIANT, SampleBench
from flowscope.studies.bench.variants import Models, as_models, count_seeds

PAPER_SPLITS = (0.1, 0.2)
PAIRS = ("small+small", "small+large", "large+small", "large+large")
COSTS = {  # what a small model costs: FD of the first pair less that of the second
    "refinement": ("large+small", "large+large"),
    "navigation": ("small+large", "large+large"),
    "difference": ("large+small", "small+large"),
    "both": ("small+small", "large+large"),
}
PAIR_COLUMNS = ("split", "fd", "fd_error", "precision", "precision_error")
CLAIM = (
    "Refinement needs the capacity (LightningDiT-B and -XL, gFID@50K). Split at 0.1: XL+XL 2.94, B+XL 3.71, "
    "XL+B 11.26, B+B 12.45; at 0.2: 2.60, 4.47, 9.24, 12.01."
)
Runs = dict[tuple[float, str], list[Quality]]  # by split and pair
Costs = dict[str, dict[float, Estimate]]  # by stage and split


@noted
def capacity_study(
    small: Models,
    large: Models,
    oracle: Oracle,
    held_out: TrainingSet | None = None,
    *,
    splits: Sequence[float] = PAPER_SPLITS,
    steps: int = 25,
    n: int = SAMPLES_PER_VARIANT,
    space: FeatureSpace | None = None,
    seed: int = 0,
    batch: int = 256,
    references: bool | None = None,
    progress: Progress | None = None,
) -> Finding:
    """Measure FD of the four ways to give each part of the trajectory to a small or a large model.

    Args:
        small: a model, or a list with one for each seed.
        large: likewise, with as many seeds.
        oracle: of the training set. The trajectory is split at its half and saturation too.
        held_out: points for the null of the memorised share, or None.
        splits: times in (0, 1).
        steps: uniform Euler steps in each of the two parts, as in the paper.
        n: samples for each variant.
        space: of FD, precision and recall; None for the values themselves.
        seed: of noise and labels, the same for all variants.
        batch: samples in a call.
        references: whether fields of known memory are measured beside the models; None for those that cost less.
        progress: called as progress(done, total).

    Raises:
        InputError: an argument cannot be used, or there are too few samples for the space.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.studies import capacity_study
        >>> oracle = fs.Oracle(fs.load("gaussian:N=60,D=2"))
        >>> capacity_study(oracle, oracle, oracle, n=20, steps=2).verdict  # two models alike: no difference
        'cannot be tested'
    """
    groups = {"small": as_models(small, "small"), "large": as_models(large, "large")}
    seeds, steps = count_seeds(groups), check_count(steps, "steps")
    bench = SampleBench(oracle, held_out, groups["small"] + groups["large"], 0, n, space, seed, batch, progress)
    at = all_splits(splits, bench.boundaries)
    bench.variants = len(at) * len(PAIRS) * seeds
    runs = {(split, pair): _runs(bench, groups, split, pair, steps) for split in at for pair in PAIRS}
    own = own_samples(bench, runs[at[0], "large+large"], two_part_nodes(at[0], steps), references)
    return _finding(bench, runs, at, seeds, steps, own)


def all_splits(splits: Sequence[float], own: Boundaries) -> list[float]:
    """The given splits and the set's own half and saturation, ascending, each once.

    Raises:
        InputError: a split is not a time inside (0, 1).
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
    bench: SampleBench, runs: Runs, at: list[float], seeds: int, steps: int, references: OwnSamples
) -> Finding:
    deciding = [s for s in at if s in bench.boundaries] or at
    costs = {name: {s: frechet_difference(runs[s, a], runs[s, b]) for s in at} for name, (a, b) in COSTS.items()}
    testable = all(costs["both"][s].clear > 0 for s in deciding)
    own = bench.boundaries
    found = verdict({s: costs["difference"][s] for s in deciding}) if testable else "cannot be tested"
    return Finding(
        study="capacity",
        title="A stage each for a small and a large model",
        where="Tab. 1",
        claim=CLAIM,
        found=references.in_words(f"{_in_words(costs)} {errors_in_words(seeds)}"),
        verdict=references.verdict(found, "capacity", seeds),
        why=f"{criterion('capacity').why} Here it rests on split {', '.join(f'{s:.3g}' for s in deciding)}.",
        tables=_tables(bench, runs, costs, at, steps) | references.tables,
        panels=mark_stages(_panels(bench.feature_space.name), own),
        notes=(
            *bench.notes(),
            *references.notes,
            f"{steps} uniform Euler steps on each side of a split: {2 * steps} evaluations for each sample.",
            "The later the split, the shorter refinement is: compare costs at one split, or for each nat of log-snr.",
        ),
        **bench.about(splits=at, steps=steps, half=own.half, saturation=own.saturation, seeds=seeds),
    )


def _tables(bench: SampleBench, runs: Runs, costs: Costs, at: list[float], steps: int) -> dict[str, dict[str, Any]]:
    """All variants; what the small model costs; and a table for each pair, which a panel can draw."""
    whole: dict[str, Any] = {"split": [s for s, _ in runs], "pair": [p for _, p in runs]}
    whole |= bench.quality_columns(runs.values())
    tables = {"capacity": whole, "costs": {"split": at}}
    for name, cost in costs.items():
        tables["costs"] |= interval_columns(name, cost.values())
    for stage, low, high in (("navigation", 0.0, None), ("refinement", None, 1.0)):
        widths = [
            nats(bench.oracle.path, s if low is None else low, s if high is None else high, two_part_nodes(s, steps))
            for s in at
        ]
        tables["costs"][f"{stage}_per_nat"] = [
            costs[stage][s].value / w if w > 0 else math.nan for s, w in zip(at, widths, strict=True)
        ]
    for pair in PAIRS:
        rows = [k for k, (_, p) in enumerate(runs) if p == pair]
        tables[pair] = {name: [whole[name][k] for k in rows] for name in PAIR_COLUMNS}
    return tables


def _panels(space: str) -> tuple[Panel, ...]:
    pairs = tuple(Series.with_error(f"{p.replace('+', ' first, ')} after", p, "split", "fd") for p in PAIRS)
    costs = tuple(Series.with_interval(stage, "costs", "split", stage) for stage in ("navigation", "refinement"))
    agreement = tuple(Series.with_error(f"{p.replace('+', ' first, ')} after", p, "split", "precision") for p in PAIRS)
    return (
        Panel("Which stage needs the large model", "split t", f"FD ({space})", pairs, low=0),
        Panel("Precision", "split t", f"precision ({space})", agreement, low=0, high=1),
        Panel("What the small model costs in a stage", "split t", "FD above the large model's, paired", costs),
    )


def _in_words(costs: Costs) -> str:
    return " ".join(
        f"Split at {split:.3g}: a small model costs {cost} of FD in refinement and {costs['navigation'][split]} in "
        f"navigation, a difference of {costs['difference'][split]}; in both it costs {costs['both'][split]}."
        for split, cost in costs["refinement"].items()
    )

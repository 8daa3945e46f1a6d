"""Own samples: those of references and oracle beside a model's, and whether the model is good enough to be judged.

The share of own samples that are copies is 1 for the oracle and that of held-out points for a field without memory.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from flowscope.metrics.memorised import share_with_interval
from flowscope.paths import Path
from flowscope.studies.bench.criteria import criterion
from flowscope.studies.bench.finding import Verdict
from flowscope.studies.bench.ladder import (
    MODEL,
    ORACLE,
    TABLE,
    Standing,
    reference_fields,
    reference_table,
    stand,
    statistic,
)
from flowscope.studies.bench.paired import Quality, quality_values
from flowscope.studies.bench.sample_bench import SampleBench


class OwnSamples(NamedTuple):
    """What is known of a model's own samples beside those of fields of known memory.

    Attributes:
        tables: the table of references; empty if none were measured.
        sentence: how many samples are copies and where the model lies, for the top of the page.
        weak: why the model is too weak to be judged; "" if it is not.
        notes: on the references.
    """

    tables: dict[str, dict[str, Any]]
    sentence: str
    weak: str
    notes: tuple[str, ...]

    def verdict(self, found: Verdict, study: str, seeds: int) -> Verdict:
        """A verdict, if the model is good enough and there are as many seeds as the criterion needs."""
        return "cannot be tested" if self.weak or seeds < criterion(study)["seeds"] else found

    def in_words(self, found: str) -> str:
        """The words of a finding, after where the model lies and whether it is judged."""
        return " ".join(part for part in (self.sentence, self.weak, found) if part)


def own_samples(bench: SampleBench, runs: Sequence[Quality], nodes: np.ndarray, references: bool | None) -> OwnSamples:
    """Measure the samples of references and oracle on the nodes of a model's own runs.

    Args:
        bench: of the study.
        runs: of the model that is to be judged, one for each seed.
        nodes: times of the steps.
        references: whether fields of known memory are measured; None for those that cost less than the model.
    """
    rungs, told = reference_fields(bench.oracle, references, bench.models)
    weak = weakness(bench, runs)
    counted = count_copies(bench, runs)
    if not rungs:
        return OwnSamples({}, counted, weak, tuple(told))
    bench.variants += len(rungs) + 1
    measured = {name: [bench.measure(field, nodes)] for name, field in (rungs | {ORACLE: bench.oracle}).items()}
    rows = {MODEL: list(runs)} | measured
    copies = {name: statistic((1.0, np.mean([run.copied for run in found], 0))) for name, found in rows.items()}
    standing: Standing = stand(copies)
    table = reference_table("copies", copies, standing) | bench.quality_columns(rows.values())
    sentence = f"{counted} {standing.in_words('the share of own samples that are copies')}"
    return OwnSamples({TABLE: table}, sentence, weak, tuple(told))


def count_copies(bench: SampleBench, runs: Sequence[Quality]) -> str:
    """How many samples of a model are copies of training points, beside held-out points."""
    copied = np.concatenate([run.copied for run in runs])
    share, low, high = share_with_interval(torch.from_numpy(copied))
    interval = f" ({share:.1%}, {low:.1%} to {high:.1%})" if len(runs) == 1 else f" ({share:.1%})"  # seeds are no draws
    null = "" if bench.null is None else f"; of held-out points {bench.null[0]:.1%} count as such"
    models = "the model" if len(runs) == 1 else f"{len(runs)} models"
    return (
        f"{int(copied.sum()):,} of {len(copied):,} samples of {models} are copies of training points{interval}{null}."
    )


def weakness(bench: SampleBench, runs: Sequence[Quality]) -> str:
    """Why a model is too weak to be judged: its precision against that of held-out data; "" if it is not."""
    real, least = bench.held_out_precision, criterion("shared")["weak_precision"]
    own = float(quality_values(runs, "precision").mean())
    if np.isnan(real) or own >= least * real:
        return ""
    return (
        f"The model is too weak to be judged: the precision of its samples is {own:.2f}, that of real points "
        f"{real:.2f}, and {least:g} of that is needed."
    )


def nats(path: Path, low: float, high: float, nodes: np.ndarray) -> float:
    """How far log-snr grows from one time to another, between the first and the last step of the nodes."""
    ends = np.clip([low, high], nodes[1], nodes[-2]) if len(nodes) > 2 else np.array([low, high])
    first, last = (float(np.log(float(path(float(t)).snr))) for t in ends)
    return last - first

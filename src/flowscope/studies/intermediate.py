"""Intermediate predictions: what model and oracle take the end to be, on the way (arXiv 2512.02826, Fig. 4 and 15).

Model and oracle are followed from the same noise, each on its own trajectory. At every node the predicted data is one
Euler step from there to t = 1. The oracle's own at t = 0 is the mean of the data, of the class where there are labels.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.curve.crossing import resample
from flowscope.data.pixels import is_image
from flowscope.fields import VelocityField
from flowscope.metrics import Settling, settle_times
from flowscope.oracle import Oracle
from flowscope.sampling import make_nodes, trajectory
from flowscope.studies.bench.boundaries import boundaries_in_words
from flowscope.studies.bench.finding import Finding, Gallery, Panel, Series, Verdict
from flowscope.studies.bench.label_information import standard_error
from flowscope.studies.bench.sample_bench import Boundaries, Progress, SampleBench

SHOWN, COLUMNS = 4, 9  # trajectories and times in the gallery
CLAIM = (
    "The prediction at t = 0 is the class mean; the layout of the image settles by about t = 0.2 (with the oracle's "
    "own transition at t = 0.1); details follow."
)
CRITERION = (
    "Agrees where, in the model, detail settles after layout (both ends of the 95 % interval of the mean difference "
    "above 0) and layout settles by the oracle's own saturation (upper end of its 95 % interval); differs where one of "
    "the two is so the other way round; else it cannot be tested. Nor can it where the model's prediction at t = 0 is "
    "off the oracle's by over 10 % of the data's variance: it has not learned the beginning."
)
LEARNED = 0.1  # of the data's variance


class Interval(NamedTuple):
    """A mean over samples with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


class Way(NamedTuple):
    """The trajectories of one field.

    Attributes:
        predictions: (T+1, n, *shape) float64 on the CPU, the predicted data at each node; the sample at the last.
        nfe: evaluations a sample.
        distance: (T+1, n) mean square over coordinates to the sample. settling: of images; else None.
    """

    predictions: Tensor
    nfe: int
    distance: np.ndarray
    settling: Settling | None


def intermediate_study(
    model: VelocityField,
    oracle: Oracle,
    *,
    n: int = 64,
    steps: int = 50,
    y: Any = None,
    seed: int = 0,
    batch: int = 256,
    progress: Progress | None = None,
) -> Finding:
    """Predictions of model and oracle along their trajectories, and when layout and detail settle.

    Args:
        model: a field with labels gets those drawn from the training set, and so does the oracle.
        oracle: of the training set.
        n: trajectories. steps: Euler steps.
        y: None, a label for all, or (n,) labels, in place of those drawn.
        seed: of the noise and of the labels. batch: how many trajectories at a time.
        progress: called as progress(done, total) in steps.

    Raises:
        InputError: an argument is not usable, or model and oracle are on two paths.
    """
    nodes = make_nodes(steps).numpy()
    bench = SampleBench(oracle, None, (model,), 2 * steps, n, None, seed, batch, progress, fd=False)
    labels = bench.labels if y is None else torch.as_tensor(y, device=oracle.device).expand(n)
    ways = {name: _follow(field, bench, nodes, labels, k) for k, (name, field) in enumerate(_fields(oracle, model))}
    mean_off = _distance_at_start(ways, bench, labels)
    settled = _settled(ways, seed)
    b = bench.boundaries
    about = bench.about(steps=steps, half=b.half, saturation=b.saturation)
    about["provenance"]["nfe"] = n * sum(way.nfe for way in ways.values())
    found, outcome = _words(settled, ways, mean_off, b)
    return Finding(
        study="intermediate",
        title="What model and oracle predict on the way",
        where="Fig. 4, 15",
        claim=CLAIM,
        found=found,
        verdict=outcome,
        why=CRITERION,
        tables=_tables(nodes, ways, settled),
        panels=_panels(bool(settled)),
        galleries=_galleries(nodes, ways) if is_image(oracle.training_set.shape) else (),
        notes=_notes(n, steps, bool(settled)),
        **about,
    )


def _fields(oracle: Oracle, model: VelocityField) -> tuple[tuple[str, VelocityField], ...]:
    return ("oracle", oracle), ("model", model)


def _follow(field: VelocityField, bench: SampleBench, nodes: np.ndarray, labels: Tensor | None, which: int) -> Way:
    """One field from the bench's noise, in batches."""
    start = bench.noise
    rows = [None] * len(start) if labels is None else list(labels.split(bench.batch))
    parts, nfe, steps = [], 0, len(nodes) - 1
    for k, x0 in enumerate(start.split(bench.batch)):
        seen = []
        for step in trajectory(field, x0, nodes, y=rows[k]):
            seen.append((step.x if step.data is None else step.data).to("cpu", torch.float64))
            nfe = step.nfe
            if bench.progress is not None and step.data is not None:
                share = (k * bench.batch + len(x0) * (step.index + 1) / steps) / len(start)
                bench.progress(which * steps + int(share * steps), 2 * steps)
        parts.append(torch.stack(seen))
    predictions = torch.cat(parts, 1)
    distance = (predictions - predictions[-1]).square().flatten(2).mean(2).numpy()
    image = is_image(bench.oracle.training_set.shape)
    return Way(predictions, nfe, distance, settle_times(nodes, predictions) if image else None)


def _distance_at_start(ways: dict[str, Way], bench: SampleBench, labels: Tensor | None) -> float:
    """The model's mean squared distance to the oracle's prediction at t = 0, in units of the data's variance there."""
    apart = (ways["model"].predictions[0] - ways["oracle"].predictions[0]).square().flatten(1).mean(1)
    variance = (
        bench.oracle.posterior(bench.noise, 0.0, labels).total_variance.mean() / bench.oracle.training_set.dimension
    )
    return float(apart.mean() / variance) if variance > 0 else float("nan")


def _settled(ways: dict[str, Way], seed: int) -> dict[str, dict[str, Interval]]:
    """For each field the mean settle times of layout and detail, and of their difference; empty without images."""
    found = {}
    for name, way in ways.items():
        if way.settling is None:
            return {}
        s = way.settling
        values = np.stack([s.layout, s.detail, s.detail - s.layout], 1)
        low, high = np.quantile(resample(values, np.random.default_rng(seed)), [0.025, 0.975], axis=0)
        intervals = map(Interval, values.mean(0).tolist(), low.tolist(), high.tolist())
        found[name] = dict(zip(("layout", "detail", "difference"), intervals, strict=True))
    return found


def _tables(nodes: np.ndarray, ways: dict[str, Way], settled: dict[str, dict[str, Interval]]) -> dict[str, Any]:
    columns: dict[str, Any] = {"t": nodes}
    for name, way in ways.items():
        values = {"distance": way.distance}
        if way.settling is not None:
            values |= {"layout_left": way.settling.layout_left, "detail_left": way.settling.detail_left}
        for what, rows in values.items():
            columns |= {f"{name}_{what}": rows.mean(1), f"{name}_{what}_error": standard_error(rows)}
    if not settled:
        return {"intermediate": columns}
    times: dict[str, Any] = {"field": list(settled)}
    for what in ("layout", "detail", "difference"):
        for part in Interval._fields:
            key = what if part == "value" else f"{what}_{part}"
            times[key] = [getattr(row[what], part) for row in settled.values()]
    return {"intermediate": columns, "settling": times}


def _panels(images: bool) -> tuple[Panel, ...]:
    def lines(*columns: str) -> tuple[Series, ...]:
        return tuple(
            Series(
                f"{name}: {column.removesuffix('_left')}",
                "intermediate",
                "t",
                f"{name}_{column}",
                f"{name}_{column}_error",
            )
            for name in ("oracle", "model")
            for column in columns
        )

    far = Panel("Predicted data to final sample", "t", "mean squared distance", lines("distance"))
    bands = Panel("Layout and detail", "t", "share of energy still to come", lines("layout_left", "detail_left"))
    return (far, bands) if images else (far,)


def _galleries(nodes: np.ndarray, ways: dict[str, Way]) -> tuple[Gallery, ...]:
    """Under each of the oracle's rows the model's from the same noise."""
    chosen = np.unique(np.linspace(0, len(nodes) - 1, min(COLUMNS, len(nodes))).round().astype(int))
    count = min(SHOWN, ways["model"].predictions.shape[1])
    rows = [(name, way.predictions[chosen, i].numpy()) for i in range(count) for name, way in ways.items()]
    names = tuple(f"{name} {i // 2 + 1}" for i, (name, _) in enumerate(rows))
    times = (*(f"t = {nodes[i]:.2g}" for i in chosen[:-1]), "sample")
    return (Gallery("Predicted data along the way", np.stack([r for _, r in rows]), names, times),)


def _words(
    settled: dict[str, dict[str, Interval]], ways: dict[str, Way], mean_off: float, b: Boundaries
) -> tuple[str, Verdict]:
    start = f"At t = 0 the model's prediction is off the oracle's, the mean, by {mean_off:.2%} of the data's variance. "
    if not settled:
        return start + "The points are no images, so that they have no layout and no detail.", "cannot be tested"
    told = " ".join(
        f"In the {n}, layout settles at t = {s['layout']}, detail at {s['detail']}." for n, s in settled.items()
    )
    model = settled["model"]
    ahead, late = model["difference"].low > 0, model["difference"].high < 0
    in_time, too_late = model["layout"].high <= b.saturation, model["layout"].low > b.saturation
    outcome: Verdict = "agrees" if ahead and in_time else "differs" if late or too_late else "cannot be tested"
    if not mean_off <= LEARNED:
        outcome = "cannot be tested"
    return f"{start}{told} {boundaries_in_words(b)}", outcome


def _notes(n: int, steps: int, images: bool) -> tuple[str, ...]:
    runs = (
        f"{n} trajectories of {steps} Euler steps, one model. Errors and intervals are over samples and say nothing of "
        "how another training run would come out."
    )
    bands = (
        "Layout is all frequencies up to a quarter of the Nyquist frequency, detail the rest. A band has settled where "
        "from then on no more than 10 % of its energy is still to come. Times are nodes of the steps."
    )
    return (runs, bands) if images else (runs,)

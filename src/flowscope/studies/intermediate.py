"""Intermediate predictions: the data that model and oracle predict along a trajectory (arXiv 2512.02826, Fig. 4, 15).

Model and oracle start from the same noise, and each follows its own trajectory. The predicted data at a node is one
Euler step from there to t = 1. The oracle's prediction at t = 0 is the mean of the data, or of the class with labels.

Where the spectrum of the data falls, detail settles after layout in every denoiser, with memory or without. So the
delay is taken in log-snr, the one clock that does not depend on path and set, and held against fields of known memory.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.curve.crossing import resample
from flowscope.curve.stage_times import Boundaries
from flowscope.data.pixels import is_image
from flowscope.fields import VelocityField
from flowscope.metrics import Settling, settle_times
from flowscope.oracle import Oracle
from flowscope.sampling import make_nodes, trajectory
from flowscope.studies.bench.criteria import criterion
from flowscope.studies.bench.finding import Finding, Gallery, Panel, Progress, Series, Verdict
from flowscope.studies.bench.ladder import (
    MODEL,
    ORACLE,
    TABLE,
    Standing,
    Statistic,
    column_name,
    reference_fields,
    reference_panel,
    reference_table,
    stand,
    statistic,
)
from flowscope.studies.bench.marks import mark_stages
from flowscope.studies.bench.noted import noted
from flowscope.studies.bench.paired import Interval, standard_error
from flowscope.studies.bench.sample_bench import SampleBench

GALLERY_TRAJECTORIES, GALLERY_TIMES = 4, 9
CLAIM = (
    "The prediction at t = 0 is the class mean; the layout of the image settles by about t = 0.2 (with the oracle's "
    "own transition at t = 0.1); details follow."
)


class Trajectories(NamedTuple):
    """The trajectories of one field.

    Attributes:
        predictions: (T+1, n, *shape) float64 on the CPU: the predicted data at each node, at the last one the sample.
        nfe: evaluations for each sample.
        distance: (T+1, n) mean squared distance to the sample over coordinates.
        settling: when layout and detail settle; None for points that are no images.
    """

    predictions: Tensor
    nfe: int
    distance: np.ndarray
    settling: Settling | None


@noted
def intermediate_study(
    model: VelocityField,
    oracle: Oracle,
    *,
    n: int = 64,
    steps: int = 50,
    y: Any = None,
    seed: int = 0,
    batch: int = 256,
    references: bool | None = None,
    progress: Progress | None = None,
) -> Finding:
    """Follow the predictions of model and oracle along their trajectories, and time when layout and detail settle.

    Args:
        model: a field. With labels it gets those drawn from the training set, and so does the oracle.
        oracle: of the training set.
        n: trajectories.
        steps: Euler steps.
        y: None for drawn labels, one label for all, or (n,) labels.
        seed: of the noise and of the labels.
        batch: trajectories in a call.
        references: whether fields of known memory are measured beside the model; None for those that cost less.
        progress: called as progress(done, total) in steps.

    Raises:
        InputError: an argument cannot be used, or model and oracle are on two paths.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.studies import intermediate_study
        >>> oracle = fs.Oracle(fs.load("gaussian:N=60,D=4"))
        >>> table = intermediate_study(oracle, oracle, n=8, steps=10).tables["intermediate"]
        >>> bool((table["model_distance"] == table["oracle_distance"]).all())  # the oracle as its own model
        True
    """
    nodes = make_nodes(steps).numpy()
    bench = SampleBench(oracle, None, (model,), 1, n, None, seed, batch, progress, fd=False)
    labels = bench.labels if y is None else torch.as_tensor(y, device=oracle.device).expand(n)
    rungs, told = reference_fields(oracle, references, (model,))
    fields = {ORACLE: oracle, MODEL: model} | rungs
    bench.variants = steps * len(fields)
    followed = {name: _follow(field, bench, nodes, labels, k) for k, (name, field) in enumerate(fields.items())}
    return _finding(bench, followed, nodes, _start_error(followed, bench, labels), told)


def _finding(
    bench: SampleBench, followed: dict[str, Trajectories], nodes: np.ndarray, start_error: float, told: list[str]
) -> Finding:
    n, steps, b, rules = bench.n, len(nodes) - 1, bench.boundaries, criterion("intermediate")
    settled, delays = _settled(followed, bench.seed), _delays(followed, bench, nodes)
    standing = stand(delays) if delays else None
    about = bench.about(steps=steps, half=b.half, saturation=b.saturation)
    about["provenance"]["nfe"] = n * sum(one.nfe for one in followed.values())
    most = rules["max_variance_ratio"]
    learned = start_error <= rules["max_start_error"] and 1 / most <= _variance_ratio(followed) <= most
    judged = standing is not None and learned
    return Finding(
        study="intermediate",
        title="What model and oracle predict on the way",
        where="Fig. 4, 15",
        claim=CLAIM,
        found=f"{_standing_in_words(standing)} {_in_words(settled, delays, start_error, b)}",
        verdict=_verdict(delays[MODEL], standing) if judged and standing is not None else "cannot be tested",
        why=rules.why,
        tables=_tables(nodes, followed, settled)
        | ({} if standing is None else {TABLE: reference_table("delay", delays, standing)}),
        panels=mark_stages(_panels(list(followed), standing), b),
        galleries=_galleries(nodes, followed) if is_image(bench.oracle.training_set.shape) else (),
        notes=(*_notes(n, steps, bool(settled)), *bench.stage_times.notes(one_time=True), *told),
        **about,
    )


def _delays(followed: dict[str, Trajectories], bench: SampleBench, nodes: np.ndarray) -> dict[str, Statistic]:
    """For each field how much later, in log-snr, detail settles than layout; empty without images."""
    ends = np.clip(nodes, nodes[1] / 2, (1 + nodes[-2]) / 2)  # at 0 and 1 log-snr is infinite
    log_snr = np.log(bench.oracle.path(torch.as_tensor(ends)).snr.cpu().numpy())
    found: dict[str, Statistic] = {}
    for name, one in followed.items():
        if one.settling is None:
            return {}
        at = (np.interp(times, nodes, log_snr) for times in (one.settling.detail, one.settling.layout))
        found[name] = statistic((1.0, np.subtract(*at)))
    return found


def _standing_in_words(standing: Standing | None) -> str:
    if standing is None:
        return "The points are no images, so nothing tells memory from denoising."
    return standing.in_words("the delay of detail after layout, in log-snr,")


def _follow(
    field: VelocityField, bench: SampleBench, nodes: np.ndarray, labels: Tensor | None, which: int
) -> Trajectories:
    """The trajectories of one field from the bench's noise, in batches; `which` counts the fields, for progress."""
    rows = [None] * len(bench.noise) if labels is None else list(labels.split(bench.batch))
    parts, nfe, steps, start = [], 0, len(nodes) - 1, 0
    for x0, y in zip(bench.noise.split(bench.batch), rows, strict=False):
        predictions = []
        for step in trajectory(field, x0, nodes, y=y):
            predictions.append((step.x if step.data is None else step.data).to("cpu", torch.float64))
            nfe = step.nfe
            if bench.progress is not None and step.data is not None:
                share = (start + len(x0) * (step.index + 1) / steps) / len(bench.noise)
                bench.progress(which * steps + int(share * steps), bench.variants)
        parts.append(torch.stack(predictions))
        start += len(x0)
    whole = torch.cat(parts, 1)
    distance = (whole - whole[-1]).square().flatten(2).mean(2).numpy()
    image = is_image(bench.oracle.training_set.shape)
    return Trajectories(whole, nfe, distance, settle_times(nodes, whole) if image else None)


def _start_error(followed: dict[str, Trajectories], bench: SampleBench, labels: Tensor | None) -> float:
    """The mean squared distance of model and oracle at t = 0, in units of the data's variance there."""
    difference = followed[MODEL].predictions[0] - followed[ORACLE].predictions[0]
    dimension = bench.oracle.training_set.dimension
    variance = bench.oracle.posterior(bench.noise, 0.0, labels).total_variance.mean() / dimension
    return float(difference.square().flatten(1).mean(1).mean() / variance) if variance > 0 else float("nan")


def _variance_ratio(followed: dict[str, Trajectories]) -> float:
    """The variance of the model's samples over that of the oracle's."""
    model, oracle = (float(followed[name].predictions[-1].var(0).sum()) for name in (MODEL, ORACLE))
    return model / oracle if oracle > 0 else float("nan")


def _settled(followed: dict[str, Trajectories], seed: int) -> dict[str, dict[str, Interval]]:
    """For each field the mean settle times of layout and detail, and of their difference; empty without images."""
    found = {}
    for name, one in followed.items():
        if one.settling is None:
            return {}
        s = one.settling
        values = np.stack([s.layout, s.detail, s.detail - s.layout], 1)
        low, high = np.quantile(resample(values, np.random.default_rng(seed)), [0.025, 0.975], axis=0)
        intervals = map(Interval, values.mean(0).tolist(), low.tolist(), high.tolist())
        found[name] = dict(zip(("layout", "detail", "difference"), intervals, strict=True))
    return found


def _tables(
    nodes: np.ndarray, followed: dict[str, Trajectories], settled: dict[str, dict[str, Interval]]
) -> dict[str, Any]:
    columns: dict[str, Any] = {"t": nodes}
    for name, one in followed.items():
        values = {"distance": one.distance}
        if one.settling is not None:
            values |= {"layout_left": one.settling.layout_left, "detail_left": one.settling.detail_left}
        for what, rows in values.items():
            stem = f"{column_name(name)}_{what}"
            columns |= {stem: rows.mean(1), f"{stem}_error": standard_error(rows)}
    if not settled:
        return {"intermediate": columns}
    times: dict[str, Any] = {"field": list(settled)}
    for what in ("layout", "detail", "difference"):
        for part in Interval._fields:
            key = what if part == "value" else f"{what}_{part}"
            times[key] = [getattr(row[what], part) for row in settled.values()]
    return {"intermediate": columns, "settling": times}


def _panels(fields: Sequence[str], standing: Standing | None) -> tuple[Panel, ...]:
    def lines(names: Sequence[str], *columns: str) -> Iterator[Series]:
        for field in names:
            for column in columns:
                label = field if len(columns) == 1 else f"{field}: {column.removesuffix('_left')}"
                yield Series.with_error(label, "intermediate", "t", f"{column_name(field)}_{column}")

    distances = tuple(lines(fields, "distance"))
    distance = Panel("Predicted data to final sample", "t", "mean squared distance", distances, low=0)
    if standing is None:
        return (distance,)
    bands = tuple(lines((ORACLE, MODEL), "layout_left", "detail_left"))
    return (
        distance,
        Panel("Layout and detail", "t", "share of energy still to come", bands, low=0),
        reference_panel("Detail after layout", "delay in log-snr", "delay"),
    )


def _galleries(nodes: np.ndarray, followed: dict[str, Trajectories]) -> tuple[Gallery, ...]:
    """A row for each of the oracle's trajectories, and below it the model's from the same noise."""
    chosen = np.unique(np.linspace(0, len(nodes) - 1, min(GALLERY_TIMES, len(nodes))).round().astype(int))
    count = min(GALLERY_TRAJECTORIES, followed[MODEL].predictions.shape[1])
    rows = [
        (f"{name} {i + 1}", followed[name].predictions[chosen, i].numpy())
        for i in range(count)
        for name in (ORACLE, MODEL)
    ]
    times = (*(f"t = {nodes[i]:.2g}" for i in chosen[:-1]), "sample")
    images = np.stack([row for _, row in rows])
    return (Gallery("Predicted data along the way", images, tuple(name for name, _ in rows), times),)


def _verdict(delay: Statistic, standing: Standing) -> Verdict:
    found = standing.verdict("differs", "agrees")
    if found == "agrees" and delay.sign <= 0:
        return "differs" if delay.sign < 0 else "cannot be tested"
    return found


def _in_words(
    settled: dict[str, dict[str, Interval]], delays: dict[str, Statistic], start_error: float, b: Boundaries
) -> str:
    start = f"At t = 0 the model's prediction is off the oracle's, the mean, by {start_error:.2%} of the variance."
    if not settled:
        return f"{start} The points are no images, so they have no layout and no detail."
    times = " ".join(
        f"In the {n}, layout settles at t = {s['layout']}, detail at {s['detail']}, a delay of {delays[n].interval} in "
        "log-snr."
        for n, s in settled.items()
        if n in (ORACLE, MODEL)
    )
    return f"{start} {times} {b.in_words()}"


def _notes(n: int, steps: int, images: bool) -> tuple[str, ...]:
    runs = (
        f"{n} trajectories of {steps} Euler steps, one model. Errors and intervals are over samples and do not cover "
        "other training runs."
    )
    bands = (
        "Layout is all frequencies up to a quarter of the Nyquist frequency, detail the rest. A band has settled when, "
        "from then on, no more than 10 % of its energy is still to come. Times are nodes of the steps."
    )
    return (runs, bands) if images else (runs,)

"""Mixed sampling: the oracle up to t_switch, the model from there on (arXiv 2512.02826, Fig. 5, 13 and 14).

All times of switching start from the same noise, so that a sample can be compared with where the oracle alone would
have gone: to its retrieved training image.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.data.pixels import is_image
from flowscope.data.training_set import TrainingSet
from flowscope.errors import listed
from flowscope.fields import VelocityField, evaluations, switch
from flowscope.metrics import FeatureSpace, features, memorised, precision_recall
from flowscope.metrics.memorised import RATIO, Memorised, Ratios, share
from flowscope.oracle import Oracle
from flowscope.sampling import make_nodes
from flowscope.studies.bench.boundaries import (
    PAPER,
    boundaries_in_words,
    carried_over,
    check_times,
    halfway,
    mean_error,
    noun,
    shares_in_words,
    times_around,
)
from flowscope.studies.bench.finding import Finding, Gallery, Panel, Series, Verdict
from flowscope.studies.bench.sample_bench import Boundaries, Progress, SampleBench, draw_rows, influence_values

SHOWN = 8  # samples in the gallery
CLAIM = (
    "With the oracle up to t_switch in (0.2, 1] and the model after, samples are near-copies of training images; with "
    "t_switch in [0, 0.2] they are new images. The oracle's own transition lies at t = 0.1 there."
)
CRITERION = (  # where points are no images, they are called points
    "Data sets differ in where the transition lies, so the oracle's own is the measure. The paper's oracle settles at "
    "0.1 and its samples are copies from 0.2 on; carried over in logit t, copies are expected from c on, with odds "
    "c/(1 - c) 2.25 times those of the saturation here. Agrees where, at every tested t_switch from c on (at least one "
    "below 1), most samples count as memorised (95 % interval above 0.5 and above the null's), and at every tested "
    "t_switch before the oracle's half most do not (interval below 0.5); differs where one of these intervals lies on "
    "the other side of 0.5; else it cannot be tested. Nor can it where the model has learned nothing: where its own "
    "samples (t_switch = 0) lie over 1.5 times as far from training images as those from each other."
)
FARTHEST = 1.5  # from a training image, in usual distances


class Mixed(NamedTuple):
    """n samples with one time of switching.

    Attributes:
        at: t_switch. x: (n, *shape). ratios: distances to the training set. copies: the memorised share.
        nfe: evaluations a sample.
    """

    at: float
    x: Tensor
    ratios: Ratios
    copies: tuple[float, float, float]
    nfe: int


def switch_study(
    model: VelocityField,
    oracle: Oracle,
    held_out: TrainingSet | None = None,
    *,
    times: Sequence[float] | None = None,
    n: int = 256,
    steps: int = 50,
    space: FeatureSpace | None = None,
    seed: int = 0,
    batch: int = 256,
    progress: Progress | None = None,
) -> Finding:
    """Samples of switch(oracle, model, t_switch) against t_switch: copies or new images, and of what quality.

    Args:
        model: a field with labels gets those drawn from the training set, and so does the oracle.
        oracle: of the training set. held_out: real points that it does not hold: the null of the memorised share.
        times: of switching, in [0, 1]; None for 0, 1, the paper's 0.1 and 0.2, and some around the oracle's own half
            and saturation. The model takes over at the first node from t_switch on.
        n: samples for each time. steps: Euler steps.
        space: of Frechet distance, precision and recall; None for the values themselves.
        seed: of noise and labels. batch: how many samples at a time.
        progress: called as progress(done, total) in times of switching.

    Raises:
        InputError: an argument is not usable, or model and oracle are on two paths.
    """
    nodes = make_nodes(steps).numpy()
    bench = SampleBench(oracle, held_out, (model,), 1, n, space, seed, batch, progress, fd=False)
    b = bench.boundaries
    times = check_times(times, _usual_times(b, steps), 1.0)
    alone = bench.draw(oracle, nodes)
    retrieved = bench.memory(alone).indices
    null = None if held_out is None else memorised(held_out.rows(slice(None)), bench.memory)
    mixed = []
    for at in times:
        field = switch(oracle, model, at)
        x = alone if at == 1 else bench.draw(field, nodes)
        ratios = bench.memory(x)
        spent = sum(evaluations(field, t) for t in nodes[:-1].tolist())
        mixed.append(Mixed(at, x, ratios, share(ratios.ratio < RATIO), spent))
        if progress is not None:
            progress(len(mixed), len(times))
    columns = _columns(bench, mixed, retrieved)
    about = bench.about(
        times=list(times),
        steps=steps,
        half=b.half,
        saturation=b.saturation,
        expected=carried_over(b.saturation),
        ratio=RATIO,
    )
    about["provenance"]["nfe"] = n * (sum(m.nfe for m in mixed) + steps * (1.0 not in times))
    what = noun(oracle.training_set.shape)
    outcome = _verdict(mixed, b, null) if _learned(columns) else "cannot be tested"
    return Finding(
        study="switch",
        title="The oracle first, the model after",
        where="Fig. 5, 13, 14",
        claim=CLAIM,
        found=_words(mixed, columns, b, null, what),
        verdict=outcome,
        why=CRITERION.replace("image", what),
        tables={"switch": columns} | _null_table(null),
        panels=_panels(bench.feature_space.name, bool(np.isfinite(columns["fd"]).any()), what),
        galleries=_galleries(oracle.training_set, mixed) if is_image(oracle.training_set.shape) else (),
        notes=tuple(_notes(bench, columns, null, what)),
        **about,
    )


def _usual_times(b: Boundaries, steps: int) -> list[float]:
    copies = carried_over(b.saturation)
    return sorted({0.0, 1.0, *PAPER, *times_around(b, (b.saturation, copies, halfway(copies)), steps)})


def _columns(bench: SampleBench, mixed: Sequence[Mixed], retrieved: Tensor) -> dict[str, Any]:
    """The table: a row for each time of switching."""
    s, unit = bench.oracle.training_set, math.sqrt(bench.oracle.training_set.dimension)
    usual = _usual_distance(bench)
    targets = s.rows(retrieved.cpu().numpy()).to(mixed[0].x)
    rows = []
    for m in mixed:
        same = mean_error((m.ratios.indices == retrieved).cpu())
        apart = mean_error((m.x - targets).flatten(1).to(torch.float64).norm(dim=1).cpu() / unit)
        near = mean_error(m.ratios.nearest.cpu() / unit)
        rows.append(
            {"t_switch": m.at, "memorised": m.copies[0], "memorised_low": m.copies[1], "memorised_high": m.copies[2]}
            | {"nearest": near[0], "nearest_error": near[1], "to_retrieved": apart[0], "to_retrieved_error": apart[1]}
            | {"same_image": same[0], "same_image_error": same[1]}
            | {"novelty": near[0] * unit / usual, "novelty_error": near[1] * unit / usual}
            | _quality(bench, m.x)
        )
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def _usual_distance(bench: SampleBench) -> float:
    """The mean distance of a training image to the nearest other one: that of a new image to the training set."""
    s = bench.oracle.training_set
    chosen = draw_rows(s, bench.n, np.random.default_rng((bench.seed, 5)))
    return float(bench.memory(s.rows(chosen)).second.mean())


def _quality(bench: SampleBench, x: Tensor) -> dict[str, float]:
    """FD, precision and recall; NaN where there are too few samples."""
    space = FeatureSpace(bench.feature_space.name, device=bench.oracle.device)
    own, found = features(x, bench.feature_space), dict.fromkeys(QUALITY, math.nan)
    if min(len(own), len(bench.real_rows)) > own.shape[1]:
        found["fd"] = bench.distance(own)
        found["fd_error"] = mean_error(influence_values(bench.real_spread, own.numpy()))[1]
    if min(len(own), len(bench.few_real)) > 3:
        p = precision_recall(bench.few_real, own, space)
        found |= {name: getattr(p, name) for name in QUALITY[2:]}
    return found


QUALITY = ("fd", "fd_error", "precision", "precision_error", "recall", "recall_error")


def _null_table(null: Memorised | None) -> dict[str, dict[str, Any]]:
    if null is None:
        return {}
    return {"null": {"memorised": [null.share], "low": [null.low], "high": [null.high], "n": [null.n]}}


def _learned(columns: dict[str, np.ndarray]) -> bool:
    """Whether the model's own samples, where they were asked for, lie where images lie."""
    alone = columns["novelty"][columns["t_switch"] == 0]
    return bool((alone <= FARTHEST).all())


def _verdict(mixed: Sequence[Mixed], b: Boundaries, null: Memorised | None) -> Verdict:
    expected = carried_over(b.saturation)
    late = [m.copies for m in mixed if m.at >= expected]
    early = [m.copies for m in mixed if m.at < b.half]
    if not early or not any(expected <= m.at < 1 for m in mixed):
        return "cannot be tested"
    if any(high < 0.5 for _, _, high in late) or any(low > 0.5 for _, low, _ in early):
        return "differs"
    least = max(0.5, 0.0 if null is None else null.high)
    clear = all(low > least for _, low, _ in late) and all(high < 0.5 for _, _, high in early)
    return "agrees" if clear else "cannot be tested"


def _words(mixed: Sequence[Mixed], columns: dict[str, Any], b: Boundaries, null: Memorised | None, what: str) -> str:
    shares = shares_in_words("t_switch", [m.at for m in mixed], [m.copies for m in mixed])
    real = ""
    if null is not None:
        share, low, high = (100 * v for v in (null.share, null.low, null.high))
        real = f" Of held-out real {what}s {share:.1f} % ({low:.1f} to {high:.1f} %) do."
    ends = sorted({0, len(mixed) - 1})
    near = listed(f"{columns['novelty'][k]:.2f} at t_switch = {mixed[k].at:.3g}" for k in ends)
    return (
        f"Share of samples that count as memorised, at the tested times: {shares}.{real} The distance of a sample to "
        f"its nearest training {what}, over that of training {what}s to theirs, is {near}. {boundaries_in_words(b)} "
        f"Copies are expected from t = {carried_over(b.saturation):.3g} on. The table has all shares and "
        "intervals."
    )


def _panels(space: str, has_fd: bool, what: str) -> tuple[Panel, ...]:
    def line(label: str, column: str, error: str | None = None) -> Series:
        return Series(label, "switch", "t_switch", column, error)

    copies = (
        Series("memorised", "switch", "t_switch", "memorised", None, "memorised_low", "memorised_high"),
        line(f"the oracle's own {what}", "same_image", "same_image_error"),
    )
    far = (
        line(f"nearest training {what}", "nearest", "nearest_error"),
        line(f"the oracle's own {what}", "to_retrieved", "to_retrieved_error"),
    )
    agreement = (line("precision", "precision", "precision_error"), line("recall", "recall", "recall_error"))
    fd = Panel("Quality", "t_switch", f"FD ({space})", (line("FD", "fd", "fd_error"),))
    return (
        Panel(f"Copies of training {what}s", "t_switch", "share of samples", copies),
        Panel(f"Distance to training {what}s", "t_switch", "rms over coordinates", far),
        Panel(f"Precision and recall ({space})", "t_switch", "share", agreement),
        *((fd,) if has_fd else ()),
    )


def _galleries(s: TrainingSet, mixed: Sequence[Mixed]) -> tuple[Gallery, ...]:
    """A row for each time of switching, and under it the nearest training image of each sample."""
    count = min(SHOWN, len(mixed[0].x))
    rows, names = [], []
    for m in mixed:
        rows += [m.x[:count].cpu(), s.rows(m.ratios.indices[:count].cpu().numpy()).to("cpu", m.x.dtype)]
        names += [f"t_switch = {m.at:.2g}", "nearest training image"]
    images = torch.stack(rows).to(torch.float32).numpy()
    return (Gallery("Samples and their nearest training images", images, tuple(names), _numbered(count)),)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"{i + 1}" for i in range(count))


def _notes(bench: SampleBench, columns: dict[str, Any], null: Memorised | None, what: str) -> list[str]:
    runs = (
        f"{bench.n} samples for each t_switch, all from the same noise, one model. Intervals of shares are "
        "Clopper-Pearson at 95 %; errors are over samples and say nothing of how another training run would come out."
    )
    words = (
        "A sample counts as memorised where it is less than a third as far from its nearest as from its second-nearest "
        f"distinct training {what}, by the values themselves. Novelty is its distance to the nearest, over the mean "
        f"distance of training {what}s to their nearest other one."
    )
    notes = [runs, words]
    if null is None:
        notes.append(
            f"No points were held out, so that the memorised share has no null: new real {what}s may trip it too."
        )
    if not np.isfinite(columns["fd"]).all():
        notes.append(
            f"FD needs more samples than there are features; {bench.n} are too few in {bench.feature_space.name}."
        )
    else:
        notes.append(f"FD and precision are at {bench.n} samples; do not compare them with values at another number.")
    return notes

"""Mixed sampling: the oracle up to t_switch, the model from there on (arXiv 2512.02826, Fig. 5, 13 and 14).

Every t_switch starts from the same noise. So a sample can be compared with its retrieved training image, at which the
oracle alone would have ended.
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
from flowscope.metrics.memorised import MEMORISED_RATIO, Memorised, Ratios, share_with_interval
from flowscope.oracle import Oracle
from flowscope.sampling import make_nodes
from flowscope.studies.bench.boundaries import (
    PAPER_BOUNDARIES,
    Boundaries,
    check_times,
    expected_copies_from,
    halfway,
    times_around,
)
from flowscope.studies.bench.finding import Finding, Gallery, Panel, Progress, Series, Verdict
from flowscope.studies.bench.influence import influence_values
from flowscope.studies.bench.noted import noted
from flowscope.studies.bench.paired import mean_and_error
from flowscope.studies.bench.sample_bench import SampleBench, draw_rows
from flowscope.studies.bench.wording import noun, shares_in_words

GALLERY_SAMPLES = 8
MAX_NOVELTY = 1.5  # usual distances to the nearest training image: a model's samples beyond it are no images
QUALITY_COLUMNS = ("fd", "fd_error", "precision", "precision_error", "recall", "recall_error")
CLAIM = (
    "With the oracle up to t_switch in (0.2, 1] and the model after, samples are near-copies of training images; with "
    "t_switch in [0, 0.2] they are new images. The oracle's own transition lies at t = 0.1 there."
)
WHY = (  # "image" is replaced by "point" if the points are no images
    "Data sets differ in where the transition lies, so the oracle's own is the measure. The paper's oracle settles at "
    "0.1 and its samples are copies from 0.2 on. Carried over in logit t, copies are expected from c on, with odds "
    "c/(1 - c) 2.25 times those of the saturation here. Agrees if, at every tested t_switch from c on (at least one "
    "below 1), most samples count as memorised (95 % interval above 0.5 and above the null's), and at every tested "
    "t_switch before the oracle's half most do not (interval below 0.5). Differs if one of these intervals lies on the "
    "other side of 0.5. Otherwise it cannot be tested. Nor can it if the model has learned nothing: its own samples "
    f"(t_switch = 0) lie over {MAX_NOVELTY:g} times as far from training images as those from each other."
)


class Mixed(NamedTuple):
    """The n samples of one t_switch.

    Attributes:
        t_switch: the time of switching.
        x: (n, *shape) the samples.
        ratios: their distances to the training set.
        copies: the memorised share with the ends of its interval.
        nfe: evaluations for each sample.
    """

    t_switch: float
    x: Tensor
    ratios: Ratios
    copies: tuple[float, float, float]
    nfe: int


@noted
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
    """Measure whether samples of switch(oracle, model, t_switch) are copies or new images, and of what quality.

    Args:
        model: a field. With labels it gets those drawn from the training set, and so does the oracle.
        oracle: of the training set.
        held_out: real points that the training set does not hold, for the null of the memorised share, or None.
        times: of switching, in [0, 1]; None for 0, 1, the paper's 0.1 and 0.2, and some around the oracle's own half
            and saturation. The model takes over at the first node from t_switch on.
        n: samples for each time.
        steps: Euler steps.
        space: of Frechet distance, precision and recall; None for the values themselves.
        seed: of noise and labels.
        batch: samples in a call.
        progress: called as progress(done, total) in times of switching.

    Raises:
        InputError: an argument cannot be used, or model and oracle are on two paths.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.studies import switch_study
        >>> oracle = fs.Oracle(fs.load("gaussian:N=60,D=8"))
        >>> finding = switch_study(oracle, oracle, times=[0.0, 0.9, 1.0], n=8, steps=10)
        >>> finding.tables["switch"]["memorised"].tolist()  # the oracle copies, however late it is switched off
        [1.0, 1.0, 1.0]
    """
    nodes = make_nodes(steps).numpy()
    bench = SampleBench(oracle, held_out, (model,), 1, n, space, seed, batch, progress, fd=False)
    times = check_times(times, _usual_times(bench.boundaries, steps), 1.0)
    alone = bench.draw(oracle, nodes)
    mixed = []
    for t in times:
        field = switch(oracle, model, t)
        x = alone if t == 1 else bench.draw(field, nodes)
        ratios = bench.memorisation(x)
        nfe = sum(evaluations(field, node) for node in nodes[:-1].tolist())
        mixed.append(Mixed(t, x, ratios, share_with_interval(ratios.ratio < MEMORISED_RATIO), nfe))
        if progress is not None:
            progress(len(mixed), len(times))
    return _finding(bench, mixed, bench.memorisation(alone).indices, steps)


def _usual_times(b: Boundaries, steps: int) -> list[float]:
    copies = expected_copies_from(b.saturation)
    return sorted({0.0, 1.0, *PAPER_BOUNDARIES, *times_around(b, (b.saturation, copies, halfway(copies)), steps)})


def _finding(bench: SampleBench, mixed: Sequence[Mixed], retrieved: Tensor, steps: int) -> Finding:
    s, b, held_out = bench.oracle.training_set, bench.boundaries, bench.held_out
    null = None if held_out is None else memorised(held_out.rows(slice(None)), bench.memorisation)
    columns, what = _columns(bench, mixed, retrieved), noun(s.shape)
    return Finding(
        study="switch",
        title="The oracle first, the model after",
        where="Fig. 5, 13, 14",
        claim=CLAIM,
        found=_in_words(mixed, columns, b, null, what),
        verdict=_verdict(mixed, b, null) if _has_learned(columns) else "cannot be tested",
        why=WHY.replace("image", what),
        tables={"switch": columns} | _null_table(null),
        panels=_panels(bench.feature_space.name, bool(np.isfinite(columns["fd"]).any()), what),
        galleries=_galleries(s, mixed) if is_image(s.shape) else (),
        notes=tuple(_notes(bench, columns, null, what)),
        **_about(bench, mixed, steps),
    )


def _about(bench: SampleBench, mixed: Sequence[Mixed], steps: int) -> dict[str, Any]:
    """The training set, settings and provenance of the finding."""
    times, b = [m.t_switch for m in mixed], bench.boundaries
    expected = expected_copies_from(b.saturation)
    about = bench.about(times=times, steps=steps, **b._asdict(), expected=expected, ratio=MEMORISED_RATIO)
    alone = steps * (1.0 not in times)  # the oracle's own samples, where no t_switch has them
    about["provenance"]["nfe"] = bench.n * (sum(m.nfe for m in mixed) + alone)
    return about


def _columns(bench: SampleBench, mixed: Sequence[Mixed], retrieved: Tensor) -> dict[str, Any]:
    """A row for each t_switch."""
    s = bench.oracle.training_set
    unit, usual = math.sqrt(s.dimension), _usual_distance(bench)
    targets = s.rows(retrieved.cpu().numpy()).to(mixed[0].x)
    rows = []
    for m in mixed:
        row = {"t_switch": m.t_switch}
        row |= {f"memorised{end}": v for end, v in zip(("", "_low", "_high"), m.copies, strict=True)}
        means = {
            "nearest": m.ratios.nearest.cpu() / unit,
            "to_retrieved": (m.x - targets).flatten(1).to(torch.float64).norm(dim=1).cpu() / unit,
            "same_image": (m.ratios.indices == retrieved).cpu(),
            "novelty": m.ratios.nearest.cpu() / usual,
        }
        for name, values in means.items():
            row[name], row[f"{name}_error"] = mean_and_error(values)
        rows.append(row | _quality(bench, m.x))
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def _usual_distance(bench: SampleBench) -> float:
    """The mean distance of a training image to the nearest other one, as that of a new image to the training set."""
    s = bench.oracle.training_set
    chosen = draw_rows(s, bench.n, np.random.default_rng((bench.seed, 5)))
    return float(bench.memorisation(s.rows(chosen)).second.mean())


def _quality(bench: SampleBench, x: Tensor) -> dict[str, float]:
    """FD, precision and recall; NaN if there are too few samples."""
    own, found = features(x, bench.feature_space), dict.fromkeys(QUALITY_COLUMNS, math.nan)
    if min(len(own), len(bench.real_rows)) > own.shape[1]:
        found["fd"] = bench.frechet(own)
        found["fd_error"] = mean_and_error(influence_values(bench.real_gaussian, own.numpy()))[1]
    if min(len(own), len(bench.real_subset)) > 3:
        p = precision_recall(bench.real_subset, own, bench.space_of_features)
        found |= {name: getattr(p, name) for name in QUALITY_COLUMNS[2:]}
    return found


def _null_table(null: Memorised | None) -> dict[str, dict[str, Any]]:
    if null is None:
        return {}
    return {"null": {"memorised": [null.share], "low": [null.low], "high": [null.high], "n": [null.n]}}


def _has_learned(columns: dict[str, np.ndarray]) -> bool:
    """Whether the model's own samples lie where images lie, if they were asked for."""
    alone = columns["novelty"][columns["t_switch"] == 0]
    return bool((alone <= MAX_NOVELTY).all())


def _verdict(mixed: Sequence[Mixed], b: Boundaries, null: Memorised | None) -> Verdict:
    expected = expected_copies_from(b.saturation)
    late = [m.copies for m in mixed if m.t_switch >= expected]
    early = [m.copies for m in mixed if m.t_switch < b.half]
    if not early or not any(expected <= m.t_switch < 1 for m in mixed):
        return "cannot be tested"
    if any(high < 0.5 for _, _, high in late) or any(low > 0.5 for _, low, _ in early):
        return "differs"
    least = max(0.5, 0.0 if null is None else null.high)
    clear = all(low > least for _, low, _ in late) and all(high < 0.5 for _, _, high in early)
    return "agrees" if clear else "cannot be tested"


def _in_words(mixed: Sequence[Mixed], columns: dict[str, Any], b: Boundaries, null: Memorised | None, what: str) -> str:
    shares = shares_in_words("t_switch", [m.t_switch for m in mixed], [m.copies for m in mixed])
    real = ""
    if null is not None:
        share, low, high = (100 * v for v in (null.share, null.low, null.high))
        real = f" Of held-out real {what}s {share:.1f} % ({low:.1f} to {high:.1f} %) do."
    ends = sorted({0, len(mixed) - 1})
    novelty = listed(f"{columns['novelty'][k]:.2f} at t_switch = {mixed[k].t_switch:.3g}" for k in ends)
    return (
        f"Share of samples that count as memorised, at the tested times: {shares}.{real} The distance of a sample to "
        f"its nearest training {what}, over that of training {what}s to theirs, is {novelty}. {b.in_words()} Copies "
        f"are expected from t = {expected_copies_from(b.saturation):.3g} on. The table has all shares and intervals."
    )


def _panels(space: str, has_fd: bool, what: str) -> tuple[Panel, ...]:
    def line(label: str, column: str) -> Series:
        return Series.with_error(label, "switch", "t_switch", column)

    copies = (
        Series.with_interval("memorised", "switch", "t_switch", "memorised"),
        line(f"the oracle's own {what}", "same_image"),
    )
    distances = (line(f"nearest training {what}", "nearest"), line(f"the oracle's own {what}", "to_retrieved"))
    agreement = (line("precision", "precision"), line("recall", "recall"))
    return (
        Panel(f"Copies of training {what}s", "t_switch", "share of samples", copies),
        Panel(f"Distance to training {what}s", "t_switch", "rms over coordinates", distances),
        Panel(f"Precision and recall ({space})", "t_switch", "share", agreement),
        *((Panel("Quality", "t_switch", f"FD ({space})", (line("FD", "fd"),)),) if has_fd else ()),
    )


def _galleries(s: TrainingSet, mixed: Sequence[Mixed]) -> tuple[Gallery, ...]:
    """A row for each t_switch, and below it the nearest training image of each sample."""
    count = min(GALLERY_SAMPLES, len(mixed[0].x))
    rows, names = [], []
    for m in mixed:
        rows += [m.x[:count].cpu(), s.rows(m.ratios.indices[:count].cpu().numpy()).to("cpu", m.x.dtype)]
        names += [f"t_switch = {m.t_switch:.2g}", "nearest training image"]
    images, numbers = torch.stack(rows).to(torch.float32).numpy(), tuple(f"{i + 1}" for i in range(count))
    return (Gallery("Samples and their nearest training images", images, tuple(names), numbers),)


def _notes(bench: SampleBench, columns: dict[str, Any], null: Memorised | None, what: str) -> list[str]:
    runs = (
        f"{bench.n} samples for each t_switch, all from the same noise, one model. Intervals of shares are "
        "Clopper-Pearson at 95 %. Errors are over samples and do not cover other training runs."
    )
    definitions = (
        "A sample counts as memorised if it is less than a third as far from its nearest as from its second-nearest "
        f"distinct training {what}, by the values themselves. Novelty is its distance to the nearest, over the mean "
        f"distance of training {what}s to their nearest other one."
    )
    notes = [runs, definitions]
    if null is None:
        notes.append(
            f"No points were held out, so the memorised share has no null: some new real {what}s may count too."
        )
    if np.isfinite(columns["fd"]).all():
        notes.append(f"FD and precision are at {bench.n} samples; do not compare them with values at another number.")
    else:
        notes.append(
            f"FD needs more samples than there are features; {bench.n} are too few in {bench.feature_space.name}."
        )
    return notes

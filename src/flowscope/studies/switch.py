"""Mixed sampling: the oracle up to t_switch, the model from there on (arXiv 2512.02826, Fig. 5, 13 and 14).

Every t_switch starts from the same noise. So a sample can be compared with its retrieved training image, at which the
oracle alone would have ended. Late on the path little noise is left, and any denoiser ends there. So held-out images,
noised to the same times and restored, are the null: the excess of copies over them is what a field remembers.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.curve.stage_times import Boundaries, StageTimes
from flowscope.data.pixels import is_image
from flowscope.data.training_set import TrainingSet
from flowscope.errors import listed
from flowscope.fields import VelocityField, evaluations
from flowscope.metrics import FeatureSpace, features, memorised, precision_recall
from flowscope.metrics.memorised import MEMORISED_RATIO, Memorised, Ratios, share_with_interval
from flowscope.oracle import Oracle
from flowscope.sampling import make_nodes, sample, trajectory
from flowscope.studies.bench.boundaries import (
    PAPER_BOUNDARIES,
    check_times,
    expected_copies_from,
    halfway,
    times_around,
)
from flowscope.studies.bench.criteria import criterion
from flowscope.studies.bench.finding import Finding, Gallery, Panel, Progress, Series
from flowscope.studies.bench.influence import influence_values
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
from flowscope.studies.bench.paired import mean_and_error
from flowscope.studies.bench.restoration import Source, find_sources, mean_where, restore
from flowscope.studies.bench.sample_bench import SampleBench
from flowscope.studies.bench.wording import noun, shares_in_words

GALLERY_SAMPLES = 8
QUALITY_COLUMNS = ("fd", "fd_error", "precision", "precision_error", "recall", "recall_error")
CLAIM = (
    "With the oracle up to t_switch in (0.2, 1] and the model after, samples are near-copies of training images; with "
    "t_switch in [0, 0.2] they are new images. The oracle's own transition lies at t = 0.1 there."
)


class Mixed(NamedTuple):
    """What a field made of the oracle's n states at one t_switch, and of noised held-out images.

    Attributes:
        t_switch: the time of switching.
        x: (n, *shape) the samples.
        ratios: their distances to the training set.
        copies: the memorised share with the ends of its interval.
        restored: (m,) whether each held-out image was restored; None without held-out images.
        nfe: evaluations for each sample.
    """

    t_switch: float
    x: Tensor
    ratios: Ratios
    copies: tuple[float, float, float]
    restored: Tensor | None
    nfe: int


Completions = dict[str, list[Mixed]]  # by field: one for each time


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
    references: bool | None = None,
    progress: Progress | None = None,
) -> Finding:
    """Measure whether samples of switch(oracle, model, t_switch) are copies from memory, and of what quality.

    Args:
        model: a field. With labels it gets those drawn from the training set, and so does the oracle.
        oracle: of the training set.
        held_out: real points that the training set does not hold, for the null, or None for no verdict.
        times: of switching, in [0, 1]; None for 0, 1, the paper's 0.1 and 0.2, and some around the oracle's own half
            and saturation. The model takes over at the first node from t_switch on.
        n: samples for each time.
        steps: Euler steps.
        space: of Frechet distance, precision and recall; None for the values themselves.
        seed: of noise and labels.
        batch: samples in a call.
        references: whether fields of known memory are measured beside the model; None for those that cost less.
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
    times = check_times(times, _usual_times(bench.stage_times, steps), 1.0)
    rungs, told = reference_fields(oracle, references, (model,))
    fields = {MODEL: model} | rungs | {ORACLE: oracle}
    sources = [source for source in find_sources(bench) if source.name == "held-out"]
    states = _oracle_states(bench, nodes, times)
    found: Completions = {}
    for name, field in fields.items():
        found[name] = []
        for t, state in zip(times, states, strict=True):
            found[name].append(_complete(field, t, state, nodes, sources, bench))
            if progress is not None:
                done = sum(map(len, found.values()))
                progress(done, len(fields) * len(times))
    return _finding(bench, found, sources, steps, told)


def _oracle_states(bench: SampleBench, nodes: np.ndarray, times: Sequence[float]) -> list[Tensor]:
    """The oracle's n states at the first node from each time on."""
    wanted = [int(np.searchsorted(nodes, t)) for t in times]
    rows = [None] * len(bench.noise) if bench.labels is None else list(bench.labels.split(bench.batch))
    parts = []
    for x0, y in zip(bench.noise.split(bench.batch), rows, strict=False):
        kept = {s.index: s.x for s in trajectory(bench.oracle, x0, nodes, y=y) if s.index in wanted}
        parts.append([kept[k] for k in wanted])
    return [torch.cat(states) for states in zip(*parts, strict=True)]


def _complete(
    field: VelocityField, t: float, state: Tensor, nodes: np.ndarray, sources: Sequence[Source], bench: SampleBench
) -> Mixed:
    """The samples of a field from the oracle's states on, and what it makes of noised held-out images."""
    left = nodes[np.searchsorted(nodes, t) :]
    x = sample(field, state, timesteps=left, y=bench.labels, batch=bench.batch) if len(left) > 1 else state
    ratios = bench.memorisation(x)
    restored = [restore(field, source, t, len(nodes) - 1, bench).restored for source in sources if t < 1]
    nfe = sum(evaluations(field, node) for node in left[:-1].tolist())
    copies = share_with_interval(ratios.ratio < MEMORISED_RATIO)
    return Mixed(t, x, ratios, copies, restored[0] if restored else None, nfe)


def _usual_times(ends: StageTimes, steps: int) -> list[float]:
    b, latest = ends.boundaries, expected_copies_from(ends.latest.saturation)
    after = b.saturation, expected_copies_from(b.saturation), halfway(latest)
    return sorted({0.0, 1.0, *PAPER_BOUNDARIES, *times_around(b, after, steps)})


def _finding(
    bench: SampleBench, found: Completions, sources: Sequence[Source], steps: int, told: Sequence[str]
) -> Finding:
    s, b, held_out, rules = bench.oracle.training_set, bench.boundaries, bench.held_out, criterion("switch")
    null = None if held_out is None else memorised(held_out.rows(slice(None)), bench.memorisation)
    mixed, what = found[MODEL], noun(s.shape)
    columns = _columns(bench, mixed, bench.memorisation(_alone(found)).indices)
    excess = _excess(found, bench, sources)
    standing = stand(excess) if excess else None
    judged = standing is not None and _has_learned(bench, columns)
    return Finding(
        study="switch",
        title="The oracle first, the model after",
        where="Fig. 5, 13, 14",
        claim=CLAIM,
        found=f"{_standing_in_words(standing, what)} {_in_words(mixed, columns, b, null, what)}",
        verdict=standing.verdict("agrees", "differs") if judged and standing is not None else "cannot be tested",
        why=rules.why.replace("image", what),
        tables={"switch": columns, "completed": _completed(found)}
        | ({} if standing is None else {TABLE: reference_table("excess", excess, standing)})
        | _null_table(null),
        panels=mark_stages(_panels(bench.feature_space.name, what, found, standing), b),
        galleries=_galleries(s, mixed) if is_image(s.shape) else (),
        notes=(*_notes(bench, columns, null, what), *bench.stage_times.notes(), *told),
        **_about(bench, found, steps),
    )


def _alone(found: Completions) -> Tensor:
    """(n, *shape) the oracle's own samples."""
    return found[ORACLE][0].x


def _excess(found: Completions, bench: SampleBench, sources: Sequence[Source]) -> dict[str, Statistic]:
    """For each field the copies among samples less the restored held-out images; empty if there is no time to test.

    A sample counts at times from the c of its class on, and so does a held-out image.
    """
    tested = [k for k, m in enumerate(found[MODEL]) if m.restored is not None]
    if not tested:
        return {}
    times = [found[MODEL][k].t_switch for k in tested]
    c, c_held_out = (_expected(bench.stage_times, y) for y in (bench.labels, sources[0].y))
    late = [np.broadcast_to(t >= c, bench.n) for t in times]
    late_held_out = [np.broadcast_to(t >= c_held_out, len(sources[0].images)) for t in times]
    if not (np.any(late) and np.any(late_held_out)):
        return {}
    measured: dict[str, Statistic] = {}
    for name, rows in found.items():
        copied = [(rows[k].ratios.ratio < MEMORISED_RATIO).cpu().numpy() for k in tested]
        restored = [r.cpu().numpy() for k in tested if (r := rows[k].restored) is not None]
        copies, others = mean_where(copied, late), mean_where(restored, late_held_out)
        measured[name] = statistic((1.0, copies), (-1.0, others))
    return measured


def _expected(ends: StageTimes, y: Tensor | None) -> np.ndarray:
    """c of each label (n,); () without labels."""
    return np.vectorize(expected_copies_from, otypes=[float])(ends.ends(y)[1])


def _standing_in_words(standing: Standing | None, what: str) -> str:
    if standing is None:
        return "Without held-out points at a time from c on, nothing tells memory from denoising."
    return standing.in_words(f"the excess of copies over restored held-out {what}s")


def _completed(found: Completions) -> dict[str, Any]:
    """For each field and time the shares of copies and of restored held-out images, with their intervals."""
    table: dict[str, Any] = {"t_switch": [m.t_switch for m in found[MODEL]]}
    for name, rows in found.items():
        none = (math.nan,) * 3
        shares = {
            "memorised": [m.copies for m in rows],
            "restored": [none if m.restored is None else share_with_interval(m.restored) for m in rows],
        }
        for what, values in shares.items():
            for end, column in zip(("", "_low", "_high"), zip(*values, strict=True), strict=True):
                table[f"{column_name(name)}_{what}{end}"] = list(column)
    return table


def _about(bench: SampleBench, found: Completions, steps: int) -> dict[str, Any]:
    """The training set, settings and provenance of the finding."""
    times, b = [m.t_switch for m in found[MODEL]], bench.boundaries
    expected = expected_copies_from(b.saturation)
    about = bench.about(times=times, steps=steps, **b._asdict(), expected=expected, ratio=MEMORISED_RATIO)
    held_out = 0 if bench.held_out is None else min(bench.n, len(bench.held_out))
    spent = sum(m.nfe * (bench.n + held_out) for rows in found.values() for m in rows)
    about["provenance"]["nfe"] = spent + bench.n * steps  # the oracle's own states
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
    chosen = s.draw(bench.n, np.random.default_rng((bench.seed, 5)))
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


def _has_learned(bench: SampleBench, columns: dict[str, np.ndarray]) -> bool:
    """Whether the model takes away the noise that is left late, and its own samples, if any, lie where images lie."""
    rules, t = criterion("switch"), columns["t_switch"]
    late = np.flatnonzero((t >= expected_copies_from(bench.stage_times.latest.saturation)) & (t < 1))
    left = [rules["max_energy_left"] / float(bench.oracle.path(float(t[k])).snr) for k in late]
    completes = bool((columns["to_retrieved"][late] ** 2 <= left).all())
    return completes and bool((columns["novelty"][t == 0] <= rules["max_novelty"]).all())


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


def _panels(space: str, what: str, found: Completions, standing: Standing | None) -> tuple[Panel, ...]:
    def line(label: str, column: str) -> Series:
        return Series.with_error(label, "switch", "t_switch", column)

    def by_field(column: str) -> tuple[Series, ...]:
        return tuple(
            Series.with_interval(name, "completed", "t_switch", f"{column_name(name)}_{column}") for name in found
        )

    distances = (line(f"nearest training {what}", "nearest"), line(f"the oracle's own {what}", "to_retrieved"))
    agreement = (line("precision", "precision"), line("recall", "recall"))
    restored = Panel(f"Held-out {what}s restored", "t_switch", "share", by_field("restored"), low=0, high=1)
    excess = reference_panel(f"Copies less restored {what}s", "excess, a share", "excess")
    return (
        Panel(f"Copies of training {what}s", "t_switch", "share of samples", by_field("memorised"), low=0, high=1),
        *((restored, excess) if standing is not None else ()),
        Panel(f"Distance to training {what}s", "t_switch", "rms over coordinates", distances, low=0),
        Panel(f"Precision and recall ({space})", "t_switch", "share", agreement, low=0, high=1),
        Panel("Quality", "t_switch", f"FD ({space})", (line("FD", "fd"),), low=0),
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

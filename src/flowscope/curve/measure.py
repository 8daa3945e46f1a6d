"""The measurement behind the two-stage curve: one law's posterior statistics at all nodes, in one pass."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from flowscope.core.schema import ArrayForm
from flowscope.curve.check import deviation
from flowscope.curve.checkpoint import ResumeState
from flowscope.curve.crossing import RESAMPLES, crossing, resample
from flowscope.curve.intervals import LEAST_PROBES, shape_of
from flowscope.curve.path_pass import PathSums, add_blocks, join_sums
from flowscope.curve.probes import draw_probes, stream_of
from flowscope.curve.spread import end_nodes
from flowscope.curve.tilted import TiltedPolicy, tilt
from flowscope.errors import NumericalError
from flowscope.oracle.distributed.process_group import Ranks
from flowscope.oracle.law import ClassLaw, Law
from flowscope.oracle.plan import plan
from flowscope.paths import Path

LEVELS = (0.5, 0.99)  # of the mean top-1 weight: dominated by the nearest sample, and settled on it
QUANTITIES = ("total_variance", "top1", "margin", "entropy", "effective_size")
TRACE, TOP1, ENTROPY = (QUANTITIES.index(name) for name in ("total_variance", "top1", "entropy"))


@dataclass(frozen=True)
class GridPolicy:
    """How the internal grid is laid out.

    Attributes:
        spacing: of neighbours in log snr, at most; the integrand is about one wide.
        closest: spacing of neighbours in log snr, at least.
        lowest: the first snr, times the total variance, on a path with snr(0) = 0: before anything happens.
        highest: the last snr, times the total variance: behind anything that happens.
    """

    spacing: float = 0.25
    closest: float = 0.03
    lowest: float = 0.03
    highest: float = 1e17


class Nodes(NamedTuple):
    """Where the posterior is evaluated.

    Attributes:
        r: (R,) alpha/sigma, ascending; the first is 0, where the posterior is known.
        asked: (T,) which of them are the timesteps asked for.
        grid: (G,) which of them are the internal grid, ascending.
    """

    r: np.ndarray
    asked: np.ndarray
    grid: np.ndarray

    @property
    def full(self) -> np.ndarray:
        """(R,) where all QUANTITIES are wanted: of the rest of the grid, total variance and top-1 weight alone are."""
        wanted = np.zeros(len(self.r), bool)
        wanted[self.asked] = wanted[self.grid[0]] = True
        return wanted

    @property
    def snr(self) -> np.ndarray:
        """(R,) (alpha/sigma)^2."""
        return self.r**2


class Part(NamedTuple):
    """What is kept of one law, all points or a class.

    Attributes:
        means: (Q, R) over probes, of QUANTITIES; NaN where they are not taken.
        errors: (Q, R) their standard errors.
        crossings: (2, 3) of LEVELS: t, low, high.
        integrals: (2, 2) information integral and loss floor, each with its standard error.
        skewness: (2, R) of the means of the total variance and of 1 less the top-1 weight.
        events: (2, R) that carry them.
        deviation: (1,) the largest error of a partition sum that is known by other means, as a share.
    """

    means: np.ndarray
    errors: np.ndarray
    crossings: np.ndarray
    integrals: np.ndarray
    skewness: np.ndarray
    events: np.ndarray
    deviation: np.ndarray


@dataclass(frozen=True)
class Measurement:
    """What is measured of every law.

    Attributes:
        path: whose times are told.
        nodes: where the posterior is evaluated.
        probes: how many are followed of a law.
        seed: of the probes.
        memory: the budget in bytes.
        library: of float32 products, by name; None for the one that suits the machine.
        state: holds, and is given, what is done so far of a law under "current".
        ranks: each passes over points of its own, and all find the same.
        tilted: which laws get tilted probes for the gap.
    """

    path: Path
    nodes: Nodes
    probes: int
    seed: int
    memory: int
    library: str | None = None
    state: ResumeState | None = None
    ranks: Ranks | None = None
    tilted: TiltedPolicy = TiltedPolicy()

    def points(self, law: Law) -> range:
        """Which points of a law this process passes over."""
        return range(len(law)) if self.ranks is None else self.ranks.own_range(len(law))

    def work(self, law: Law) -> int:
        """How many (batch of probes, point) this process passes over."""
        batches = math.ceil(self.probes / plan(self.memory, self.probes, len(law), law.support.dimension).queries)
        return batches * len(self.points(law))

    def saved(self, group: str) -> dict[str, np.ndarray]:
        """What an interrupted run has kept of a group; empty for nothing."""
        return dict((None if self.state is None else self.state.get(group)) or {})

    def keep(self, group: str, arrays: dict[str, np.ndarray]) -> None:
        """Keep a group, so that an interrupted run can go on."""
        if self.state is not None:
            self.state.keep(group, arrays)


def check_saved(state: ResumeState, laws: Sequence[ClassLaw], what: Measurement) -> None:
    """Refuse what an interrupted run has kept, where it is not what a run of this measurement keeps.

    Raises:
        ResumeError: an array is missing or unknown, or has another dtype, shape or range.
    """
    n, q, finished, current = len(what.nodes.r), len(QUANTITIES), state.get("finished"), state.get("current")
    means = np.array(0.0) if finished is None else finished.get("means", np.array(0.0))
    done = len(means) if means.ndim else 0
    if finished is not None:
        sides: dict[str, tuple[int, ...]] = {
            "means": (q, n),
            "errors": (q, n),
            "crossings": (len(LEVELS), 3),
            "integrals": (2, 2),
        }
        sides |= {"skewness": (2, n), "events": (2, n), "deviation": (1,)}
        forms = {name: ArrayForm("f", (min(done, len(laws)), *shape)) for name, shape in sides.items()}
        state.check("finished", forms | {"resampled": ArrayForm("f", (RESAMPLES, n))})
    if current is not None:
        state.check("current", _current_forms(laws[min(done, len(laws) - 1)].law, current, what))


def _current_forms(law: Law, current: dict[str, np.ndarray], what: Measurement) -> dict[str, ArrayForm]:
    """The forms of what is kept of a law that is not finished: of probes before, and of those being followed."""
    n, q, own = len(what.nodes.r), len(QUANTITIES), what.points(law)
    forms, probe = {"probe": ArrayForm("iu", (), 0, what.probes)}, current.get("probe")
    before = int(probe) if probe is not None and probe.ndim == 0 and probe.dtype.kind in "iu" else 0
    if before:
        forms["values"] = ArrayForm("f", (q + 1, before, n))
    if "sums" in current or "at" in current:
        queries = plan(what.memory, what.probes, len(law), law.support.dimension).queries
        forms["sums"] = ArrayForm("f", (len(PathSums._fields), min(queries, what.probes - before), n))
        forms["at"] = ArrayForm("iu", (), own.start, own.stop)
    return forms


def place_nodes(
    path: Path, t: np.ndarray, total_variance: float, entropy: float, policy: GridPolicy = GridPolicy()
) -> Nodes:
    """The timesteps asked for and an internal grid, which fills the gaps between them, together and in order.

    Where snr V < H / 2, with V the total variance and H the entropy, x_t tells at most a quarter of what tells the
    points apart (I <= snr V / 2): nothing collapses there, and the grid may be twice as wide.

    Args:
        path: of the timesteps.
        t: (T,) the timesteps.
        total_variance: V of all points.
        entropy: H, the least of a law, in nats.
        policy: how the internal grid is laid out.
    """
    coefficients = path(torch.as_tensor(t))
    r = (coefficients.alpha / coefficients.sigma).numpy()
    start, unit = float(path(0.0).snr), total_variance or 1.0
    low, calm, high = np.sqrt([start or policy.lowest / unit, max(entropy, 1e-9) / 2 / unit, policy.highest / unit])
    marks = np.append(r, calm)
    grid = _fill(np.unique([low, *marks[(marks > low) & (marks < high)], high]), 2 * math.log(calm), policy)
    both, where = np.unique(np.concatenate([[0.0], r, grid, end_nodes(path)]), return_inverse=True)
    return Nodes(both, where[1 : len(r) + 1], where[len(r) + 1 : len(r) + len(grid) + 1])


def _fill(marks: np.ndarray, calm: float, policy: GridPolicy) -> np.ndarray:
    """Ascending r of which no two neighbours are further apart than the spacing (twice that below `calm`)."""
    x, kept = 2 * np.log(marks), [0]
    for k in range(1, len(marks) - 1):
        if min(x[k] - x[kept[-1]], x[-1] - x[k]) >= policy.closest:
            kept.append(k)
    grid = []
    for a, b in itertools.pairwise([*kept, len(marks) - 1]):
        widest = 2 * policy.spacing if x[b] <= calm + 1e-9 else policy.spacing
        inner = np.linspace(x[a], x[b], math.ceil((x[b] - x[a]) / widest - 1e-9) + 1)[1:-1]
        grid += [marks[a], *np.exp(inner / 2)]
    return np.array([*grid, marks[-1]])


def measure(what: Measurement, c: ClassLaw, report: Callable[[int], None]) -> tuple[Part, np.ndarray]:
    """Follow probes of a law through all its points.

    Args:
        what: is measured.
        c: the law, with its label.
        report: called after every block with the share of `what.work` that is done.

    Returns:
        The part, and (RESAMPLES, R) bootstrap means of its top-1 weight.
    """
    at_once = plan(what.memory, what.probes, len(c.law), c.law.support.dimension).queries
    saved = what.saved("current")
    done = [saved["values"]] if "values" in saved else []
    for low in range(int(saved.get("probe", 0)), what.probes, at_once):
        done.append(_follow(what, c, range(low, min(low + at_once, what.probes)), saved, done, report))
        saved = {}
    if what.state is not None:
        what.state.drop("current")
    part, resampled = summarise_probes(np.concatenate(done, axis=1), what, c)
    if what.probes >= LEAST_PROBES and what.tilted.suits(c.law):
        _take_tilted(part, what, c)
    return part, resampled


def _follow(
    what: Measurement,
    c: ClassLaw,
    which: range,
    saved: dict[str, np.ndarray],
    done: list[np.ndarray],
    report: Callable[[int], None],
) -> np.ndarray:
    """(Q + 1, n, R) QUANTITIES and errors for one batch of probes, from the sums over all points.

    Args:
        what: is measured.
        c: the law, with its label.
        which: the numbers of the probes.
        saved: what an interrupted run has kept of this batch.
        done: (Q + 1, n, R) values of the batches before, kept beside it.
        report: called after every block.
    """
    law, nodes, own = c.law, what.nodes, what.points(c.law)
    sizes = plan(what.memory, what.probes, len(law), law.support.dimension)
    r = torch.as_tensor(nodes.r, device=law.support.device)
    sums, start = PathSums.of_source(len(which), len(r), r.device), own.start
    if "sums" in saved:
        sums, start = PathSums(*torch.as_tensor(saved["sums"], device=r.device)), int(saved["at"])
    before = which.start // sizes.queries * len(own) - own.start
    drawn = draw_probes(law, which, what.seed, c.label)
    full, first = nodes.full.tolist(), which.start == 0
    for at in add_blocks(sums, law, drawn, r, sizes, start, what.library, own.stop, full, first):
        if what.ranks is not None:
            what.ranks.beat()
        report(before + at)
        if what.state is not None:
            what.state.keep("current", _current(which.start, at, sums, done))
    if what.ranks is not None:
        sums = PathSums(*what.ranks.join(sums, lambda a, b: join_sums(PathSums(*a), PathSums(*b)), len(law)))
    return _values(sums, nodes.full, 1 / law.probabilities[drawn.source.cpu().numpy()])


def _current(probe: int, at: int, sums: PathSums, done: list[np.ndarray]) -> dict[str, np.ndarray]:
    """What an interrupted run needs of a law."""
    held = {"probe": np.array(probe), "at": np.array(at), "sums": torch.stack(list(sums)).cpu().numpy()}
    return held | ({"values": np.concatenate(done, axis=1)} if done else {})


def _values(sums: PathSums, full: np.ndarray, start: np.ndarray) -> np.ndarray:
    """(Q + 1, n, R) of QUANTITIES, of which all but total variance and top-1 weight are NaN where not `full`.

    The last is the error of the partition sums, which are `start` at r = 0; the same at all nodes.

    Raises:
        NumericalError: a sum is not finite.
    """
    first, second = sums.first / sums.mass, sums.second / sums.mass
    values = torch.stack([sums.trace, first, first - second, sums.entropy, sums.effective_size]).cpu().numpy()
    if not np.isfinite(values).all():
        raise NumericalError(
            "the posterior's sums left the range of float64; expected points and weights that span fewer decades"
        )
    for k in set(range(len(QUANTITIES))) - {TRACE, TOP1}:
        values[k][:, ~full] = math.nan
    errors = deviation(sums.mass.cpu().numpy(), sums.known.cpu().numpy(), start)
    return np.concatenate([values, np.broadcast_to(errors[:, None], values.shape[1:])[None]])


def crossings(path: Path, nodes: Nodes, top1: np.ndarray, resampled: np.ndarray) -> np.ndarray:
    """(2, 3) where the mean top-1 weight reaches LEVELS, located on all nodes with a finite log snr.

    Args:
        path: on which the times are told.
        nodes: R of them.
        top1: (R,).
        resampled: (RESAMPLES, R).
    """
    inside = nodes.r > 0
    log_snr = np.log(nodes.snr[inside])
    return np.array([crossing(path, log_snr, top1[inside], resampled[:, inside], level) for level in LEVELS])


def summarise_probes(values: np.ndarray, what: Measurement, c: ClassLaw) -> tuple[Part, np.ndarray]:
    """The part of (Q + 1, n, R) values, and (RESAMPLES, R) bootstrap means of its top-1 weight."""
    rng = np.random.default_rng((what.seed, stream_of(c.label), 2**63))  # no probe has this number
    trace, top1 = values[TRACE], values[TOP1]
    information = _information_integral(trace, what.path, what.nodes)
    floor = _time_integral(trace, what.path, what.nodes) / c.law.support.dimension
    means, errors = _mean_and_error(values[:-1].swapaxes(0, 1))
    resampled = resample(top1, rng)
    integrals = np.array([_mean_and_error(information), _mean_and_error(floor)])
    found = crossings(what.path, what.nodes, means[TOP1], resampled)
    skewness, events = np.stack([shape_of(trace), shape_of(1 - top1)], 1)
    if len(c.law) == 1:
        events[:] = math.inf  # all is known of one point
    return Part(means, errors, found, integrals, skewness, events, values[-1, :, 0].max(keepdims=True)), resampled


def _take_tilted(part: Part, what: Measurement, c: ClassLaw) -> None:
    """Take the trace from tilted probes at the timesteps where plain ones miss what carries it, in place."""
    asked = np.unique(what.nodes.asked)
    found = tilt(c, what.nodes.r[asked], what.probes, what.seed, what.tilted)
    part.events[1, asked] = found.deficit.events
    missed = found.plain.events < what.tilted.trusted
    for values, new in zip(
        (part.means[TRACE], part.errors[TRACE], part.skewness[0], part.events[0]),
        (found.mean, found.error, *found.shape),
        strict=True,
    ):
        values[asked[missed]] = new[missed]


def _information_integral(trace: np.ndarray, path: Path, nodes: Nodes) -> np.ndarray:
    """(n,) the information of each probe: 1/2 the integral of mmse by snr (Guo, Shamai and Verdu 2005)."""
    from scipy.interpolate import CubicSpline

    grid = nodes.snr[nodes.grid]
    integrand = 0.5 * grid * trace[:, nodes.grid]
    below = integrand[:, 0] if float(path(0.0).snr) == 0 else 0.0  # under the grid mmse is the total variance
    log_snr = np.log(grid)
    return np.asarray(CubicSpline(log_snr, integrand, axis=1).integrate(log_snr[0], log_snr[-1]) + below)


def _time_integral(trace: np.ndarray, path: Path, nodes: Nodes) -> np.ndarray:
    """(n,) the integral over t in [0, 1) of A^2 tr Cov, for each probe; nodes beyond the path's end are left out."""
    t = path.time_of_snr(torch.as_tensor(nodes.snr))
    inside = ((t >= 0) & (t < 1)).numpy()
    c = path(t[torch.as_tensor(inside)])
    rate = (c.A**2).numpy() * trace[:, inside]
    start = c.t.numpy()[0] * rate[:, 0]  # from t = 0 to the first node, where the rate hardly changes
    return np.asarray(np.trapezoid(rate, c.t.numpy(), axis=1) + start)


def _mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the first axis and its standard error, NaN for one probe."""
    n = len(values)
    error = values.std(0, ddof=1) / math.sqrt(n) if n > 1 else np.full(values.shape[1:], math.nan)
    return values.mean(0), error

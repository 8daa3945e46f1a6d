"""The measurement behind the two-stage curve: one law's posterior statistics at all nodes, in one pass."""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from flowscope.curve.checkpoint import ResumeState
from flowscope.curve.crossing import crossing, resample
from flowscope.curve.path_pass import PathSums, add_blocks, join_sums
from flowscope.curve.probes import draw
from flowscope.errors import NumericalError
from flowscope.oracle.distributed.process_group import Ranks
from flowscope.oracle.law import Law
from flowscope.oracle.plan import plan
from flowscope.paths import Path

SPACING, CLOSEST = 0.25, 0.03  # of the internal grid, in log snr: the integrand is about one wide
LOWEST, HIGHEST = 0.03, 1e17  # of the internal grid, times the total variance: before and behind anything that happens

LEVELS = (0.5, 0.99)  # of the mean top-1 weight: dominated by the nearest sample, and settled on it
QUANTITIES = ("total_variance", "top1", "margin", "entropy", "effective_size")
TRACE, TOP1, ENTROPY = (QUANTITIES.index(name) for name in ("total_variance", "top1", "entropy"))


class Nodes(NamedTuple):
    """Where the posterior is evaluated."""

    r: np.ndarray  # (R,) alpha/sigma, ascending
    asked: np.ndarray  # (T,) which of them are the timesteps asked for
    grid: np.ndarray  # (G,) which of them are the internal grid, ascending

    @property
    def whole(self) -> np.ndarray:
        """(R,) where all QUANTITIES are wanted: of the rest of the grid, total variance and top-1 weight alone are."""
        wanted = np.zeros(len(self.r), bool)
        wanted[self.asked] = wanted[self.grid[0]] = True
        return wanted

    @property
    def snr(self) -> np.ndarray:
        return self.r**2


class Part(NamedTuple):
    """What is kept of one law, all points or a class."""

    means: np.ndarray  # (Q, R) over probes, of QUANTITIES; NaN where they are not taken
    errors: np.ndarray  # (Q, R) their standard errors
    crossings: np.ndarray  # (2, 3) half and saturation: t, low, high
    integrals: np.ndarray  # (2, 2) information integral and loss floor, each with its standard error


def make_nodes(path: Path, t: np.ndarray, total_variance: float, entropy: float) -> Nodes:
    """The timesteps asked for and an internal grid, which fills the gaps between them, together and in order.

    Where snr V < H / 2, with V the total variance and H the least entropy of a law in nats, x_t tells at most a quarter
    of what tells the points apart (I <= snr V / 2): nothing collapses there, and the grid may be twice as wide.
    """
    coefficients = path(torch.as_tensor(t))
    r = (coefficients.alpha / coefficients.sigma).numpy()
    start, unit = float(path(0.0).snr), total_variance or 1.0
    low, calm, high = np.sqrt([start or LOWEST / unit, max(entropy, 1e-9) / 2 / unit, HIGHEST / unit])
    marks = np.append(r, calm)
    grid = _fill(np.unique([low, *marks[(marks > low) & (marks < high)], high]), 2 * math.log(calm))
    both, where = np.unique(np.concatenate([r, grid]), return_inverse=True)
    return Nodes(both, where[: len(r)], where[len(r) :])


def _fill(marks: np.ndarray, calm: float) -> np.ndarray:
    """Ascending r of which no two neighbours are further apart than SPACING in log snr (twice that below `calm`)."""
    x, kept = 2 * np.log(marks), [0]
    for k in range(1, len(marks) - 1):
        if min(x[k] - x[kept[-1]], x[-1] - x[k]) >= CLOSEST:
            kept.append(k)
    grid = []
    for a, b in itertools.pairwise([*kept, len(marks) - 1]):
        widest = 2 * SPACING if x[b] <= calm + 1e-9 else SPACING
        inner = np.linspace(x[a], x[b], math.ceil((x[b] - x[a]) / widest - 1e-9) + 1)[1:-1]
        grid += [marks[a], *np.exp(inner / 2)]
    return np.array([*grid, marks[-1]])


def measure(
    law: Law,
    path: Path,
    nodes: Nodes,
    probes: int,
    seed: int,
    label: int | None,
    memory: int,
    report: Callable[[int], None],
    state: ResumeState | None,
    library: str | None = None,
    ranks: Ranks | None = None,
) -> tuple[Part, np.ndarray]:
    """Follow `probes` probes of a law through all its points.

    Returns:
        The part, and (RESAMPLES, R) bootstrap means of its top-1 weight.

    Args:
        report: called after every block with the number of (batch of probes, points) done so far; of the points, it
            counts those of this rank.
        state: holds, and is given, what is done so far under "current".
        library: of float32 products, by name; None for the one that suits the machine.
        ranks: each passes over points of its own, and all return the same.
    """
    sizes = plan(memory, probes, len(law), law.support.dimension)
    r = torch.as_tensor(nodes.r, device=law.support.device)
    saved = (state.get("current") if state is not None else None) or {}
    done = [saved["values"]] if "values" in saved else []
    first = int(saved.get("probe", 0))
    own = own_points(law, ranks)
    for low in range(first, probes, sizes.queries):
        which = range(low, min(low + sizes.queries, probes))
        sums, start = PathSums.of_source(len(which), len(nodes.r), r.device), own.start
        if low == first and "sums" in saved:
            sums = PathSums(*(torch.as_tensor(v, device=r.device) for v in saved["sums"]))
            start = int(saved["at"])
        drawn = draw(law, which, seed, label)
        for at in add_blocks(sums, law, drawn, r, sizes, start, library, own.stop, nodes.whole.tolist()):
            if ranks is not None:
                ranks.beat()
            report(low // sizes.queries * len(own) + at - own.start)
            if state is not None:
                state.keep("current", _current(low, at, sums, done))
        if ranks is not None:
            sums = PathSums(*ranks.join(sums, lambda a, b: join_sums(PathSums(*a), PathSums(*b)), len(law)))
        done.append(_values(sums, nodes.whole))
    if state is not None:
        state.drop("current")
    return _summarise(np.concatenate(done, axis=1), path, nodes, law.support.dimension, seed, label)


def own_points(law: Law, ranks: Ranks | None) -> range:
    """Which points of a law this process passes over."""
    return range(len(law)) if ranks is None else ranks.own_range(len(law))


def batches(law: Law, probes: int, memory: int) -> int:
    """How often the points of a law are passed over for this many probes."""
    return math.ceil(probes / plan(memory, probes, len(law), law.support.dimension).queries)


def _current(probe: int, at: int, sums: PathSums, done: list[np.ndarray]) -> dict[str, np.ndarray]:
    held = {"probe": np.array(probe), "at": np.array(at), "sums": torch.stack(list(sums)).cpu().numpy()}
    return held | ({"values": np.concatenate(done, axis=1)} if done else {})


def _values(sums: PathSums, whole: np.ndarray) -> np.ndarray:
    """(Q, n, R) of QUANTITIES, of which all but total variance and top-1 weight are NaN where not `whole`.

    Raises:
        NumericalError: a sum is not finite.
    """
    first, second = sums.first / sums.mass, sums.second / sums.mass
    values = torch.stack([sums.trace, first, first - second, sums.entropy, sums.effective_size]).cpu().numpy()
    if not np.isfinite(values).all():
        raise NumericalError(
            "the posterior's sums left the range of float64: the points or their weights span too many decades"
        )
    for k in set(range(len(QUANTITIES))) - {TRACE, TOP1}:
        values[k][:, ~whole] = math.nan
    return values


def cross(path: Path, nodes: Nodes, top1: np.ndarray, resampled: np.ndarray) -> np.ndarray:
    """(2, 3) where the mean top-1 weight reaches a half and 0.99, located on all nodes with a finite log snr.

    Args:
        top1: (R,). resampled: (RESAMPLES, R).
    """
    inside = nodes.r > 0
    log_snr = np.log(nodes.snr[inside])
    return np.array([crossing(path, log_snr, top1[inside], resampled[:, inside], level) for level in LEVELS])


def _summarise(
    values: np.ndarray, path: Path, nodes: Nodes, dimension: int, seed: int, label: int | None
) -> tuple[Part, np.ndarray]:
    rng = np.random.default_rng((seed, 0 if label is None else 1 + label % 2**64, 2**63))  # no probe has this number
    from scipy.interpolate import CubicSpline

    trace, top1 = values[TRACE], values[TOP1]
    grid = nodes.snr[nodes.grid]
    # I-MMSE (Guo, Shamai and Verdu 2005): the information is 1/2 the integral of mmse by snr
    integrand = 0.5 * grid * trace[:, nodes.grid]
    below = integrand[:, 0] if float(path(0.0).snr) == 0 else 0.0  # under the grid mmse is the total variance
    log_snr = np.log(grid)
    information = CubicSpline(log_snr, integrand, axis=1).integrate(log_snr[0], log_snr[-1]) + below
    floor = _time_integral(trace, path, nodes) / dimension
    scalars = np.array([_mean_and_error(information), _mean_and_error(floor)])
    means, errors = _mean_and_error(values.swapaxes(0, 1))
    resampled = resample(top1, rng)
    return Part(means, errors, cross(path, nodes, means[TOP1], resampled), scalars), resampled


def _time_integral(trace: np.ndarray, path: Path, nodes: Nodes) -> np.ndarray:
    """Integral over t in [0, 1) of A^2 tr Cov, for each probe; nodes beyond the path's end are left out."""
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

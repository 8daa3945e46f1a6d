"""Notes of a stage curve: plain sentences on whatever is undefined, approximate or not to be trusted."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from flowscope.curve.check import CheckPolicy
from flowscope.curve.crossing import Crossing
from flowscope.curve.intervals import LEAST_EVENTS, LEAST_PROBES
from flowscope.curve.measure import LEVELS, TRACE, Nodes, Part
from flowscope.curve.prediction import PredictedLaw
from flowscope.curve.result import Information
from flowscope.paths import Path

LARGEST_TAIL = 1e-6  # of the entropy: what the integrand may be at the end of the grid without a note
EQUAL_WEIGHTS_NATS = 1e-6  # that the entropy of equal weights may be below log N by
LISTED_TIMES = 12  # in a note, one by one; more are told as stretches


class Doubts(NamedTuple):
    """Where 95 % intervals cannot be trusted: too few probes carry them.

    Attributes:
        gap: (T,) at which timesteps that of the gap.
        top1: (T,) at which that of the top-1 weight.
        crossings: of half and of saturation.
    """

    gap: np.ndarray
    top1: np.ndarray
    crossings: tuple[bool, bool]

    def to_dict(self, t: np.ndarray) -> dict[str, Any]:
        """The times by name, and the names of crossings."""
        named = [name for name, doubt in zip(("half", "saturation"), self.crossings, strict=True) if doubt]
        return {"gap": t[self.gap].tolist(), "top1": t[self.top1].tolist(), "crossings": named}


def find_doubts(path: Path, nodes: Nodes, whole: Part, crossings: Sequence[Crossing], probes: int) -> Doubts:
    """Where the intervals of a curve cannot be trusted; with one probe there are none."""
    poor = (whole.events < LEAST_EVENTS) & (probes > 1)
    gap, top1 = poor[:, nodes.asked]
    times = path.time_of_snr(torch.as_tensor(nodes.snr)).numpy()
    half, saturation = (_doubtful(times, poor[1], crossing) for crossing in crossings)
    return Doubts(gap, top1, (half, saturation))


def _doubtful(times: np.ndarray, poor: np.ndarray, crossing: Crossing) -> bool:
    """Whether a node within the interval of a crossing, or next to it, is a poor one."""
    if math.isnan(crossing.t + crossing.low + crossing.high):
        return False
    inside = (times >= crossing.low) & (times <= crossing.high)
    inside[np.abs(times - crossing.t).argmin()] = True
    return bool(poor[inside].any())


def doubt_notes(doubts: Doubts, t: np.ndarray, crossings: Sequence[Crossing]) -> Iterator[str]:
    """Which intervals cannot be trusted, by the names of the curve's fields, and at which times."""
    why = "cannot be trusted at t = {}: too few probes carry it."
    if doubts.gap.any():
        yield "gap: its 95 % interval " + why.format(list_times(t, doubts.gap))
    if doubts.top1.any():
        others = " The same holds for margin, entropy and effective size."
        yield "top1: its 95 % interval " + why.format(list_times(t, doubts.top1)) + others
    for name, crossing, doubt in zip(("half", "saturation"), crossings, doubts.crossings, strict=True):
        if doubt:
            yield f"{name}: its 95 % interval " + why.format(f"{crossing.t:.6g}")


def list_times(t: np.ndarray, chosen: np.ndarray) -> str:
    """Some of the times (T,): all of a few, stretches of many."""
    if chosen.sum() <= LISTED_TIMES:
        return ", ".join(f"{value:.10g}" for value in t[chosen])
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(int), [0]])))
    ends = [(t[a], t[b - 1]) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return ", ".join(f"{a:.10g}" if a == b else f"{a:.10g} to {b:.10g}" for a, b in ends)


def crossing_notes(top1: np.ndarray, found: Sequence[Crossing]) -> Iterator[str]:
    """Why a crossing is undefined."""
    for name, level, crossing in zip(("half", "saturation"), LEVELS, found, strict=True):
        if math.isnan(crossing.t):
            reached = (
                f"is {level} or more from t = 0 on" if top1[0] >= level else f"does not reach {level} on this path"
            )
            yield f"{name} is undefined: the mean top-1 weight {reached}."


def prediction_notes(predicted: float, laws: Sequence[PredictedLaw], points: Sequence[int]) -> Iterator[str]:
    """What the predicted boundaries are made of."""
    if math.isnan(predicted):
        yield "No boundary is predicted: there are too few distinct points, or it lies outside this path."
        return
    clustered, plain = laws[0].spectra
    of = " of the first class" if len(laws) > 1 else ""
    parts = f", whole and in {len(clustered.weights)} clusters" if len(clustered.weights) > 1 else ""
    yield f"The predicted boundaries use the {plain.note}{of}{parts}."
    if any(c.entropy < math.log(n) - EQUAL_WEIGHTS_NATS for c, n in zip(laws, points, strict=True)):
        yield "Weights differ: predictions count the points as exp of the entropy of their weights."


def probes_note(probes: int) -> Iterator[str]:
    """What so few probes cannot say."""
    if probes == 1:
        yield "One probe has no standard error: errors and intervals are NaN; ask for more probes."
    elif probes < LEAST_PROBES:
        yield f"Under {LEAST_PROBES} probes the 95 % intervals are too narrow: ask for more."


def check_notes(whole: Part, nodes: Nodes, information: Information) -> Iterator[str]:
    """Why the self-check fails, where it does."""
    last = nodes.grid[-1]
    left = 0.5 * nodes.snr[last] * whole.means[TRACE, last]
    if information.integral >= 0 and left > LARGEST_TAIL * max(1.0, information.log_n):
        yield "The nearest points lie too close to be told apart on the internal grid: the self-check falls short."
    if not (whole.deviation[0] <= CheckPolicy().limit or math.isnan(information.integral)):
        yield (
            f"The self-check fails: a partition sum is off by {whole.deviation[0]:.2g} of itself. Points were lost, or "
            "weights or logits are wrong: do not trust these numbers."
        )
    if information.agrees is False:
        yield (
            f"The self-check fails: the information integral is {information.integral:.4g} nats, the entropy of the "
            f"weights {information.log_n:.4g}. Too few probes, or too many scales at once: do not trust these numbers."
        )

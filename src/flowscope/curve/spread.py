r"""What a curve has besides the points' where data are drawn from Gaussians about them (docs/mathematics.md, (14)).

The posterior is that of points on the widened path (14a). Of gap and loss floor it misses what no posterior of points
knows, the spread of the data about their own point:

    gap = A~^2 V / D + W^2 s^2 / (sigma^2 + alpha^2 s^2),    W = alpha' sigma - alpha sigma'              (14h)

with A~ of the widened path and V the total variance of the posterior (of y in (14f), where deviations differ).
"""

import math
from collections.abc import Iterator

import numpy as np
import torch

from flowscope.oracle import Oracle
from flowscope.paths import Path, WidenedPath

NEAR_END = 1e-8, 1e-12  # before t = 1, between which a rate that has no integral grows as the inverse of what is left
DIVERGES = 0.999  # of that growth
END_SNR = 1e4  # times 1/s^2: behind it the widened path hardly moves
END_SPACING = 0.25  # of log snr, of the nodes towards the end of the widened path


def spread_rate(oracle: Oracle, t: np.ndarray) -> np.ndarray:
    """(T,) the second term of (14h), by coordinate; 0 for points."""
    law_path = oracle.law_path
    if not isinstance(law_path, WidenedPath):
        return np.zeros(len(t))
    c, wide = oracle.path(torch.as_tensor(t)), law_path(torch.as_tensor(t))
    turn = c.d_alpha * c.sigma - c.alpha * c.d_sigma
    return ((turn * wide.deviation / wide.sigma) ** 2).numpy()


def spread_floor(oracle: Oracle) -> float:
    """The integral of the second term of (14h) over t in [0, 1); infinite where it has none, as on VP."""
    if not isinstance(oracle.law_path, WidenedPath):
        return 0.0
    before, last = spread_rate(oracle, 1 - np.array(NEAR_END))
    if before > 0 and math.log(last / before) > DIVERGES * math.log(NEAR_END[0] / NEAR_END[1]):
        return math.inf
    from scipy.integrate import quad

    s = oracle.law_path.deviation
    found = quad(lambda t: float(spread_rate(oracle, np.array([t]))[0]), 0, 1, limit=200, points=[1 / (1 + s)])
    return float(found[0])


def end_nodes(path: Path) -> np.ndarray:
    """Further r = alpha/sigma of nodes towards the end of a widened path, which its own log snr is too short for."""
    if not isinstance(path, WidenedPath):
        return np.empty(0)
    middle = -2 * math.log(path.deviation)
    reach = math.log(END_SNR)
    times = path.time(torch.arange(middle - reach / 2, middle + reach, END_SPACING, dtype=torch.float64).exp())
    c = path(times[(times >= 0) & (times < 1)])
    return (c.alpha / c.sigma).numpy()


def law_notes(oracle: Oracle, crossed: bool) -> Iterator[str]:
    """Which form was taken for a law that is not of points alone, and what the curve means there.

    Args:
        oracle: of the law.
        crossed: whether the mean top-1 weight reaches both levels on the path.
    """
    s, law_path = oracle.training_set, oracle.law_path
    if s.augmentations:
        yield f"Augmentations are points of the law: {', '.join(s.augmentations)}, made of {len(s):,} images."
    if not isinstance(law_path, WidenedPath):
        return
    if oracle.support.own_deviations:
        yield (
            "Data are drawn from Gaussians whose deviations differ: the curve is a mean over probes of the posterior "
            "at each timestep, in the direct form. Nothing is predicted, and no self-check is made."
        )
    else:
        yield (
            f"Data are drawn from Gaussians of one deviation, {s.deviations:.6g}: the curve is that of their means on "
            "the path (alpha, sqrt(sigma^2 + alpha^2 s^2)), in one pass. The information self-check goes on behind the "
            "end of that path, to where the means are told apart."
        )
    last = float(spread_rate(oracle, np.array([math.nextafter(1.0, 0.0)]))[0])
    ends = f"is {last:.3g} a coordinate at t = 1" if last < 1e6 else "grows without end towards t = 1"
    yield (
        "Weights are those of the Gaussians that data are drawn from. Beside the gap of their means, which falls, "
        f"there is that of a datum's own spread, which noise cannot be told from: it {ends}."
    )
    if not crossed:
        end = law_path.deviation**-2
        yield f"The snr of the means ends at 1/s^2 = {end:.3g} on this law, so that a boundary need not exist."
    if math.isinf(spread_floor(oracle)):
        yield f"On the path {oracle.path.name} the loss has no finite floor: sigma' has no limit at t = 1."

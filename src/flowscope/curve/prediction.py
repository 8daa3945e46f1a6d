r"""The predicted boundary and top-1 curve, without any oracle evaluation.

One signal among N. Let N orthogonal signals of energy P be equally likely. The logits of the posterior are
P + sqrt(P) g_1 for the signal sent and sqrt(P) g_i for the other N - 1, up to a constant. The heaviest is the one sent
with a probability that equals its mean weight, since weights are the posterior's. So

    E max softmax = E Phi(g + sqrt(P))^(N-1),    g ~ N(0, 1),                                             (8a)

and the information that the state carries is I = P/2 while it is below log N. `threshold` solves (8a) for I*(N).

A training set. The information density of its law has mean I(snr) and variance V(snr) (spectrum.py); of the signals it
has mean P/2 and variance P. Both have the same mean top-1 weight where they exceed log N by as many deviations:

    z = (I(snr) - log N) / sqrt(V(snr)) = (P/2 - log N) / sqrt(P).                                        (8b)

With I and V of a Gaussian this predicts the whole top-1 curve, `half` and `saturation`. Points with weights count as
N = exp(H), with H the entropy of the weights.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from flowscope.curve.spectrum import Spectrum
from flowscope.errors import InputError

REACH, STEP = 12.0, 1 / 16  # of g in (8a), in deviations: the trapezoidal rule errs by less than rounding
LOG_SNR_REACH, LOG_SNR_NODES = 80.0, 161  # where a boundary is looked for, about the snr of one nat
TIE = 1e-12  # of a level that is met from the start, but for rounding
LEAST_POINTS = 2 + 1e-9  # that are told apart, under which half is not predicted: the top-1 weight is never below 1/2


class PredictedLaw(NamedTuple):
    """What a prediction needs to know of a law.

    Attributes:
        share: of the law in the mean that is predicted.
        entropy: of the weights of its distinct points, in nats: the log N of (8b).
        spectra: of the law, each of which bounds its information.
    """

    share: float
    entropy: float
    spectra: tuple[Spectrum, ...]

    def top1(self, snr: np.ndarray) -> np.ndarray:
        """The predicted mean top-1 weight at each snr (R,): the least by any spectrum, since each tells too much."""
        signal = np.min([_signal(self.entropy, s.information(snr), s.dispersion(snr)) for s in self.spectra], 0)
        return 1 - _miss(math.exp(self.entropy), signal)


def threshold(n: float, level: float = 0.5) -> float:
    """I*(n): how many nats tell one of n orthogonal signals so well that the mean top-1 weight is `level`.

    Solves (8a), with a relative error under 1e-8 for levels up to 1 - 1e-9. For n = 2 it is the square of the normal
    quantile of the level.

    Args:
        n: how many, at least 2; exp of the entropy of their weights where these are not equal.
        level: of the mean top-1 weight, in (0, 1).

    Returns:
        Nats; 0 where the level is 1/n or less, which takes no information.

    Raises:
        InputError: n or the level is out of range.

    Example:
        >>> from flowscope.curve.prediction import threshold
        >>> round(threshold(1400), 3), round(threshold(1400, 0.99), 2)
        (5.551, 16.94)
    """
    if not _is_finite(n) or n < 2:
        raise InputError(f"n is {n!r}; expected a number of points of at least 2")
    if not _is_finite(level) or not 0 < level < 1:
        raise InputError(f"level is {level!r}; expected a mean top-1 weight between 0 and 1")
    if level <= 1 / n:
        return 0.0
    from scipy.optimize import brentq

    missed = 1 - level
    most = 2 * math.sqrt(math.log(n / missed))  # the union bound: n/2 exp(-P/4) is missed at most
    root = brentq(lambda signal: float(_miss(n, np.array(signal))) - missed, 0.0, most, xtol=1e-12, rtol=1e-14)
    return float(root) ** 2 / 2


def predicted_top1(laws: Sequence[PredictedLaw], snr: np.ndarray) -> np.ndarray:
    """The predicted mean top-1 weight of a mean over laws at each snr (R,)."""
    return np.asarray(sum(c.share * c.top1(snr) for c in laws))


def predicted_snr(laws: Sequence[PredictedLaw], level: float) -> float:
    """The snr at which the predicted mean top-1 weight reaches a level; NaN for two points or fewer."""
    return _first_snr(laws, lambda snr: predicted_top1(laws, snr) - level)


def plain_snr(laws: Sequence[PredictedLaw], part: float = 1.0) -> float:
    """The snr at which the last spectrum's information reaches a part of the entropy; all: N without end collapse."""
    entropy = part * sum(c.share * c.entropy for c in laws)
    return _first_snr(laws, lambda snr: sum(c.share * c.spectra[-1].information(snr) for c in laws) - entropy)


def information_deficit(laws: Sequence[PredictedLaw], snr: float) -> float:
    """How much more than I*(N) a Gaussian with the covariance of the last spectrum tells at the snr of `half`, in nats.

    NaN where two points or fewer are told apart. Over several laws both are means by their shares.
    """
    if _too_few(laws) or not math.isfinite(snr):
        return math.nan
    told = sum(c.share * float(c.spectra[-1].information(np.array(snr))) for c in laws)
    return told - sum(c.share * threshold(max(math.exp(c.entropy), 2)) for c in laws)


def _is_finite(value: Any) -> bool:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return number and math.isfinite(value)


def _signal(entropy: float, information: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
    """sqrt(P) of (8b), in a form without cancellation or division by 0: z + sqrt(z^2 + 2 log N)."""
    excess, deviation = information - entropy, np.sqrt(dispersion)
    root = np.hypot(excess, deviation * math.sqrt(2 * entropy))
    with np.errstate(divide="ignore", invalid="ignore"):
        below = 2 * entropy * deviation / (root - excess)
    return np.where(excess < 0, below, (excess + root) / np.where(deviation > 0, deviation, 1))


def _miss(n: float, signal: np.ndarray) -> np.ndarray:
    """1 less (8a), of n signals with sqrt(P) in an array of any shape."""
    from scipy.special import log_ndtr

    g = np.arange(-REACH, REACH + STEP, STEP)
    with np.errstate(under="ignore"):
        density = STEP / math.sqrt(2 * math.pi) * np.exp(-(g**2) / 2)
        return np.asarray(-np.expm1((n - 1) * log_ndtr(np.add.outer(signal, g))) @ density)


def _too_few(laws: Sequence[PredictedLaw]) -> bool:
    """Whether the laws tell two points apart, or fewer."""
    return sum(c.share * c.entropy for c in laws) <= math.log(LEAST_POINTS)


def _first_snr(laws: Sequence[PredictedLaw], excess: Callable[[np.ndarray], Any]) -> float:
    """The first snr at which a function (R,) -> (R,) of it is no longer negative; NaN if there is none, or it never is.

    A level that holds from snr 0 on, but for rounding, is not reached anywhere: half of two points a class.
    """
    largest = max(c.spectra[-1].total_variance for c in laws)
    if _too_few(laws) or largest == 0:
        return math.nan
    from scipy.optimize import brentq

    x = np.linspace(-LOG_SNR_REACH, LOG_SNR_REACH, LOG_SNR_NODES)
    values = excess(np.exp(x) / largest)
    reached = np.flatnonzero(values >= 0)
    if len(reached) == 0 or values[0] > -TIE:
        return math.nan
    low, high = x[reached[0] - 1], x[reached[0]]

    def at(log_snr: float) -> float:
        return float(excess(np.array(math.exp(log_snr) / largest)))

    if at(low) >= 0 or at(high) < 0:  # one value rounds otherwise than many
        return math.exp(low if at(low) >= 0 else high) / largest
    return math.exp(brentq(at, low, high, xtol=1e-12)) / largest

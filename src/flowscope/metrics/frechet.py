r"""The Frechet distance of two sets of samples in a feature space (arXiv 1706.08500), through torchmetrics.

    FD = |m_r - m_g|^2 + tr(S_r + S_g - 2 (S_r S_g)^{1/2})

with means m and covariances S of the features. On Inception features it is the FID. A finite number of samples biases
the estimate upwards, by an amount that depends on the features and on the model. So values at different numbers of
samples must not be compared, and the result holds the numbers.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowscope.core.settings import check_seed, need
from flowscope.errors import InputError
from flowscope.metrics.features import PIXELS, FeatureSpace, features

BOOTSTRAP_RESAMPLES = 20


class Frechet(NamedTuple):
    """A Frechet distance and what it was taken of.

    Example:
        >>> from flowscope.metrics import Frechet
        >>> f"{Frechet(1.5, 0.1, 'pixels', dimension=2, real=40, generated=40).value:.2f}"
        '1.50'
    """

    value: float
    error: float  # standard error by bootstrap over both sets; NaN without resamples
    space: str  # the feature space's name
    dimension: int  # d, the number of features
    real: int  # how many real samples
    generated: int  # how many generated samples


class ComputedFeatures(torch.nn.Module):
    """The network that torchmetrics is given if features are computed already: it returns its input."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.num_features = dimension

    def forward(self, x: Tensor) -> Tensor:
        return x


def frechet(
    real: Any, generated: Any, space: FeatureSpace = PIXELS, *, resamples: int = BOOTSTRAP_RESAMPLES, seed: int = 0
) -> Frechet:
    """The Frechet distance between real and generated samples.

    Args:
        real: a TrainingSet or points (N, *shape) in the data's own range, at least d + 1 of them.
        generated: likewise.
        space: where they are compared.
        resamples: of the bootstrap for the error, each costing as much as the value; 0 for none.
        seed: of the bootstrap.

    Raises:
        InputError: there are fewer than d + 1 samples, so that a covariance of d features is singular; or the samples
            differ in their number of features.
        MissingExtraError: torchmetrics is not installed.

    Example:
        >>> import torch
        >>> from flowscope.metrics import frechet
        >>> real = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
        >>> f"{frechet(real, real + 1, resamples=0).value:.3f}"  # the squared distance of the means, 1 + 1
        '2.000'
    """
    check_resamples(resamples)
    pair = features(real, space), features(generated, space)
    dimension = check_pair(*pair, space)
    for what, rows in zip(("real", "generated"), pair, strict=True):
        check_enough(len(rows), dimension + 1, what, f"for a covariance of {dimension} features in {space.name}")
    rng = torch.Generator().manual_seed(check_seed(seed))
    drawn = []
    for _ in range(resamples):
        again = (part[torch.randint(len(part), (len(part),), generator=rng)] for part in pair)
        drawn.append(FrechetTo(next(again))(next(again)))
    error = float(torch.tensor(drawn, dtype=torch.float64).std()) if resamples > 1 else float("nan")
    return Frechet(FrechetTo(pair[0])(pair[1]), error, space.name, dimension, len(pair[0]), len(pair[1]))


class FrechetTo:
    """The Frechet distance to one set of real features, whose mean and covariance are computed once.

    Args:
        real: (N, d) float64 features, N > d.

    Raises:
        MissingExtraError: torchmetrics is not installed.
    """

    def __init__(self, real: Tensor) -> None:
        fid = need("torchmetrics.image.fid", "metrics")
        # the distance does not change when both sets move; in units of the data nothing large cancels
        self._centre, self._unit = real.mean(0), float(real.std()) or 1.0
        feature = ComputedFeatures(real.shape[1])
        metric = fid.FrechetInceptionDistance(feature=feature, normalize=True, reset_real_features=False)
        self._metric = metric.set_dtype(torch.float64).to(real.device)
        self._real = real
        self._metric.update((real - self._centre) / self._unit, real=True)

    def __call__(self, generated: Tensor) -> float:
        """The squared distance of generated features (n, d) float64, in the features' own units; never below 0."""
        if torch.equal(generated, self._real):
            return 0.0  # which rounding would miss
        self._metric.reset()
        self._metric.update((generated - self._centre) / self._unit, real=False)
        return max(0.0, self._unit**2 * float(self._metric.compute()))


def check_pair(real: Tensor, generated: Tensor, space: FeatureSpace) -> int:
    """The number of features d of two sets.

    Raises:
        InputError: the sets differ in it.
    """
    if real.shape[1] != generated.shape[1]:
        raise InputError(
            f"real samples have {real.shape[1]} features in {space.name} and generated ones {generated.shape[1]}; "
            "expected samples of one shape: bring them to one size and number of channels first"
        )
    return real.shape[1]


def check_enough(count: int, least: int, what: str, why: str) -> None:
    """Refuse fewer samples than a metric needs.

    Args:
        count: how many there are.
        least: how many are needed.
        what: kind of samples.
        why: what they are needed for, in words.

    Raises:
        InputError: there are fewer.
    """
    if count < least:
        raise InputError(f"{count} {what} samples; expected at least {least} {why}: take more samples")


def check_resamples(resamples: Any) -> None:
    """Refuse what is not a number of bootstrap resamples: 0, or at least 2.

    Raises:
        InputError: it is not.
    """
    if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 0 or resamples == 1:
        raise InputError(
            f"resamples is {resamples!r}; expected a whole number of at least 2, or 0 for no error: leave it out for "
            f"{BOOTSTRAP_RESAMPLES}"
        )

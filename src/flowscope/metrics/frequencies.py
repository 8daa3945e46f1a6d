r"""Layout and detail: the times at which the low and the high spatial frequencies of the predicted data settle.

The layout of an image is its frequencies up to a quarter of the Nyquist frequency, its detail the rest. Take a
trajectory with predicted data D_n and final sample D_T. A band has settled at the first node n from which on the energy
that is still to come stays small against that at the start:

    |band(D_m - D_T)|^2 <= 0.1 |band(D_0 - D_T)|^2    for all m >= n

The node does not change when images are moved or scaled. If D_0 is the mean of the data, as it is at t = 0, the left
side over |band(D_0 - D_T)|^2 is the share of the band's variance that is left open.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.errors import InputError, NumericalError

LAYOUT_CUTOFF = 0.25  # of the Nyquist frequency: layout lies below it, detail above
SETTLED_SHARE = 0.1  # of a band's energy: a settled band has no more than this still to come


class Settling(NamedTuple):
    """When layout and detail of B trajectories settle, and the energy still to come at T nodes.

    Example:
        >>> import torch
        >>> from flowscope.metrics import Settling, settle_times
        >>> isinstance(settle_times([0.0, 1.0], torch.rand(2, 3, 1, 4, 4)), Settling)
        True
    """

    layout: np.ndarray  # (B,) the time at which the low frequencies have settled
    detail: np.ndarray  # (B,) the time at which the high frequencies have settled
    layout_left: np.ndarray  # (T, B) share of the low frequencies' energy still to come
    detail_left: np.ndarray  # (T, B) share of the high frequencies' energy still to come


def split_frequencies(x: Tensor, cutoff: float = LAYOUT_CUTOFF) -> tuple[Tensor, Tensor]:
    """Split images into low and high frequencies, whose sum is the image.

    Low frequencies have sqrt(fx^2 + fy^2) <= cutoff, in units of the Nyquist frequency along an axis (half a cycle per
    pixel); the mean has frequency 0. The borders wrap around.

    Args:
        x: (..., H, W) floating point, images with at least two leading axes such as (B, C, H, W).
        cutoff: in (0, 1).

    Raises:
        InputError: x is not a batch of images (vectors have no spatial frequencies), or the cutoff is not in (0, 1).

    Example:
        >>> import torch
        >>> from flowscope.metrics import split_frequencies
        >>> low, high = split_frequencies(torch.ones(1, 1, 8, 8))  # a flat image is all layout
        >>> float(low.mean()), float(high.abs().max())
        (1.0, 0.0)
    """
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim < 4:
        got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"type {type(x).__name__}"
        raise InputError(
            f"x has {got}; expected floating-point images (B, C, H, W), since others have no frequencies in space: "
            "give one image as x[None], and vectors that are images as x.reshape(-1, C, H, W)"
        )
    _check_share(cutoff, "cutoff", "the Nyquist frequency", LAYOUT_CUTOFF)
    height, width = x.shape[-2:]
    exact = x if x.dtype == torch.float64 else x.to(torch.float32)
    fy = 2 * torch.fft.fftfreq(height, dtype=torch.float64, device=x.device)
    fx = 2 * torch.fft.rfftfreq(width, dtype=torch.float64, device=x.device)
    kept = fy[:, None] ** 2 + fx**2 <= cutoff**2 * (1 + 1e-12)
    low = torch.fft.irfft2(torch.fft.rfft2(exact) * kept, s=(height, width)).to(x.dtype)
    return low, x - low


def settle_times(
    t: Sequence[float] | np.ndarray, predictions: Any, cutoff: float = LAYOUT_CUTOFF, tolerance: float = SETTLED_SHARE
) -> Settling:
    """Find when layout and detail of the predicted data settle along trajectories.

    Args:
        t: (T,) increasing times of the nodes, the last one that of the final sample.
        predictions: (T, B, C, H, W) the predicted data at each node; at the last one the final sample.
        cutoff: as for :func:`split_frequencies`.
        tolerance: the share of a band's energy, in (0, 1), that may be left open.

    Raises:
        InputError: predictions are not images or not one for each time, times do not increase, or the tolerance is not
            in (0, 1).
        NumericalError: a prediction is NaN or infinite.

    Example:
        >>> import torch
        >>> from flowscope.metrics import settle_times
        >>> left = torch.tensor([1.0, 0.5, 0.1, 0.0])[:, None, None, None, None]  # what is still to come
        >>> settle_times([0.0, 0.3, 0.6, 1.0], (1 - left) * torch.ones(4, 1, 1, 8, 8)).layout.tolist()
        [0.6]
    """
    times, data = _check_trajectory(t, predictions)
    _check_share(tolerance, "tolerance", "the energy", SETTLED_SHARE)
    left = [_energy_left(band) for band in split_frequencies(data - data[-1], cutoff)]
    settled = [times[_settled(share, tolerance)] for share in left]
    return Settling(settled[0], settled[1], left[0], left[1])


def _check_share(value: Any, name: str, whole: str, default: float) -> None:
    """Refuse what is not a share in (0, 1)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise InputError(
            f"{name} is {value!r}; expected a share of {whole}, between 0 and 1: leave it out for {default}"
        )


def _check_trajectory(t: Any, predictions: Any) -> tuple[np.ndarray, Tensor]:
    """Times (T,) and predictions (T, B, C, H, W), float64."""
    try:
        times, data = np.asarray(t, dtype=np.float64), torch.as_tensor(predictions)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            "t or predictions are no numbers; expected (T,) times and a tensor (T, B, C, H, W): torch.stack makes one"
        ) from None
    if data.ndim != 5:
        raise InputError(
            f"predictions have shape {tuple(data.shape)}; expected (T, B, C, H, W), images along time: stack those "
            "of all nodes with torch.stack"
        )
    if times.shape != (len(data),) or len(data) < 2 or not (np.diff(times) > 0).all():
        raise InputError(
            f"t has shape {times.shape} for {len(data)} predictions; expected increasing times, one for each of at "
            "least two: give those of the nodes, ends included"
        )
    data = data.to(torch.float64)
    if not bool(torch.isfinite(data).all()):
        raise NumericalError(
            "predictions hold NaN or infinity; expected finite images: look at the field that made them"
        )
    return times, data


def _energy_left(band: Tensor) -> np.ndarray:
    """(T, B) energy still to come, over that at the first node; 0 if there never was any."""
    energy = band.square().sum((2, 3, 4))
    start = energy[:1].expand_as(energy)
    return torch.where(start > 0, energy / start, (energy > 0).to(energy.dtype)).cpu().numpy()


def _settled(left: np.ndarray, tolerance: float) -> np.ndarray:
    """(B,) the first node from which on no more than the tolerance is left."""
    later = np.maximum.accumulate(left[::-1], axis=0)[::-1]
    return (later <= tolerance).argmax(axis=0)

r"""Layout against detail: when the low and the high spatial frequencies of the predicted data settle.

An image is split by its two-dimensional Fourier transform into frequencies up to a quarter of the Nyquist frequency,
its layout, and the rest, its detail. Along a trajectory with predicted data D_n and final sample D_T, a band has
settled at the first node from which on what is still to come stays small against what there was to come at the start:

    |band(D_m - D_T)|^2 <= 0.1 |band(D_0 - D_T)|^2    for all m >= n

It does not change when images are moved or scaled. Where D_0 is the mean of the data, as it is at t = 0, the left side
over the right is the share of the band's variance that is left open.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.errors import InputError, NumericalError

CUTOFF = 0.25  # of the Nyquist frequency
TOLERANCE = 0.1  # of the energy


class Settling(NamedTuple):
    """For each of B trajectories and T nodes."""

    layout: np.ndarray  # (B,) the time at which the low frequencies have settled
    detail: np.ndarray  # (B,) the time at which the high frequencies have settled
    layout_left: np.ndarray  # (T, B) share of the low frequencies' energy still to come
    detail_left: np.ndarray  # (T, B) share of the high frequencies' energy still to come


def split_frequencies(x: Tensor, cutoff: float = CUTOFF) -> tuple[Tensor, Tensor]:
    """An image's low and high frequencies; their sum is the image.

    Low are those with sqrt(fx^2 + fy^2) <= cutoff, where 1 is the Nyquist frequency along an axis (half a cycle a
    pixel) and 0 the mean. The borders wrap around.

    Args:
        x: (..., H, W) floating point, images with at least two leading axes such as (B, C, H, W).
        cutoff: in (0, 1).

    Raises:
        InputError: x is not a batch of images (vectors have no spatial frequencies), or the cutoff is not in (0, 1).
    """
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim < 4:
        got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"type {type(x).__name__}"
        raise InputError(
            f"x has {got}; expected floating-point images (B, C, H, W): others have no frequencies in space; give one "
            "image as x[None], and vectors that are images as x.reshape(-1, C, H, W)"
        )
    if isinstance(cutoff, bool) or not isinstance(cutoff, (int, float)) or not 0 < cutoff < 1:
        raise InputError(
            f"cutoff is {cutoff!r}; expected a share of the Nyquist frequency, between 0 and 1: leave it out "
            f"for {CUTOFF}"
        )
    height, width = x.shape[-2:]
    exact = x if x.dtype == torch.float64 else x.to(torch.float32)
    fy = 2 * torch.fft.fftfreq(height, dtype=torch.float64, device=x.device)
    fx = 2 * torch.fft.rfftfreq(width, dtype=torch.float64, device=x.device)
    kept = fy[:, None] ** 2 + fx**2 <= cutoff**2 * (1 + 1e-12)
    low = torch.fft.irfft2(torch.fft.rfft2(exact) * kept, s=(height, width)).to(x.dtype)
    return low, x - low


def settle_times(
    t: Sequence[float] | np.ndarray, predictions: Any, cutoff: float = CUTOFF, tolerance: float = TOLERANCE
) -> Settling:
    """When layout and detail of the predicted data settle along trajectories.

    Args:
        t: (T,) increasing times of the nodes, the last one that of the final sample.
        predictions: (T, B, C, H, W) the predicted data at each node; at the last one the final sample.
        cutoff: as for :func:`split_frequencies`.
        tolerance: the share of a band's energy, in (0, 1), that may be left open.

    Raises:
        InputError: predictions are not images or not one for each time, times do not increase, or the tolerance is not
            in (0, 1).
        NumericalError: a prediction is NaN or infinite.
    """
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
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not 0 < tolerance < 1:
        raise InputError(
            f"tolerance is {tolerance!r}; expected a share of the energy, between 0 and 1: leave it out for {TOLERANCE}"
        )
    data = data.to(torch.float64)
    if not bool(torch.isfinite(data).all()):
        raise NumericalError(
            "predictions hold NaN or infinity; expected finite images: look at the field that made them"
        )
    left = [_left(band) for band in split_frequencies(data - data[-1], cutoff)]
    settled = [times[_settled(share, tolerance)] for share in left]
    return Settling(settled[0], settled[1], left[0], left[1])


def _left(band: Tensor) -> np.ndarray:
    """(T, B) energy of what is still to come, over that at the first node; 0 where nothing ever was to come."""
    energy = band.square().sum((2, 3, 4))
    start = energy[:1].expand_as(energy)
    return torch.where(start > 0, energy / start, (energy > 0).to(energy.dtype)).cpu().numpy()


def _settled(left: np.ndarray, tolerance: float) -> np.ndarray:
    """(B,) the first node from which on no more than the tolerance is left."""
    later = np.maximum.accumulate(left[::-1], axis=0)[::-1]
    return (later <= tolerance).argmax(axis=0)

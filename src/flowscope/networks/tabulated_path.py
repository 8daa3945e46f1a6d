r"""Paths of noise schedules in a table, such as DDPM's: alphas_cumprod[k] for timesteps k = 0 (clean) to K - 1 (noisy).

    alpha_k = sqrt(alphas_cumprod[k]) = sin(phi_k),    sigma_k = sqrt(1 - alphas_cumprod[k]) = cos(phi_k)

Between two timesteps the angle phi is interpolated linearly. Unlike log-snr, it is finite at both ends, even where the
last timestep is pure noise (arXiv 2305.08891).
"""

import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowscope.errors import InputError
from flowscope.paths import Path


@torch.inference_mode(False)  # the path may be kept, and asked for gradients later
def tabulated_path(alphas_cumprod: Any, name: str) -> Path:
    """Make the path of a discrete variance-preserving schedule, with t = 1 - k/(K - 1).

    Args:
        alphas_cumprod: (K,) products of 1 - beta up to each timestep, decreasing, in [0, 1).
        name: what to call the path.

    Raises:
        InputError: the table is not such a schedule.
    """
    table = (
        torch.as_tensor(alphas_cumprod, device=getattr(alphas_cumprod, "device", "cpu"))
        .detach()
        .to("cpu", torch.float64)
    )
    usable = table.ndim == 1 and len(table) > 1 and bool((table.diff() < 0).all())
    if not usable or not bool(((table >= 0) & (table < 1)).all()):
        raise InputError("alphas_cumprod is not a noise schedule; expected (K,) numbers in [0, 1) that decrease with k")
    angles = torch.atan2(table.sqrt(), (1 - table).sqrt()).flip(0)  # node j is timestep K - 1 - j: t = j/(K - 1)
    last = len(table) - 1

    def formula(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        nodes = angles.to(t.device)
        low = (t.detach() * last).floor().long().clamp(0, last - 1)
        rise = nodes[low + 1] - nodes[low]
        angle, rate = nodes[low] + (t * last - low) * rise, last * rise
        return angle.sin(), angle.cos(), rate * angle.cos(), -rate * angle.sin()

    def time(snr: Tensor) -> Tensor:  # beyond the table the outermost interval is extended
        nodes, angle = angles.to(snr.device), torch.atan(snr.sqrt())
        low = (torch.searchsorted(nodes, angle.detach().contiguous()) - 1).clamp(0, last - 1)
        return (low + (angle - nodes[low]) / (nodes[low + 1] - nodes[low])) / last

    return Path(name, formula, time)


def levels_path(low: float, high: float) -> Path:
    """Make a path like "ve" (alpha = 1) between two noise levels: sigma = high (low/high)^t.

    Args:
        low: the noise level at t = 1, above 0.
        high: the one at t = 0.
    """
    rate = math.log(low / high)

    def formula(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        sigma = high * torch.exp(rate * t)
        return torch.ones_like(t), sigma, torch.zeros_like(t), rate * sigma

    def time(snr: Tensor) -> Tensor:
        return (-0.5 * torch.log(snr) - math.log(high)) / rate

    return Path(f"noise levels {low:.4g} to {high:.4g}", formula, time)


@functools.cache
def linear_betas(first: float = 1e-4, last: float = 0.02, timesteps: int = 1000) -> Path:
    """The path of DDPM's linear betas (arXiv 2006.11239), which DiT uses (arXiv 2212.09748)."""
    betas = np.linspace(first, last, timesteps, dtype=np.float64)
    return tabulated_path(np.cumprod(1 - betas), "ddpm")

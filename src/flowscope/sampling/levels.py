r"""Schedules by noise level sigma/alpha, as EDM has them (arXiv 2206.00364)."""

from typing import Any

import torch
from torch import Tensor

from flowscope.core.settings import check_count
from flowscope.errors import InputError
from flowscope.paths import SIGMA_MAX, SIGMA_MIN, Path, get_path

RHO = 7.0  # EDM's exponent
NODE_ROUNDING = 1e-12  # of a first node, which then is 0


def karras_levels(n: int = 18, low: float = SIGMA_MIN, high: float = SIGMA_MAX, rho: float = RHO) -> Tensor:
    """EDM's noise levels of n steps: n from `high` down to `low`, evenly in level^(1/rho), and 0; (n+1,) float64.

    Args:
        n: how many steps, at least 2: EDM's num_steps.
        low: the last level above 0.
        high: the first one.
        rho: the exponent.

    Raises:
        InputError: they are not such numbers.

    Example:
        >>> from flowscope.sampling.levels import karras_levels
        >>> karras_levels(3).numpy().round(3).tolist()
        [80.0, 2.515, 0.002, 0.0]
    """
    count = check_count(n, "n", least=2)
    if not 0 < low < high < float("inf") or not 0 < rho < float("inf"):
        raise InputError(f"low, high and rho are {low!r}, {high!r} and {rho!r}; expected 0 < low < high and 0 < rho")
    roots = torch.linspace(high ** (1 / rho), low ** (1 / rho), count, dtype=torch.float64, device="cpu")
    levels = roots**rho
    levels[0], levels[-1] = high, low
    return torch.cat([levels, levels.new_zeros(1)])


def nodes_of_levels(levels: Any, path: str | Path = "linear") -> Tensor:
    """The nodes at which a path has these noise levels sigma/alpha, of which 0 is t = 1.

    Args:
        levels: (T+1,) decreasing, at least 0; infinity is pure noise.
        path: of the field that is sampled.

    Raises:
        InputError: they do not decrease, or the path does not reach one of them.

    Example:
        >>> from flowscope.sampling.levels import karras_levels, nodes_of_levels
        >>> nodes_of_levels(karras_levels(3)).numpy().round(3).tolist()
        [0.012, 0.285, 0.998, 1.0]
    """
    wanted = torch.as_tensor(levels, dtype=torch.float64, device="cpu")
    if wanted.ndim != 1 or len(wanted) < 2 or not bool((wanted.diff() < 0).all()) or not bool((wanted >= 0).all()):
        raise InputError(f"levels are {repr(levels)[:60]}; expected at least two decreasing numbers of at least 0")
    own = get_path(path)
    nodes = torch.ones_like(wanted)
    nodes[wanted > 0] = own.time_of_snr(wanted[wanted > 0] ** -2)
    nodes = torch.where(nodes.abs() < NODE_ROUNDING, 0.0, nodes)
    if not bool(((nodes >= 0) & (nodes <= 1)).all()) or not bool((nodes.diff() > 0).all()):
        raise InputError(
            f"levels go from {float(wanted[0]):.6g} to {float(wanted[-1]):.6g}, not all of which the path {own.name!r} "
            "has at a time of its own; expected another path or levels"
        )
    return nodes

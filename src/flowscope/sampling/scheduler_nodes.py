"""The nodes that a pipeline of diffusers visits, read from its scheduler without importing diffusers."""

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flowscope.core.settings import check_count
from flowscope.errors import FlowscopeWarning, InputError
from flowscope.networks.diffusers import FLOW_MATCHING, read_scheduler
from flowscope.networks.labels import config_of
from flowscope.paths import Path
from flowscope.sampling.levels import nodes_of_levels

PURE_NOISE = 1 - 2e-6  # sigma of flow matching above which nothing but noise is there: UniPC keeps 1e-6 below 1


def nodes_of(
    scheduler: Any,
    n: int,
    *,
    mu: float | None = None,
    sigmas: Sequence[float] | None = None,
    path: str | Path = "linear",
) -> Tensor:
    """The nodes at which a pipeline of diffusers asks its model in n steps, and where it ends: increasing, float64.

    Those of flow-matching schedulers are 1 - sigma. Of the others (DDIM, Euler, UniPC, DPM++, ...) they are the times
    at which the path has their noise levels sigma/alpha. The first may lie above 0: such a pipeline begins with a level
    that holds a little data. Euler steps of a field at these nodes are the steps of DDIM and of the Euler schedulers;
    UniPC and DPM++ combine several, and give their network timesteps without their fractions.

    Args:
        scheduler: of a pipeline, which is left as it is.
        n: the pipeline's num_inference_steps.
        mu: for a scheduler with use_dynamic_shifting, what the pipeline makes of the size of the image.
        sigmas: that the pipeline hands to the scheduler, if it does: FLUX's linspace(1, 1/n, n).
        path: of the field that is sampled, "linear" unless it is another's.

    Raises:
        InputError: the scheduler cannot be read, wants mu, or does not take what is given.

    Example:
        >>> from diffusers import FlowMatchEulerDiscreteScheduler
        >>> from flowscope.sampling import nodes_of
        >>> nodes_of(FlowMatchEulerDiscreteScheduler(shift=3.0), 3).numpy().round(4).tolist()
        [0.0, 0.2489, 0.9911, 1.0]
    """
    count, convention = check_count(n, "n"), read_scheduler(scheduler)
    config = config_of(scheduler)
    if config.get("use_dynamic_shifting") and mu is None:
        raise InputError(
            f"the {type(scheduler).__name__} has use_dynamic_shifting; expected mu=..., which its pipeline makes of "
            "the size of the image"
        )
    if config.get("clip_sample") or config.get("thresholding"):
        _warn_of_clipping(config)
    levels = _levels(scheduler, count, {"mu": mu, "sigmas": sigmas}, flow=convention.path == FLOW_MATCHING.path)
    return nodes_of_levels(levels, path)


def _warn_of_clipping(config: Any) -> None:
    most = float(config.get("clip_sample_range") or 1.0)
    how = f"clips the predicted data to {most:g}, and a field does so with clip={most:g} in its Convention alone"
    if not config.get("clip_sample"):
        how = "clips the predicted data by quantiles of each sample (thresholding), and no field does"
    warnings.warn(f"the pipeline of this scheduler {how}", FlowscopeWarning, stacklevel=3)


def _levels(scheduler: Any, n: int, more: dict[str, Any], flow: bool) -> Tensor:
    """The noise levels sigma/alpha of n steps, decreasing, each once."""
    own = copy.deepcopy(scheduler)
    try:
        own.set_timesteps(n, **{name: value for name, value in more.items() if value is not None})
    except (AssertionError, TypeError, ValueError) as error:
        given = ", ".join(name for name, value in more.items() if value is not None)
        raise InputError(
            f"the {type(scheduler).__name__} refuses {n} steps{given and f' with {given}'}: {error}; expected what its "
            "pipeline gives it"
        ) from None
    if getattr(own, "sigmas", None) is not None:
        sigma = torch.as_tensor(own.sigmas).to("cpu", torch.float64)
        if flow:
            sigma = torch.where(sigma > PURE_NOISE, 1.0, sigma)
        levels = sigma / (1 - sigma) if flow else sigma
    else:
        levels = _tabulated_levels(own)
    keep = torch.cat([torch.ones(1, dtype=torch.bool, device="cpu"), levels[1:] < levels[:-1]])  # Heun visits twice
    return levels[keep]


def _tabulated_levels(scheduler: Any) -> Tensor:
    """The levels of the timesteps of a scheduler without sigmas, and the last one, which set_alpha_to_one says."""
    table = torch.as_tensor(scheduler.alphas_cumprod).to("cpu", torch.float64)
    kept = table[torch.as_tensor(scheduler.timesteps).to("cpu", torch.int64)]
    last = torch.as_tensor(getattr(scheduler, "final_alpha_cumprod", 1.0), dtype=torch.float64, device="cpu")
    kept = torch.cat([kept, last.reshape(1)])
    return ((1 - kept) / kept).sqrt()

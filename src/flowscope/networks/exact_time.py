"""Timesteps for modules of half precision: bfloat16 would make 988 of 987.5, and 0.9805 of 0.98."""

import warnings
from collections.abc import Callable
from typing import Any

import torch

from flowscope.errors import FlowscopeWarning


def call_with_exact_time(call: Callable[[torch.dtype], Any], dtype: torch.dtype, name: str, rounds: list[bool]) -> Any:
    """call(dtype of timesteps), in float32 at least where the module can take them so; else rounded, with a warning.

    Args:
        call: of the module.
        dtype: of the module.
        name: of the module, for the warning.
        rounds: not empty for a module that is known to need rounded timesteps; filled here where that is found.
    """
    if dtype.itemsize >= 4 or rounds:
        return call(dtype)
    try:
        return call(torch.float32)
    except RuntimeError as error:
        if "type" not in str(error):  # of a product of two dtypes
            raise
    found = call(dtype)
    rounds.append(True)
    said = str(dtype).removeprefix("torch.")
    warnings.warn(
        f"{name} takes timesteps in {said} alone, which rounds them (bfloat16 makes 988 of 987.5): expected a module "
        "that embeds its timestep in float32 and casts the embedding",
        FlowscopeWarning,
        stacklevel=3,
    )
    return found

"""Feature spaces: the points themselves ("pixels"), or the features that a network computes from them.

A distance between samples is a distance in some space, so every metric names the space it was taken in.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowscope.core.settings import check_count
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError, NumericalError
from flowscope.networks.eval_mode import eval_mode


@dataclass(frozen=True)
class FeatureSpace:
    """A space in which samples are compared.

    Attributes:
        name: of the space in results.
        module: maps float32 points (B, *shape), in the data's own range, to features (B, d), each row by itself. It
            runs without gradients and in eval mode. None for the values themselves.
        device: where the module runs, and where precision and recall are computed. None for the device of the module's
            parameters, and the CPU.

    Raises:
        InputError: the module is not a torch.nn.Module.

    Example:
        >>> import torch
        >>> from flowscope.metrics import FeatureSpace, features
        >>> mean = FeatureSpace("mean", torch.nn.AdaptiveAvgPool1d(1))
        >>> features(torch.tensor([[1.0, 3.0]]), mean)
        tensor([[2.]], dtype=torch.float64)
    """

    name: str = "pixels"
    module: torch.nn.Module | None = None
    device: str | torch.device | None = None

    def __post_init__(self) -> None:
        if self.module is not None and not isinstance(self.module, torch.nn.Module):
            raise InputError(
                f"module is a {type(self.module).__name__}; expected a torch.nn.Module, or None for pixels: put a "
                "function into a module's forward"
            )


PIXELS = FeatureSpace()


def check_space(space: Any) -> None:
    """Refuse what is not a FeatureSpace.

    Raises:
        InputError: it is not.
    """
    if not isinstance(space, FeatureSpace):
        raise InputError(f"space is {repr(space)[:60]}; expected a FeatureSpace, such as FeatureSpace('name', module)")


def features(points: Any, space: FeatureSpace = PIXELS, batch: int = 256) -> Tensor:
    """Map points into a feature space.

    Args:
        points: a TrainingSet, or a floating-point tensor or array (N, *shape), in the data's own range.
        space: the feature space.
        batch: points in a call of the module.

    Returns:
        (N, d) float64, on the CPU.

    Raises:
        InputError: `points` are not such, or the module does not return (B, d).
        NumericalError: a point or a feature is NaN or infinite.

    Example:
        >>> import torch
        >>> from flowscope.metrics import features
        >>> features(torch.zeros(5, 1, 8, 8)).shape  # the 64 values of each image
        torch.Size([5, 64])
    """
    check_space(space)
    return torch.cat([_apply(block, space) for block in _blocks(points, check_count(batch, "batch"))])


def _blocks(points: Any, batch: int) -> Iterator[Tensor]:
    if isinstance(points, TrainingSet):
        yield from (block for _, block in points.blocks(batch))
        return
    points = torch.as_tensor(points) if isinstance(points, np.ndarray) else points
    if not isinstance(points, Tensor) or not points.is_floating_point() or points.ndim < 2 or points.numel() == 0:
        got = f"{tuple(points.shape)} {points.dtype}" if isinstance(points, Tensor) else f"a {type(points).__name__}"
        raise InputError(
            f"points are {got}; expected floating-point points (N, *shape), at least one, or a TrainingSet: give one "
            "point as points[None], whole numbers as points.float()"
        )
    yield from points.detach().split(batch)


def _apply(block: Tensor, space: FeatureSpace) -> Tensor:
    if not bool(torch.isfinite(block).all()):
        raise NumericalError("points hold NaN or infinity; expected finite samples: look at the model that made them")
    if space.module is None:
        return block.flatten(1).to("cpu", torch.float64)
    found = _run(space.module, block, space.device)
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(block):
        got = tuple(found.shape) if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise InputError(
            f"{space.name} returned {got} for {len(block)} points; expected features ({len(block)}, d): end the module "
            "with flatten(1), or select one of its outputs"
        )
    if not bool(torch.isfinite(found).all()):
        raise NumericalError(
            f"{space.name} returned NaN or infinity for finite points; expected finite features: look "
            "at its weights, and whether it expects points in the range of the data"
        )
    return found.to("cpu", torch.float64)


def _run(module: torch.nn.Module, block: Tensor, device: str | torch.device | None) -> Any:
    if device is None:
        first = next(module.parameters(), None)
        device = block.device if first is None else first.device
    with eval_mode(module):
        return module(block.to(device, torch.float32))

"""windows: parts of trajectories as points."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowscope.core.settings import check_count
from flowscope.core.tensors import to_numpy
from flowscope.errors import InputError


def windows(trajectories: Any, steps: int, stride: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Cut trajectories into windows of equal length; none crosses from one trajectory into the next.

    Neighbouring windows overlap, so hold out whole trajectories: `groups` of :func:`flowscope.data.split.split`.

    Args:
        trajectories: (E, T, D), E trajectories of T steps; or a list of arrays (T, ...), of any lengths. One trajectory
            is a list of one.
        steps: of a window.
        stride: steps from the start of a window to that of the next.

    Returns:
        (N, steps, ...) the windows, trajectory by trajectory, and (N,) which trajectory each is from.

    Raises:
        InputError: a trajectory is shorter than a window, or they are no such arrays.

    Example:
        >>> from flowscope.data import windows
        >>> points, episode = windows([[[0.0], [1.0], [2.0]], [[5.0], [6.0]]], steps=2)
        >>> points[..., 0].tolist(), episode.tolist()
        ([[0.0, 1.0], [1.0, 2.0], [5.0, 6.0]], [0, 0, 1])
    """
    steps, stride = check_count(steps, "steps"), check_count(stride, "stride")
    if not isinstance(trajectories, Sequence) and getattr(trajectories, "ndim", 0) < 3:
        raise InputError(
            f"trajectories have shape {tuple(getattr(trajectories, 'shape', ()))}; expected (E, T, D), or a list of "
            "arrays (T, D): give one trajectory as a list of one"
        )
    parts = [to_numpy(one, f"trajectory {k}") for k, one in enumerate(trajectories)]
    for k, part in enumerate(parts):
        if part.ndim < 1 or len(part) < steps or part.shape[1:] != parts[0].shape[1:]:
            raise InputError(
                f"trajectory {k} has shape {part.shape}; expected at least {steps} steps, each of shape "
                f"{parts[0].shape[1:]}: leave it out, or take shorter windows"
            )
    if not parts:
        raise InputError("there are no trajectories; expected at least one")
    cut = [np.lib.stride_tricks.sliding_window_view(part, steps, axis=0)[::stride] for part in parts]
    episode = np.repeat(np.arange(len(cut)), [len(one) for one in cut])
    return np.concatenate([np.moveaxis(one, -1, 1) for one in cut]), episode

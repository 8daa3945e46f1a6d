"""Range, mean and standard deviation of the points of a set, by channel."""

from typing import NamedTuple

import numpy as np
import torch

from flowscope.data.training_set import TrainingSet


class ChannelStatistics(NamedTuple):
    """Of points (C, H, W) one value a channel, of others one value; float64 in lists.

    Attributes:
        mean, standard_deviation: weighted as the points are.
        range: the least and the largest value of points with weight.
    """

    mean: list[float]
    standard_deviation: list[float]
    range: list[list[float]]


def channel_statistics(s: TrainingSet) -> ChannelStatistics:
    """Read all points once more, and measure each channel.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.data.channels import channel_statistics
        >>> channel_statistics(fs.TrainingSet([[0.0, 1.0], [2.0, 3.0]])).mean
        [1.5]
    """
    channels = s.shape[0] if len(s.shape) == 3 else 1
    centre = s.statistics.mean.reshape(channels, -1).mean(1)  # near the mean, so that little is lost in the squares
    weights = torch.from_numpy(s.relative_weights)
    first, second = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    least, most = torch.full_like(first, torch.inf), torch.full_like(first, -torch.inf)
    for start, piece in s.pieces():
        w = weights[start : start + len(piece)]
        values = piece.cpu().to(torch.float64).reshape(len(piece), channels, -1)[w > 0]
        if not len(values):
            continue
        least, most = torch.minimum(least, values.amin((0, 2))), torch.maximum(most, values.amax((0, 2)))
        about = values - centre[:, None]
        first += w[w > 0] @ about.mean(2)
        second += w[w > 0] @ about.square().mean(2)
    first, second = first / weights.sum(), second / weights.sum()
    ends = torch.stack([least, most], 1)
    deviation = np.sqrt(np.maximum((second - first**2).numpy(), 0))
    return ChannelStatistics((first + centre).tolist(), deviation.tolist(), ends.tolist())

"""Points of posteriors: an autoencoder's mean and standard deviation are stored, of which one point each is taken."""

from dataclasses import replace
from typing import Any

import numpy as np

from flowscope.data.loaders.source import Source
from flowscope.data.options import Options
from flowscope.data.rows.mapped_rows import MappedRows
from flowscope.errors import InputError


def choose_posterior(source: Source, options: Options) -> tuple[Source, tuple[str, ...]]:
    """The source with one point for each posterior, and the note on that; any other source as it is.

    Raises:
        InputError: `posterior` says nothing or does not apply, or the values are no posteriors.
    """
    if not source.posterior:
        if options.posterior is not None:
            raise InputError(
                f"posterior is {options.posterior!r} and {source.name} holds no posteriors; expected img-mean-std-*.npy"
            )
        return source, ()
    shape = tuple(source.values.shape)
    if len(shape) < 3 or shape[1] % 2:
        raise InputError(f"{source.name} holds posteriors of shape {shape[1:]}; expected mean and std, (2 C, H, W)")
    if options.posterior is None:
        raise InputError(
            f"{source.name} holds posteriors of an autoencoder, of which networks are given a new sample at each step; "
            "say which points: posterior='mean' (--posterior mean) for the means, 'sample' (--posterior sample) for "
            "one sample of each, by seed"
        )
    if options.posterior == "mean":
        values, what = MappedRows([source.values], _mean), "the means of posteriors"
    else:
        values = MappedRows([PosteriorSamples(source.values, options.seed)])
        what = f"one sample of each posterior, seed {options.seed}"
    note = f"Points are {what}; a network that is given new samples at each step has another law."
    return replace(source, values=values), (note,)


def _mean(block: np.ndarray) -> np.ndarray:
    return block[:, : block.shape[1] // 2]


class PosteriorSamples:
    """Rows mean + std * noise; the noise of a row depends on the seed and its position alone.

    Args:
        posteriors: (N, 2 C, ...), mean and standard deviation, read by slices and positions.
        seed: of the noise.

    Raises, also when rows are read:
        InputError: a standard deviation is negative.
    """

    def __init__(self, posteriors: Any, seed: int) -> None:
        self._posteriors, self._seed = posteriors, seed
        count, channels, *sides = posteriors.shape
        self.shape = (count, channels // 2, *sides)
        self.dtype = np.promote_types(posteriors.dtype, np.float32)
        self.streamed = bool(getattr(posteriors, "streamed", False))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: Any) -> np.ndarray:
        positions = np.arange(len(self))[which]
        mean, std = np.split(np.asarray(self._posteriors[which]).astype(self.dtype), 2, axis=1)
        negative = (std < 0).any(axis=tuple(range(1, std.ndim)))
        if negative.any():
            raise InputError(
                f"posterior {positions[negative.argmax()]} has a negative standard deviation; expected mean and std, "
                "one behind the other: are these other numbers, such as the logarithm of a variance?"
            )
        for row, position in enumerate(positions.tolist()):
            mean[row] += std[row] * np.random.default_rng((self._seed, position)).standard_normal(
                self.shape[1:], np.float32
            )
        return mean

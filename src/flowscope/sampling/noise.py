"""Noise that belongs to its sample: number i of a seed is the same however many are drawn and in whatever batches."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from flowscope.core.settings import check_count, check_seed, check_sizes
from flowscope.errors import InputError
from flowscope.fields import FLOATS


def draw_noise(
    n: int,
    shape: tuple[int, ...],
    seed: int = 0,
    first: int = 0,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device | None = None,
) -> Tensor:
    """Standard normal noise (n, *shape) of the samples number first, first + 1, ...

    Row i is drawn in float64 from np.random.default_rng((seed, first + i)) and rounded to `dtype`.

    Args:
        n: how many.
        shape: of one sample.
        seed: of all of them.
        first: number of the first one.
        dtype: a floating-point one.
        device: where the noise is; None for the CPU.

    Raises:
        InputError: an argument is not usable.

    Example:
        >>> from flowscope.sampling import draw_noise
        >>> three, last = draw_noise(3, (2,), seed=7), draw_noise(1, (2,), seed=7, first=2)
        >>> bool((three[2] == last[0]).all())
        True
    """
    count, start = check_count(n, "n"), check_count(first, "first", least=0)
    sizes, seed = check_sizes(shape), check_seed(seed)
    if dtype not in FLOATS:
        raise InputError(f"dtype is {dtype!r}; expected torch.float16, bfloat16, float32 or float64")
    noise = torch.empty((count, *sizes), dtype=dtype, device="cpu")
    for i in range(count):
        noise[i] = torch.from_numpy(np.asarray(np.random.default_rng((seed, start + i)).standard_normal(sizes)))
    return noise if device is None else noise.to(device)


class NoiseStream:
    """Standard normal noise drawn again and again for some samples, of which each has a stream of its own.

    The streams are others than those of :func:`draw_noise`.

    Args:
        seed: of all of them.
        numbers: of the samples.
        shape: of one sample.
        use: what for, one of NoiseStream.STEPS and PROBES, which have streams of their own.
    """

    STEPS, PROBES = 1, 2

    def __init__(self, seed: int, numbers: Iterable[int], shape: tuple[int, ...], use: int = STEPS) -> None:
        sequences = (np.random.SeedSequence((seed, number), spawn_key=(use,)) for number in numbers)
        self._streams, self._shape = [np.random.default_rng(sequence) for sequence in sequences], shape

    def draw(self) -> Tensor:
        """The next (B, *shape), float64 on the CPU."""
        drawn = [torch.from_numpy(np.asarray(stream.standard_normal(self._shape))) for stream in self._streams]
        return torch.stack(drawn) if drawn else torch.empty((0, *self._shape), dtype=torch.float64, device="cpu")

"""Fields whose memory is known: six, and one that learned nothing; for the studies that tell memory from denoising.

The set is 64 of 600 images of 8 x 8 pixels. Low frequencies have a variance of 8, the others one of 0.002, so that the
64 are told apart by five numbers each, and a denoiser settles details long after the layout.
"""

import math
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

import flowscope as fs
from flowscope.fields import VelocityField
from flowscope.metrics import split_frequencies
from flowscope.paths import convert, get_path
from flowscope.references import GaussianMixture, LocalOracle, Wiener

TRAINED, ALL, HELD_OUT = 64, 600, 100
BATCH = 128
LOW, HIGH, WHITE = 8.0, 0.002, 1.0  # variances at low and at high frequencies, and at all of them


@cache
def images(high: float = HIGH) -> np.ndarray:
    """(600, 1, 8, 8) float32."""
    drawn = torch.from_numpy(np.random.default_rng(0).standard_normal((ALL, 1, 8, 8)))
    low, rest = split_frequencies(drawn)
    return (math.sqrt(LOW if high == HIGH else high) * low + math.sqrt(high) * rest).numpy().astype(np.float32)


@cache
def oracle(count: int = TRAINED, high: float = HIGH) -> fs.Oracle:
    """The oracle of the first images."""
    return fs.Oracle(fs.TrainingSet(images(high)[:count], name=f"{count} images"))


@cache
def held_out(high: float = HIGH) -> fs.TrainingSet:
    """Images that come after the 64."""
    return fs.TrainingSet(images(high)[TRAINED : TRAINED + HELD_OUT], name="held-out images")


class Nothing:
    """-x: a field that has learned nothing."""

    name = "nothing"

    def __call__(self, x: Tensor, t: Any, y: Any = None) -> Tensor:
        return -x


class Memorised(torch.nn.Module):
    """A network that predicts the data, trained until it goes to the 64 images; a velocity field."""

    name, classes = "network", None

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.path = get_path("linear")
        sizes = (64 + 2, width, width, width)
        layers = [(torch.nn.Linear(a, b), torch.nn.SiLU()) for a, b in pairwise(sizes)]
        self.net = torch.nn.Sequential(*(part for pair in layers for part in pair), torch.nn.Linear(width, TRAINED))
        self.register_buffer("points", torch.empty(TRAINED, 64))

    def weights(self, x: Tensor, t: Tensor) -> Tensor:
        """(B, 64) logits of the images."""
        c = self.path(t)
        alpha, sigma = c.alpha.float()[:, None], c.sigma.float()[:, None]
        scaled = x.flatten(1) / (3 * alpha.square() + sigma.square()).sqrt()
        return self.net(torch.cat([scaled, alpha, sigma], 1))

    def forward(self, x: Tensor, t: Any, y: Any = None) -> Tensor:
        times = torch.as_tensor(t, dtype=torch.float64, device=x.device).expand(len(x))
        data = (self.weights(x.float(), times).softmax(1) @ self.points).reshape(x.shape).to(x.dtype)
        return convert(data, x, self.path(times), "data", "velocity")


@cache
def network(high: float = HIGH, steps: int = 600) -> Memorised:
    """The trained network: it learns which of its images a noisy one was made of."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Memorised()
        model.points.copy_(torch.from_numpy(images(high)[:TRAINED]).flatten(1))
        optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
        for _ in range(steps):
            which, t = torch.randint(TRAINED, (BATCH,)), torch.rand(BATCH, dtype=torch.float64)
            x1, x0 = model.points[which], torch.randn(BATCH, 64)
            c = model.path(t)
            x = c.alpha.float()[:, None] * x1 + c.sigma.float()[:, None] * x0
            loss = torch.nn.functional.cross_entropy(model.weights(x, t), which)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


FIELDS: dict[str, Callable[[float], VelocityField]] = {
    "wiener": lambda high=HIGH: Wiener(oracle(high=high).training_set),
    "mixture": lambda high=HIGH: GaussianMixture(oracle(high=high).training_set, parts=2, rank=8),
    "local": lambda high=HIGH: LocalOracle(oracle(high=high).training_set, patch=3, equivariant=True),
    "more": lambda high=HIGH: oracle(ALL, high),
    "oracle": lambda high=HIGH: oracle(high=high),
    "network": network,
    "nothing": lambda high=HIGH: Nothing(),
}

r"""SmoothedOracle: the oracle with a posterior that is wider than its own, by a temperature or by a bandwidth.

*Temperature* T: the weights of the oracle to the power 1/T, scaled to sum 1. By (3)

    gamma_i^(1/T)  ~  w_i^(1/T) exp(-|x - alpha x1_i|^2 / (2 sigma^2 T))

which are the weights of an oracle whose points weigh w_i^(1/T), at the noise level sigma sqrt(T). T above 1 averages
over more points, T below 1 over fewer. E[x1|x] is the mean under these weights and the velocity is A E[x1|x] + B x with
A and B of the path; it is no longer the velocity of a law.

*Bandwidth* h: the points are blurred, x1 ~ sum_i w_i N(x1_i, h^2 I). That is a law, and this is its exact oracle. Given
point i the state is N(alpha x1_i, s^2 I) with s^2 = sigma^2 + alpha^2 h^2, so the weights are those of an oracle at the
noise level s; and with their mean P = sum_i gamma_i x1_i

    E[x1|x] = P + alpha h^2/s^2 (x - alpha P),    E[x0|x] = sigma/s^2 (x - alpha P)
    u = alpha' E[x1|x] + sigma' E[x0|x] = alpha' P + s'/s (x - alpha P),    s' = (sigma sigma' + alpha alpha' h^2)/s

The closed-form diffusion models of arXiv 2310.12395 smooth in a third way: they convolve the *score* with a kernel. A
bandwidth convolves the *density* of the data; its score is that of the blurred density, not the blurred score.

Both together: the weights are those of the blurred points, to the power 1/T. In all cases the velocity is that of an
oracle on the path (alpha, s sqrt(T)), whose A and B differ from (6) by the blur alone. So every answer comes from the
Oracle's own engines, as exact and as fast, and temperature 1 with bandwidth 0 is the Oracle.
"""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError
from flowscope.fields import times_of_rows
from flowscope.oracle import Oracle
from flowscope.paths import Coefficients, Path, get_path


class SmoothedOracle:
    """An oracle with a wider posterior, as a velocity field; methods take (x, t, y=None) as those of the Oracle do.

    Args:
        training_set: a TrainingSet, or an array or tensor (N, *shape) of points.
        path: "linear", "cosine", "vp", "ve", or a Path.
        temperature: T above 0; the oracle's weights, over distinct points, to the power 1/T. 1 changes nothing.
        bandwidth: h of at least 0, in the units of the points; the width of the Gaussian that blurs each of them. 0
            changes nothing.
        memory: budget, as for an Oracle.
        device: where to compute; None for where the points are.

    Raises:
        InputError: an argument is not usable; the message says why.

    Example:
        >>> import torch
        >>> from flowscope.references import SmoothedOracle
        >>> points, x = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.5]])
        >>> [round(SmoothedOracle(points, temperature=T).denoise(x, 0.8).item(), 3) for T in (1.0, 4.0)]
        [0.881, 0.622]
        >>> round(SmoothedOracle(points, bandwidth=0.5).denoise(x, 0.8).item(), 3)
        0.62
    """

    name = "smoothed"

    def __init__(
        self,
        training_set: Any,
        path: str | Path = "linear",
        *,
        temperature: float = 1.0,
        bandwidth: float = 0.0,
        memory: str | int = "512MB",
        device: str | torch.device | None = None,
    ) -> None:
        self.temperature = _number(temperature, "temperature", "above 0: 1 is the oracle, 4 averages over more points")
        self.bandwidth = _number(bandwidth, "bandwidth", "of at least 0, in the units of the points", zero=True)
        self.path = get_path(path)
        self._settings: dict[str, Any] = {"path": self._widened_path(), "memory": memory, "device": device}
        self._plain = Oracle(training_set, **self._settings)
        self.training_set: TrainingSet = self._plain.training_set
        self.device, self.memory = self._plain.device, self._plain.memory
        self._tempered: dict[bool, Oracle] = {}

    def __repr__(self) -> str:
        smoothing = f"temperature={self.temperature:g}, bandwidth={self.bandwidth:g}"
        return f"SmoothedOracle({self.training_set!r}, path={self.path.name!r}, {smoothing})"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one state."""
        return self.training_set.shape

    @property
    def classes(self) -> tuple[int, ...]:
        """The labels, ascending; empty without labels."""
        return self.training_set.classes

    def velocity(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """u(x, t): that of the oracle on the wider path; (B, *shape)."""
        return self._oracle(y is not None).velocity(x, t, y)

    __call__ = velocity

    def denoise(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """The predicted data; (B, *shape)."""
        data = self._oracle(y is not None).denoise(x, t, y)
        if self.bandwidth == 0:
            return data
        return data + self._noise_times(x, t, y, lambda c, s: c.alpha * self.bandwidth**2 / s)

    def noise(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """The predicted noise; (B, *shape)."""
        return self._noise_times(x, t, y, lambda c, s: c.sigma / s)

    def score(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """The predicted noise over -sigma; at temperature 1 the gradient of log p_t(x); (B, *shape)."""
        return self._noise_times(x, t, y, lambda c, s: -1 / s)

    def log_density(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """log p_t(x) of the blurred points, in nats; (B,). Given y, of that class.

        Raises:
            InputError: the temperature is not 1, so that the field belongs to no law.
        """
        if self.temperature != 1:
            raise InputError(
                f"the density at temperature {self.temperature:g} was asked for; expected temperature 1: powers of "
                "posterior weights are those of no law"
            )
        return self._plain.log_density(x, t, y)

    def _widened(self, c: Coefficients) -> Tensor:
        """s = sqrt(sigma^2 + alpha^2 h^2)."""
        return torch.hypot(c.sigma, c.alpha * self.bandwidth)

    def _widened_path(self) -> Path:
        """The path (alpha, s sqrt(T)), whose oracle has the velocity of this field."""
        if self.temperature == 1 and self.bandwidth == 0:
            return self.path
        root, square = math.sqrt(self.temperature), self.bandwidth**2

        def formula(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            c = self.path(t)
            s = self._widened(c)
            slope = (c.sigma * c.d_sigma + c.alpha * c.d_alpha * square) / s
            return c.alpha, root * s, c.d_alpha, root * slope

        def time(snr: Tensor) -> Tensor:
            return self.path.time_of_snr(1 / (1 / (self.temperature * snr) - square))

        return Path(f"{self.path.name}, smoothed", formula, time)

    def _noise_times(self, x: Tensor, t: Any, y: Any, factor: Callable[[Coefficients, Tensor], Tensor]) -> Tensor:
        """(x - alpha P)/s, which is sqrt(T) times the noise of the oracle on the wider path, times a factor of t."""
        noise = self._oracle(y is not None).noise(x, t, y)
        c = self.path(times_of_rows(t, x))
        scale = (math.sqrt(self.temperature) * factor(c, self._widened(c))).to(x.device)
        return (noise * scale.reshape(-1, *[1] * (x.ndim - 1))).to(x.dtype)

    def _oracle(self, by_label: bool) -> Oracle:
        """The oracle of points whose weights are tempered: those of a point within its label, or in all."""
        if self.temperature == 1:
            return self._plain
        if by_label not in self._tempered:
            s = self.training_set
            key = self._plain.support.group if not by_label else self._pairs()
            weights = _temper(key, s.relative_weights, self.temperature)
            tempered = s.reweighted(weights) if weights is not None else None
            self._tempered[by_label] = self._plain if tempered is None else Oracle(tempered, **self._settings)
        return self._tempered[by_label]

    def _pairs(self) -> np.ndarray:
        """(N,) one number for each pair of a distinct point and a label."""
        labels = self.training_set.labels
        if labels is None:
            return self._plain.support.group
        which = np.unique(labels, return_inverse=True)[1]
        return self._plain.support.group * (int(which.max()) + 1) + which


def _temper(key: np.ndarray, weights: np.ndarray, temperature: float) -> np.ndarray | None:
    """(N,) weights whose power 1/T was taken, all of a key's on its first point; None where all are equal.

    Raises:
        InputError: they leave float64.
    """
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    mass = np.bincount(which, weights=weights)
    known = mass[mass > 0]
    if bool((known == known[0]).all()):
        return None
    out = np.zeros(len(key))
    out[first] = (mass / mass.max()) ** (1 / temperature)
    if bool((out[first][mass > 0] == 0).any()):
        raise InputError(
            f"at temperature {temperature:g} the smallest weight leaves float64; expected a higher temperature, or "
            "weights that differ less"
        )
    return out


def _number(value: Any, what: str, expected: str, zero: bool = False) -> float:
    """A finite number above 0, or of at least 0."""
    known = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not known or value < 0 or (value == 0 and not zero):
        raise InputError(f"{what} is {value!r}; expected a finite number {expected}")
    return float(value)

r"""Paths: how noise and data are mixed at time t, and the one conversion between what a network may predict.

    x_t = alpha_t x1 + sigma_t x0,    x0 ~ N(0, I),    t = 0 noise, t = 1 data                            (1)

A path is the pair (alpha, sigma) with its derivatives; everything else in flowscope asks for one :class:`Coefficients`.
Coefficients are float64, from t exactly as given.

Conversion: velocity, data, noise and score are each a combination a x1_hat + b x0_hat of the predicted data and noise

    data (1, 0)    noise (0, 1)    velocity (alpha', sigma')    score (0, -1/sigma)                          (2)

and x itself is (alpha, sigma), so that x and any one of them determine the other three by one 2x2 linear system.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from flowscope.errors import InputError
from flowscope.fields import check_time

Quantity = Literal["velocity", "data", "noise", "score"]


@dataclass(frozen=True)
class Coefficients:
    """One path at some times: float64 tensors of t's shape. Primes are derivatives by t."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor
    d_sigma: Tensor

    @property
    def A(self) -> Tensor:
        """A_t = alpha' - alpha sigma'/sigma, the weight of E[x1|x] in the velocity (arXiv 2512.02826, Theorem 2.1)."""
        return self.d_alpha - self.alpha * self.d_sigma / self.sigma

    @property
    def B(self) -> Tensor:
        """B_t = sigma'/sigma, the weight of x in the velocity."""
        return self.d_sigma / self.sigma

    @property
    def snr(self) -> Tensor:
        """(alpha/sigma)^2."""
        return (self.alpha / self.sigma) ** 2

    def rows(self, which: slice | Tensor) -> "Coefficients":
        """The coefficients at some of the times (B,)."""
        return type(self)(*(v[which] for v in vars(self).values()))

    def expand(self, ndim: int) -> "Coefficients":
        """The coefficients with trailing axes, to broadcast against x of `ndim` axes."""
        parts = (v.reshape(v.shape + (1,) * (ndim - v.ndim)) for v in vars(self).values())
        return type(self)(*parts)

    def data_variance(self, variance: Tensor, dimension: int) -> Tensor:
        """tr Cov(x1|x), a sum over coordinates, from the total variance of a posterior; that itself for points."""
        return variance


@dataclass(frozen=True)
class Widened(Coefficients):
    """Coefficients of (alpha, sqrt(sigma^2 + alpha^2 s^2)): the path on which points stand for Gaussians N(m, s^2 I).

    On it m has the posterior, the velocity and the score that data N(m, s^2 I) have on the path itself; what the mean
    says of data and noise differs, (14b).

    Attributes:
        noise: sigma of the path itself.
        deviation: s.
    """

    noise: Tensor
    deviation: Tensor

    @property
    def spread_share(self) -> Tensor:
        """alpha s^2 / sqrt(sigma^2 + alpha^2 s^2), what the data have of the widened noise."""
        return self.alpha * self.deviation**2 / self.sigma

    @property
    def own_share(self) -> Tensor:
        """sigma / sqrt(sigma^2 + alpha^2 s^2), what the noise has of it."""
        return self.noise / self.sigma

    def data_variance(self, variance: Tensor, dimension: int) -> Tensor:
        """tr Cov(x1|x) of (14d), from the total variance of the posterior of m."""
        own = self.own_share**2
        return own**2 * variance + dimension * own * self.deviation**2


EXPECTED = "finite (alpha, sigma, alpha', sigma') for every t in [0, 1)"


@dataclass(frozen=True)
class Path:
    """A path with its name and the functions that define it.

    Attributes:
        name: what users call it.
        formula: (alpha, sigma, alpha', sigma') of a float64 t.
        time: t of a signal-to-noise ratio snr = (alpha/sigma)^2, the inverse of snr(t).

    Example:
        >>> import flowscope as fs
        >>> def formula(t):
        ...     return t**2, 1 - t**2, 2 * t, -2 * t
        >>> def time(snr):
        ...     return (snr.sqrt() / (1 + snr.sqrt())).sqrt()
        >>> path = fs.Path("square", formula, time)
        >>> c = path(0.5)
        >>> c.alpha.item(), c.sigma.item()
        (0.25, 0.75)
        >>> round(path.time_of_snr(c.snr).item(), 9)
        0.5
    """

    name: str
    formula: Callable[[Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]
    time: Callable[[Tensor], Tensor]

    def __call__(self, t: float | Tensor) -> Coefficients:
        """The coefficients at some times.

        Args:
            t: a number or a tensor of any shape, 0 <= t < 1.

        Raises:
            InputError: t is NaN or outside [0, 1), or the formula gives what is no coefficient.
        """
        t = _float64(t)
        check_time(t)
        return Coefficients(t, *(self._checked(value, t) for value in self._values(t)))

    def _values(self, t: Tensor) -> tuple[Any, ...]:
        """What the formula gives at some times."""
        values = tuple(self.formula(t))
        if len(values) != 4:
            raise InputError(f"the formula of path {self.name!r} gave {len(values)} values; expected 4: {EXPECTED}")
        return values

    def _checked(self, value: Any, t: Tensor) -> Tensor:
        """A coefficient of the shape of t; a plain number stands for a constant."""
        if isinstance(value, Tensor) and value.dtype != torch.float64:
            raise InputError(
                f"the formula of path {self.name!r} gave {value.dtype} for a float64 t; expected float64, from "
                "t as it is: float32 coefficients are wrong in the eighth digit"
            )
        found = torch.as_tensor(value, dtype=torch.float64, device=t.device).expand(t.shape)
        if not bool(torch.isfinite(found).all()):
            where = t[~torch.isfinite(found)].flatten()[0].item()
            raise InputError(f"the formula of path {self.name!r} is not finite at t = {where:.6g}; expected {EXPECTED}")
        return found

    def time_of_snr(self, snr: float | Tensor) -> Tensor:
        """The time at which (alpha/sigma)^2 equals snr, float64; outside [0, 1) where the path does not reach it."""
        return self.time(_float64(snr))


@dataclass(frozen=True)
class WidenedPath(Path):
    """The path (alpha, sqrt(sigma^2 + alpha^2 s^2)) of a path (alpha, sigma) and a deviation s; t = 1 is on it.

    Attributes:
        deviation: s > 0.

    Example:
        >>> from flowscope.paths import linear, widen
        >>> c = widen(linear, 0.1)(1.0)
        >>> c.sigma.item(), c.noise.item()
        (0.1, 0.0)
    """

    deviation: float

    def __call__(self, t: float | Tensor) -> Widened:
        """The coefficients at some times, 0 <= t <= 1; errors as for a Path.

        At t = 1 a value that has no limit there, as sigma' of VP, is taken with its factor sigma, which has: the
        product is that of the last float64 time before 1.
        """
        t = _float64(t)
        check_time(t, closed=True)
        alpha, noise, d_alpha, product = self._at(t.clamp_max(math.nextafter(1.0, 0.0)))
        if bool((t == 1).any()):
            exact = (torch.as_tensor(v, dtype=torch.float64, device=t.device).expand(t.shape) for v in self._values(t))
            limits = zip(_with_product(*exact), (alpha, noise, d_alpha, product), strict=True)
            alpha, noise, d_alpha, product = (torch.where((t == 1) & torch.isfinite(v), v, b) for v, b in limits)
        s = torch.full_like(t, self.deviation)
        sigma = torch.hypot(noise, alpha * s)
        return Widened(t, alpha, sigma, d_alpha, (product + alpha * d_alpha * s**2) / sigma, noise, s)

    def _at(self, t: Tensor) -> tuple[Tensor, ...]:
        """alpha, sigma, alpha' and sigma sigma' of the path itself, t < 1."""
        return _with_product(*(self._checked(value, t) for value in self._values(t)))

    def time_of_snr(self, snr: float | Tensor) -> Tensor:
        """The time at which alpha^2/(sigma^2 + alpha^2 s^2) equals snr; infinite where the path ends before."""
        inverse = 1 / _float64(snr) - self.deviation**2
        found = self.time(1 / inverse.clamp_min(torch.finfo(torch.float64).tiny))
        return torch.where(inverse > 0, found, math.inf)


def _with_product(alpha: Tensor, sigma: Tensor, d_alpha: Tensor, d_sigma: Tensor) -> tuple[Tensor, ...]:
    return alpha, sigma, d_alpha, sigma * d_sigma


def widen(path: Path, deviation: float) -> WidenedPath:
    """The path on which points m have the posterior and the velocity of Gaussians N(m, s^2 I) on the path itself."""
    return WidenedPath(path.name, path.formula, path.time, deviation)


def _float64(value: float | Tensor) -> Tensor:
    """A number as float64 on the CPU, whatever the default device; a tensor as float64 where it is."""
    return torch.as_tensor(value, dtype=torch.float64, device=value.device if isinstance(value, Tensor) else "cpu")


def _linear(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return t, 1 - t, torch.ones_like(t), -torch.ones_like(t)


def _linear_time(snr: Tensor) -> Tensor:
    return snr.sqrt() / (1 + snr.sqrt())


def _cosine(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    angle, rate = t * (math.pi / 2), math.pi / 2
    sigma = torch.sin((1 - t) * rate)  # = cos(angle), without its cancellation near t = 1
    return torch.sin(angle), sigma, rate * sigma, -rate * torch.sin(angle)


def _cosine_time(snr: Tensor) -> Tensor:
    return torch.atan(snr.sqrt()) * (2 / math.pi)


BETA_MIN, BETA_MAX = 0.1, 20.0  # of the VP path, as SiT has them (arXiv 2401.08740)


def _vp(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    # r = 1 - t, T = r^2 (b_max - b_min)/2 + r b_min, alpha = exp(-T/2), sigma = sqrt(1 - exp(-T))
    r = 1 - t
    T = r * (r * (BETA_MAX - BETA_MIN) / 2 + BETA_MIN)
    d_T = -(r * (BETA_MAX - BETA_MIN) + BETA_MIN)
    alpha, sigma = torch.exp(-T / 2), torch.sqrt(-torch.expm1(-T))
    return alpha, sigma, -d_T * alpha / 2, d_T * torch.exp(-T) / (2 * sigma)


def _vp_time(snr: Tensor) -> Tensor:
    T = torch.log1p(1 / snr)  # exp(-T) = snr / (1 + snr)
    slope = (BETA_MAX - BETA_MIN) / 2
    b = BETA_MIN / T
    return 1 - 2 / (b + torch.sqrt(b**2 + 4 * slope / T))  # the root of slope r^2 + b_min r = T; -inf where snr = 0


SIGMA_MAX, SIGMA_MIN = 80.0, 0.002  # of the VE path, EDM's range (arXiv 2206.00364)


def _ve(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rate = math.log(SIGMA_MIN / SIGMA_MAX)
    sigma = SIGMA_MAX * torch.exp(rate * t)
    return torch.ones_like(t), sigma, torch.zeros_like(t), rate * sigma


def _ve_time(snr: Tensor) -> Tensor:
    return (-0.5 * torch.log(snr) - math.log(SIGMA_MAX)) / math.log(SIGMA_MIN / SIGMA_MAX)


linear = Path("linear", _linear, _linear_time)
cosine = Path("cosine", _cosine, _cosine_time)
vp = Path("vp", _vp, _vp_time)
ve = Path("ve", _ve, _ve_time)
PATHS: dict[str, Path] = {path.name: path for path in (linear, cosine, vp, ve)}


def even_levels(high: float = SIGMA_MAX) -> Path:
    """The path on which EDM's samplers are exact: alpha = 1 and sigma = high (1 - t).

    Its solvers step in the noise level, so that steps in t are theirs; on another path Heun's step between the same
    levels is another one.

    Args:
        high: the noise level at t = 0.

    Raises:
        InputError: it is no finite number above 0.

    Example:
        >>> from flowscope.paths import even_levels
        >>> even_levels()(0.75).sigma.item()
        20.0
    """
    if isinstance(high, bool) or not isinstance(high, (int, float)) or not 0 < high < math.inf:
        raise InputError(f"high is {high!r}; expected a noise level above 0, such as 80")

    def formula(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return torch.ones_like(t), high * (1 - t), torch.zeros_like(t), torch.full_like(t, -high)

    return Path(f"even levels from {high:g}", formula, lambda snr: 1 - snr**-0.5 / high)


def get_path(path: str | Path) -> Path:
    """A path by name, or the one given.

    Raises:
        InputError: the name is unknown.
    """
    if isinstance(path, Path):
        return path
    if not isinstance(path, str) or path not in PATHS:
        raise InputError(f"path is {path!r}; expected one of {', '.join(PATHS)}, or a flowscope.Path")
    return PATHS[path]


def convert(value: Tensor, x: Tensor, coefficients: Coefficients, source: Quantity, target: Quantity) -> Tensor:
    """Turn one prediction of a field into another, at the states x.

    Args:
        value: (B, *shape), the predicted velocity, data E[x1|x], noise E[x0|x] or score.
        x: (B, *shape), the states.
        coefficients: of the path at the states' times, scalar or (B,).
        source: what `value` is.
        target: what to return, in value's dtype.

    Raises:
        InputError: shapes differ, a quantity is unknown, or one does not determine the other at this time (noise and
            score say nothing of the data where alpha = 0).

    Example:
        >>> import torch
        >>> import flowscope as fs
        >>> from flowscope.paths import linear
        >>> x1, x0 = torch.tensor([[2.0]]), torch.tensor([[-1.0]])
        >>> x = 0.25 * x1 + 0.75 * x0
        >>> fs.convert(x1, x, linear(0.25), "data", "velocity")  # x1 - x0
        tensor([[3.]])
    """
    _check_conversion(value, x, source, target)
    if source == target:
        return value
    c = coefficients.expand(x.ndim)
    (a, b), (to_data, to_noise) = quantity_weights(c, source), quantity_weights(c, target)
    if {source, target} == {"noise", "score"}:  # the score is the noise over -sigma, whatever x is
        return (value * (to_noise / b)).to(value.dtype)
    determinant = c.alpha * b - c.sigma * a
    if bool((determinant == 0).any()):
        raise InputError(
            f"the {source} does not determine the {target} where alpha = 0 (t = 0 of this path); ask at t > 0"
        )
    data = (b * x - c.sigma * value) / determinant
    # Of the two ways to the noise, the one that does not divide by a sigma near 0 where the source allows it.
    noise = (x - c.alpha * data) / c.sigma if source == "data" else (c.alpha * value - a * x) / determinant
    return (to_data * data + to_noise * noise).to(value.dtype)


def _check_conversion(value: Tensor, x: Tensor, source: Quantity, target: Quantity) -> None:
    for word in (source, target):
        if word not in get_args(Quantity):
            raise InputError(f"quantity is {word!r}; expected one of {', '.join(get_args(Quantity))}")
    if value.shape != x.shape:
        raise InputError(
            f"the {source} has shape {tuple(value.shape)}, and x {tuple(x.shape)}; expected the same of both"
        )


def quantity_weights(c: Coefficients, quantity: Quantity) -> tuple[Tensor, Tensor]:
    """(a, b) of equation (2): the quantity is a x1_hat + b x0_hat."""
    zero, one = torch.zeros_like(c.alpha), torch.ones_like(c.alpha)
    table = {
        "data": (one, zero),
        "noise": (zero, one),
        "velocity": (c.d_alpha, c.d_sigma),
        "score": (zero, -1 / c.sigma),
    }
    if isinstance(c, Widened):  # of the mean of m, and of the widened noise
        table |= {"data": (one, c.spread_share), "noise": (zero, c.own_share)}
    return table[quantity]

r"""Samplers with noise: the SDE of the field's marginals, and DDPM's ancestral steps (docs/mathematics.md).

    sde         dx = [u + eta^2 s/2] dt + eta dW, s the score, by Euler-Maruyama                           (11)
    ancestral   x_t' ~ q(x_t' | x_t, x1), with E[x1|x_t] for x1                                            (12)

Both are first order in the step, and land on E[x1|x] where an interval ends at t = 1. The noise of a sample is its own:
it depends on the seed and on the number of the sample, not on the batch.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flowscope.errors import InputError, unknown_name
from flowscope.paths import Coefficients, Path, convert
from flowscope.sampling.noise import NoiseStream
from flowscope.sampling.solvers import Ask
from flowscope.sampling.trajectory import Method

SAMPLERS = ("ode", "sde", "ancestral")
Diffusion = Callable[[Coefficients], Tensor]  # eta^2 of the path's coefficients


def usual_diffusion(c: Coefficients) -> Tensor:
    """eta^2 = 2 sigma^2 A: 2 sigma on the linear path, as in the code of REPA; finite at t = 0 on every path."""
    return 2 * c.sigma**2 * c.A


def check_sampler(sampler: Any, solver: Any, tolerance: Any, diffusion: Any) -> None:
    """Refuse an unknown sampler, and settings that another one has.

    Raises:
        InputError: they do not go together.
    """
    if not isinstance(sampler, str) or sampler not in SAMPLERS:
        raise unknown_name("sampler", sampler, SAMPLERS)
    if diffusion is not None and (sampler != "sde" or not callable(diffusion)):
        raise InputError(
            f"diffusion is {repr(diffusion)[:60]} and the sampler {sampler!r}; expected a function of the path's "
            "coefficients, which gives eta^2, with sampler='sde'"
        )
    if sampler != "ode" and solver != "euler":
        raise InputError(
            f"solver is {solver!r} and the sampler {sampler!r}, which makes steps of its own; expected a solver with "
            "sampler='ode' alone: leave it out"
        )
    if sampler != "ode" and tolerance is not None:
        raise InputError(f"tolerance is {tolerance!r} and the sampler {sampler!r}; expected it with 'ode' alone")


def noisy_method(sampler: str, path: Path, noise: NoiseStream, diffusion: Diffusion | None = None) -> Method:
    """How "sde" or "ancestral" takes states from node to node.

    Args:
        sampler: "sde" or "ancestral".
        path: of the field.
        noise: of the rows.
        diffusion: eta^2 of the SDE; None for :func:`usual_diffusion`.
    """
    eta2 = usual_diffusion if diffusion is None else diffusion

    def advance(ask: Ask, x: Tensor, t: float, after: float, u: Tensor, tolerance: float) -> Tensor:
        now, drawn = path(t), noise.draw().to(x.device)
        if sampler == "sde":
            return sde_step(x, u, now, after - t, _checked(eta2(now), t), drawn)
        data = convert(u, x, now, "velocity", "data")
        return ancestral_step(x, data, now, path(after), drawn)

    return Method(advance)


def _checked(eta2: Any, t: float) -> Tensor:
    """eta^2, a finite number of at least 0."""
    value = torch.as_tensor(eta2, dtype=torch.float64, device="cpu")
    if value.numel() != 1 or not bool(torch.isfinite(value).all()) or float(value) < 0:
        raise InputError(f"the diffusion is {value.tolist()} at t = {t:.6g}; expected a finite number of at least 0")
    return value.reshape(())


def sde_step(x: Tensor, u: Tensor, now: Coefficients, h: float, eta2: Tensor, noise: Tensor) -> Tensor:
    """One step of Euler-Maruyama over h, from the velocity u at x."""
    score = convert(u, x, now, "velocity", "score")
    return x + h * (u + float(eta2) / 2 * score) + float(eta2 * h) ** 0.5 * noise


def ancestral_step(x: Tensor, data: Tensor, now: Coefficients, then: Coefficients, noise: Tensor) -> Tensor:
    """A draw of the state at the later time `then` given x at `now` and the data (arXiv 2006.11239, equation 7)."""
    ratio = now.alpha / then.alpha
    added = now.sigma**2 - ratio**2 * then.sigma**2  # the noise that x has beyond that of the later state
    back = then.sigma**2 / now.sigma**2
    mean = float(ratio * back) * x + float(then.alpha * added / now.sigma**2) * data
    return mean + float((back * added).clamp(min=0).sqrt()) * noise

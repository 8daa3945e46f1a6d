"""Sampling: from noise, or from given states, to the last node of a schedule."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flowscope.core.device import resolve_device
from flowscope.core.memory import check_memory
from flowscope.core.progress import Progress, with_progress
from flowscope.core.settings import check_count, check_seed, check_sizes
from flowscope.errors import InputError
from flowscope.fields import VelocityField, check_field, shape_of
from flowscope.sampling.noise import NoiseStream, draw_noise
from flowscope.sampling.schedules import DEFAULT_STEPS, make_nodes
from flowscope.sampling.solvers import get_solver
from flowscope.sampling.span import SpanRows, follow_in_span, split_rows
from flowscope.sampling.stochastic import Diffusion, check_sampler, noisy_method
from flowscope.sampling.trajectory import Method, check_start, follow, ode_method, path_of


@with_progress
def sample(
    field: VelocityField,
    x0: Tensor | None = None,
    n: int | None = None,
    shape: tuple[int, ...] | None = None,
    steps: int = DEFAULT_STEPS,
    solver: str = "euler",
    shift: float = 1.0,
    timesteps: Any = None,
    y: Any = None,
    seed: int = 0,
    *,
    sampler: str = "ode",
    tolerance: float | None = None,
    diffusion: Diffusion | None = None,
    first: int = 0,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    batch: int | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Draw samples of a field: (B, *shape) at the last node, in x0's dtype.

    An Oracle of few points for its dimension is followed in the span of its points (span.py), where that is cheaper and
    as exact. States are then not rounded to x0's dtype on the way, as those of :func:`trajectory` are.

    Args:
        field: a VelocityField. Its `path`, where it has one, says how noise and data are mixed; else it is linear.
        x0: (B, *shape) the state at the first node; or
        n: how many to draw at t = 0, sigma(0) times noise. Sample i has noise of its own, see :func:`draw_noise`.
        shape: of one sample, where the field does not know it.
        steps: how many, from t = 0 to 1.
        solver: one of SOLVERS; "dopri5" needs the extra `ode`.
        shift: s of t' = s t/(1 + (s - 1) t), which moves the nodes.
        timesteps: the increasing nodes themselves, instead of steps and shift; a last one below 1 ends there.
        y: None, a label for all, or (B,) integer labels.
        seed: of the noise.
        sampler: "ode"; "sde", by Euler-Maruyama; or "ancestral", DDPM's steps. The last two draw noise at every step.
        tolerance: absolute and relative, of an adaptive solver; None for 1e-6, or what x0's dtype allows.
        diffusion: eta^2 of the SDE, a function of the path's Coefficients at one time; None for 2 sigma^2 A, which is
            2 sigma on the linear path.
        first: number of the first sample, which its noise belongs to.
        dtype: of drawn samples; None for float32.
        device: where the samples are; None for x0's own, or the field's.
        batch: how many at a time; None for all. Samples depend on it by rounding (dopri5: its tolerance) alone.
        progress: called as progress(done, total) in steps; the total grows where rows have to be followed again. True
            for a bar of tqdm.

    Raises:
        InputError: an argument is not usable, or the field answers with another shape.
        NumericalError: the field answers with NaN or infinity, or the state leaves the range of x0's dtype.
        MissingExtraError: dopri5 is asked for without torchdiffeq.

    Example:
        >>> import torch
        >>> from flowscope import Oracle, sample
        >>> points = torch.eye(3)
        >>> found = sample(Oracle(points), n=4, steps=10)  # the oracle ends at training points
        >>> bool(torch.cdist(found, points).min(1).values.max() < 1e-6)
        True
    """
    check_field(field, "field")
    get_solver(solver)
    check_sampler(sampler, solver, tolerance, diffusion)
    nodes, start = make_nodes(steps, shift, timesteps), check_count(first, "first", least=0)
    states = _first_states(field, x0, n, shape, float(nodes[0]), seed, start, dtype, device)
    x0, labels = check_start(states, float(nodes[0]), y)
    size = max(1, len(x0)) if batch is None else check_count(batch, "batch")
    ode = ode_method(solver, field, x0.dtype, tolerance)

    def method_of(rows: Tensor) -> Method:
        if sampler == "ode":
            return ode
        noise = NoiseStream(seed, (start + rows).tolist(), tuple(x0.shape[1:]))
        return noisy_method(sampler, path_of(field), noise, diffusion)

    in_span = solver if sampler == "ode" else None
    return _Run(field, x0, labels, nodes, in_span, method_of, size, progress).run()


class _Run:
    """Samples on their way: rows of x0 are followed, in parts of at most `size`, to their ends."""

    def __init__(
        self,
        field: VelocityField,
        x0: Tensor,
        labels: Tensor | None,
        nodes: Tensor,
        solver: str | None,
        method_of: Callable[[Tensor], Method],
        size: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.field, self.x0, self.labels, self.nodes, self.solver = field, x0, labels, nodes, solver
        self.method_of, self.size, self.progress = method_of, size, progress
        self.ends = torch.empty_like(x0)
        self.done = self.total = 0

    def run(self) -> Tensor:
        """Follow all rows; (B, *shape) their ends."""
        parts, rest = split_rows(self.field, self.x0, self.labels, len(self.nodes) - 1, self.solver)
        self.plan(rest, self.size)
        for part in parts:
            self.plan(part.rows, min(self.size, part.at_once))
        for part in parts:
            self.in_span(part)
        self.step_by_step(rest)
        return self.ends

    def plan(self, rows: Tensor, size: int) -> None:
        """Count the steps that these rows take."""
        self.total += math.ceil(len(rows) / size) * (len(self.nodes) - 1)

    def tick(self) -> None:
        """Count a step that a part has made."""
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)

    def in_span(self, part: SpanRows) -> None:
        """Follow rows of one label in the span of its points, and those for which that is not exact enough again."""
        rows, size = part.rows, min(self.size, part.at_once)
        self.ends[rows], unsure = follow_in_span(part, self.x0[rows], self.nodes, str(self.solver), size, self.tick)
        self.plan(rows[unsure], self.size)
        self.step_by_step(rows[unsure])

    def step_by_step(self, rows: Tensor) -> None:
        """Follow rows by calls of the field."""
        for part in rows.split(self.size) if len(rows) else ():
            x = self.x0[part]
            label = None if self.labels is None else self.labels[part]
            for step in follow(self.field, x, self.nodes, self.method_of(part), label):
                x = step.x
                if step.index:
                    self.tick()
            self.ends[part] = x


def _first_states(
    field: VelocityField, x0: Any, n: Any, shape: Any, t: float, seed: int, first: int, dtype: Any, device: Any
) -> Any:
    """(B, *shape) x0 as given, or drawn, on the device where the samples are to be."""
    check_seed(seed)
    if x0 is None:
        x0 = _drawn(field, n, shape, t, seed, first, dtype)
        home = torch.device(getattr(field, "device", None) or "cpu")
        return x0.to(resolve_device(device if device is not None else home if home.type == "cuda" else "cpu"))
    if n is not None:
        raise InputError("x0 and n are both given; expected one: x0 for the first states, or n to draw them")
    if dtype is not None:
        raise InputError("x0 and dtype are both given; expected dtype with n alone: samples have the dtype of x0")
    if not isinstance(x0, Tensor):
        return x0
    if shape is not None and tuple(x0.shape[1:]) != check_sizes(shape):
        raise InputError(
            f"x0 has shape {tuple(x0.shape)} and shape is {shape!r}; expected (B, *shape): leave shape out"
        )
    return x0.to(resolve_device(x0.device if device is None else device))


def _drawn(field: VelocityField, n: Any, shape: Any, t: float, seed: int, first: int, dtype: Any) -> Tensor:
    """(n, *shape) states of pure noise."""
    if n is None:
        raise InputError("neither x0 nor n is given; expected the first states x0, or how many to draw: n=16")
    if t > 0:
        raise InputError(
            f"n is given and the first node is {t}, where a state holds data as well as noise; expected x0, the states "
            "at that node, or nodes from 0"
        )
    known = shape_of(field)
    wanted = known if shape is None else check_sizes(shape)
    if wanted is None:
        raise InputError("the field does not know the shape of a sample; expected it with n: shape=(3, 32, 32)")
    if known not in (None, wanted):
        raise InputError(f"shape is {shape!r} and the field's samples are {known}; expected the same: leave shape out")
    check_memory(8 * check_count(n, "n") * math.prod(wanted), f"noise for {n} samples", "draw fewer at a time")
    noise = draw_noise(n, wanted, seed, first, dtype=torch.float32 if dtype is None else dtype)
    return (float(path_of(field)(0.0).sigma) * noise.to(torch.float64)).to(noise.dtype)

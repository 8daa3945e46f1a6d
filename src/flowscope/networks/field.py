r"""NetworkField: a network of any convention as a velocity field on one of flowscope's paths.

The network was trained on its own path, with states x' = alpha' x1 + sigma' x0. For x at time t of the field's path,
the own time is the one at which sigma'/alpha' = sigma/alpha, and there

    x' = x sqrt((alpha'^2 + sigma'^2) / (alpha^2 + sigma^2))

is a state with the same data and noise. A network of other data, z = r (x1 - o), has r sigma/alpha as its noise level,
and r (x - alpha o) sqrt((alpha'^2 + sigma'^2) / (alpha^2 + r^2 sigma^2)) is its state. The prediction gives E[x1|x],
which gives the velocity on the field's path.

Where the network's schedule ends before flowscope's path (DDPM's noisiest timestep still holds a little data; EDM's
levels are 0.002 to 80), the network is asked at its last level, with x scaled to it. So sampling may begin at t = 0.
A FlowscopeWarning says so.

Timesteps are given in float32 at least: bfloat16 would make 988 of 987.5. A module of half precision that cannot take
them so is given rounded ones, which a FlowscopeWarning says.
"""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from flowscope.core.settings import check_sizes
from flowscope.errors import FlowscopeWarning, InputError
from flowscope.fields import MAX_TIME, Query, check_query, check_shape, check_velocity
from flowscope.networks.call_styles import expand_rows, first_output
from flowscope.networks.checks import check_call, check_mapping, check_module, config_shape, resolve_convention
from flowscope.networks.convention import Convention
from flowscope.networks.exact_time import call_with_exact_time
from flowscope.networks.labels import Labels, check_trained_labels, kind_of, network_labels, resolve_labels
from flowscope.paths import Coefficients, Path, convert, cosine, get_path, linear

TIME_ROUNDING = 1e-9  # of an own time before it counts as beyond the path


@dataclass(frozen=True, eq=False, repr=False)
class NetworkField:
    """A network as a VelocityField; :func:`as_field` makes it.

    Attributes:
        module: the network. It is never moved, cast, or switched between train and eval mode.
        convention: what its time, states, labels and predictions mean.
        path: the path that the field is on.
        classes: how many labels it takes; None or 0 for none.
        null: its label for no label, which y = None stands for; None where it has none.
        shape: of one state; None where any will do.
        name: what to call it in results.
        about: what is known of it, such as its training set and settings.
        extras: keyword arguments handed to the module at each call.
        labels: those below `classes` that it was trained on; None for all of them, or where that is not known.

    Example:
        >>> import torch
        >>> import flowscope as fs
        >>> field = fs.as_field(torch.nn.Identity(), "sit", shape=(2,), name="identity")
        >>> field.shape, field.path.name, field.convention.prediction
        ((2,), 'linear', 'velocity')
    """

    module: nn.Module
    convention: Convention
    path: Path
    classes: int | None
    null: int | None
    shape: tuple[int, ...] | None
    name: str
    about: dict[str, Any] = field(default_factory=dict)
    extras: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[int, ...] | None = None
    _rounds_time: list[bool] = field(default_factory=list, init=False)  # not empty: its timesteps have to be rounded

    def __repr__(self) -> str:
        return f"NetworkField({self.name!r}, convention={self.convention.name!r}, path={self.path.name!r})"

    @property
    def device(self) -> torch.device | None:
        """Where the module is; None for one without parameters and buffers."""
        reference = _first_float(self.module)
        return None if reference is None else reference.device

    @property
    def allows_end(self) -> bool:
        """Whether its velocity is defined up to t = 1: the network itself predicts it, on a path where it is finite."""
        convention = self.convention
        own = convention.prediction == "velocity" and convention.plain_data and convention.own_path() == self.path
        return own and self.path in (linear, cosine)

    def __call__(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """The velocity u(x, t, y) of the field's path, (B, *shape) in x's dtype and device.

        Args:
            x: (B, *shape), any float dtype; the module computes in its own.
            t: a number or (B,), 0 <= t < 1.
            y: None, a label, or (B,) labels from 0 to classes - 1, of those in `labels`, or `null`.

        Raises:
            InputError: an argument is not usable, or the module returned another shape.
            NumericalError: the module returned NaN or infinity.
        """
        return self._velocity(x, t, y, checked=True)

    def unchecked(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """The velocity without a look for NaN in what the module returned; see :func:`flowscope.fields.unchecked`."""
        return self._velocity(x, t, y, checked=False)

    def _velocity(self, x: Tensor, t: float | Tensor, y: Any, checked: bool) -> Tensor:
        query = check_query(_visible(x), t, y, self._shape_of(x))
        times = t.to(query.t) if isinstance(t, Tensor) else query.t  # a tensor of times keeps its gradient
        here = self.path(times.expand(len(x)))
        own = self._own_coefficients(here)
        if own is here and self.convention.prediction == "velocity" and self.convention.plain_data:
            return self.convention.sign * self._predict(x, here, query, checked)
        wide = x.to(torch.float32 if x.device.type == "mps" else torch.float64)  # mps has no float64
        here, own = (_cast(c, wide) for c in (here, own))
        state = self.convention.state(wide, here, own)
        data = self.convention.data(self._predict(state, own, query, checked), state, own)
        return convert(data, wide, here, "data", "velocity").to(x.dtype)

    def _shape_of(self, x: Any) -> tuple[int, ...]:
        """The shape that one state must have; where any will do, the one it has."""
        return self.shape if self.shape is not None else tuple(getattr(x, "shape", ())[1:])

    def _own_coefficients(self, here: Coefficients) -> Coefficients:
        """The network's own path at the signal-to-noise ratios of the field's path, or at the nearest that it has."""
        own, scale = self.convention.own_path(), self.convention.data_scale
        if own == self.path and scale == 1:
            return here
        times = own.time_of_snr(here.snr / scale**2)
        if bool(((times < -TIME_ROUNDING) | (times > 1 + TIME_ROUNDING)).any()):
            self._warn_of_levels(own)
        return own(times.clamp(0, MAX_TIME))

    def _warn_of_levels(self, own: Path) -> None:
        ends = own(torch.tensor([MAX_TIME, 0.0], dtype=torch.float64, device="cpu"))
        low, high = (ends.sigma / ends.alpha).tolist()
        warnings.warn(
            f"{self.name} knows noise levels sigma/alpha from {low:.4g} to {high:.4g} and is wanted beyond them: there "
            "it is asked at the nearest level, with x scaled to it",
            FlowscopeWarning,
            stacklevel=2,
        )

    def _predict(self, state: Tensor, own: Coefficients, query: Query, checked: bool) -> Tensor:
        """The network's prediction for states of its own path, in state's dtype and device."""
        reference = _first_float(self.module)
        dtype, device = (state.dtype, state.device) if reference is None else (reference.dtype, reference.device)
        known = Labels(self.classes, self.null)
        labels = network_labels(known, query.y, len(state), device, self.name, self.labels)
        given, timestep = state.to(device, dtype), self.convention.timestep(own)
        extras = expand_rows(self.extras, given)

        def call(time_dtype: torch.dtype) -> Any:
            times = timestep.to(device, time_dtype)
            return first_output(self.convention.call(self.module, given, times, labels, extras))

        found = call_with_exact_time(call, dtype, self.name, self._rounds_time)
        if self.convention.variance and isinstance(found, Tensor) and found.ndim > 1:
            found = found[:, : state.shape[1]]
        check_shape(found, state, self.name)
        if checked and not _is_hidden(state) and not _is_hidden(found):
            check_velocity(found, state, self.name, query.t)
        return found.to(state.device, state.dtype)


def as_field(
    module: nn.Module,
    convention: str | Convention,
    *,
    path: str | Path = "linear",
    classes: int | None = None,
    null: int | None = None,
    shape: tuple[int, ...] | None = None,
    scheduler: Any = None,
    extras: Mapping[str, Any] | None = None,
    name: str | None = None,
    about: Mapping[str, Any] | None = None,
    labels: Iterable[int] | None = None,
) -> NetworkField:
    """Make a velocity field of any network.

    Args:
        module: any nn.Module, on any device and in any dtype.
        convention: a name in CONVENTIONS; a Convention; or "diffusers", which reads it from a diffusers model and its
            scheduler. A module with neither config nor scheduler is then taken for one of diffusers' flow-matching
            models: it predicts x0 - x1 and is given 1000 (1 - t).
        path: the path of the field, as for an Oracle. The network's own path may be another.
        classes: the number of labels; None for what the module says itself.
        null: the label that stands for none; None for what the module or the convention says.
        shape: of one state; None for what the module's config says, else any.
        scheduler: with "diffusers", the scheduler the model was trained with, such as pipeline.scheduler.
        extras: keyword arguments for each call of the module, such as the text embeddings of SD3 and FLUX.
        name: what to call the field in results; None for the module's class.
        about: what is known of the network.
        labels: those that it was trained on, where some from 0 to classes - 1 are missing; others are refused.

    Raises:
        InputError: the module is not one, the convention is unknown, or something that it needs is missing.

    Example:
        >>> import torch
        >>> import flowscope as fs
        >>> class Shrink(torch.nn.Module):
        ...     def forward(self, x, t):
        ...         return -x
        >>> field = fs.as_field(Shrink(), "flow_matching")
        >>> field
        NetworkField('Shrink', convention='flow_matching', path='linear')
        >>> field(torch.ones(1, 2), 0.5).tolist()
        [[-1.0, -1.0]]
    """
    if isinstance(module, NetworkField):
        raise InputError("the network is a field already; expected an nn.Module: use the field as it is")
    check_module(module)
    found = resolve_convention(module, convention, scheduler)
    known = resolve_labels(module, found.last_is_null, classes, null)
    trained = check_trained_labels(labels, known.classes)
    arguments = check_mapping(extras, "extras")
    check_call(module, found, known, arguments)
    return NetworkField(
        module,
        found,
        get_path(path),
        *known,
        config_shape(module) if shape is None else check_sizes(shape),
        str(name or kind_of(module)),
        check_mapping(about, "about"),
        arguments,
        trained,
    )


def _first_float(module: nn.Module) -> Tensor | None:
    """The first floating-point parameter or buffer, whose dtype and device are the module's; None without any."""
    return next((v for v in chain(module.parameters(), module.buffers()) if v.is_floating_point()), None)


def _cast(c: Coefficients, x: Tensor) -> Coefficients:
    return Coefficients(*(v.to(x.device, x.dtype) for v in vars(c).values()))


def _is_hidden(x: Any) -> bool:
    """Whether vmap hides the values of x."""
    if not isinstance(x, Tensor):
        return False
    try:
        bool(x.flatten()[:0].any())
    except RuntimeError:
        return True
    return False


def _visible(x: Any) -> Any:
    """x itself, or zeros of its kind where vmap hides its values, so that everything else can be checked."""
    return torch.zeros(x.shape, dtype=x.dtype, device=x.device) if _is_hidden(x) else x

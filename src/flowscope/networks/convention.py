"""Convention: what a network's time, states, labels and predictions mean; CONVENTIONS are the ready ones by name.

A network has its own path and its own clock: the noise schedule it was trained on, which way its time runs and in what
units. A state of one path is, up to a factor, a state of another where sigma/alpha is the same.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from flowscope.errors import InputError, unknown_name
from flowscope.networks.call_styles import (
    TEXT_EMBEDDINGS,
    Call,
    call_by_name,
    call_flux,
    call_labels_by_name,
    call_one_hot,
    call_state_first,
    call_time_first,
)
from flowscope.networks.tabulated_path import linear_betas
from flowscope.paths import Coefficients, Path, convert, get_path

Prediction = Literal["velocity", "data", "noise", "score", "v"]
Clock = Literal["time", "sigma", "log_sigma"]


@dataclass(frozen=True)
class Convention:
    """What a network's time, states, labels and predictions mean.

    Attributes:
        name: what users call it.
        prediction: what the network returns: the "velocity" by t of its own path, the "data", the "noise", the "score",
            or "v" = alpha noise - sigma data (arXiv 2202.00512), which diffusers calls v_prediction.
        sign: factor on what it returns; -1 for a velocity that points from data to noise, x0 - x1.
        path: the path it was trained on, with t = 0 for noise whichever way its own time runs; "ddpm" is that of DDPM's
            linear betas.
        reverse: whether its own time is 1 - t.
        scale: the factor from its own time to the timestep that it is given.
        clock: what its own time is: "time"; "sigma", the noise level sigma/alpha; or "log_sigma", that level's
            logarithm, which EDM's networks are given times a quarter.
        call: how the module is called; see flowscope.networks.call_styles.
        last_is_null: whether the label after the last class (`classes`) stands for no label.
        variance: whether a second half of the channels, a learned variance, is dropped.
        needs: names of the keyword arguments without which the module cannot be called.
        data_scale, data_offset: of the data that the network knows, data_scale (x1 - data_offset) for the data x1 of
            the field: 1/127.5 and 127.5 for a network of [-1, 1] beside data of [0, 255].
        clip: the largest size of the network's predicted data, to which they are clipped; None does not clip. DDPM of
            diffusers does so with `clip_sample`, DDIM with `use_clipped_model_output`, too.

    Raises:
        InputError: an attribute is not one of these.

    Example:
        >>> import torch
        >>> from flowscope.networks import Convention, as_field
        >>> class Denoiser(torch.nn.Module):
        ...     def forward(self, x, timestep):
        ...         return torch.zeros_like(x)
        >>> convention = Convention("denoiser", "data", path="cosine", reverse=True, scale=1000.0)
        >>> field = as_field(Denoiser(), convention, path="linear")
        >>> field(torch.ones(1, 2), 0.5).tolist()  # from x to the data 0 in the half of time that is left
        [[-2.0, -2.0]]
    """

    name: str
    prediction: Prediction = "velocity"
    sign: float = 1.0
    path: str | Path = "linear"
    reverse: bool = False
    scale: float = 1.0
    clock: Clock = "time"
    call: Call = call_state_first
    last_is_null: bool = False
    variance: bool = False
    needs: tuple[str, ...] = ()
    data_scale: float = 1.0
    data_offset: float = 0.0
    clip: float | None = None

    def __post_init__(self) -> None:
        for value, words, what in (
            (self.prediction, get_args(Prediction), "prediction"),
            (self.clock, get_args(Clock), "clock"),
        ):
            if value not in words:
                raise unknown_name(what, value, words)
        if self.sign not in (1, -1):
            raise InputError(f"sign is {self.sign!r}; expected 1, or -1 for a network that predicts the opposite")
        if not _is_size(self.scale):
            raise InputError(f"scale is {self.scale!r}; expected a number above 0, such as 1 or 1000")
        if not _is_size(self.data_scale):
            raise InputError(f"data_scale is {self.data_scale!r}; expected a number above 0: 1 leaves the data alone")
        if not _is_number(self.data_offset):
            raise InputError(f"data_offset is {self.data_offset!r}; expected a finite number: 0 leaves the data alone")
        if self.clip is not None and not _is_size(self.clip):
            raise InputError(f"clip is {self.clip!r}; expected None, or a number above 0 such as 1")
        if not callable(self.call):
            raise InputError(f"call is a {type(self.call).__name__}; expected call(module, x, timestep, y, extras)")
        if self.path != "ddpm":
            get_path(self.path)

    def own_path(self) -> Path:
        """The path the network was trained on."""
        return linear_betas() if self.path == "ddpm" else get_path(self.path)

    def timestep(self, own: Coefficients) -> Tensor:
        """The timestep (B,) that the network is given, from the coefficients of its own path."""
        if self.clock != "time":
            level = own.sigma / own.alpha
            return self.scale * (level if self.clock == "sigma" else level.log())
        return self.scale * (1 - own.t if self.reverse else own.t)

    @property
    def plain_data(self) -> bool:
        """Whether the network's data are the field's, and not clipped."""
        return (self.data_scale, self.data_offset, self.clip) == (1, 0, None)

    def state(self, x: Tensor, here: Coefficients, own: Coefficients) -> Tensor:
        """The network's states for states x (B, *shape) of the path `here`, of equal ratio of its data and noise."""
        c, d = here.expand(x.ndim), own.expand(x.ndim)
        size = (c.alpha.square() + (self.data_scale * c.sigma).square()).sqrt()
        centred = x - c.alpha * self.data_offset if self.data_offset else x
        return centred * (self.data_scale * (d.alpha.square() + d.sigma.square()).sqrt() / size)

    def data(self, value: Tensor, x: Tensor, own: Coefficients) -> Tensor:
        """E[x1|x] of the field's data from what the network returned for states x (B, *shape) of its own path."""
        value = self.sign * value
        if self.prediction != "v":
            value = convert(value, x, own, self.prediction, "data")
        else:
            c = own.expand(x.ndim)
            value = (c.alpha * x - c.sigma * value) / (c.alpha**2 + c.sigma**2)
        if self.clip is not None:
            value = value.clamp(-self.clip, self.clip)
        return value if self.plain_data else value / self.data_scale + self.data_offset


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_size(value: Any) -> bool:
    return _is_number(value) and value > 0


_TO_NOISE: dict[str, Any] = {"sign": -1.0, "reverse": True}  # time 1 - t, and a velocity that points to the noise

CONVENTIONS = {
    convention.name: convention
    for convention in (
        Convention("flowscope", scale=1000.0, last_is_null=True),
        Convention("sit", last_is_null=True),  # arXiv 2401.08740
        Convention("lightningdit", last_is_null=True),  # arXiv 2501.01423
        Convention(
            "dit", "noise", path="ddpm", reverse=True, scale=999.0, last_is_null=True, variance=True
        ),  # 2212.09748
        Convention("repa", **_TO_NOISE, last_is_null=True),  # arXiv 2410.06940
        Convention("flow_matching", call=call_labels_by_name),  # arXiv 2412.06264
        Convention("torchcfm", call=call_time_first),  # arXiv 2302.00482
        Convention("edm", "data", path="ve", clock="sigma", call=call_one_hot, last_is_null=True),  # arXiv 2206.00364
        Convention("sd3", **_TO_NOISE, scale=1000.0, call=call_by_name, needs=TEXT_EMBEDDINGS),  # arXiv 2403.03206
        Convention("flux", **_TO_NOISE, call=call_flux, needs=TEXT_EMBEDDINGS),  # itself multiplies its time by 1000
    )
}
CONVENTION_NAMES = (*CONVENTIONS, "diffusers")  # the last is read from a module and its scheduler

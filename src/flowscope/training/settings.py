"""TrainSettings: everything that decides what is trained and how, checked when it is made."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from flowscope.core.settings import check_count, check_seed
from flowscope.errors import InputError, unknown_name
from flowscope.fields import check_interval
from flowscope.networks.architectures import MODELS, check_width
from flowscope.paths import get_path
from flowscope.training.densities import DENSITIES, check_density, check_number

TARGETS = ("cfm", "oracle", "stf")
SCHEDULES = ("constant", "cosine")
PRECISIONS = ("no", "bf16")
LEARNING_RATES = {"unet": 2e-3, "mlp": 1e-3}  # where none is given; ...
DIT_LEARNING_RATE = 1e-4  # ... arXiv 2212.09748


@dataclass(frozen=True)
class TrainSettings:
    """How a network is trained.

    Attributes:
        model: "unet", "dit-s", "dit-b", "dit-xl" for images (C, H, W); "mlp" for any points.
        steps: updates of the weights.
        batch: points an update.
        learning_rate: AdamW's, at its largest; None for what suits the model, which takes its place.
        schedule: "constant" or "cosine" (to 0 at the last step), both after the warm-up.
        warmup: steps over which the learning rate rises from 0.
        target: "cfm" u = alpha' x1 + sigma' x0; "oracle" u*(x_t, t, y) over the whole set; "stf" the stable target
            field (arXiv 2302.00670), u* over a random part of the set that holds the point itself.
        stf_reference: points of that part.
        density: of the timesteps: "uniform", "logit-normal" (0, 1), "shifted" (a uniform t through `shift`), "staged"
            (a share `navigation` of the draws below `boundary`, uniform on either side).
        shift: s of t' = s t / (1 + (s - 1) t), applied to what the density draws; 1 is none, below 1 means more noise.
        navigation: a share in (0, 1), for "staged".
        boundary: a time in (0, 1), for "staged".
        interval: (lo, hi), the part of time that is trained: an expert for it.
        path: "linear", "cosine", "vp" or "ve".
        label_dropout: share of labels replaced by the null label, in [0, 1]; without effect where there are no labels.
        ema: decay of the averaged weights in [0, 1); lower in the first steps (see :mod:`flowscope.training.ema`).
        grad_clip: largest norm of the gradient.
        weight_decay: AdamW's.
        width: channels, see :func:`flowscope.networks.architectures.build_network`; None for what suits the shape.
        precision: "no" (float32) or "bf16", accelerate's mixed precision.
        compile: hand the network to torch.compile.
        seed: of the weights and of everything drawn.
        checkpoint_every: steps between two checkpoints.
        snapshots: how many sets of averaged weights are kept on the way, each at twice the step of the one before.

    Raises:
        InputError: a value is not usable.
    """

    model: str = "unet"
    steps: int = 2000
    batch: int = 64
    learning_rate: float | None = None
    schedule: str = "constant"
    warmup: int = 100
    target: str = "cfm"
    stf_reference: int = 1024
    density: str = "uniform"
    shift: float = 1.0
    navigation: float = 0.5
    boundary: float = 0.2
    interval: tuple[float, float] = (0.0, 1.0)
    path: str = "linear"
    label_dropout: float = 0.1
    ema: float = 0.999
    grad_clip: float = 1.0
    weight_decay: float = 0.0
    width: int | None = None
    precision: str = "no"
    compile: bool = False
    seed: int = 0
    checkpoint_every: int = 500
    snapshots: int = 0

    def __post_init__(self) -> None:
        for name, choices in (
            ("model", MODELS),
            ("schedule", SCHEDULES),
            ("target", TARGETS),
            ("density", DENSITIES),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in choices:
                raise unknown_name(name, getattr(self, name), choices)
        object.__setattr__(self, "learning_rate", self.peak_learning_rate)
        for name in ("steps", "batch", "stf_reference", "checkpoint_every"):
            check_count(getattr(self, name), name)
        for name in ("warmup", "snapshots"):
            if getattr(self, name) != 0:
                check_count(getattr(self, name), name)
        check_seed(self.seed)
        check_width(self.width)
        get_path(self.path)
        low, high = check_interval(self.interval)
        if low == high:
            raise InputError(f"interval is ({low}, {high}), which is empty; expected 0 <= lo < hi <= 1")
        object.__setattr__(self, "interval", (low, high))
        for name, least, most, closed in (
            ("learning_rate", 0.0, math.inf, False),
            ("grad_clip", 0.0, math.inf, False),
            ("weight_decay", 0.0, math.inf, True),
            ("label_dropout", 0.0, 1.0, True),
            ("ema", 0.0, 1.0, True),
        ):
            check_number(getattr(self, name), name, least, most, closed)
        if self.ema == 1:
            raise InputError("ema is 1, which never learns; expected a decay in [0, 1) such as 0.999")
        check_density(self)
        if self.density != "staged":
            for name in ("navigation", "boundary"):
                if getattr(self, name) != getattr(TrainSettings, name):
                    raise InputError(
                        f"{name} is {getattr(self, name)} and density is {self.density!r}, which has none; expected "
                        f"density 'staged' with it: leave the {name} out, or change the density"
                    )

    @property
    def peak_learning_rate(self) -> float:
        """`learning_rate`, or what suits the model."""
        if self.learning_rate is not None:
            return self.learning_rate
        return LEARNING_RATES.get(self.model, DIT_LEARNING_RATE)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON has them."""
        return {**dataclasses.asdict(self), "interval": list(self.interval)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainSettings":
        """The settings that :meth:`to_dict` wrote."""
        return cls(**{**values, "interval": tuple(values["interval"])})

"""TrainSettings: everything that decides what is trained and how, checked when the settings are made."""

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
LEARNING_RATES = {"unet": 2e-3, "mlp": 1e-3}  # defaults
DIT_LEARNING_RATE = 1e-4  # default of the DiTs, arXiv 2212.09748

CHOICES = {"model": MODELS, "schedule": SCHEDULES, "target": TARGETS, "density": DENSITIES, "precision": PRECISIONS}
MIN_COUNTS = {"steps": 1, "batch": 1, "stf_reference": 1, "checkpoint_every": 1, "warmup": 0, "snapshots": 0}
BOUNDS = {  # least, most, whether they are allowed themselves
    "learning_rate": (0.0, math.inf, False),
    "grad_clip": (0.0, math.inf, False),
    "weight_decay": (0.0, math.inf, True),
    "label_dropout": (0.0, 1.0, True),
    "ema": (0.0, 1.0, True),
}


@dataclass(frozen=True)
class TrainSettings:
    """What is trained and how.

    Attributes:
        model: "unet", "dit-s", "dit-b", "dit-xl" for images (C, H, W); "mlp" for any points.
        steps: updates of the weights.
        batch: points of an update.
        learning_rate: AdamW's, at its largest; None is replaced by what suits the model.
        schedule: "constant" or "cosine" (to 0 at the last step), both after the warm-up.
        warmup: steps over which the learning rate rises from 0.
        target: "cfm" u = alpha' x1 + sigma' x0; "oracle" u*(x_t, t, y) over the whole set; "stf" the stable target
            field (arXiv 2302.00670), u* over a random part of the set that holds the point itself.
        stf_reference: points of that part.
        density: of the timesteps: "uniform", "logit-normal" (0, 1), "shifted" (a uniform t through `shift`), "staged"
            (a share `navigation` of the draws below `boundary`, uniform on either side).
        shift: s of t' = s t / (1 + (s - 1) t), which maps the drawn t; 1 is none, below 1 means more noise.
        navigation: a share in (0, 1), for "staged".
        boundary: a time in (0, 1), for "staged".
        interval: (lo, hi), the part of time that is trained; less than (0, 1) makes an expert.
        path: "linear", "cosine", "vp" or "ve".
        label_dropout: share of labels replaced by the null label, in [0, 1]; without effect where there are no labels.
        ema: decay of the averaged weights in [0, 1); lower in the first steps (see :mod:`flowscope.training.ema`).
        grad_clip: largest norm of the gradient.
        weight_decay: AdamW's.
        width: channels, see :func:`flowscope.networks.architectures.build_network`; None for what suits the shape.
        precision: "no" (float32) or "bf16", accelerate's mixed precision.
        compile: whether torch.compile compiles the network.
        seed: of the weights and of every draw.
        checkpoint_every: steps between two checkpoints.
        snapshots: how many sets of averaged weights are kept, each at twice the step of the one before.

    Raises:
        InputError: a value is not usable.

    Example:
        >>> from flowscope.training import TrainSettings
        >>> settings = TrainSettings(model="dit-s", steps=5000, density="staged", boundary=0.3)
        >>> settings.learning_rate, settings.interval
        (0.0001, (0.0, 1.0))
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
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise unknown_name(name, getattr(self, name), choices)
        object.__setattr__(self, "learning_rate", self.peak_learning_rate)
        for name, least in MIN_COUNTS.items():
            check_count(getattr(self, name), name, least)
        check_seed(self.seed)
        check_width(self.width)
        get_path(self.path)
        low, high = check_interval(self.interval)
        if low == high:
            raise InputError(f"interval is ({low}, {high}), which is empty; expected 0 <= lo < hi <= 1")
        object.__setattr__(self, "interval", (low, high))
        for name, bounds in BOUNDS.items():
            check_number(getattr(self, name), name, *bounds)
        if self.ema == 1:
            raise InputError("ema is 1, which never learns; expected a decay in [0, 1) such as 0.999")
        check_density(self)
        for name in ("navigation", "boundary"):
            if self.density != "staged" and getattr(self, name) != getattr(TrainSettings, name):
                raise InputError(
                    f"{name} is {getattr(self, name)} and density is {self.density!r}, which has none; expected "
                    f"density 'staged' with it: leave the {name} out, or change the density"
                )

    @property
    def peak_learning_rate(self) -> float:
        """The largest learning rate: `learning_rate`, or what suits the model."""
        if self.learning_rate is not None:
            return self.learning_rate
        return LEARNING_RATES.get(self.model, DIT_LEARNING_RATE)

    def to_dict(self) -> dict[str, Any]:
        """The settings as a dictionary for JSON."""
        return {**dataclasses.asdict(self), "interval": list(self.interval)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainSettings":
        """The settings of a dictionary that :meth:`to_dict` made."""
        return cls(**{**values, "interval": tuple(values["interval"])})

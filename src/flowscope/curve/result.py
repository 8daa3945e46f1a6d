"""StageCurve: the result of `stages`, with its errors, its provenance and its forms on disk."""

import csv
import dataclasses
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowscope.core.files import write_files
from flowscope.core.serialize import SCHEMA, csv_text, json_text, number, to_jsonable
from flowscope.curve.crossing import Crossing
from flowscope.errors import InputError

FILES = CSV_NAME, JSON_NAME = "stages.csv", "stages.json"
PAGE_FILES = ("index.html", "stages.png", "stages.svg", *FILES)  # of a curve with its page
AGREES_WITHIN = 4  # standard errors: rare probes give those of the self-check a long tail
ROUNDING_NATS = 1e-9  # that exact numbers may differ by


class Information(NamedTuple):
    """The self-check: 1/2 the integral of mmse over snr, from snr(0) up, must be the entropy of the weights.

    Attributes:
        integral: the information integral, in nats.
        integral_error: its standard error.
        log_n: the entropy in nats, log N for N distinct, equally likely points; less what x at t = 0 already tells, on
            paths with snr(0) > 0.
        log_n_error: its standard error, 0 on the other paths.
    """

    integral: float
    integral_error: float
    log_n: float
    log_n_error: float

    @property
    def error(self) -> float:
        """The standard error of the difference of the two."""
        return math.hypot(self.integral_error, self.log_n_error)

    @property
    def agrees(self) -> bool | None:
        """Whether the two agree within AGREES_WITHIN standard errors; None where that cannot be said."""
        apart = abs(self.integral - self.log_n)
        return None if math.isnan(apart + self.error) else apart <= max(AGREES_WITHIN * self.error, ROUNDING_NATS)


class LossFloor(NamedTuple):
    """The conditional flow-matching loss (mean over coordinates, t uniform on [0, 1)) that no network can beat."""

    value: float
    error: float


class ClassStages(NamedTuple):
    """One class of a conditional curve.

    Attributes:
        label: of the class.
        name: of the class.
        points: how many distinct points it has.
        half, saturation, predicted: as in StageCurve.
        top1, gap: (T,) as in StageCurve.
    """

    label: int
    name: str
    points: int
    half: Crossing
    saturation: Crossing
    predicted: float
    top1: np.ndarray
    gap: np.ndarray


@dataclass(frozen=True, eq=False)
class StageCurve:
    """What flow matching asks for along t; all arrays (T,) float64 numpy, means over probes, `*_error` standard errors.

    Attributes:
        t: the timesteps.
        log_snr: log (alpha/sigma)^2 there.
        gap: E|u* - u_cond|^2 / D, mean over coordinates: the loss floor at t. By the pair form of the trace.
        top1: mean weight of the heaviest training point.
        margin: that less the weight of the second.
        entropy: of the posterior, in nats.
        effective_size: 1 / sum gamma^2.
        total_variance: tr Cov(x1|x_t), a sum over coordinates.
        divergence: of u*, a sum over coordinates.
        half: where the mean top-1 weight crosses 0.5, with a 95 % bootstrap interval over probes.
        saturation: where it crosses 0.99.
        predicted: t_half predicted from the spectrum in clusters.
        predicted_plain: t_half predicted from the plain spectrum.
        information: the self-check.
        loss_floor: the gap's mean over t.
        conditional: whether the posterior is that within the source's class.
        per_class: one entry a class where conditional, else None.
        notes: plain sentences on whatever is undefined or approximate.
        training_set, settings, provenance: what the numbers are of and how they came about.

    Example:
        >>> import tempfile, torch
        >>> from flowscope import StageCurve, stages
        >>> curve = stages(torch.eye(20), timesteps=3, probes=16)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     curve.save(folder)
        ...     StageCurve.load(folder).half == curve.half
        True
        >>> sorted(curve.to_files())
        ['stages.csv', 'stages.json']
    """

    t: np.ndarray
    log_snr: np.ndarray
    gap: np.ndarray
    gap_error: np.ndarray
    top1: np.ndarray
    top1_error: np.ndarray
    margin: np.ndarray
    margin_error: np.ndarray
    entropy: np.ndarray
    entropy_error: np.ndarray
    effective_size: np.ndarray
    effective_size_error: np.ndarray
    total_variance: np.ndarray
    total_variance_error: np.ndarray
    divergence: np.ndarray
    divergence_error: np.ndarray
    half: Crossing
    saturation: Crossing
    predicted: float
    predicted_plain: float
    information: Information
    loss_floor: LossFloor
    conditional: bool
    per_class: tuple[ClassStages, ...] | None
    notes: tuple[str, ...]
    training_set: dict[str, Any]
    settings: dict[str, Any]
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        for name in array_names():
            getattr(self, name).setflags(write=False)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and dictionaries; NaN and infinity as None."""
        return {"schema": SCHEMA} | {f.name: to_jsonable(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def to_files(self) -> dict[str, str]:
        """stages.csv (the arrays) and stages.json (all the rest), by name."""
        arrays = {name: getattr(self, name).tolist() for name in array_names()}
        rest = {key: value for key, value in self.to_dict().items() if key not in arrays}
        return {CSV_NAME: csv_text(arrays), JSON_NAME: json_text(rest)}

    def save(self, directory: str | Path) -> None:
        """Write `to_files` into a folder, whole or not at all.

        Raises:
            OutputError: the folder cannot be written.
        """
        write_files(directory, self.to_files())

    @classmethod
    def load(cls, directory: str | Path) -> "StageCurve":
        """Read what `save` wrote.

        Raises:
            InputError: the files are missing, broken or of another schema.
        """
        try:
            rest = json.loads((Path(directory) / JSON_NAME).read_text(encoding="utf-8"))
            rows = list(csv.reader(io.StringIO((Path(directory) / CSV_NAME).read_text(encoding="utf-8"))))
            if rest.pop("schema") != SCHEMA:
                raise ValueError(f"expected schema {SCHEMA}")
            arrays: dict[str, Any] = {
                name: np.array([float(v) for v in column]) for name, *column in zip(*rows, strict=True)
            }
            classes = rest.pop("per_class")
            read: dict[str, Any] = {name: number(rest.pop(name)) for name in ("predicted", "predicted_plain")}
            read |= {name: kind(*map(number, rest.pop(name))) for name, kind in _TUPLES.items()}
            read["per_class"] = None if classes is None else tuple(map(_read_class, classes))
            return cls(**arrays, **read, notes=tuple(rest.pop("notes")), **rest)
        except FileNotFoundError as error:
            raise InputError(f"{error.filename} is missing; expected a folder that StageCurve.save wrote") from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{JSON_NAME} or {CSV_NAME} in {directory} cannot be read as a stage curve ({error})"
            ) from None

    def plot(self) -> Any:
        """The curve as a matplotlib Figure."""
        from flowscope.figures import stage_figure

        return stage_figure(self)

    def _repr_html_(self) -> str:
        """The figure, for notebooks."""
        from flowscope.figures import html_image

        return html_image(self.plot(), f"The two-stage curve of {self.training_set['name']}")


_TUPLES = {"half": Crossing, "saturation": Crossing, "information": Information, "loss_floor": LossFloor}


def array_names() -> list[str]:
    """The names of the curve's arrays, in order."""
    return [f.name for f in dataclasses.fields(StageCurve) if f.type is np.ndarray]


def _read_class(entry: dict[str, Any]) -> ClassStages:
    crossings = {name: Crossing(*map(number, entry[name])) for name in ("half", "saturation")}
    arrays = {name: np.array([number(v) for v in entry[name]]) for name in ("top1", "gap")}
    return ClassStages(**{**entry, **crossings, **arrays, "predicted": number(entry["predicted"])})

"""StageCurve: the result of `stages`, with its errors, its provenance and its forms on disk."""

import csv
import dataclasses
import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NotRequired

import numpy as np
from annotated_types import Len
from typing_extensions import TypedDict

from flowscope.core.files import write_files
from flowscope.core.frames import to_frame
from flowscope.core.memory import check_memory
from flowscope.core.schema import ArrayForm, Count, Number, check_arrays, check_form, read_json
from flowscope.core.serialize import csv_text, json_text, number, to_jsonable
from flowscope.curve.crossing import Crossing
from flowscope.data.loaders.source import reading
from flowscope.errors import InputError

SCHEMA = 3  # number of the form of stages.json and stages.csv; 1 had no interval of the gap, 2 predicted half alone
FILES = CSV_NAME, JSON_NAME = "stages.csv", "stages.json"
PAGE_FILES = ("index.html", "stages.png", "stages.svg", *FILES)  # of a curve with its page
INTERVAL_COLUMNS = ("gap_low", "gap_high")  # of the CSV, which hold gap_interval
AGREES_WITHIN = 4  # standard errors: rare probes give those of the self-check a long tail
NORMAL_95 = 1.96  # standard errors to either side of a symmetric interval
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


class SelfCheck(NamedTuple):
    """The other self-check: partition sums that are known by other means.

    At r = 0 each point has its own weight, and a few probes are followed in float64 about another origin.

    Attributes:
        error: the largest error of a sum, as a share of it; 0 where it is rounding.
        limit: on that error.
    """

    error: float
    limit: float

    @property
    def agrees(self) -> bool | None:
        """Whether the error is within the limit; None where nothing was checked."""
        return None if math.isnan(self.error) else self.error <= self.limit


NOT_CHECKED = SelfCheck(math.nan, math.nan)
NO_INTERVAL = np.full((2, 1), math.nan)  # stands for the symmetric one


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
        half, saturation, predicted, predicted_saturation: as in StageCurve.
        top1, gap: (T,) as in StageCurve.
    """

    label: int
    name: str
    points: int
    half: Crossing
    saturation: Crossing
    predicted: float
    predicted_saturation: float
    top1: np.ndarray
    gap: np.ndarray


class FineGrid(NamedTuple):
    """The curve on its internal grid and the timesteps together, for figures; arrays (R,).

    Attributes:
        t: times of the path, ascending, below 0.999.
        top1, top1_error, predicted_top1: as in StageCurve.
        gap, gap_low, gap_high: as in StageCurve, with its interval; NaN where too few probes carry them.
    """

    t: np.ndarray
    top1: np.ndarray
    top1_error: np.ndarray
    predicted_top1: np.ndarray
    gap: np.ndarray
    gap_low: np.ndarray
    gap_high: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class StageCurve:
    """What flow matching asks for along t; all arrays (T,) float64 numpy, means over probes, `*_error` standard errors.

    Attributes:
        t: the timesteps.
        log_snr: log (alpha/sigma)^2 there.
        gap: E|u* - u_cond|^2 / D, mean over coordinates: the loss floor at t. By the pair form of the trace; from
            tilted probes where plain ones miss what carries it.
        top1: mean weight of the heaviest training point.
        margin: that less the weight of the second.
        entropy: of the posterior, in nats.
        effective_size: 1 / sum gamma^2.
        total_variance: tr Cov(x1|x_t), a sum over coordinates.
        divergence: of u*, a sum over coordinates.
        half: where the mean top-1 weight crosses 0.5, with a 95 % bootstrap interval over probes.
        saturation: where it crosses 0.99.
        predicted: half, predicted from the spectrum by the finite-N threshold.
        predicted_saturation: saturation, predicted so.
        predicted_top1: the mean top-1 weight, predicted so.
        predicted_plain: half, predicted where the information of the plain spectrum reaches log N: late.
        deficit: how much more than I*(N) a Gaussian of the same covariance tells at the measured half, in nats. About 0
            for Gaussian points; NaN where half is.
        information: the self-check.
        loss_floor: the gap's mean over t.
        conditional: whether the posterior is that within the source's class.
        per_class: one entry a class where conditional, else None.
        notes: plain sentences on whatever is undefined, approximate or not to be trusted.
        training_set, settings, provenance: what the numbers are of and how they came about.
        gap_interval: (2, T) the 95 % interval of the gap, which is not symmetric; the symmetric one if none is given.
        self_check: of partition sums that are known by other means.
        fine: the curve on its internal grid, for figures; None where it was not kept.
        untrusted: the times at which the 95 % intervals of "gap" and of "top1" cannot be trusted, and which
            "crossings" have one that cannot.

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
    predicted_saturation: float
    predicted_top1: np.ndarray
    predicted_plain: float
    deficit: float
    information: Information
    loss_floor: LossFloor
    conditional: bool
    per_class: tuple[ClassStages, ...] | None
    notes: tuple[str, ...]
    training_set: dict[str, Any]
    settings: dict[str, Any]
    provenance: dict[str, Any]
    gap_interval: np.ndarray = field(default_factory=lambda: NO_INTERVAL, kw_only=True)
    self_check: SelfCheck = field(default=NOT_CHECKED, kw_only=True)
    fine: FineGrid | None = field(default=None, kw_only=True)
    untrusted: dict[str, Any] = field(default_factory=lambda: {"gap": [], "top1": [], "crossings": []}, kw_only=True)

    def __post_init__(self) -> None:
        if self.gap_interval is NO_INTERVAL:
            ends = self.gap + NORMAL_95 * np.array([[-1.0], [1.0]]) * self.gap_error
            object.__setattr__(self, "gap_interval", ends)
        for name in (*array_names(), "gap_interval"):
            getattr(self, name).setflags(write=False)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and dictionaries; NaN and infinity as None."""
        return {"schema": SCHEMA} | {f.name: to_jsonable(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def __repr__(self) -> str:
        half, saturation = (f"{crossing.t:.3g}" for crossing in (self.half, self.saturation))
        about = f"{self.training_set.get('name')!r}, {len(self.t)} timesteps"
        return f"StageCurve({about}: half at t = {half}, saturation at {saturation})"

    def to_frame(self) -> Any:
        """The arrays as a pandas DataFrame, a row for each timestep.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return to_frame(self._columns())

    def _columns(self) -> dict[str, list[float]]:
        """The arrays by name, and the ends of the interval of the gap."""
        arrays = {name: getattr(self, name).tolist() for name in array_names()}
        return arrays | dict(zip(INTERVAL_COLUMNS, self.gap_interval.tolist(), strict=True))

    def to_files(self) -> dict[str, str]:
        """stages.csv (the arrays) and stages.json (all the rest), by name."""
        rest = {key: value for key, value in self.to_dict().items() if key not in (*array_names(), "gap_interval")}
        return {CSV_NAME: csv_text(self._columns()), JSON_NAME: json_text(rest)}

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
        folder = Path(directory)
        for name in (JSON_NAME, CSV_NAME):
            if not (folder / name).exists():
                raise InputError(f"{folder / name} is missing; expected a folder that StageCurve.save wrote")
        rest = read_json(folder / JSON_NAME, dict[str, Any], KIND)
        if rest.pop("schema", None) != SCHEMA:
            raise InputError(f"{folder / JSON_NAME} is of another schema; expected {SCHEMA}: measure it again")
        check_form(rest, CurveForm, folder / JSON_NAME, KIND)
        classes = rest.pop("per_class")
        arrays: dict[str, Any] = _read_arrays(folder / CSV_NAME)
        if any(len(c[name]) != len(arrays["t"]) for c in classes or () for name in ("top1", "gap")):
            raise InputError(f"{folder / JSON_NAME} has classes of other timesteps; expected those of {CSV_NAME}")
        if len({len(values) for values in (rest["fine"] or {}).values()}) > 1:
            raise InputError(f"{folder / JSON_NAME} has a fine grid of several lengths; expected one: it is damaged")
        ends = np.stack([arrays.pop(name) for name in INTERVAL_COLUMNS])
        read: dict[str, Any] = {name: number(rest.pop(name)) for name in NUMBERS}
        read |= {name: kind(*map(number, rest.pop(name))) for name, kind in _TUPLES.items()}
        fine = rest.pop("fine")
        read["fine"] = None if fine is None else FineGrid(**{name: _numbers(fine[name]) for name in FineGrid._fields})
        read["per_class"] = None if classes is None else tuple(map(_read_class, classes))
        with reading(folder / JSON_NAME, KIND):
            return cls(**arrays, **read, gap_interval=ends, notes=tuple(rest.pop("notes")), **rest)

    def plot(self) -> Any:
        """The curve as a matplotlib Figure."""
        from flowscope.figures import stage_figure

        return stage_figure(self)

    def _repr_html_(self) -> str:
        """The figure, for notebooks."""
        from flowscope.figures import html_image

        return html_image(self.plot(), f"The two-stage curve of {self.training_set['name']}")


KIND = "a stage curve that flowscope wrote"
CSV_BYTES_PER_CHARACTER = 40  # of objects that a character of CSV makes, at most
Triple = Annotated[list[Number], Len(3, 3)]  # a crossing with its interval


class ClassForm(TypedDict):
    """What stages.json says of a class."""

    label: int
    name: str
    points: Count
    half: Triple
    saturation: Triple
    predicted: Number
    predicted_saturation: Number
    top1: list[Number]
    gap: list[Number]


class FineForm(TypedDict):
    """What it says of the internal grid."""

    t: list[Number]
    top1: list[Number]
    top1_error: list[Number]
    predicted_top1: list[Number]
    gap: list[Number]
    gap_low: list[Number]
    gap_high: list[Number]


class TrainingSetForm(TypedDict):
    """What is used of what it says of the training set."""

    name: str
    N: Count
    shape: list[Count]
    distinct: NotRequired[Count]


class SettingsForm(TypedDict):
    """What is used of the settings."""

    path: str


class CurveForm(TypedDict):
    """The content of stages.json."""

    half: Triple
    saturation: Triple
    predicted: Number
    predicted_saturation: Number
    predicted_plain: Number
    deficit: Number
    fine: FineForm | None
    information: Annotated[list[Number], Len(4, 4)]
    loss_floor: Annotated[list[Number], Len(2, 2)]
    self_check: Annotated[list[Number], Len(2, 2)]
    conditional: bool
    per_class: list[ClassForm] | None
    notes: list[str]
    training_set: TrainingSetForm
    settings: SettingsForm
    provenance: dict[str, Any]


NUMBERS = ("predicted", "predicted_saturation", "predicted_plain", "deficit")
_TUPLES = {
    "half": Crossing,
    "saturation": Crossing,
    "information": Information,
    "self_check": SelfCheck,
    "loss_floor": LossFloor,
}


def array_names() -> list[str]:
    """The names of the curve's arrays (T,), in order."""
    return [f.name for f in dataclasses.fields(StageCurve) if f.type is np.ndarray and f.name != "gap_interval"]


def _read_arrays(path: Path) -> dict[str, Any]:
    """The arrays of a curve by name, of one length, at times that increase within [0, 1)."""
    with reading(path, KIND):
        check_memory(CSV_BYTES_PER_CHARACTER * path.stat().st_size, str(path), "expected a smaller file")
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
        columns = {name: np.array([float(v) for v in column]) for name, *column in zip(*rows, strict=True)}
    length = len(columns.get("t", ()))
    check_arrays(
        columns, {name: ArrayForm("f", (max(length, 1),)) for name in (*array_names(), *INTERVAL_COLUMNS)}, path
    )
    t = columns["t"]
    if not (t[0] >= 0 and t[-1] < 1 and (np.diff(t) > 0).all()):
        raise InputError(
            f"t of {path} does not increase within [0, 1); expected the timesteps of a curve: it is damaged"
        )
    return columns


def _read_class(entry: dict[str, Any]) -> ClassStages:
    crossings = {name: Crossing(*map(number, entry[name])) for name in ("half", "saturation")}
    arrays = {name: _numbers(entry[name]) for name in ("top1", "gap")}
    predicted = {name: number(entry[name]) for name in ("predicted", "predicted_saturation")}
    return ClassStages(**{**entry, **crossings, **arrays, **predicted})


def _numbers(values: list[Any]) -> np.ndarray:
    return np.array([number(v) for v in values])

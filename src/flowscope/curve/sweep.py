"""The sweeps of arXiv 2512.02826, Fig. 3: how the two stages move with N, D, class or resolution."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import numpy as np

from flowscope.core.files import write_files
from flowscope.core.serialize import SCHEMA, csv_text, json_text, to_jsonable
from flowscope.core.settings import check_count, check_seed, versions
from flowscope.curve.result import StageCurve
from flowscope.curve.stages import check_timesteps, stages
from flowscope.data import TrainingSet, load
from flowscope.data.split import take
from flowscope.errors import InputError, unknown_name
from flowscope.oracle import Oracle

OVER = ("N", "D", "classes", "resolution")
LEAST_POINTS, COUNT = 32, 7  # of a sweep over N where no values are given: the smallest subset, and how many


@dataclass(frozen=True, eq=False)
class Sweep:
    """Measured and predicted boundaries for V variants of a training set; arrays (V,) float64 unless said otherwise.

    Attributes:
        over: what was swept: "N", "D", "classes" or "resolution".
        values: its values (labels for classes, the side for resolutions). names: the values as people read them.
        half, half_low, half_high, saturation, saturation_low, saturation_high: crossings with 95 % intervals.
        predicted, predicted_plain: t_half from the clustered and the plain spectrum.
        curves: the whole curve of each variant.
        notes, training_set, settings, provenance: as in StageCurve.
    """

    over: str
    values: np.ndarray
    names: tuple[str, ...]
    half: np.ndarray
    half_low: np.ndarray
    half_high: np.ndarray
    saturation: np.ndarray
    saturation_low: np.ndarray
    saturation_high: np.ndarray
    predicted: np.ndarray
    predicted_plain: np.ndarray
    curves: tuple[StageCurve, ...]
    notes: tuple[str, ...]
    training_set: dict[str, Any]
    settings: dict[str, Any]
    provenance: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the curves as plain numbers, lists and dictionaries; NaN as None."""
        return {"schema": SCHEMA} | {
            f.name: to_jsonable(getattr(self, f.name)) for f in fields(self) if f.name != "curves"
        }

    def to_files(self) -> dict[str, str]:
        """sweep.csv (a row for each value), sweep_top1.csv (a column for each value) and sweep.json (all the rest)."""
        arrays = [f.name for f in fields(self) if f.type is np.ndarray]
        table = {"name": list(self.names)} | {name: getattr(self, name).tolist() for name in arrays}
        columns = [_slug(self.over, v) for v in self.values.tolist()]  # names may be alike, or "t"
        top1 = {"t": self.curves[0].t.tolist()} | {
            name: c.top1.tolist() for name, c in zip(columns, self.curves, strict=True)
        }
        rest = {key: value for key, value in self.to_dict().items() if key not in table}
        return {"sweep.csv": csv_text(table), "sweep_top1.csv": csv_text(top1), "sweep.json": json_text(rest)}

    def save(self, directory: str | FilePath) -> None:
        """Write `to_files` into a folder, whole or not at all.

        Raises:
            OutputError: the folder cannot be written.
        """
        write_files(directory, self.to_files())

    def plot(self) -> Any:
        """Boundaries against the swept value, as a matplotlib Figure."""
        from flowscope.figures import sweep_figure

        return sweep_figure(self)


class Variant(NamedTuple):
    """One value of a sweep, and the training set it stands for."""

    value: float
    name: str
    make: Callable[[], TrainingSet]


def sweep(
    source: Any,
    over: str,
    values: Sequence[int] | None = None,
    timesteps: int | Sequence[float] = 64,
    probes: int = 512,
    seed: int = 0,
    *,
    path: str = "linear",
    memory: str | int = "512MB",
    device: str | None = None,
    keep: str | FilePath | None = None,
    resume: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> Sweep:
    """Measure the two-stage curve again and again as the training set changes.

    Args:
        source: what `load` takes. A sweep over D needs a synthetic one by name, such as "gaussian:N=1400,D=64"; one
            over classes needs labels, one over resolution images.
        over: "N" (random subsets, each within the next), "D", "classes" (each class by itself) or "resolution".
        values: numbers of points, dimensions, labels or sides; None for a choice that fits the source.
        timesteps, probes, seed: as in `stages`; the seed also draws the subsets.
        path, memory, device: as in Oracle.
        keep: a folder in which every finished curve is saved.
        resume: take from there the curves that are of the same data, settings and version of flowscope.
        progress: called as progress(done, total, name) after every curve, and once at the start.

    Raises:
        InputError: an argument is not usable, or the sweep does not apply to the source.
    """
    check_count(probes, "probes")
    data = source if over == "D" else load(source)
    found = variants(data, over, values, check_seed(seed))
    curves, began = [], time.perf_counter()
    # The largest first: what does not fit is found out before anything is kept.
    for k, variant in enumerate(reversed(found)):
        if progress is not None:
            progress(k, len(found), variant.name)
        folder = None if keep is None else FilePath(keep) / _slug(over, variant.value)
        oracle = Oracle(variant.make(), path, memory=memory, device=device)
        curve = _kept(folder, oracle, timesteps, probes, seed) if folder is not None and resume else None
        if curve is None:
            curve = stages(oracle, timesteps, probes, seed)
            if folder is not None:
                curve.save(folder)
        curves.append(curve)
    if progress is not None:
        progress(len(found), len(found), "")
    name = data.name if isinstance(data, TrainingSet) else str(data)
    return _collect(over, found, curves[::-1], name, seed, time.perf_counter() - began)


def _kept(folder: FilePath, oracle: Oracle, timesteps: Any, probes: int, seed: int) -> StageCurve | None:
    """The curve in a folder, if it is the one that would be measured."""
    try:
        found = StageCurve.load(folder)
    except InputError:  # not there, cut off, or of another version: measured again
        return None
    wanted = {"path": oracle.path.name, "probes": probes, "seed": seed, "conditional": False}
    same = np.array_equal(found.t, check_timesteps(timesteps)) and all(
        found.settings.get(key) == value for key, value in wanted.items()
    )
    same &= found.provenance.get("flowscope") == versions()["flowscope"]
    return found if same and found.training_set.get("digest") == oracle.training_set.digest else None


def _collect(over: str, found: list[Variant], curves: list[StageCurve], name: str, seed: int, seconds: float) -> Sweep:
    first = curves[0]
    numbers = {
        f"{what}{suffix}": np.array([getattr(getattr(c, what), field) for c in curves])
        for what in ("half", "saturation")
        for suffix, field in (("", "t"), ("_low", "low"), ("_high", "high"))
    }
    notes = [f"{v.name}: {note}" for v, c in zip(found, curves, strict=True) for note in c.notes if "undefined" in note]
    return Sweep(
        over=over,
        values=np.array([v.value for v in found], dtype=np.float64),
        names=tuple(v.name for v in found),
        **numbers,
        predicted=np.array([c.predicted for c in curves]),
        predicted_plain=np.array([c.predicted_plain for c in curves]),
        curves=tuple(curves),
        notes=tuple(notes),
        training_set={"name": name, "variants": [c.training_set for c in curves]},
        settings={**first.settings, "over": over, "seed": seed},
        provenance={**versions(), "nfe": sum(c.provenance["nfe"] for c in curves), "seconds": round(seconds, 3)},
    )


def variants(data: Any, over: str, values: Sequence[int] | None = None, seed: int = 0) -> list[Variant]:
    """What a sweep goes through, ascending by value; the training sets are made when they are asked for.

    Args:
        data: a TrainingSet; for a sweep over D the name of a synthetic source.
        over, values, seed: as in `sweep`.

    Raises:
        InputError: the sweep does not apply to the data, or a value is not usable.
    """
    if over == "N":
        return _over_points(data, values, seed)
    if over == "D":
        return _over_dimension(data, values)
    if over == "classes":
        return _over_classes(data, values)
    if over == "resolution":
        return _over_resolution(data, values)
    raise unknown_name("over", over, OVER)


def _over_points(base: TrainingSet, values: Any, seed: int) -> list[Variant]:
    order = np.random.default_rng(seed).permutation(len(base))
    least = min(LEAST_POINTS, len(base))
    wanted = np.unique(np.geomspace(least, len(base), COUNT).round().astype(int)) if values is None else values
    counts = _whole(wanted, 1, "numbers of points", len(base))

    def subset(n: int) -> TrainingSet:
        return take(base, np.sort(order[:n]), f"{base.name}, {n} points")

    return [Variant(n, f"{n}", partial(subset, n)) for n in counts]


def _over_dimension(source: Any, values: Any) -> list[Variant]:
    match = re.fullmatch(r"(gaussian|mixture):(.*)", source) if isinstance(source, str) else None
    if match is None:
        raise InputError(
            f"a sweep over D is asked for of {source!r}; expected a synthetic source by name, such as "
            '"gaussian:N=1400,D=64": real data has the dimension it has (sweep its resolution instead)'
        )
    rest = [part for part in match[2].split(",") if part and not part.startswith("D=")]
    dimensions = _whole([16, 64, 256, 1024, 4096] if values is None else values, 1, "dimensions")
    return [Variant(d, f"{d}", partial(load, f"{match[1]}:" + ",".join([*rest, f"D={d}"]))) for d in dimensions]


def _over_classes(base: TrainingSet, values: Any) -> list[Variant]:
    if not base.classes:
        raise InputError(
            f"a sweep over classes is asked for, but {base.name} has no labels; expected labels: sweep over N instead"
        )
    labels = list(base.classes) if values is None else _whole(values, None, "labels")
    unknown = [y for y in labels if y not in base.classes]
    if unknown:
        listed = ", ".join(map(str, base.classes[:12])) + (", ..." if len(base.classes) > 12 else "")
        raise InputError(f"no point of {base.name} has label {unknown[0]}; expected labels that occur: {listed}")
    return [Variant(y, base.class_name(y), partial(load, base, classes=y)) for y in labels]


def _over_resolution(base: TrainingSet, values: Any) -> list[Variant]:
    if len(base.shape) != 3:
        raise InputError(
            f"a sweep over resolution is asked for of points of shape {base.shape}; expected images (C, H, W)"
        )
    native = min(base.shape[1:])
    default = sorted({native, *(side for side in (4, 8, 16, 32, 64, 128) if side < native)})
    sides = _whole(default if values is None else values, 1, "sides of images")
    whole = base.shape[1] == base.shape[2]
    return [Variant(n, f"{n} x {n}", partial(load, base, resize=None if whole and n == native else n)) for n in sides]


def _whole(values: Any, least: int | None, what: str, most: int | None = None) -> list[int]:
    """Whole numbers in order, each once."""
    try:
        given = [v.item() if isinstance(v, np.generic) else v for v in values]
    except TypeError:
        given = [values]
    good = [v for v in given if isinstance(v, int) and not isinstance(v, bool)]
    good = [v for v in good if (least is None or v >= least) and (most is None or v <= most)]
    if not given or len(good) < len(given):
        limits = "" if least is None else f" of at least {least}" + ("" if most is None else f" and at most {most}")
        raise InputError(f"values are {given!r}; expected {what}, whole numbers{limits}")
    return sorted(set(good))


def _slug(over: str, value: float) -> str:
    """A name for files and columns that no other value has."""
    return f"{over}={value:.17g}"

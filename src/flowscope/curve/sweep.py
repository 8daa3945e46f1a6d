"""The sweeps of arXiv 2512.02826, Fig. 3: how the two stages move with N, D, class or resolution."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from flowscope.core.files import write_files
from flowscope.core.frames import to_frame
from flowscope.core.progress import Progress, with_progress
from flowscope.core.serialize import SCHEMA, csv_text, json_text, to_jsonable
from flowscope.core.settings import check_count, check_seed, versions
from flowscope.curve.intervals import mean_reach
from flowscope.curve.placement import AUTO, place_timesteps
from flowscope.curve.result import NUMBERS, StageCurve
from flowscope.curve.stages import check_timesteps, stages
from flowscope.curve.summary import predicted_law
from flowscope.curve.variants import Variant, variants
from flowscope.data import TrainingSet, load
from flowscope.errors import InputError
from flowscope.oracle import Oracle
from flowscope.oracle.law import ClassLaw
from flowscope.paths import get_path

SUBSET_DRAWS = 5  # for each number of points: the subset is a draw, too


@dataclass(frozen=True, eq=False, repr=False)
class Sweep:
    """Measured and predicted boundaries for V variants of a training set; arrays (V,) float64 unless said otherwise.

    Attributes:
        over: what was swept: "N", "D", "classes" or "resolution".
        values: its values (labels for classes, the side for resolutions).
        names: the values as people read them.
        half, half_low, half_high: where the mean top-1 weight crosses 0.5, with a 95 % interval. Of a random subset it
            is the mean over several draws, and the interval is that of Student's t over them.
        saturation, saturation_low, saturation_high: where it crosses 0.99.
        predicted, predicted_saturation, predicted_plain, deficit: as in StageCurve.
        curves: the whole curve of each variant; of subsets that of the first draw.
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
    predicted_saturation: np.ndarray
    predicted_plain: np.ndarray
    deficit: np.ndarray
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

    def __repr__(self) -> str:
        return f"Sweep({self.training_set.get('name')!r}, over={self.over!r}, {len(self.values)} values)"

    def to_frame(self) -> Any:
        """The boundaries as a pandas DataFrame, a row for each value.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return to_frame(self._columns())

    def _columns(self) -> dict[str, list[Any]]:
        """The names and arrays, a value for each variant."""
        arrays = [f.name for f in fields(self) if f.type is np.ndarray]
        return {"name": list(self.names)} | {name: getattr(self, name).tolist() for name in arrays}

    def to_files(self) -> dict[str, str]:
        """sweep.csv (a row for each value), sweep_top1.csv (a column for each value) and sweep.json (all the rest)."""
        table = self._columns()
        columns = [curve_folder(self.over, v) for v in self.values.tolist()]  # names may be alike, or "t"
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

    def _repr_html_(self) -> str:
        """The figure, for notebooks."""
        from flowscope.figures import html_image

        return html_image(self.plot(), f"A sweep of {self.training_set['name']} over {self.over}")


@with_progress
def sweep(
    source: Any,
    over: str,
    values: Sequence[int] | None = None,
    timesteps: int | str | Sequence[float] = 64,
    probes: int = 512,
    seed: int = 0,
    *,
    draws: int = SUBSET_DRAWS,
    path: str = "linear",
    memory: str | int = "512MB",
    device: str | None = None,
    keep: str | FilePath | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Sweep:
    """Measure the two-stage curve again and again as the training set changes.

    Args:
        source: what `load` takes. A sweep over D needs a synthetic one by name, such as "gaussian:N=1400,D=64"; one
            over classes needs labels, one over resolution images.
        over: "N" (random subsets, each within the next), "D", "classes" (each class by itself) or "resolution".
        values: numbers of points, dimensions, labels or sides; None for a choice that fits the source.
        timesteps, probes: as in `stages`; "auto" places the same times for all, where one of the curves moves.
        seed: as in `stages`; it also draws the subsets.
        draws: subsets for each number of points but all, with probes of their own; the first ones lie within each
            other. With 1 the interval is that over probes alone.
        path, memory, device: as in Oracle.
        keep: a folder in which every finished curve is saved.
        resume: take from there the curves that are of the same data, settings and version of flowscope.
        progress: called as progress(done, total, name) after every curve, and once at the start; True for a bar of
            tqdm.

    Raises:
        InputError: an argument is not usable, or the sweep does not apply to the source.
    """
    check_count(probes, "probes")
    check_count(draws, "draws")
    data = source if over == "D" else load(source)
    found = variants(data, over, values, check_seed(seed))
    chosen: dict[str, int | str] = {"seed": seed, "draws": draws}
    if isinstance(timesteps, str):
        chosen["placement"] = timesteps
        timesteps = _placed(found, timesteps, path, memory)
    again: list[list[StageCurve]] = []
    measured, began = [], time.perf_counter()
    # The largest first: what does not fit is found out before anything is kept.
    for k, variant in enumerate(reversed(found)):
        if progress is not None:
            progress(k, len(found), variant.name)
        folder = None if keep is None else FilePath(keep) / curve_folder(over, variant.value)
        oracle = Oracle(variant.make(), path, memory=memory, device=device)
        measured.append(_curve(folder, resume, oracle, timesteps, probes, seed))
        sets = (variant.redraw(d) for d in range(1, draws) if variant.redraw is not None)
        again.append([])
        for d, redrawn in enumerate(sets, 1):
            oracle = Oracle(redrawn, path, memory=memory, device=device)
            further = None if folder is None else folder / f"draw-{d}"
            again[-1].append(_curve(further, resume, oracle, 1, probes, seed + d))
    if progress is not None:
        progress(len(found), len(found), "")
    name = data.name if isinstance(data, TrainingSet) else str(data)
    seconds = time.perf_counter() - began
    return _collect(over, found, measured[::-1], again[::-1], name, chosen, seconds)


def _placed(found: list[Variant], timesteps: str, path: str, memory: str | int) -> list[float]:
    """The times of "auto" for all variants together."""
    if timesteps != AUTO:
        check_timesteps(timesteps)  # refuses all other words
    oracles = (Oracle(variant.make(), path, memory=memory) for variant in found)
    known = [[predicted_law(oracle, ClassLaw(1.0, None, oracle.support.law()))] for oracle in oracles]
    return place_timesteps(get_path(path), known).tolist()


def _curve(folder: FilePath | None, resume: bool, oracle: Oracle, timesteps: Any, probes: int, seed: int) -> StageCurve:
    """A curve: the one that is kept in a folder, or one that is measured now and kept there."""
    curve = _kept(folder, oracle, timesteps, probes, seed) if resume else None
    if curve is None:
        curve = stages(oracle, timesteps, probes, seed)
        if folder is not None:
            curve.save(folder)
    return curve


def _kept(folder: FilePath | None, oracle: Oracle, timesteps: Any, probes: int, seed: int) -> StageCurve | None:
    """The curve in a folder, if it is the one that would be measured."""
    if folder is None:
        return None
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


def over_draws(curves: Sequence[StageCurve], what: str) -> tuple[float, float, float]:
    """A crossing of one curve with its interval; of several draws the mean, with Student's interval over them."""
    times = np.array([getattr(curve, what).t for curve in curves])
    if len(times) == 1:
        crossing = getattr(curves[0], what)
        return crossing.t, crossing.low, crossing.high
    mean, reach = float(times.mean()), mean_reach(times)
    return mean, mean - reach, mean + reach


def _collect(
    over: str,
    found: list[Variant],
    curves: list[StageCurve],
    again: list[list[StageCurve]],
    name: str,
    settings: Mapping[str, int | str],
    seconds: float,
) -> Sweep:
    """The sweep of curves that were measured, one a variant, and of those of further draws."""
    first = curves[0]
    numbers = {
        f"{what}{suffix}": np.array(column)
        for what in ("half", "saturation")
        for suffix, column in zip(
            ("", "_low", "_high"),
            zip(*(over_draws([c, *more], what) for c, more in zip(curves, again, strict=True)), strict=True),
            strict=True,
        )
    }
    notes = list(dict.fromkeys(c.training_set["notes"] for c in curves if "notes" in c.training_set))
    named = [(v.name, note) for v, c in zip(found, curves, strict=True) for note in c.notes]
    notes += [f"{name}: {note}" for name, note in named if "undefined" in note]
    return Sweep(
        over=over,
        values=np.array([v.value for v in found], dtype=np.float64),
        names=tuple(v.name for v in found),
        **numbers,
        **{name: np.array([getattr(c, name) for c in curves]) for name in NUMBERS},
        curves=tuple(curves),
        notes=tuple(notes),
        training_set={"name": name, "variants": [c.training_set for c in curves]},
        settings={**first.settings, "over": over, **settings},
        provenance={
            **versions(),
            "nfe": sum(c.provenance["nfe"] for more in (curves, *again) for c in more),
            "seconds": round(seconds, 3),
        },
    )


def curve_folder(over: str, value: float) -> str:
    """The name of a value, for folders and columns: no other value has it."""
    return f"{over}={value:.17g}"

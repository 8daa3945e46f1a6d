"""Finding: what a study of a model found, in one form for all: numbers with errors, words, how to draw them.

A study is a function from fields and a training set to a Finding. Tables hold every number; panels say which columns
to draw and galleries hold images. Whoever reads or draws a finding needs to know nothing of the study it is of.
"""

import html
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from flowscope.core.files import write_files
from flowscope.core.serialize import SCHEMA, csv_text, json_text, to_jsonable
from flowscope.data.loaders.source import reading
from flowscope.errors import InputError

Verdict = Literal["agrees", "differs", "cannot be tested", "no claim"]


class Series(NamedTuple):
    """One line of a panel: columns of a table, by name."""

    label: str
    table: str
    x: str
    y: str
    error: str | None = None  # the column of standard errors; drawn as an interval of 1.96 of them
    low: str | None = None  # or columns of the ends of the interval itself, where it is not symmetric
    high: str | None = None


class Panel(NamedTuple):
    """One pair of axes. kind "line" joins the points, "bar" draws a bar for each row (x may then be names)."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    kind: Literal["line", "bar"] = "line"
    x_scale: Literal["linear", "log"] = "linear"
    y_scale: Literal["linear", "log", "symlog"] = "linear"  # symlog: linear within -1 and 1


class Gallery(NamedTuple):
    """Images in rows and columns: (R, C, *shape) floating point in the data's own range."""

    title: str
    images: np.ndarray
    rows: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Finding:
    """The result of a study.

    Attributes:
        study: its name, such as "switch". title: what people read. where: the figure or table of arXiv 2512.02826.
        claim: what the paper found there. found: what was found here, in plain words with numbers and errors.
        verdict: whether the two agree. why: the reason, with the criterion that was applied.
        tables: name -> column -> values; the first is the main one. Standard errors are columns named <x>_error.
        panels: how to draw the tables. galleries: images. notes: plain sentences on what is undefined or limited.
        training_set: as in StageCurve. settings, provenance: plain values; `nfe` counts network evaluations.
    """

    study: str
    title: str
    where: str
    claim: str
    found: str
    verdict: Verdict
    why: str
    tables: Mapping[str, Mapping[str, Any]]
    panels: tuple[Panel, ...] = ()
    galleries: tuple[Gallery, ...] = ()
    notes: tuple[str, ...] = ()
    training_set: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.verdict not in get_args(Verdict):
            raise InputError(f"verdict is {self.verdict!r}; expected one of {', '.join(get_args(Verdict))}")
        for name, columns in self.tables.items():
            if len({len(values) for values in columns.values()}) > 1:
                raise InputError(f"the columns of table {name!r} differ in length; expected one value a row in each")

    def __repr__(self) -> str:
        return f"Finding({self.study!r}, {self.verdict!r}: {self.found})"

    def to_dict(self) -> dict[str, Any]:
        """Everything but images as plain numbers, lists and dictionaries; NaN as None."""
        names = ("study", "title", "where", "claim", "found", "verdict", "why")
        return {
            "schema": SCHEMA,
            **{name: getattr(self, name) for name in names},
            "tables": to_jsonable({name: dict(columns) for name, columns in self.tables.items()}),
            "panels": [to_jsonable(p._asdict() | {"series": [s._asdict() for s in p.series]}) for p in self.panels],
            "galleries": [
                to_jsonable({"title": g.title, "rows": g.rows, "columns": g.columns}) for g in self.galleries
            ],
            "notes": list(self.notes),
            "training_set": to_jsonable(self.training_set),
            "settings": to_jsonable(self.settings),
            "provenance": to_jsonable(self.provenance),
        }

    def to_files(self) -> dict[str, str | bytes]:
        """<study>.json, one CSV a table (<study>.csv is the first), and <study>.npz with the images, if any."""
        files: dict[str, str | bytes] = {f"{self.study}.json": json_text(self.to_dict())}
        for k, (name, columns) in enumerate(self.tables.items()):
            stem = self.study if k == 0 else f"{self.study}_{name}"
            files[f"{stem}.csv"] = csv_text({key: np.asarray(values).tolist() for key, values in columns.items()})
        if self.galleries:
            buffer = io.BytesIO()
            images = {f"gallery{k}": np.asarray(g.images, dtype=np.float32) for k, g in enumerate(self.galleries)}
            np.savez_compressed(buffer, **images)  # type: ignore[arg-type]
            files[f"{self.study}.npz"] = buffer.getvalue()
        return files

    def save(self, directory: str | Path) -> None:
        """Write `to_files` into a folder, whole or not at all.

        Raises:
            OutputError: the folder cannot be written.
        """
        write_files(directory, self.to_files())

    @classmethod
    def load(cls, directory: str | Path, study: str) -> "Finding":
        """A finding as `save` wrote it; numbers that were NaN are NaN.

        Raises:
            InputError: it is not there, damaged, or of another version of the format.
        """
        path = Path(directory) / f"{study}.json"
        with reading(path, "a finding saved by flowscope"):
            found = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(found, dict) or found.pop("schema", None) != SCHEMA:
                raise InputError(f"{path} is of another version of the format; expected schema {SCHEMA}: run it again")
            found["tables"] = {
                name: {key: _column(values) for key, values in columns.items()}
                for name, columns in found["tables"].items()
            }
            panels = (Panel(**p | {"series": tuple(Series(**s) for s in p["series"])}) for p in found["panels"])
            found["panels"] = tuple(panels)
            found["galleries"] = _galleries(path.with_suffix(".npz"), found["galleries"])
            found["notes"] = tuple(found["notes"])
            return cls(**found)

    def plot(self) -> Any:
        """The panels as a matplotlib Figure."""
        from flowscope.figures import finding_figure

        return finding_figure(self)

    def _repr_html_(self) -> str:
        """What notebooks show: the figure, what was found and the verdict."""
        from flowscope.figures import html_image

        words = (("strong", self.title), ("span", self.found), ("strong", self.verdict), ("span", self.why))
        told = "".join(f"<p><{tag}>{html.escape(said)}</{tag}></p>" for tag, said in words)
        shown = html_image(self.plot(), f"The figure of {self.study}: {self.title}") if self.panels else ""
        return f"<div>{told}{shown}</div>"


def _column(values: list[Any]) -> Any:
    """Numbers as an array, names as they are."""
    if any(isinstance(v, str) for v in values):
        return values
    return np.array([np.nan if v is None else v for v in values])


def _galleries(path: Path, about: list[dict[str, Any]]) -> tuple[Gallery, ...]:
    if not about:
        return ()
    with np.load(path, allow_pickle=False) as file:
        return tuple(
            Gallery(g["title"], file[f"gallery{k}"], tuple(g["rows"]), tuple(g["columns"])) for k, g in enumerate(about)
        )

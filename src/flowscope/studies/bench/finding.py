"""The finding: the result of a study, in one form for all studies.

A study is a function from fields and a training set to a Finding. Its tables hold every number, its panels name the
columns to draw, and its galleries hold images. Code that draws or prints a finding needs to know nothing of the study.
"""

import html
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, NotRequired, get_args

import numpy as np

from flowscope.core.files import write_files
from flowscope.core.frames import to_frame
from flowscope.core.progress import Progress as Progress
from flowscope.core.schema import ArrayForm, check_arrays, check_form, form_of, read_json
from flowscope.core.serialize import SCHEMA, csv_text, json_text, to_jsonable
from flowscope.data.loaders.npz import Archive
from flowscope.data.loaders.source import reading
from flowscope.errors import InputError, unknown_name
from flowscope.studies.bench.criteria import criteria_version, read_criteria

Verdict = Literal["agrees", "differs", "cannot be tested", "does not tell memory from denoising"]
TELLS_NOTHING: Verdict = "does not tell memory from denoising"
UNVERSIONED = 1  # the version of criteria of results that name none
MAX_GRIDS = 3  # galleries of a study
REVIEWERS = "a question of the paper's reviewers"  # the `where` of a study that tests no figure or table


class Series(NamedTuple):
    """One line of a panel: the names of its columns in a table."""

    label: str
    table: str
    x: str
    y: str
    error: str | None = None  # the column of standard errors; drawn as an interval of 1.96 of them
    low: str | None = None  # or the columns of the ends of an interval that is not symmetric
    high: str | None = None

    @classmethod
    def with_error(cls, label: str, table: str, x: str, y: str) -> "Series":
        """A series whose standard errors are in the column <y>_error."""
        return cls(label, table, x, y, f"{y}_error")

    @classmethod
    def with_interval(cls, label: str, table: str, x: str, y: str) -> "Series":
        """A series whose intervals are in the columns <y>_low and <y>_high."""
        return cls(label, table, x, y, None, f"{y}_low", f"{y}_high")


class Mark(NamedTuple):
    """A vertical line of a panel, named: a boundary of the oracle's stages."""

    name: str
    at: float  # where on the x axis
    series: int | None = None  # which of the panel's series it belongs to; None for all


class Panel(NamedTuple):
    """One pair of axes. Kind "line" joins the points; kind "bar" draws a bar for each row, and x may hold names."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    kind: Literal["line", "bar"] = "line"
    x_scale: Literal["linear", "log"] = "linear"
    y_scale: Literal["linear", "log", "symlog"] = "linear"  # symlog: linear within -1 and 1
    low: float | None = None  # no value lies below; errors and intervals are drawn down to it at most
    high: float | None = None  # no value lies above
    marks: tuple[Mark, ...] = ()


class Gallery(NamedTuple):
    """Images in rows and columns, with a name for each row and column."""

    title: str
    images: np.ndarray  # (R, C, *shape) floating point, in the data's own range
    rows: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Finding:
    """The result of a study.

    Attributes:
        study: the study's name, such as "switch".
        title: the title of its page.
        where: the figure or table of arXiv 2512.02826 that it tests.
        claim: what the paper found there.
        found: what was found here, in plain words with numbers and errors; the first sentence is about the model.
        verdict: whether the two agree.
        why: the criterion of the verdict.
        tables: name -> column -> values. The first table is the main one; column <x>_error holds standard errors of x.
        panels: how to draw the tables.
        galleries: images.
        notes: sentences on what is undefined or limited.
        training_set: as in StageCurve.
        settings: the study's arguments, as plain values.
        provenance: versions, models and seeds, as plain values; `nfe` counts network evaluations.

    Raises:
        InputError: the verdict is unknown, the columns of a table differ in length, or a panel draws one that is no
            column of numbers.

    Example:
        >>> from flowscope.studies import Finding
        >>> table = {"t": [0.0, 0.5], "loss": [2.0, 1.0]}
        >>> finding = Finding("demo", "A demo", "Fig. 0", "Falls.", "It falls.", "agrees", "By eye.", {"demo": table})
        >>> finding
        Finding('demo', 'agrees': It falls.)
        >>> sorted(finding.to_files())
        ['demo.csv', 'demo.json']
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
        for panel in self.panels:
            for series in panel.series:
                _check_series(panel.title, series, self.tables)

    def __repr__(self) -> str:
        return f"Finding({self.study!r}, {self.verdict!r}: {self.found})"

    @property
    def answer(self) -> str:
        """The first sentence of `found`, which is about the user's model."""
        return split_answer(self.found)[0]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the images, as plain numbers, lists and dictionaries; NaN becomes None."""
        names = ("study", "title", "where", "claim", "found", "verdict", "why")
        return {
            "schema": SCHEMA,
            **{name: getattr(self, name) for name in names},
            "tables": to_jsonable({name: dict(columns) for name, columns in self.tables.items()}),
            "panels": [to_jsonable(_panel_as_dict(p)) for p in self.panels],
            "galleries": [
                to_jsonable({"title": g.title, "rows": g.rows, "columns": g.columns}) for g in self.galleries
            ],
            "notes": list(self.notes),
            "training_set": to_jsonable(self.training_set),
            "settings": to_jsonable(self.settings),
            "provenance": to_jsonable(self.provenance),
        }

    def to_frame(self, table: str | None = None) -> Any:
        """A table as a pandas DataFrame.

        Args:
            table: its name; None for the first, main one.

        Raises:
            InputError: there is no such table.
            MissingExtraError: pandas is not installed.
        """
        name = next(iter(self.tables), "") if table is None else table
        if name not in self.tables:
            raise unknown_name("table", table, self.tables)
        return to_frame(self.tables[name])

    def to_files(self) -> dict[str, str | bytes]:
        """The files of the finding by name: <study>.json, a CSV for each table, and <study>.npz if there are images.

        The first table is <study>.csv, table x of the others <study>_x.csv.
        """
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
        """Write the files of `to_files` into a folder: all of them or none.

        Raises:
            OutputError: the folder cannot be written.
        """
        write_files(directory, self.to_files())

    @classmethod
    def load(cls, directory: str | Path, study: str) -> "Finding":
        """Load a finding that `save` wrote.

        Raises:
            InputError: the file is missing, damaged, of another version of the format, or judged by other criteria.
        """
        path = Path(directory) / f"{study}.json"
        found = read_json(path, dict[str, Any], KIND)
        if found.pop("schema", None) != SCHEMA:
            raise InputError(f"{path} is of another version of the format; expected schema {SCHEMA}: run it again")
        check_form(found, FindingForm, path, KIND)
        with reading(path, KIND):
            found["tables"] = {
                name: {key: _load_column(values) for key, values in columns.items()}
                for name, columns in found["tables"].items()
            }
            found["panels"] = tuple(_load_panel(p) for p in found["panels"])
            found["galleries"] = _load_galleries(path.with_suffix(".npz"), found["galleries"])
            found["notes"] = tuple(found["notes"])
            check_criteria(found, path)
            return cls(**found)

    def plot(self) -> Any:
        """Draw the panels as a matplotlib Figure."""
        from flowscope.figures import finding_figure

        return finding_figure(self)

    def _repr_html_(self) -> str:
        """The finding in a notebook: its words, its verdict and its figure."""
        from flowscope.figures import drawn_panels, html_image

        lines = (("strong", self.title), ("span", self.found), ("strong", self.verdict), ("span", self.why))
        text = "".join(f"<p><{tag}>{html.escape(line)}</{tag}></p>" for tag, line in lines)
        shown = drawn_panels(self)
        figure = html_image(self.plot(), f"The figure of {self.study}: {self.title}") if shown else ""
        return f"<div>{text}{figure}</div>"


def verdict_in_words(verdict: str, about: Mapping[str, Any]) -> str:
    """A verdict as it is printed: with a word of warning where few samples and steps were used.

    Args:
        verdict: of a Finding or a Row, or what stands for it.
        about: the provenance or the settings of the result, in which `quick` is true or not.
    """
    return f"{verdict} (quick)" if about.get("quick") else verdict


def split_answer(found: str) -> tuple[str, str]:
    """The first sentence of what was found, and the others."""
    first, *others = re.split(r"(?<=[.!?])\s+(?=[A-Z0-9])", found, maxsplit=1)
    return first, "".join(others)


def check_criteria(found: Mapping[str, Any], path: Path) -> None:
    """Refuse a result of a study that was judged by another version of the criteria.

    Raises:
        InputError: it was.
    """
    version = found["provenance"].get("criteria", UNVERSIONED)
    if found["study"] in read_criteria() and version != criteria_version():
        raise InputError(
            f"{path} was judged by version {version} of the criteria; expected version {criteria_version()}: run the "
            "study again, or read the numbers from its CSV files"
        )


def _check_series(panel: str, series: Series, tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a line of a panel that no table has, or whose values are no numbers."""
    table, (x, *others) = tables.get(series.table, {}), series[2:]
    for name in (x, *(other for other in others if other is not None)):
        if name not in table:
            raise InputError(
                f"panel {panel!r} draws {name!r} of table {series.table!r}; expected a column that is there"
            )
        if name != x and any(isinstance(value, str) for value in table[name]):
            raise InputError(f"panel {panel!r} draws {name!r} of table {series.table!r}; expected a column of numbers")


def finding_names(study: str) -> list[str]:
    """The names of the files that the finding of a study and its page may have, but those of further tables."""
    figures = [f"{study}.{kind}" for kind in ("json", "csv", "npz", "png", "svg")]
    return ["index.html", *figures, *grid_names(study, MAX_GRIDS)]


def grid_names(study: str, count: int) -> list[str]:
    """The names of the pictures of that many galleries."""
    return [f"{study}_grid{f'_{k + 1}' if k else ''}.png" for k in range(count)]


def _panel_as_dict(panel: Panel) -> dict[str, Any]:
    parts = {name: [part._asdict() for part in getattr(panel, name)] for name in ("series", "marks")}
    return panel._asdict() | parts


def _load_panel(saved: dict[str, Any]) -> Panel:
    series, marks = saved["series"], saved.get("marks", ())
    return Panel(**saved | {"series": tuple(Series(**s) for s in series), "marks": tuple(Mark(**m) for m in marks)})


def _load_column(values: list[Any]) -> Any:
    """Numbers as an array, names as a list."""
    if any(isinstance(v, str) for v in values):
        return values
    return np.array([np.nan if v is None else v for v in values])


def _load_galleries(path: Path, about: list[dict[str, Any]]) -> tuple[Gallery, ...]:
    if not about:
        return ()
    with reading(path, KIND), path.open("rb") as stream:
        archive = Archive(stream, path)
        names = [f"gallery{k}" for k in range(len(about))]
        archive.ask(names, "free some, or run the study again")
        images = {name: archive.read(name) for name in names}
    for g, (name, own) in zip(about, images.items(), strict=True):
        sides = (len(g["rows"]), len(g["columns"]), *own.shape[2:])
        check_arrays({name: own}, {name: ArrayForm("f", sides)}, path)
    return tuple(
        Gallery(g["title"], images[name], tuple(g["rows"]), tuple(g["columns"]))
        for g, name in zip(about, names, strict=True)
    )


KIND = "a finding saved by flowscope"
Cell = int | float | str | bool | None  # of a table
Limit: Any = NotRequired[float | None]  # findings of earlier versions have neither limits nor marks
MarksForm: Any = NotRequired[list[form_of(Mark)]]  # type: ignore[misc]
PanelForm: Any = form_of(Panel, series=list[form_of(Series)], low=Limit, high=Limit, marks=MarksForm)  # type: ignore[misc]
GalleryForm: Any = form_of(Gallery, images=NotRequired[None], rows=list[str], columns=list[str])
FindingForm: Any = form_of(
    Finding,
    tables=dict[str, dict[str, list[Cell]]],
    panels=list[PanelForm],
    galleries=list[GalleryForm],
    notes=list[str],
    training_set=dict[str, Any],
    settings=dict[str, Any],
    provenance=dict[str, Any],
)

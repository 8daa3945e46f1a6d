"""The result of a reproduction: a row for each figure and table of the paper, with what was found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from typing_extensions import TypedDict

from flowscope.core.frames import to_frame
from flowscope.core.schema import Count, check_form, form_of, read_json
from flowscope.core.serialize import SCHEMA, csv_text, json_text, to_jsonable
from flowscope.data.loaders.source import reading
from flowscope.errors import InputError
from flowscope.training import TrainSettings

NOT_RUN = "not run"


class Row(NamedTuple):
    """One figure or table of the paper.

    Attributes:
        where: the figure or table.
        study: the study that tests it, and the name of its folder.
        title: the title of its page.
        claim: what the paper found.
        found: what was found here.
        verdict: as in Finding, or "not run".
        why: the reason of the verdict.
        models: the number of models it rests on.
        page: whether it has a page of its own.
        seconds: the time it took.
    """

    where: str
    study: str
    title: str
    claim: str
    found: str
    verdict: str
    why: str
    models: int = 0
    page: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, eq=False, repr=False)
class Reproduction:
    """All findings on one training set.

    Attributes:
        rows: one for each figure or table.
        models: name -> settings, parameters, seconds and digest of what was trained.
        training_set: as in StageCurve.
        settings: likewise.
        provenance: likewise.
        notes: plain sentences.
    """

    rows: tuple[Row, ...]
    models: Mapping[str, Mapping[str, Any]]
    training_set: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and dictionaries."""
        rows = [to_jsonable(row._asdict()) for row in self.rows]
        names = ("models", "training_set", "settings", "provenance")
        parts = {name: to_jsonable(getattr(self, name)) for name in names}
        return {"schema": SCHEMA, "rows": rows, "notes": list(self.notes)} | parts

    def __repr__(self) -> str:
        return f"Reproduction({self.training_set.get('name')!r}, {len(self.rows)} rows)"

    def to_frame(self) -> Any:
        """The rows as a pandas DataFrame, one for each figure or table of the paper.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return to_frame({name: [getattr(row, name) for row in self.rows] for name in Row._fields})

    def to_files(self) -> dict[str, str]:
        """The files by name: reproduction.json with everything, reproduction.csv with the rows but their seconds."""
        names = [name for name in Row._fields if name != "seconds"]
        columns = {name: [getattr(row, name) for row in self.rows] for name in names}
        return {"reproduction.json": json_text(self.to_dict()), "reproduction.csv": csv_text(columns)}

    @classmethod
    def load(cls, directory: str | Path) -> "Reproduction":
        """Load a reproduction from its files.

        Raises:
            InputError: the file is missing, damaged, or of another version of the format.
        """
        path = Path(directory) / "reproduction.json"
        found = read_json(path, dict[str, Any], KIND)
        if found.pop("schema", None) != SCHEMA:
            raise InputError(f"{path} is of another version of the format; expected schema {SCHEMA}: run it again")
        check_form(found, ReproductionForm, path, KIND)
        with reading(path, KIND):
            found["rows"] = tuple(Row(**row) for row in found["rows"])
            found["notes"] = tuple(found["notes"])
            return cls(**found)


class TrainedForm(TypedDict):
    """What is used of what reproduction.json says of a model."""

    settings: form_of(TrainSettings, interval=list[float])  # type: ignore[valid-type]
    parameters: Count
    seconds: float


KIND = "a reproduction saved by flowscope"
ReproductionForm = form_of(
    Reproduction,
    rows=list[form_of(Row)],  # type: ignore[misc]
    models=dict[str, TrainedForm],
    training_set=dict[str, Any],
    settings=dict[str, Any],
    provenance=dict[str, Any],
    notes=list[str],
)

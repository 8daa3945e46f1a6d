"""Findings and reproductions on disk: they come back as they were, and what was changed is refused in words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from flowscope.errors import InputError
from flowscope.reproduction.result import Reproduction, Row
from flowscope.studies.bench.finding import Finding, Gallery, Panel, Series
from flowscope.training import TrainSettings

Change = Callable[[dict[str, Any]], object]
WORDS = ("demo", "A demo", "Fig. 0", "Falls.", "It falls.", "agrees", "By eye.")
TABLE = {"t": [0.0, 0.5], "loss": [2.0, float("nan")], "loss_error": [0.1, 0.2], "name": ["a", "b"]}
PANEL = Panel("Loss", "t", "loss", (Series.with_error("all", "demo", "t", "loss"),))
IMAGES = np.arange(48, dtype=np.float32).reshape(1, 3, 1, 4, 4)


def finding() -> Finding:
    gallery = Gallery("Some", IMAGES, ("a",), ("b", "c", "d"))
    return Finding(*WORDS, {"demo": TABLE}, (PANEL,), (gallery,), ("A note.",))  # type: ignore[arg-type]


def changed(folder: Path, change: Change, name: str = "demo.json") -> Path:
    about = json.loads((folder / name).read_text())
    change(about)
    (folder / name).write_text(json.dumps(about))
    return folder


def test_a_finding_comes_back(tmp_path: Path) -> None:
    finding().save(tmp_path)
    again = Finding.load(tmp_path, "demo")
    assert again.to_dict() == finding().to_dict()
    np.testing.assert_array_equal(again.galleries[0].images, IMAGES)
    assert isinstance(again.plot(), Figure)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.update(verdict="perhaps"), "verdict is 'perhaps'"),
        (lambda a: a.update(title=3), "title is 3"),
        (lambda a: a.update(tables=[]), r"tables is \[\]"),
        (lambda a: a["tables"]["demo"].update(t=[{}, 1]), r"tables.demo.t\[0\].* is \{\}"),
        (lambda a: a["tables"]["demo"].update(t=[0.0]), "columns of table 'demo' differ in length"),
        (
            lambda a: a["tables"]["demo"].pop("loss_error"),
            "draws 'loss_error' .* expected a column that is there",
        ),
        (lambda a: a["tables"]["demo"].update(loss=["x", "y"]), "draws 'loss' .* expected a column of numbers"),
        (lambda a: a["panels"][0].update(kind="pie"), "kind is 'pie'"),
        (lambda a: a["panels"][0].update(series=3), "series is 3"),
        (lambda a: a["panels"][0].update(colour="red"), "cannot be read .*colour"),
        (lambda a: a["galleries"][0].update(rows=["a", "b"]), r"gallery0 of .* expected shape \(2, 3, 1, 4, 4\)"),
        (lambda a: a["galleries"].append(a["galleries"][0]), "gallery1"),
        (lambda a: a.pop("found"), "lacks found"),
        (lambda a: a.update(schema=None), "another version of the format"),
    ],
)
def test_a_finding_that_was_changed_is_refused(change: Change, said: str, tmp_path: Path) -> None:
    finding().save(tmp_path)
    with pytest.raises(InputError, match=said):
        Finding.load(changed(tmp_path, change), "demo")


def test_panels_must_fit_the_tables() -> None:
    for series in (
        Series("a", "demo", "t", "gain"),
        Series("a", "other", "t", "loss"),
        Series("a", "demo", "t", "name"),
    ):
        with pytest.raises(InputError, match="panel 'Loss' draws"):
            Finding(*WORDS, {"demo": TABLE}, (PANEL._replace(series=(series,)),))  # type: ignore[arg-type]


def reproduction(folder: Path) -> Path:
    settings = TrainSettings(model="mlp").to_dict()
    models = {"mlp": {"settings": settings, "parameters": 9, "seconds": 1.0}}
    found = Reproduction((Row("Fig. 2", "stages", "A", "B", "C", "agrees", "D"),), models)
    for name, text in found.to_files().items():
        (folder / name).write_text(text)
    assert Reproduction.load(folder).to_dict() == found.to_dict()
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a["rows"][0].update(models="one"), r"rows\[0\].models is 'one'"),
        (lambda a: a["rows"][0].pop("claim"), r"lacks rows\[0\].claim"),
        (lambda a: a.update(rows={}), r"rows is \{\}"),
        (lambda a: a["models"]["mlp"].update(settings=[]), r"models.mlp.settings is \[\]"),
        (lambda a: a["models"]["mlp"]["settings"].pop("interval"), "lacks models.mlp.settings.interval"),
        (lambda a: a.update(notes="x"), "notes is 'x'"),
    ],
)
def test_a_reproduction_that_was_changed_is_refused(change: Change, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        Reproduction.load(changed(reproduction(tmp_path), change, "reproduction.json"))

"""The source and the options that a model was trained with, kept in its model.json, and told to no command again."""

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from flowscope.cli import options as o
from flowscope.core.schema import check_form
from flowscope.data.loaders.builtin import is_builtin
from flowscope.errors import InputError
from flowscope.training.model_store import ABOUT_FILE, ABOUT_KIND, is_model_folder, read_about


class SourceForm(TypedDict):
    """What model.json says of the source."""

    source: str
    options: dict[str, Any]


class OptionsForm(TypedDict, total=False):
    """The options of a source in model.json, those that were given."""

    resize: int | list[int]
    crop: str
    grey: bool
    flips: bool
    subset: int
    classes: list[str]
    skip_broken: bool
    layout: str
    assume: str
    split: str
    columns: str
    normalise: str
    posterior: str
    no_cache: bool


def remember(source: str, data: o.DataOptions) -> dict[str, Any]:
    """A source and its options as model.json keeps them: files by their absolute paths, options that were given."""
    usual = asdict(o.DataOptions())
    given = {name: value for name, value in asdict(data).items() if value != usual[name] and value != []}
    if "normalise" in given:
        given["normalise"] = _absolute(given["normalise"])
    return {"source": _absolute(source), "options": given}


def _absolute(text: str) -> str:
    """The absolute path of what is a file or a folder; any other words as they are."""
    path = os.path.expanduser(text)
    return os.path.abspath(path) if not is_builtin(text) and os.path.exists(path) else text


def source_of(
    source: str | None, models: Sequence[str], data: o.DataOptions, missing: str
) -> tuple[str, o.DataOptions]:
    """The source that is given with its options, else those that the models remember.

    Args:
        source: None where none is given.
        models, data: as for :func:`recall`.
        missing: said where the models, if there are any, know no source either.

    Raises:
        InputError: there is none, or as :func:`recall` says.
    """
    if source is not None:
        return source, data
    known = recall(models, data)
    if known is None:
        raise InputError(missing)
    return known


def recall(models: Sequence[str], data: o.DataOptions) -> tuple[str, o.DataOptions] | None:
    """The source and the options that models were trained with; None where no model says so.

    Args:
        models: as they were given; those of other projects know no source.
        data: the options of the command line, which belong to a source that is given.

    Raises:
        InputError: the models were trained on several sources, options are given for no source, or a record is damaged.
    """
    folders = [Path(os.path.expanduser(model)) for model in models]
    records = [(folder, read_about(folder).get("source")) for folder in folders if is_model_folder(folder)]
    known = {str(record): (folder, record) for folder, record in records if record is not None}
    if not known:
        return None
    if len(known) > 1:
        names = ", ".join(str(folder) for folder, _ in known.values())
        raise InputError(
            f"the models {names} were trained on other sources or options; expected the data: --data SOURCE"
        )
    if data.given:
        raise InputError(
            "options of the data are given and no data; expected --data SOURCE with them, or neither, for the source "
            "and options that the model was trained with"
        )
    folder, record = next(iter(known.values()))
    check_form(record, SourceForm, folder / ABOUT_FILE, ABOUT_KIND)
    check_form(record["options"], OptionsForm, folder / ABOUT_FILE, ABOUT_KIND)
    _check_there(record["source"], folder)
    options: dict[str, Any] = dict(record["options"])
    unknown = sorted(options.keys() - OptionsForm.__annotations__.keys())
    if unknown:
        raise InputError(f"{folder / ABOUT_FILE} names the option {unknown[0]!r}; expected {ABOUT_KIND}")
    if isinstance(options.get("resize"), list):
        options["resize"] = tuple(options["resize"])
    return record["source"], replace(o.DataOptions(**options), no_cache=data.no_cache or bool(options.get("no_cache")))


def _check_there(source: str, model: Path) -> None:
    """Refuse a remembered file or folder that is gone."""
    if os.path.isabs(source) and not os.path.exists(source):
        raise InputError(
            f"{model} was trained on {source}, which is not there any more; expected the same data: --data SOURCE"
        )

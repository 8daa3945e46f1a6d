"""Where a result comes from: training set, settings, versions, and its own files to download."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from flowscope.report.elements import Cell, Download, Table, data_uri, kind_of
from flowscope.report.plain_text import Readable, as_text, json_safe, key_text, readable

ORACLE_COST = "Versions and cost (nfe: oracle evaluations)"
NETWORK_COST = "Versions and cost (nfe: network evaluations)"
VARIANT_COLUMNS = ("name", "N", "distinct", "shape", "digest")


class Entry(NamedTuple):
    """A row of a table of settings: a key in words, and its value, which may be nested."""

    key: str
    value: Readable

    @property
    def key_kind(self) -> str:
        """The CSS class of the key's cell."""
        return kind_of(self.key)

    @property
    def kind(self) -> str:
        """The CSS class of the value's cell."""
        return kind_of(self.value) if isinstance(self.value, str) else "words"


class Settings(NamedTuple):
    """A table of settings."""

    caption: str
    entries: list[Entry]


class Provenance(NamedTuple):
    """The last section of every page.

    Attributes:
        tables: training set, settings, versions.
        variants: the training sets of a sweep, or None.
        downloads: the result's own files.
    """

    tables: list[Settings]
    variants: Table | None
    downloads: list[Download]


def provenance(result: Any, cost: str = ORACLE_COST) -> Provenance:
    """Where a result comes from.

    Args:
        result: with the mappings `training_set`, `settings` and `provenance`, and with `to_files`.
        cost: caption of the table of versions.
    """
    data = dict(result.training_set)
    variants = data.pop("variants", None)
    named = {"Training set": data} if variants is None else {}
    named |= {"Settings": result.settings, cost: result.provenance}
    return Provenance(
        [Settings(caption, list(entries(values))) for caption, values in named.items()],
        None if variants is None else _variant_table(variants),
        [download(name, source) for name, source in result.to_files().items() if isinstance(source, str)],
    )


def entries(values: Mapping[str, Any], prefix: str = "") -> Iterator[Entry]:
    """A row for each value; a mapping gives a row for each of its own values, as "key: inner key"."""
    for key, value in values.items():
        name = f"{prefix}{key_text(key)}"
        if isinstance(value, Mapping) and value:
            yield from entries(value, f"{name}: ")
        else:
            yield Entry(name, readable(value))


def _variant_table(variants: list[dict[str, Any]]) -> Table:
    """The training sets of a sweep, a row each."""
    rows = []
    for variant in variants:
        texts = {column: as_text(variant[column]) for column in VARIANT_COLUMNS}
        counts = {column: variant[column] for column in ("N", "distinct")}
        rows.append([Cell(text, counts.get(column, text)) for column, text in texts.items()])
    return Table("Training sets", VARIANT_COLUMNS, rows)


def download(name: str, source: str) -> Download:
    """A file of the result; absolute paths that JSON may hold are cut as elsewhere."""
    if not name.endswith(".json"):
        return Download(name, data_uri(source.encode(), "text/csv"))
    shown = json.dumps(json_safe(json.loads(source)), indent=1, allow_nan=False)
    return Download(name, data_uri(shown.encode(), "application/json"))

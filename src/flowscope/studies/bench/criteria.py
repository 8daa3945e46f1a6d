"""Criteria: what every verdict rests on, read from criteria.toml, with its version."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from flowscope.errors import unknown_name

NO_STUDIES = ("version", "changed", "expected")


@dataclass(frozen=True)
class Criterion:
    """The criterion of one study: a sentence or more, and the numbers in it."""

    why: str
    numbers: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.numbers[name]


@cache
def read_criteria() -> dict[str, Any]:
    """The whole file criteria.toml."""
    return tomllib.loads(files("flowscope.studies").joinpath("criteria.toml").read_text(encoding="utf-8"))


def criteria_version() -> int:
    """The version of the criteria, which every result carries."""
    return int(read_criteria()["version"])


@cache
def criterion(study: str) -> Criterion:
    """The criterion of a study by name; "shared" holds what several share.

    Raises:
        InputError: there is none of that name.
    """
    known = {name: part for name, part in read_criteria().items() if name not in NO_STUDIES}
    if study not in known:
        raise unknown_name("the study", study, known)
    numbers = known["shared"] | known[study]
    return Criterion(" ".join(str(known[study]["why"]).split()).format(**numbers), numbers)

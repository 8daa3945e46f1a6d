"""goldens.json: written, read and compared with what is measured."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.goldens.measure import SINGLE, Golden, Goldens

FILE = Path(__file__).with_name("goldens.json")


class Change(NamedTuple):
    """A recorded quantity that is no longer what it was."""

    name: str
    off: float  # the largest change in units of what is allowed; infinity where there is none of this name or shape
    before: float
    after: float

    def __str__(self) -> str:
        return f"{self.name}: {self.before:.17g} before, {self.after:.17g} after, {self.off:.3g} times what is allowed"


def to_text(goldens: dict[str, Goldens]) -> str:
    """JSON with a line for every quantity, so that a change shows in a comparison of texts."""
    lines = {}
    for name, quantities in goldens.items():
        rows = [f"  {json.dumps(key)}: {json.dumps(_to_json(value))}" for key, value in quantities.items()]
        lines[name] = f"{json.dumps(name)}: {{\n" + ",\n".join(rows) + "\n}"
    return "{\n" + ",\n".join(lines.values()) + "\n}\n"


def _to_json(golden: Golden) -> dict[str, Any]:
    digits = 9 if np.all(golden.share == SINGLE) else 15  # far more than are compared
    return {
        "size": [float(f"{value:.2g}") for value in golden.size[:, 0]],
        "values": [[float(f"{value:.{digits}g}") for value in row] for row in golden.values],
    }


def from_text(text: str) -> dict[str, Goldens]:
    """What `to_text` was given, to the digits that it keeps, but for the shares: those are of what is measured."""

    def read(entry: dict[str, Any]) -> Golden:
        return Golden(np.array(entry["values"]), np.array(entry["size"])[:, None], np.nan)

    return {name: {k: read(v) for k, v in of.items()} for name, of in json.loads(text).items()}


def changes(recorded: dict[str, Goldens], measured: dict[str, Goldens]) -> list[Change]:
    """What is recorded, of the names that were measured, and is no longer so."""
    found = []
    for name, quantities in measured.items():
        known = recorded.get(name, {})
        for key in [*quantities, *(set(known) - set(quantities))]:
            change = _change(f"{name}|{key}", known.get(key), quantities.get(key))
            if change is not None:
                found.append(change)
    return found


def merged(recorded: dict[str, Goldens], measured: dict[str, Goldens]) -> dict[str, Goldens]:
    """What is measured, with the recorded digits of all that has not changed."""
    moved = {change.name for change in changes(recorded, measured)}
    return {
        name: {
            key: value if f"{name}|{key}" in moved else value._replace(values=recorded[name][key].values)
            for key, value in quantities.items()
        }
        for name, quantities in measured.items()
    }


def _change(name: str, old: Golden | None, new: Golden | None) -> Change | None:
    if old is None or new is None or old.values.shape != new.values.shape:
        return Change(name, math.inf, math.nan, math.nan)
    with np.errstate(invalid="ignore"):  # of infinities
        off = np.abs(old.values - new.values) / np.maximum(new.share * old.size, 1e-300)
    same = (old.values == new.values) | (np.isnan(old.values) & np.isnan(new.values))
    off = np.where(same, 0.0, np.nan_to_num(off, nan=math.inf, posinf=math.inf))
    worst = np.unravel_index(off.argmax(), off.shape)
    if off[worst] <= 1:
        return None
    return Change(name, float(off[worst]), float(old.values[worst]), float(new.values[worst]))

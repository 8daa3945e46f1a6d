"""The timestep shift that gives navigation a wished share of the steps: a table, and data for the slider."""

from typing import Any, NamedTuple

from flowscope.report.elements import Cell, Table
from flowscope.report.formatting import number, percent, time
from flowscope.sampling.schedules import DEFAULT_STEPS, shift_for, steps_before

NAVIGATION_SHARES = (0.2, 0.3, 0.4, 0.5)  # of the steps, one row of the table each


class Schedule(NamedTuple):
    """What the section on timestep shifts shows.

    Attributes:
        half: the end of navigation, as text. rest: 1 - half, as text.
        table: shifts by share.
        slider: data for the script.
    """

    half: str
    rest: str
    table: Table
    slider: dict[str, float]


def schedule(curve: Any) -> Schedule | None:
    """The section for a curve; None where the end of navigation was not found."""
    half = float(curve.half.t)
    if not 0 < half < 1:
        return None
    rows = [_row(share, half, percent(share)) for share in NAVIGATION_SHARES]
    rows.append(_row(half, half, f"{percent(half)} (no shift)"))
    columns = ("share of the steps", "shift s", "diffusers' shift 1/s", f"steps of {DEFAULT_STEPS}")
    table = Table("Shifts that give navigation a share of the steps", columns, rows)
    return Schedule(time(half), time(1 - half), table, {"t": half, "steps": DEFAULT_STEPS})


def _row(share: float, half: float, label: str) -> list[Cell]:
    s, count = shift_for(share, half), steps_before(share)
    return [Cell(label, share), Cell(number(s), s), Cell(number(1 / s), 1 / s), Cell(str(count), count)]

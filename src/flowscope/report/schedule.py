"""The timestep shift that gives navigation a wished share of the steps: a table, and a slider where scripts run."""

from typing import Any

from flowscope.report.markup import Cell, json_island, outputs, paragraph, section, table
from flowscope.report.numbers import SHARES, number, percent, time
from flowscope.sampling.schedules import STEPS, shift_for, steps_before

OUTPUTS = (
    ("value", "share"),
    ("s", "shift s"),
    ("diffusers", "diffusers' shift 1/s"),
    ("steps", "steps in navigation"),
)


def schedule_section(curve: Any) -> str:
    """The section for a curve whose half may be undefined."""
    half = float(curve.half.t)
    if not 0 < half < 1:
        nothing = "A timestep shift for navigation cannot be given, since its end was not found."
        return section("schedule", "Timestep shift", paragraph(nothing))
    intro = (
        f"With a timestep shift t′ = s t/(1 + (s − 1) t), navigation (t′ below {time(half)}) gets the share f of "
        f"uniform steps for s = {time(half)} (1 − f)/({time(1 - half)} f). Where time runs the other way, as in "
        "diffusers on the linear path, the same shift is the number 1/s."
    )
    rows = [_row(share, half, percent(share)) for share in SHARES]
    rows.append(_row(half, half, f"{percent(half)} (no shift)"))
    columns = ("share of the steps", "shift s", "diffusers' shift 1/s", f"steps of {STEPS}")
    return section(
        "schedule",
        "Timestep shift",
        paragraph(intro),
        table("Shifts that give navigation a share of the steps", columns, rows),
        _slider(),
        json_island("shift-data", {"t": half, "steps": STEPS}),
    )


def _row(share: float, half: float, label: str) -> list[Cell]:
    s, count = shift_for(share, half), steps_before(share)
    return [Cell(label, share), Cell(number(s), s), Cell(number(1 / s), 1 / s), Cell(str(count), count)]


def _slider() -> str:
    label = '<label for="share">Share of the steps for navigation (per cent)</label>'
    slider = '<input type="range" id="share" min="1" max="99" step="1" value="30">'
    return f'<div class="control" hidden>{label}{slider}{outputs("share", OUTPUTS)}</div>'

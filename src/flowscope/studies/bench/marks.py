"""Marks: where the oracle's own stages end, on the panels of a study."""

import math
from collections.abc import Iterable

from flowscope.curve.stage_times import Boundaries
from flowscope.paths import Path
from flowscope.studies.bench.finding import Mark, Panel

TIMES = ("t", "t_switch", "split t", "t at its start")  # names of axes of time


def stage_marks(stages: Boundaries, path: Path | None = None, series: int | None = None) -> tuple[Mark, ...]:
    """A mark for each boundary inside (0, 1); one that does not exist has none.

    Args:
        stages: the boundaries, as times.
        path: of these times, for an axis of log-snr; None for an axis of time.
        series: which series of a panel they belong to; None for all.

    Example:
        >>> import math
        >>> from flowscope.paths import linear
        >>> from flowscope.curve.stage_times import Boundaries
        >>> stage_marks(Boundaries(0.5, math.nan), linear)
        (Mark(name='half', at=0.0, series=None),)
    """
    inside = {name: t for name, t in (("half", stages.half), ("saturation", stages.saturation)) if 0 < t < 1}
    return tuple(Mark(name, t if path is None else math.log(float(path(t).snr)), series) for name, t in inside.items())


def mark_stages(panels: Iterable[Panel], stages: Boundaries) -> tuple[Panel, ...]:
    """The panels, with both boundaries marked on those over time."""
    marks = stage_marks(stages)
    return tuple(panel._replace(marks=marks) if panel.x_label in TIMES else panel for panel in panels)

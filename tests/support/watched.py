"""What tests of the float32 pass on devices share: sets of any size go through it, and it is watched."""

from typing import Any

import pytest

from flowscope.oracle.engines import float32 as single
from flowscope.oracle.engines import select as engines


def watch(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The shares of rows that were done again in float64, one a call, as they come."""
    seen: list[float] = []

    def watched(*given: Any, **named: Any) -> Any:
        moments, rows = single.float32_moments(*given, **named)
        seen.append(float(rows.double().mean()))
        return moments, rows

    monkeypatch.setattr(engines, "SMALLEST", 0)
    monkeypatch.setattr(engines, "single_moments", watched)
    return seen

"""Losses: means over steps, in all and in each tenth of t, summed on the device between two rows."""

import numpy as np
import torch
from torch import Tensor

from flowscope.training.draws import to_device

BINS = 10  # parts of time
MAX_ROWS = 400  # of the record, about
COLUMNS = ("step", "loss", "rate", "seconds", *(f"loss_{k / BINS:.1f}_{(k + 1) / BINS:.1f}" for k in range(BINS)))


class Losses:
    """The record of losses of a run, with a row every `every` steps.

    Attributes:
        every: steps between two rows.
        steps: of the run.
        rows: closed rows, in the order of COLUMNS; NaN for a tenth of t in which nothing was drawn.
        sums: (2, BINS) float64 on the device, sums of losses and numbers of draws since the last row.
    """

    def __init__(self, steps: int, device: torch.device) -> None:
        self.every = max(1, steps // MAX_ROWS)
        self.steps = steps
        self.rows: list[tuple[float, ...]] = []
        self.sums = torch.zeros(2, BINS, dtype=torch.float64, device=device)

    def add(self, errors: Tensor, t: Tensor) -> None:
        """Add squared errors (B,) at times t (B,), t on the CPU."""
        where = to_device((t * BINS).to(torch.int64).clamp(0, BINS - 1), errors.device)
        values = torch.stack([errors, torch.ones_like(errors)]).to(torch.float64)
        self.sums.index_add_(1, where, values)

    def due(self, step: int) -> bool:
        """Whether a row ends with this step."""
        return step % self.every == 0 or step == self.steps

    def close(self, step: int, learning_rate: float, seconds: float) -> float:
        """End a row, which waits for the device, and return its loss."""
        total, count = self.sums.cpu().numpy()
        with np.errstate(invalid="ignore"):
            bins = total / count
        loss = float(total.sum() / count.sum())
        self.rows.append((step, loss, learning_rate, seconds, *bins.tolist()))
        self.sums.zero_()
        return loss

    @property
    def last(self) -> float:
        """The loss of the last row; NaN before there is one."""
        return self.rows[-1][1] if self.rows else float("nan")

    def to_csv(self) -> str:
        """The record as CSV: floats with all their digits, empty cells where nothing was drawn."""
        lines = [",".join(COLUMNS)]
        for step, *values in self.rows:
            lines.append(",".join([str(int(step)), *("" if np.isnan(v) else repr(float(v)) for v in values)]))
        return "\n".join(lines) + "\n"

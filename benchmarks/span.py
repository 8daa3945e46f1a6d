"""Sampling an oracle in the span of a small class: `python benchmarks/span.py [--quick]`.

50 Euler steps of 64 states from noise to data, by calls of the oracle (the ordinary way) and by coordinates in the span
of the class (sampling/span.py), in turn. The Gram matrix is made anew in every call. Beside the ratio stand what
`sample` chooses, how many rows had to be followed again, and the largest difference of the samples, relative to their
length. Points are Gaussian with a falling spectrum.
"""

import sys
from functools import partial
from typing import Any

import torch

import flowscope as fs
from _harness import interleave, save, table
from flowscope.sampling import make_nodes, sample
from flowscope.sampling.span import SpanRows, follow_in_span, span_is_cheaper, states_at_once

QUICK = "--quick" in sys.argv[1:]
COUNTS, WIDTHS = ((100, 500, 1300, 5000), (3072, 4096)) if not QUICK else ((20, 50), (256,))
ROWS, STEPS, ROUNDS = 64, 50, 3


def measure(count: int, width: int) -> list[Any]:
    """A row of the table."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(count, width, generator=generator) * torch.arange(1, width + 1) ** -0.5
    oracle, x0 = fs.Oracle(points), torch.randn(ROWS, width, generator=generator)
    law, rows = oracle.support.law(), torch.arange(ROWS)
    span = SpanRows(rows, oracle, law, states_at_once(law, oracle.memory))
    if span.at_once == 0:
        return [count, width, "does not fit into memory", "", "", ""]
    inside = partial(follow_in_span, span, x0, make_nodes(STEPS), "euler", min(ROWS, span.at_once), lambda: None)
    ordinary = partial(sample, oracle.velocity, x0, steps=STEPS)  # a function is no Oracle, and is called
    seconds = interleave({"ordinary": ordinary, "span": inside}, ROUNDS)
    (ends, unsure), truth = inside(), ordinary()
    off = float(((ends - truth)[~unsure].norm(dim=1) / truth[~unsure].norm(dim=1)).max())
    chosen = "span" if span_is_cheaper(law, ROWS, STEPS, oracle.memory) else "ordinary"
    return [count, width, seconds["ordinary"] / seconds["span"], chosen, int(unsure.sum()), off]


def main() -> None:
    rows = [measure(count, width) for width in WIDTHS for count in COUNTS]
    columns = ("points", "D", "ordinary over span", "chosen", "rows again", "difference")
    table(f"{STEPS} Euler steps, B = {ROWS}, float32", columns, rows)
    if not QUICK:
        save("span", {"rows": [dict(zip(columns, row, strict=True)) for row in rows]})


if __name__ == "__main__":
    main()

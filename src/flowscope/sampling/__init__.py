"""Sampling: schedules, solvers, and sample() over a generator of named steps."""

from flowscope.sampling.nfe import Counted
from flowscope.sampling.noise import draw_noise
from flowscope.sampling.sample import sample
from flowscope.sampling.schedules import make_nodes, shift_time
from flowscope.sampling.solvers import SOLVERS
from flowscope.sampling.trace import Trace, trace
from flowscope.sampling.trajectory import Step, trajectory

__all__ = [
    "SOLVERS",
    "Counted",
    "Step",
    "Trace",
    "draw_noise",
    "make_nodes",
    "sample",
    "shift_time",
    "trace",
    "trajectory",
]

"""Sampling: schedules, solvers, and sample() over a generator of named steps."""

from flowscope.sampling.inversion import invert
from flowscope.sampling.likelihood import log_likelihood
from flowscope.sampling.nfe import Counted
from flowscope.sampling.noise import draw_noise
from flowscope.sampling.sample import sample
from flowscope.sampling.scheduler_nodes import nodes_of
from flowscope.sampling.schedules import make_nodes, shift_time
from flowscope.sampling.solvers import SOLVERS
from flowscope.sampling.stochastic import SAMPLERS
from flowscope.sampling.trace import Trace, trace
from flowscope.sampling.trajectory import Step, trajectory

__all__ = [
    "SAMPLERS",
    "SOLVERS",
    "Counted",
    "Step",
    "Trace",
    "draw_noise",
    "invert",
    "log_likelihood",
    "make_nodes",
    "nodes_of",
    "sample",
    "shift_time",
    "trace",
    "trajectory",
]

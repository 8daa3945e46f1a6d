"""The two-stage curve: one pass over the points gives the posterior at every timestep."""

from flowscope.curve.result import StageCurve
from flowscope.curve.stages import stages

__all__ = ["StageCurve", "stages"]

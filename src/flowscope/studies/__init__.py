"""One finding a file: a function from fields and a training set to a frozen result with numbers and their errors."""

from flowscope.studies.curve import StageCurve
from flowscope.studies.stages import stages

__all__ = ["StageCurve", "stages"]

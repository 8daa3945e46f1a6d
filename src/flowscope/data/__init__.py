"""Training sets: TrainingSet, load, which makes one of nearly any source, and windows of trajectories."""

from flowscope.data.load import load
from flowscope.data.training_set import TrainingSet
from flowscope.data.windows import windows

__all__ = ["TrainingSet", "load", "windows"]

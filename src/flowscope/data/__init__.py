"""Training sets: TrainingSet, and load, which makes one of nearly any source."""

from flowscope.data.load import load
from flowscope.data.training_set import TrainingSet

__all__ = ["TrainingSet", "load"]

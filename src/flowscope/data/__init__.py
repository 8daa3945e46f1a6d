"""TrainingSet and its loaders: one loader a format; spectrum and the predicted boundary."""

from flowscope.data.load import load
from flowscope.data.training_set import TrainingSet

__all__ = ["TrainingSet", "load"]

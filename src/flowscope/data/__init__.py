"""Training sets: TrainingSet; load, which makes one of nearly any source; pack, which writes one; windows."""

from flowscope.data.load import load
from flowscope.data.pack import pack
from flowscope.data.training_set import TrainingSet
from flowscope.data.windows import windows

__all__ = ["TrainingSet", "load", "pack", "windows"]

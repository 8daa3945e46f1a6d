"""Training sets: TrainingSet, load, which makes one of nearly any source, and pack, which writes one as one file."""

from flowscope.data.load import load
from flowscope.data.pack import pack
from flowscope.data.training_set import TrainingSet

__all__ = ["TrainingSet", "load", "pack"]

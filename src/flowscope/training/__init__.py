"""Training networks: the loop as a generator, a training into a folder, its models, and the monitor."""

from flowscope.training.estimate import Estimate, estimate
from flowscope.training.fit import train_to
from flowscope.training.loop import TrainStep, train
from flowscope.training.model_store import load_model, snapshot_steps
from flowscope.training.monitor.measurement import Measurement
from flowscope.training.monitor.minibatch import MinibatchFloor, minibatch_floor
from flowscope.training.monitor.monitor import Monitor
from flowscope.training.settings import TrainSettings

__all__ = [
    "Estimate",
    "Measurement",
    "MinibatchFloor",
    "Monitor",
    "TrainSettings",
    "TrainStep",
    "estimate",
    "load_model",
    "minibatch_floor",
    "snapshot_steps",
    "train",
    "train_to",
]

"""Training networks: the loop as a generator, targets, densities of timesteps, averages, checkpoints."""

from flowscope.training.checkpoint import load_model, snapshot_steps
from flowscope.training.folder import train_to
from flowscope.training.loop import TrainStep, train
from flowscope.training.monitor import Measurement, Monitor
from flowscope.training.settings import TrainSettings

__all__ = ["Measurement", "Monitor", "TrainSettings", "TrainStep", "load_model", "snapshot_steps", "train", "train_to"]

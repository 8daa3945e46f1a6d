"""flowscope: what flow matching asks a network to learn on your data, computed exactly."""

import logging
from importlib.metadata import version

from flowscope.data import TrainingSet, load
from flowscope.errors import FlowscopeError, InputError
from flowscope.fields import VelocityField
from flowscope.oracle import Oracle, Posterior
from flowscope.paths import Path, convert
from flowscope.studies import StageCurve, stages

__all__ = [
    "FlowscopeError",
    "InputError",
    "Oracle",
    "Path",
    "Posterior",
    "StageCurve",
    "TrainingSet",
    "VelocityField",
    "convert",
    "load",
    "stages",
]

__version__ = version("flowscope")

logging.getLogger("flowscope").addHandler(logging.NullHandler())  # a library is silent unless its user listens

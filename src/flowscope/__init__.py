"""flowscope: what flow matching asks a network to learn on your data, computed exactly."""

import logging
from importlib.metadata import version

from flowscope.data import TrainingSet, load
from flowscope.errors import FlowscopeError, InputError
from flowscope.fields import VelocityField, guide, switch
from flowscope.networks import as_field
from flowscope.oracle import Oracle, Posterior
from flowscope.paths import Path, convert
from flowscope.sampling import sample
from flowscope.studies import StageCurve, stages
from flowscope.training import Monitor, load_model

__all__ = [
    "FlowscopeError",
    "InputError",
    "Monitor",
    "Oracle",
    "Path",
    "Posterior",
    "StageCurve",
    "TrainingSet",
    "VelocityField",
    "as_field",
    "convert",
    "guide",
    "load",
    "load_model",
    "sample",
    "stages",
    "switch",
]

__version__ = version("flowscope")

logging.getLogger("flowscope").addHandler(logging.NullHandler())  # a library is silent unless its user listens

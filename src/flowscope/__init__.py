"""flowscope: what flow matching asks a network to learn on your data, computed exactly.

A public name is loaded when it is asked for: to import torch takes a second or more, and by then the command line, for
which Python imports this first, must answer to Ctrl-C.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowscope.auditing import audit
    from flowscope.curve import StageCurve, stages
    from flowscope.data import TrainingSet, load
    from flowscope.errors import FlowscopeError, InputError
    from flowscope.fields import VelocityField, guide, switch
    from flowscope.networks import as_field
    from flowscope.oracle import Oracle, Posterior
    from flowscope.paths import Path, convert
    from flowscope.sampling import sample
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
    "audit",
    "convert",
    "guide",
    "load",
    "load_model",
    "sample",
    "stages",
    "switch",
]

__version__: str

_HOMES = {
    "FlowscopeError": "errors",
    "InputError": "errors",
    "Monitor": "training",
    "Oracle": "oracle",
    "Path": "paths",
    "Posterior": "oracle",
    "StageCurve": "curve",
    "TrainingSet": "data",
    "VelocityField": "fields",
    "as_field": "networks",
    "audit": "auditing",
    "convert": "paths",
    "guide": "fields",
    "load": "data",
    "load_model": "training",
    "sample": "sampling",
    "stages": "curve",
    "switch": "fields",
}  # the room that each name is taken from
_ROOMS = {*_HOMES.values(), "metrics", "references"}

logging.getLogger("flowscope").addHandler(logging.NullHandler())  # a library is silent unless its user listens


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        globals()[name] = getattr(import_module(f"flowscope.{_HOMES[name]}"), name)
        return globals()[name]
    if name == "__version__":
        from importlib.metadata import version

        return version("flowscope")
    if name in _ROOMS:
        return import_module(f"flowscope.{name}")
    raise AttributeError(f"module 'flowscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "__version__", *_HOMES, *_ROOMS})

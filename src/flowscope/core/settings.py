"""Settings of a run: checks of whole numbers, versions, optional packages."""

import platform
from functools import cache
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import Any

import numpy as np
import torch

from flowscope.errors import InputError, MissingExtraError


def check_count(value: object, what: str, least: int = 1) -> int:
    """Check a whole number of at least `least`.

    Raises:
        InputError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{what} is {value!r}; expected a whole number of at least {least}")
    return int(value)


def check_seed(seed: object) -> int:
    """Check a seed, a whole number of at least 0.

    Raises:
        InputError: it is not.
    """
    return check_count(seed, "seed", least=0)


def check_sizes(shape: Any) -> tuple[int, ...]:
    """Check the shape of one state: whole numbers of at least 1.

    Raises:
        InputError: it is no such shape.
    """
    if isinstance(shape, (str, bytes)) or not hasattr(shape, "__iter__"):
        raise InputError(f"shape is {shape!r}; expected the shape of one sample, such as (3, 32, 32)")
    return tuple(check_count(side, "a side of shape") for side in shape)


def versions() -> dict[str, str]:
    """The versions of software that a result may depend on, by name."""
    return {
        "flowscope": _installed("flowscope"),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


_installed = cache(version)  # reads a file of the package, which is slow and says the same each time


def need(module: str, extra: str) -> ModuleType:
    """Import an optional package when it is needed.

    Args:
        module: the module to import.
        extra: the extra of flowscope that installs it.

    Raises:
        MissingExtraError: it is not installed; the message says which extra of flowscope brings it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise  # the package is installed, but something it imports is not
        raise MissingExtraError(
            f"{module.split('.')[0]} is not installed and this needs it; expected the extra {extra!r}: "
            f"pip install 'flowscope[{extra}]'"
        ) from None

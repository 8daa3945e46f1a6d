"""Settings of a run: whole numbers, checked in one place, and the versions that a number may depend on."""

import platform
from importlib import import_module
from importlib.metadata import version
from types import ModuleType

import numpy as np
import torch

from flowscope.errors import InputError, MissingExtraError


def check_count(value: object, what: str) -> int:
    """A whole number of at least one.

    Raises:
        InputError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InputError(f"{what} is {value!r}; expected a whole number of at least 1")
    return int(value)


def check_seed(seed: object) -> int:
    """A whole number of at least zero.

    Raises:
        InputError: it is not.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError(f"seed is {seed!r}; expected a whole number of at least 0")
    return int(seed)


def versions() -> dict[str, str]:
    """The versions that a number may depend on."""
    return {
        "flowscope": version("flowscope"),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def need(module: str, extra: str) -> ModuleType:
    """An optional package, imported when it is needed.

    Raises:
        MissingExtraError: it is not installed; the message says which extra of flowscope brings it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise  # it is installed and broken: that is another matter
        raise MissingExtraError(
            f"{module.split('.')[0]} is not installed and this needs it; expected the extra {extra!r}: "
            f"pip install 'flowscope[{extra}]'"
        ) from None

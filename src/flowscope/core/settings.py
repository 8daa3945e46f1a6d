"""Settings of a run: whole numbers, checked in one place, and the versions that a number may depend on."""

import platform
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import Any

import numpy as np
import torch

from flowscope.errors import InputError, MissingExtraError


def check_count(value: object, what: str, least: int = 1) -> int:
    """A whole number of at least `least`.

    Raises:
        InputError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{what} is {value!r}; expected a whole number of at least {least}")
    return int(value)


def check_seed(seed: object) -> int:
    """A whole number of at least zero.

    Raises:
        InputError: it is not.
    """
    return check_count(seed, "seed", least=0)


def check_sizes(shape: Any) -> tuple[int, ...]:
    """The shape of one state as whole numbers.

    Raises:
        InputError: it is none.
    """
    if isinstance(shape, (str, bytes)) or not hasattr(shape, "__iter__"):
        raise InputError(f"shape is {shape!r}; expected the shape of one sample, such as (3, 32, 32)")
    return tuple(check_count(side, "a side of shape") for side in shape)


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

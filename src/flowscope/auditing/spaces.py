"""Spaces by name: which network, read from which file, compares samples with training points.

"pixels" needs no file. All else is asked for by the path of a file that the user has; nothing is fetched.
"""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flowscope.auditing.feature_index import FeatureIndex
from flowscope.auditing.inputs import as_float
from flowscope.auditing.matches import Index
from flowscope.auditing.mobilenet import MobileNetV1
from flowscope.auditing.pixel_index import PixelIndex
from flowscope.auditing.taef2 import TAEF2
from flowscope.data.loaders.source import reading
from flowscope.data.pixels import is_image
from flowscope.data.training_set import TrainingSet
from flowscope.errors import FlowscopeError, InputError
from flowscope.metrics import FeatureSpace, features
from flowscope.metrics.features import PIXELS
from flowscope.networks.published.function import is_function, load_module

NETWORKS: dict[str, Any] = {"mobilenet": MobileNetV1, "taef2": TAEF2}
SCRIPTS = (".pt", ".pth", ".ts", ".torchscript")
KNOWN = (
    '"pixels", "mobilenet:FILE" or "taef2:FILE" with the file of their weights, a TorchScript file (.pt), or '
    '"file.py:make", a function of a Python file that returns a torch.nn.Module'
)


def make_index(training_set: TrainingSet, space: Any, device: str | torch.device | None = None) -> Index:
    """A training set in a space, ready to match samples.

    Args:
        training_set: the points.
        space: a name as in `find_space`, a torch.nn.Module, or a FeatureSpace.
        device: where a network runs; None for the CPU, or where a module or FeatureSpace says.

    Raises:
        InputError: there is no such space, or the set has fewer than two points that are no near-copies.
    """
    found = find_space(space, device)
    if found is PIXELS and is_image(training_set.shape):
        return PixelIndex(training_set)
    space = FeatureSpace("values") if found is PIXELS else found
    _try(space, training_set)
    return FeatureIndex(training_set, space)


def _try(space: FeatureSpace, training_set: TrainingSet) -> None:
    """Refuse a network that does not take such points, before any work."""
    try:
        features(as_float(training_set.rows(slice(0, 2))), space)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:
        if isinstance(error, FlowscopeError):
            raise
        shape, said = ", ".join(map(str, training_set.shape)), " ".join(str(error).split())[:160]
        raise InputError(
            f"{space.name} failed on points (B, {shape}) with {type(error).__name__}: {said}; expected a network that "
            "takes them: put resizing and channels into its forward"
        ) from None


def find_space(space: Any, device: str | torch.device | None = None) -> FeatureSpace:
    """The space of a name, of a module, or of a FeatureSpace, which is returned as it is.

    Raises:
        InputError: there is none.
    """
    if isinstance(space, FeatureSpace):
        return PIXELS if space.module is None else space
    if isinstance(space, nn.Module):
        return FeatureSpace(type(space).__name__, space, device)
    if not isinstance(space, (str, os.PathLike)):
        raise InputError(f"space is a {type(space).__name__}; expected {KNOWN}, a torch.nn.Module or a FeatureSpace")
    text = os.fspath(space)
    if text == "pixels":
        return PIXELS
    name, _, rest = text.partition(":")
    if name in NETWORKS:
        if not rest:
            raise InputError(f"space is {text!r}; expected the file of its weights, too: {name}:FILE")
        return FeatureSpace(NETWORKS[name].__name__, NETWORKS[name](os.path.expanduser(rest)).to(device or "cpu"))
    if is_function(text):
        path, _, function = text.rpartition(":")
        return FeatureSpace(function, _made(Path(os.path.expanduser(path)), function).to(device or "cpu"))
    if Path(text).suffix.lower() in SCRIPTS:
        return FeatureSpace(Path(text).stem, _script(Path(os.path.expanduser(text))).to(device or "cpu"))
    raise InputError(f"space is {text!r}; expected {KNOWN}")


def _script(path: Path) -> nn.Module:
    """The module of a TorchScript file."""
    _check_there(path)
    kind = "a module saved by torch.jit.save, since weights alone do not say what is computed from them"
    with reading(path, kind), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is on its way out, but files of it are not
        return torch.jit.load(str(path), map_location="cpu")


def _made(path: Path, function: str) -> nn.Module:
    """What a function of a Python file returns, called without arguments."""
    _check_there(path)
    there, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # nothing is left beside the user's file
    try:
        with reading(path, f"a Python file whose function {function}() returns a torch.nn.Module"):
            found = getattr(load_module(path), function)()
    finally:
        sys.dont_write_bytecode = there
    if not isinstance(found, nn.Module):
        raise InputError(
            f"{function} of {path} returned a {type(found).__name__}; expected a "
            "function without arguments that returns a torch.nn.Module, from images in the data's range to features "
            "(B, d)"
        )
    return found


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"there is no file {str(path)!r}; expected {KNOWN}")

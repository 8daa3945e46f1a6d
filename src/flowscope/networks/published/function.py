"""A function in a file of the user's, mine.py:make, that returns a network."""

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from flowscope.errors import FlowscopeError, InputError
from flowscope.networks.field import NetworkField

EXPECTED = "expected FILE.py:FUNCTION, a function without arguments that returns a torch nn.Module"


def is_function(source: str) -> bool:
    """Whether a source is meant as FILE.py:FUNCTION."""
    file, colon, _ = source.rpartition(":")
    return bool(colon) and file.endswith(".py")


def call_function(source: str) -> nn.Module | NetworkField:
    """What the function of FILE.py:FUNCTION returns.

    The folder of the file is where Python looks for modules first while it runs, as in `python FILE.py`.

    Raises:
        InputError: there is no such file or function, it needs arguments, raises, or returns no module.
    """
    file, _, name = source.rpartition(":")
    path = Path(file).expanduser()
    if not path.is_file():
        raise InputError(f"{path} is not a file; {EXPECTED}")
    with _beside(path):
        make = _function(path, name)
        made = _run(make, path, f"{name} of {path}")
    if not isinstance(made, (nn.Module, NetworkField)):
        raise InputError(f"{name} of {path} returned a {type(made).__name__}; {EXPECTED}, with its weights")
    return made


def _function(path: Path, name: str) -> Callable[[], Any]:
    module = _run(lambda: load_module(path), path, str(path))
    make = getattr(module, name, None)
    if not callable(make):
        known = [k for k, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__]
        has = f"; it has {', '.join(known)}" if known else ""
        raise InputError(f"{path} has no function {name!r}{has}; {EXPECTED}")
    try:
        needed = [p.name for p in inspect.signature(make).parameters.values() if _is_needed(p)]
    except (TypeError, ValueError):
        needed = []
    if needed:
        raise InputError(f"{name} of {path} needs {', '.join(needed)}; {EXPECTED}: give them defaults")
    return make


def _is_needed(parameter: inspect.Parameter) -> bool:
    variable = (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and parameter.kind not in variable


def load_module(path: Path) -> ModuleType:
    """Run a Python file of the user's as a module; what it raises is raised."""
    name = f"_flowscope_source_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"Python cannot load {path.name}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _beside(path: Path) -> Iterator[None]:
    """Python finds the modules beside a file, for a while."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _run(call: Callable[[], Any], path: Path, what: str) -> Any:
    """Call the user's code; what it raises becomes one line that says where."""
    try:
        return call()
    except FlowscopeError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
        where = f", line {lines[-1]}" if lines else ""
        said = " ".join(str(error).split())[:300]
        raise InputError(f"{what} raised {type(error).__name__}: {said} ({path.name}{where}); {EXPECTED}") from error

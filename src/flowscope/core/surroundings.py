"""What a program sets around a call, and what must not change an answer: autocast, a default device, gradients."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar, cast

import torch

AUTOCAST = ("cpu", "cuda")
P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def plain_arithmetic() -> Iterator[None]:
    """Arithmetic in the dtypes that are written, tensors on the CPU unless a device is named, and no gradients.

    Inference mode is left, too: what is computed in it and kept could not be used outside.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        if torch.get_default_device().type != "cpu":  # asked first: a device that is set makes every operation slower
            stack.enter_context(torch.device("cpu"))
        for device in AUTOCAST:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def undisturbed(function: Callable[P, T]) -> Callable[P, T]:
    """A function that computes as :func:`plain_arithmetic` says, whatever is set around its calls."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if torch.compiler.is_compiling():  # asked first: disable imports the whole compiler
            return cast(T, torch.compiler.disable(call)(*args, **kwargs))
        with plain_arithmetic():
            return function(*args, **kwargs)

    return call

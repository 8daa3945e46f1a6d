"""Weights by name: whether they are those of a network, and the names of those that are not."""

from collections.abc import Mapping

from torch import Tensor, nn

from flowscope.errors import InputError
from flowscope.fields import FLOATS

COMPILED_PREFIX = "_orig_mod."  # of the names of a module that torch.compile wrapped
SHOWN_NAMES = 5  # in a message


def plain_name(name: str) -> str:
    """The name of a tensor without what torch.compile adds to those of compiled modules."""
    return name.replace(COMPILED_PREFIX, "")


def check_fit(network: nn.Module, tensors: Mapping[str, Tensor], where: object) -> None:
    """Refuse weights that are not those of a network.

    Args:
        network: left as it is; it may be on the device "meta".
        tensors: the weights by name.
        where: their file, for the message.

    Raises:
        InputError: they are another architecture's; the message names what is missing, unexpected or of another shape.
    """
    own = {plain_name(k): v for k, v in network.state_dict().items()}
    tensors = {plain_name(k): v for k, v in tensors.items()}
    missing, unexpected = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    both = [(k, tensors[k], own[k]) for k in sorted(own.keys() & tensors.keys())]
    shapes = [f"{k} {tuple(got.shape)} instead of {tuple(its.shape)}" for k, got, its in both if got.shape != its.shape]
    kinds = [f"{k} {got.dtype} instead of {its.dtype}" for k, got, its in both if not _alike(got, its)]
    if missing or unexpected or shapes or kinds:
        parts = (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", shapes),
            ("of another dtype", kinds),
        )
        said = "; ".join(f"{what}: {first_names(names)}" for what, names in parts if names)
        raise InputError(
            f"{where} does not fit the {type(network).__name__}: {said}; expected weights of the same architecture, "
            "width and image size"
        )


def _alike(got: Tensor, own: Tensor) -> bool:
    """Whether numbers of one dtype can become those of the other: usual floats may be of other precision."""
    floats = got.dtype in FLOATS and own.dtype in FLOATS
    return floats or got.dtype == own.dtype


def first_names(names: list[str]) -> str:
    """The first names of a list for a message, and how many there are in all."""
    return ", ".join(names[:SHOWN_NAMES]) + (f", ... ({len(names)} in all)" if len(names) > SHOWN_NAMES else "")

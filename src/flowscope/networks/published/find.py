"""What a path to a model is: a folder of diffusers, a checkpoint, or a function in a file; and the field of it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from flowscope.core.device import resolve_device
from flowscope.errors import InputError
from flowscope.networks.convention import CONVENTION_NAMES, Convention
from flowscope.networks.diffusers import TRANSFORMERS
from flowscope.networks.field import NetworkField, as_field
from flowscope.networks.labels import kind_of
from flowscope.networks.published.checkpoint import CODE_SUFFIXES, SUFFIXES
from flowscope.networks.published.diffusers_folder import diffusers_field, is_diffusers_folder
from flowscope.networks.published.function import call_function, is_function
from flowscope.networks.published.network import checkpoint_field

TRY_TIME = 0.5  # at which a network of the user's is tried


def is_published(source: str | Path) -> bool:
    """Whether a path is a model of another project: a checkpoint, a folder of diffusers, or FILE.py:FUNCTION."""
    path = Path(source)
    if is_function(str(source)):
        return True
    if path.is_dir():
        return is_diffusers_folder(path)
    return path.is_file() and path.suffix.lower() in (*SUFFIXES, *CODE_SUFFIXES)


def load_published(
    source: str | Path,
    convention: str | Convention | None = None,
    *,
    ema: bool = True,
    device: str | torch.device | None = None,
    extras: Mapping[str, Any] | None = None,
    shape: tuple[int, ...] | None = None,
    heads: int | None = None,
) -> NetworkField:
    """Load a model of another project as a field, in eval mode.

    Args:
        source: a folder of diffusers; a .pt or .safetensors file of DiT, SiT, REPA or LightningDiT; or
            "FILE.py:FUNCTION", whose function returns a module, or a field for what a convention's name cannot say.
        convention: of CONVENTIONS, "diffusers", or a Convention; None for what the source says itself.
        ema: True for averaged weights where a file holds both, False for the last ones.
        device: where to put the network; None for the CPU, or where the function has put it.
        extras: keyword arguments of every call, such as text embeddings.
        shape: of the points that it is wanted for; None for what the model says.
        heads: of attention, where a checkpoint does not say.

    Raises:
        InputError: it cannot be read, called, or understood without a convention; or it is of other points.
        MissingExtraError: diffusers is needed and not installed.
    """
    path, given = Path(source), dict(extras or {})
    if is_function(str(source)):
        field = _function_field(str(source), convention, given, shape)
    elif path.is_dir():
        field = diffusers_field(path, convention, extras=given, shape=shape)
    elif is_diffusers_folder(path.parent):
        raise InputError(f"{path} lies in a folder of diffusers, whose config belongs to it; expected {path.parent}")
    else:
        field = checkpoint_field(path, convention, ema=ema, heads=heads)
    if shape is not None and field.shape is not None and field.shape != tuple(shape):
        raise InputError(
            f"{source} is a model of points of shape {field.shape}, the data have {tuple(shape)}; expected one shape"
        )
    where = None if device is None else resolve_device(device)
    if where is not None:
        field.module.to(where)
    if is_function(str(source)):
        _try(field, str(source))
    return field


def _function_field(
    source: str, convention: str | Convention | None, extras: dict[str, Any], shape: tuple[int, ...] | None
) -> NetworkField:
    """What a function returned, as a field."""
    made = call_function(source)
    if isinstance(made, NetworkField):
        if convention is not None:
            raise InputError(f"{source} returned a field, which has its convention; expected no --convention beside it")
        made.module.eval()
        return made if shape is None or made.shape is not None else replace(made, shape=tuple(shape))
    if convention is None and kind_of(made) not in TRANSFORMERS:
        raise InputError(
            f"{source} returned a {kind_of(made)}, and flowscope does not know what it predicts; expected "
            f"--convention NAME, one of {', '.join(CONVENTION_NAMES)} (convention=... in load_model)"
        )
    about = {"parameters": sum(p.numel() for p in made.parameters()), "source": source, "step": None}
    named = convention or "diffusers"
    field = as_field(made.eval(), named, extras=extras, about=about, name=Path(source.rpartition(":")[0]).stem)
    return field if field.shape is not None or shape is None else replace(field, shape=tuple(shape))


def _try(field: NetworkField, source: str) -> None:
    """Ask a network of the user's once, where its states are known, so that what it raises comes in one line."""
    if field.shape is None:
        return
    x = torch.zeros(2, *field.shape, device="cpu")
    y = 0 if field.classes and field.null is None else None
    try:
        with torch.no_grad():
            field(x, TRY_TIME, y)
    except (InputError, ArithmeticError):
        raise
    except Exception as error:  # the user's code may raise anything
        said = " ".join(str(error).split())[:300]
        raise InputError(
            f"{source} returned a {kind_of(field.module)} that cannot be called on states {tuple(x.shape)} in the "
            f"manner of {field.convention.name} ({type(error).__name__}: {said}); expected a network whose parts are "
            "on one device and in one dtype, and another --convention if it is called otherwise"
        ) from error

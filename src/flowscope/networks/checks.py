"""Checks of what as_field is given: the module, its convention, and whether that is enough to call the module."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from typing import Any

from torch import nn

from flowscope.errors import InputError, unknown_name
from flowscope.networks.call_styles import (
    Call,
    call_by_name,
    call_flux,
    call_hidream,
    call_labels_by_name,
    call_one_hot,
    call_state_first,
    call_time_first,
    call_z_image,
)
from flowscope.networks.convention import CONVENTION_NAMES, CONVENTIONS, Convention
from flowscope.networks.diffusers import diffusers_convention
from flowscope.networks.labels import Labels, config_of, kind_of, signature_of
from flowscope.networks.tabulated_path import levels_path


def check_module(module: Any) -> None:
    """Refuse what is no module.

    Raises:
        InputError: the message says how to make a module of it.
    """
    if isinstance(module, nn.Module):
        return
    hint = "for a diffusers pipeline give its pipeline.unet or pipeline.transformer"
    if isinstance(module, (str, bytes, PathLike)):
        hint = "build the network and load its weights first, from safetensors; a pickle can run code when it is read"
    if isinstance(module, Mapping):
        hint = "build the network and give these weights to its load_state_dict first"
    raise InputError(f"the network is a {type(module).__name__}; expected a torch nn.Module: {hint}")


def resolve_convention(module: nn.Module, convention: Any, scheduler: Any) -> Convention:
    """The convention of a name or of a diffusers model, or the one given.

    Raises:
        InputError: the name is unknown, or the model and its scheduler do not say enough.
    """
    key = convention.lower().replace("-", "_") if isinstance(convention, str) else None
    if key == "diffusers":
        return diffusers_convention(module, scheduler)
    if scheduler is not None:
        raise InputError(
            f"a scheduler was given with the convention {convention!r}; expected it with 'diffusers' alone"
        )
    if isinstance(convention, Convention):
        return convention
    if key not in CONVENTIONS:
        raise unknown_name("convention", convention, CONVENTION_NAMES, "a flowscope.networks.Convention")
    return with_own_levels(module) if key == "edm" else CONVENTIONS[key]


def with_own_levels(module: nn.Module) -> Convention:
    """EDM's convention, with the noise levels of the module where it says them: its sigma_min and sigma_max."""
    levels = [getattr(module, name, None) for name in ("sigma_min", "sigma_max")]
    low, high = (float(v) if isinstance(v, (int, float)) and not isinstance(v, bool) else math.nan for v in levels)
    if not 0 < low < high < math.inf:  # EDM's own say 0 to infinity
        return CONVENTIONS["edm"]
    return replace(CONVENTIONS["edm"], path=levels_path(low, high))


def check_mapping(values: Any, what: str) -> dict[str, Any]:
    """A copy of a mapping from names, as a dictionary; empty for None.

    Raises:
        InputError: it is no mapping from names.
    """
    if values is None:
        return {}
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise InputError(f"{what} is {repr(values)[:60]}; expected None or a dictionary with names as keys")
    return dict(values)


def check_call(module: nn.Module, found: Convention, labels: Labels, extras: Mapping[str, Any]) -> None:
    """Refuse a module that cannot be called with what is known.

    Args:
        module: the network.
        found: its convention.
        labels: how many it has, as far as is known.
        extras: the keyword arguments of every call.

    Raises:
        InputError: it takes whole timesteps alone, an argument is missing, or labels would never reach it.
    """
    config = config_of(module)
    if config.get("time_embedding_type") == "learned":
        raise InputError(
            "the module has a learned embedding of whole timesteps; expected one that takes any number, since t falls "
            "between them"
        )
    parameters = [*signature_of(module).values()]
    needs = (*found.needs, "guidance") if config.get("guidance_embeds") else found.needs
    if found.call is call_by_name and parameters:
        given = {parameters[0].name, "timestep", *(["class_labels"] if labels.classes else []), *needs}
        needs = (*needs, *(p.name for p in parameters if _is_required(p) and p.name not in given))
    missing = [word for word in needs if word not in extras]
    if missing:
        raise InputError(f"a {kind_of(module)} cannot be called without {', '.join(missing)}; expected them in extras")
    if (labels.classes or labels.null is not None) and not _takes_labels(found.call, module):
        raise InputError(
            f"the {kind_of(module)} is said to have labels, which would never reach its "
            f"forward({', '.join(signature_of(module))}); expected one that takes them, such as forward(x, t, y)"
        )
    if labels != (None, None) or found.call not in (call_state_first, call_time_first):
        return
    for third in parameters[2:3]:
        if _is_required(third) and third.name not in extras:
            raise InputError(
                f"the module must be given {third.name!r} and does not say how many labels it has; expected classes=N"
            )


def _takes_labels(call: Call, module: nn.Module) -> bool:
    """Whether labels can reach the forward of a module in this call style; of a style of the user's own, yes."""
    parameters = signature_of(module)
    kinds = [p.kind for p in parameters.values()]
    if not parameters:
        return True  # nothing is known of them
    if call in (call_labels_by_name, call_by_name):
        name = "y" if call is call_labels_by_name else "class_labels"
        return name in parameters or inspect.Parameter.VAR_KEYWORD in kinds
    if call in (call_state_first, call_time_first, call_one_hot):
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return inspect.Parameter.VAR_POSITIONAL in kinds or sum(kind in positional for kind in kinds) > 2
    return call not in (call_flux, call_hidream, call_z_image)


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is parameter.empty


def config_shape(module: nn.Module) -> tuple[int, ...] | None:
    """The shape of one state that a module's config gives; None where it gives none."""
    config, kind = config_of(module), kind_of(module)
    if "shape" in config:
        return tuple(config["shape"])
    size = config.get("sample_size")
    if size is None or kind not in ("UNet2DModel", "DiTTransformer2DModel"):
        return None
    return (int(config["in_channels"]), *((size, size) if isinstance(size, int) else size))

"""Checkpoints of other projects: .pt files of DiT, SiT, REPA and LightningDiT, and .safetensors. No code in them runs.

Such a file holds the weights alone, or {"model": weights, "ema": averaged weights, "opt": ..., "args": how it was
trained}; DiT's, SiT's and REPA's "args" are an argparse.Namespace, LightningDiT's "config" is a plain dictionary.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from flowscope.core.tensors import check_dense
from flowscope.data.loaders.pt import load_saved
from flowscope.data.loaders.source import reading
from flowscope.errors import InputError
from flowscope.fields import FLOATS
from flowscope.networks.weights import COMPILED_PREFIX, first_names

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")  # of checkpoints that can be read
CODE_SUFFIXES = (".pkl", ".pickle")  # of pickles of whole networks: EDM, EDM2, StyleGAN
WRAPPED = ("module.", COMPILED_PREFIX)  # what DistributedDataParallel and torch.compile put before names
LAST, AVERAGED = ("model", "state_dict", "module"), ("ema", "model_ema", "ema_model")  # names of weights in a file
RECIPE = (
    "expected weights alone: in a Python that trusts the file and has the project's code, write "
    "torch.save(network.state_dict(), 'weights.pt'), or take the network itself as --model mine.py:make, a function "
    "that returns it"
)


@dataclass(frozen=True)
class Checkpoint:
    """The weights in a file, and what it says of them.

    Attributes:
        path: the file.
        tensors: by their names in the network, as they are stored; those of a .pt file stay in it, mapped.
        record: how the network was trained, where the file says so.
        averaged: whether these are averaged weights; None where the file holds one set of weights.
        step: updates made; None where the file does not say.
    """

    path: Path
    tensors: dict[str, Tensor]
    record: dict[str, Any]
    averaged: bool | None = None
    step: int | None = None


def read_checkpoint_file(path: Path, ema: bool = True) -> Checkpoint:
    """Read the weights of a published checkpoint.

    Args:
        path: a file with one of SUFFIXES.
        ema: True for averaged weights where the file holds both, False for the last ones.

    Raises:
        InputError: the file is no checkpoint, is cut short, or holds Python objects that would have to be run.
    """
    if path.suffix.lower() in CODE_SUFFIXES:
        raise InputError(
            f"{path} is a pickle, which runs code when it is read (EDM and EDM2 publish such files), and is refused; "
            f"{RECIPE}"
        )
    if path.suffix.lower() == ".safetensors":
        return Checkpoint(path, _named(_read_safetensors(path), path), {})
    saved = _read_torch(path)
    if not isinstance(saved, Mapping):
        raise InputError(f"{path} holds a {type(saved).__name__}; expected the weights of a network by name: {RECIPE}")
    weights, averaged = _choose(saved, path, ema)
    step = next((saved[name] for name in ("steps", "step", "global_step") if type(saved.get(name)) is int), None)
    if step is None and path.stem.isdecimal():  # 0400000.pt
        step = int(path.stem)
    return Checkpoint(path, _named(weights, path), _record(saved), averaged, step)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with reading(path, "a whole safetensors file"), safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def _read_torch(path: Path) -> Any:
    """What torch.save wrote, of tensors, plain values and a Namespace."""
    try:
        with reading(path, "weights that torch.save wrote"), torch.serialization.safe_globals([argparse.Namespace]):
            return load_saved(path)
    except InputError as error:
        if "holds Python objects" not in str(error):
            raise
        raise InputError(
            f"{path} is cut short, or holds Python objects that run code when they are read, and is refused; fetch it "
            f"again, or else {RECIPE}"
        ) from error


def _choose(saved: Mapping[Any, Any], path: Path, ema: bool) -> tuple[Mapping[Any, Any], bool | None]:
    """The weights in what a file holds, and whether they are averaged, where it holds several."""
    last, averaged = ([saved[name] for name in names if _is_weights(saved.get(name))] for names in (LAST, AVERAGED))
    wanted = averaged if ema else last
    if wanted:
        return wanted[0], ema
    if averaged or last:
        if averaged:
            raise InputError(f"{path} holds averaged weights alone; expected the last ones, too: leave out --no-ema")
        return last[0], False
    return saved, None


def _is_weights(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(tensor, Tensor) for tensor in value.values())


def _record(saved: Mapping[Any, Any]) -> dict[str, Any]:
    """How a network was trained, by the file's "args" or "config"."""
    found = saved.get("args", saved.get("config"))
    if isinstance(found, argparse.Namespace):
        return dict(vars(found))
    return dict(found) if isinstance(found, Mapping) else {}


def _named(found: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """The tensors of a network by the names that they have in it."""
    other = [repr(key)[:60] for key, value in found.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if other or not found:
        holds = f"beside tensors: {first_names(other)}" if found else "nothing"
        raise InputError(f"{path} holds {holds}; expected the weights of a network by name: {RECIPE}")
    tensors = {_unwrapped(key): value for key, value in found.items()}
    for name, value in tensors.items():
        check_dense(value, f"{name} of {path}")
        held = value.untyped_storage().nbytes()
        if value.numel() * value.element_size() > held:
            raise InputError(f"{name} of {path} has the shape {tuple(value.shape)} and fewer values; expected all")
    return tensors


def _unwrapped(name: str) -> str:
    """A name without what wrappers put before it, in any order."""
    name = name.replace(COMPILED_PREFIX, "")
    while name.startswith(WRAPPED):
        name = next(name.removeprefix(prefix) for prefix in WRAPPED if name.startswith(prefix))
    return name


def in_one_precision(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as they are stored where all have one precision, else in float32."""
    kinds = {value.dtype for value in tensors.values() if value.dtype in FLOATS}
    if len(kinds) < 2:
        return dict(tensors)
    return {k: v.to(torch.float32) if v.dtype in FLOATS else v for k, v in tensors.items()}

"""What training leaves on disk, and how it is read back. Weights are safetensors files; pickles are refused.

While training, one file holds all that resuming needs, so that a run killed at any moment leaves a whole one: weights,
averaged weights, the optimizer's moments, the losses so far and, in its metadata, what they belong to. When training is
finished, model.safetensors, ema.safetensors and model.json take its place.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from flowscope.core.device import resolve_device
from flowscope.data.loaders.source import reading
from flowscope.errors import InputError
from flowscope.networks.architectures import build_network
from flowscope.networks.convention import CONVENTIONS
from flowscope.networks.field import NetworkField, as_field
from flowscope.networks.labels import read_labels
from flowscope.training.settings import TrainSettings

SCHEMA = 2
RENAMED = {  # settings of schema 1, which is still read
    "rate": "learning_rate",
    "reference": "stf_reference",
    "dropout": "label_dropout",
    "clip": "grad_clip",
    "decay": "weight_decay",
}
MODEL, EMA, ABOUT, STATE = "model.safetensors", "ema.safetensors", "model.json", "state.safetensors"
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
KEYS = ("settings", "shape", "classes", "network", "training_set", "held_out", "step")  # of model.json
Tensors = dict[str, Tensor]


def snapshot_name(step: int) -> str:
    """Where the averaged weights after `step` steps are kept, in the model's folder."""
    return f"snapshots/step_{step:06d}.safetensors"


def snapshot_steps(directory: str | Path) -> list[int]:
    """The steps of which a model's folder keeps averaged weights, ascending."""
    return sorted(int(path.stem.removeprefix("step_")) for path in Path(directory).glob("snapshots/step_*.safetensors"))


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file."""
    from safetensors.torch import save

    return save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, dict(metadata or {}))


def unpack(path: Path, device: torch.device | str = "cpu") -> tuple[Tensors, dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        InputError: it is not one, or is cut short.
    """
    kind = "a whole safetensors file that flowscope train wrote"
    with reading(path, kind), safe_open(path, framework="pt", device=str(device)) as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118


def digest_of(data: bytes) -> str:
    """SHA-256 in 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def fit(network: nn.Module, tensors: Mapping[str, Tensor], where: object) -> None:
    """Load weights, all of them and no others.

    Raises:
        InputError: they are another architecture's; the message names what is missing, unexpected or of another shape.
    """
    own = network.state_dict()
    missing, unexpected = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    other = [k for k in sorted(own.keys() & tensors.keys()) if own[k].shape != tensors[k].shape]
    if missing or unexpected or other:
        shapes = [f"{k} {tuple(tensors[k].shape)} instead of {tuple(own[k].shape)}" for k in other]
        parts = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        said = "; ".join(f"{what}: {_some(names)}" for what, names in parts if names)
        raise InputError(
            f"{where} does not fit the {type(network).__name__}: {said}; expected weights of the same architecture, "
            "width and image size"
        )
    network.load_state_dict(dict(tensors))


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)} in all)" if len(names) > 5 else "")


def read_about(directory: Path) -> dict[str, Any]:
    """What a model's folder says of its model: model.json, or while it trains its state.

    Raises:
        InputError: there is no model, it is a pickle, or it is of another schema.
    """
    if directory.suffix in PICKLES or (not (directory / ABOUT).exists() and _pickles(directory)):
        found = directory if directory.suffix in PICKLES else _pickles(directory)[0]
        raise InputError(
            f"{found} is a pickle, which can run code when it is read, and is refused; expected the folder of a model "
            "that flowscope train wrote: for other networks load the weights with torch.load(path, weights_only=True), "
            "and hand the module to flowscope's as_field"
        )
    if (directory / ABOUT).exists():
        with reading(directory / ABOUT, "the model.json that flowscope train wrote"):
            about = upgrade_about(dict(json.loads((directory / ABOUT).read_text(encoding="utf-8"))))
    elif (directory / STATE).exists():
        about = about_state(directory / STATE)
    else:
        what = "holds no model" if directory.is_dir() else "is not a folder"
        raise InputError(
            f"{directory} {what}; expected the folder of a model (flowscope train SOURCE --out {directory})"
        )
    if about.get("schema") == SCHEMA:
        _check_about(about, directory)
    else:
        raise InputError(
            f"{directory} is of schema {about.get('schema')!r}; this flowscope reads 1 to {SCHEMA}: train it again, or "
            "take the version of flowscope that wrote it"
        )
    return about


def _check_about(about: Mapping[str, Any], where: Path) -> None:
    """Refuse what model.json cannot say, before anything is built of it."""
    if absent := [key for key in KEYS if key not in about]:
        raise InputError(f"{where / ABOUT} lacks {', '.join(absent)}; expected it as flowscope train wrote it")
    try:
        known = {f.name: about["settings"][f.name] for f in fields(TrainSettings)}
        TrainSettings.from_dict({**about["settings"], **known})
        numbers = [*about["shape"], about["step"], about["classes"] + 1, about["held_out"]["count"] + 1]
        numbers += [label + 1 for label in about.get("labels") or ()]
        sound = all(type(v) is int and v > 0 for v in numbers) and type(about["training_set"]["digest"]) is str
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{where / ABOUT} is damaged ({type(error).__name__}: {error}); expected it as flowscope train wrote it"
        ) from None
    if not sound:
        raise InputError(
            f"{where / ABOUT} is damaged: shape, step, classes, held_out or training_set is not what they can be; "
            "expected it as flowscope train wrote it"
        )


def about_state(path: Path) -> dict[str, Any]:
    """What the state of an unfinished run says of itself."""
    with reading(path, "the state of an interrupted run"), safe_open(path, framework="pt") as file:
        return upgrade_about(dict(json.loads(file.metadata()["about"])))


def upgrade_about(about: dict[str, Any]) -> dict[str, Any]:
    """A record of schema 1 under the names of schema 2; any other as it is."""
    if about.get("schema") != 1:
        return about
    settings = about.get("settings")
    if isinstance(settings, dict):
        about = about | {"settings": {RENAMED.get(name, name): value for name, value in settings.items()}}
    return about | {"schema": SCHEMA}


def _pickles(directory: Path) -> list[Path]:
    return [p for p in sorted(directory.glob("*")) if p.suffix in PICKLES] if directory.is_dir() else []


def load_model(
    directory: str | Path,
    *,
    ema: bool = True,
    device: str | torch.device | None = None,
    step: int | None = None,
    network: nn.Module | None = None,
    shape: tuple[int, ...] | None = None,
) -> NetworkField:
    """A trained network as a field, from the folder that :func:`train_to` or ``flowscope train`` wrote.

    A run that is still going on, or was interrupted, is taken as far as its last checkpoint.

    Args:
        directory: the folder.
        ema: the averaged weights; False for the last ones themselves.
        device: where to put the network; None for the CPU.
        step: the averaged weights of an earlier step, of which a snapshot was kept; None for the last.
        network: a network of your own that was trained, to be given its weights; None for one of flowscope's.
        shape: of the points it is wanted for; refused if it was trained on others.

    Returns:
        A NetworkField whose `about` is the content of model.json.

    Raises:
        InputError: there is no model, a file is damaged, a pickle, or of another architecture, shape or schema.
    """
    folder, where = Path(directory), resolve_device(device)
    about = read_about(folder)
    own_shape = tuple(about["shape"])
    if shape is not None and tuple(shape) != own_shape:
        raise InputError(
            f"{folder} is a model of points of shape {own_shape}, the data have {tuple(shape)}; expected one shape: "
            "load the data with the options the model was trained with (--resize, --grey), or train another"
        )
    path, tensors = _weights(folder, about, ema, step)
    if network is None:
        network = _fresh(about, folder)
    fit(network, tensors, path)
    return trained_field(network.to(where).eval(), about, folder.resolve().name)


def trained_field(network: nn.Module, about: Mapping[str, Any], name: str) -> NetworkField:
    """A network that was trained here, as a field."""
    path, null = about["settings"]["path"], read_labels(network, True).null
    convention = replace(CONVENTIONS["flowscope"], path=path)
    return as_field(
        network,
        convention,
        path=path,
        classes=about["classes"],
        null=null,
        shape=tuple(about["shape"]),
        name=name,
        about=about,
        labels=about.get("labels"),
    )


def _fresh(about: Mapping[str, Any], folder: Path) -> nn.Module:
    settings = about["settings"]
    if about["network"] is not None:
        raise InputError(
            f"{folder} was trained with a network of the user's own ({about['network']}); expected it as network=..."
        )
    return build_network(settings["model"], tuple(about["shape"]), about["classes"], width=settings["width"])


def _weights(folder: Path, about: Mapping[str, Any], ema: bool, step: int | None) -> tuple[Path, Tensors]:
    """The file and the weights that are asked for."""
    if step is not None:
        known = snapshot_steps(folder)
        if step not in known or not ema:
            have = ", ".join(map(str, known)) or "none"
            raise InputError(f"step is {step!r} with ema={ema}; {folder} keeps averaged weights of the steps: {have}")
        return folder / snapshot_name(step), unpack(folder / snapshot_name(step))[0]
    if not (folder / ABOUT).exists():
        group = "ema|" if ema else "weights|"
        tensors = unpack(folder / STATE)[0]
        return folder / STATE, {k.removeprefix(group): v for k, v in tensors.items() if k.startswith(group)}
    path = folder / (EMA if ema else MODEL)
    if not path.exists():
        other = (
            "; expected it there: take the last weights (ema=False, or --no-ema of flowscope sample)"
            if ema
            else f"; expected it beside {ABOUT}"
        )
        raise InputError(f"{folder} has no {path.name}{other}")
    tensors = unpack(path)[0]
    if digest_of(path.read_bytes()) != about.get("digests", {}).get(path.name):
        raise InputError(f"{path} is not the file that {ABOUT} names by its digest; expected both from one run")
    return path, tensors

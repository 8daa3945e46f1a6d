"""The model store: what training leaves in a folder, and load_model, which reads it. Pickles are refused.

During training one file, state.safetensors, holds all that resuming needs: weights, averaged weights, the optimizer's
moments, the losses so far and, in its metadata, what run they are of. When training is finished, model.safetensors,
ema.safetensors and model.json take its place.
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

SCHEMA = 2  # number of the form of model.json
RENAMED_SETTINGS = {  # names in schema 1, which is still read, and now
    "rate": "learning_rate",
    "reference": "stf_reference",
    "dropout": "label_dropout",
    "clip": "grad_clip",
    "decay": "weight_decay",
}
MODEL_FILE, EMA_FILE = "model.safetensors", "ema.safetensors"
ABOUT_FILE, CHECKPOINT_FILE = "model.json", "state.safetensors"
COMPILED_PREFIX = "_orig_mod."  # of the names of a module that torch.compile wrapped
PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
REQUIRED_KEYS = ("settings", "shape", "classes", "network", "training_set", "held_out", "step")  # of model.json
Tensors = dict[str, Tensor]


def snapshot_name(step: int) -> str:
    """The file of the averaged weights after `step` steps, relative to the model's folder."""
    return f"snapshots/step_{step:06d}.safetensors"


def snapshot_steps(directory: str | Path) -> list[int]:
    """The steps whose averaged weights a model's folder keeps, ascending.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from flowscope.training import TrainSettings, snapshot_steps, train_to
        >>> settings = TrainSettings(model="mlp", width=8, steps=4, batch=4, snapshots=3)
        >>> with TemporaryDirectory() as folder:
        ...     snapshot_steps(train_to([[0.0, 1.0], [1.0, 0.0]], settings, folder, tracker=None))
        [1, 2, 4]
    """
    return sorted(int(path.stem.removeprefix("step_")) for path in Path(directory).glob("snapshots/step_*.safetensors"))


def to_safetensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file; tied tensors are written once for each of their names."""
    from safetensors.torch import save

    whole = {plain_name(k): v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    return save(whole, dict(metadata or {}))


def plain_name(name: str) -> str:
    """The name of a tensor without what torch.compile adds to those of compiled modules."""
    return name.replace(COMPILED_PREFIX, "")


def read_safetensors(path: Path, device: torch.device | str = "cpu") -> tuple[Tensors, dict[str, str]]:
    """The tensors and the metadata of a safetensors file.

    Raises:
        InputError: it is no such file, or is cut short.
    """
    kind = "a whole safetensors file that flowscope train wrote"
    with reading(path, kind), safe_open(path, framework="pt", device=str(device)) as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118


def digest_of(data: bytes) -> str:
    """SHA-256 in 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], where: object) -> None:
    """Load weights into a network that has exactly these.

    Args:
        network: changed in place.
        tensors: the weights by name.
        where: their file, for the message.

    Raises:
        InputError: they are another architecture's; the message names what is missing, unexpected or of another shape.
    """
    own = {plain_name(k): v for k, v in network.state_dict().items()}
    tensors = {plain_name(k): v for k, v in tensors.items()}
    missing, unexpected = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    other = [k for k in sorted(own.keys() & tensors.keys()) if own[k].shape != tensors[k].shape]
    if missing or unexpected or other:
        shapes = [f"{k} {tuple(tensors[k].shape)} instead of {tuple(own[k].shape)}" for k in other]
        parts = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        said = "; ".join(f"{what}: {_first_names(names)}" for what, names in parts if names)
        raise InputError(
            f"{where} does not fit the {type(network).__name__}: {said}; expected weights of the same architecture, "
            "width and image size"
        )
    network.load_state_dict({k: tensors[plain_name(k)] for k in network.state_dict()})


def _first_names(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)} in all)" if len(names) > 5 else "")


def read_about(directory: Path) -> dict[str, Any]:
    """What a model's folder says of its model, by model.json or, during training, by the checkpoint.

    Raises:
        InputError: there is no model, it is a pickle, or it is of another schema.
    """
    if directory.suffix in PICKLE_SUFFIXES or (not (directory / ABOUT_FILE).exists() and _pickles(directory)):
        found = directory if directory.suffix in PICKLE_SUFFIXES else _pickles(directory)[0]
        raise InputError(
            f"{found} is a pickle, which can run code when it is read, and is refused; expected the folder of a model "
            "that flowscope train wrote: for other networks load the weights with torch.load(path, weights_only=True), "
            "and hand the module to flowscope's as_field"
        )
    if (directory / ABOUT_FILE).exists():
        with reading(directory / ABOUT_FILE, "the model.json that flowscope train wrote"):
            about = upgrade_about(dict(json.loads((directory / ABOUT_FILE).read_text(encoding="utf-8"))))
    elif (directory / CHECKPOINT_FILE).exists():
        about = checkpoint_about(directory / CHECKPOINT_FILE)
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
    """Refuse what model.json cannot say, before a network is built by it."""
    if absent := [key for key in REQUIRED_KEYS if key not in about]:
        raise InputError(f"{where / ABOUT_FILE} lacks {', '.join(absent)}; expected it as flowscope train wrote it")
    try:
        known = {f.name: about["settings"][f.name] for f in fields(TrainSettings)}
        TrainSettings.from_dict({**about["settings"], **known})
        numbers = [*about["shape"], about["step"], about["classes"] + 1, about["held_out"]["count"] + 1]
        numbers += [label + 1 for label in about.get("labels") or ()]
        sound = all(type(v) is int and v > 0 for v in numbers) and type(about["training_set"]["digest"]) is str
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{where / ABOUT_FILE} is damaged ({type(error).__name__}: {error}); expected it as flowscope train wrote "
            "it"
        ) from None
    if not sound:
        raise InputError(
            f"{where / ABOUT_FILE} is damaged: shape, step, classes, held_out or training_set is not what they can be; "
            "expected it as flowscope train wrote it"
        )


def checkpoint_about(path: Path) -> dict[str, Any]:
    """What the checkpoint of an unfinished run says of it."""
    with reading(path, "the state of an interrupted run"), safe_open(path, framework="pt") as file:
        return upgrade_about(dict(json.loads(file.metadata()["about"])))


def upgrade_about(about: dict[str, Any]) -> dict[str, Any]:
    """Rename the settings of a model.json of schema 1; return any other as it is."""
    if about.get("schema") != 1:
        return about
    settings = about.get("settings")
    if isinstance(settings, dict):
        about = about | {"settings": {RENAMED_SETTINGS.get(name, name): value for name, value in settings.items()}}
    return about | {"schema": SCHEMA}


def _pickles(directory: Path) -> list[Path]:
    return [p for p in sorted(directory.glob("*")) if p.suffix in PICKLE_SUFFIXES] if directory.is_dir() else []


def load_model(
    directory: str | Path,
    *,
    ema: bool = True,
    device: str | torch.device | None = None,
    step: int | None = None,
    network: nn.Module | None = None,
    shape: tuple[int, ...] | None = None,
) -> NetworkField:
    """Load a trained network as a field, from the folder that :func:`train_to` or ``flowscope train`` wrote.

    Of a run that goes on, or was interrupted, the last checkpoint is loaded.

    Args:
        directory: the folder.
        ema: True for the averaged weights, False for the last ones.
        device: where to put the network; None for the CPU.
        step: a step whose averaged weights were kept as a snapshot; None for the last step.
        network: a network of your own that was trained, to be given its weights; None for one of flowscope's.
        shape: of the points that it is wanted for; None for any. A model of other points is refused.

    Returns:
        A NetworkField whose `about` is the content of model.json.

    Raises:
        InputError: there is no model, or a file is damaged, a pickle, or of another architecture, shape or schema.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import flowscope as fs
        >>> from flowscope.training import TrainSettings, train_to
        >>> settings = TrainSettings(model="mlp", width=8, steps=2, batch=4)
        >>> with TemporaryDirectory() as folder:
        ...     field = fs.load_model(train_to([[0.0, 1.0], [1.0, 0.0]], settings, folder, tracker=None))
        >>> field.shape, field.about["step"]
        ((2,), 2)
    """
    folder, where = Path(directory), resolve_device(device)
    about = read_about(folder)
    own_shape = tuple(about["shape"])
    if shape is not None and tuple(shape) != own_shape:
        raise InputError(
            f"{folder} is a model of points of shape {own_shape}, the data have {tuple(shape)}; expected one shape: "
            "load the data with the options the model was trained with (--resize, --grey), or train another"
        )
    path, tensors = _read_weights(folder, about, ema, step)
    if network is None:
        network = _build(about, folder)
    load_weights(network, tensors, path)
    return trained_field(network.to(where).eval(), about, folder.resolve().name)


def trained_field(network: nn.Module, about: Mapping[str, Any], name: str) -> NetworkField:
    """Make a field of a network that flowscope trained.

    Args:
        network: with its weights.
        about: the content of model.json.
        name: of the field.
    """
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


def _build(about: Mapping[str, Any], folder: Path) -> nn.Module:
    settings = about["settings"]
    if about["network"] is not None:
        raise InputError(
            f"{folder} was trained with a network of the user's own ({about['network']}); expected it as network=..."
        )
    return build_network(settings["model"], tuple(about["shape"]), about["classes"], width=settings["width"])


def _read_weights(folder: Path, about: Mapping[str, Any], ema: bool, step: int | None) -> tuple[Path, Tensors]:
    """The file of the weights that are asked for, and the weights."""
    if step is not None:
        known = snapshot_steps(folder)
        if step not in known or not ema:
            have = ", ".join(map(str, known)) or "none"
            raise InputError(f"step is {step!r} with ema={ema}; {folder} keeps averaged weights of the steps: {have}")
        return folder / snapshot_name(step), read_safetensors(folder / snapshot_name(step))[0]
    if not (folder / ABOUT_FILE).exists():
        group = "ema|" if ema else "weights|"
        tensors = read_safetensors(folder / CHECKPOINT_FILE)[0]
        return folder / CHECKPOINT_FILE, {k.removeprefix(group): v for k, v in tensors.items() if k.startswith(group)}
    path = folder / (EMA_FILE if ema else MODEL_FILE)
    if not path.exists():
        other = (
            "; expected it there: take the last weights (ema=False, or --no-ema of flowscope sample)"
            if ema
            else f"; expected it beside {ABOUT_FILE}"
        )
        raise InputError(f"{folder} has no {path.name}{other}")
    tensors = read_safetensors(path)[0]
    if digest_of(path.read_bytes()) != about.get("digests", {}).get(path.name):
        raise InputError(f"{path} is not the file that {ABOUT_FILE} names by its digest; expected both from one run")
    return path, tensors

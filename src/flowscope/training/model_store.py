"""The model store: what training leaves in a folder, and load_model, which reads it. Pickles are refused.

During training one file, state.safetensors, holds all that resuming needs: weights, averaged weights, the optimizer's
moments, the losses so far and, in its metadata, what run they are of. When training is finished, model.safetensors,
ema.safetensors and model.json take its place.
"""

import hashlib
import re
import reprlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NotRequired

import torch
from annotated_types import Ge, Le, Len
from safetensors import safe_open
from torch import Tensor, nn
from typing_extensions import TypedDict

from flowscope.core.device import resolve_device
from flowscope.core.files import digest_of_file
from flowscope.core.memory import check_memory
from flowscope.core.schema import Count, LabelText, Whole, check_form, form_of, parse_json, read_json
from flowscope.data.loaders.source import MAX_AXES, reading
from flowscope.errors import InputError
from flowscope.networks.architectures import MAX_CLASSES, build_network
from flowscope.networks.convention import CONVENTIONS, Convention
from flowscope.networks.field import NetworkField, as_field
from flowscope.networks.labels import read_labels
from flowscope.networks.published import is_published, load_published, read_extras
from flowscope.networks.weights import check_fit, plain_name
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
PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
ABOUT_KIND = "what flowscope train wrote"  # in messages
MAX_SIDE = 2**31 - 1  # of a point
Tensors = dict[str, Tensor]


class HeldOutForm(TypedDict):
    """What model.json says of the points that were set aside."""

    count: Whole
    seed: NotRequired[Whole]
    whole: NotRequired[str]


class TrainingSetForm(TypedDict):
    """What it says of the training set."""

    digest: str
    name: NotRequired[str]
    points: NotRequired[Count]
    normalisation: NotRequired[str]
    labels: NotRequired[bool]
    weights: NotRequired[bool]


class AboutForm(TypedDict):
    """The content of model.json, and of the checkpoint of a run."""

    settings: form_of(TrainSettings, interval=list[float])  # type: ignore[valid-type]
    shape: Annotated[list[Annotated[int, Ge(1), Le(MAX_SIDE)]], Len(1, MAX_AXES)]
    classes: Annotated[int, Ge(0), Le(MAX_CLASSES)]
    network: str | None
    training_set: TrainingSetForm
    held_out: HeldOutForm
    step: Count
    labels: NotRequired[list[Whole] | None]
    class_names: NotRequired[dict[LabelText, str] | None]
    source: NotRequired[dict[str, Any] | None]
    parameters: Count
    seconds: Annotated[float, Ge(0)]
    device: NotRequired[str]
    versions: NotRequired[dict[str, str]]
    digests: NotRequired[dict[str, str]]


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
    names = (re.fullmatch(r"step_([0-9]{1,18})", path.stem) for path in Path(directory).glob("snapshots/*.safetensors"))
    return sorted(int(name[1]) for name in names if name)


def to_safetensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file; tied tensors are written once for each of their names."""
    from safetensors.torch import save

    whole = {plain_name(k): v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    return save(whole, dict(metadata or {}))


def read_safetensors(path: Path, device: torch.device | str = "cpu") -> tuple[Tensors, dict[str, str]]:
    """The tensors and the metadata of a safetensors file.

    Raises:
        InputError: it is no such file, or is cut short.
    """
    kind = "a whole safetensors file that flowscope train wrote"
    with reading(path, kind):
        check_memory(path.stat().st_size, str(path), "expected weights that fit: free some, or take another machine")
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
    check_fit(network, tensors, where)
    tensors = {plain_name(k): v for k, v in tensors.items()}
    network.load_state_dict({k: tensors[plain_name(k)] for k in network.state_dict()})


def is_model_folder(directory: Path) -> bool:
    """Whether a training of flowscope has left a model in a folder, finished or not."""
    return any((directory / name).is_file() for name in (ABOUT_FILE, CHECKPOINT_FILE))


def read_about(directory: Path) -> dict[str, Any]:
    """What a model's folder says of its model, by model.json or, during training, by the checkpoint.

    Raises:
        InputError: there is no model, it is a pickle, or it is of another schema.
    """
    if directory.suffix in (*PICKLE_SUFFIXES, ".safetensors") and not directory.exists():
        raise InputError(f"{directory} does not exist; expected a checkpoint of another project, or a model's folder")
    if not (directory / ABOUT_FILE).exists() and (pickles := _pickles(directory)):
        raise InputError(
            f"{directory} holds no model of flowscope train, and {pickles[0]} is a pickle; expected the folder of such "
            f"a model, or a checkpoint of DiT, SiT, REPA or LightningDiT by its file: {pickles[0]}"
        )
    if (directory / ABOUT_FILE).exists():
        return _checked_about(read_json(directory / ABOUT_FILE, dict[str, Any], ABOUT_KIND), directory / ABOUT_FILE)
    if (directory / CHECKPOINT_FILE).exists():
        return checkpoint_about(directory / CHECKPOINT_FILE)
    what = "holds no model" if directory.is_dir() else "is not a folder"
    raise InputError(f"{directory} {what}; expected the folder of a model (flowscope train SOURCE --out {directory})")


def _checked_about(found: dict[str, Any], where: Path) -> dict[str, Any]:
    """What a file says of its model, in the present schema, once it can be true."""
    about = upgrade_about(found)
    if about.get("schema") != SCHEMA:
        raise InputError(
            f"{where} is of schema {reprlib.repr(about.get('schema'))}; this flowscope reads 1 to {SCHEMA}: train it "
            "again, or take the version of flowscope that wrote it"
        )
    check_form(about, AboutForm, where, ABOUT_KIND)
    try:
        TrainSettings.from_dict(about["settings"])
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} is damaged ({type(error).__name__}: {error}); expected {ABOUT_KIND}") from None
    return about


def checkpoint_about(path: Path) -> dict[str, Any]:
    """What the checkpoint of an unfinished run says of it."""
    with reading(path, "the state of an interrupted run"), safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get("about", "")
    return _checked_about(parse_json(text, dict[str, Any], path, ABOUT_KIND), path)


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
    convention: str | Convention | None = None,
    extras: Mapping[str, Any] | str | Path | None = None,
    heads: int | None = None,
) -> NetworkField:
    """Load a network as a field: one of :func:`train_to` or ``flowscope train``, or one of another project.

    Of a run that goes on, or was interrupted, the last checkpoint is loaded.

    Args:
        directory: the folder that a training of flowscope wrote; a folder of diffusers; a .pt or .safetensors
            checkpoint of DiT, SiT, REPA or LightningDiT; or "FILE.py:FUNCTION", whose function returns a module.
        ema: True for the averaged weights, False for the last ones.
        device: where to put the network; None for the CPU.
        step: a step whose averaged weights were kept as a snapshot; None for the last step.
        network: a network of your own that was trained, to be given its weights; None for one of flowscope's.
        shape: of the points that it is wanted for; None for any. A model of other points is refused.
        convention: as for :func:`flowscope.as_field`, for what a model of another project does not say itself.
        extras: keyword arguments of every call of it, such as text embeddings, or a .safetensors file of them.
        heads: of attention of a checkpoint that does not say how many.

    Returns:
        A NetworkField whose `about` is the content of model.json, or what is known of another project's network.

    Raises:
        InputError: there is no model, or a file is damaged, a pickle, or of another architecture, shape or schema; or
            the model does not say what it predicts, and there is no convention.

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
    if is_published(directory):
        if step is not None or network is not None:
            raise InputError(f"{directory} is a model of another project; expected no step and no network with it")
        named = read_extras(extras) if isinstance(extras, (str, Path)) else extras
        how: dict[str, Any] = {"ema": ema, "device": device, "extras": named, "shape": shape, "heads": heads}
        return load_published(directory, convention, **how)
    for name, value in (("convention", convention), ("extras", extras), ("heads", heads)):
        if value is not None:
            _refuse_option(folder, name)
    about = read_about(folder)
    own_shape = tuple(about["shape"])
    if shape is not None and tuple(shape) != own_shape:
        raise InputError(
            f"{folder} is a model of points of shape {own_shape}, the data have {tuple(shape)}; expected one shape: "
            "load the data with the options the model was trained with (--resize, --grey), or train another"
        )
    path, tensors = _read_weights(folder, about, ema, step)
    if network is None:
        network = _build(about, folder, tensors, path)
    load_weights(network, tensors, path)
    return trained_field(network.to(where).eval(), about, folder.resolve().name)


def _refuse_option(folder: Path, name: str) -> None:
    """Refuse what is said of a model of another project for one of flowscope's own."""
    read_about(folder)  # which refuses what is no model at all
    raise InputError(
        f"--{name} is given, and {folder} is a model of flowscope's own, whose convention is known; leave it out"
    )


def trained_field(network: nn.Module, about: Mapping[str, Any], name: str) -> NetworkField:
    """Make a field of a network that flowscope trained.

    Args:
        network: with its weights.
        about: the content of model.json.
        name: of the field.
    """
    path, dropout = about["settings"]["path"], about["settings"]["label_dropout"]
    classes, labels, null = about["classes"], about.get("labels"), read_labels(network, True).null
    if classes and dropout == 0:
        null = None  # no label was ever dropped, so the label for none was never trained
    if dropout == 1:
        classes, labels = 0, None  # all were, so the others were not
    convention = replace(CONVENTIONS["flowscope"], path=path)
    field = as_field(
        network,
        convention,
        path=path,
        classes=classes,
        null=null,
        shape=tuple(about["shape"]),
        name=name,
        about=about,
        labels=labels,
    )
    return replace(field, null=null)


def _build(about: Mapping[str, Any], folder: Path, tensors: Tensors, path: Path) -> nn.Module:
    """The network that model.json names, once the weights fit one without memory."""
    settings = about["settings"]
    if about["network"] is not None:
        raise InputError(
            f"{folder} was trained with a network of the user's own ({about['network']}); expected it as network=..."
        )
    build = partial(build_network, settings["model"], tuple(about["shape"]), about["classes"], width=settings["width"])
    with reading(folder, "a network that can be built"), torch.device("meta"):
        check_fit(build(), tensors, path)
    return build()


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
    if digest_of_file(path) != about.get("digests", {}).get(path.name):
        raise InputError(f"{path} is not the file that {ABOUT_FILE} names by its digest; expected both from one run")
    return path, tensors

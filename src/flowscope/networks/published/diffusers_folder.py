"""Folders of diffusers: a pipeline's (model_index.json) or a model's (config.json), with weights in safetensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from flowscope.core.files import digest_of_file
from flowscope.core.schema import read_json
from flowscope.core.settings import need
from flowscope.data.loaders.source import reading
from flowscope.errors import InputError
from flowscope.networks.checks import config_shape
from flowscope.networks.convention import Convention
from flowscope.networks.diffusers import TRANSFORMERS
from flowscope.networks.field import NetworkField, as_field
from flowscope.networks.labels import config_of
from flowscope.networks.weights import first_names

INDEX, CONFIG, SCHEDULER_CONFIG = "model_index.json", "config.json", "scheduler_config.json"
BY_SCHEDULER = ("UNet2DModel", "UNet2DConditionModel", "DiTTransformer2DModel", "PixArtTransformer2DModel")
KINDS = (*TRANSFORMERS, *BY_SCHEDULER)  # classes of diffusers whose time, sign and scale are known
NETWORKS = ("transformer", "unet")  # components of a pipeline
LATENTS = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")  # of a pipeline's autoencoder
KIND = "what diffusers' save_pretrained writes"  # in messages


def is_diffusers_folder(path: Path) -> bool:
    """Whether a folder is one of diffusers, by its index or the class that its config names."""
    if (path / INDEX).is_file():
        return True
    return (path / CONFIG).is_file() and "_class_name" in read_json(path / CONFIG, dict[str, Any], KIND)


def diffusers_field(
    folder: Path,
    convention: str | Convention | None = None,
    *,
    extras: Mapping[str, Any] | None = None,
    shape: tuple[int, ...] | None = None,
) -> NetworkField:
    """The network of a folder of diffusers as a field.

    Args:
        folder: of a pipeline, or of its transformer or U-Net.
        convention: a name or a Convention; None for what flowscope knows of the class and its scheduler.
        extras: keyword arguments of every call, such as text embeddings.
        shape: of one state; None for what the config says.

    Raises:
        InputError: the class is not known and no convention is given, a file is missing, damaged or a pickle, weights
            are missing, or it cannot be called with what is known.
        MissingExtraError: diffusers is not installed.
    """
    home = _network_folder(folder)
    kind = str(read_json(home / CONFIG, dict[str, Any], KIND).get("_class_name"))
    if kind not in KINDS and not isinstance(convention, Convention) and convention in (None, "diffusers"):
        raise InputError(
            f"{home} holds a {kind}, and flowscope does not know which time it is given, nor the sign of what it "
            "predicts; expected a Convention by what its pipeline does, from a function: --model mine.py:make, whose "
            "make returns flowscope.as_field(network, flowscope.networks.Convention('mine', sign=-1, reverse=True, "
            "scale=1000, call=flowscope.networks.call_styles.call_by_name))"
        )
    network = _load(home, kind)
    named = "diffusers" if convention is None else convention
    scheduler = _scheduler(home, kind) if named == "diffusers" else None
    own = _shape(network) if shape is None else shape
    about = _about(home, network)
    return as_field(
        network, named, scheduler=scheduler, extras=extras, shape=own, name=folder.resolve().name, about=about
    )


def _network_folder(folder: Path) -> Path:
    """The folder of the one network in a folder of a pipeline, or of a network."""
    if not (folder / INDEX).is_file():
        return folder
    index = read_json(folder / INDEX, dict[str, Any], KIND)
    parts = [name for name, value in index.items() if name.startswith(NETWORKS) and value and value != [None, None]]
    found = [name for name in parts if (folder / name / CONFIG).is_file()]
    if len(parts) != 1 or not found:
        has = f"several networks ({', '.join(parts)})" if len(parts) > 1 else "no transformer or unet with its config"
        raise InputError(f"{folder} holds {has}; expected one: give its folder, such as {folder / NETWORKS[0]}")
    return folder / found[0]


def _load(home: Path, kind: str) -> nn.Module:
    diffusers = need("diffusers", "models")
    files = sorted(home.glob("*.safetensors"))
    if not files:
        raise InputError(
            f"{home} holds no .safetensors (pickles such as .bin run code when they are read, and are refused); "
            "expected weights that save_pretrained wrote with safe_serialization=True"
        )
    made: Any = getattr(diffusers, kind, None)
    if not hasattr(made, "from_pretrained"):
        raise InputError(f"{home} holds a {kind}, which this diffusers ({diffusers.__version__}) does not have")
    with reading(home, KIND):
        network, info = made.from_pretrained(
            home, use_safetensors=True, local_files_only=True, torch_dtype=_dtype(files[0]), output_loading_info=True
        )
    wrong = {key: list(map(str, info.get(key) or ())) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    if any(wrong.values()):
        said = "; ".join(f"{key.partition('_')[0]}: {first_names(names)}" for key, names in wrong.items() if names)
        raise InputError(f"{home} does not fit the {kind}: {said}; expected the weights of its {CONFIG}")
    return network.eval()


def _dtype(path: Path) -> torch.dtype:
    """In which the weights are stored."""
    with reading(path, "a whole safetensors file"), safe_open(path, framework="pt") as file:
        kinds = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
    return {"BF16": torch.bfloat16, "F16": torch.float16}.get(kinds.pop(), torch.float32) if kinds else torch.float32


def _scheduler(home: Path, kind: str) -> Any:
    """The scheduler that lies with a network; None where it is not needed: transformers of flow matching say enough."""
    places = (home, home / "scheduler", home.parent / "scheduler")
    path = next((place / SCHEDULER_CONFIG for place in places if (place / SCHEDULER_CONFIG).is_file()), None)
    if path is None:
        return None
    config = read_json(path, dict[str, Any], KIND)
    flow = config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction"
    if kind in TRANSFORMERS and flow:
        return None
    name, diffusers = str(config.get("_class_name")), need("diffusers", "models")
    if not hasattr(getattr(diffusers, name, None), "from_config"):
        raise InputError(f"{path} names a {name}, which this diffusers ({diffusers.__version__}) does not have")
    with reading(path, KIND):
        return getattr(diffusers, name).from_config(config)


def _shape(network: nn.Module) -> tuple[int, ...] | None:
    """The shape of one state, by the config; None where it has no side."""
    config, found = config_of(network), config_shape(network)
    side = config.get("sample_size")
    if found is not None or side is None or "in_channels" not in config:
        return found
    return (int(config["in_channels"]), *((side, side) if isinstance(side, int) else side))


def _about(home: Path, network: nn.Module) -> dict[str, Any]:
    """What is known of a network of diffusers, in the words of model.json."""
    vae = home.parent / "vae" / CONFIG
    config = read_json(vae, dict[str, Any], KIND) if vae.is_file() else {}
    latents = {name: config[name] for name in LATENTS if config.get(name) is not None}
    factor = latents.get("scaling_factor") if len(latents) == 1 else None
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "step": None,
        "source": str(home),
        "digests": {path.name: digest_of_file(path) for path in sorted(home.glob("*.safetensors"))},
        "guided_channels": None,
        "latents": latents or None,
        "normalise": None if factor is None else f"scale:{factor}",
    }

"""Networks of DiT, SiT, REPA and LightningDiT from their checkpoints, and as fields with what the projects do."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from flowscope.core.files import digest_of_file
from flowscope.core.settings import check_count
from flowscope.errors import FlowscopeWarning, InputError, unknown_name
from flowscope.networks.convention import CONVENTIONS, Convention
from flowscope.networks.field import NetworkField, as_field
from flowscope.networks.published.checkpoint import Checkpoint, in_one_precision, read_checkpoint_file
from flowscope.networks.published.sizes import check_parts, project_of, read_sizes, trained_as, without_projectors
from flowscope.networks.published.transformer import LatentTransformer
from flowscope.networks.weights import check_fit

PROJECTS = ("dit", "sit", "repa", "lightningdit")  # conventions of checkpoints of these architectures
GUIDED_CHANNELS = {"dit": 3, "sit": 3, "lightningdit": 3}  # by forward_with_cfg of their code; REPA guides all
SD_VAE, VA_VAE = "scale:0.18215", "lightningdit"  # what a latent is multiplied by, or its statistics, as --normalise


def read_network(
    path: str | Path, *, heads: int | None = None, ema: bool = True, variance: bool = False
) -> LatentTransformer:
    """Build the network of a checkpoint of DiT, SiT, REPA or LightningDiT, with its weights, in eval mode on the CPU.

    Args:
        path: a .pt or .safetensors file.
        heads: of attention, where neither weights nor record say.
        ema: True for averaged weights where the file holds both, False for the last ones.
        variance: whether the network returns the variance that it learned in as many channels again, as DiT does.

    Raises:
        InputError: the file is no checkpoint of these; the message names what is missing, unexpected or of another
            shape.
    """
    return _build(read_checkpoint_file(Path(path), ema), heads, variance)


def _build(found: Checkpoint, heads: int | None, variance: bool) -> LatentTransformer:
    heads = None if heads is None else check_count(heads, "heads")
    tensors = in_one_precision(without_projectors(found.tensors))
    sizes = replace(read_sizes(found, tensors, heads), variance=variance)
    with torch.device("meta"):  # takes no memory: the weights of the file become those of the network
        network = LatentTransformer(sizes)
    check_fit(network, tensors, found.path)
    network.load_state_dict(tensors, assign=True)
    return network.eval().requires_grad_(True)


def checkpoint_field(
    path: Path, convention: str | Convention | None = None, *, ema: bool = True, heads: int | None = None
) -> NetworkField:
    """A checkpoint of DiT, SiT, REPA or LightningDiT as a field.

    Args:
        path: a .pt or .safetensors file.
        convention: a name or a Convention; None for what the file says.
        ema, heads: as in :func:`read_network`.

    Returns:
        A NetworkField on the path that the network was trained on, or for DDPM's on the linear one. Its `about` says
        what the project's code does beside: guided_channels, label_dropout, normalise (of its latents).

    Raises:
        InputError: as in :func:`read_network`; or the file does not say whether it is SiT's or DiT's.
    """
    found = read_checkpoint_file(path, ema)
    check_parts(found, without_projectors(found.tensors))
    own = _convention(found, convention)
    network = _build(found, heads, own.variance)
    path_name = own.path if own.path in ("cosine", "vp") else "linear"
    notes = _notes(found, ema)
    about = _about(found, network, own) | {"notes": notes}
    return as_field(network, own, path=path_name, name=path.stem, about=about)


def _notes(found: Checkpoint, ema: bool) -> list[str]:
    """What was decided for the user in reading a checkpoint, which is warned of, too."""
    notes = []
    if ema and found.averaged is False:
        notes.append(f"{found.path.name} holds no averaged weights: its last ones are taken")
    for note in notes:
        warnings.warn(note, FlowscopeWarning, stacklevel=3)
    return notes


def _convention(found: Checkpoint, given: str | Convention | None) -> Convention:
    """The convention that is given, or that of the project; with the path and prediction that the file's record says.

    Raises:
        InputError: the file does not tell SiT from DiT, or the name is unknown.
    """
    if isinstance(given, Convention):
        return given
    if given is not None and not isinstance(given, str):
        raise unknown_name("convention", given, CONVENTIONS, "a flowscope.networks.Convention")
    name = project_of(found) if given is None else given.lower().replace("-", "_")
    if name is None:
        raise InputError(
            f"{found.path} holds the weights of a SiT or a DiT, which have the same names and predict other things, "
            "and no record says which; expected --convention sit or --convention dit (convention=... in load_model)"
        )
    if name not in CONVENTIONS:
        raise unknown_name("convention", given, CONVENTIONS)
    return replace(CONVENTIONS[name], **trained_as(found.record)) if name in PROJECTS else CONVENTIONS[name]


def _about(found: Checkpoint, network: LatentTransformer, convention: Convention) -> dict[str, Any]:
    """What is known of a published network, in the words of model.json."""
    sizes, guided = network.sizes, GUIDED_CHANNELS.get(convention.name)
    weights = {None: "the file's", True: "averaged", False: "last"}[found.averaged]
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "step": found.step,
        "source": str(found.path),
        "weights": weights,
        "digests": {found.path.name: digest_of_file(found.path)},
        "guided_channels": guided if guided is None or guided < sizes.channels else None,
        "label_dropout": sizes.dropout,
        "normalise": _normalise(found, convention, sizes.channels),
    }


def _normalise(found: Checkpoint, convention: Convention, channels: int) -> str | None:
    """How the latents that a network was trained on are scaled, as `--normalise` takes it; None where that is open."""
    data = found.record.get("data")
    if isinstance(data, dict):  # LightningDiT's config
        factor = data.get("latent_multiplier", 0.18215)
        return f"lightningdit:{factor}" if data.get("latent_norm") else f"scale:{factor}"
    if convention.name == "lightningdit":
        return VA_VAE if channels == 32 else None
    return SD_VAE if convention.name in PROJECTS and channels == 4 else None

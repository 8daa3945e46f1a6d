"""Checkpoints in the layout of other projects' own code, with weights that a formula fills.

`published_outputs.json` was recorded from that code: for each kind the names and shapes of its weights, and what its
module returned for `inputs` with the weights of `weights`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

RECORDED: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "published_outputs.json").read_text())
KINDS = tuple(RECORDED)
HEADS = 3  # of all of them
CLASSES = 3


def weights(kind: str, shift: float = 0.0) -> dict[str, Tensor]:
    """The weights of a kind by name; those with another shift are other ones."""
    found = {}
    for k, (name, shape) in enumerate(sorted(RECORDED[kind]["keys"].items())):
        i = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
        found[name] = (0.3 * torch.sin(1.7 * i + 0.37 * k + 1 + shift)).reshape(shape).float()
    return found


def inputs(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Two states (2, 4, 4, 4), their timesteps in the network's own units, and labels of which 3 stands for none."""
    x = torch.sin(torch.arange(128, dtype=torch.float64) * 0.61).reshape(2, 4, 4, 4).float()
    return x, torch.tensor([0.25, 0.8]) * (1000 if kind == "dit" else 1), torch.tensor([1, 3])


def output(kind: str) -> Tensor:
    """What the project's own module returned for them."""
    return torch.tensor(RECORDED[kind]["output"]).reshape(2, -1, 4, 4)


def samples(kind: str) -> Tensor:
    """What the project's own sampler drew of classes 0 and 1 in six steps, from the noise of flowscope's seed 0."""
    return torch.tensor(RECORDED[kind]["samples"]).reshape(2, 4, 4, 4)


def record(kind: str) -> Any:
    """What the project's training writes of itself beside the weights, with the heads that tiny widths leave open."""
    if kind.startswith("lightningdit"):
        data = {"num_classes": CLASSES, "latent_norm": True, "latent_multiplier": 1.0}
        transport = {"path_type": "Linear", "prediction": "velocity"}
        return {"model": {"model_type": "LightningDiT-XL/1"}, "data": data, "transport": transport}
    own = {"num_classes": CLASSES, "num_heads": HEADS}
    if kind == "repa":
        return argparse.Namespace(model="SiT-XL/2", path_type="linear", prediction="v", cfg_prob=0.2, **own)
    how = {"path_type": "Linear", "prediction": "velocity"} if kind == "sit" else {}
    return argparse.Namespace(model={"sit": "SiT-XL/2", "dit": "DiT-XL/2"}[kind], **how, **own)


def checkpoint(kind: str) -> dict[str, Any]:
    """What the project's training hands to torch.save."""
    under = "config" if kind.startswith("lightningdit") else "args"
    optimizer = {"state": {0: {"step": 5.0}}, "param_groups": [{"lr": 1e-4}]}
    return {"model": weights(kind, 0.5), "ema": weights(kind), "opt": optimizer, under: record(kind)}


def write_checkpoint(path: Path, kind: str) -> Path:
    """Write a checkpoint of a project, and return its path."""
    torch.save(checkpoint(kind), path)
    return path

"""Small examples of every format of latents, and the points and labels that they hold.

`write_NAME(folder)` writes one into an empty folder.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch

from tests.support.formats import write_files, write_tar_of, write_zip_of

COUNT = 10
LATENTS = np.random.default_rng(8).normal(0.3, 2, (COUNT, 4, 6, 5)).astype(np.float32)
STDS = np.random.default_rng(9).uniform(0.1, 0.5, LATENTS.shape).astype(np.float32)
VIDEOS = torch.from_numpy(np.random.default_rng(10).normal(0, 1, (COUNT, 4, 2, 6, 5))).bfloat16()
LABELS = [k % 3 for k in range(COUNT)]  # not in the order of files
BY_CLASS = sorted(range(COUNT), key=lambda k: LABELS[k])  # the items class by class
CLASSES = ("ant", "bee", "cat")


class Written(NamedTuple):
    """An example.

    Attributes:
        path: what is given to load.
        options: with which it holds these points.
        points: (N, ...), in order.
        labels: (N,); None for none.
    """

    path: Path
    options: dict[str, Any]
    points: np.ndarray
    labels: list[int] | None


def save_statistics(path: Path, mean: list[float], std: list[float]) -> Path:
    """`latents_stats.pt` as LightningDiT writes it."""
    torch.save({name: torch.tensor(v).reshape(1, -1, 1, 1) for name, v in (("mean", mean), ("std", std))}, path)
    return path


def write_lightningdit(folder: Path, shards: int = 1, **changes: Any) -> Written:
    """Shards of latents and those of mirror images beside their statistics; the values of its loader."""
    latents = np.arange(16, dtype=np.float32).reshape(2, 2, 2, 2)
    entries = {"latents": latents, "latents_flip": -latents, "labels": np.array([3, 5])} | changes
    entries = {name: values for name, values in entries.items() if values is not None}
    for k in range(shards):
        part = {name: values[k::shards] for name, values in entries.items()}
        safetensors.numpy.save_file(part, folder / f"latents_rank00_shard{k:03}.safetensors")
    save_statistics(folder / "latents_stats.pt", [1.0, 2.0], [2.0, 4.0])
    points = [
        [-0.5, 0, 0.5, 1, 0.5, 0.75, 1, 1.25],
        [3.5, 4, 4.5, 5, 2.5, 2.75, 3, 3.25],
        [-0.5, -1, -1.5, -2, -1.5, -1.75, -2, -2.25],
        [-4.5, -5, -5.5, -6, -3.5, -3.75, -4, -4.25],
    ]
    return Written(folder, {}, np.array(points, np.float32).reshape(4, 2, 2, 2), [3, 5, 3, 5])


def npy(array: np.ndarray) -> bytes:
    """A .npy file."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def posteriors() -> dict[str, bytes]:
    """The files of EDM2's `dataset_tool encode`, which REPA has, too."""
    both = np.concatenate([LATENTS, STDS], 1)
    files = {f"{k // 4:05}/img-mean-std-{k:08}.npy": npy(both[k]) for k in range(COUNT)}
    labels = [[name, label] for name, label in zip(files, LABELS, strict=True)]
    return files | {"dataset.json": json.dumps({"labels": labels}).encode()}


def write_repa(folder: Path) -> Written:
    """REPA's `vae-sd`: the means, times its factor."""
    options = {"posterior": "mean", "normalise": "scale:0.18215"}
    return Written(write_files(folder / "vae-sd", posteriors()), options, LATENTS * np.float32(0.18215), LABELS)


def write_edm2(folder: Path) -> Written:
    """EDM2's zip: the means, (value - mean) / std * 0.5 by its constants."""
    mean, std = np.array([5.81, 3.25, 0.12, -2.15]), np.array([4.17, 4.62, 3.71, 3.28])
    np.savez(folder / "edm2.npz", mean=mean, std=std / 0.5)
    points = LATENTS * (0.5 / std).reshape(4, 1, 1) + (-mean * 0.5 / std).reshape(4, 1, 1)  # as its encoder has it
    path = write_zip_of(folder / "img-sd.zip", posteriors())
    return Written(path, {"posterior": "mean", "normalise": folder / "edm2.npz"}, points.astype(np.float32), LABELS)


def write_npy_items(folder: Path) -> Written:
    """A folder of .npy files, without labels."""
    files = {f"{k:03}.npy": npy(LATENTS[k]) for k in range(COUNT)}
    return Written(write_files(folder / "items", files), {}, LATENTS, None)


def write_npy_classes(folder: Path) -> Written:
    """A folder of .npy files by class, some in Fortran's order and in the other byte order."""
    ways = (np.asfortranarray, lambda x: x.astype(x.dtype.newbyteorder()), np.asarray)
    files = {f"{CLASSES[LABELS[k]]}/{k:03}.npy": npy(ways[k % 3](LATENTS[k])) for k in range(COUNT)}
    return Written(write_files(folder / "classes", files), {}, LATENTS[BY_CLASS], [LABELS[k] for k in BY_CLASS])


def write_pt_items(folder: Path) -> Written:
    """A folder of .pt files, bfloat16."""
    (folder / "pt").mkdir()
    half = torch.from_numpy(LATENTS).bfloat16()
    for k in range(COUNT):
        torch.save(half[k].clone(), folder / "pt" / f"{k:03}.pt")
    return Written(folder / "pt", {}, half.float().numpy(), None)


def write_musubi(folder: Path, architecture: str = "wan", skip: int = 0) -> Written:
    """The caches of musubi-tuner: latents, conditions beside them, and what is cached of a text encoder."""
    path = folder / "cache"
    path.mkdir(exist_ok=True)
    about = {"architecture": architecture, "width": "40", "height": "48", "format_version": "1.0.1"}
    for k in range(skip, COUNT):
        tensors = {"latents_2x6x5_bf16": VIDEOS[k].clone(), "clip_bf16": torch.ones(3).bfloat16()}
        safetensors.torch.save_file(tensors, path / f"item{k}_0040x0048_{architecture}.safetensors", about)
        text = {"varlen_t5_bf16": torch.ones(4, 2).bfloat16()}
        safetensors.torch.save_file(
            text, path / f"item{k}_{architecture}_te.safetensors", {"architecture": architecture, "caption1": "a"}
        )
    return Written(path, {}, VIDEOS.float().numpy(), None)


def samples() -> dict[str, bytes]:
    """WebDataset: .npy and .cls of one key."""
    files = dict[str, bytes]()
    for k in range(COUNT):
        files |= {f"{k:06}.npy": npy(LATENTS[k].astype(np.float16)), f"{k:06}.cls": str(LABELS[k]).encode()}
    return files


def write_webdataset(folder: Path) -> Written:
    """One tar."""
    return Written(write_tar_of(folder / "train.tar", samples()), {}, LATENTS.astype(np.float16), LABELS)


def write_webdataset_shards(folder: Path) -> Written:
    """Numbered tars."""
    (folder / "shards").mkdir()

    def part(wanted: range) -> Mapping[str, bytes]:
        return {name: data for name, data in samples().items() if int(name[:6]) in wanted}

    for k in range(0, COUNT, 4):
        write_tar_of(folder / "shards" / f"{k // 4:06}.tar", part(range(k, k + 4)))
    return Written(folder / "shards", {}, LATENTS.astype(np.float16), LABELS)


WRITERS = (
    write_lightningdit,
    write_repa,
    write_edm2,
    write_npy_items,
    write_npy_classes,
    write_pt_items,
    write_musubi,
    write_webdataset,
    write_webdataset_shards,
)

"""Small examples of files of plain arrays: each function writes one into a folder, and says what it holds."""

import io
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from PIL import Image

from flowscope.data import TrainingSet
from tests.support.formats import CLASSES, LABELS, NORMALISATION, PIXELS, VECTORS, Written, encoded, points_of


def _vectors() -> TrainingSet:
    return TrainingSet(VECTORS, LABELS)


def write_npy(folder: Path) -> Written:
    np.save(folder / "set.npy", VECTORS)
    return folder / "set.npy", TrainingSet(VECTORS)


def write_npz(folder: Path) -> Written:
    np.savez(folder / "set.npz", images=PIXELS, labels=LABELS, classes=np.array(CLASSES))
    return folder / "set.npz", TrainingSet(points_of(), LABELS, class_names=CLASSES, normalisation=NORMALISATION)


def write_jpeg_npz(folder: Path) -> Written:
    files = [encoded(image, "JPEG") for image in PIXELS]
    ends = np.cumsum([0, *map(len, files)])
    np.savez(folder / "jpeg.npz", jpeg=np.frombuffer(b"".join(files), np.uint8), offsets=ends, labels=LABELS)
    decoded = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
    return folder / "jpeg.npz", TrainingSet(points_of(decoded), LABELS, normalisation=NORMALISATION)


def write_safetensors(folder: Path) -> Written:
    safetensors.numpy.save_file({"points": VECTORS, "labels": LABELS}, folder / "set.safetensors")
    return folder / "set.safetensors", _vectors()


def write_safetensors_shards(folder: Path) -> Written:
    (folder / "shards").mkdir()
    for k, part in enumerate((slice(0, 5), slice(5, None))):
        arrays = {"points": VECTORS[part], "labels": LABELS[part]}
        safetensors.numpy.save_file(arrays, folder / "shards" / f"set-{k + 1:05}-of-00002.safetensors")
    return folder / "shards", _vectors()


def write_pt(folder: Path, suffix: str = "pt") -> Written:
    saved = {"points": torch.from_numpy(VECTORS), "labels": torch.from_numpy(LABELS)}
    torch.save(saved, folder / f"set.{suffix}")
    return folder / f"set.{suffix}", _vectors()


def write_vector_parquet(folder: Path) -> Written:
    import datasets

    columns = {"embedding": VECTORS.tolist(), "label": LABELS.tolist()}
    datasets.Dataset.from_dict(columns).to_parquet(str(folder / "vectors.parquet"))
    return folder / "vectors.parquet", _vectors()

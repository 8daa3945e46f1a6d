"""Small examples of formats: each function writes one into a folder, and says what it holds.

`write_NAME(folder)` returns the path of the source and the TrainingSet that it is.
"""

import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from flowscope.data import TrainingSet

if TYPE_CHECKING:
    import datasets

COUNT = 12
PIXELS = np.random.default_rng(6).integers(0, 256, (COUNT, 9, 8, 3), dtype=np.uint8)  # (N, H, W, C)
LABELS = np.repeat([0, 1, 2], 4)
MIXED = np.arange(COUNT) % 5  # labels that are not in the order of files
CLASSES = ("ant", "bee", "cat")
NORMALISATION = "value / 127.5 - 1"
Written = tuple[Path, TrainingSet]


def points_of(pixels: np.ndarray = PIXELS) -> np.ndarray:
    """(N, C, H, W) float32 on [-1, 1]."""
    return np.moveaxis(pixels, -1, 1).astype(np.float32) / np.float32(127.5) - np.float32(1)


def encoded(image: np.ndarray, kind: str = "PNG") -> bytes:
    """An image file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.getvalue()


def by_class() -> dict[str, bytes]:
    """The files of a folder of classes."""
    return {f"{CLASSES[LABELS[i]]}/{i:02}.png": encoded(image) for i, image in enumerate(PIXELS)}


def in_chunks() -> dict[str, bytes]:
    """The files of EDM's dataset_tool, with their labels."""
    files = {f"{i // 5:05}/img{i:08}.png": encoded(image) for i, image in enumerate(PIXELS)}
    labels = [[name, int(label)] for name, label in zip(files, MIXED, strict=True)]
    return files | {"dataset.json": json.dumps({"labels": labels}).encode()}


def samples(start: int = 0, stop: int = COUNT) -> dict[str, bytes]:
    """The files of WebDataset: `.cls` for even ones, `.json` for odd ones, captions."""
    files = dict[str, bytes]()
    for i in range(start, stop):
        label = {"cls": str(MIXED[i]).encode()} if i % 2 == 0 else {"json": b'{"label": %d}' % MIXED[i]}
        files |= {f"{i:06}.{end}": data for end, data in {"png": encoded(PIXELS[i]), **label}.items()}
    return files


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def write_zip_of(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_tar_of(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def _classes() -> TrainingSet:
    return TrainingSet(points_of(), LABELS, class_names=CLASSES, normalisation=NORMALISATION)


def _mixed() -> TrainingSet:
    return TrainingSet(points_of(), MIXED, normalisation=NORMALISATION)


def write_class_folders(folder: Path) -> Written:
    return write_files(folder / "classes", by_class()), _classes()


def write_zip(folder: Path) -> Written:
    return write_zip_of(folder / "classes.zip", by_class()), _classes()


def write_tar(folder: Path) -> Written:
    return write_tar_of(folder / "classes.tar", by_class()), _classes()


def write_tar_gz(folder: Path) -> Written:
    return write_tar_of(folder / "classes.tar.gz", by_class(), "w:gz"), _classes()


def write_edm_folder(folder: Path) -> Written:
    return write_files(folder / "edm", in_chunks()), _mixed()


def write_edm_zip(folder: Path) -> Written:
    return write_zip_of(folder / "edm.zip", in_chunks()), _mixed()


def write_webdataset(folder: Path) -> Written:
    return write_tar_of(folder / "samples.tar", samples()), _mixed()


def write_webdataset_shards(folder: Path) -> Written:
    shards = folder / "shards"
    shards.mkdir()
    for k, start in enumerate(range(0, COUNT, 5)):
        write_tar_of(shards / f"train-{k:06}.tar", samples(start, min(start + 5, COUNT)))
    return shards, _mixed()


def write_metadata_jsonl(folder: Path) -> Written:
    files = {f"images/{i:02}.png": encoded(image) for i, image in enumerate(PIXELS)}
    lines = [json.dumps({"file_name": name, "label": int(y)}) for name, y in zip(files, MIXED, strict=True)]
    return write_files(folder / "jsonl", files | {"metadata.jsonl": "\n".join(lines).encode()}), _mixed()


def write_metadata_csv(folder: Path) -> Written:
    files = {f"{i:02}.png": encoded(image) for i, image in enumerate(PIXELS)}
    lines = ["file_name,label", *(f"{name},{CLASSES[y]}" for name, y in zip(files, LABELS, strict=True))]
    return write_files(folder / "csv", files | {"metadata.csv": "\n".join(lines).encode()}), _classes()


def hub_dataset() -> "datasets.Dataset":
    """The pictures with their classes, as a Dataset of `datasets`."""
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    rows = {"image": [Image.fromarray(image) for image in PIXELS], "label": LABELS.tolist()}
    return datasets.Dataset.from_dict(rows, features=features)


def write_saved(folder: Path) -> Written:
    hub_dataset().save_to_disk(str(folder / "saved"), num_shards=2)
    return folder / "saved", _classes()


def write_parquet(folder: Path) -> Written:
    hub_dataset().to_parquet(str(folder / "set.parquet"))
    return folder / "set.parquet", _classes()


def write_parquet_shards(folder: Path) -> Written:
    (folder / "data").mkdir()
    for k in range(3):
        name = f"train-{k:05}-of-00003.parquet"
        hub_dataset().shard(3, k, contiguous=True).to_parquet(str(folder / "data" / name))
    return folder / "data", _classes()


VECTORS = np.random.default_rng(7).standard_normal((COUNT, 5))


def write_adm_npz(folder: Path) -> Written:
    np.savez(folder / "adm.npz", PIXELS, MIXED)
    return folder / "adm.npz", _mixed()


def write_hdf5(folder: Path) -> Written:
    import h5py

    with h5py.File(folder / "set.h5", "w") as file:
        file["images"], file["labels"] = PIXELS, LABELS
        file["classes"] = np.array(CLASSES, dtype="S")
    return folder / "set.h5", _classes()


def write_hdf5_chunks(folder: Path) -> Written:
    import h5py

    with h5py.File(folder / "chunks.hdf5", "w") as file:
        file.create_dataset("points", data=VECTORS, chunks=(4, 5), compression="gzip")
        file["labels"] = MIXED
    return folder / "chunks.hdf5", TrainingSet(VECTORS, MIXED)


def cifar_batches() -> dict[str, bytes]:
    """The batches of CIFAR-10 for Python, as Python 2 wrote them: texts are bytes there."""
    pixels = np.random.default_rng(9).integers(0, 256, (4, 3072), dtype=np.uint8)
    files = dict[str, bytes]()
    for k, name in enumerate(("data_batch_1", "data_batch_2", "test_batch")):
        batch = {
            b"data": np.roll(pixels, k),
            b"labels": [k, 1, 2, 3],
            b"filenames": [b"a.png"] * 4,
            b"batch_label": b"x",
        }
        files[name] = pickle.dumps(batch, protocol=3)
    return files | {"batches.meta": pickle.dumps({b"label_names": [b"plane", b"car", b"bird", b"cat"]}, protocol=3)}


def _cifar() -> TrainingSet:
    pixels = np.random.default_rng(9).integers(0, 256, (4, 3072), dtype=np.uint8)
    both = np.concatenate([pixels, np.roll(pixels, 1)]).reshape(8, 3, 32, 32)
    points = both.astype(np.float32) / np.float32(127.5) - np.float32(1)
    names = ("plane", "car", "bird", "cat")
    return TrainingSet(points, [0, 1, 2, 3, 1, 1, 2, 3], class_names=names, normalisation=NORMALISATION)


def write_cifar(folder: Path) -> Written:
    """To be read with split="train"."""
    return write_files(folder / "cifar-10-batches-py", cifar_batches()), _cifar()


def write_cifar_tar(folder: Path) -> Written:
    """To be read with split="train"."""
    files = {f"cifar-10-batches-py/{name}": data for name, data in cifar_batches().items()}
    return write_tar_of(folder / "cifar-10-python.tar.gz", files, "w:gz"), _cifar()


def write_csv(folder: Path) -> Written:
    rows = [",".join([*map(repr, row.tolist()), CLASSES[y]]) for row, y in zip(VECTORS, LABELS, strict=True)]
    (folder / "set.csv").write_text("\n".join(["a,b,c,d,e,label", *rows]))
    return folder / "set.csv", TrainingSet(VECTORS, LABELS, class_names=CLASSES)


def write_csv_without_header(folder: Path) -> Written:
    (folder / "bare.csv").write_text("\n".join(",".join(map(repr, row.tolist())) for row in VECTORS))
    return folder / "bare.csv", TrainingSet(VECTORS)

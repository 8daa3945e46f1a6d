"""Every reader of flowscope: how a good file or folder of it is written, and how it is read."""

import io
import json
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
import torch

import flowscope as fs
from flowscope.curve.checkpoint import ResumeState
from flowscope.curve.sweep import sweep
from flowscope.data import TrainingSet, load, pack
from flowscope.data.normaliser import Normaliser
from flowscope.reproduction.result import Reproduction, Row
from flowscope.reproduction.runner import is_trained
from flowscope.studies.bench.finding import Finding, Gallery, Panel, Series
from flowscope.training import TrainSettings, train, train_to
from flowscope.training.model_store import load_model
from tests.support import array_formats, formats, latent_formats

RNG = np.random.default_rng(0)
POINTS = RNG.standard_normal((12, 3, 8, 8)).astype(np.float32)
PIXELS = RNG.integers(0, 256, (12, 3, 9, 8), dtype=np.uint8)
LABELS, WEIGHTS = np.arange(12) % 3, np.arange(1.0, 13.0)
NAMES = np.array(["ant", "bee", "cat"])
CLOUD = TrainingSet(RNG.standard_normal((20, 3)).astype(np.float32), labels=np.arange(20) % 2)
SETTINGS = TrainSettings(model="mlp", width=8, steps=4, batch=4, warmup=0, checkpoint_every=2)
IMAGE_SUFFIXES = ("png", "gif", "bmp", "webp", "tiff", "jpg", "ppm", "jp2", "avif")


class Reader(NamedTuple):
    """What is fuzzed.

    Attributes:
        name: for reports.
        write: writes good files into an empty folder.
        read: reads what is in the folder.
    """

    name: str
    write: Callable[[Path], object]
    read: Callable[[Path], object]


def in_all_ways(source: Path, **options: Any) -> None:
    """Load a source as it is, and with options that map, choose and copy points."""
    load(source, subset=1, **options)
    data = load(source, **options)
    assert len(data.digest) == 64
    assert np.isfinite(data.statistics.norms).all()


def write_packed(folder: Path) -> None:
    data = TrainingSet(
        POINTS,
        LABELS,
        WEIGHTS,
        class_names=NAMES.tolist(),
        files=[f"{k}.png" for k in range(12)],
        normaliser=Normaliser(0.5, np.zeros(3, np.float32), np.ones(3, np.float32)),
    )
    pack(data, folder / "set.safetensors")


def one_file(suffix: str) -> Callable[[Path], None]:
    return lambda folder: in_all_ways(folder / f"set.{suffix}")


def write_npz(folder: Path) -> None:
    np.savez_compressed(folder / "set.npz", points=POINTS, labels=LABELS, weights=WEIGHTS, classes=NAMES)


def encoded(image: np.ndarray, kind: str) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    picture = Image.fromarray(image.transpose(1, 2, 0))
    (picture.convert("P") if kind == "gif" else picture).save(
        stream, {"jpg": "jpeg", "jp2": "jpeg2000"}.get(kind, kind)
    )
    return stream.getvalue()


def write_jpegs(folder: Path) -> None:
    blobs = [encoded(image, "jpg") for image in PIXELS]
    stream, ends = np.frombuffer(b"".join(blobs), np.uint8), np.cumsum([0, *map(len, blobs)])
    np.savez(folder / "set.npz", jpeg=stream, offsets=ends, labels=LABELS)


def write_images(folder: Path) -> None:
    for name in NAMES:
        (folder / name).mkdir()
    for k, suffix in enumerate(IMAGE_SUFFIXES):
        (folder / NAMES[k % 3] / f"{k}.{suffix}").write_bytes(encoded(PIXELS[k], suffix))


def write_shards(folder: Path) -> None:
    for k, part in enumerate((slice(0, 5), slice(5, 12))):
        arrays = {"points": POINTS[part], "labels": LABELS[part]}
        safetensors.numpy.save_file(arrays, folder / f"set-{k + 1:05}-of-00002.safetensors")
    files = {"points": "set-00001-of-00002.safetensors", "labels": "set-00002-of-00002.safetensors"}
    (folder / "set.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))


def write_items(folder: Path, suffix: str) -> None:
    for k, point in enumerate(POINTS[:4]):
        if suffix == "npy":
            np.save(folder / f"{k}.npy", point)
        else:
            torch.save({"latents": torch.from_numpy(point.copy())}, folder / f"{k}.pt")


def read_posteriors(folder: Path) -> None:
    for posterior in ("mean", "sample"):
        in_all_ways(folder / "vae-sd", posterior=posterior, normalise="channel")


def write_statistics(folder: Path) -> None:
    mean, std = np.arange(3, dtype=np.float32), np.arange(1, 4, dtype=np.float32)
    np.savez(folder / "s.npz", mean=mean, std=std)
    np.save(folder / "s.npy", np.stack([mean, std]))
    safetensors.numpy.save_file({"mean": mean, "std": std}, folder / "s.safetensors")
    latent_formats.save_statistics(folder / "s.pt", mean.tolist(), std.tolist())


def read_by_statistics(folder: Path) -> None:
    for path in folder.iterdir():
        load(POINTS, normalise=path)


def write_pt(folder: Path, *, zipped: bool = True) -> None:
    saved = {"points": torch.from_numpy(POINTS).bfloat16(), "labels": torch.from_numpy(LABELS), "classes": [*NAMES]}
    torch.save(saved | {"classes": [str(n) for n in NAMES]}, folder / "set.pt", _use_new_zipfile_serialization=zipped)


def write_model(folder: Path) -> None:
    train_to(CLOUD, SETTINGS, folder, tracker=None)


def read_model(folder: Path) -> None:
    is_trained(folder, SETTINGS, CLOUD)
    field = load_model(folder)
    field(torch.zeros(2, *field.shape), 0.5)


def write_checkpoint(folder: Path) -> None:
    list(islice(train(CLOUD, SETTINGS, out=folder), 3))


def read_checkpoint(folder: Path) -> None:
    list(islice(train(CLOUD, SETTINGS, out=folder, resume=True), 1))
    load_model(folder)


def curve_state(folder: Path) -> ResumeState:
    return ResumeState(folder / "state.npz", interval=0, clock=lambda: 0.0)


def measured(folder: Path, stop: int | None = None) -> Any:
    """The curve of two classes, from the state in the folder; interrupted after so many blocks."""
    oracle, state = fs.Oracle(CLOUD, memory=4_000), curve_state(folder)  # two batches of two blocks for each class
    return fs.stages(oracle, 4, 6, conditional=True, state=state, progress=interrupter(state, stop))


def interrupter(state: ResumeState, stop: int | None) -> Callable[[int, int], None]:
    calls: Iterator[int] = iter(range(10**9))

    def progress(done: int, total: int) -> None:
        if next(calls) == stop:
            state.write()
            raise KeyboardInterrupt

    return progress


def write_state(folder: Path) -> None:
    try:
        measured(folder, stop=8)
    except KeyboardInterrupt:
        return
    raise AssertionError("it was not interrupted")


def write_finding(folder: Path) -> None:
    table = {"t": [0.0, 0.5], "loss": [2.0, float("nan")], "loss_error": [0.1, 0.2], "name": ["a", "b"]}
    panel = Panel("Loss", "t", "loss", (Series.with_error("all", "demo", "t", "loss"),))
    gallery = Gallery("Some", POINTS[:4].reshape(2, 2, 3, 8, 8), ("a", "b"), ("c", "d"))
    words = ("demo", "A demo", "Fig. 0", "Falls.", "It falls.", "agrees", "By eye.")
    about = {"name": "points", "N": 2, "shape": [3, 8, 8]}
    Finding(*words, {"demo": table}, (panel,), (gallery,), ("A note.",), about).save(folder)  # type: ignore[arg-type]


def write_reproduction(folder: Path) -> None:
    model = {"settings": SETTINGS.to_dict(), "parameters": 9, "seconds": 1.0}
    found = Reproduction((Row("Fig. 2", "stages", "A", "B", "C", "agrees", "D"),), {"unet": model}, {"name": "points"})
    for name, text in found.to_files().items():
        (folder / name).write_text(text)


def swept(folder: Path) -> None:
    sweep(CLOUD.points, "N", [8, 20], 4, 4, keep=folder, resume=True)


def writing(write: Callable[[Path], tuple[Path, object]], split: str | None = None) -> Reader:
    """The reader of a format of tests/support/formats.py."""

    def read(folder: Path) -> None:
        (source,) = (path for path in folder.iterdir() if not path.name.startswith("."))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert len(load(source, split=split).digest) == 64

    return Reader(write.__name__.removeprefix("write_").replace("_", " "), write, read)


READERS = (
    Reader("npy", lambda folder: np.save(folder / "set.npy", POINTS), one_file("npy")),
    Reader("npy of pixels", lambda folder: np.save(folder / "set.npy", PIXELS), one_file("npy")),
    Reader("npz", write_npz, one_file("npz")),
    Reader("npz of JPEG bytes", write_jpegs, one_file("npz")),
    Reader("safetensors", write_shards, in_all_ways),
    Reader("packed set", write_packed, one_file("safetensors")),
    Reader("pt", write_pt, one_file("pt")),
    Reader("pt of old versions", lambda folder: write_pt(folder, zipped=False), one_file("pt")),
    Reader("images", write_images, in_all_ways),
    Reader("LightningDiT", latent_formats.write_lightningdit, in_all_ways),
    Reader("posteriors", latent_formats.write_repa, read_posteriors),
    Reader("npy items", lambda folder: write_items(folder, "npy"), in_all_ways),
    Reader("pt items", lambda folder: write_items(folder, "pt"), in_all_ways),
    Reader("cached latents", latent_formats.write_musubi, lambda folder: in_all_ways(folder / "cache")),
    Reader("statistics", write_statistics, read_by_statistics),
    writing(formats.write_zip),
    writing(formats.write_tar),
    writing(formats.write_tar_gz),
    writing(formats.write_edm_zip),
    writing(formats.write_webdataset),
    writing(formats.write_metadata_jsonl),
    writing(formats.write_metadata_csv),
    writing(formats.write_saved),
    writing(formats.write_parquet),
    writing(array_formats.write_vector_parquet),
    writing(formats.write_hdf5),
    writing(formats.write_hdf5_chunks),
    writing(formats.write_adm_npz),
    writing(formats.write_cifar, "train"),
    writing(formats.write_csv),
    Reader("model", write_model, read_model),
    Reader("training checkpoint", write_checkpoint, read_checkpoint),
    Reader("curve state", write_state, measured),
    Reader("stage curve", lambda folder: fs.stages(CLOUD, 4, 6, conditional=True).save(folder), fs.StageCurve.load),
    Reader("finding", write_finding, lambda folder: Finding.load(folder, "demo").to_files()),
    Reader("reproduction", write_reproduction, lambda folder: Reproduction.load(folder).to_files()),
    Reader("sweep state", swept, swept),
)

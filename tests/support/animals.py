"""The animals of the zoo: everything of arrays, tables, folders, archives and latents that went wrong, or could."""

import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import safetensors.numpy
import torch
from PIL import Image

from tests.support import formats, latent_formats
from tests.support.formats import (
    LABELS,
    PIXELS,
    VECTORS,
    by_class,
    encoded,
    in_chunks,
    samples,
    write_files,
    write_tar_of,
    write_zip_of,
)
from tests.support.zoo import Animal, Said, visit

X = torch.from_numpy(VECTORS)
PHOTOGRAPHS = formats.points_of()  # (12, 3, 9, 8) on [-1, 1]
LATENTS = latent_formats.LATENTS
Write = Callable[[Path], object]
TURN_RIGHT = 6  # of EXIF: the camera was held upright


# writers


def npy(values: np.ndarray) -> Write:
    return lambda path: np.save(path, values)


def npz(**arrays: np.ndarray) -> Write:
    return lambda path: np.savez(path, **arrays)


def pt(saved: Any) -> Write:
    return lambda path: torch.save(saved, path)


def hdf5(**arrays: Any) -> Write:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values

    return write


def tensors(**arrays: np.ndarray) -> Write:
    return lambda path: safetensors.numpy.save_file(arrays, path)


def header(**entries: Any) -> Write:
    """A .safetensors of a header alone."""
    head = json.dumps(entries).encode()
    return lambda path: path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(8))


def text(content: str) -> Write:
    return lambda path: path.write_text(content)


def files(found: Mapping[str, bytes | str]) -> Write:
    coded = {name: data.encode() if isinstance(data, str) else data for name, data in found.items()}

    def write(path: Path) -> None:
        path.mkdir(parents=True)
        write_files(path, coded)

    return write


def zipped(found: Mapping[str, bytes]) -> Write:
    return lambda path: write_zip_of(path, found)


def tarred(found: Mapping[str, bytes]) -> Write:
    return lambda path: write_tar_of(path, found, "w:gz" if path.suffix == ".gz" else "w")


def cut(write: Write, share: float = 0.6) -> Write:
    """The first part of a file."""

    def write_part(path: Path) -> None:
        write(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    return write_part


def inside(write: Callable[[Path], Any]) -> Write:
    """The source of a writer that makes its own name, moved to the place of the animal."""

    def write_there(path: Path) -> None:
        made = path.parent / "made"
        made.mkdir()
        found = write(made)
        (found[0] if isinstance(found, tuple) else found).rename(path)

    return write_there


def latents(**changes: Any) -> Write:
    def write(path: Path) -> None:
        path.mkdir()
        latent_formats.write_lightningdit(path, **changes)

    return write


def picture(mode: str, colour: Any, size: tuple[int, int] = (8, 9), kind: str = "PNG", **how: Any) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size, colour).save(stream, kind, **how)
    return stream.getvalue()


def upright_and_turned() -> dict[str, bytes]:
    """One picture, as it is and as a camera that was turned stores it."""
    turned = Image.Exif()
    turned[0x0112] = TURN_RIGHT
    stream = io.BytesIO()
    Image.fromarray(np.rot90(PIXELS[0]).copy()).save(stream, "PNG", exif=turned)
    return {"a.png": encoded(PIXELS[0]), "b.png": stream.getvalue()}


def clear_pixels() -> dict[str, bytes]:
    """Two pictures that differ where nobody sees it."""
    pictures = {}
    for name, hidden in (("a.png", 10), ("b.png", 200)):
        values = np.dstack([PIXELS[0], np.full(PIXELS.shape[1:3], 255, np.uint8)])
        values[0] = (hidden, hidden, hidden, 0)
        pictures[name] = encoded(values)
    return pictures


def deep_png() -> bytes:
    """An RGB picture of 16 bits a channel, 1 x 1."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(7))) + chunk(b"IEND", b"")


def numbered(folders: int, step: int, name: str) -> dict[str, bytes]:
    """Pictures by running numbers, `step` a folder; `name` makes a path of folder and number."""
    return {name.format(k // step, k): encoded(PIXELS[k]) for k in range(folders * step)}


def img2dataset() -> dict[str, bytes]:
    """What img2dataset writes with output_format "files"."""
    found = dict[str, bytes]()
    for k in range(6):
        key = f"{k // 3:05}/{k // 3:05}{k % 3:04}"
        about = {"caption": "a cat", "url": "http://a/b.jpg", "key": key[-9:], "status": "success", "width": 8}
        found |= {f"{key}.jpg": encoded(PIXELS[k], "JPEG"), f"{key}.txt": b"a cat", f"{key}.json": _json(about)}
    for k in range(2):
        found |= {f"{k:05}.parquet": b"PAR1", f"{k:05}_stats.json": _json({"count": 3})}
    return found


def img2dataset_shards(path: Path) -> None:
    """The same with output_format "webdataset"."""
    path.mkdir()
    for k in range(2):
        part = {name[6:]: data for name, data in img2dataset().items() if name.startswith(f"{k:05}/")}
        write_tar_of(path / f"{k:05}.tar", part)
        write_files(path, {f"{k:05}.parquet": b"PAR1", f"{k:05}_stats.json": _json({"count": 3})})


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def parquet(**columns: Any) -> Write:
    def write(path: Path) -> None:
        import pyarrow
        from pyarrow import parquet as tables

        tables.write_table(pyarrow.table(columns), path)

    return write


class Evil:
    """What a pickle of asks to run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("ran",))


def evil_pt(path: Path) -> None:
    torch.save({"points": X, "more": Evil()}, path)


def linked_out(path: Path) -> None:
    path.mkdir()
    (path.parent / "outside.png").write_bytes(encoded(PIXELS[0]))
    (path / "a.png").symlink_to("../outside.png")


def link_in_tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("a.png")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)


def shadowed(path: Path) -> None:
    """Two entries that numpy takes for one."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("points", b"nonsense")
        with archive.open("points.npy", "w") as stream:
            np.save(stream, VECTORS)


def claims(path: Path) -> None:
    """A header of .npy that claims 4 EB."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**9)})
    path.write_bytes(stream.getvalue() + bytes(64))


def hdf5_that_claims(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("points", (10**6, 10**6), "f4", chunks=(100, 100), compression="gzip")


def hdf5_linked(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["points"] = h5py.ExternalLink("/etc/other.h5", "points")


def with_statistics(**arrays: np.ndarray) -> Write:
    """A set of latents, with statistics.npz beside it."""

    def write(path: Path) -> None:
        tensors(latents=LATENTS)(path)
        np.savez(path.parent / "statistics.npz", **arrays)

    return write


def gap_in_shards(path: Path) -> None:
    latents(shards=2)(path)
    next(path.glob("*shard000*")).rename(path / "latents_rank00_shard002.safetensors")


def json_of(pairs: Any) -> dict[str, bytes]:
    return in_chunks() | {"dataset.json": _json({"labels": pairs})}


# the animals

ARRAYS = (
    Animal("vectors.npy", "an array of vectors", npy(VECTORS), "12 points, 5, float64", False),
    Animal("cut.npy", "half of a file", cut(npy(VECTORS)), "truncated"),
    Animal("claims.npy", "a header that claims 4 EB", claims, "truncated"),
    Animal("complex.npy", "complex numbers", npy(VECTORS + 1j), "complex128"),
    Animal("texts.npy", "texts", npy(np.array(["a", "b"])), "expected"),
    Animal("objects.npy", "pickled objects", lambda p: np.save(p, np.array([{}, 1]), allow_pickle=True), "objects"),
    Animal("int64.npy", "integers that are no pixels", npy(PIXELS.astype(np.int64)), "int64"),
    Animal("bool.npy", "truth values", npy(VECTORS > 0), "bool"),
    Animal("number.npy", "one number", npy(np.array(1.0)), "expected"),
    Animal("empty.npy", "no points", npy(np.zeros((0, 4))), "expected"),
    Animal("nan.npy", "a point that is not a number", npy(np.where(VECTORS > 1, np.nan, VECTORS)), "holds nan"),
    Animal("huge.npy", "points of 1e152", npy(VECTORS * 1e152), "expected"),
    Animal("one.npy", "one point", npy(VECTORS[:1]), "1 point, 5", False),
    Animal("same.npy", "twelve times one point", npy(np.ones((12, 3))), "11 duplicates", False),
    Animal("image.npy", "one uint8 image (32, 32, 3)", npy(np.zeros((32, 32, 3), np.uint8)), "one image or several"),
    Animal("nchw-nhwc.npy", "uint8 (4, 3, 8, 3)", npy(np.zeros((4, 3, 8, 3), np.uint8)), "say which: layout"),
    Animal("unit.npy", "photographs as floats on [0, 1]", npy(PHOTOGRAPHS / 2 + 0.5), "assume='[0,1]'"),
    Animal(
        "unit-said.npy",
        "the same, said",
        npy(PHOTOGRAPHS / 2 + 0.5),
        "12 points",
        False,
        {"assume": "[0,1]"},
        lambda data: bool(np.allclose(data.points, PHOTOGRAPHS, atol=1e-6)),
    ),
    Animal("bytes.npy", "as floats on [0, 255]", npy(PIXELS.transpose(0, 3, 1, 2) / 1.0), "assume='[0,255]'"),
    Animal("last.npy", "as floats, channels last", npy(PHOTOGRAPHS.transpose(0, 2, 3, 1)), "layout='hwc'"),
    Animal("grey.npy", "grey photographs on [0, 1], (N, H, W)", npy(PHOTOGRAPHS[:, 0] / 2 + 0.5), "assume='[0,1]'"),
    Animal(
        "signed.npy",
        "photographs as floats on [-1, 1]",
        npy(PHOTOGRAPHS),
        "12 points",
        False,
        {},
        lambda data: bool((data.points == PHOTOGRAPHS).all()),
    ),
    Animal("labels.npz", "labels of another length", npz(points=VECTORS, labels=LABELS[:5]), r"labels have shape (5,)"),
    Animal("two.npz", "points and images", npz(points=VECTORS, images=PIXELS), "several sets of points"),
    Animal("else.npz", "no points", npz(x=VECTORS), "holds x"),
    Animal("statistics.npz", "ADM's reference statistics", npz(mu=np.zeros(3), sigma=np.eye(3)), "holds statistics"),
    Animal("shadow.npz", "`points` and `points.npy` in one archive", shadowed, "holds points twice"),
    Animal("cut.npz", "half of an archive", cut(npz(points=VECTORS)), "cannot be read"),
    Animal(
        "unicode.npz",
        "names of classes that are no text",
        npz(points=VECTORS, labels=LABELS, classes=np.full(3, 0x7FFFFFFF, np.uint32).view("<U1")),
        "no text",
    ),
    Animal(
        "offsets.npz",
        "JPEG bytes with equal offsets",
        npz(jpeg=np.zeros(9, np.uint8), offsets=np.zeros(1000, np.int64)),
        "image 0",
    ),
    Animal(
        "weights.npz",
        "negative weights",
        npz(points=VECTORS, weights=np.linspace(-1, 1, 12)),
        "weights",
    ),
    Animal("zero.npz", "weights of 0", npz(points=VECTORS, weights=np.zeros(12)), "weights"),
)
TORCH = (
    Animal(
        "bf16labels.pt",
        "labels in bfloat16",
        pt({"points": X, "labels": torch.from_numpy(LABELS).bfloat16()}),
        "0 (4), 1 (4), 2 (4)",
        False,
    ),
    Animal(
        "bf16weights.pt",
        "weights in bfloat16",
        pt({"points": X, "weights": torch.arange(1.0, 13.0).bfloat16()}),
        "12 points",
        False,
        {},
        lambda data: data.weights is not None and bool(np.allclose(data.weights / data.weights[0], np.arange(1, 13))),
    ),
    Animal(
        "fp8.pt", "weights in float8", pt({"points": X, "weights": torch.ones(12).to(torch.float8_e4m3fn)}), "float8"
    ),
    Animal("meta.pt", "points without numbers", pt({"points": X.to("meta")}), "device meta"),
    Animal("metalabels.pt", "labels without numbers", pt({"points": X, "labels": X[:, 0].to("meta")}), "device meta"),
    Animal("sparse.pt", "sparse labels", pt({"points": X, "labels": X[:, 0].to_sparse()}), "sparse"),
    Animal("code.pt", "a pickle with code", evil_pt, "never runs"),
    Animal("state.pt", "weights of a network", pt({"layer.weight": X, "layer.bias": X[0]}), "holds layer.bias"),
    Animal("cut.pt", "half of a file", cut(pt({"points": X})), "torch.save"),
    Animal(
        "dims.safetensors",
        "70 axes",
        header(points={"dtype": "F32", "shape": [1] * 70, "data_offsets": [0, 4]}),
        "70 axes",
    ),
    Animal(
        "huge.safetensors",
        "an axis of 2^70",
        header(points={"dtype": "F32", "shape": [0, 2**70], "data_offsets": [0, 0]}),
        "damaged",
    ),
    Animal(
        "mix.safetensors",
        "(2^40, 2^40, 0)",
        header(points={"dtype": "F32", "shape": [2**40, 2**40, 0], "data_offsets": [0, 0]}),
        "no memory holds",
    ),
    Animal("cut.safetensors", "half of a file", cut(tensors(points=VECTORS)), "truncated"),
    Animal("lora.safetensors", "weights of a network", tensors(lora_up=VECTORS), "holds lora_up"),
)
TABLES = (
    Animal("table.csv", "vectors and labels", inside(formats.write_csv), "ant (4), bee (4), cat (4)", False),
    Animal("ragged.csv", "rows of two lengths", text("1.5,2\n3,4,5\n"), "expected"),
    Animal("gap.csv", "an empty cell", text("a,b\n1,\n2,3\n"), "expected"),
    Animal("words.csv", "words in a column", text("a,b\n1,x\n2,y\n"), "expected"),
    Animal("header.csv", "a header and no rows", text("a,b\n"), "expected"),
    Animal("comma.csv", "decimal commas", text("a;b\n1,5;2,5\n"), "expected"),
    Animal("set.h5", "images, labels and classes", inside(formats.write_hdf5), "ant (4), bee (4), cat (4)", False),
    Animal("claims.h5", "chunks that claim 4 TB", hdf5_that_claims, "GiB of memory are free"),
    Animal("linked.h5", "a link to another file", hdf5_linked, "no array within the file"),
    Animal("texts.h5", "points that are texts", hdf5(points=np.array([b"a", b"b"])), "expected numbers"),
    Animal("labels.h5", "labels of another length", hdf5(points=VECTORS, labels=LABELS[:5]), "labels have shape (5,)"),
    Animal("cut.h5", "half of a file", cut(hdf5(points=VECTORS)), "cannot be read"),
    Animal(
        "names.h5",
        "labels that are texts of several lengths",
        hdf5(points=VECTORS, labels=["cat", "bee", "elephant"] * 4),
        "bee (4), cat (4), elephant (4)",
        False,
    ),
    Animal(
        "vectors.parquet",
        "a column of vectors",
        parquet(id=list(range(12)), embedding=VECTORS.tolist(), label=["a", "b"] * 6),
        "12 points, 5, float64; classes: a (6), b (6)",
        False,
        {},
        lambda data: bool((data.points == VECTORS).all()),
    ),
    Animal(
        "two.parquet",
        "two columns of vectors",
        parquet(text=VECTORS.tolist(), image=VECTORS.tolist()),
        "several columns of vectors (text and image)",
    ),
    Animal("lengths.parquet", "vectors of two lengths", parquet(v=[[1.0], [1.0, 2.0]]), "of one length"),
    Animal("scalars.parquet", "columns of numbers", parquet(a=[1.0, 2.0], b=[3.0, 4.0]), "expected one"),
    Animal("captions.parquet", "texts", parquet(caption=["a", "b"]), "expected one"),
    Animal("cut.parquet", "half of a file", cut(inside(formats.write_parquet)), "parquet"),
    Animal("data_batch_1", "a pickle with code", lambda p: p.write_bytes(pickle.dumps(Evil())), "never runs"),
    Animal("notes.txt", "a text", text("hello"), "no kind of file"),
)
FOLDERS = (
    Animal("classes", "images by class", files(by_class()), "ant (4), bee (4), cat (4)", False),
    Animal(
        "numbers",
        "folders 0 to 11, one of them chosen by its name",
        files({f"{k}/a.png": encoded(PIXELS[k]) for k in range(12)}),
        "classes: 2 (1)",
        False,
        {"classes": "2"},
        lambda data: bool((data.points[0] == PHOTOGRAPHS[2]).all()),
    ),
    Animal("formula", "a class called =1+1", files({"=1+1/a.png": encoded(PIXELS[0])}), "=1+1 (1)", False),
    Animal(
        "edm",
        "chunks with dataset.json",
        files(in_chunks()),
        "0 (3), 1 (3), 2 (2), 3 (2), ...",
        False,
        {},
        lambda data: data.labels is not None and data.labels.tolist() == formats.MIXED.tolist(),
    ),
    Animal("edm-null", "dataset.json without labels", files(json_of(None)), "classes: none", False),
    Animal(
        "edm-short", "dataset.json of fewer images", files(json_of([["00000/img00000000.png", 1]])), "does not list"
    ),
    Animal(
        "edm-bare",
        "the same chunks without dataset.json",
        files(numbered(3, 4, "{:05}/img{:08}.png")),
        "classes: none",
        False,
    ),
    Animal("ffhq", "chunks as FFHQ has them", files(numbered(3, 4, "{0:02}000/{1:05}.png")), "classes: none", False),
    Animal(
        "gtsrb",
        "classes 00000 to 00002, as GTSRB has them",
        files({f"{k // 4:05}/{k % 4:05}.png": encoded(PIXELS[k]) for k in range(12)}),
        "00000 (4), 00001 (4), 00002 (4)",
        False,
    ),
    Animal("img2dataset", "chunks of img2dataset, as files", files(img2dataset()), "are chunks of files", False),
    Animal("img2dataset-tars", "the same as tars", img2dataset_shards, "classes: none", False),
    Animal(
        "parts",
        "train/dress, train/hat, test/dress",
        files(
            {f"{name}/{k}.png": encoded(PIXELS[k]) for k, name in enumerate(("train/dress", "train/hat", "test/dress"))}
        ),
        "say which to read: split='test'",
    ),
    Animal(
        "parts-said",
        "the same, said",
        files(
            {f"{name}/{k}.png": encoded(PIXELS[k]) for k, name in enumerate(("train/dress", "train/hat", "test/dress"))}
        ),
        "dress (1), hat (1)",
        False,
        {"split": "train"},
    ),
    Animal(
        "twice",
        "each image twice",
        files({f"{k}-{j}.png": encoded(PIXELS[k]) for k in range(12) for j in range(2)}),
        "12 duplicates",
        False,
    ),
    Animal("empty", "an empty folder", lambda p: p.mkdir(), "no images"),
    Animal("documents", "a folder of texts", files({"a.txt": "a", "b.pdf": "b"}), "no images"),
    Animal("npzs", "a folder of .npz", files({"a.npz": "a", "b.npz": "b"}), "by their ending .npz"),
    Animal("loose", "images beside classes", files(by_class() | {"a.png": encoded(PIXELS[0])}), "one or the other"),
    Animal(
        "sizes",
        "images of two sizes",
        files({"a.png": encoded(PIXELS[0]), "b.png": encoded(PIXELS[0][:5])}),
        "differ in size",
    ),
    Animal("broken", "a broken image", files(by_class() | {"ant/x.png": b"junk"}), "--skip-broken"),
    Animal("deep", "an RGB picture of 16 bits", files({"a.png": deep_png()}), "more than 8 bits"),
    Animal("turned", "one picture, and turned by its EXIF tag", files(upright_and_turned()), "1 duplicates", False),
    Animal("clear", "two pictures that differ below clear pixels", files(clear_pixels()), "1 duplicates", False),
    Animal(
        "jfif",
        "a class of .jfif, one of .jpe, one of .png",
        files(
            {f"{end}/a.{end}": encoded(PIXELS[0], "JPEG") for end in ("jfif", "jpe")}
            | {"png/a.png": encoded(PIXELS[1])}
        ),
        "jfif (1), jpe (1), png (1)",
        False,
    ),
    Animal(
        "jxl", "a class of .jxl", files({"a/a.png": encoded(PIXELS[0]), "b/b.jxl": b"x"}), "by their ending .jxl", False
    ),
    Animal("linked", "a link out of the folder", linked_out, "leaves the folder"),
    Animal(
        "two-indices",
        "dataset.json and metadata.csv",
        files(in_chunks() | {"metadata.csv": b"file_name,label\n"}),
        "one kind of them",
    ),
    Animal(
        "gone",
        "metadata.jsonl that lists what is not there",
        files({"a.png": encoded(PIXELS[0]), "metadata.jsonl": b'{"file_name": "b.png", "label": 1}'}),
        "no such image",
    ),
    Animal("out.zip", "a name that leaves the archive", zipped({"../a.png": encoded(PIXELS[0])}), "../a.png"),
    Animal("cut.zip", "half of an archive", cut(zipped(by_class())), "cannot be read"),
    Animal("cut.tar", "half of an archive", cut(tarred(by_class())), "truncated"),
    Animal("cut.tar.gz", "half of an archive", cut(tarred(by_class())), "cannot be read"),
    Animal("link.tar", "a link in an archive", link_in_tar, "is a link"),
    Animal(
        "disagree.tar",
        "labels that disagree",
        tarred(samples() | {"000000.json": b'{"label": 4}'}),
        "disagree",
    ),
    Animal(
        "half.tar", "a label for some images", tarred(samples() | {"x.png": encoded(PIXELS[0])}), "no label for x.png"
    ),
    Animal("missing/set.npy", "a file that is not there", lambda p: None, "no file or folder"),
)
LATENT = (
    Animal(
        "lightningdit",
        "shards with those of mirror images and statistics",
        latents(),
        "Both orientations",
        False,
        {"normalise": "lightningdit:0.5"},
        lambda data: (
            data.points[1].ravel().tolist() == [1.75, 2, 2.25, 2.5, 1.25, 1.375, 1.5, 1.625]
            and data.points[3].ravel().tolist() == [-2.25, -2.5, -2.75, -3, -1.75, -1.875, -2, -2.125]
        ),
    ),
    Animal(
        "lightningdit-bare",
        "the same without statistics",
        lambda p: (latents()(p), (p / "latents_stats.pt").unlink()),
        "normalise='scale:0.18215'",
    ),
    Animal("lightningdit-gap", "a shard that is missing", gap_in_shards, "lacks 1 of theirs"),
    Animal(
        "lightningdit-labels",
        "labels of another length",
        latents(labels=np.array([3, 5, 6])),
        "labels",
    ),
    Animal(
        "channels.safetensors",
        "statistics of another channel count",
        with_statistics(mean=np.zeros(3), std=np.ones(3)),
        "channels",
        True,
        {"normalise": "statistics.npz"},
    ),
    Animal(
        "zero.safetensors",
        "statistics with a standard deviation of 0",
        with_statistics(mean=np.zeros(4), std=np.array([1.0, 0, 1, 1])),
        "std",
        True,
        {"normalise": "statistics.npz"},
    ),
    Animal("constant.npy", "a constant channel", npy(np.ones((9, 2, 4, 4))), "std", True, {"normalise": "channel"}),
    Animal("vae-sd", "REPA's posteriors", inside(latent_formats.write_repa), "posterior='mean'"),
    Animal(
        "hunyuan",
        "a cache that its trainer scales",
        inside(lambda made: latent_formats.write_musubi(made, "hunyuan_video")),
        "scale:0.476986",
    ),
    Animal(
        "arrays",
        "arrays of two shapes",
        files({f"{k}.npy": latent_formats.npy(LATENTS[k, : 4 - k]) for k in range(2)}),
        "expected",
    ),
)
ANIMALS = {"Arrays": ARRAYS, "torch and safetensors": TORCH, "Tables": TABLES, "Images": FOLDERS, "Latents": LATENT}


def visit_all(folder: Path) -> dict[str, list[tuple[Path, Said]]]:
    """Write all animals into an empty folder: for each part of the zoo the places and what is said, in order."""
    return {
        title: [visit(animal, folder / title / str(number)) for number, animal in enumerate(animals)]
        for title, animals in ANIMALS.items()
    }

"""A packed set is the set: the same digest, names and notes; a file that is not whole never appears."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from PIL import Image
from safetensors.torch import load_file

import flowscope
from flowscope.cli import main
from flowscope.data import TrainingSet, load, pack
from flowscope.data.normaliser import Normaliser
from flowscope.errors import FlowscopeWarning, InputError, OutputError

POINTS = np.random.default_rng(0).standard_normal((30, 2, 3, 4))


def whole(points: Any = POINTS) -> TrainingSet:
    """A set that has all that a set can have."""
    mean, std = np.array([0.1, 1 / 3], np.float32), np.array([2.0, 1e-3], np.float32)
    return TrainingSet(
        points,
        np.arange(30) % 3 + 5,
        np.linspace(0, 1, 30),
        "a set 日本",
        normalisation="by hand",
        class_names={5: "cats", 7: "<dogs>"},
        notes=["One was left out.", "A second note."],
        files=[f"cats/{k}é.png" for k in range(30)],
        source="/nowhere/photos",
        origin={"format": "folder of images", "resize": (3, 4), "flips": True},
        normaliser=Normaliser(0.5, mean, std),
    )


def back(path: Path) -> TrainingSet:
    with pytest.warns(FlowscopeWarning):
        return load(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_all_of_a_set_comes_back(tmp_path: Path, dtype: torch.dtype) -> None:
    one = whole(torch.from_numpy(POINTS).to(dtype))
    again = back(pack(one, tmp_path / "new folder" / "set.safetensors"))
    assert again.digest == one.digest and again.dtype == one.dtype and again.shape == one.shape
    for name in ("name", "normalisation", "class_names", "notes", "files"):
        assert getattr(again, name) == getattr(one, name), name
    assert again.origin == {"format": "folder of images", "resize": [3, 4], "flips": True, "packed": "/nowhere/photos"}
    assert str(again.normaliser) == str(one.normaliser)
    assert torch.equal(again.rows(slice(None)), torch.from_numpy(POINTS).to(dtype))
    twice = back(pack(again, tmp_path / "twice.safetensors"))
    assert (twice.digest, twice.name, twice.notes) == (one.digest, one.name, one.notes)


def test_any_reader_of_the_format_reads_the_file(tmp_path: Path) -> None:
    """The package itself, in another language, and unaligned numbers would be its error."""
    one = whole(torch.from_numpy(POINTS[:, :1, :1, :3]).half())
    found = load_file(pack(one, tmp_path / "set.safetensors"))
    assert torch.equal(found["points"], one.points) and torch.equal(found["labels"], torch.from_numpy(one.labels))
    assert torch.equal(found["weights"], torch.from_numpy(one.weights))
    assert bytes(found["files"].numpy()).decode().split("\n") == list(one.files)
    with safetensors.safe_open(tmp_path / "set.safetensors", "pt") as file:
        assert json.loads(file.metadata()["flowscope"])["digest"] == one.digest


def test_a_set_of_points_alone_comes_back(tmp_path: Path) -> None:
    one = TrainingSet(POINTS, name="plain")
    again = load(pack(one, tmp_path / "set.safetensors"))
    assert again.digest == one.digest
    for name in ("labels", "weights", "class_names", "files", "normaliser"):
        assert getattr(again, name) is None, name


def picture_folder(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for k in range(12):
        (folder / ("cats", "dogs")[k % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(
            folder / ("cats", "dogs")[k % 2] / f"{k}.png"
        )
    (folder / "read.me").write_text("mine")
    return folder


@pytest.mark.slow
def test_what_the_command_packs_is_asked_nothing_and_read_by_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options apply before; floats on [0, 1] that would be asked about are known."""
    folder, file = picture_folder(tmp_path / "pets"), tmp_path / "pets.safetensors"
    options = ["--resize", "8", "--class", "dogs", "--flips"]
    assert main(["pack", str(folder), "--out", str(file), *options]) == 0
    said = capsys.readouterr().out
    with pytest.warns(FlowscopeWarning, match=r"1 by their ending \.me"):
        direct = load(folder, resize=8, classes="dogs", flips=True)
    assert f"{file}: 6 points of shape 3 x 8 x 8, float32" in said and f"digest {direct.digest}" in said
    assert main(["info", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["digest"] == direct.digest and found["name"] == direct.name and found["classes"] == {"dogs": 6}
    assert "1 by their ending .me" in found["notes"] and found["options"]["packed"] == str(folder)
    positive = tmp_path / "positive.npy"
    np.save(positive, np.abs(np.random.default_rng(0).random((9, 1, 8, 8))))
    assert main(["pack", str(positive), "--assume", "[0,1]", "--out", str(tmp_path / "p.safetensors"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == load(tmp_path / "p.safetensors").digest


def test_nothing_of_the_users_is_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", POINTS)
    mine, folder = tmp_path / "mine.safetensors", picture_folder(tmp_path / "pets")
    mine.write_text("mine")
    for arguments, said in (
        (["x.npy", "--out", "mine.safetensors"], "in the way"),
        (["x.npy", "--out", "x.npy", "--overwrite"], "does not end in .safetensors"),
        (["pets", "--out", "pets/new.safetensors"], "lies in, the source"),
        (["mine.safetensors", "--out", "mine.safetensors", "--overwrite"], "is, or lies in, the source"),
    ):
        command = [str(tmp_path / a) if not a.startswith("--") else a for a in arguments]
        assert main(["pack", *command]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert mine.read_text() == "mine" and len(list(folder.rglob("*"))) == 15
    assert main(["pack", str(tmp_path / "x.npy"), "--out", str(mine), "--overwrite"]) == 0
    one = load(mine)
    with pytest.raises(InputError, match="the source of these points"):
        pack(one, mine, overwrite=True)
    points, folder = TrainingSet(POINTS), tmp_path / "points"
    monkeypatch.chdir(tmp_path)  # a folder may be called as points in memory are, or as a set that comes by name
    assert points.source == folder.name and pack(points, folder / "set.safetensors").is_file()
    assert main(["pack", "digits", "--subset", "3", "--out", "digits/set.safetensors"]) == 0
    with pytest.raises(OutputError, match="in the way"):
        pack(TrainingSet(POINTS), mine)


def test_an_interrupted_call_leaves_what_was_there(tmp_path: Path) -> None:
    points = np.random.default_rng(0).standard_normal((1200, 4096), dtype=np.float32)
    path = tmp_path / "set.safetensors"

    def stop(done: int, total: int) -> None:
        assert total == 1200
        if done > 600:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(TrainingSet(points), tmp_path / "new" / "set.safetensors", progress=stop)
    assert list(tmp_path.iterdir()) == []
    pack(TrainingSet(POINTS), path)
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        pack(TrainingSet(points), path, overwrite=True, progress=stop)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def edited(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The file with another header, which claims the same bytes."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    about = json.loads(header["__metadata__"]["flowscope"])
    change(about)
    header["__metadata__"]["flowscope"] = json.dumps(about)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda about: about.update(schema=2), "form 2; expected 1"),
        (lambda about: about.update(schema=None), "form null"),
        (lambda about: about.update(notes="none"), "notes"),
        (lambda about: about.update(class_names={"a": "cats"}), "cannot be read"),
        (lambda about: about.pop("digest"), "digest"),
        (lambda about: about.update(digest="0" * 64), "damaged"),
        (
            lambda about: about.update(normaliser={"factor": 1.0, "dtype": "nosuch", "mean": [1.0], "std": [1.0]}),
            "read",
        ),
    ],
)
def test_a_header_that_is_not_ours_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    path = edited(pack(TrainingSet(POINTS), tmp_path / "set.safetensors"), change)
    assert main(["info", str(path)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize("what", ["points", "labels", "files", "cut"])
def test_a_damaged_file_is_refused(tmp_path: Path, what: str) -> None:
    path = pack(whole(), tmp_path / "set.safetensors")
    content = bytearray(path.read_bytes())
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    if what == "cut":
        path.write_bytes(content[:-1])
    else:
        at = len(content) - header["files"]["data_offsets"][1] + header[what]["data_offsets"][0]
        content[at] = ord("\n") if what == "files" else content[at] ^ 1
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"truncated|digest|names"):
        load(path)


def test_a_packed_set_is_no_shard(tmp_path: Path) -> None:
    pack(TrainingSet(POINTS), tmp_path / "shards" / "set.safetensors")
    with pytest.raises(InputError, match="give the file itself"):
        load(tmp_path / "shards")


@pytest.mark.slow
def test_a_set_larger_than_the_budget_is_packed_row_by_row(tmp_path: Path) -> None:
    """Of 279 MB, of which blocks of a few megabytes are in memory."""
    import tracemalloc

    rows, side = 17_000, 4096
    points = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (rows, side))
    rng = np.random.default_rng(0)
    for start in range(0, rows, 1000):
        points[start : start + 1000] = rng.standard_normal((1000, side), dtype=np.float32)
    points.flush()
    del points
    one = load(tmp_path / "x.npy")
    assert one.streamed
    tracemalloc.start()
    path = pack(one, tmp_path / "set.safetensors")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20
    again = flowscope.load(path)
    assert again.streamed and again.digest == one.digest

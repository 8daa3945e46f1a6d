"""Wrong input: one line on standard error, exit code 2, and nothing written."""

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flowscope.cli import main

G = "gaussian:N=20,D=3"
X = np.random.default_rng(0).standard_normal((20, 3)).astype("f4")


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.path),)


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str) -> str:
    """The line with which a run is refused; nothing in `folder` has changed."""
    before = sorted(folder.rglob("*"))
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert sorted(folder.rglob("*")) == before
    assert err.startswith("flowscope: ")
    assert err.endswith("\n")
    assert err[:-1].isprintable(), err  # one line: a break is not printable
    assert "Traceback" not in err
    if "--json" in arguments:
        assert out == ""
    return err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing command"),
        (["bogus"], "bogus"),
        (["--bogus"], "--bogus"),
        (["stages", G, "--bogus"], "--bogus"),
        (["stages", G, "extra"], "extra"),
        (["stages", G, "--out"], "--out"),
        (["stages", G, "--grey=1", "--json"], "--grey"),
        (["sweep", G, "--json"], "--over"),
        (["info"], "SOURCE"),
    ],
)
def test_what_typer_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    line = refused(capsys, tmp_path, *arguments)
    assert said in line
    assert "--help" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "got", "expected"),
    [
        (["--probes", "abc"], "'abc'", "whole number of at least 1"),
        (["--probes", "0"], "'0'", "at least 1"),
        (["--probes", "-1"], "'-1'", "at least 1"),
        (["--probes", "1.5"], "'1.5'", "whole number"),
        (["--probes", ""], "''", "whole number"),
        (["--seed", "-1"], "'-1'", "at least 0"),
        (["--timesteps", "0"], "'0'", "count"),
        (["--timesteps", "-3"], "'-3'", "count"),
        (["--timesteps", ""], "''", "count"),
        (["--timesteps", ","], "','", "count"),
        (["--timesteps", "0,1"], "1.0", "sigma is 0"),
        (["--timesteps", "0.5,-0.1"], "-0.1", "0 <= t < 1"),
        (["--timesteps", "nan"], "nan", "0 <= t < 1"),
        (["--timesteps", "1000000000000"], "timesteps is 1000000000000", "at most 100000"),
        (["--path", "straight"], "'straight'", "linear, cosine, vp, ve"),
        (["--device", "cudaa"], "'cudaa'", "cpu"),
        (["--device", "meta"], "'meta'", "cpu"),
        (["--device", ""], "''", "cpu"),
        (["--memory", "0"], "'0'", "512MB"),
        (["--memory", "10"], "10 bytes", "at least"),
        (["--memory", "lots"], "'lots'", "512MB"),
        (["--subset", "0"], "'0'", "at least 1"),
        (["--subset", "21"], "21", "20 points"),
        (["--class", "1"], "no labels", "expected"),
        (["--conditional"], "no labels", "expected labels"),
        (["--resize", "0"], "0", "at least 1"),
        (["--resize", "8x"], "'8x'", "HxW"),
        (["--grey"], "(20, 3)", "images"),
        (["--layout", "cwh"], "'cwh'", "'chw'"),
        (["--skip-broken"], "plain numbers", "image files"),
        (["--resume"], "--out", "expected"),
    ],
)
def test_an_option_out_of_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], got: str, expected: str
) -> None:
    where = ["--json"] if options == ["--resume"] else ["--out", str(tmp_path / "new" / "deep")]
    line = refused(capsys, tmp_path, "stages", G, *options, *where)
    assert got in line
    assert expected in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'cuda'" in refused(capsys, tmp_path, "stages", G, "--device", "cuda", "--out", str(tmp_path / "new"))


@pytest.mark.parametrize(
    "source",
    [
        *("nope", "nope.npy", "", "a/b", "[/red]", "\x1b[31mred\n.npy", "\udcff.npy", "/dev/zero", "/proc/self/mem"),
        *("gaussian:N=0,D=3", "gaussian:N=9", "gaussian:N=9,D=99999999999", "digits:1", "s3://bucket/x.npy"),
    ],
)
def test_an_unknown_source(tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str) -> None:
    line = refused(capsys, tmp_path, "stages", source, "--out", str(tmp_path / "new"))
    assert "expected" in line or "are free" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--over", "n"], "N, D, classes, resolution"),
        (["--over", "N", "--values", "0"], "at least 1 and at most 20"),
        (["--over", "N", "--values", "21"], "at most 20"),
        (["--over", "N", "--values", "5,x"], "'5,x'"),
        (["--over", "N", "--values", ""], "''"),
        (["--over", "N", "--probes", "0"], "--probes"),
        (["--over", "N", "--memory", "10"], "memory"),
        (["--over", "N", "--path", "p"], "'p'"),
        (["--over", "D", "--values", "0"], "dimensions"),
        (["--over", "D", "--values", "4,99999999999"], "memory"),
        (["--over", "D", "--subset", "5"], "--subset"),
        (["--over", "D", "--class", "1"], "--class"),
        (["--over", "D", "--layout", ""], "--layout"),
        (["--over", "classes"], "no labels"),
        (["--over", "resolution"], "images"),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_sweep_that_does_not_apply(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str, dry_run: bool
) -> None:
    out = ["--out", str(tmp_path / "new"), *(["--dry-run"] if dry_run else [])]
    assert said in refused(capsys, tmp_path, "sweep", G, *options, "--timesteps", "2", *out)


@pytest.mark.slow
def test_a_sweep_over_values_that_real_data_does_not_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--probes", "4", "--timesteps", "2", "--out", str(tmp_path / "new")]
    assert "0, 1, 2" in refused(capsys, tmp_path, "sweep", "digits", "--over", "classes", "--values", "17", *out)
    assert "synthetic" in refused(capsys, tmp_path, "sweep", "digits", "--over", "D", *out)
    line = refused(capsys, tmp_path, "sweep", "digits", "--over", "resolution", "--values", "8,1000000", *out)
    assert "memory" in line  # and the curve at 8 x 8 was not measured first


def _npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def _npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def _claiming_npz() -> bytes:
    header, stream = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**5)})
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("points.npy", header.getvalue() + bytes(1000))
    return stream.getvalue()


def _safetensors(header: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header


def _png(side: int, mode: str = "L") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (side, side)).save(stream, "png")
    return stream.getvalue()


CLAIM = json.dumps({"points": {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4 * 10**18]}}).encode()
FILES = {
    "nan.npy": _npy(np.where(X[7, 2] == X, np.nan, X)),
    "infinity.npy": _npy(np.where(X[7, 2] == X, np.inf, X)),
    "no_points.npy": _npy(X[:0]),
    "scalar.npy": _npy(np.float32(3)),
    "strings.npy": _npy(np.array(["a", "b"])),
    "integers.npy": _npy(np.arange(8).reshape(2, 4)),
    "truncated.npy": _npy(X)[:150],
    "empty.npy": b"",
    "junk.npy": bytes(range(256)),
    "text.npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", 40) + b"__import__('os').mkdir('trap')".ljust(39) + b"\n",
    "junk.safetensors": bytes(range(256)),
    "long_header.safetensors": _safetensors(b"{}", 2**62),
    "absurd.safetensors": _safetensors(CLAIM),
    "junk.pt": bytes(range(256)),
    "junk.npz": b"PK\x03\x04" + bytes(range(256)),
    "corrupt.npz": _npz(points=X).replace(X[3].tobytes(), X[4].tobytes()),
    "claims.npz": _claiming_npz(),
    "labels_of_another_length.npz": _npz(points=X, labels=np.arange(19)),
    "text.txt": b"1 2 3\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_set_of_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(FILES[name])
    refused(capsys, tmp_path, "stages", name, "--out", "new")
    refused(capsys, tmp_path, "info", name, "--json")


@pytest.mark.parametrize("name", ["trap.npy", "trap.npz", "trap.pt", "plain.pt"])
def test_code_in_a_file_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    path, trap = tmp_path / name, Trap(tmp_path / "sprung")
    objects = np.array([trap], dtype=object)
    if name == "trap.npy":
        np.save(path, objects, allow_pickle=True)
    elif name == "trap.npz":
        np.savez(path, points=objects)
    elif name == "trap.pt":
        torch.save({"points": torch.zeros(3, 2), "more": trap}, path)
    else:
        path.write_bytes(pickle.dumps(trap))
    assert "objects" in refused(capsys, tmp_path, "stages", str(path), "--out", str(tmp_path / "new"))


@pytest.mark.slow
def test_folders_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "new")]
    for name, files in {
        "empty": {},
        "broken": {"a.png": _png(8), "b.png": b"\x89PNG\r\n\x1a\njunk"},
        "gigantic": {"a.png": _png(8), "b.png": _png(20000, "1")},
        "sizes": {"a.png": _png(8), "b.png": _png(9)},
    }.items():
        (tmp_path / name).mkdir()
        for file, data in files.items():
            (tmp_path / name / file).write_bytes(data)
        line = refused(capsys, tmp_path, "stages", str(tmp_path / name), *out)
        assert ("b.png" in line) == bool(files)
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "a.png").symlink_to(tmp_path / "sizes" / "a.png")
    assert "link that leaves" in refused(capsys, tmp_path, "stages", str(tmp_path / "link"), *out)


def test_results_among_the_data_would_be_taken_for_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").write_bytes(_png(8))
    for out in ("data", "data/out", "other/../data/out"):
        line = refused(capsys, tmp_path, "stages", str(tmp_path / "data"), "--out", str(tmp_path / out))
        assert "folder of the data" in line


@pytest.mark.parametrize("out", ["file", "file/below", "/proc/flowscope/out", "/dev/null", "long" * 100, "", " "])
def test_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("keep")
    assert "folder" in refused(capsys, tmp_path, "stages", G, "--out", out)
    assert "folder" in refused(capsys, tmp_path, "sweep", G, "--over", "N", "--out", out)


def test_results_need_somewhere_to_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--out DIR" in refused(capsys, tmp_path, "stages", G)
    assert "--out DIR" in refused(capsys, tmp_path, "sweep", G, "--over", "N")


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you\ntried"), OSError(5, "bad", "disk")],
)
def test_the_machine_gives_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("flowscope.cli.stages.measure", fail)
    assert "expected" in refused(capsys, tmp_path, "stages", G, "--out", str(tmp_path / "new"))


def test_a_bug_is_not_passed_off_as_wrong_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("flowscope.cli.stages.measure", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["stages", G, "--json"])

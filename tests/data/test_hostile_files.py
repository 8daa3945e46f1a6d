"""Files that say of themselves what is not so, or that ask a few bytes for gigabytes: refused in one line, at once.

Beside them ordinary files that look odd: bfloat16 labels and weights are numbers like others.
"""

import io
import json
import logging
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from flowscope.cli import main
from flowscope.data import TrainingSet, load
from flowscope.errors import FlowscopeWarning, InputError

POINTS = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
X = torch.from_numpy(POINTS)
ONES = torch.ones(30)


def one_line(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `flowscope info` says of a file that it refuses with exit code 2."""
    assert main(["info", str(path)]) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.startswith("flowscope: ") and error.count("\n") == 1
    return error


# .pt


def labels_with(change: Callable[[torch.Tensor], Any]) -> dict[str, Any]:
    return {"points": X, "labels": change(torch.arange(30) % 3)}


def test_bfloat16_labels_and_weights_are_ordinary_numbers(tmp_path: Path) -> None:
    labels, weights = torch.arange(30) % 3, torch.arange(1, 31)
    torch.save({"points": X, "labels": labels.bfloat16(), "weights": weights.bfloat16()}, tmp_path / "a.pt")
    found = load(tmp_path / "a.pt")
    assert found.labels is not None and found.weights is not None
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.weights, weights)
    assert found.digest == load(POINTS, labels=labels, weights=weights).digest
    given = load(POINTS, labels=labels.bfloat16(), weights=weights.bfloat16())
    assert given.digest == found.digest


@pytest.mark.parametrize(
    ("dtype", "exact"), [(torch.bfloat16, 256), (torch.float16, 2048), (torch.float32, 2**24), (torch.float64, 2**53)]
)
def test_whole_floats_are_labels_up_to_where_their_dtype_rounds(dtype: torch.dtype, exact: int) -> None:
    """257 in bfloat16 is 256: a label that may have been another one is refused."""
    assert torch.tensor(exact + 1).to(dtype) == exact  # the truth that the limit rests on
    fits = TrainingSet([[0.0], [1.0]], labels=torch.tensor([exact - 1, 0]).to(dtype))
    assert fits.labels is not None and fits.labels.tolist() == [exact - 1, 0]
    for label in (exact, -exact, exact + 1):
        with pytest.raises(InputError, match=f"rounds integers from {exact} on"):
            TrainingSet([[0.0], [1.0]], labels=torch.tensor([label, 0]).to(dtype))
    for label in (0.5, torch.nan, torch.inf):
        with pytest.raises(InputError, match="expected integers"):
            TrainingSet([[0.0], [1.0]], labels=torch.tensor([label, 0.0]).to(dtype))


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(
    ("saved", "said"),
    [
        (lambda: {"points": X, "weights": ONES.to(torch.float8_e4m3fn)}, "weights have dtype float8_e4m3fn"),
        (lambda: {"points": X, "weights": ONES.to("meta")}, "weights of .* are on the device meta"),
        (lambda: labels_with(lambda y: y.to("meta")), "labels of .* are on the device meta"),
        (lambda: labels_with(lambda y: y.to_sparse()), "labels of .* are sparse"),
        (lambda: labels_with(lambda y: y.to(torch.complex64)), "labels have dtype complex64"),
        (lambda: labels_with(lambda y: [y, y[:3]]), "labels of .* are not one array"),
        (lambda: labels_with(lambda y: ["a"] * 30), "labels have dtype <U1"),
        (lambda: X.to("meta"), "points of .* are on the device meta"),
        (X.to_sparse, "points of .* are sparse"),
        (lambda: torch.nested.nested_tensor([X, X[:2]], layout=torch.jagged), "points of .* are nested"),
        (lambda: torch.quantize_per_tensor(X, 0.1, 0, torch.quint8), "points of .* are quantised"),
        (lambda: X.to(torch.float8_e5m2), "points have dtype float8_e5m2"),
        (lambda: {"points": X, "classes": {"a": 1}}, "classes of .* are a dict"),
        (lambda: {"points": X, "classes": ["a", 2]}, "expected a list of names"),
        (lambda: labels_with(lambda y: y) | {"classes": ["a", "b"]}, "are 2 names, and its labels go up to 2"),
        (lambda: {"x\ny": X}, "holds x y; expected"),
    ],
)
def test_tensors_without_plain_numbers_are_refused(
    saved: Callable[[], Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(saved(), tmp_path / "a.pt")
    with pytest.raises(InputError, match=said):
        load(tmp_path / "a.pt")
    one_line(tmp_path / "a.pt", capsys)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_the_same_tensors_are_refused_as_arguments() -> None:
    for make in (X.to_sparse, lambda: X.to("meta"), lambda: torch.nested.nested_tensor([X, X[:2]])):
        for use in (load, TrainingSet):
            with pytest.raises(InputError, match=r"^points are .* expected a dense tensor"):
                use(make())
    with pytest.raises(InputError, match=r"^labels are on the device meta"):
        TrainingSet(X, labels=torch.zeros(30, device="meta"))


def test_a_tensor_with_the_negative_bit_is_what_it_stands_for() -> None:
    lazy = torch.full((30, 4), 1 + 2j).conj().imag
    assert lazy.is_neg() and float(load(lazy).rows(slice(0, 1))[0, 0]) == -2.0


# .npz and .npy


def npz(path: Path, entries: list[tuple[str, np.ndarray | bytes]], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """An archive with these entries, whatever their names."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            stream = io.BytesIO()
            np.save(stream, content) if isinstance(content, np.ndarray) else stream.write(content)
            archive.writestr(name, stream.getvalue())
    return path


def bad_text(points: int) -> np.ndarray:
    """A text whose one character lies beyond Unicode."""
    return np.full(points, 0x7FFFFFFF, np.uint32).view("<U1")


def npy_claim(dtype: str, shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


NPZ_CASES: list[tuple[list[tuple[str, np.ndarray | bytes]], str]] = [
    ([("points", b"nonsense"), ("points.npy", POINTS)], "holds points twice"),
    ([("points.npy", POINTS), ("points", POINTS)], "holds points twice"),
    ([("points", POINTS)], "holds nothing; expected"),
    ([("points.npy", POINTS), ("classes.npy", bad_text(3))], "hold what is no text"),
    ([("points.npy", POINTS), ("classes.npy", npy_claim("<U0", (10**12,)))], "numbers of 0 bytes"),
    ([("points.npy", POINTS), ("classes.npy", np.array(["a" * 2000]))], "short texts"),
    ([("points.npy", POINTS), ("labels.npy", npy_claim("<i8", (2**62, 0)))], "no memory holds"),
    ([("points.npy", npy_claim("<f4", (1,) * 40))], "claims 40 axes"),
    ([("points.npy", npy_claim("V0", (10**18,)))], "numbers of 0 bytes"),
]


@pytest.mark.parametrize(("entries", "said"), NPZ_CASES)
def test_archives_that_are_not_what_they_seem(
    entries: list[tuple[str, np.ndarray | bytes]], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in one_line(npz(tmp_path / "a.npz", entries), capsys)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_compressions_whose_memory_is_not_known_are_refused(method: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="compressed by method"):
        load(npz(tmp_path / "a.npz", [("points.npy", POINTS)], method))


# .safetensors

HUGE = (
    {"points": {"dtype": "F32", "shape": [0, 2**70], "data_offsets": [0, 0]}},
    {"points": {"dtype": "F32", "shape": [2**40, 2**40, 0], "data_offsets": [0, 0]}},
    {"points": {"dtype": "F32", "shape": [1] * 70, "data_offsets": [0, 4]}},
    {
        "points": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]},
        "labels": {"dtype": "I64", "shape": [2**70, 0], "data_offsets": [4, 4]},
    },
)


@pytest.mark.parametrize("header", HUGE)
def test_shapes_that_no_array_has_are_refused(
    header: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = json.dumps(header).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(8))
    one_line(tmp_path / "a.safetensors", capsys)


# memory


class Peak:
    """Bytes of this process before and, at most, while it was watched."""

    before = most = 0


def memory_of_this_process(what: str) -> int:
    (line,) = re.findall(rf"^{what}:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    return int(line) * 1024


@contextmanager
def watched() -> Iterator[Peak]:
    """The kernel's own record of the most that was resident, begun anew."""
    peak = Peak()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("this kernel cannot begin the record of resident memory anew")
    peak.before = memory_of_this_process("VmRSS")
    try:
        yield peak
    finally:
        peak.most = memory_of_this_process("VmHWM")


MIB = 1 << 20


@pytest.mark.slow
def test_an_entry_that_shadows_another_is_not_read(tmp_path: Path) -> None:
    """numpy takes "points" for "points.npy", whose size was checked."""
    path = npz(tmp_path / "a.npz", [("points", np.zeros((1, 300 * MIB), np.uint8)), ("points.npy", POINTS)])
    with watched() as peak, pytest.raises(InputError, match="holds points twice"):
        load(path)
    assert peak.most - peak.before < 50 * MIB


@pytest.mark.slow
def test_millions_of_equal_offsets_take_no_more_than_was_announced(tmp_path: Path) -> None:
    offsets = np.zeros(2_000_001, np.int64)  # 16 MB; as views of the bytes 300 MB more
    np.savez_compressed(tmp_path / "a.npz", jpeg=np.zeros(10, np.uint8), offsets=offsets)
    with watched() as peak, pytest.raises(InputError, match=r"image 0 of .* has no bytes"):
        load(tmp_path / "a.npz", subset=1)
    assert peak.most - peak.before < 100 * MIB


def png(width: int, height: int) -> bytes:
    """A grey PNG of one bit a pixel, all black."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes((1 + (width + 7) // 8) * height), 9)
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_small_png_of_90_million_pixels_asks_for_its_memory_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(png(9400, 9400))
    assert (tmp_path / "a.png").stat().st_size < 16_000
    monkeypatch.setattr("flowscope.core.memory.available_memory", lambda: 400 * MIB)
    with watched() as peak, pytest.raises(InputError, match=r"decoding image .*a.png of 9400x9400 takes 0.\d GiB"):
        load(tmp_path, resize=8)
    assert peak.most - peak.before < 50 * MIB


def test_a_point_of_millions_of_coordinates_asks_for_the_vectors_of_its_statistics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points = np.zeros((2, 3_000_000), np.float16)
    monkeypatch.setattr("flowscope.core.memory.available_memory", lambda: 100 * MIB)
    with pytest.raises(InputError, match="work on points of 3,000,000 coordinates takes"):
        TrainingSet(points)


@pytest.mark.slow
def test_a_pickle_asks_for_the_memory_of_its_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"points": X, "extra": [[] for _ in range(200_000)]}, tmp_path / "a.pt")
    with pytest.warns(FlowscopeWarning, match="not read: extra"):
        assert load(tmp_path / "a.pt").shape == (4,)
    monkeypatch.setattr("flowscope.core.memory.available_memory", lambda: 10 * MIB)
    with pytest.raises(InputError, match=r"the pickle in .* takes"):
        load(tmp_path / "a.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_makes_bytes_by_their_number_is_refused(zipped: bool, tmp_path: Path) -> None:
    torch.save({"points": X, "extra": bytearray(3)}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="holds Python objects beyond tensors"):
        load(tmp_path / "a.pt")


def test_a_compressed_pt_is_refused(tmp_path: Path) -> None:
    torch.save(X, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    npz(tmp_path / "b.pt", entries)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="is compressed"):
        load(tmp_path / "b.pt")


def test_points_that_are_mapped_at_once_ask_for_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.zeros((40, 3, 16, 16), np.uint8)
    monkeypatch.setattr("flowscope.core.memory.available_memory", lambda: 4 * pixels.size)
    with pytest.raises(InputError, match=r"points of shape \(40, 3, 16, 16\) takes"):
        load(pixels)
    with pytest.raises(InputError, match="points of bfloat16 as float32"):
        load(
            torch.zeros(pixels.shape, dtype=torch.bfloat16).expand(40, 3, 16, 16).repeat(2, 1, 1, 1),
            subset=70,
            assume="stored",
        )


TURNED = Image.Exif()
TURNED[ExifTags.Base.Orientation] = 6


@pytest.mark.filterwarnings("ignore:.*Transparent pixels")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*Colours were converted from CMYK")
@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("png", "RGB", {}),
        ("png", "L", {}),
        ("gif", "P", {}),
        ("tiff", "CMYK", {"compression": "tiff_lzw"}),
        ("webp", "RGB", {"lossless": True}),
        ("jpeg", "RGB", {"progressive": True, "subsampling": 0}),
        ("jpeg", "RGB", {"progressive": True, "subsampling": 0, "exif": TURNED}),
        ("png", "RGBA", {}),
        ("jp2", "RGB", {}),
        ("avif", "RGB", {"speed": 10}),
    ],
)
def test_decoding_takes_what_it_asks_for(
    kind: str, mode: str, options: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for size, folder in ((8, tmp_path / "small"), (3000, tmp_path / "large")):
        folder.mkdir()
        Image.new(mode, (size, size)).save(folder / f"a.{kind}", **options)
    load(tmp_path / "small", resize=8)  # what a format's decoder loads once is not the image's
    with caplog.at_level(logging.DEBUG, "flowscope.memory"), watched() as peak:
        load(tmp_path / "large", resize=8)
    asked: list[Any] = [record.args for record in caplog.records]
    announced = max(size for what, size in asked if what.startswith("decoding image"))
    assert announced > 16 * MIB
    assert peak.most - peak.before < 1.1 * announced


def test_an_image_without_bytes_is_refused_before_any_is_decoded(tmp_path: Path) -> None:
    for offsets, said in (
        ([0, 4, 4, 10], "image 1 of .* has no bytes"),
        ([0, 6, 4], "not ascending"),
        ([0, 11], "not"),
    ):
        np.savez(tmp_path / "a.npz", jpeg=np.zeros(10, np.uint8), offsets=np.array(offsets))
        with pytest.raises(InputError, match=said):
            load(tmp_path / "a.npz", skip_broken=True)

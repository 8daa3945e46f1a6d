"""load of .npy, .npz, .safetensors and .pt: the same points from each, lazily, and no harm from what a file holds."""

import contextlib
import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flowscope.data.loaders.npz as npz
from flowscope.core.memory import available_memory
from flowscope.data import load
from flowscope.data.loaders.npy import load_npy
from flowscope.data.loaders.safetensors import load_safetensors
from flowscope.data.loaders.source import map_file
from flowscope.data.rows.mapped_rows import MappedRows
from flowscope.errors import InputError
from tests.support.refusals import refused

RNG = np.random.default_rng(1)
POINTS = RNG.standard_normal((20, 4, 3)).astype(np.float32)
PIXELS = RNG.integers(0, 256, (20, 3, 6, 5), dtype=np.uint8)
LABELS = np.arange(20) % 4
WEIGHTS = np.arange(1.0, 21.0)


def header_of(entries, length=None):
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


# the same set, whatever the file


def write_npz(path, **arrays):
    np.savez(path, **arrays)


def write_compressed(path, **arrays):
    np.savez_compressed(path, **arrays)


def write_safetensors(path, **arrays):
    safetensors.numpy.save_file(arrays, path)


def write_pt(path, **arrays):
    torch.save({name: torch.from_numpy(a) for name, a in arrays.items()}, path)


def write_legacy_pt(path, **arrays):
    saved = {name: torch.from_numpy(a) for name, a in arrays.items()}
    torch.save(saved, path, _use_new_zipfile_serialization=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "suffix"),
    [
        (write_npz, "npz"),
        (write_compressed, "npz"),
        (write_safetensors, "safetensors"),
        (write_pt, "pt"),
        (write_legacy_pt, "pth"),
    ],
)
@pytest.mark.parametrize(("key", "values"), [("points", POINTS), ("images", PIXELS), ("latents", POINTS)])
def test_round_trip(tmp_path, write, suffix, key, values):
    path = tmp_path / f"set.{suffix}"
    write(path, **{key: values}, labels=LABELS, weights=WEIGHTS)
    got, expected = load(path), load(values, labels=LABELS, weights=WEIGHTS)
    np.testing.assert_array_equal(np.asarray(got.points), np.asarray(expected.points), strict=True)
    np.testing.assert_array_equal(got.labels, LABELS)
    np.testing.assert_array_equal(got.weights, WEIGHTS)
    assert (got.digest, got.name) == (expected.digest, "set")
    assert load(str(path), subset=7, classes=[0, 1]).digest == load(expected, subset=7, classes=[0, 1]).digest


@pytest.mark.parametrize("values", [POINTS, POINTS.astype(np.float64), POINTS.astype(np.float16), PIXELS])
def test_round_trip_of_single_arrays(tmp_path, values):
    np.save(tmp_path / "one.npy", values)
    torch.save(torch.from_numpy(values), tmp_path / "one.pt")
    np.save(tmp_path / "fortran.npy", np.asfortranarray(values))
    for name in ("one.npy", "one.pt", "fortran.npy"):
        assert load(tmp_path / name).digest == load(values).digest


def test_other_byte_order_in_npy_and_npz(tmp_path):
    swapped = POINTS.astype(POINTS.dtype.newbyteorder())
    np.save(tmp_path / "swapped.npy", swapped)
    np.savez(tmp_path / "swapped.npz", points=swapped, labels=LABELS.astype(">i4"))
    assert load(tmp_path / "swapped.npy").digest == load(POINTS).digest
    assert load(tmp_path / "swapped.npz").digest == load(POINTS, labels=LABELS).digest


def test_shards_lie_behind_one_another_in_the_order_of_their_names(tmp_path):
    for name, part in (("b", slice(8, 20)), ("a", slice(0, 8))):
        write_safetensors(tmp_path / f"{name}.safetensors", latents=POINTS[part], labels=LABELS[part])
    (tmp_path / "latents_stats.pt").write_bytes(b"not looked at")
    assert load(tmp_path, normalise="none").digest == load(POINTS, labels=LABELS).digest
    assert load(tmp_path, normalise="none").name == tmp_path.name
    source = load_safetensors(tmp_path)
    assert isinstance(source.values, MappedRows)
    np.testing.assert_array_equal(source.values[5:12], POINTS[5:12])


def test_bfloat16_is_widened_exactly(tmp_path):
    values = torch.from_numpy(POINTS).to(torch.bfloat16)
    safetensors.torch.save_file({"points": values}, tmp_path / "b.safetensors")
    got = load(tmp_path / "b.safetensors")
    assert got.dtype == "float32"
    np.testing.assert_array_equal(got.points, values.float().numpy())
    torch.save(values, tmp_path / "b.pt")
    assert load(tmp_path / "b.pt").dtype == "bfloat16"


@pytest.mark.parametrize("padding", range(4))
def test_misaligned_tensors_are_read_right(tmp_path, padding):
    entry = {"points": {"dtype": "F32", "shape": [20, 4, 3], "data_offsets": [0, POINTS.nbytes]}}
    head = header_of(entry)
    text = head[8:] + b" " * padding
    path = tmp_path / "odd.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + POINTS.tobytes())
    assert load(path).digest == load(POINTS).digest


def test_images_of_latents_are_not_mirrored(tmp_path):
    write_safetensors(tmp_path / "l.safetensors", latents=np.zeros((3, 4, 2, 2), dtype=np.float32))
    for options in ({"flips": True}, {"resize": 4}, {"grey": True}):
        refused(tmp_path / "l.safetensors", "latents", **options)


def test_class_names_come_with_an_npz(tmp_path):
    np.savez(tmp_path / "named.npz", points=POINTS, labels=LABELS, classes=np.array(["a", "b", "c", "d"]))
    data = load(tmp_path / "named.npz", classes="c")
    assert data.class_names == dict(enumerate("abcd"))
    assert set(data.labels) == {2}


# laziness


def sparse_npy(path, shape, dtype=np.float32):
    with path.open("wb") as stream:
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.truncate(stream.tell() + int(np.prod(shape)) * np.dtype(dtype).itemsize)


def test_floats_stay_a_map_of_their_file(tmp_path):
    np.save(tmp_path / "f.npy", POINTS)
    write_safetensors(tmp_path / "f.safetensors", points=POINTS)
    for name in ("f.npy", "f.safetensors"):
        data = load(tmp_path / name)
        assert isinstance(data.points, np.memmap)
        assert torch.as_tensor(data.points).shape == POINTS.shape  # writable, so torch does not complain
        data.points[0] = 7
        assert load(tmp_path / name).digest == load(POINTS).digest, "copy-on-write: the file is never changed"


def test_a_large_file_is_never_copied_whole(tmp_path):
    shape = (3 << 12, 3, 128, 128)  # 0.6 GB of pixels, 2.4 GB of float32
    sparse_npy(tmp_path / "large.npy", shape, np.uint8)
    tracemalloc.start()
    try:
        source = load_npy(tmp_path / "large.npy")
        assert isinstance(source.values, np.memmap)
        rows = load(tmp_path / "large.npy", subset=20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rows.shape == shape[1:]
    assert peak < 40 << 20
    assert (rows.points == -1).all()


@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_rows_of_eight_gibibytes_are_read_one_by_one(tmp_path, suffix):
    path, shape = tmp_path / f"eight.{suffix}", (1 << 21, 1024)
    if suffix == "npy":
        sparse_npy(path, shape)
    else:
        size = 4 * shape[0] * shape[1]
        head = header_of({"points": {"dtype": "F32", "shape": list(shape), "data_offsets": [0, size]}})
        head = head.ljust(-len(head) % 4 + len(head))
        path.write_bytes(struct.pack("<Q", len(head) - 8) + head[8:])
        os.truncate(path, len(head) + size)
    tracemalloc.start()
    try:
        values = load_npy(path).values if suffix == "npy" else load_safetensors(path).values
        assert values.shape == shape
        assert values[[0, 12345, shape[0] - 1]].sum() == 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_a_file_larger_than_memory_is_mapped(tmp_path):
    path, count = tmp_path / "vast.bin", 2 * available_memory() // 4
    path.touch()
    try:
        os.truncate(path, 4 * count)
    except OSError as error:
        pytest.skip(f"the file system takes no sparse file of this size: {error}")
    assert map_file(path, np.dtype(np.float32), (count,))[count - 1] == 0


# wrong input


def test_missing_and_unknown_sources_say_what_is_known(tmp_path):
    refused(tmp_path / "no.npy", "no file or folder")
    refused("missing/folder", "no file or folder")
    assert "digits" in refused("digitz", "unknown source")
    refused("", "unknown source")
    refused("https://example.org/set", "no file or folder")
    (tmp_path / "set.xyz").write_text("1,2")
    refused(tmp_path / "set.xyz", "no kind of file")
    os.mkfifo(tmp_path / "pipe.npy")
    refused(tmp_path / "pipe.npy", "no kind of file")
    refused("a\0b.npy", "no file or folder")
    refused("x" * 5000, "unknown source")


@pytest.mark.parametrize(
    "suffix", ["npy", "npz", "safetensors", "pt", "pth", "zip", "tar", "tar.gz", "h5", "csv", "parquet"]
)
@pytest.mark.parametrize(
    "junk", [b"", b"\0", b"junk" * 100, b"\x93NUMPY\x01\0", b"PK\x03\x04" + b"\0" * 50, b"\x80\x02."]
)
def test_junk_is_refused(tmp_path, suffix, junk):
    (tmp_path / f"junk.{suffix}").write_bytes(junk)
    refused(tmp_path / f"junk.{suffix}", "junk")


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(["npy", "npz", "safetensors", "pt"]), st.integers(0, 10**6), st.binary(min_size=1, max_size=8))
def test_damage_gives_points_or_an_input_error_and_nothing_else(tmp_path, suffix, at, bytes_):
    path = tmp_path / f"damaged.{suffix}"
    if suffix == "npy":
        np.save(path, POINTS)
    else:
        {"npz": write_compressed, "safetensors": write_safetensors, "pt": write_pt}[suffix](
            path, points=POINTS, labels=LABELS
        )
    whole = bytearray(path.read_bytes())
    at %= len(whole)
    whole[at : at + len(bytes_)] = bytes_
    path.write_bytes(whole)
    with contextlib.suppress(InputError):
        load(path)
    path.write_bytes(whole[:at])
    refused(path, "damaged")


def test_truncated_npy(tmp_path):
    np.save(tmp_path / "t.npy", POINTS)
    whole = (tmp_path / "t.npy").read_bytes()
    (tmp_path / "t.npy").write_bytes(whole[:-1])
    refused(tmp_path / "t.npy", "truncated")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([1, "a", None], dtype=object), "Python objects"),
        (np.array(3.0), "shape"),
        (np.array(["a", "b"]), "dtype"),
        (np.zeros((2, 3), dtype=np.int64), "int64"),
        (np.zeros((0, 3)), "no points"),
        (np.zeros(3), "shape"),
        (np.zeros((2, 2), dtype=[("x", "f4")]), "expected"),
        (np.full((2, 2), np.nan), "nan"),
        (np.full((2, 2), -np.inf), "-inf"),
    ],
)
def test_arrays_in_files_that_are_no_points(tmp_path, values, said):
    np.save(tmp_path / "a.npy", values, allow_pickle=True)
    np.savez(tmp_path / "a.npz", points=values)
    refused(tmp_path / "a.npy", said)
    refused(tmp_path / "a.npz", said)


class Trap:
    """What a pickle can do: run a command as it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickled_code_is_never_run(tmp_path):
    sprung = tmp_path / "sprung"
    traps = {
        "trap.pt": lambda p: torch.save(Trap(sprung), p),
        "trap.pth": lambda p: torch.save({"points": torch.ones(2, 2), "x": Trap(sprung)}, p),
        "legacy.pt": lambda p: torch.save(Trap(sprung), p, _use_new_zipfile_serialization=False),
        "bare.pt": lambda p: p.write_bytes(pickle.dumps(Trap(sprung))),
        "trap.npy": lambda p: np.save(p, np.array([Trap(sprung)], dtype=object), allow_pickle=True),
        "raw.npy": lambda p: p.write_bytes(pickle.dumps(Trap(sprung))),
        "trap.npz": lambda p: np.savez(p, points=np.array([Trap(sprung)], dtype=object)),
        "labels.npz": lambda p: np.savez(p, points=POINTS, labels=np.array([Trap(sprung)], dtype=object)),
    }
    for name, write in traps.items():
        write(tmp_path / name)
        said = refused(tmp_path / name, name.rpartition(".")[0])
        assert "weights_only" not in said, "no advice to run the code"
        assert not sprung.exists()
    torch.load(tmp_path / "trap.pt", weights_only=False)
    assert sprung.exists(), "the trap is real"


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ({"weight": torch.ones(2)}, "holds weight"),
        ({}, "holds nothing"),
        ({1: torch.ones(2)}, "holds 1"),
        ([torch.ones(2, 2)], "list"),
        ({"points": [1.0, 2.0]}, "list"),
        ({"points": torch.ones(2, 2), "images": torch.ones(2, 2)}, "several"),
        ({"points": torch.ones(2, 2), "labels": torch.zeros(3, dtype=torch.int64)}, "labels"),
        ({"points": torch.ones(2, 2), "labels": {"a": 1}}, "labels"),
        (torch.tensor(1.0), "shape"),
        (torch.eye(3).to_sparse(), "sparse"),
        (torch.zeros(1, 1).expand(1 << 30, 1 << 10), "fewer values"),
        (torch.ones(2, 2, dtype=torch.int64), "int64"),
        (torch.tensor([[1.0, torch.nan]]), "nan"),
    ],
)
def test_pt_without_fit_points(tmp_path, saved, said):
    torch.save(saved, tmp_path / "s.pt")
    refused(tmp_path / "s.pt", said)


def test_npz_without_the_arrays_says_what_it_has(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=POINTS, y=LABELS)
    refused(tmp_path / "x.npz", "holds x_train, y; expected exactly one of points, images, latents")
    np.savez(tmp_path / "both.npz", points=POINTS, images=PIXELS)
    refused(tmp_path / "both.npz", "several")
    np.savez(tmp_path / "short.npz", points=POINTS, labels=LABELS[:5])
    refused(tmp_path / "short.npz", r"labels have shape \(5,\); expected \(20,\)")


def test_npz_that_claims_more_than_memory_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(npz.np, "load", lambda *_, **__: pytest.fail("it was read"))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 4)})
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:
        archive.writestr("points.npy", header.getvalue() + bytes(64))
    refused(tmp_path / "lie.npz", "the archive holds 192")
    monkeypatch.setattr("flowscope.core.memory.available_memory", lambda: POINTS.nbytes)
    np.savez_compressed(tmp_path / "big.npz", points=POINTS)
    refused(tmp_path / "big.npz", "memory are free: save the points as .npy")


def test_npz_whose_directory_and_header_claim_alike(tmp_path):
    claim = (1 << 40, 4)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": claim})
    size = len(header.getvalue()) + 16 * claim[0]
    path = tmp_path / "lie.npz"
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open(zipfile.ZipInfo("points.npy"), "w", force_zip64=True) as stream:
            stream.write(header.getvalue())
        archive.getinfo("points.npy").file_size = size  # what the directory will say
    refused(path, "memory are free")


@pytest.mark.parametrize("name", ["labels", "points"])
def test_npz_with_a_damaged_entry(tmp_path, name):
    write_npz(tmp_path / "d.npz", points=POINTS, labels=LABELS)
    whole = bytearray((tmp_path / "d.npz").read_bytes())
    at = whole.index({"labels": LABELS, "points": POINTS}[name].tobytes()[8:])
    whole[at + 9] ^= 255
    (tmp_path / "d.npz").write_bytes(whole)
    refused(tmp_path / "d.npz", "CRC")


GOOD = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (header_of({"points": GOOD}, 1 << 62), "claims a header"),
        (header_of({"points": GOOD}, 10_000), "claims a header"),
        (header_of({"points": GOOD}, 5), "cannot be read"),
        (header_of([1, 2]), r"the whole is \[1, 2\]: input should be a valid dictionary"),
        (header_of({"points": [1]}), r"points in the header of .* is damaged \(the whole is \[1\]"),
        (header_of({"points": {**GOOD, "shape": "2"}}), "shape is '2'"),
        (header_of({"points": {**GOOD, "shape": [-2, -2]}}), r"shape\[0\] is -2: .*greater than or equal to 0"),
        (header_of({"points": {**GOOD, "shape": [True, 4]}}), r"shape\[0\] is True"),
        (header_of({"points": {**GOOD, "data_offsets": [0]}}), r"data_offsets is \[0\]"),
        (header_of({"points": {**GOOD, "data_offsets": [16, 0]}}), "truncated or damaged"),
        (header_of({"points": {**GOOD, "data_offsets": [8, 24]}}), "truncated or damaged"),
        (header_of({"points": {**GOOD, "shape": [1 << 40, 1 << 40]}}), "truncated or damaged"),
        (header_of({"points": {**GOOD, "shape": [10**300]}}), "whole number beyond 128 bits"),
        (header_of({"points": {"dtype": "F32", "shape": [2, 2]}}), "lacks data_offsets"),
        (header_of({"points": {**GOOD, "shape": [2**62, 0]}}), "no memory holds"),
        (header_of({"points": {**GOOD, "shape": [1] * 70}}), "claims 70 axes; expected at most 32"),
        (
            header_of({"points": GOOD, "labels": {"dtype": "I64", "shape": [2**40, 0, 2**40], "data_offsets": [0, 0]}}),
            "no memory holds",
        ),
        (header_of({"points": {**GOOD, "shape": []}}), "truncated or damaged"),
        (header_of({"points": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}), "scalar"),
        (header_of({"points": {**GOOD, "dtype": "F8_E4M3"}}), "dtype F8_E4M3"),
        (header_of({"points": {**GOOD, "dtype": 3}}), "dtype is 3"),
        (header_of({"points": {**GOOD, "dtype": "I32"}}), "int32"),
        (header_of({"points": {"dtype": "F32", "shape": [0, 2], "data_offsets": [0, 0]}}), "no points"),
        (header_of({"__metadata__": {}}), "holds nothing"),
        (header_of({"weight": GOOD}), "holds weight"),
        (header_of({"points": GOOD, "images": GOOD}), "several"),
        (header_of({"points": GOOD, "labels": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}), "labels"),
        (header_of({"points": GOOD, "labels": GOOD}), "labels"),
        (struct.pack("<Q", 200_000) + b"[" * 200_000, r"cannot be read|header"),
    ],
)
def test_absurd_safetensors(tmp_path, head, said):
    (tmp_path / "s.safetensors").write_bytes(head + bytes(16))
    refused(tmp_path / "s.safetensors", said)


def test_shards_that_disagree_are_named(tmp_path):
    write_safetensors(tmp_path / "a.safetensors", points=POINTS)
    for other in (POINTS[:, :2].copy(), POINTS.astype(np.float64), PIXELS):
        write_safetensors(tmp_path / "b.safetensors", points=other)
        assert "a.safetensors" in refused(tmp_path, "b.safetensors")
    write_safetensors(tmp_path / "b.safetensors", points=POINTS, labels=LABELS)
    refused(tmp_path, "b.safetensors holds labels, points; expected points")
    (tmp_path / "b.safetensors").write_bytes(b"junk")
    refused(tmp_path, "b.safetensors")


def test_shards_behind_a_link_out_of_the_folder_are_refused(tmp_path):
    write_safetensors(tmp_path / "outside.safetensors", points=POINTS)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.safetensors").symlink_to(tmp_path / "outside.safetensors")
    refused(tmp_path / "in", "link that leaves the folder")


def test_options_that_do_not_apply_to_numbers(tmp_path):
    np.save(tmp_path / "v.npy", POINTS[:, 0])
    for options in ({"resize": 4}, {"flips": True}, {"grey": True}, {"skip_broken": True}, {"layout": "hwc"}):
        refused(tmp_path / "v.npy", "applies to", **options)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every file")
def test_a_file_that_may_not_be_read(tmp_path):
    np.save(tmp_path / "v.npy", POINTS)
    (tmp_path / "v.npy").chmod(0)
    refused(tmp_path / "v.npy", "Permission denied")


# shards


def shards(folder, parts=3, first=1, **changes):
    """A set in numbered shards; `changes` maps a number to the arrays of that shard."""
    folder.mkdir(exist_ok=True)
    for k, rows in enumerate(np.array_split(np.arange(20), parts)):
        name = f"set-{k + first:05}-of-{parts:05}.safetensors"
        write_safetensors(folder / name, **changes.get(f"shard{k}", {"points": POINTS[rows], "labels": LABELS[rows]}))
    return folder


@pytest.mark.parametrize("first", [0, 1])
def test_a_missing_shard_is_named(tmp_path, first):
    folder = shards(tmp_path / "set", first=first)
    assert load(folder).digest == load(POINTS, labels=LABELS).digest
    name = f"set-{1 + first:05}-of-00003.safetensors"
    (folder / name).unlink()
    assert name in refused(folder, "holds 2 shards and lacks 1")


def test_a_shard_that_only_the_index_knows_is_named(tmp_path):
    write_safetensors(tmp_path / "a.safetensors", points=POINTS)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}))
    refused(tmp_path, "b.safetensors.*copy what is missing")
    write_safetensors(tmp_path / "b.safetensors", points=POINTS)
    assert len(load(tmp_path)) == 40
    for junk in ("{", "[]", '{"weight_map": 3}'):
        index.write_text(junk)
        refused(tmp_path, "index")


def test_an_absurd_number_of_shards_is_refused(tmp_path):
    write_safetensors(tmp_path / f"set-1-of-{10**18}.safetensors", points=POINTS)
    refused(tmp_path, "claims to be one of")


def test_a_cut_shard_and_shards_of_another_kind_are_named(tmp_path):
    other = {
        "shape": (
            {"points": POINTS[:5, :2], "labels": LABELS[:5]},
            r"set-00002.*\(n, 2, 3\).*expected F32 \(n, 4, 3\)",
        ),
        "dtype": ({"points": POINTS[:5].astype(np.float16), "labels": LABELS[:5]}, "set-00002.*F16.*expected F32"),
        "names": ({"points": POINTS[:5]}, "set-00002.*holds points; expected labels, points"),
    }
    for name, (arrays, said) in other.items():
        refused(shards(tmp_path / name, shard1=arrays), said)
    cut = shards(tmp_path / "cut") / "set-00003-of-00003.safetensors"
    whole = cut.read_bytes()
    for length in (len(whole) - 1, 40, 3):
        cut.write_bytes(whole[:length])
        refused(tmp_path / "cut", "set-00003")


def test_a_gap_in_shards_by_rank_is_named(tmp_path):
    """LightningDiT's names do not say how many there are: what lies between two of them can be missed."""
    for rank, shard in ((0, 0), (0, 1), (2, 0), (2, 2)):
        path = tmp_path / f"latents_rank{rank:02}_shard{shard:03}.safetensors"
        safetensors.numpy.save_file({"latents": POINTS[:4]}, path)
    refused(tmp_path, r"lacks 1 of theirs \(latents_rank02_shard001.safetensors\); expected all of them")
    safetensors.numpy.save_file({"latents": POINTS[:4]}, tmp_path / "latents_rank02_shard001.safetensors")
    assert len(load(tmp_path)) == 20


def test_labels_without_a_name_are_refused(tmp_path):
    path = tmp_path / "few.npz"
    np.savez(path, points=POINTS, labels=LABELS, classes=np.array(["a", "b"]))
    refused(path, "classes of .* are 2 names, and its labels go up to 3; expected one for each label from 0 on")

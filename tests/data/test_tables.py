"""HDF5, ADM's .npz, CIFAR's batches and .csv: values arrive exactly, nothing runs, and what is wrong is said."""

import pickle
import sys
import warnings
from contextlib import contextmanager

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch

from flowscope.data import load
from flowscope.data.loaders.hdf5 import load_hdf5
from flowscope.data.loaders.part import Part
from flowscope.errors import FlowscopeWarning, InputError, MissingExtraError
from tests.support import formats
from tests.support.formats import PIXELS, VECTORS
from tests.support.refusals import refused

WRITERS = [
    formats.write_adm_npz,
    formats.write_hdf5,
    formats.write_hdf5_chunks,
    formats.write_cifar,
    formats.write_cifar_tar,
    formats.write_csv,
    formats.write_csv_without_header,
]


@contextmanager
def said_header():
    """What is said of the header of a .csv is no fault."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is the names of its columns", FlowscopeWarning)
        yield


def load_table(path, **options):
    with said_header():
        return load(path, **options)


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_every_format_is_the_set_that_was_written(write, tmp_path):
    path, expected = write(tmp_path)
    options = {"split": "train"} if "cifar" in write.__name__ else {}
    with said_header():
        data = load(path, **options)
    assert data.digest == expected.digest and data.class_names == expected.class_names
    named = write is formats.write_csv
    assert data.notes == ("Line 1 of set.csv is the names of its columns: a, b, c, d, e, label.",) * named
    assert data.source == str(path)
    with said_header():
        assert load(path, subset=3, **options).digest == load(expected, subset=3).digest


# ADM


def test_the_two_arrays_of_numpy_savez(tmp_path):
    np.savez(tmp_path / "a.npz", VECTORS)
    assert load(tmp_path / "a.npz").labels is None
    np.savez(tmp_path / "a.npz", VECTORS, np.arange(3))
    refused(tmp_path / "a.npz", r"labels have shape \(3,\)")
    np.savez(tmp_path / "a.npz", VECTORS, VECTORS, VECTORS)
    refused(tmp_path / "a.npz", "holds arr_0, arr_1, arr_2")
    np.savez(tmp_path / "a.npz", PIXELS, mu=np.zeros(3), sigma=np.eye(3), mu_s=np.zeros(2), sigma_s=np.eye(2))
    with pytest.warns(FlowscopeWarning, match="was not read: mu, mu_s, sigma, sigma_s"):
        assert load(tmp_path / "a.npz").shape == (3, 9, 8)
    np.savez(tmp_path / "a.npz", mu=np.zeros(3), sigma=np.eye(3))
    refused(tmp_path / "a.npz", "holds statistics")


# HDF5


def hdf5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    return path


def test_an_array_in_one_piece_is_mapped_and_may_be_of_the_other_byte_order(tmp_path):
    path = hdf5(tmp_path / "a.h5", points=VECTORS.astype(">f4"))
    assert load(path).digest == load(VECTORS.astype(np.float32)).digest


def test_what_hdf5_files_must_not_do(tmp_path):
    other = hdf5(tmp_path / "other.h5", points=VECTORS)
    layout = h5py.VirtualLayout(shape=VECTORS.shape, dtype="f8")
    layout[:] = h5py.VirtualSource(str(other), "points", shape=VECTORS.shape)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("points", layout)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["points"] = h5py.ExternalLink(str(other), "points")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file.create_dataset("points", (2, 3), "f8", external=[(str(other), 0, 48)])
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_group("points")
    for name in "abcd":
        refused(tmp_path / f"{name}.h5", "points of .* is no array within the file")


@pytest.mark.slow
def test_hdf5_files_that_are_no_points(tmp_path, monkeypatch):
    refused(hdf5(tmp_path / "a.h5", x=VECTORS), "holds x; expected exactly one of points")
    both = hdf5(tmp_path / "b.h5", points=VECTORS, latents=VECTORS)
    refused(both, "several sets of points")
    assert load(both, columns="points").notes == ()
    refused(both, "expected one of", columns="nothing")
    refused(hdf5(tmp_path / "c.h5", points=VECTORS, labels=np.arange(3)), r"labels have shape \(3,\)")
    refused(hdf5(tmp_path / "d.h5", points=np.array([b"a", b"b"])), "expected numbers")
    refused(hdf5(tmp_path / "h.h5", points=VECTORS, classes=np.arange(3)), "expected texts: save them so")
    refused(hdf5(tmp_path / "i.h5", points=VECTORS, labels=formats.LABELS, classes=["a", "b"]), "are 2 names")
    refused(hdf5(tmp_path / "j.h5", points=VECTORS, labels=["a"] * 12, classes=["a"]), "labels .* are texts, and")
    with pytest.warns(FlowscopeWarning, match="was not read: extra"):
        load(hdf5(tmp_path / "e.h5", points=VECTORS, extra=VECTORS))
    whole = hdf5(tmp_path / "f.h5", points=np.zeros((4000, 50))).read_bytes()
    for stop in (0, 10, 1000, len(whole) - 1000):
        (tmp_path / "f.h5").write_bytes(whole[:stop])
        refused(tmp_path / "f.h5", "cannot be read|truncated")
    with h5py.File(tmp_path / "g.h5", "w") as file:  # claims 4 TB and stores nothing
        file.create_dataset("points", (10**6, 10**6), "f4", chunks=(100, 100), compression="gzip")
    refused(tmp_path / "g.h5", "GiB of memory are free")


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    path = hdf5(tmp_path / "a.h5", points=VECTORS)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"flowscope\[hdf5\]"):
        load(path)


def test_texts_of_several_lengths_are_names_of_classes(tmp_path):
    names = ["elephant", "ant", "bee"]
    data = load(hdf5(tmp_path / "a.h5", points=VECTORS, labels=names * 4))
    assert [data.class_name(y) for y in data.labels] == names * 4 and data.class_names[0] == "ant"
    data = load(hdf5(tmp_path / "b.h5", points=VECTORS, labels=formats.LABELS, classes=names))
    assert data.class_names == dict(enumerate(names)) and data.labels.tolist() == formats.LABELS.tolist()


def test_an_array_in_chunks_arrives_whole(tmp_path):
    values = np.arange(70_000 * 40, dtype="<i4").astype(">f4").reshape(70_000, 40)  # several blocks
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("points", data=values, chunks=(700, 9))
    np.testing.assert_array_equal(np.asarray(load(tmp_path / "a.h5").points), values)


def test_a_file_on_which_the_library_crashes_is_refused(tmp_path):
    path = hdf5(tmp_path / "a.h5", points=VECTORS)
    whole = bytearray(path.read_bytes())
    tree = whole.index(b"TREE")
    whole[tree + 5] = 1  # a node of the tree of names is its own child
    whole[tree + 32 : tree + 40] = tree.to_bytes(8, "little")
    path.write_bytes(whole)
    refused(path, "the HDF5 library crashed on it")


@pytest.mark.slow
def test_a_file_that_the_library_never_ends_reading_is_refused(tmp_path):
    path = hdf5(tmp_path / "a.h5", points=VECTORS)
    whole = bytearray(path.read_bytes())
    heap = whole.index(b"HEAP")
    free, data = (int.from_bytes(whole[heap + at : heap + at + 8], "little") for at in (16, 24))
    whole[data + free : data + free + 8] = free.to_bytes(8, "little")  # a list of free places that has no end
    path.write_bytes(whole)
    with pytest.raises(InputError, match="the HDF5 library gave no answer for 2 s"):
        load_hdf5(path, Part(), silent_seconds=2)


# CIFAR


def test_batches_of_both_parts_are_asked_for(tmp_path):
    path, _ = formats.write_cifar(tmp_path)
    refused(path, "batches of train and test")
    assert len(load(path, split="test")) == 4 and load(path / "data_batch_2").labels.tolist() == [1, 1, 2, 3]
    assert load(path / "data_batch_2").class_name(1) == "car"
    refused(path, "split is 'val'", split="val")


def test_two_kinds_of_labels_are_asked_for(tmp_path):
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"fine_labels": [1, 0], b"coarse_labels": [0, 0]}
    meta = {b"fine_label_names": [b"apple", b"bee"], b"coarse_label_names": [b"fruit"]}
    files = {"train": pickle.dumps(batch), "test": pickle.dumps(batch), "meta": pickle.dumps(meta)}
    path = formats.write_files(tmp_path / "c", files)
    refused(path, "fine_labels and coarse_labels", split="train")
    data = load(path, split="train", columns="fine_labels")
    assert data.labels.tolist() == [1, 0] and data.class_names == {0: "apple", 1: "bee"}


class Evil:
    def __reduce__(self):
        return (open, ("/tmp/flowscope-was-here", "w"))


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (Evil(), "asks for (io|_io|builtins).open, and flowscope never runs"),
        ({b"data": np.zeros((2, 3072), np.float32), b"labels": [0, 1]}, "not of bytes"),
        ({b"data": np.zeros((2, 3071), np.uint8), b"labels": [0, 1]}, "is no batch"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, "is no batch"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": ["a", "b"]}, "is no batch"),
        ({b"labels": [0]}, "is no batch"),
        ([1, 2], "holds a list"),
        ([[]] * 3_000_000, "steps"),
    ],
)
def test_pickles_that_are_no_batches_run_nothing(batch, said, tmp_path, monkeypatch):
    monkeypatch.setattr("flowscope.data.loaders.cifar.MAX_STEPS", 10_000)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(batch, protocol=3))
    refused(tmp_path / "data_batch_1", said)


def test_binary_batches_and_damaged_ones(tmp_path):
    (tmp_path / "test_batch.bin").write_bytes(bytes(3073))
    refused(tmp_path, "version for Python")
    refused(tmp_path / "test_batch.bin", "version for Python")
    whole = formats.cifar_batches()["data_batch_1"]
    for stop in (0, 3, 100, len(whole) - 5):
        (tmp_path / "data_batch_1").write_bytes(whole[:stop])
        refused(tmp_path / "data_batch_1", "cannot be read|never runs pickled code")


# .csv


def text(tmp_path, *lines):
    (tmp_path / "a.csv").write_text("\n".join(lines))
    return tmp_path / "a.csv"


def test_headers_labels_and_marks_of_other_programs(tmp_path):
    bare = load_table(text(tmp_path, "1,3", "3,4"))
    assert bare.points.tolist() == [[1, 3], [3, 4]] and bare.labels is None
    (tmp_path / "b.csv").write_bytes('\ufeff"a",label\r\n1.5,3\r\n\r\n2e-1,0\r\n'.encode())
    data = load_table(tmp_path / "b.csv")
    assert data.points.tolist() == [[1.5], [0.2]] and data.labels.tolist() == [3, 0] and data.class_names is None
    assert load_table(text(tmp_path, "a,b,label", "1,2,0"), columns="b").points.tolist() == [[2]]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["a,b", "1,2", "3,x"], r"line 3, column 2 \(b\) of .* is 'x'; expected a number"),
        (["1.0,2", "3,"], r"line 2, column 2 \(2\) of .* is ''"),
        (["1.0,2", "3"], "line 2 of .* has 1 cells and the first has 2"),
        (["1;2", "3;4"], "separated by ;: expected commas"),
        ([",a", "0,1"], "column 1 of .* has no name"),
        (["a,a", "0,1"], "two columns 'a'"),
        (["a,label,cls", "0,1,1"], r"several columns of labels \(label and cls\)"),
        (["a,label", "0,"], "expected a number|no label|labels have"),
        (["a,label", "0,1", "0,x"], "both numbers and names|labels"),
        (["label", "1"], "no column of coordinates"),
        (["a,b"], "a header and no rows"),
        ([], "is empty"),
        (["1,nan"], "finite"),
        (['"1,2'], "cannot be read"),
    ],
)
def test_tables_that_are_no_vectors(lines, said, tmp_path):
    if lines == ["a,label", "0,1", "0,x"]:
        assert load_table(text(tmp_path, *lines)).class_names == {0: "1", 1: "x"}  # texts, all of them
    elif lines == ["a,label", "0,"]:
        assert load_table(text(tmp_path, *lines)).labels is None
    elif lines == ["1,nan"]:
        with pytest.raises(InputError, match=said):
            _ = load(text(tmp_path, *lines)).digest
    else:
        refused(text(tmp_path, *lines), said)


def test_the_first_row_is_names_or_a_point_and_never_guessed(tmp_path):
    for first in ("0,1,2", "1,2,3", "0", "3,7,12"):
        refused(text(tmp_path, first, *[",".join(["0.5"] * len(first.split(",")))] * 3), "name the columns in line 1")
    assert load_table(text(tmp_path, "0.0,1,2", "0.5,1,3")).points.tolist() == [[0, 1, 2], [0.5, 1, 3]]
    refused(text(tmp_path, "1.5,2O", "1,2"), r"line 1, column 2 of .* is '2O'")
    refused(text(tmp_path, "0x10,1_000", "1,2"), r"line 1, column 1 of .* is '0x10'")
    refused(text(tmp_path, ",1,2", "0,3,4"), r"line 1, column 1 of .* is ''")
    data = load_table(text(tmp_path, "", "x 1,_b", "1,2"))
    assert data.points.tolist() == [[1, 2]] and data.notes == ("Line 2 of a.csv is the names of its columns: x 1, _b.",)


def test_columns_that_count_rows_are_asked_about_and_a_target_is_a_label(tmp_path):
    for name in ("id", "Index", "idx", "Unnamed: 0"):
        refused(text(tmp_path, f"{name},x,y,target", "0,1,2,1"), r"columns='x,y,target' \(--columns\)")
    data = load_table(text(tmp_path, "id,x,y,target", "0,1,2,1"), columns="x,y,target")
    assert data.points.tolist() == [[1, 2]] and data.labels.tolist() == [1]
    assert load_table(text(tmp_path, "x,target", "0,bee", "1,ant")).class_names == {0: "ant", 1: "bee"}
    refused(text(tmp_path, "x,target", "0,0.5", "1,0.25"), "column target of .* is '0.5'; expected labels")
    refused(text(tmp_path, "x1,x2,y", "0,1,1"), "'y', which may be a coordinate or a label")


def test_other_separators_are_named(tmp_path):
    for first, word in (("a;b", ";"), ("1,5;2,5", ";"), ("a\tb", "tabs"), ("0.5\t2", "tabs"), ("0.5 2.5", "spaces")):
        refused(text(tmp_path, first, first), f"separated by {word}: expected commas")


def test_of_several_arrays_the_line_that_saves_one_alone_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = np.arange(6.0).reshape(3, 2)
    both = {"points": values, "latents": values + 1}
    np.savez(tmp_path / "a.npz", **both)
    np.savez(tmp_path / "b.npz", x=values, y=values)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["points"], file["latents"] = both.values()
    tensors = {name: torch.from_numpy(array) for name, array in both.items()}
    safetensors.torch.save_file(tensors, tmp_path / "d.safetensors")
    torch.save(tensors, tmp_path / "e.pt")
    for name in ("a.npz", "b.npz", "c.h5", "d.safetensors", "e.pt"):
        line = refused(tmp_path / name, "save the one that holds points alone").partition("such as by ")[2]
        exec(line, {"numpy": np, "h5py": h5py, "torch": torch, "safetensors": safetensors})
        made = next(tmp_path.glob("points.*"))
        assert load(made).digest == load(values).digest
        made.unlink()

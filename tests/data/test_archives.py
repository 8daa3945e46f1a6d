"""Archives, samples of WebDataset and index files: read as their own readers read them, and no harm from bad ones."""

import gc
import gzip
import io
import json
import re
import stat
import tarfile
import unicodedata
import zipfile

import numpy as np
import pytest

from flowscope.cli import main
from flowscope.data import load
from flowscope.errors import FlowscopeWarning, InputError
from tests.support import formats
from tests.support.formats import PIXELS, by_class, encoded, in_chunks, samples, write_tar_of, write_zip_of
from tests.support.refusals import refused

WRITERS = [
    formats.write_class_folders,
    formats.write_zip,
    formats.write_tar,
    formats.write_tar_gz,
    formats.write_edm_folder,
    formats.write_edm_zip,
    formats.write_webdataset,
    formats.write_webdataset_shards,
    formats.write_metadata_jsonl,
    formats.write_metadata_csv,
]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_every_format_is_the_set_that_was_written(write, tmp_path):
    path, expected = write(tmp_path)
    data = load(path)
    assert data.digest == expected.digest  # points and labels
    assert data.class_names == expected.class_names
    assert data.notes == () and len(data.files) == len(data) and data.source == str(path)
    part = load(path, subset=3, flips=True)
    assert part.digest == load(expected, subset=3, flips=True).digest


def test_an_archive_is_read_without_unpacking_and_image_by_image(tmp_path, monkeypatch):
    path, _ = formats.write_zip(tmp_path)
    there = sorted(tmp_path.rglob("*"))
    opened, names = zipfile.ZipFile.open, []
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda z, e, *a: (names.append(e.filename), opened(z, e, *a))[1])
    load(path, classes="bee", subset=2)
    assert len(names) == 2 and sorted(tmp_path.rglob("*")) == there


# what leads out of an archive, or is more than it seems


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "cat/../../a.png", "C:/a.png", "cat\\a.png"])
@pytest.mark.parametrize("write", [write_zip_of, write_tar_of])
def test_names_that_leave_an_archive_are_refused(name, write, tmp_path, capsys):
    path = write(tmp_path / ("a.zip" if write is write_zip_of else "a.tar"), by_class() | {name: encoded(PIXELS[0])})
    refused(path, "leads out of it")
    assert main(["info", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, "zip"])
def test_links_and_devices_in_an_archive_are_refused(kind, tmp_path):
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            link = zipfile.ZipInfo("b.png")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, "/etc/passwd")
        refused(tmp_path / "a.zip", "b.png of .* is a link")
        return
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("b.png")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    refused(tmp_path / "a.tar", "b.png of .* is (a link|no plain file)")


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz"])
def test_a_truncated_archive_is_refused(suffix, tmp_path):
    kind = {"zip": formats.write_zip, "tar": formats.write_tar, "tar.gz": formats.write_tar_gz}[suffix]
    path, _ = kind(tmp_path)
    whole = path.read_bytes()
    with tarfile.open(path) if suffix != "zip" else io.BytesIO() as archive:
        header = archive.getmembers()[5].offset if suffix == "tar" else len(whole) // 2
    for stop in {len(whole) // 3, header, 100, 1, 0}:
        path.write_bytes(whole[:stop])
        refused(path, "truncated|cannot be read|does not end")


def test_a_foreign_block_is_not_the_end_of_a_tar(tmp_path):
    """tarfile stops there without a word."""
    path, _ = formats.write_tar(tmp_path)
    whole = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        at = archive.getmembers()[5].offset
    whole[at : at + 512] = b"\x07" * 512
    path.write_bytes(bytes(whole))
    refused(path, "does not end as a .tar ends")
    one = (formats.write_tar(tmp_path))[0].read_bytes()
    path.write_bytes(one + one)
    refused(path, "several in one")


def test_encrypted_and_rare_compressions_are_refused(tmp_path):
    path, _ = formats.write_zip(tmp_path)
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    raw[start + 8] |= 1
    path.write_bytes(bytes(raw))
    refused(path, "is encrypted")
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.png", encoded(PIXELS[0]))
    refused(tmp_path / "b.zip", "compressed by method 14")


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz"])
def test_what_claims_more_than_there_is_memory_is_refused(suffix, tmp_path, monkeypatch):
    write = write_zip_of if suffix == "zip" else write_tar_of
    how = ("w:gz",) if suffix == "tar.gz" else ()
    path = write(tmp_path / f"a.{suffix}", {"a.png": bytes(40 << 20)}, *how)
    monkeypatch.setattr("flowscope.core.memory.available_memory", lambda: 10 << 20)
    refused(path, "takes 0.[01] GiB, and 0.0 GiB of memory are free")


def test_an_entry_that_holds_more_than_it_claims_is_refused(tmp_path):
    path = write_zip_of(tmp_path / "a.zip", {"a.png": bytes(1 << 20)})
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    raw[start + 24 : start + 28] = (10).to_bytes(4, "little")
    path.write_bytes(bytes(raw))
    refused(path, "cannot be read")


def test_one_name_twice_is_refused(tmp_path):
    one = write_tar_of(tmp_path / "a.tar", {"a.png": encoded(PIXELS[0]), "./a.png": encoded(PIXELS[1])})
    refused(one, "holds 'a.png' twice")


# what a set of files means


def test_the_folder_that_zip_adds_is_no_class(tmp_path):
    path = write_zip_of(tmp_path / "pets.zip", {f"pets/{name}": data for name, data in by_class().items()})
    with pytest.warns(FlowscopeWarning, match="All lies in the folder pets"):
        data = load(path)
    assert data.class_names == {0: "ant", 1: "bee", 2: "cat"}
    edm = write_zip_of(tmp_path / "edm.zip", {f"x/y/{name}": data for name, data in in_chunks().items()})
    with pytest.warns(FlowscopeWarning, match="folder x/y"):
        assert load(edm).labels.tolist() == formats.MIXED.tolist()


def test_debris_of_macos_is_passed_over(tmp_path):
    files = by_class() | {"__MACOSX/ant/._00.png": b"x", ".DS_Store": b"x", "ant/.hidden.png": b"x"}
    with pytest.warns(FlowscopeWarning, match="skipped: 2 hidden"):
        assert load(write_zip_of(tmp_path / "a.zip", files)).class_names == {0: "ant", 1: "bee", 2: "cat"}


def test_parts_of_an_archive_are_asked_for(tmp_path):
    files = {f"{part}/{name}": data for part in ("train", "val") for name, data in by_class().items()}
    path = write_tar_of(tmp_path / "a.tar", files)
    refused(path, "look like parts of a data set")
    assert load(path, split="val").name == "a/val" and len(load(path, split="val")) == 12


def test_names_are_one_however_their_characters_are_written(tmp_path):
    name = "caf\u00e9"
    for form in ("NFC", "NFD"):
        written = unicodedata.normalize(form, name)
        formats.write_files(
            tmp_path / form, {f"{written}/{written}.png": encoded(PIXELS[0]), "b/1.png": encoded(PIXELS[1])}
        )
        data = load(tmp_path / form)
        assert data.class_names == {0: "b", 1: name} and data.files == ("b/1.png", f"{name}/{name}.png")
        assert len(load(tmp_path / form, classes=unicodedata.normalize("NFD", name))) == 1
    twice = {unicodedata.normalize(form, name) + "/1.png": encoded(PIXELS[0]) for form in ("NFC", "NFD")}
    refused(formats.write_files(tmp_path / "both", twice), "twice")


# WebDataset


def webdataset_reads(urls):
    """(key, image, label) of each sample, by the package itself."""
    import webdataset

    found = []
    for sample in webdataset.WebDataset([str(url) for url in urls], shardshuffle=False, empty_check=False).decode(
        "rgb8"
    ):
        label = sample.get("cls", sample.get("json", {}).get("label"))
        found.append((sample["__key__"], sample["png"], label))
    gc.collect()  # what the package leaves open is not closed in another test
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("shards", [False, True])
def test_samples_are_those_of_webdatasets_own_reader(shards, tmp_path):
    path, _ = (formats.write_webdataset_shards if shards else formats.write_webdataset)(tmp_path)
    theirs = webdataset_reads(sorted(path.glob("*.tar")) if shards else [path])
    data = load(path)
    assert data.labels.tolist() == [label for _, _, label in theirs]
    np.testing.assert_array_equal(data.points, formats.points_of(np.stack([image for _, image, _ in theirs])))
    assert [name.partition(":")[2] or name for name in data.files] == [f"{key}.png" for key, _, _ in theirs]


def test_captions_and_second_images_are_named(tmp_path):
    files = samples() | {f"{i:06}.txt": b"a cat" for i in range(12)}
    with pytest.warns(FlowscopeWarning, match=r"skipped: 12 by their ending \.txt\.$"):
        assert load(write_tar_of(tmp_path / "a.tar", files)).labels is not None
    refused(write_tar_of(tmp_path / "b.tar", samples() | {"000003.seg.png": encoded(PIXELS[0])}), "2 images of the key")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"000000.json": b'{"label": 7}'}, "labels of .* disagree"),
        ({"000001.json": b'{"label": 1, "cls": 2}'}, "labels of .* disagree"),
        ({"000001.json": b"{}"}, "has no label for 000001.png"),
        ({"000000.cls": b"ant"}, "expected a whole number in .cls"),
        ({"000000.cls": b"-3"}, "has the label '-3'"),
        ({"000001.json": b'{"label": 1.5}'}, "has the label '1.5'"),
        ({"000001.json": b'{"label": "ant"}'}, "both numbers and names"),
        ({"000001.json": b"{"}, "cannot be read"),
        ({"000012.cls": b"1"}, "a label for 000012 and no image"),
    ],
)
def test_labels_that_do_not_fit_their_images(more, said, tmp_path):
    refused(write_tar_of(tmp_path / "a.tar", samples() | more), said)


def test_a_tar_of_images_without_labels_has_none(tmp_path):
    files = {
        f"{i:06}.{end}": data for i in range(3) for end, data in (("png", encoded(PIXELS[i])), ("json", b'{"a": 1}'))
    }
    with pytest.warns(FlowscopeWarning, match="3 by their ending .json"):
        assert load(write_tar_of(tmp_path / "a.tar", files)).labels is None


def test_a_shard_that_is_missing_and_shards_of_several_parts(tmp_path):
    path, _ = formats.write_webdataset_shards(tmp_path)
    write_tar_of(path / "val-000000.tar", samples())
    assert "--split train" in refused(path, "files of train and val")
    assert load(path, split="val").name == "shards/val"
    assert load(path, split="train").digest == load(path, split="train").digest
    (path / "train-000001.tar").unlink()
    refused(path, "expected each number once", split="train")
    refused(path, "has the parts train, val", split="test")


# metadata files, as imagefolder reads them


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "write", [formats.write_class_folders, formats.write_metadata_jsonl, formats.write_metadata_csv]
)
def test_folders_are_those_of_imagefolder(write, tmp_path):
    import datasets

    path, _ = write(tmp_path)
    theirs = datasets.load_dataset("imagefolder", data_dir=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    data = load(path)
    np.testing.assert_array_equal(data.points, formats.points_of(np.stack([np.asarray(x) for x in theirs["image"]])))
    said = theirs["label"]
    gc.collect()  # what the package leaves open is not closed in another test
    assert said == ([data.class_name(y) for y in data.labels] if isinstance(said[0], str) else data.labels.tolist())


def indexed(folder, lines, name="metadata.jsonl"):
    files = {f"{i}.png": encoded(PIXELS[i]) for i in range(3)}
    return formats.write_files(folder, files | {name: "\n".join(lines).encode()})


GOOD = [json.dumps({"file_name": f"{i}.png", "label": i}) for i in range(3)]


def test_images_that_are_not_listed_are_left_out_and_counted(tmp_path):
    with pytest.warns(FlowscopeWarning, match=r"metadata.jsonl does not list: 1\.$"):
        assert load(indexed(tmp_path, GOOD[:2])).labels.tolist() == [0, 1]


def test_columns_that_are_not_read_are_named(tmp_path):
    lines = [json.dumps({"file_name": f"{i}.png", "text": "a cat"}) for i in range(3)]
    with pytest.warns(FlowscopeWarning, match=r"Of metadata.jsonl was not read: text\.$"):
        assert load(indexed(tmp_path, lines)).labels is None


@pytest.mark.parametrize(
    ("lines", "name", "said"),
    [
        ([*GOOD, '{"file_name": "9.png", "label": 1}'], "metadata.jsonl", "line 4 of .* there is no such image"),
        ([*GOOD, '{"file_name": "../0.png", "label": 1}'], "metadata.jsonl", "there is no such image"),
        ([*GOOD, GOOD[0]], "metadata.jsonl", "lists 0.png twice"),
        ([*GOOD, "{"], "metadata.jsonl", "cannot be read"),
        ([*GOOD, "[1]"], "metadata.jsonl", "line 4 of .* is no object"),
        (['{"label": 1}'], "metadata.jsonl", "line 1 of .* has no file_name"),
        ([*GOOD[:2], '{"file_name": "2.png"}'], "metadata.jsonl", "has no label for 2.png"),
        (['{"file_name": "0.png", "label": 1, "cls": 1}'], "metadata.jsonl", "labels in several places"),
        (["file_name,label", "0.png,1,2"], "metadata.csv", "not as many cells"),
        (["file,label", "0.png,1"], "metadata.csv", "no file_name"),
        ([], "metadata.csv", "lists no image"),
        (GOOD, "metadata.parquet", "save it as one"),
    ],
)
def test_metadata_that_does_not_fit_its_images(lines, name, said, tmp_path):
    refused(indexed(tmp_path, lines, name), said)


def test_labels_in_two_places_are_refused(tmp_path):
    path = indexed(tmp_path, GOOD)
    (path / "dataset.json").write_text('{"labels": null}')
    refused(path, "holds dataset.json and metadata.jsonl")


def test_gzip_that_is_no_tar(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"hello" * 500))
    refused(tmp_path / "a.gz", "expected a .tar")


@pytest.mark.parametrize("what", ["name in front of the file", "compressed bytes", "checksum", "no name"])
def test_a_damaged_index_in_a_zip_is_refused(tmp_path, what):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", encoded(PIXELS[0]))
        archive.writestr("dataset.json", json.dumps({"labels": [["a.png", 3]]}) + " " * 500)
    whole = bytearray(path.read_bytes())
    first, last = whole.index(b"dataset.json"), whole.rindex(b"dataset.json")
    if what == "name in front of the file":
        whole[first] ^= 1
    elif what == "compressed bytes":
        whole[first + 14] ^= 0xFF
    elif what == "checksum":
        whole[last - 46 + 16] ^= 1
    else:
        whole[last] = 0  # a name ends at a zero byte
    path.write_bytes(whole)
    with pytest.raises(InputError, match=re.escape(str(path))):
        load(path)

"""Folders of images: their labels and splits, what is skipped and said, and pictures that are stored in odd ways."""

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features
from safetensors.numpy import save_file

from flowscope.data import load
from flowscope.errors import FlowscopeWarning
from tests.support.refusals import refused

RNG = np.random.default_rng(4)
PIXELS = RNG.integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)


def save(path, i=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS[i]).save(path)


# classes


def test_numeric_names_come_in_numeric_order_and_a_class_is_its_name(tmp_path):
    for k in range(12):
        save(tmp_path / str(k) / "a.png", k)
    data = load(tmp_path)
    assert data.class_names == {label: str(label) for label in range(12)}
    assert data.labels.tolist() == list(range(12))
    for k in (2, 10):
        chosen = load(tmp_path, classes=str(k))
        assert chosen.labels.tolist() == [k] == load(tmp_path, classes=k).labels.tolist()
        np.testing.assert_array_equal(chosen.points[0], load(PIXELS[k : k + 1]).points[0])


def test_a_name_wins_over_a_label_of_the_same_digits(tmp_path):
    for k, name in enumerate(("1", "2", "3")):
        save(tmp_path / name / "a.png", k)
    assert load(tmp_path, classes="1").labels.tolist() == [0]
    assert load(tmp_path, classes=1).labels.tolist() == [1]  # an integer is a label
    refused(tmp_path, "expected one of 1, 2, 3", classes="0")


# dataset.json


def chunked(root, labels):
    for i in range(6):
        save(root / f"{i // 3:05d}" / f"img{i:08d}.png", i)
    names = [f"{i // 3:05d}/img{i:08d}.png" for i in range(6)]
    pairs = None if labels is None else [list(pair) for pair in zip(names, labels, strict=True)]
    (root / "dataset.json").write_text(json.dumps({"labels": pairs}))
    return root


def test_chunks_are_no_classes_where_dataset_json_has_the_labels(tmp_path):
    data = load(chunked(tmp_path, [3, 1, 4, 1, 5, 9]))
    assert data.labels.tolist() == [3, 1, 4, 1, 5, 9] and data.class_names is None
    with pytest.warns(FlowscopeWarning, match="subfolders beside it are chunks, no classes"):
        plain = load(chunked(tmp_path, None), classes=None)
    assert plain.labels is None
    np.testing.assert_array_equal(plain.points, data.points)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"labels": [["00000/img00000000.png", 1]]}', "does not list 00000/img00000001.png"),
        ('{"labels": [["a.png", 1], ["b.png", 1], ["a.png", 2]]}', "lists a.png twice"),
        ('{"labels": {}}', "does not list"),
        ('{"images": 3}', "expected"),
        ("[1, 2]", "expected"),
        ("{", "expected"),
        ('{"labels": [["a.png", 1.5]]}', "has the label '1.5'"),
        ('{"labels": [["a.png", [0, 1]]]}', "has the label"),
        ('{"labels": [["a.png", true]]}', "has the label"),
        ('{"labels": [["a.png", -1]]}', "has the label '-1'"),
        ('{"labels": [3, 4]}', "expected"),
    ],
)
def test_a_dataset_json_that_is_not_of_these_images(tmp_path, content, said):
    chunked(tmp_path, None)
    (tmp_path / "dataset.json").write_text(content)
    refused(tmp_path, said)


def test_a_dataset_json_with_images_that_are_not_there(tmp_path):
    chunked(tmp_path, [0, 1, 2, 3, 4, 5])
    (tmp_path / "00001" / "img00000005.png").unlink()
    refused(tmp_path, "lists 6 images of 5")


CHUNKS = {
    "EDM": ["00000/img00000998.png", "00000/img00000999.png", "00001/img00001000.png"],
    "FFHQ": ["00000/00007.png", "01000/01000.png", "01000/01001.png"],
    "img2dataset": ["00000/000000000.png", "00000/000000001.png", "00001/000010000.png"],
    "one": ["00000/00003.png", "00000/00004.png"],
}
CLASSES = {
    "GTSRB": ["00000/00000_00000.png", "00000/00000_00001.png", "00001/00000_00000.png"],
    "mixed": ["00000/00005.png", "00001/00002.png", "00001/00009.png"],
    "short": ["0000/00.png", "0001/01.png"],
    "words": ["00000/cat.png", "00001/dog.png"],
    "widths": ["00000/1.png", "000001/2.png"],
}


@pytest.mark.parametrize("kind", CHUNKS)
def test_folders_of_running_numbers_are_chunks_and_no_classes(tmp_path, kind):
    for k, name in enumerate(CHUNKS[kind]):
        save(tmp_path / name, k)
    with pytest.warns(FlowscopeWarning, match="of files with running numbers, not of a class"):
        data = load(tmp_path)
    assert data.labels is None and list(data.files) == CHUNKS[kind]


@pytest.mark.parametrize("kind", CLASSES)
def test_folders_of_numbers_are_classes_where_files_do_not_run_through(tmp_path, kind):
    for k, name in enumerate(CLASSES[kind]):
        save(tmp_path / name, k)
    data = load(tmp_path)
    assert [data.class_name(y) for y in data.labels] == [name.partition("/")[0] for name in CLASSES[kind]]


# train, val and test


def test_parts_of_a_data_set_are_asked_for(tmp_path):
    for k, path in enumerate(("train/dress", "train/hat", "test/dress")):
        save(tmp_path / path / "a.png", k)
    said = refused(tmp_path, "split='test'")
    assert "--split none" in said
    data = load(tmp_path, split="train")
    assert data.class_names == {0: "dress", 1: "hat"} and data.labels.tolist() == [0, 1]
    assert data.name == f"{tmp_path.name}/train"
    assert data.digest == load(tmp_path / "train").digest
    assert load(tmp_path, split="none").class_names == {0: "test", 1: "train"}
    refused(tmp_path, "subfolders test, train", split="val")
    refused(tmp_path / "train" / "hat" / "a.png", "has no parts", split="train")


def test_a_class_may_be_called_train(tmp_path):
    for name in ("aeroplane", "bus", "train"):
        save(tmp_path / name / "a.png")
    assert load(tmp_path).class_names == {0: "aeroplane", 1: "bus", 2: "train"}
    refused(tmp_path / "..", "split", split="nosuch")


def test_shards_of_several_parts_are_not_joined(tmp_path):
    for name in ("train-00000-of-00001", "test-00000-of-00001"):
        save_file({"points": RNG.standard_normal((3, 2))}, tmp_path / f"{name}.safetensors")
    refused(tmp_path, "shards of test and train")
    (tmp_path / "test").mkdir()
    (tmp_path / "test-00000-of-00001.safetensors").rename(tmp_path / "test" / "test-00000-of-00001.safetensors")
    assert len(load(tmp_path, split="test")) == 3
    with pytest.warns(FlowscopeWarning, match="1 in subfolders"):
        assert len(load(tmp_path, split="none")) == 3


# what is skipped


def test_what_is_skipped_is_counted_and_said(tmp_path):
    save(tmp_path / "cat" / "a.png")
    for name in ("b.jxl", "c.jxl", "notes.txt", "README"):
        (tmp_path / "cat" / name).write_bytes(b"x")
    (tmp_path / "cat" / ".d.png").write_bytes(b"x")
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "e.jxl").write_bytes(b"x")
    with pytest.warns(FlowscopeWarning) as caught:
        data = load(tmp_path)
    skipped = "Files were skipped: 3 by their ending .jxl, 1 by their ending .txt, 1 hidden, 1 without an ending."
    assert data.notes == (skipped, "Subfolders hold no image and are no classes: dog.")
    assert [str(w.message) for w in caught] == [f"{tmp_path.name}: {note}" for note in data.notes]
    assert load(data, subset=1).notes == data.notes  # and is not said again


def test_nothing_is_said_where_nothing_is_skipped(tmp_path):
    save(tmp_path / "cat" / "a.png")
    assert load(tmp_path).notes == ()


# pictures


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPG", ".apng", ".avif", ".webp", ".jp2", ".j2k"])
def test_endings_of_the_formats_that_are_read(tmp_path, suffix):
    kind = {".apng": "PNG", ".avif": "AVIF", ".webp": "WEBP", ".jp2": "JPEG2000", ".j2k": "JPEG2000"}.get(
        suffix, "JPEG"
    )
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    (tmp_path / "cat").mkdir()
    Image.fromarray(PIXELS[0]).save(tmp_path / "cat" / f"a{suffix}", kind)
    save(tmp_path / "dog" / "b.png", 1)
    data = load(tmp_path)
    assert data.class_names == {0: "cat", 1: "dog"}
    assert data.notes == ()
    if kind == "JPEG2000":  # without loss
        np.testing.assert_array_equal(data.points[0], load(PIXELS[:1]).points[0])


def test_a_rotated_picture_is_turned_upright_by_its_tag(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 270 degrees
    picture = Image.fromarray(PIXELS[0])
    picture.save(tmp_path / "a.png")
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "b.png", exif=exif)
    data = load(tmp_path)
    np.testing.assert_array_equal(data.points[0], data.points[1])


def test_what_nobody_sees_makes_no_difference(tmp_path):
    alpha = np.full((6, 5, 1), 255, np.uint8)
    alpha[2:4], alpha[4] = 0, 128
    one, other = np.concatenate([PIXELS[0], alpha], -1), np.concatenate([PIXELS[0], alpha], -1)
    other[2:4, :, :3] = 77
    for i, image in enumerate((one, other)):
        Image.fromarray(image, "RGBA").save(tmp_path / f"{i}.png")
    with pytest.warns(FlowscopeWarning, match="Transparent pixels are shown on black, in 2 images"):
        data = load(tmp_path)
    np.testing.assert_array_equal(data.points[0], data.points[1])
    expected = np.round(PIXELS[0] * (alpha / 255)).astype(np.uint8)
    np.testing.assert_array_equal(data.points[0], load(expected[None]).points[0])


def test_an_opaque_alpha_channel_is_nothing_to_speak_of(tmp_path):
    for suffix in ("png", "webp"):
        Image.fromarray(PIXELS[0]).convert("RGBA").save(tmp_path / f"a.{suffix}", lossless=True)
    data = load(tmp_path)
    assert data.notes == ()
    for point in data.points:
        np.testing.assert_array_equal(point, load(PIXELS[:1]).points[0])


def deep_png(colours):
    """A PNG of 16 bits a channel: colour type 2 is RGB, 4 grey with alpha, 6 RGBA."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    values = RNG.integers(0, 65536, (4, 5 * {2: 3, 4: 2, 6: 4}[colours])).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    head = struct.pack(">IIBBBBB", 5, 4, 16, colours, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", [2, 4, 6, "ppm"])
def test_16_bits_a_channel_are_never_cut_to_8(tmp_path, kind):
    if kind == "ppm":
        values = RNG.integers(0, 65536, 60).astype(">u2").tobytes()
        (tmp_path / "a.ppm").write_bytes(b"P6\n5 4\n65535\n" + values)
    else:
        (tmp_path / "a.png").write_bytes(deep_png(kind))
    refused(tmp_path, "more than 8 bits a channel; expected 8 bits")


PIXI = [(b"pixi", 5 + channel, 10 ^ 8) for channel in range(3)]  # 10 bits, where AVIF says it again


def test_deep_jpeg_2000_and_avif_are_refused(tmp_path):
    """Pillow reads both as 8 bits without a word; the depth is written into files of 8 bits here."""
    for name, changes in (("a.j2k", [(b"\xff\x4f\xff\x51", 38, 0x0F)]), ("a.avif", [(b"av1C", 2, 0x40), *PIXI])):
        if name == "a.avif" and not features.check("avif"):
            continue
        Image.fromarray(PIXELS[0]).save(tmp_path / name)
        content = bytearray((tmp_path / name).read_bytes())
        for mark, skip, bits in changes:
            content[content.index(mark) + len(mark) + skip] |= bits
        (tmp_path / name).write_bytes(bytes(content))
        refused(tmp_path, "more than 8 bits a channel")
        (tmp_path / name).unlink()


def test_a_ppm_of_fewer_grey_levels_is_scaled(tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"P6\n2 2\n100\n" + bytes([100, 0, 50] * 4))
    assert load(tmp_path).points[0, :, 0, 0].tolist() == pytest.approx([1, -1, 0], abs=0.01)


# where points came from


def test_a_set_knows_the_file_of_each_point_and_its_folder(tmp_path):
    for k, name in enumerate(("cat/2.png", "cat/1.png", "dog/1.png")):
        save(tmp_path / name, k)
    data = load(tmp_path)
    assert data.files == ("cat/1.png", "cat/2.png", "dog/1.png") and data.source == str(tmp_path)
    assert load(tmp_path, classes="dog", flips=True).files == ("dog/1.png",)
    part = load(data, subset=2, seed=1)
    for name, point in zip(part.files, part.points, strict=True):
        np.testing.assert_array_equal(point, data.points[data.files.index(name)])
    assert load(np.zeros((3, 2))).files is None


def test_a_broken_image_that_is_left_out_takes_its_name_along(tmp_path):
    save(tmp_path / "a.png", 0)
    (tmp_path / "b.png").write_bytes(b"no image")
    save(tmp_path / "c.png", 1)
    with pytest.warns(FlowscopeWarning, match="left out"):
        kept = load(tmp_path, skip_broken=True)
    assert kept.files == ("a.png", "c.png")

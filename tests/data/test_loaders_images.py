"""load of image folders and JPEG bytes: what Pillow shows, labels from subfolders, and no harm from bad files."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from flowscope.data import load
from flowscope.data.assemble import assemble
from flowscope.data.loaders.image_folder import load_folder
from flowscope.data.options import Options
from flowscope.data.rows.mapped_rows import MappedRows
from flowscope.errors import FlowscopeWarning
from tests.support.refusals import refused

RNG = np.random.default_rng(2)
PIXELS = RNG.integers(0, 256, (9, 6, 5, 3), dtype=np.uint8)


def save_classes(root, names=("cat", "dog", "emu"), suffix="png"):
    """Three images a class, in the order of PIXELS."""
    for i, image in enumerate(PIXELS):
        folder = root / names[i // 3]
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.{suffix}")
    return root


def png_of_size(width, height):
    """A tiny file that claims a vast image."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "PNG"])
def test_folders_give_the_pixels_and_labels(tmp_path, suffix):
    data = load(save_classes(tmp_path, suffix=suffix))
    expected = load(PIXELS, labels=np.repeat([0, 1, 2], 3))
    np.testing.assert_array_equal(data.points, expected.points)
    assert data.digest == expected.digest
    assert data.class_names == {0: "cat", 1: "dog", 2: "emu"}
    assert data.name == tmp_path.name


def test_a_flat_folder_has_no_labels_and_comes_in_order(tmp_path):
    for i, image in enumerate(PIXELS):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_text("passed over")
    (tmp_path / "empty").mkdir()
    with pytest.warns(FlowscopeWarning, match=r"skipped: 1 by their ending \.txt, 1 hidden\.$"):
        data = load(str(tmp_path))
    assert data.labels is None
    assert data.digest == load(PIXELS).digest


def test_deeper_folders_belong_to_their_class(tmp_path):
    save_classes(tmp_path)
    (tmp_path / "dog" / "more").mkdir()
    (tmp_path / "dog" / "5.png").rename(tmp_path / "dog" / "more" / "5.png")
    np.testing.assert_array_equal(load(tmp_path).labels, np.repeat([0, 1, 2], 3))


def test_options_on_folders_are_options_on_arrays(tmp_path):
    save_classes(tmp_path)
    whole = load(tmp_path)
    for options in (
        {"classes": "dog"},
        {"subset": 4, "seed": 3},
        {"flips": True},
        {"classes": [0, "emu"], "subset": 2},
    ):
        assert load(tmp_path, **options).digest == load(whole, **options).digest
    assert load(tmp_path, grey=True).shape == (1, 6, 5)
    assert load(tmp_path, resize=(4, 7)).shape == (3, 4, 7)
    assert load(tmp_path, weights=np.arange(1, 10), classes=1).weights.tolist() == [4, 5, 6]


def test_only_chosen_images_are_decoded(tmp_path):
    save_classes(tmp_path)
    chosen = load(tmp_path, classes="dog", subset=2)
    for file in tmp_path.rglob("*.*"):
        if file.relative_to(tmp_path).as_posix() not in chosen.files:
            file.write_bytes(b"no image")
    assert load(tmp_path, classes="dog", subset=2).digest == chosen.digest
    refused(tmp_path, "cannot be read", classes="dog")


def test_more_pixels_than_pillow_takes_are_refused_and_large_files_are_read(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (700, 800, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1 << 20
    np.testing.assert_array_equal(load(tmp_path).points, load(noise[None]).points)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500_000)
    refused(tmp_path, "a.png has 700 x 800 pixels; expected at most 500,000: shrink it")


def test_every_kind_of_image_becomes_three_channels(tmp_path):
    colour = Image.fromarray(PIXELS[0])
    clear = colour.quantize(8)
    clear.info["transparency"] = bytes([0, 128, 255])
    kinds = [colour, colour.convert("L"), colour.convert("1"), colour.convert("P"), colour.convert("RGBA"), clear]
    for i, image in enumerate(kinds):
        image.save(tmp_path / f"{i}.png")
    colour.convert("CMYK").save(tmp_path / "7.tiff")
    colour.convert("LA").save(tmp_path / "8.png")
    with (
        pytest.warns(FlowscopeWarning, match="Transparent pixels are shown on black, in 1 images"),
        pytest.warns(FlowscopeWarning, match="converted from CMYK to RGB without a colour profile, in 1 images"),
    ):
        data = load(tmp_path)
    assert data.points.shape == (8, 3, 6, 5)
    np.testing.assert_array_equal(data.points[0], data.points[4])
    grey = np.asarray(colour.convert("L"))
    np.testing.assert_array_equal(data.points[1], np.broadcast_to(load(grey[None]).points[0], (3, 6, 5)))


def test_narrow_images_are_not_taken_for_channels(tmp_path):
    Image.fromarray(PIXELS[0][:, :3]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load(tmp_path).points, load(PIXELS[:1, :, :3], layout="hwc").points)


def test_large_folders_stay_pixels(tmp_path):
    save_classes(tmp_path)
    eager = load(tmp_path, flips=True)
    lazy = assemble(load_folder(tmp_path), Options(flips=True, eager_bytes=100), None)
    assert isinstance(lazy.points, MappedRows)
    assert lazy.digest == eager.digest


def test_sizes_that_differ_need_resize(tmp_path):
    Image.fromarray(PIXELS[0]).save(tmp_path / "a.png")
    Image.fromarray(PIXELS[1][:4]).save(tmp_path / "b.png")
    said = refused(tmp_path, "resize")
    assert all(word in said for word in ("a.png is 6x5", "b.png is 4x5"))
    refused(tmp_path, "resize", skip_broken=True)  # a size is no fault of the image
    assert load(tmp_path, resize=4).shape == (3, 4, 4)


BROKEN = {
    "junk": b"junk",
    "empty": b"",
    "vast": png_of_size(30_000, 30_000),
    "large": png_of_size(10_000, 10_000),
    "script": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 6\nshowpage\n",
}


@pytest.mark.parametrize("kind", [*BROKEN, "cut", "deep", "link"])
def test_broken_images_are_named_and_may_be_left_out(tmp_path, kind, caplog):
    save_classes(tmp_path)
    bad = tmp_path / "dog" / "4bad.png"
    if kind == "link":
        bad.symlink_to(tmp_path / "dog" / "gone.png")
    elif kind == "deep":
        Image.fromarray(np.full((6, 5), 40_000, dtype=np.uint16)).save(bad)
    else:
        noise = io.BytesIO()
        Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(noise, "PNG")
        bad.write_bytes(BROKEN.get(kind, noise.getvalue()[:5000]))
    said = refused(tmp_path, "4bad.png")
    assert "skip_broken" in said
    with pytest.warns(FlowscopeWarning, match="Broken images were left out: 1"):
        good = load(tmp_path, skip_broken=True, name="kept")
    assert good.digest == load(PIXELS, labels=np.repeat([0, 1, 2], 3)).digest
    assert good.name == "kept (1 broken left out)"
    assert "4bad.png" in caplog.text
    assert good.notes == ("Broken images were left out: 1.",)


def test_weights_and_labels_follow_what_is_left(tmp_path):
    save_classes(tmp_path)
    (tmp_path / "dog" / "4.png").write_bytes(b"junk")
    with pytest.warns(FlowscopeWarning, match="Broken images"):
        data = load(tmp_path, weights=np.arange(1, 10), skip_broken=True, flips=True)
    assert data.weights.tolist() == [1, 2, 3, 4, 6, 7, 8, 9]
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]


def test_nothing_but_broken_images_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"junk")
    refused(tmp_path, "none of 1 images", skip_broken=True)


def test_folders_without_images_are_refused(tmp_path):
    refused(tmp_path, "holds no images")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "sub").mkdir()
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for ever
    refused(tmp_path, "holds no images")


def test_loose_images_beside_classes_are_refused(tmp_path):
    save_classes(tmp_path)
    Image.fromarray(PIXELS[0]).save(tmp_path / "loose.png")
    refused(tmp_path, "loose.png")


@pytest.mark.parametrize("skip_broken", [False, True])
def test_links_that_leave_the_folder_are_refused(tmp_path, skip_broken):
    outside = tmp_path / "outside"
    outside.mkdir()
    save_classes(outside)
    for name, target in (("secret.png", outside / "cat" / "0.png"), ("more", outside), ("up", tmp_path / "inside")):
        inside = tmp_path / "inside"
        inside.mkdir(exist_ok=True)
        Image.fromarray(PIXELS[0]).save(inside / "a.png")
        (inside / name).symlink_to(target)
        refused(inside, f"{name} is a link", skip_broken=skip_broken)
        (inside / name).unlink()


def test_links_within_the_folder_are_followed(tmp_path):
    save_classes(tmp_path)
    (tmp_path / "emu" / "9.png").symlink_to(tmp_path / "cat" / "0.png")
    data = load(tmp_path)
    np.testing.assert_array_equal(data.points[9], data.points[0])
    assert load(linked(tmp_path)).digest == data.digest  # the folder itself may be a link


def linked(folder):
    link = folder.parent / (folder.name + "-link")
    link.symlink_to(folder)
    return link


def test_more_than_memory_is_refused_before_decoding(tmp_path, monkeypatch):
    save_classes(tmp_path)
    for free, what in ((500, "decoding"), (9000, "points")):  # 810 bytes of pixels become 3,240 of float32
        monkeypatch.setattr("flowscope.core.memory.available_memory", lambda free=free: free)
        said = refused(tmp_path, f"{what} .* memory are free")
        assert "resize" in said
        assert "subset" in said
    assert len(load(tmp_path, subset=3)) == 3
    assert len(load(tmp_path, resize=2)) == 9


def test_absurd_sizes_are_refused_before_decoding(tmp_path):
    save_classes(tmp_path)
    for size in (10**9, (1, 10**12)):
        refused(tmp_path, "memory are free", resize=size, skip_broken=True)


def test_layout_does_not_apply(tmp_path):
    refused(save_classes(tmp_path), "layout", layout="hwc")


# JPEG bytes


def jpegs(size=(6, 5)):
    blobs = []
    for image in PIXELS:
        blob = io.BytesIO()
        Image.fromarray(image[: size[0], : size[1]]).save(blob, "JPEG")
        blobs.append(blob.getvalue())
    return blobs


def save_jpegs(path, blobs, **changes):
    arrays = {
        "jpeg": np.frombuffer(b"".join(blobs), np.uint8),
        "offsets": np.cumsum([0, *map(len, blobs)]),
        "labels": np.repeat([0, 1, 2], len(blobs) // 3),
        "classes": np.array(["cat", "dog", "emu"]),
    }
    np.savez(path, **{**arrays, **changes})
    return path


def test_jpeg_bytes_are_the_decoded_images(tmp_path):
    blobs = jpegs()
    data = load(save_jpegs(tmp_path / "j.npz", blobs))
    truth = np.stack([np.asarray(Image.open(io.BytesIO(b)).convert("RGB")) for b in blobs])
    assert data.digest == load(truth, labels=np.repeat([0, 1, 2], 3)).digest
    assert data.class_names == {0: "cat", 1: "dog", 2: "emu"}
    assert load(tmp_path / "j.npz", classes="dog", grey=True, resize=4).points.shape == (3, 1, 4, 4)


def test_broken_jpeg_bytes_are_named_by_position(tmp_path):
    blobs = jpegs()
    blobs[4] = blobs[4][:100]
    path = save_jpegs(tmp_path / "j.npz", blobs)
    refused(path, "image 4 of ")
    with pytest.warns(FlowscopeWarning, match="Broken images"):
        data = load(path, skip_broken=True)
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert data.name == "j (1 broken left out)"


@pytest.mark.parametrize(
    "changes",
    [
        {"offsets": np.array([0.0, 1.0])},
        {"offsets": np.array([0])},
        {"offsets": np.array([0, 50, 20])},
        {"offsets": np.array([-5, 50])},
        {"offsets": np.array([0, 10**12])},
        {"jpeg": np.zeros((3, 3), dtype=np.uint8)},
        {"jpeg": np.zeros(30, dtype=np.int16)},
        {"labels": np.zeros(4, dtype=int)},
        {"classes": np.zeros(3)},
    ],
)
def test_jpeg_archives_that_make_no_sense(tmp_path, changes):
    refused(save_jpegs(tmp_path / "j.npz", jpegs(), **changes), "expected|ascending")


def test_frames_and_colours_that_are_not_read_are_counted(tmp_path):
    pictures = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    for name in ("a.gif", "b.webp", "c.png"):
        pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:])
    pictures[0].save(tmp_path / "d.gif")
    pictures[0].convert("CMYK").save(tmp_path / "e.jpg")
    with pytest.warns(FlowscopeWarning) as caught:
        notes = load(tmp_path).notes
    assert notes == (
        "The first frame or page alone was read, of 3 images with several.",
        "Colours were converted from CMYK to RGB without a colour profile, in 1 images.",
    )
    assert len(caught) == 2

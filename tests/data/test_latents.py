"""Formats of latents and of points in files of their own: read as their owners mean them, or refused."""

import gc
import io
import warnings

import numpy as np
import pytest
import safetensors.torch
import torch

from flowscope.data import load
from flowscope.data.assemble import assemble
from flowscope.data.loaders.image_folder import load_folder
from flowscope.data.options import Options
from flowscope.errors import FlowscopeWarning
from tests.support import latent_formats as formats
from tests.support.latent_formats import LATENTS, STDS, npy
from tests.support.refusals import refused


def read(written, **options):
    """The set, and what is said of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load(written.path, **(written.options | options))
    assert [str(w.message) for w in caught] == [f"{data.name}: {note}" for note in data.notes]
    return data


@pytest.mark.parametrize("write", formats.WRITERS, ids=lambda write: write.__name__)
def test_a_format_is_read_as_its_owner_means_it(write, tmp_path):
    written = write(tmp_path)
    data = read(written)
    points = np.asarray(data.points)
    assert points.dtype == written.points.dtype
    np.testing.assert_allclose(points, written.points, rtol=1e-5, atol=1e-6)
    assert (None if data.labels is None else data.labels.tolist()) == written.labels
    assert data.files is None or len(data.files) == len(data)
    chosen = np.asarray(read(written, subset=2).points)
    where = [[k for k, point in enumerate(points) if (point == one).all()] for one in chosen]
    assert all(len(found) == 1 for found in where) and where == sorted(where)
    streamed = assemble_streamed(written)
    if streamed is not None:
        assert streamed.streamed and streamed.digest == data.digest


def assemble_streamed(written):
    """The set as if it were too large for memory; None for options that are not of items."""
    if not written.path.is_dir() or written.options or not any(written.path.rglob("*.npy")):
        return None
    return assemble(load_folder(written.path), Options(eager_bytes=0), None)


# posteriors


def test_one_sample_of_a_posterior_depends_on_the_seed_and_the_file_alone(tmp_path):
    written = formats.write_repa(tmp_path)
    raw = {"posterior": "sample", "normalise": "none"}
    data = read(written, **raw)
    assert data.notes[0].startswith("Points are one sample of each posterior, seed 0; a network that is given new")
    noise = (data.points - LATENTS) / STDS
    assert abs(noise.mean()) < 4 / np.sqrt(noise.size) and abs(noise.std() - 1) < 4 / np.sqrt(2 * noise.size)
    assert len(np.unique(noise.round(5))) > 0.99 * noise.size  # no two rows have one noise
    chosen = read(written, **raw, subset=4)
    assert all(any((point == whole).all() for whole in data.points) for point in chosen.points)
    assert read(written, **raw).digest == data.digest != read(written, **raw, seed=1).digest
    scaled = read(written, posterior="sample")
    np.testing.assert_allclose(scaled.points, data.points * 0.18215, rtol=1e-6)


def test_chunks_of_posteriors_are_no_classes(tmp_path):
    written = formats.write_repa(tmp_path)
    (written.path / "dataset.json").write_text('{"labels": null}')
    plain = read(written)
    assert any("subfolders beside it are chunks, no classes" in note for note in plain.notes)
    (written.path / "dataset.json").unlink()
    assert plain.labels is None and read(written).digest == plain.digest


def test_what_a_posterior_leaves_open_is_asked(tmp_path):
    path = formats.write_repa(tmp_path).path
    assert "--posterior sample" in refused(path, "say which points", normalise="none")
    said = refused(path, "holds posteriors", posterior="mean")
    assert "--normalise scale:0.18215" in said and "8.34, 9.24, 7.42, 6.56" in said
    refused(path, "expected one of mean, sample", posterior="mode")
    refused(np.ones((3, 4)), "holds no posteriors", posterior="mean")
    refused(path, "applies to images", posterior="mean", normalise="none", resize=3)
    for values, said in (
        (np.ones((3, 6, 5)), "expected mean and std"),
        (-np.ones((8, 6, 5)), "negative standard deviation"),
    ):
        for name in path.rglob("*.npy"):
            name.write_bytes(npy(values))
        refused(path, said, posterior="sample", normalise="none")


# a point a file


def test_items_that_are_no_set_of_points(tmp_path):
    folder = formats.write_npy_items(tmp_path).path
    last = folder / "009.npy"
    last.write_bytes(npy(LATENTS[0][:, :3]))
    assert "000.npy" in refused(folder, r"009.npy float32 \(4, 3, 5\); expected points of one shape")
    last.write_bytes(npy(LATENTS[0].astype(np.float64)))
    refused(folder, "009.npy float64")
    for damage in (npy(LATENTS[0])[:-1], npy(LATENTS[0]) + b"x", b"", b"\x93NUMPY"):
        last.write_bytes(damage)
        refused(folder, "009.npy")
    last.write_bytes(npy(np.where(LATENTS[9] > 0, np.nan, LATENTS[9])))
    refused(folder, "point 9 of items holds nan")
    stream = io.BytesIO()
    np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
    last.write_bytes(stream.getvalue())
    refused(folder, "Python objects, which are never loaded")
    last.unlink()
    torch.save(torch.ones(3), folder / "x.pt")
    refused(folder, "holds .npy and .pt files; expected a point a file")
    (folder / "x.pt").unlink()
    (folder / "img-mean-std-00000000.npy").write_bytes(npy(LATENTS[0]))
    refused(folder, "img-mean-std-.* and other arrays")


def test_whole_sets_are_not_taken_for_points(tmp_path):
    np.save(tmp_path / "points.npy", LATENTS)
    refused(tmp_path, "points.npy, which looks like a set of its own.*give the file itself")
    for part in ("x_train.npy", "x_test.npy"):
        np.save(tmp_path / part, LATENTS)
    refused(tmp_path, "looks like a set of its own")


def test_several_arrays_of_a_sample_are_asked_about(tmp_path):
    for k in range(4):
        (tmp_path / f"{k}.latent.npy").write_bytes(npy(LATENTS[k]))
        (tmp_path / f"{k}.text.npy").write_bytes(npy(LATENTS[k]))
    refused(tmp_path, "holds .latent.npy and .text.npy files")


def test_labels_and_files_of_items_agree_or_are_refused(tmp_path):
    written = formats.write_npy_classes(tmp_path)
    data = read(written, classes="bee")
    assert data.class_names == {0: "ant", 1: "bee", 2: "cat"} and set(data.labels.tolist()) == {1}
    assert all(name.startswith("bee/") for name in data.files)
    repa = formats.write_repa(tmp_path)
    next(repa.path.rglob("*.npy")).unlink()
    refused(repa.path, "lists 10 images of 9", **repa.options)


def test_statistics_beside_items_are_those_of_the_items(tmp_path):
    written = formats.write_npy_items(tmp_path)
    formats.save_statistics(written.path / "latents_stats.pt", [0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 4.0, 8.0])
    data = read(written)
    assert len(data) == len(LATENTS) and "latents_stats.pt" in data.notes[-1]
    np.testing.assert_array_equal(data.points[3, 2], (LATENTS[3, 2] - 2) / 4)


def test_tensors_under_a_name_are_read_and_others_are_named(tmp_path):
    for k in range(3):
        torch.save({"latents": torch.from_numpy(LATENTS[k].copy()), "caption": "a"}, tmp_path / f"{k}.pt")
    with pytest.warns(FlowscopeWarning, match="Of 0.pt was not read: caption"):
        np.testing.assert_array_equal(load(tmp_path).points, LATENTS[:3])
    torch.save([1], tmp_path / "1.pt")
    refused(tmp_path, "1.pt are not|1.pt")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("write", [formats.write_webdataset, formats.write_webdataset_shards])
def test_samples_are_those_of_the_package_webdataset(write, tmp_path):
    import webdataset

    written = write(tmp_path)
    tars = [str(path) for path in (sorted(written.path.glob("*.tar")) if written.path.is_dir() else [written.path])]
    theirs = list(webdataset.WebDataset(tars, shardshuffle=False).decode().to_tuple("npy", "cls"))
    gc.collect()  # what the package leaves open is not closed in another test
    data = read(written)
    np.testing.assert_array_equal(data.points, np.stack([array for array, _ in theirs]))
    assert data.labels.tolist() == [label for _, label in theirs]


# caches


def test_what_lies_beside_cached_latents_is_said(tmp_path):
    written = formats.write_musubi(tmp_path)
    (written.path / "item0.png").write_bytes(b"x")
    assert read(written).notes == (
        "Files were skipped: 10 caches of text encoders, 1 by their ending .png.",
        "Tensors beside latents were not read: clip (10).",
    )


def test_a_scale_that_a_trainer_applies_is_asked(tmp_path):
    path = formats.write_musubi(tmp_path, "hunyuan_video").path
    assert "'none'" in refused(path, r"--normalise scale:0.476986")
    with pytest.warns(FlowscopeWarning):
        scaled = load(path, normalise="scale:0.476986")
    np.testing.assert_allclose(scaled.points, formats.VIDEOS.float().numpy() * np.float32(0.476986), rtol=1e-6)


def test_caches_of_several_kinds_are_refused_with_their_counts(tmp_path):
    path = formats.write_musubi(tmp_path).path
    names = sorted(path.glob("*_wan.safetensors"))
    other = {"latents_1x6x5_bf16": formats.VIDEOS[0, :, :1].clone()}
    safetensors.torch.save_file(other, names[0], {"architecture": "wan"})
    refused(path, r"several sizes: 4x2x6x5 \(9\), 4x1x6x5 \(1\); expected one")
    safetensors.torch.save_file({"latents_2x6x5_fp32": formats.VIDEOS[0].float()}, names[0], {"architecture": "wan"})
    refused(path, r"several dtypes: BF16 \(9\), F32 \(1\)")
    safetensors.torch.save_file({"latents": formats.VIDEOS[0].clone()}, names[0], {"architecture": "hunyuan_video"})
    refused(path, r"several architectures: wan \(9\), hunyuan_video \(1\)")
    safetensors.torch.save_file({"latents_2x6x7_bf16": formats.VIDEOS[0].clone()}, names[0], {"architecture": "wan"})
    refused(path, "expected latents .* of the size in its name")
    twice = {f"latents_2x6x5_{kind}": formats.VIDEOS[0].clone() for kind in ("bf16", "fp16")}
    safetensors.torch.save_file(twice, names[0], {"architecture": "wan"})
    refused(path, "expected one tensor of latents")
    names[0].write_bytes(names[1].read_bytes()[:-7])
    refused(path, "truncated or damaged")
    for name in names:
        name.unlink()
    refused(path, "holds 10 caches and no latents")


def test_images_with_arrays_beside_them_stay_images(tmp_path):
    from PIL import Image

    for k in range(3):
        Image.fromarray(np.full((8, 8, 3), 40 * k, np.uint8)).save(tmp_path / f"{k}.png")
        (tmp_path / f"{k}.npy").write_bytes(npy(LATENTS[k]))
    with pytest.warns(FlowscopeWarning, match="3 by their ending .npy"):
        assert load(tmp_path).shape == (3, 8, 8)


def test_caches_of_text_encoders_without_metadata_are_counted(tmp_path):
    (tmp_path / "kohya").mkdir()
    for k in range(2):
        latents = {"latents_1x6x5_float32": torch.full((4, 1, 6, 5), float(k))}
        safetensors.torch.save_file(latents, tmp_path / "kohya" / f"im{k:04}_0048x0040_wan.safetensors")
        text = {"varlen_t5_bfloat16": torch.ones(3, 2).bfloat16()}
        safetensors.torch.save_file(text, tmp_path / "kohya" / f"im{k:04}_wan_te.safetensors")
    safetensors.torch.save_file(text, tmp_path / "kohya" / "a_wan_te.safetensors")  # the first by name
    with pytest.warns(FlowscopeWarning, match="Files were skipped: 3 caches of text encoders"):
        data = load(tmp_path / "kohya")
    assert np.asarray(data.points)[:, 0, 0, 0, 0].tolist() == [0, 1]

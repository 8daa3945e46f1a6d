"""The scale of points: what is asked for, what a format states, and one scale for all points of a command."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from flowscope.cli import main
from flowscope.data import TrainingSet, load
from flowscope.data.assemble import assemble
from flowscope.data.loaders.source import Source
from flowscope.data.normaliser import Normaliser, check_normalise
from flowscope.data.options import Options
from flowscope.data.split import split
from flowscope.errors import FlowscopeWarning, InputError
from flowscope.studies import catalogue, inputs
from flowscope.training import TrainSettings, train_to
from tests.support.latent_formats import save_statistics, write_lightningdit
from tests.support.refusals import refused

RNG = np.random.default_rng(6)
LATENTS = RNG.normal(3, 2, (40, 4, 6, 5)).astype(np.float32)
RAW = np.arange(16, dtype=np.float32).reshape(2, 2, 2, 2)


# what a format states


def test_a_lightningdit_folder_is_both_orientations_by_its_statistics(tmp_path):
    path, options, points, labels = write_lightningdit(tmp_path)
    with pytest.warns(FlowscopeWarning) as caught:
        data = load(path, **options)
    np.testing.assert_array_equal(data.points, points, strict=True)
    assert data.labels.tolist() == labels
    assert data.normalisation.startswith("(value - mean) / std by channel, statistics ")
    both, normalised = data.notes
    assert "2 latents were read with those of their mirror images" in both and "latents_stats.pt" in normalised
    assert len(caught) == 2
    for source in (path, next(tmp_path.glob("*.safetensors"))):  # a shard alone, too
        assert load(source, normalise="lightningdit", flips=True).digest == data.digest
    (tmp_path / "two").mkdir()
    assert load(write_lightningdit(tmp_path / "two", shards=2).path, normalise="lightningdit", flips=True).digest == (
        data.digest
    )


def test_the_values_of_lightningdits_loader(tmp_path):
    """ImgLatentDataset with multiplier 0.5, item 1 and its flip; see cases.md."""
    data = load(write_lightningdit(tmp_path).path, normalise="lightningdit:0.5", flips=True)
    assert data.points[1].ravel().tolist() == [1.75, 2, 2.25, 2.5, 1.25, 1.375, 1.5, 1.625]
    assert data.points[3].ravel().tolist() == [-2.25, -2.5, -2.75, -3, -1.75, -1.875, -2, -2.125]
    np.testing.assert_array_equal(load(tmp_path, normalise="none", flips=False).points, RAW)
    np.testing.assert_array_equal(load(tmp_path, normalise="none", flips=True).points, np.concatenate([RAW, -RAW]))
    np.testing.assert_array_equal(load(tmp_path, normalise="scale:0.25", flips=False).points, RAW / 4)
    one = load(tmp_path, normalise="lightningdit:0.5", flips=True, classes=5)
    assert one.digest == load(data, classes=5).digest and len(one) == 2


def test_latents_without_a_scale_are_asked_about(tmp_path):
    write_lightningdit(tmp_path)
    (tmp_path / "latents_stats.pt").unlink()
    for flips in (None, False, True):
        assert "--normalise scale:0.18215" in refused(tmp_path, "no statistics beside them", flips=flips)
    refused(tmp_path, "has no statistics; expected latents_stats.pt", normalise="lightningdit")
    with pytest.warns(FlowscopeWarning, match="mirror images"):
        scaled = load(tmp_path, normalise="scale:0.18215")
    np.testing.assert_allclose(scaled.points, np.concatenate([RAW, -RAW]) * 0.18215, rtol=1e-6)
    write_lightningdit(tmp_path, latents_flip=None)
    (tmp_path / "latents_stats.pt").unlink()
    assert load(tmp_path).digest == load(TrainingSet(RAW, [3, 5])).digest  # nothing is stated, nothing is open


def test_flips_in_other_files_are_read_too(tmp_path):
    latents = RNG.standard_normal((5, 4, 8, 8)).astype(np.float32)
    tensors = {name: torch.from_numpy(x) for name, x in (("latents", latents), ("latents_flip", -latents))}
    np.savez(tmp_path / "x.npz", latents=latents, latents_flip=-latents)
    torch.save(tensors, tmp_path / "x.pt")
    torch.save({name: x.bfloat16() for name, x in tensors.items()}, tmp_path / "y.pt")
    for path in tmp_path.iterdir():
        refused(path, "mirror images")
        both = torch.as_tensor(load(path, flips=True, normalise="scale:2").points)
        assert torch.equal(both[5:], -both[:5]) and both.dtype == torch.float32
        assert len(load(path, flips=False, normalise="none")) == 5
    write_lightningdit(tmp_path, latents_flip=np.zeros((2, 2, 2, 1), np.float32))
    refused(tmp_path, "expected one shape", flips=True)


# what is asked for


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("stats", "expected 'lightningdit'"),
        ("stats*0.5", "expected 'lightningdit:0.5'"),
        ("0.18215", "expected 'scale:0.18215'"),
        (0.5, "expected 'scale:0.5'"),
        *(
            (word, "expected 'none', 'lightningdit'")
            for word in ("mean", "", "nan", True, "scale", "none:2", "channel:2")
        ),
        *((word, "a number above 0") for word in ("scale:", "scale:0", "scale:inf", "lightningdit:-1", "scale:x")),
        ("no.npz", "there is no file of statistics no.npz"),
    ],
)
def test_words_that_are_none_name_the_right_one(asked, said):
    refused(LATENTS, said, normalise=asked)


@pytest.mark.parametrize("shape", [(40, 4, 6, 5), (40, 7), (40, 3, 2, 4, 5)])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_channels_get_mean_0_and_variance_1(shape, kind):
    values = RNG.normal(5, 3, shape)
    data = load(kind(values), normalise="channel")
    points = np.moveaxis(np.asarray(data.points), 1, 0).reshape(shape[1], -1)
    np.testing.assert_allclose(points.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(points.std(1), 1, rtol=1e-6)
    back = np.asarray(data.points) * data.normaliser.std.reshape(-1, *[1] * (len(shape) - 2))
    np.testing.assert_allclose(back + data.normaliser.mean.reshape(-1, *[1] * (len(shape) - 2)), values, rtol=1e-12)


def test_channel_is_of_the_points_that_are_kept():
    labels = np.arange(40) % 2
    kept = load(LATENTS, labels=labels, classes=1, normalise="channel")
    assert kept.digest == load(LATENTS[1::2], labels=labels[1::2], normalise="channel").digest
    assert kept.digest != load(load(LATENTS, labels=labels, normalise="channel"), classes=1).digest
    small = load(load(LATENTS, resize=3), normalise="channel")
    np.testing.assert_allclose(load(LATENTS, resize=3, normalise="channel").points, small.points, rtol=1e-6)


def test_the_order_and_the_size_of_points_do_not_show():
    order = RNG.permutation(40)
    one, other = load(LATENTS, normalise="channel"), load(LATENTS[order], normalise="channel")
    np.testing.assert_array_equal(np.asarray(one.points)[order], other.points)
    assert one.normalisation == other.normalisation
    far = load(1e9 + 1e-3 * RNG.standard_normal((200, 3)), normalise="channel")  # float64 holds 4 digits of it
    np.testing.assert_allclose(np.asarray(far.points).mean(0), 0, atol=1e-3)


def test_normalisations_have_digests_and_words_of_their_own():
    by = [load(LATENTS, normalise=f"scale:{factor}") for factor in ("0.18215", "0.182150001")]
    by += [load(LATENTS, normalise=Normaliser(1.0, np.zeros(4), std)) for std in (np.ones(4), np.ones(4) + 1e-15)]
    assert by[0].normalisation == "value * 0.18215"
    assert len({data.normalisation for data in by}) == len({data.digest for data in by}) == 4
    assert load(LATENTS, normalise="none").digest == load(LATENTS).digest


def test_a_scale_answers_what_floats_on_the_scale_of_images_are():
    images = RNG.random((6, 3, 9, 9)).astype(np.float32)
    refused(images, "assume", normalise="none")
    np.testing.assert_array_equal(load(images, normalise="scale:2").points, images * np.float32(2))
    mapped = load(images, assume="[0,1]", normalise="channel")
    assert mapped.normalisation.startswith("value * 2 - 1; (value - mean) / std")
    np.testing.assert_allclose(mapped.points, load(images, normalise="channel").points, atol=1e-5)


def test_points_are_normalised_once():
    data = load(LATENTS, normalise="channel")
    assert load(data, subset=9).normaliser is data.normaliser is split(data, 5)[1].normaliser
    assert load(data, normalise=data.normaliser).digest == data.digest
    refused(data, "is normalised already", normalise="scale:2")


def test_pixels_are_refused_before_they_are_decoded(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not looked at")
    refused(tmp_path, "the source holds uint8 pixels", normalise="channel")
    refused(tmp_path, "cannot be read", normalise="none")


# statistics in a file


def save_in_all_ways(folder: Path, mean: np.ndarray, std: np.ndarray) -> list[Path]:
    save_statistics(folder / "s.pt", mean.tolist(), std.tolist())
    np.savez(folder / "s.npz", mean=mean, std=std.reshape(1, -1, 1, 1))
    np.save(folder / "s.npy", np.stack([mean, std]))
    safetensors.numpy.save_file({"mean": mean, "std": std}, folder / "s.safetensors")
    return sorted(folder.iterdir())


def test_statistics_in_any_file_are_the_same(tmp_path):
    mean, std = np.array([1, 2, 3, 4], np.float32), np.array([2, 3, 4, 5], np.float32)
    expected = ((LATENTS - mean.reshape(4, 1, 1)) / std.reshape(4, 1, 1)).astype(np.float32)
    files = save_in_all_ways(tmp_path, mean, std)
    assert len({load(LATENTS, normalise=path).digest for path in files}) == 1 and len(files) == 4
    np.testing.assert_array_equal(load(LATENTS, normalise=str(files[0])).points, expected)
    half = {"mean": torch.from_numpy(mean).bfloat16(), "std": torch.from_numpy(std).bfloat16()}
    safetensors.torch.save_file(half, tmp_path / "b.safetensors")
    assert load(LATENTS, normalise=tmp_path / "b.safetensors").digest == load(LATENTS, normalise=files[0]).digest


def test_statistics_of_the_points_written_to_a_file_are_those_of_the_points(tmp_path):
    data = load(LATENTS, normalise="channel")
    np.savez(tmp_path / "own.npz", mean=data.normaliser.mean, std=data.normaliser.std)
    assert load(LATENTS, normalise=tmp_path / "own.npz").digest == data.digest


def test_statistics_that_cannot_be_used(tmp_path):
    path, good = write_lightningdit(tmp_path).path / "latents_stats.pt", torch.tensor([1.0, 2.0])
    for saved in (
        {"mean": good},
        {"mean": good, "std": good * 0},
        {"mean": good, "std": good[:1]},
        {"mean": good * torch.nan, "std": good},
        {"mean": good, "std": torch.ones(2, 3)},
        {"mean": good, "std": torch.tensor([1, 2])},
        {"mean": "x", "std": good},
        [good],
    ):
        torch.save(saved, path)
        refused(tmp_path, "latents_stats.pt", flips=False)
    torch.save({"mean": torch.ones(3), "std": torch.ones(3)}, path)
    refused(tmp_path, "statistics of 3 channels", flips=False)
    path.write_bytes(path.read_bytes()[:99])
    refused(tmp_path, "latents_stats.pt", flips=False)
    np.save(tmp_path / "one.npy", np.ones(4))
    np.savez(tmp_path / "mu.npz", mu=np.ones(4), sigma=np.ones(4))
    refused(LATENTS, r"shape \(4,\); expected \(2, C\)", normalise=tmp_path / "one.npy")
    refused(LATENTS, "holds mu, sigma", normalise=tmp_path / "mu.npz")


def test_channels_that_cannot_be_normalised():
    constant = LATENTS.copy()
    constant[:, 2] = 0.1
    refused(constant, "channel 2 of points is constant", normalise="channel")
    constant[7, 2, 1, 1] = np.nan
    refused(constant, "point 7 of points holds nan", normalise="channel")


# laziness


def read_from_a_file(folder, count):
    """A set of so many latents, normalised by channel as they are read, and the most memory that this took."""
    tiled = RNG.normal(2, 1, (64, 8, 8, 5)).astype(np.float16)[np.arange(count) % 64]
    np.save(folder / f"{count}.npy", tiled)
    source = Source(np.load(folder / f"{count}.npy", mmap_mode="r"), "x")
    tracemalloc.start()
    try:
        data = assemble(source, Options(normalise=check_normalise("channel"), eager_bytes=1 << 20), None)
        return data, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_points_in_a_file_are_normalised_as_they_are_read(tmp_path):
    """Three times the points, 42 MB more as they are normalised, and no more memory."""
    (_, few), (data, peak) = (read_from_a_file(tmp_path, 4096 * k) for k in (4, 12))
    assert data.streamed and peak < few + (8 << 20)
    whole = load(np.load(tmp_path / "49152.npy"), normalise="channel")
    assert data.digest == whole.digest and not whole.streamed


# one scale for all points of a command


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[Path, Path]:
    """Two sources of unlike scale, and a model of the first, normalised by channel, in `net` beside it."""
    folder = tmp_path_factory.mktemp("two")
    np.save(folder / "a.npy", LATENTS)
    np.save(folder / "b.npy", LATENTS[:9] * np.float32(3))
    data = load(folder / "a.npy", normalise="channel")
    train_to(data, TrainSettings(model="mlp", width=8, steps=1, batch=4), folder / "net", tracker=None)
    return folder / "a.npy", folder / "b.npy"


def test_points_on_two_scales_are_refused(two):
    data, other = (load(path, normalise="channel") for path in two)
    for held_out in (other, load(two[1])):
        with pytest.raises(
            InputError, match=r"the held-out points are .*; expected one scale.*normalise=data.normaliser"
        ):
            inputs.load_inputs(data, [two[0].parent / "net"], held_out=held_out)
    taken = load(two[1], normalise=data.normaliser)
    np.testing.assert_array_equal(taken.points, data.normaliser(np.load(two[1])))
    assert inputs.load_inputs(data, [two[0].parent / "net"], held_out=taken).held_out is taken


@pytest.mark.slow
def test_a_source_beside_the_data_is_on_their_scale(two, monkeypatch):
    seen = []
    monkeypatch.setattr(catalogue, "run_study", lambda name, given, **how: seen.append(given) or 1 / 0)
    command = ["study", "refine", "--model", str(two[0].parent / "net"), "--data", str(two[0]), "--json"]
    with pytest.raises(ZeroDivisionError):
        main([*command, "--normalise", "channel", "--held-out-data", str(two[1]), "--foreign", str(two[1])])
    expected = load(two[1], normalise=load(two[0], normalise="channel").normaliser)
    assert seen[0].held_out.digest == seen[0].foreign.digest == expected.digest


@pytest.mark.slow
def test_a_larger_set_is_on_the_scale_of_the_data(two, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(catalogue, "run_study", lambda name, given, **how: seen.append(given) or 1 / 0)
    np.save(tmp_path / "more.npy", np.concatenate([LATENTS, 5 * LATENTS]))
    command = ["study", "alignment", "--model", str(two[0].parent / "net"), "--data", str(two[0]), "--json"]
    with pytest.raises(ZeroDivisionError):
        main([*command, "--normalise", "channel", "--more", str(tmp_path / "more.npy")])
    np.testing.assert_array_equal(seen[0].more.points[:40], load(two[0], normalise="channel").points)


@pytest.mark.slow
def test_two_folders_with_statistics_of_their_own_are_refused(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_lightningdit(tmp_path / name)
    save_statistics(tmp_path / "b" / "latents_stats.pt", [1.0, 2.0], [2.0, 5.0])
    with pytest.warns(FlowscopeWarning):
        data = load(tmp_path / "a")
    train_to(data, TrainSettings(model="mlp", width=8, steps=1, batch=4), tmp_path / "net", tracker=None)
    command = ["study", "refine", "--model", str(tmp_path / "net"), "--data", str(tmp_path / "a"), "--dry-run"]
    assert main([*command, "--held-out-data", str(tmp_path / "b")]) == 2
    assert "expected one scale: --normalise on the command line holds for both" in capsys.readouterr().err
    assert main([*command, "--held-out-data", str(tmp_path / "b"), "--normalise", "lightningdit"]) == 0


@pytest.mark.parametrize("normaliser", ["scale:1e300", Normaliser(1.0, np.zeros(4), np.full(4, 1e-40))])
def test_a_scale_that_leaves_the_numbers_is_blamed_on_the_normalisation(normaliser):
    with pytest.raises(InputError, match=r"the normalisation .* makes of finite values what float32 cannot hold"):
        _ = load(LATENTS, normalise=normaliser).digest
    with pytest.raises(InputError, match="holds nan"):  # of the points themselves
        _ = load(np.where(LATENTS > 3, np.nan, LATENTS), normalise="scale:2").digest

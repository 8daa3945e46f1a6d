"""load of arrays, tensors and training sets, and every option on them."""

import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from flowscope.data import TrainingSet, load
from flowscope.data.assemble import assemble
from flowscope.data.loaders.source import Source
from flowscope.data.options import Options
from flowscope.data.rows.mapped_rows import MappedRows
from flowscope.errors import FlowscopeError, InputError

RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((12, 5)).astype(np.float32)
PIXELS = RNG.integers(0, 256, (12, 3, 8, 6), dtype=np.uint8)
LABELS = np.arange(12) % 3
MAPPED = (PIXELS / 127.5 - 1).astype(np.float32)


def test_points_are_taken_as_they_are():
    tensor = torch.from_numpy(VECTORS)
    assert load(VECTORS).points is VECTORS
    assert load(tensor).points.data_ptr() == tensor.data_ptr()
    assert load(VECTORS).normalisation == "none"
    np.testing.assert_array_equal(load(VECTORS.tolist()).points, VECTORS)


def test_a_training_set_comes_back_itself():
    data = TrainingSet(VECTORS, LABELS, name="mine", normalisation="told", class_names=["a", "b", "c"])
    assert load(data) is data
    renamed = load(data, name="yours", subset=4)
    assert (renamed.name, renamed.normalisation, renamed.class_names) == ("yours", "told", {0: "a", 1: "b", 2: "c"})


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_keep_their_dtype_under_every_option(dtype):
    images = MAPPED.astype(dtype)
    for options in ({}, {"subset": 5}, {"flips": True}, {"grey": True}, {"resize": 4}):
        assert load(images, **options).dtype == np.dtype(dtype).name
        assert isinstance(load(torch.from_numpy(images), **options).points, Tensor)


def test_bfloat16_tensors_stay_bfloat16():
    images = torch.from_numpy(MAPPED).to(torch.bfloat16)
    got = load(images, subset=4, flips=True, seed=1)
    assert got.dtype == "bfloat16"
    chosen = torch.as_tensor(np.sort(np.random.default_rng(1).choice(12, 4, replace=False)))
    assert torch.equal(got.points, images[chosen])
    assert torch.equal(got.rows(np.arange(4, 8)), images[chosen].flip(-1))


def test_gradients_are_not_carried_along():
    assert not load(torch.from_numpy(VECTORS).requires_grad_()).points.requires_grad


def test_pixels_are_mapped_to_minus_one_and_one():
    every = np.arange(256, dtype=np.uint8)[:, None]
    points = load(every).points
    assert points.dtype == np.float32
    np.testing.assert_allclose(points[:, 0], np.linspace(-1, 1, 256), atol=1e-7)
    assert (points[0, 0], points[255, 0]) == (-1, 1)
    assert load(torch.from_numpy(every)).digest == load(every).digest


@pytest.mark.parametrize(
    ("stored", "layout", "shape"),
    [
        (PIXELS, None, (3, 8, 6)),
        (PIXELS.transpose(0, 2, 3, 1), None, (3, 8, 6)),
        (PIXELS[:, 0], None, (1, 8, 6)),
        (PIXELS[:, 0, 0], None, (6,)),
        (PIXELS[..., :3], "chw", (3, 8, 3)),
        (PIXELS[..., :3], "hwc", (3, 3, 8)),
        (PIXELS[:, :2], "chw", (2, 8, 6)),
    ],
)
def test_images_become_channels_height_width(stored, layout, shape):
    assert load(stored, layout=layout).shape == shape


def test_axes_move_and_values_do_not_change():
    last = np.ascontiguousarray(PIXELS.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(load(last).points, load(PIXELS).points)
    floats = np.ascontiguousarray(MAPPED.transpose(0, 2, 3, 1))
    assert load(floats).shape == (8, 6, 3)  # floats are never turned over unasked
    np.testing.assert_array_equal(load(floats, layout="hwc").points, MAPPED)


@pytest.mark.parametrize("shape", [(5, 3, 8, 3), (5, 2, 8, 6), (5, 1, 8, 1)])
def test_ambiguous_axes_ask_for_the_layout(shape):
    with pytest.raises(InputError, match="layout='chw' or 'hwc'"):
        load(np.zeros(shape, dtype=np.uint8))


@given(st.integers(1, 12), st.integers(0, 2**32))
def test_a_subset_is_distinct_points_in_their_order(count, seed):
    numbered = np.arange(12, dtype=np.float32)[:, None]
    got = load(numbered, labels=np.arange(12), subset=count, seed=seed)
    values = np.asarray(got.points)[:, 0]
    assert len(values) == count
    assert (np.diff(values) > 0).all()
    np.testing.assert_array_equal(values, got.labels)
    np.testing.assert_array_equal(values, load(numbered, subset=count, seed=seed).points[:, 0])


def test_seeds_choose_differently_and_leave_the_global_state_alone():
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    digests = {load(VECTORS, subset=6, seed=seed).digest for seed in range(5)}
    assert len(digests) > 1
    assert (before[0] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())


def test_classes_by_number_by_name_and_several():
    data = TrainingSet(VECTORS, LABELS, weights=np.arange(1.0, 13), class_names=["cat", "dog", "emu"])
    for wanted in (1, "dog", [1], ("dog",), np.array([1])):
        got = load(data, classes=wanted)
        np.testing.assert_array_equal(got.points, VECTORS[LABELS == 1])
        np.testing.assert_array_equal(got.weights, np.arange(1.0, 13)[LABELS == 1])
        assert set(got.labels) == {1}
    np.testing.assert_array_equal(load(data, classes=["cat", 2]).points, VECTORS[LABELS != 1])
    with pytest.raises(InputError, match="expected one of cat, dog, emu"):
        load(data, classes="1")  # a text is a name
    assert len(load(VECTORS, labels=LABELS, classes="1")) == 4  # without names the number's digits are the name
    assert len(load(data, classes="dog", subset=3)) == 3


def test_given_labels_and_weights_stand_for_the_whole_source():
    data = TrainingSet(VECTORS, LABELS, class_names=["cat", "dog", "emu"])
    other = load(data, labels=5 - LABELS, weights=np.arange(1, 13), classes=5)
    np.testing.assert_array_equal(other.points, VECTORS[LABELS == 0])
    np.testing.assert_array_equal(other.weights, np.arange(1, 13)[LABELS == 0])
    assert other.class_names is None


def test_flips_are_mirror_images_behind_the_images_made_as_they_are_read():
    got = load(PIXELS, labels=LABELS, weights=np.arange(1, 13), flips=True)
    assert (len(got), got.augmentations) == (12, ("flip",))
    np.testing.assert_array_equal(got.points, load(PIXELS).points)
    np.testing.assert_array_equal(got.rows(np.arange(12, 24)), load(PIXELS).points[..., ::-1])
    both = np.concatenate([got.points, got.points[..., ::-1]])
    doubled = TrainingSet(both, np.tile(LABELS, 2), np.tile(np.arange(1, 13), 2), normalisation=got.normalisation)
    assert got.digest == doubled.digest
    assert load(got, flips=False).digest == load(PIXELS, labels=LABELS, weights=np.arange(1, 13)).digest
    assert load(got, subset=4, seed=1).augmentations == ("flip",)


def test_grey_gives_what_pillow_gives():
    last = PIXELS.transpose(0, 2, 3, 1)
    expected = np.stack([np.asarray(Image.fromarray(np.ascontiguousarray(x)).convert("L")) for x in last])
    np.testing.assert_array_equal(load(PIXELS, grey=True).points, load(expected).points)
    np.testing.assert_allclose(load(MAPPED, grey=True).points, load(expected).points, atol=0.6 / 127.5)
    assert load(expected, grey=True).digest == load(expected).digest


def test_resize_keeps_means_and_does_not_alias():
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (2, 1, 64, 32))  # finer than the small image can show
    small = load(stripes, resize=(16, 8)).points
    assert small.shape == (2, 1, 16, 8)
    np.testing.assert_allclose(small[..., 1:-1], 0, atol=0.02)
    flat = np.full((2, 3, 9, 9), 200, dtype=np.uint8)
    np.testing.assert_allclose(load(flat, resize=4).points, 200 / 127.5 - 1, atol=1e-6)
    assert load(PIXELS, resize=(8, 6)).digest == load(PIXELS).digest


def test_resize_of_arrays_and_of_decoded_images_agree(tmp_path):
    smooth = np.add.outer(np.arange(32), 3 * np.arange(32)).astype(np.uint8)[None].repeat(2, 0)
    for i, image in enumerate(smooth):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    one, other = load(smooth, resize=12), load(tmp_path, resize=12, grey=True)
    np.testing.assert_allclose(one.points, other.points, atol=1.5 / 127.5)  # Pillow rounds to whole pixel values


def mapped(values, labels=None, **options):
    """The set as `load` makes it where it is larger than what is mapped at once."""
    return assemble(Source(values, "points", labels), Options(eager_bytes=100, **options), None)


@pytest.mark.parametrize(
    "options", [{}, {"flips": True}, {"subset": 7}, {"grey": True, "flips": True}, {"resize": (4, 4)}]
)
def test_large_sets_are_mapped_on_demand_with_the_same_digest(options):
    eager = load(PIXELS, labels=LABELS, **options)
    lazy = mapped(PIXELS, LABELS, **options)
    assert isinstance(eager.points, np.ndarray)
    assert isinstance(lazy.points, MappedRows)
    assert eager.digest == lazy.digest
    np.testing.assert_array_equal(torch.as_tensor(lazy.points).numpy(), eager.points)


def test_an_option_on_large_floats_copies_nothing():
    assert mapped(VECTORS).points is VECTORS
    for values in (VECTORS, torch.from_numpy(VECTORS)):
        assert isinstance(mapped(values, subset=8).points, MappedRows)
        assert mapped(values, subset=8).digest == load(VECTORS, subset=8).digest


def test_other_byte_orders_and_misaligned_values_are_the_same_points():
    swapped = VECTORS.astype(VECTORS.dtype.newbyteorder())
    raw = bytearray(1 + VECTORS.nbytes)
    misaligned = np.frombuffer(raw, np.uint8)[1:].view(np.float32).reshape(VECTORS.shape)
    misaligned[...] = VECTORS
    for other in (swapped, misaligned, np.asfortranarray(VECTORS), VECTORS[::-1][::-1]):
        assert load(other).digest == load(VECTORS).digest


def test_the_name_says_what_was_chosen():
    assert load(PIXELS).name == "points"
    assert load(PIXELS, name="mine", flips=True).name == "mine"
    told = load(PIXELS, labels=LABELS, classes=1, subset=2, seed=5, resize=4, grey=True, flips=True).name
    assert told == "points (class 1; subset 2, seed 5; 4x4; grey; flips)"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (3.0, "shape"),
        (np.float32(3), "shape"),
        (np.uint8(3), "shape"),
        (torch.tensor(1.0), "shape"),
        (None, "are a NoneType"),
        (np.array(["a", "b"]), "<U1"),
        ([["a", "b"], ["c", "d"]], "<U1"),
        (b"bytes", "are a bytes"),
        (np.array([[1, "a"], [None, 2.0]], dtype=object), "object"),
        ([[1.0, 2.0], [3.0]], "one length"),
        ([[1, 2], [3, 4]], "int64"),
        (np.zeros((3, 2), dtype=np.int32), "int32"),
        (torch.zeros(3, 2, dtype=torch.int64), "int64"),
        (np.zeros((3, 2), dtype=bool), "bool"),
        (np.zeros((3, 2), dtype=complex), "complex128"),
        (np.zeros(3), "shape"),
        (np.zeros(3, dtype=np.uint8), "shape"),
        (np.zeros((0, 2)), "no points"),
        (np.zeros((0, 4, 4), dtype=np.uint8), "at least one"),
        (np.zeros((2, 2, 2, 2, 2), dtype=np.uint8), "expected"),
        (torch.eye(3).to_sparse(), "sparse"),
        (np.array([[0.0, np.nan]]), "nan"),
        (np.array([[0.0, 1.0], [np.inf, 0.0]]), "inf"),
    ],
)
def test_what_is_no_set_of_points_is_refused(source, said):
    with pytest.raises(InputError, match=said):
        load(source)


INTEGER = "expected an integer of at least 1"
CHOICES = "; expected one of 0, 1, 2"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"subset": 0}, f"subset is 0; {INTEGER}"),
        ({"subset": -1}, f"subset is -1; {INTEGER}"),
        ({"subset": 13}, "subset is 13 and there are 12 points to choose from; expected at most that"),
        ({"subset": 2.0}, f"subset is 2.0; {INTEGER}"),
        ({"subset": True}, f"subset is True; {INTEGER}"),
        ({"subset": "3"}, f"subset is '3'; {INTEGER}"),
        ({"seed": -1}, "seed is -1; expected an integer of at least 0"),
        ({"seed": None}, "seed is None; expected an integer of at least 0"),
        ({"resize": 0}, f"resize is 0; {INTEGER}"),
        ({"resize": -3}, f"resize is -3; {INTEGER}"),
        ({"resize": (4, 0)}, f"resize is 0; {INTEGER}"),
        ({"resize": (4,)}, r"resize is \(4,\); expected one size or \(height, width\)"),
        ({"resize": 2.5}, f"resize is 2.5; {INTEGER}"),
        ({"resize": "4"}, f"resize is '4'; {INTEGER}"),
        ({"resize": 10**9}, "memory are free: choose a smaller size"),
        ({"classes": 7}, f"class 7 has no points{CHOICES}"),
        ({"classes": -1}, f"class -1 has no points{CHOICES}"),
        ({"classes": "cat"}, f"class 'cat' has no points{CHOICES}"),
        ({"classes": []}, "which keeps nothing; expected a label, a name or several"),
        ({"classes": 1.5}, "classes is 1.5; expected an integer"),
        ({"classes": 1, "subset": 5}, "subset is 5 and there are 4 points to choose from; expected at most that"),
        ({"labels": [1, 2]}, r"labels have shape \(2,\); expected \(12,\), one for each point"),
        ({"labels": np.arange(24).reshape(12, 2)}, r"labels have shape \(12, 2\); expected \(12,\)"),
        ({"labels": ["a"] * 12}, "labels have dtype <U1; expected integers"),
        ({"labels": LABELS + 0.5}, "labels have dtype float64; expected integers"),
        ({"weights": [1, 2]}, r"weights have shape \(2,\); expected \(12,\), one for each point"),
        ({"weights": [-1] + [1] * 11}, "weight 0 is -1.0; expected finite weights that are not negative"),
        ({"weights": [0] * 12}, "all weights are 0; expected finite weights that are not negative"),
        ({"weights": [np.nan] * 12}, "weight 0 is nan; expected finite weights that are not negative"),
        ({"flips": "yes"}, "flips is 'yes'; expected True or False"),
        ({"grey": 1}, "grey is 1; expected True or False"),
        ({"skip_broken": None}, "skip_broken is None; expected True or False"),
        ({"skip_broken": True}, "skip_broken applies to image files and JPEG bytes"),
        ({"layout": "nchw"}, "layout is 'nchw'; expected 'chw' or 'hwc'"),
    ],
)
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        load(PIXELS, **{"labels": LABELS, **options})


@pytest.mark.parametrize("options", [{"resize": 2}, {"grey": True}, {"flips": True}, {"layout": "hwc"}])
def test_image_options_do_not_apply_to_vectors(options):
    for source in (VECTORS, PIXELS[:, 0, 0]):
        with pytest.raises(InputError, match="applies to"):
            load(source, **options)


def test_grey_of_four_channels_and_classes_without_labels_are_refused():
    with pytest.raises(InputError, match="channels"):
        load(np.zeros((2, 4, 8, 8), dtype=np.uint8), grey=True)
    with pytest.raises(InputError, match="no labels"):
        load(VECTORS, classes=1)


def test_messages_are_one_line_and_the_library_is_silent(capfd):
    for source in ([[1.0], [2.0, 3.0]], "nowhere.npy", np.array(["a\nb"])):
        with pytest.raises(FlowscopeError) as caught:
            load(source)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("flowscope").level == logging.NOTSET

"""audit: what is a copy is found, what is none is not, and wrong input is refused in words."""

import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import flowscope as fs
from flowscope.auditing import Audit
from flowscope.auditing.alignment import aligned_distances, prepare
from flowscope.auditing.pixel_index import PixelIndex
from flowscope.auditing.planted import PICTURE_KINDS, Values
from flowscope.data import TrainingSet
from flowscope.errors import FlowscopeError, FlowscopeWarning, InputError, NumericalError
from flowscope.metrics import FeatureSpace, near_copies
from tests.support.photographs import CHANGES, photographs, reencoded

IMAGES = torch.cat([photographs()[:15], photographs()[16:]])  # two of them are near-copies
TRAIN, NEW = IMAGES[:40], IMAGES[40:]


def vectors(n: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, 12)))


@pytest.mark.parametrize("name", CHANGES)
def test_changed_training_images_are_copies_of_what_they_were(name: str) -> None:
    found = fs.audit(CHANGES[name](TRAIN[:20]), TRAIN, planted=0, measure=False)
    assert found.copies >= (18 if name == "re-encoded" else 20)  # of low contrast little is left but noise of the codec
    assert all(pair.sample == pair.training for pair in found.pairs)


def test_new_images_are_none() -> None:
    found = fs.audit(NEW, TRAIN, planted=0, measure=False)
    assert found.share == 0 and found.null is None and "no held-out points" in found.notes[-1]


def test_a_reencoding_of_each_training_image_in_the_set_hides_no_copy() -> None:
    images = photographs()
    found = fs.audit(images, torch.cat([images, reencoded(images)]), planted=0, measure=False)
    assert (found.n, found.share) == (60, 1.0) and found.low == pytest.approx(0.9404, abs=1e-4)


@pytest.mark.slow
def test_shifted_and_cropped_training_images_in_the_set_hide_no_copy() -> None:
    values = Values(-1.0, 1.0, 0.5)
    for kind in ("shift3", "crop"):
        both = torch.cat([IMAGES[:30], PICTURE_KINDS[kind](IMAGES[:30], values)])
        assert fs.audit(IMAGES[:30], both, planted=0, measure=False).share == 1


@pytest.fixture(scope="module")
def digits() -> tuple[TrainingSet, TrainingSet]:
    whole = fs.load("digits")
    rows = np.random.default_rng(0).permutation(len(whole))
    return tuple(TrainingSet(whole.rows(np.sort(part))) for part in (rows[:300], rows[300:600]))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def of_digits(digits: tuple[TrainingSet, TrainingSet]) -> Audit:
    train, rest = digits
    samples = torch.cat([rest.rows(slice(0, 100)), train.rows(slice(0, 25))])
    return fs.audit(samples, train, rest.rows(slice(100, 300)), planted=20, measure=False)


def test_copies_among_new_points_are_those_that_were_put_there(of_digits: Audit) -> None:
    copies = [pair for pair in of_digits.pairs if pair.copy]
    assert {pair.sample for pair in copies} >= set(range(100, 125))
    assert all(pair.training == pair.sample - 100 for pair in copies[:25])
    assert of_digits.null is not None and of_digits.null.share <= 0.03
    assert of_digits.share == len(copies) / 125 and len(copies) <= 30
    assert of_digits.planted["exact"] == of_digits.planted["flip"] == of_digits.planted["brightness15"] == 1
    assert set(of_digits.planted) == set(PICTURE_KINDS)


def test_the_oracle_copies(digits: tuple[TrainingSet, TrainingSet]) -> None:
    few = TrainingSet(digits[0].rows(slice(0, 64)))
    found = fs.audit(fs.sample(fs.Oracle(few), n=40, steps=20), few, digits[1], planted=0, measure=False)
    assert found.share == 1 and found.null is not None and found.null.share < 0.05
    assert len({pair.training for pair in found.pairs}) > 20


def test_pairs_are_worst_first_and_the_result_has_the_form_of_the_contract(of_digits: Audit) -> None:
    ratios = [pair.ratio for pair in of_digits.pairs]
    assert ratios == sorted(ratios) and len(ratios) == of_digits.n == 125
    found = json.loads(of_digits.to_json())
    assert {"n", "share", "low", "high", "null", "pairs", "planted"} <= found.keys()
    assert found["pairs"][0].keys() == {"sample", "training", "distance", "ratio", "copy"}
    assert found["null"].keys() == {"share", "low", "high"}
    assert of_digits.to_files()["copies.csv"].count("\n") == 126
    with pytest.raises(AttributeError):
        of_digits.share = 0.0  # type: ignore[misc]


@pytest.mark.slow
def test_a_result_is_a_frame_a_figure_and_html(of_digits: Audit) -> None:
    frame = of_digits.to_frame()
    assert list(frame.columns) == ["sample", "training", "distance", "ratio", "copy"] and len(frame) == 125
    assert isinstance(of_digits.plot(), Figure)
    assert "of 125 samples are copies" in of_digits._repr_html_()


@pytest.mark.slow
def test_the_order_of_points_and_samples_plays_no_part(digits: tuple[TrainingSet, TrainingSet]) -> None:
    train, rest = digits
    samples = rest.rows(slice(0, 40))
    rows, columns = (np.random.default_rng(1).permutation(n) for n in (len(train), len(samples)))
    one = PixelIndex(train)(samples)
    other = PixelIndex(TrainingSet(train.rows(rows)))(samples[columns])
    for name in ("nearest", "second"):
        torch.testing.assert_close(getattr(one, name)[columns], getattr(other, name), rtol=0, atol=1e-12)
    assert np.array_equal(one.indices.numpy()[columns], rows[other.indices])


def test_the_nearest_pairs_are_those_of_a_search_through_all() -> None:
    train, index = TrainingSet(TRAIN), PixelIndex(TrainingSet(TRAIN))
    samples = torch.cat([NEW[:6], CHANGES["brightened by a quarter"](TRAIN[:3])])
    found = index(samples)
    own, near = prepare(samples), prepare(TRAIN)
    group = near_copies(train)
    assert len(np.unique(group)) == len(TRAIN)
    for row, image in enumerate(own):
        each = image.expand(len(near), -1, -1, -1)
        all_distances = torch.minimum(aligned_distances(each, near), aligned_distances(each.flip(-1), near))
        if found.ratio[row] < 0.5:  # of what is no copy the nearest are found among candidates alone
            assert int(all_distances.argmin()) == int(found.indices[row])
        assert float(found.nearest[row]) >= float(all_distances.min()) - 1e-12
        assert float(all_distances[found.indices[row]]) == pytest.approx(float(found.nearest[row]))


def test_vectors_are_compared_by_value_and_have_kinds_of_their_own() -> None:
    train = vectors(200)
    found = fs.audit(torch.cat([train[:10], vectors(10, 1)]), train, vectors(150, 2), planted=30, measure=False)
    assert {pair.sample for pair in found.pairs if pair.copy} >= set(range(10)) and found.share <= 0.55
    assert found.planted == {"exact": 1.0, "noise": 1.0}
    assert found.shown is None and found.space["name"] == "values"
    distances = torch.cdist(vectors(10, 1), train).sort(1).values
    by_sample = {pair.sample: pair for pair in found.pairs}
    for row in range(10):
        assert by_sample[10 + row].distance == pytest.approx(float(distances[row, 0]))
        assert by_sample[10 + row].ratio == pytest.approx(float(distances[row, 0] / distances[row, 1]))


def test_a_training_set_alone_shows_its_near_copies() -> None:
    found = fs.audit(None, torch.cat([TRAIN, reencoded(TRAIN[:5]), TRAIN[5:6].flip(-1)]), planted=0, measure=False)
    assert {(pair.sample, pair.training) for pair in found.pairs} == {(40 + k, k) for k in range(6)}
    assert found.share == pytest.approx(6 / 46) and found.of_training_set
    assert fs.audit(None, TRAIN, planted=5).planted["exact"] == 1
    assert fs.audit(None, vectors(9)).pairs == ()


def test_samples_that_are_their_own_null_are_told() -> None:
    with pytest.warns(FlowscopeWarning, match="10 samples are also among the held-out points"):
        found = fs.audit(NEW[:10], TRAIN, NEW[:20], planted=0, measure=False)
    assert any("10 samples are also among" in note for note in found.notes)


@pytest.mark.slow
def test_held_out_points_that_are_in_the_training_set_are_told() -> None:
    with pytest.warns(FlowscopeWarning, match="20 held-out points are also in the training set"):
        found = fs.audit(NEW, TRAIN, TRAIN[:20], planted=0, measure=False)
    assert found.null is not None and found.null.share == 1


class Means(nn.Module):
    """A network of one's own: what it returns is told by a function."""

    def __init__(self, last: Callable[[Tensor], Any] = lambda x: x) -> None:
        super().__init__()
        self.last = last

    def forward(self, x: Tensor) -> Any:
        return self.last(nn.functional.adaptive_avg_pool2d(x, 4).flatten(1))


@pytest.mark.slow
def test_a_network_as_space_finds_mirrored_copies_too() -> None:
    for space in (Means(), FeatureSpace("Means", Means())):
        found = fs.audit(torch.cat([TRAIN[:10].flip(-1), NEW]), TRAIN, space=space, planted=10, measure=False)
        assert {pair.sample for pair in found.pairs if pair.copy} >= set(range(10))
        assert found.space["name"] == "Means" and found.planted["flip"] == 1


REFUSED: list[tuple[dict[str, Any], type[FlowscopeError], str]] = [
    ({"generated": NEW[:, :, :16, :16]}, InputError, r"generated points have shape \(3, 16, 16\); .* --resize 32"),
    ({"held_out": NEW[:, :1]}, InputError, r"held-out points have shape \(1, 32, 32\)"),
    ({"generated": (NEW + 1) / 2}, InputError, "generated images lie mostly from .* one range"),
    ({"generated": 127.5 * (NEW + 1)}, InputError, "generated images lie mostly from .* one range"),
    ({"training_set": TRAIN[:1]}, InputError, "is one point; expected at least two"),
    ({"training_set": TRAIN[:1].expand(3, -1, -1, -1)}, InputError, "is 3 near-copies of one point"),
    ({"space": "dino"}, InputError, "space is 'dino'; expected \"pixels\""),
    ({"space": 3}, InputError, "space is a int"),
    ({"space": "mobilenet"}, InputError, "mobilenet:FILE"),
    ({"space": "taef2:nowhere.pth"}, InputError, "nowhere.pth is not there"),
    ({"space": "nowhere.pt"}, InputError, "there is no file 'nowhere.pt'"),
    ({"space": Means(lambda x: x * torch.nan)}, NumericalError, "NaN"),
    ({"space": Means(lambda x: x[:1])}, InputError, r"returned \(1, 48\) for 2 points"),
    ({"space": Means(lambda x: x[:, 0])}, InputError, r"returned \(2,\)"),
    ({"space": Means(lambda x: x @ x)}, InputError, "failed on points .* RuntimeError"),
    ({"generated": None, "held_out": NEW}, InputError, "generated is None"),
    ({"generated": None, "space": Means()}, InputError, "generated is None"),
    ({"planted": -1}, InputError, "planted is -1"),
    ({"seed": None}, InputError, "seed is None"),
]


@pytest.mark.parametrize(("changed", "error", "said"), REFUSED, ids=[said[:24] for _, _, said in REFUSED])
def test_wrong_input_is_refused(changed: dict[str, Any], error: type[FlowscopeError], said: str) -> None:
    with pytest.raises(error, match=said):
        fs.audit(**{"generated": NEW, "training_set": TRAIN} | changed)


def test_encoders_come_from_files(tmp_path: Any) -> None:
    class Pool(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is on its way out, and files of it are not
        torch.jit.save(torch.jit.script(Pool()), tmp_path / "pool.pt")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "weights.pt")
    (tmp_path / "own.py").write_text(
        "import torch\n"
        "def make():\n    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten())\n"
        "def wrong():\n    return 3\n"
        "def broken():\n    raise KeyError('x')\n"
    )
    shares = [
        fs.audit(TRAIN[:5], TRAIN, space=f"{tmp_path}/{name}", planted=0, measure=False)
        for name in ("pool.pt", "own.py:make")
    ]
    assert shares[0].share == shares[1].share == 1
    for name, said in (
        ("own.py:wrong", "returned a int"),
        ("own.py:broken", "KeyError"),
        ("own.py:none", "AttributeError"),
        ("weights.pt", "torch.jit.save"),
    ):
        with pytest.raises(InputError, match=said):
            fs.audit(TRAIN[:5], TRAIN, space=f"{tmp_path}/{name}", planted=0, measure=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["own.py", "pool.pt", "weights.pt"]


@pytest.mark.parametrize("kind", PICTURE_KINDS)
def test_planted_copies_stay_in_the_range_and_shape(kind: str) -> None:
    made = PICTURE_KINDS[kind](TRAIN, Values(-1.0, 1.0, 0.5))
    assert made.shape == TRAIN.shape and made.min() >= -1 and made.max() <= 1
    assert (kind == "exact") == bool(torch.equal(made, TRAIN))

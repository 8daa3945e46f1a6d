"""intermediate, switch and refine: on models whose samples are known without training.

The oracle itself copies. The exact field of a Gaussian, from which the training set was drawn, makes new images.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flowscope import InputError, Oracle, TrainingSet, load
from flowscope.curve.stage_times import Boundaries
from flowscope.metrics import split_frequencies
from flowscope.studies.bench.boundaries import check_times, expected_copies_from, times_around
from flowscope.studies.bench.finding import Finding
from flowscope.studies.bench.restoration import ratio_of_means
from flowscope.studies.intermediate import intermediate_study
from flowscope.studies.refine import refine_study
from flowscope.studies.switch import switch_study

pytestmark = pytest.mark.slow  # all of them share what takes long

STEPS = 20  # of a restored image, from t = 0
LOW, HIGH = 8.0, 0.002  # variances of a coordinate at low and at high frequencies


class GaussianField:
    """The velocity of Gaussian images with these variances on the linear path: what an ideal model of them learns."""

    name = "ideal"
    classes = None

    def __init__(self, low: float = LOW, high: float = HIGH) -> None:
        self.variances = (low, high)

    def __call__(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        t = float(t)
        bands = zip(split_frequencies(x), self.variances, strict=True)
        return sum(band * (t * v - (1 - t)) / (t * t * v + (1 - t) ** 2) for band, v in bands)


def images(n: int, seed: int) -> np.ndarray:
    low, high = split_frequencies(torch.from_numpy(np.random.default_rng(seed).standard_normal((n, 1, 8, 8))))
    return (math.sqrt(LOW) * low + math.sqrt(HIGH) * high).numpy().astype(np.float32)


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(TrainingSet(images(400, 0), name="drawn"))


@pytest.fixture(scope="module")
def held_out() -> TrainingSet:
    return TrainingSet(images(100, 1), name="others")


@pytest.fixture(scope="module")
def mixed(oracle: Oracle, held_out: TrainingSet) -> Finding:
    seen: list[tuple[int, int]] = []
    found = switch_study(GaussianField(), oracle, held_out, n=80, steps=20, progress=lambda *at: seen.append(at))
    assert seen == [(k + 1, len(seen)) for k in range(len(seen))]
    return found


def test_an_ideal_model_makes_images_as_new_as_held_out_ones(mixed: Finding) -> None:
    table, null = mixed.tables["switch"], mixed.tables["null"]
    assert table["t_switch"][0] == 0
    assert abs(table["novelty"][0] - 1) < 4 * table["novelty_error"][0]
    assert table["memorised_low"][0] <= null["high"][0]
    assert table["precision"][0] > 0.5


def test_the_oracle_alone_ends_on_its_retrieved_images(mixed: Finding) -> None:
    table = mixed.tables["switch"]
    assert table["t_switch"][-1] == 1
    assert table["memorised"][-1] == table["same_image"][-1] == 1
    assert table["nearest"][-1] == pytest.approx(0, abs=1e-5)
    assert table["to_retrieved"][-1] == pytest.approx(0, abs=1e-5)


def test_new_images_give_way_to_copies_as_the_switch_moves_up(mixed: Finding) -> None:
    table = mixed.tables["switch"]
    for name, sign in (("memorised", 1), ("same_image", 1), ("nearest", -1), ("novelty", -1)):
        error = table.get(f"{name}_error", np.full(len(table[name]), 0.05))
        assert (sign * np.diff(table[name]) >= -3 * np.maximum(error[1:], error[:-1])).all(), name
    assert mixed.verdict == "differs"  # its copies are denoised states: held-out images are restored as often
    assert "80 samples for each t_switch" in mixed.notes[0]
    gallery = mixed.galleries[0]
    assert gallery.images.shape == (2 * len(table["t_switch"]), 8, 1, 8, 8)
    np.testing.assert_allclose(gallery.images[-1], gallery.images[-2], atol=1e-5)  # the oracle's are training images


def test_fd_falls_where_samples_are_training_images(mixed: Finding) -> None:
    table = mixed.tables["switch"]
    assert np.isfinite(table["fd"]).all()
    assert (table["fd_error"] > 0).all()


def test_a_model_that_copies_differs(oracle: Oracle, held_out: TrainingSet) -> None:
    found = switch_study(oracle, oracle, held_out, n=30, steps=10, times=[0.0, 0.3, 0.9, 1.0])
    table = found.tables["switch"]
    assert (table["memorised"] == 1).all()
    assert (table["same_image"] == 1).all()
    assert found.verdict == "agrees"
    assert np.isnan(table["fd"]).all()  # 30 samples are too few for 64 features
    assert any("needs more samples" in note for note in found.notes)


def test_what_is_tested_on_one_side_alone_cannot_be_tested(oracle: Oracle) -> None:
    found = switch_study(GaussianField(), oracle, n=20, steps=10, times=[0.0, 1.0])
    assert found.verdict == "cannot be tested"
    assert any("no null" in note for note in found.notes)


def test_settle_times_are_those_of_the_closed_form(oracle: Oracle) -> None:
    """x_t = x1 sqrt(t^2 v + s^2)/sqrt(v), so that D_t/x1 = t sqrt(v)/sqrt(t^2 v + s^2) in a band of variance v."""
    found = intermediate_study(GaussianField(), oracle, n=20, steps=200, seed=3, references=False)
    settling = found.tables["settling"]
    assert settling["field"][:2] == ["oracle", "model"]
    t = np.linspace(0, 1, 20001)
    for band, v in (("layout", LOW), ("detail", HIGH)):
        ahead = t * math.sqrt(v) / np.sqrt(t * t * v + (1 - t) ** 2)
        truth = t[np.argmax((1 - ahead) ** 2 <= 0.1)]
        assert settling[band][1] == pytest.approx(truth, abs=0.012)  # two nodes
    assert settling["layout"][1] < settling["detail"][1]
    table = found.tables["intermediate"]
    assert table["model_distance"][-1] == 0
    assert table["oracle_layout_left"][0] == 1


def test_an_ideal_model_settles_layout_before_detail(oracle: Oracle) -> None:
    assert intermediate_study(GaussianField(), oracle, n=20, steps=20, seed=3).verdict == "agrees"


def test_the_oracle_as_model_is_the_oracle() -> None:
    digits = load("digits")
    few = TrainingSet(digits.rows(slice(0, 200)), digits.labels[:200], name="few digits")
    seen: list[tuple[int, int]] = []
    found = intermediate_study(Oracle(few), Oracle(few), n=7, steps=8, batch=3, progress=lambda *at: seen.append(at))
    table = found.tables["intermediate"]
    for name in ("distance", "layout_left", "detail_left"):
        np.testing.assert_array_equal(table[f"model_{name}"], table[f"oracle_{name}"])
    assert "by 0.00%" in found.found
    images = found.galleries[0].images
    assert images.shape[:2] == (8, 9)
    samples = images[::2, -1].reshape(4, -1)
    points = few.rows(slice(None)).reshape(200, -1).numpy()
    assert np.abs(samples[:, None] - points).max(2).min(1).max() < 1e-6  # each is a training image
    drawn = few.labels[np.abs(samples[:, None] - points).max(2).argmin(1)]
    for image, label in zip(images[::2, 0], drawn, strict=True):  # at t = 0 the mean of the sample's own class
        np.testing.assert_allclose(image, few.rows(slice(None)).numpy()[few.labels == label].mean(0), atol=1e-5)
    assert seen[-1][0] == seen[-1][1] == 8 * len(found.tables["settling"]["field"])
    assert [at for at, _ in seen] == sorted(at for at, _ in seen)
    by_batch = intermediate_study(Oracle(few), Oracle(few), n=7, steps=8, references=False).tables["intermediate"]
    np.testing.assert_allclose(by_batch["model_distance"], table["model_distance"], rtol=1e-5, atol=1e-9)


def test_points_that_are_no_images_have_no_layout() -> None:
    points = np.random.default_rng(0).standard_normal((50, 6))
    found = intermediate_study(Oracle(points), Oracle(points), n=3, steps=4)
    assert found.verdict == "cannot be tested"
    assert list(found.tables) == ["intermediate"]
    assert "no layout" in found.found
    assert found.galleries == ()


@pytest.fixture(scope="module")
def restored(oracle: Oracle, held_out: TrainingSet) -> Finding:
    foreign = TrainingSet(3 * images(30, 5)[..., ::2].repeat(2, -1), name="stretched")
    return refine_study(GaussianField(), oracle, held_out, foreign, n=60, steps=STEPS)


class Still:
    """A field that has learned nothing: it moves no state."""

    def __call__(self, x: Tensor, t: Any, y: Any = None) -> Tensor:
        return torch.zeros_like(x)


def test_a_model_that_has_learned_nothing_agrees_with_nothing(oracle: Oracle, held_out: TrainingSet) -> None:
    for found in (
        intermediate_study(Still(), oracle, n=20, steps=8),
        refine_study(Still(), oracle, held_out, n=40, steps=8),
        switch_study(Still(), oracle, held_out, n=40, steps=8),
    ):
        assert found.verdict == "cannot be tested", found.study


def test_an_ideal_model_restores_held_out_images_as_training_images(restored: Finding) -> None:
    table = restored.tables["refine"]
    assert (table["model_ratio_low"] < 1.2).all()
    assert (table["model_ratio_high"] > 0.8).all()
    assert restored.verdict == "agrees"
    late = table["t"] >= restored.settings["saturation"]
    assert late.any()
    assert (table["oracle_training_own"][late] == 1).all()
    assert (table["oracle_held_out_own"] == 0).all()  # the oracle only ever ends on training images
    assert (table["oracle_held_out_nearest"] < 1e-3).all()  # not to rounding: at 0.95 two may share the weight


def test_what_the_ideal_model_leaves_is_the_closed_form(restored: Finding, oracle: Oracle) -> None:
    """Euler steps multiply a band by a factor: x = g (t x1 + s x0), off by (g t - 1)^2 v + (g s)^2 a coordinate."""
    low_share = float(split_frequencies(torch.eye(64).reshape(64, 1, 8, 8).double())[0].flatten(1).diag().mean())
    table = restored.tables["refine"]
    for k, t in enumerate(table["t"]):
        nodes = np.concatenate([[t], [i / STEPS for i in range(STEPS + 1) if i / STEPS > t]])
        truth = 0.0
        for share, v in ((low_share, LOW), (1 - low_share, HIGH)):
            steps = zip(nodes[:-1], np.diff(nodes), strict=True)
            g = math.prod(1 + h * (s * v - (1 - s)) / (s * s * v + (1 - s) ** 2) for s, h in steps)
            truth += share * ((g * t - 1) ** 2 * v + (g * (1 - t)) ** 2)
        truth /= oracle.support.law().mean_square / 64
        for kind in ("training", "held_out"):
            value, error = table[f"model_{kind}_error"][k], table[f"model_{kind}_error_error"][k]
            assert abs(value - truth) < 4 * error + 0.03 * truth  # the drawn images' own variance is off by a little


def test_the_gallery_shows_original_state_and_results(restored: Finding) -> None:
    assert [g.title for g in restored.galleries] == [
        f"Restored from t: {kind} image" for kind in ("training", "held-out", "foreign")
    ]
    first = restored.galleries[0].images
    assert first.shape[1:] == (5, 1, 8, 8)
    np.testing.assert_allclose(first[-1, 2], first[-1, 0], atol=1e-5)  # the oracle finds the training image
    assert any("stretched" in note for note in restored.notes)


def test_a_model_that_snaps_to_training_images_differs(oracle: Oracle, held_out: TrainingSet) -> None:
    found = refine_study(oracle, oracle, held_out, n=30, steps=10, times=[0.9])
    assert found.verdict == "differs"
    assert found.tables["refine"]["model_held_out_own"][0] == 0


def test_labels_of_the_images_reach_the_fields() -> None:
    digits = load("digits")
    few = TrainingSet(digits.rows(slice(0, 200)), digits.labels[:200])
    other = TrainingSet(digits.rows(slice(200, 220)), digits.labels[200:220])
    asked = []

    class Asked:
        name, classes, null = "asked", 10, 10

        def __call__(self, x: Tensor, t: Any, y: Any = None) -> Tensor:
            asked.append(None if y is None else y.tolist())
            return Oracle(few)(x, t, y)

    refine_study(Asked(), Oracle(few), other, TrainingSet(-other.rows(slice(None))), n=20, times=[0.8], steps=5)
    training, held_out, foreign = asked  # one step from 0.8 to 1 each
    assert 10 < len(training) <= 20
    assert sorted(held_out) == sorted(other.labels.tolist())
    assert foreign is None  # nothing is said of foreign images


def test_ratios_cover_the_truth_and_have_their_edges() -> None:
    draw = np.random.default_rng(0)
    hits = [
        r.low < 2 < r.high
        for r in (ratio_of_means(2 * draw.chisquare(3, 80), draw.chisquare(3, 80)) for _ in range(300))
    ]
    assert 0.91 < np.mean(hits) < 0.985
    assert ratio_of_means(np.ones(3), np.zeros(3)).low == math.inf
    assert ratio_of_means(np.zeros(3), np.ones(3)).high == 0
    assert math.isnan(ratio_of_means(np.zeros(3), np.zeros(3)).value)


def test_times_lie_on_nodes_on_their_side_of_the_boundaries() -> None:
    assert times_around(Boundaries(0.537, 0.752), (0.752, 0.88), 50) == [0.26, 0.52, 0.76, 0.88]
    assert times_around(Boundaries(0.5, 0.8), (0.8, 1.0), 10) == [0.2, 0.5, 0.8]
    assert times_around(Boundaries(math.nan, math.nan), (math.nan,), 10) == [0.1, 0.2, 0.5]
    assert expected_copies_from(0.1) == pytest.approx(0.2)
    assert expected_copies_from(0.5) == pytest.approx(9 / 13)
    assert math.isnan(expected_copies_from(math.nan))
    assert check_times([0.5, 0.1], [], 1.0) == [0.1, 0.5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o: switch_study(o, o, times=[0.5, 1.2]), r"times are \[0.5, 1.2\]"),
        (lambda o: switch_study(o, o, times=[0.5, 0.5]), "each once"),
        (lambda o: refine_study(o, o, times=[1.0]), "times are"),
        (lambda o: refine_study(o, o, times="soon"), "times are 'soon'"),
        (lambda o: switch_study(o, o, n=0), "n is 0"),
        (lambda o: intermediate_study(o, o, steps=0), "steps is 0"),
        (lambda o: refine_study(o, o, steps=0), "steps is 0"),
        (lambda o: intermediate_study(o, Oracle(o.training_set, "cosine")), "path"),
        (lambda o: refine_study(o, o, None, TrainingSet(np.zeros((3, 2)))), r"foreign images have shape \(2,\)"),
        (lambda o: switch_study("model", o), "callable"),
    ],
)
def test_wrong_input_is_refused(oracle: Oracle, call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(oracle)


@pytest.mark.parametrize("name", ["mixed", "restored"])
def test_findings_are_written_and_drawn(name: str, request: pytest.FixtureRequest, tmp_path: Any) -> None:
    finding = request.getfixturevalue(name)
    finding.save(tmp_path)
    again = Finding.load(tmp_path, finding.study)
    assert again.verdict == finding.verdict
    assert len(finding.plot().axes) >= len(finding.panels)
    assert finding.provenance["nfe"] > 0


def test_what_is_no_oracle_is_refused_as_such(oracle: Oracle) -> None:
    for study in (switch_study, intermediate_study, refine_study):
        with pytest.raises(InputError, match="oracle is a TrainingSet; expected an Oracle"):
            study(GaussianField(), oracle.training_set)


def test_a_finding_is_short_when_it_is_printed(oracle: Oracle) -> None:
    found = intermediate_study(oracle, oracle, n=2, steps=2)
    assert repr(found) == f"Finding('intermediate', {found.verdict!r}: {found.found})"

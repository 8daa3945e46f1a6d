"""Other measures: against slow loops, scipy and sets of which the answer is known."""

import numpy as np
import pytest
import torch
from scipy import stats

from flowscope.auditing.copying import Nearest, authentic, copying_test, mann_whitney, nearest_to
from flowscope.auditing.measures import BALL, measures
from flowscope.metrics import precision_recall

RNG = np.random.default_rng(0)
TRAIN, NEW, MORE = (torch.from_numpy(RNG.standard_normal((n, 3))) for n in (300, 120, 100))


def of(name: str, samples: torch.Tensor, held_out: torch.Tensor | None = None) -> dict[str, float]:
    return {row["measure"]: row for row in measures(TRAIN, samples, held_out, 0)[0]}[name]


def test_the_nearest_is_that_of_all_differences() -> None:
    slow = np.linalg.norm(NEW.numpy()[:, None] - TRAIN.numpy(), axis=2)
    found = nearest_to(TRAIN, NEW)
    np.testing.assert_allclose(found.distances, slow.min(1), rtol=1e-9)
    assert np.array_equal(found.indices, slow.argmin(1))
    others = nearest_to(TRAIN, TRAIN[5:9], but=torch.arange(5, 9))
    slow = np.linalg.norm(TRAIN.numpy()[5:9, None] - TRAIN.numpy(), axis=2)
    slow[np.arange(4), np.arange(5, 9)] = np.inf
    np.testing.assert_allclose(others.distances, slow.min(1), rtol=1e-9)


def test_authenticity_counts_samples_farther_than_the_training_points_neighbour() -> None:
    train = torch.tensor([[0.0], [1.0], [5.0], [9.0]])
    samples = torch.tensor([[0.5], [1.9], [5.5], [2.9], [20.0]])  # 0.5 <= 1, 0.9 <= 1, 0.5 <= 4, 1.9 > 1, 11 > 4
    assert authentic(train, nearest_to(train, samples)).value == pytest.approx(2 / 5)
    assert of("AuthPct", TRAIN[:50])["value"] == 0
    assert of("AuthPct", TRAIN[:50] + 100)["value"] == 1


def test_the_test_of_two_sets_of_distances_is_that_of_scipy() -> None:
    a, b = np.round(RNG.random(40), 1), np.round(RNG.random(31) + 0.1, 1)  # with ties
    exact = stats.mannwhitneyu(a, b, method="asymptotic", use_continuity=False, alternative="less")
    assert stats.norm.cdf(mann_whitney(a, b)) == pytest.approx(exact.pvalue)
    assert mann_whitney(np.ones(5), np.ones(6)) == 0


def test_copies_have_a_low_test_and_new_points_none() -> None:
    copies = TRAIN[:120] + 1e-3
    assert of("C_T", copies, MORE)["value"] < -6 < -4 < of("C_T", NEW, MORE)["value"]
    assert abs(of("C_T", NEW, torch.cat([NEW, MORE]))["held_out"]) < 4
    few = Nearest(torch.ones(5), torch.zeros(5, dtype=torch.int64))
    assert np.isnan(copying_test(TRAIN, (NEW[:5], few), (MORE[:5], few)).value)  # too few in every cell


def test_balls_are_those_of_loops() -> None:
    train, samples = TRAIN.numpy(), NEW.numpy()
    between = np.linalg.norm(samples[:, None] - train, axis=2)

    def reach(points: np.ndarray) -> np.ndarray:
        return np.array([np.sort(np.linalg.norm(points - p, axis=1))[BALL] for p in points])

    inside = between <= reach(train)
    assert of("density", NEW)["value"] == pytest.approx(inside.sum(1).mean() / BALL)
    assert of("coverage", NEW)["value"] == pytest.approx(inside.any(0).mean())
    exact = precision_recall(TRAIN, NEW, k=BALL)
    assert of("precision", NEW)["value"] == pytest.approx(exact.precision)
    assert of("recall", NEW)["value"] == pytest.approx(exact.recall)


def test_distances_are_of_equally_many_points_and_leave_the_random_state() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    found = {row["measure"]: row for row in measures(TRAIN, NEW + 1, MORE, 0)[0]}
    assert torch.equal(before, torch.get_rng_state())
    for name in ("FD", "KID", "recall", "coverage"):
        assert found[name]["points"] == len(MORE)
    assert found["FD"]["value"] == pytest.approx(3, abs=1)  # the means are 1 apart in each of three coordinates
    for name in ("FD", "KID"):
        assert abs(found[name]["held_out"]) < 4 * found[name]["held_out_error"] + 0.2
        assert found[name]["value"] > found[name]["held_out"] + 4 * found[name]["error"]


def test_what_needs_more_points_is_left_out_and_said() -> None:
    rows, notes = measures(TRAIN[:4], NEW[:3], None, 0)
    assert {row["measure"] for row in rows} == {"AuthPct"}
    assert {note.partition(" ")[0] for note in notes} == {"precision", "recall", "density", "coverage", "FD", "KID"}
    assert all("expected at least" in note for note in notes)

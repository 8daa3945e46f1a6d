"""What studies of samples measure: errors that are what they say, the same start for all, words that follow numbers."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError
from flowscope.fields import guide
from flowscope.metrics import FeatureSpace
from flowscope.oracle import Oracle
from flowscope.sampling import draw_noise, make_nodes
from flowscope.studies.bench.influence import fit_gaussian, influence_values
from flowscope.studies.bench.paired import (
    Estimate,
    Quality,
    errors_in_words,
    estimate,
    frechet_difference,
    frechet_estimate,
    holm,
    verdict,
)
from flowscope.studies.bench.sample_bench import SampleBench
from flowscope.studies.bench.variants import as_models, count_seeds
from tests.support.fields_known import Known, cloud, late

NODES = make_nodes(10).numpy()


def gaussian_distance(real: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> float:
    """The Frechet distance of two Gaussians, by scipy's matrix root."""
    own = np.cov(real, rowvar=False)
    root = sqrtm(own @ covariance).real
    return float(((mean - real.mean(0)) ** 2).sum() + np.trace(own + covariance - 2 * root))


def draws(seed: int, n: int = 200, shift: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 3)) @ np.array([[1.0, 0.4, 0], [0, 1.3, 0.2], [0, 0, 0.6]]) + shift


REAL = np.random.default_rng(99).standard_normal((500, 3)) * [1.0, 0.7, 1.5]


def run_of(x: np.ndarray) -> Quality:
    fd = gaussian_distance(REAL, x.mean(0), np.cov(x, rowvar=False))
    return Quality(fd, influence_values(fit_gaussian(REAL), x), 1.0, 1.0, np.zeros(len(x), dtype=bool), 10)


def test_an_influence_value_is_what_the_distance_changes_by_when_its_sample_counts_more() -> None:
    x, step = draws(0), 1e-5
    h = influence_values(fit_gaussian(REAL), x)
    for i in (0, 17, 101):
        answers = []
        for way in (step, -step):
            w = np.full(len(x), (1 - way) / len(x))
            w[i] += way
            mean = w @ x
            z = x - mean
            answers.append(gaussian_distance(REAL, mean, (z * w[:, None]).T @ z))
        assert h[i] == pytest.approx((answers[0] - answers[1]) / (2 * step), rel=0.02, abs=0.02)  # n against n - 1
    assert abs(h.mean()) < 1e-12


def test_influence_values_stand_constant_features_and_fewer_samples_than_features() -> None:
    x, real = draws(0), REAL.copy()
    flat, flat_real = (np.column_stack([v, np.ones(len(v))]) for v in (x, real))
    np.testing.assert_allclose(
        influence_values(fit_gaussian(flat_real), flat), influence_values(fit_gaussian(real), x), atol=1e-9
    )
    assert np.isfinite(influence_values(fit_gaussian(np.tile(real, 30)), np.tile(x[:20], 30))).all()


def test_the_error_of_a_distance_is_the_spread_over_repeated_draws() -> None:
    runs = [run_of(draws(seed)) for seed in range(150)]
    spread = np.std([run.fd for run in runs], ddof=1)
    told = np.mean([frechet_estimate([run]).error for run in runs])
    assert told == pytest.approx(spread, rel=0.2)  # the spread of 150 is known to 6 %


def test_paired_differences_have_the_small_error_that_they_say() -> None:
    def changed(x: np.ndarray) -> np.ndarray:
        return x * [1.0, 1.1, 1.0] + 0.05

    found = [frechet_difference([run_of(changed(draws(s)))], [run_of(draws(s))]) for s in range(150)]
    spread = np.std([d.value for d in found], ddof=1)
    assert np.mean([d.error for d in found]) == pytest.approx(spread, rel=0.2)
    assert found[0].error < 0.3 * frechet_estimate([run_of(draws(0))]).error  # without pairs it would be 1.4 of it


def test_errors_over_seeds_and_over_samples_are_told_apart() -> None:
    h = np.array([[1.0, -1.0, 1.0, -1.0]])
    one = estimate(np.array([2.0]), h)
    assert (one.value, one.error) == (2.0, one.error_samples)
    assert math.isnan(one.error_seeds)
    many = estimate(np.array([1.0, 2.0, 3.0]), np.repeat(h, 3, axis=0))
    assert many.error_seeds == pytest.approx(1 / math.sqrt(3))
    assert many.error_samples == one.error_samples  # the samples are the same in every seed: seeds do not lessen it
    assert many.error == pytest.approx(math.hypot(many.error_seeds, many.error_samples))
    assert "3 seeds" in errors_in_words(3)
    assert "roughly" in errors_in_words(3)
    assert "roughly" not in errors_in_words(8)
    assert "over samples only" in errors_in_words(1)


def test_verdicts_need_the_interval_of_students_t() -> None:
    def told(*values: float, df: float = 1000) -> str:
        return verdict({str(k): Estimate(v, 1.0, math.nan, 1.0, df) for k, v in enumerate(values)})

    assert told(2.1, 5) == "agrees"
    assert told(1.9, 5) == "cannot be tested"
    assert told(-1.9, 5) == "cannot be tested"
    assert told(-2.1, 5) == "differs"
    assert told() == "cannot be tested"
    assert told(4.2, 5, df=2) == "cannot be tested"  # three seeds: 4.30 standard errors
    assert told(4.4, 5, df=2) == "agrees"


def test_holms_correction_is_that_of_its_definition() -> None:
    """The smallest p value against 0.05/3, the next against 0.05/2, the last against 0.05, up to the first to fail."""
    z = {"a": -3.2, "b": 2.2, "c": 2.3}  # two-sided p values of 0.0014, 0.028 and 0.021
    assert holm({name: Estimate(v, 1.0, math.nan, 1.0, 1e9) for name, v in z.items()}) == {"a": -1, "b": 1, "c": 1}
    z["c"] = 2.1  # 0.036: no longer below 0.05/2 as the second smallest is 0.028
    assert holm({name: Estimate(v, 1.0, math.nan, 1.0, 1e9) for name, v in z.items()}) == {"a": -1, "b": 0, "c": 0}
    assert holm({"a": Estimate(0.0, 0.0, 0.0, 0.0, 2)}) == {"a": 0}


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(cloud())


@pytest.mark.slow
def test_every_variant_starts_from_the_same_noise_which_is_that_of_its_seed(oracle: Oracle) -> None:
    seen = []

    def spy(x: Tensor, t: float, y: object = None) -> Tensor:
        if t == 0:
            seen.append(x.clone())
        return oracle(x, t)

    bench = SampleBench(oracle, None, (spy, spy), 2, n=40, seed=5, batch=16)
    bench.measure(spy, NODES)
    bench.measure(spy, make_nodes(3).numpy())
    first, second = torch.cat(seen[:3]), torch.cat(seen[3:])
    assert torch.equal(first, second)
    assert torch.equal(first, draw_noise(40, (2,), seed=5))


@pytest.mark.slow
def test_the_oracle_itself_comes_out_as_copies_and_held_out_points_as_the_null(oracle: Oracle) -> None:
    bench = SampleBench(oracle, cloud(60, seed=7), (oracle,), 1, n=60)
    found = bench.measure(oracle, make_nodes(400).numpy())
    assert found.memorised > 0.95
    assert found.nfe == 400
    assert bench.null is not None
    assert bench.null[0] < 0.3
    assert any("the null" in note for note in bench.notes())
    assert any("no null" in note for note in SampleBench(oracle, None, (oracle,), 1, n=60).notes())


@pytest.mark.slow
def test_moving_all_samples_moves_the_distance_by_its_square(oracle: Oracle) -> None:
    moved = Known(oracle, late(0.5, start=0.9))
    bench = SampleBench(oracle, None, (oracle, moved), 2, n=80)
    plain, other = (bench.measure(field, NODES) for field in (oracle, moved))
    apart = bench.draw(oracle, NODES).mean(0).numpy() - np.asarray(oracle.training_set.points).mean(0)
    assert other.fd - plain.fd == pytest.approx(0.5 + 2 * 0.5 * apart.sum(), abs=1e-5)  # |b|^2 + 2 b.(mu - mu_r)


@pytest.mark.slow
def test_evaluations_and_progress_are_counted() -> None:
    labelled = Oracle(cloud(labels=True))
    calls: list[tuple[int, int]] = []
    bench = SampleBench(labelled, None, (labelled,), 2, n=20, progress=lambda *done: calls.append(done))
    assert bench.measure(guide(labelled, 2.0, (0.0, 0.5)), NODES).nfe == 15
    bench.measure(labelled, NODES)
    assert calls == [(1, 2), (2, 2)]
    assert bench.about()["provenance"]["nfe"] == 20 * 25


def test_labels_come_in_the_proportions_of_the_training_set() -> None:
    points = np.random.default_rng(0).standard_normal((30, 2))
    s = TrainingSet(points, labels=np.arange(30) % 3, weights=np.where(np.arange(30) % 3 == 2, 2.0, 1.0))
    labels = SampleBench(Oracle(s), None, (Oracle(s),), 1, n=4000).labels
    assert labels is not None
    shares = np.bincount(labels.numpy(), minlength=3) / 4000
    np.testing.assert_allclose(shares, [0.25, 0.25, 0.5], atol=0.04)


def test_real_features_follow_the_weights() -> None:
    points = np.vstack([np.zeros((50, 1)), np.ones((50, 1))]) + 1e-3 * np.random.default_rng(0).standard_normal(
        (100, 1)
    )
    s = TrainingSet(points, weights=np.repeat([1.0, 9.0], 50))
    bench = SampleBench(Oracle(s), None, (Oracle(s),), 1, n=50)
    assert float(bench.real.mean()) == pytest.approx(0.9, abs=0.1)
    assert any("weighted" in note for note in bench.notes())


def test_what_cannot_be_measured_is_refused_before_anything_is_drawn(oracle: Oracle) -> None:
    with pytest.raises(InputError, match="at least 3"):
        SampleBench(oracle, None, (oracle,), 1, n=2)
    with pytest.raises(InputError, match="2 real samples; expected at least 3"):
        SampleBench(Oracle(np.eye(2)), None, (Oracle(np.eye(2)),), 1, n=20)
    with pytest.raises(InputError, match="held-out"):
        SampleBench(oracle, TrainingSet(np.eye(3)), (oracle,), 1, n=20)
    with pytest.raises(InputError, match="empty"):
        as_models([])
    with pytest.raises(InputError, match="velocity field"):
        as_models([oracle, 3], "small")
    with pytest.raises(InputError, match="2 of small, 1 of large"):
        count_seeds({"small": (oracle, oracle), "large": (oracle,)})
    labelled = Known(oracle)
    labelled.classes = 2
    with pytest.raises(InputError, match="cloud has none"):
        SampleBench(oracle, None, (labelled,), 1, n=20)
    with pytest.raises(InputError, match="some do not"):
        SampleBench(Oracle(cloud(labels=True)), None, (labelled, Known(oracle)), 1, n=20)
    with pytest.raises(InputError, match="path"):
        SampleBench(oracle, None, (Oracle(cloud(), "vp"),), 1, n=20)


def test_a_model_of_another_set_is_told_of(oracle: Oracle) -> None:
    other = Known(oracle, about={"training_set": {"digest": "ab" * 32}})
    assert any("another set" in note for note in SampleBench(oracle, None, (other,), 1, n=20).notes())
    own = Known(oracle, about={"training_set": {"digest": oracle.training_set.digest}})
    assert not any("another set" in note for note in SampleBench(oracle, None, (own,), 1, n=20).notes())


def test_distances_are_taken_in_the_space_that_is_given(oracle: Oracle) -> None:
    class First(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :1]

    moved = Known(oracle, lambda x, t: torch.tensor([0.0, 5 / (1 - t)]) if t >= 0.9 else torch.zeros(2))
    bench = SampleBench(oracle, None, (moved,), 2, n=40, space=FeatureSpace("first", First()))
    assert bench.measure(moved, NODES).fd == pytest.approx(bench.measure(oracle, NODES).fd, abs=1e-6)
    assert bench.about()["settings"]["space"] == "first"

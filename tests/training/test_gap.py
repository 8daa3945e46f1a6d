"""The generalisation gap: its errors hold the truth, its one contrast seldom raises a false alarm, and ten bins do."""

import math

import numpy as np
import pytest
import torch

import flowscope as fs
from flowscope.curve.stage_times import stage_times
from flowscope.data.split import take
from flowscope.errors import FlowscopeWarning
from flowscope.training.monitor.gap import clear_gaps, gap_after, mean_gap
from flowscope.training.monitor.monitor import Monitor
from flowscope.training.monitor.probes import draw_probes
from tests.support.two_classes import two_classes

MODES = "mixture:N=400,D=6,modes=3,spread=0.6"


def some_gap(rng: np.random.Generator, truth: float, probes: int = 200) -> tuple:
    """Paired differences on 30 training and 20 held-out points, each with a loss of its own, at random probes."""
    training, held = rng.integers(30, size=probes), rng.integers(20, size=probes)
    own, other = rng.standard_normal(30), truth + rng.standard_normal(20)
    return other[held] - own[training] + 0.5 * rng.standard_normal(probes), training, held


def test_the_interval_holds_the_gap_of_other_points_too() -> None:
    """Not that of these points alone: probes that share points are not as many as they seem."""
    rng, repetitions = np.random.default_rng(0), 300
    held, plain, alarms = 0, 0, 0
    for _ in range(repetitions):
        d, *rows = some_gap(rng, 0.3)
        found = mean_gap(d, *rows)
        held += found.low <= 0.3 <= found.high
        plain += abs(d.mean() - 0.3) < 1.96 * d.std(ddof=1) / math.sqrt(len(d))
        alarms += mean_gap(*some_gap(rng, 0.0)).low > 0
    assert 0.92 * repetitions < held < 0.99 * repetitions
    assert plain < 0.75 * repetitions
    assert alarms < 0.05 * repetitions  # 2.5 % is meant


@pytest.mark.long
def test_one_contrast_seldom_raises_a_false_alarm_and_ten_parts_do() -> None:
    """For a model that knows neither set: Gaussian points, a network that was never trained on any."""
    contrast, parts = 0, 0
    for seed in range(24):
        points = np.random.default_rng(seed).standard_normal((40, 4))
        training, held_out = fs.TrainingSet(points[:24]), fs.TrainingSet(points[24:])
        monitor = Monitor(fs.Oracle(training), held_out, probes=80, seed=seed)
        found = monitor(lambda x, t, y=None: 0.7 * torch.tanh(x) - 0.9 * x, 0)
        contrast += found.overfits
        parts += bool((found.gap > found.gap_error).any())
    assert contrast <= 3  # 0.6 are meant
    assert parts > 12


@pytest.mark.slow
def test_what_has_memory_is_seen_by_the_contrast_and_by_its_samples() -> None:
    points = fs.load(MODES)
    training, held_out = (take(points, np.arange(*ends), "part") for ends in ((0, 60), (60, 160)))
    oracle = fs.Oracle(training)
    monitor = Monitor(oracle, held_out, bins=4, probes=400, conditional=False)
    found, own = monitor(oracle, 0), monitor.memorised(oracle, samples=24, steps=10)
    assert found.overfits and 0 < found.total["half"] < 1
    assert found.total["gap_after_half_low"] < found.total["gap_after_half"] < found.total["gap_after_half_high"]
    assert own.share > 0.9 > 0.1 > own.null_share and (own.n, own.null_n) == (24, 100)
    still = monitor.memorised(lambda x, t, y=None: torch.zeros_like(x), 24, 4)
    assert still.share < 0.3 and found.row()["gap_after_half"] == found.total["gap_after_half"]
    np.testing.assert_allclose(found.log_snr, 2 * np.log(found.t / (1 - found.t)))


@pytest.mark.slow
def test_points_of_a_pair_are_of_one_class() -> None:
    """A model whose loss is the class alone has no gap, whatever the shares of the classes in both sets."""
    labels = np.repeat([0, 1], [40, 10])
    points = 10.0 * labels[:, None] + np.random.default_rng(0).standard_normal((50, 3))
    training = fs.TrainingSet(points, labels)

    def far(x: torch.Tensor, t: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        return torch.zeros_like(x) if y is None else (200.0 * y.reshape(-1, 1) - 300.0).expand_as(x)

    def monitor(rows: list[int], conditional: bool) -> Monitor:
        held_out = take(training, np.array(rows), "held out")
        return Monitor(fs.Oracle(training), held_out, 2, 100, conditional=conditional)

    rare = [0, 1, *range(40, 50)]
    found = monitor(rare, True)(far, 0)
    assert (np.abs(found.gap) < 0.02 * found.loss).all()
    with pytest.warns(FlowscopeWarning, match="of which no point is held out"):
        lone = monitor(list(range(40, 50)), True)(far, 0)
    assert np.isfinite(lone.gap).all()


def test_gaps_of_stages_carry_holms_correction() -> None:
    rng = np.random.default_rng(1)
    rows = np.arange(40), np.arange(40)
    noise = rng.standard_normal(40)
    gaps = {name: mean_gap(shift + (noise - noise.mean()) / noise.std(ddof=1), *rows) for name, shift in
            (("clear", 1.0), ("nearly", 0.33), ("not", 0.0))}  # fmt: skip
    assert 0.0125 < gaps["nearly"].p < 0.025  # clear alone, not among three
    assert clear_gaps(gaps) == {"clear": True, "nearly": False, "not": False}
    assert clear_gaps({"nearly": gaps["nearly"]}) == {"nearly": True}


@pytest.mark.slow
def test_the_contrast_begins_at_the_half_of_each_class() -> None:
    """A gap of 1 from there on and of none before: its mean is 1. A class of one point has no half, which is said."""
    points = two_classes()
    oracle, times = fs.Oracle(points), stage_times(fs.Oracle(points), True, 0)
    probes = draw_probes(oracle, points, 80, 8, 0, True, 0.0)
    held = draw_probes(oracle, two_classes(seed=3), 80, 8, 0, True, 0.0, probes)
    half = np.array([times.by_class[label].half for label in probes.y.tolist()])
    d = (probes.t.numpy() >= half).astype(float)
    assert 0 < d.mean() < 1
    found = gap_after(times, d, held, probes)
    assert found["gap_after_half"] == 1 and found["gap_after_half_error"] == 0
    lonely = fs.TrainingSet(np.concatenate([points.points, np.ones((1, 6))]), [*points.labels, 7])
    with pytest.warns(FlowscopeWarning, match=r"no half in 1 classes \(7\)"):
        Monitor(fs.Oracle(lonely), lonely, probes=20, bins=2, conditional=True)(fs.Oracle(lonely), 0)

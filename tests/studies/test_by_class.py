"""Studies of models that are given labels: each state counts in the stages of its own class, and pages say the spread.

The fields go wrong by 1 in every coordinate before the half of the class, and not at all afterwards.
"""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import flowscope as fs
from flowscope.curve.stage_times import StageTimes, stage_times
from flowscope.references import Wiener
from flowscope.studies import (
    Finding,
    ablation_study,
    alignment_study,
    capacity_study,
    convergence_study,
    experts_study,
    explain_study,
    guidance_study,
    intermediate_study,
    loss_study,
    memorise_study,
    norm_study,
    refine_study,
    shift_study,
    switch_study,
    target_study,
)
from flowscope.studies.bench.marks import TIMES
from flowscope.studies.bench.memory_coordinate import memory_coordinates, speaking_window
from flowscope.studies.bench.restoration import mean_where
from tests.support.two_classes import CLOSE, SPREAD, Staged, navigating, two_classes

LITTLE: dict[str, Any] = {"n": 96, "bins": 16, "references": False}


@cache
def oracle() -> fs.Oracle:
    return fs.Oracle(two_classes())


@cache
def times() -> StageTimes:
    return stage_times(oracle(), True, 0)


def staged() -> Staged:
    return Staged(oracle(), navigating(times()))


def in_stages(found: Finding, table: str, column: str) -> dict[str, float]:
    return dict(zip(found.tables[table]["stage"], found.tables[table][column], strict=True))


def says_the_spread(found: Finding) -> bool:
    ends = [times().by_class[label].half for label in (SPREAD, CLOSE)]
    said = f"half lies from t = {ends[0]:.3g} (class spread) to {ends[1]:.3g} (class close)"
    return sum(said in note for note in found.notes) == 1


def test_losses_of_each_class_count_in_its_own_stages() -> None:
    found = loss_study(staged(), oracle(), **LITTLE)
    losses = in_stages(found, "by_stage", "oracle_loss")
    assert losses["navigation"] == pytest.approx(1) and losses["refinement"] == pytest.approx(0, abs=1e-9)
    assert losses["transition"] == pytest.approx(0, abs=1e-9)
    assert says_the_spread(found)


@pytest.mark.slow
def test_convergence_and_target_count_likewise() -> None:
    found = convergence_study({"run": [(1, staged()), (2, oracle())]}, oracle(), **LITTLE)
    table = found.tables["convergence"]
    assert [table[stage][0] for stage in ("navigation", "transition")] == pytest.approx([1, 0], abs=1e-6)
    assert says_the_spread(found)
    target = target_study(staged(), oracle(), oracle(), n=20, steps=4, probes=96, references=False)
    losses = in_stages(target, "oracle_loss", "usual")
    assert losses["navigation"] == pytest.approx(1) and losses["transition"] == pytest.approx(0, abs=1e-9)
    assert says_the_spread(target) and any("its own class" in note for note in target.notes)


@pytest.mark.slow
def test_explain_names_the_reference_of_each_stage_of_the_class() -> None:
    """The model is the Wiener denoiser of all points before the half of its class, and the oracle from there on."""
    wiener, half = Wiener(oracle().training_set), navigating(times())

    def apart(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return half(x, t, y) * (wiener(x, float(t[0]), y) - oracle()(x, float(t[0]), y))

    found = explain_study(Staged(oracle(), apart), oracle(), n=16, steps=20)
    ours = found.found.split("At states of its own")[0]
    assert "Wiener in navigation (r2 1.000)" in ours
    assert "oracle in transition (r2 1.000)" in ours and "oracle in refinement (r2 1.000" in ours
    assert says_the_spread(found)


def test_states_of_the_memory_coordinate_lie_in_the_window_of_their_class() -> None:
    more = fs.Oracle(two_classes(160))
    points = more.training_set
    own = np.r_[0:40, 160:200]
    few = fs.Oracle(fs.TrainingSet(points.points[own], points.labels[own]))
    window = speaking_window(few, more, True, 0)
    assert set(window.by_class) == {SPREAD, CLOSE} and window.low == pytest.approx(
        np.mean([ends[0] for ends in window.by_class.values()])
    )
    asked: list[tuple[float, int]] = []

    def watched(x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        assert y is not None
        asked.extend(zip(t.tolist(), y.tolist(), strict=True))
        return few(x, t, y)

    found = memory_coordinates({"oracle": watched}, few, more, window, 40, 1, True, 0, 40)
    assert found["oracle"].whole.value == pytest.approx(1, abs=1e-4)
    assert {label for _, label in asked} == {SPREAD, CLOSE}
    assert all(window.by_class[label][0] <= t <= window.by_class[label][1] for t, label in asked)


@pytest.mark.slow
def test_refine_counts_an_image_from_the_saturation_of_its_class_on() -> None:
    """At t = 0.9 spread points alone are late. Close ones are ruined, and of them are more held-out ones."""
    assert times().by_class[SPREAD].saturation < 0.9 < times().by_class[CLOSE].half
    ruined = Staged(oracle(), lambda x, t, y: 9 * torch.ones_like(x) * (y == CLOSE)[:, None])
    held_out = two_classes(10, seed=3, more_close=30)
    found = refine_study(ruined, oracle(), held_out, times=[0.9], n=80, steps=10)
    excess = dict(zip(found.tables["references"]["reference"], found.tables["references"]["excess"], strict=True))
    assert excess["model"] == pytest.approx(excess["oracle"], abs=1e-6)
    assert says_the_spread(found)
    nobody = refine_study(ruined, oracle(), held_out, times=[0.3], n=20, steps=10)
    assert nobody.verdict == "cannot be tested" and "references" not in nobody.tables


@pytest.mark.slow
def test_switch_counts_a_sample_from_the_c_of_its_class_on() -> None:
    still = Staged(oracle(), lambda x, t, y: -oracle()(x, float(t[0]), y) * (y == CLOSE)[:, None])
    found = switch_study(still, oracle(), two_classes(40, seed=3), times=[0.9], n=60, steps=10)
    rows = dict(zip(found.tables["references"]["reference"], found.tables["references"]["excess"], strict=True))
    assert rows["model"] == pytest.approx(rows["oracle"]) and rows["oracle"] > 0.5
    assert says_the_spread(found)


def test_a_mean_over_the_times_of_each_image() -> None:
    values, inside = [np.array([1.0, 2.0, 3.0]), np.array([5.0, 6.0, 7.0])], [[True, True, False], [True, False, False]]
    assert mean_where(values, [np.array(row) for row in inside]).tolist() == [3.0, 2.0]


PAGES = {
    "ablation": lambda m: ablation_study({"a": m, "b": m}, oracle(), **LITTLE),
    "alignment": lambda m: alignment_study(m, oracle(), two_classes(40, 3), **LITTLE),
    "norm": lambda m: norm_study(m, oracle(), **LITTLE | {"bins": 8, "n": 16}),
    "capacity": lambda m: capacity_study(m, m, oracle(), splits=(0.5,), n=20, steps=2, references=False),
    "shift": lambda m: shift_study(m, oracle(), shifts=(1.0,), n=20, steps=2, references=False),
    "guidance": lambda m: guidance_study(oracle(), oracle(), n=20, steps=2, probes=16, references=False),
    "experts": lambda m: experts_study(m, m, m, oracle(), boundary=0.5, n=20, steps=2, references=False),
}


@pytest.mark.slow
@pytest.mark.parametrize("study", PAGES)
def test_every_page_says_how_the_classes_differ(study: str) -> None:
    model = (lambda x, t, y=None: -x) if study == "norm" else staged()
    if study == "norm":
        model.classes = 2  # type: ignore[attr-defined]
    assert says_the_spread(PAGES[study](model))


@pytest.mark.slow
def test_intermediate_says_how_the_classes_differ() -> None:
    images = np.random.default_rng(0).standard_normal((40, 1, 8, 8))
    images[20:] *= 0.05
    own = fs.Oracle(fs.TrainingSet(images, np.repeat([SPREAD, CLOSE], 20), class_names=("spread", "close")))
    found = intermediate_study(Staged(own, lambda x, t, y: torch.zeros_like(x)), own, n=4, steps=4, references=False)
    assert sum("half lies from t = 0.192 (class spread)" in note for note in found.notes) == 1


@pytest.mark.slow
@pytest.mark.parametrize("study", ["ablation", "capacity"])
def test_figures_over_time_mark_the_ends_of_the_mean_curve(study: str) -> None:
    found = PAGES[study](staged())
    panels = [panel for panel in found.panels if panel.x_label in TIMES]
    ends = {"half": times().boundaries.half, "saturation": times().boundaries.saturation}
    assert panels and all({mark.name: mark.at for mark in panel.marks} == pytest.approx(ends) for panel in panels)


@pytest.mark.slow
def test_memorise_says_it_for_each_size() -> None:
    whole = two_classes(100)

    def make(points: fs.TrainingSet) -> Staged:
        return Staged(fs.Oracle(points), lambda x, t, y: torch.zeros_like(x))

    found = memorise_study(make, whole, sizes=[20, 60], n=20, steps=3, probes=24, references=False)
    for size in (20, 60):
        assert sum(note.startswith(f"N = {size}: By class, ") for note in found.notes) == 1

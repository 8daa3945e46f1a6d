"""The oracle's boundaries stand on every panel over time, at their own places, before and after a result is saved."""

import math
from pathlib import Path as Folder

import numpy as np
import pytest
import torch

import flowscope as fs
from flowscope.figures import drawn_panels, finding_figure, gallery_figure, to_png
from flowscope.paths import cosine, linear, vp
from flowscope.studies import explain_study, loss_study, memorise_study, norm_study, refine_study, switch_study
from flowscope.studies.alignment import alignment_study
from flowscope.studies.bench.boundaries import Boundaries
from flowscope.studies.bench.finding import Finding, Panel
from flowscope.studies.bench.marks import TIMES, mark_stages, stage_marks
from flowscope.studies.intermediate import intermediate_study

DIGITS = fs.load("digits", subset=60)


def test_a_boundary_that_does_not_exist_has_no_mark() -> None:
    assert [m.name for m in stage_marks(Boundaries(0.3, math.nan))] == ["half"]
    assert stage_marks(Boundaries(math.nan, 1.0)) == ()
    names = ("t", "training step")
    marked = mark_stages([Panel("", name, "", ()) for name in names], Boundaries(0.3, 0.6))
    assert [[m.at for m in panel.marks] for panel in marked] == [[0.3, 0.6], []]


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_on_an_axis_of_log_snr_a_mark_lies_at_that_of_its_time(t: float) -> None:
    def log_snr(path: fs.Path) -> float:
        return stage_marks(Boundaries(t, math.nan), path)[0].at

    assert log_snr(linear) == pytest.approx(2 * math.log(t / (1 - t)))
    assert log_snr(cosine) == pytest.approx(2 * math.log(math.tan(math.pi * t / 2)))
    assert vp.time_of_snr(math.exp(log_snr(vp))).item() == pytest.approx(t)


def check_marks(found: Finding) -> None:
    """Every panel over time has both boundaries of the settings, as lines of the figure; no other panel has any."""
    stages = [found.settings["half"], found.settings["saturation"]]
    assert all(0 < t < 1 for t in stages)
    panels = drawn_panels(found)
    axes_of = dict(zip((panel.title for panel in panels), finding_figure(found).axes, strict=False))
    over_time = [panel.x_label in TIMES for panel in panels]
    assert any(over_time)
    for panel, marked in zip(panels, over_time, strict=True):
        assert [mark.at for mark in panel.marks] == (stages if marked else [])
        axes = axes_of[panel.title]
        lines = {line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2 and line.get_ydata()[1] == 1}
        assert not marked or lines >= set(stages)


def check_saved(found: Finding, folder: Folder) -> None:
    """A finding that was saved and loaded draws the same."""
    found.save(folder)
    again = Finding.load(folder, found.study)
    assert to_png(finding_figure(again), 50) == to_png(finding_figure(found), 50)
    for one, other in zip(again.galleries, found.galleries, strict=True):
        assert to_png(gallery_figure(one), 30) == to_png(gallery_figure(other), 30)


def nearest(samples: np.ndarray, points: fs.TrainingSet) -> np.ndarray:
    """The nearest points of samples (n, *shape), by every distance in float64."""
    rows = points.rows(slice(None)).numpy().astype(np.float64)
    distances = ((samples.astype(np.float64)[:, None] - rows) ** 2).sum((2, 3, 4))
    return rows[distances.argmin(1)]


@pytest.mark.slow
def test_switch_shows_boundaries_and_nearest_images(tmp_path: Folder) -> None:
    oracle = fs.Oracle(DIGITS)
    found = switch_study(
        lambda x, t, y=None: 0.9 * oracle(x, t), oracle, n=8, steps=6, times=[0.0, 0.5], references=False
    )
    check_marks(found)
    check_saved(found, tmp_path)
    (gallery,) = found.galleries
    assert gallery.rows[1::2] == ("nearest training image",) * 2
    for samples, shown in zip(gallery.images[::2], gallery.images[1::2], strict=True):
        np.testing.assert_array_equal(shown, nearest(samples, DIGITS))


@pytest.mark.slow
def test_refine_shows_boundaries_and_nearest_images() -> None:
    oracle, held_out = fs.Oracle(DIGITS), fs.TrainingSet(fs.load("digits").rows(slice(1700, 1720)), name="others")
    found = refine_study(lambda x, t, y=None: 0.9 * oracle(x, t), oracle, held_out, n=8, steps=6, references=False)
    check_marks(found)
    for gallery in found.galleries:
        assert gallery.columns[3:] == ("model", "nearest training image")
        np.testing.assert_array_equal(gallery.images[:, 4], nearest(gallery.images[:, 3], DIGITS))


@pytest.mark.slow
def test_memorise_shows_boundaries_in_log_snr_and_nearest_images(tmp_path: Folder) -> None:
    sizes = [20, 40]
    found = memorise_study(fs.Oracle, DIGITS, sizes=sizes, n=12, steps=5, probes=40, references=False)
    check_saved(found, tmp_path)
    table = found.tables["memorise"]
    (panel,) = (p for p in found.panels if p.x_label == "log-snr")
    for k in range(len(sizes)):
        marks = {mark.name: mark.at for mark in panel.marks if mark.series == k}
        assert marks == pytest.approx({name: table[f"{name}_log_snr"][k] for name in ("half", "saturation")})
    (gallery,) = found.galleries
    for k, size in enumerate(sizes):
        samples, shown = gallery.images[2 * k : 2 * k + 2]
        np.testing.assert_allclose(samples, shown, atol=1e-5)  # the oracle's own: copies
        np.testing.assert_array_equal(shown, nearest(samples, DIGITS))
        assert gallery.rows[2 * k] == f"N = {size}"


@pytest.mark.slow
def test_intermediate_shows_boundaries_and_predictions_on_the_way() -> None:
    oracle = fs.Oracle(DIGITS)
    found = intermediate_study(lambda x, t, y=None: 0.5 * oracle(x, t), oracle, n=5, steps=8, references=False)
    check_marks(found)
    gallery = found.galleries[0]
    np.testing.assert_allclose(gallery.images[0, 0], DIGITS.rows(slice(None)).mean(0), atol=1e-5)
    np.testing.assert_array_equal(gallery.images[0, -1], nearest(gallery.images[0, -1:], DIGITS)[0])


@pytest.mark.slow
def test_studies_of_probes_show_boundaries() -> None:
    oracle = fs.Oracle(fs.load("gaussian:N=60,D=6"))
    model = torch.nn.Linear(6, 6)

    def field(x: torch.Tensor, t: torch.Tensor, y: None = None) -> torch.Tensor:
        return model(x.float())

    few = {"n": 40, "bins": 4, "references": False}
    for found in (
        loss_study({"a": field}, oracle, **few),
        norm_study(field, oracle, **few),
        alignment_study(field, oracle, **few),
        explain_study(field, oracle, n=8, steps=4),
    ):
        check_marks(found)
        assert found.galleries == ()  # vectors are not shown

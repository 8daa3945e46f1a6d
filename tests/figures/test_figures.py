"""Figures show the numbers they were given, repeat bit for bit, and leave matplotlib as they found it."""

import io
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from flowscope.curve.crossing import Crossing
from flowscope.curve.result import FineGrid
from flowscope.figures import (
    DARK,
    LIGHT,
    Theme,
    path_figure,
    picture_figure,
    stage_figure,
    sweep_figure,
    to_png,
    to_svg,
)
from flowscope.figures.pictures import display_range
from tests.support.fakes import (
    HOSTILE,
    class_curve,
    class_sweep,
    digits_curve,
    fake_pictures,
    size_sweep,
    undefined_curve,
)

DRAWN: dict[str, Callable[[], Figure]] = {
    "stages": lambda: stage_figure(class_curve(), DARK),
    "undefined": lambda: stage_figure(undefined_curve()),
    "one time": lambda: stage_figure(digits_curve(1)),
    "paths": lambda: path_figure([digits_curve(), digits_curve(settings={"path": "$vp"})]),
    "sizes": lambda: sweep_figure(size_sweep()),
    "by class": lambda: sweep_figure(class_sweep()),
    "pictures": lambda: picture_figure(fake_pictures(times=2, channels=3), 1),
}


@pytest.mark.slow_but("stages", "by class")
@pytest.mark.parametrize("name", DRAWN)
def test_every_figure_draws_and_leaves_settings_alone(name: str) -> None:
    before = dict(matplotlib.rcParams)
    figure = DRAWN[name]()
    image = np.asarray(Image.open(io.BytesIO(to_png(figure, 40))).convert("RGB"))
    assert image.std() > 5
    assert dict(matplotlib.rcParams) == before


@pytest.mark.slow
def test_output_repeats_whatever_the_caller_has_set() -> None:
    curve = digits_curve(4)
    first = stage_figure(curve)
    with matplotlib.rc_context({"font.size": 23, "grid.color": "red", "svg.hashsalt": None, "xtick.labelsize": 30}):
        second = stage_figure(curve)
        svg, png = to_svg(second), to_png(second, 40)
    assert to_svg(first) == svg
    assert to_png(first, 40) == png
    assert b"<dc:date>" not in svg


@pytest.mark.slow
def test_svg_asks_for_nothing_outside_itself() -> None:
    for element in ET.fromstring(to_svg(stage_figure(digits_curve(8)))).iter():
        for key, value in element.attrib.items():
            if key.endswith("href"):
                assert value.startswith("#")


@pytest.mark.slow
def test_drawing_needs_no_pyplot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # from now on its import fails
    to_svg(stage_figure(digits_curve(4)))
    to_png(sweep_figure(size_sweep()), 40)


def lines(figure: Figure, panel: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in figure.axes[panel].lines]


def vertical(figure: Figure, panel: int) -> set[float]:
    return {float(x[0]) for x, _ in lines(figure, panel) if len(x) == 2 and x[0] == x[1]}


def spans(figure: Figure, panel: int, theme: Theme = LIGHT) -> dict[str, tuple[float, float]]:
    """Shaded stages of a panel, and from when to when."""
    colours = {to_rgb(theme.navigation): "navigation", to_rgb(theme.transition): "transition"}
    found = {}
    for patch in figure.axes[panel].patches:
        box = patch.get_path().get_extents(patch.get_patch_transform())
        found[colours[to_rgb(patch.get_facecolor())]] = (box.x0, box.x1)
    return found


def test_curves_boundaries_and_stages_are_where_the_numbers_are() -> None:
    curve = digits_curve()
    figure = stage_figure(curve)
    for panel, names in ((0, ("top1", "margin")), (1, ("gap",)), (2, ("effective_size",))):
        drawn = lines(figure, panel)
        for name in names:
            assert any(np.array_equal(x, curve.t) and np.array_equal(y, getattr(curve, name)) for x, y in drawn)
        assert {curve.half.t, curve.saturation.t, curve.predicted, curve.predicted_plain} <= vertical(figure, panel)
        assert spans(figure, panel) == {"navigation": (0, 0.537), "transition": (0.537, 0.752)}


@pytest.mark.slow
def test_entropy_in_nats_and_in_points_are_read_off_one_line() -> None:
    figure = stage_figure(digits_curve())
    points, nats = figure.axes[2], figure.axes[3]
    np.testing.assert_allclose(np.log(points.get_ylim()), nats.get_ylim())
    figure.draw_without_rendering()
    level = nats.transData.transform((0, 5.0))[1]
    assert points.transData.transform((0, np.exp(5.0)))[1] == pytest.approx(level)


def test_figures_name_the_set_and_draw_what_is_predicted() -> None:
    curve = digits_curve()
    figure = stage_figure(curve)
    assert figure.get_suptitle() == "digits: N = 1,797, D = 64"
    drawn = lines(figure, 0)
    assert any(np.array_equal(y, curve.predicted_top1) for _, y in drawn)
    marks = {(float(x[0]), float(y[0])) for x, y in drawn if len(x) == 1}
    assert {(curve.predicted, 0.5), (curve.predicted_saturation, 0.99)} <= marks
    assert curve.predicted_saturation in vertical(figure, 1)


def test_lines_follow_the_internal_grid_and_skip_gaps_that_few_probes_carry() -> None:
    curve = digits_curve(4)
    t = np.linspace(0, 0.9, 31)
    gap = np.where(t > 0.8, np.nan, 1 - t)
    fine = FineGrid(t, t**2, 0.01 * t, t**3, gap, gap - 0.1, gap + 0.1)
    figure = stage_figure(replace(curve, fine=fine))
    assert any(np.array_equal(x, t) and np.array_equal(y, t**2) for x, y in lines(figure, 0))
    assert any(np.array_equal(x, t) and np.array_equal(y, t**3) for x, y in lines(figure, 0))
    at, values = lines(figure, 1)[0]
    assert set(t[t <= 0.8]) | set(curve.t) == set(at.tolist()) and np.isfinite(values).all()


def test_bands_stay_within_the_range_of_what_they_are_of() -> None:
    curve = digits_curve(8, top1_error=np.full(8, 0.5), effective_size_error=np.full(8, 9e9))
    for axes, low, high in zip(stage_figure(curve).axes[::2], (0, 1), (1, 1797), strict=False):
        for band in axes.collections:
            y = np.concatenate([path.vertices[:, 1] for path in band.get_paths()])
            assert low - 1e-9 <= y.min() and y.max() <= high + 1e-6


def test_a_sweep_draws_the_curve_of_every_value_and_its_prediction() -> None:
    sweep = size_sweep((100, 200, 450))
    figure = sweep_figure(sweep)
    drawn = lines(figure, 1)
    for curve in sweep.curves:
        for values in (curve.top1, curve.predicted_top1):
            assert any(np.array_equal(x, curve.t) and np.array_equal(y, values) for x, y in drawn)
    assert figure.get_suptitle().startswith("digits: N = ")


def test_every_class_marks_its_own_boundaries() -> None:
    curve = class_curve()
    drawn = lines(stage_figure(curve), 0)
    for name, level in (("half", 0.5), ("saturation", 0.99)):
        own = np.array([getattr(c, name).t for c in curve.per_class])
        assert any(np.array_equal(x, own, equal_nan=True) and set(y.tolist()) == {level} for x, y in drawn)


def test_what_is_undefined_is_not_drawn() -> None:
    figure = stage_figure(undefined_curve())
    assert spans(figure, 0) == {}
    assert vertical(figure, 0) == set()
    half_only = stage_figure(digits_curve(saturation=Crossing(np.nan, np.nan, np.nan)))
    assert spans(half_only, 0) == {"navigation": (0, 0.537), "transition": (0.537, 1)}


def test_the_axis_is_cut_only_where_all_happens_early_and_says_so() -> None:
    early = stage_figure(digits_curve(half=Crossing(0.049, 0.047, 0.051), saturation=Crossing(0.09, 0.08, 0.1)))
    low, high = early.axes[2].get_xlim()
    assert low == 0
    assert 0.18 < high < 0.5
    assert f"cut at {high:g}" in early.axes[2].get_xlabel()
    late = stage_figure(digits_curve())
    assert late.axes[2].get_xlim() == (0, 1)
    assert "cut" not in late.axes[2].get_xlabel()


@pytest.mark.parametrize(
    ("values", "scale"), [([100, 200, 400], "linear"), ([100, 300, 1000], "log"), ([8, 16, 32], "linear")]
)
def test_a_sweep_is_logarithmic_from_a_decade_on(values: list[int], scale: str) -> None:
    half = np.array([0.3, np.nan, 0.4])
    axes = sweep_figure(size_sweep(values, half=half)).axes[0]
    assert axes.get_xscale() == scale
    axes.figure.draw_without_rendering()
    assert [label.get_text() for label in axes.get_xticklabels()] == [str(v) for v in values]


def test_class_names_are_text_and_long_ones_are_cut() -> None:
    figure = sweep_figure(class_sweep(("a$b$c", HOSTILE)))
    figure.draw_without_rendering()
    first, second = (label.get_text() for label in figure.axes[0].get_yticklabels())
    assert first == r"a\$b\$c"  # matplotlib's way to write dollars
    assert len(second) < 30


def test_pictures_are_drawn_in_the_datas_own_range() -> None:
    assert display_range(np.array([-0.9, 0.7])) == (-1, 1)
    assert display_range(np.array([0.0, 0.7])) == (0, 1)
    assert display_range(np.array([-4.0, 9.0])) == (-4, 9)
    low, high = display_range(np.zeros(3))
    assert high > low


def test_a_picture_shows_its_weight_and_clips_noise() -> None:
    pictures = fake_pictures()
    axes = picture_figure(pictures, 1).axes[0]
    shown = {tuple(image.get_extent())[::3]: np.asarray(image.get_array()) for image in axes.images}
    columns, rows = (sorted({place[k] for place in shown}) for k in (0, 1))
    assert (len(columns), len(rows)) == (8, 5)
    state, nearest = shown[columns[0], rows[0]], shown[columns[4], rows[2]]
    assert state.min() == 0
    assert state.max() == 1
    np.testing.assert_allclose(nearest, (pictures.neighbours[1, 4, 0, 0] + 1) / 2)
    above = [text.get_text() for text in axes.texts if abs(text.get_position()[1] - rows[2]) < 0.1]
    assert above == [f"{weight:.2f}  #3" for weight in pictures.weights[1, :, 0]]


def luminance(colour: Any) -> float:
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(colour)]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


def contrast(a: str, b: str) -> float:
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_lines_and_text_stand_out_on_every_ground(theme: Theme) -> None:
    """WCAG 2.2: 3 to 1 for graphics, 4.5 to 1 for text."""
    for ground in (theme.ground, theme.navigation, theme.transition, theme.refinement):
        assert contrast(theme.ink, ground) > 7
        for colour in theme.lines[:4]:
            assert contrast(colour, ground) > 3

"""The figure of a finding draws its columns, with 95 % intervals, whatever they hold."""

import base64
import dataclasses
import io
import re

import numpy as np
import pytest
from matplotlib.container import BarContainer
from PIL import Image

from flowscope.errors import InputError
from flowscope.figures import DARK, LIGHT, Theme, finding_figure, gallery_figure, to_png, to_svg
from flowscope.studies.bench.finding import Finding, Gallery, Mark, Panel, Series
from tests.support.fakes import fake_finding

NAMES = ["none", "[0, 1]", "[0.1, 0.5]"]


def lines_of(count: int, **panel: object) -> Finding:
    t = np.linspace(0, 1, count)
    table = {"t": t, "loss": np.exp(-t), "loss_error": 0.1 + 0.0 * t, "floor": t - 0.5}
    series = (Series("loss", "loss", "t", "loss", "loss_error"), Series("floor $x_1$", "loss", "t", "floor"))
    return fake_finding(tables={"loss": table}, panels=(Panel("Loss", "t", "mean", series, **panel),))  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_a_figure_and_a_gallery_draw(theme: Theme) -> None:
    finding = fake_finding()
    for figure in (finding_figure(finding, theme), gallery_figure(finding.galleries[0], theme)):
        image = np.asarray(Image.open(io.BytesIO(to_png(figure, 40))).convert("RGB"))
        assert image.std() > 5
    assert to_svg(finding_figure(finding, theme)) == to_svg(finding_figure(finding, theme))


@pytest.mark.slow
def test_lines_are_the_columns_and_intervals_are_95_per_cent() -> None:
    finding = lines_of(64)
    axes = finding_figure(finding).axes[0]
    table = finding.tables["loss"]
    for name in ("loss", "floor"):
        assert any(np.array_equal(line.get_ydata(), table[name]) for line in axes.lines)
    (band,) = axes.collections
    y = band.get_paths()[0].vertices[:, 1]
    assert y.max() == pytest.approx(1 + 1.96 * 0.1)
    assert y.min() == pytest.approx(np.exp(-1) - 1.96 * 0.1)
    few = finding_figure(lines_of(5)).axes[0]
    ends = np.array([segment[:, 1] for segment in few.containers[0].lines[2][0].get_segments()])
    np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 2 * 1.96 * 0.1)


def test_a_logarithmic_panel_takes_values_of_any_sign() -> None:
    axes = finding_figure(lines_of(30, x_scale="log", y_scale="log")).axes[0]
    to_png(axes.figure, 40)
    shown = axes.dataLim.get_points()  # what is 0 or less is within the axes, not cut away
    assert (shown.min(0) <= 0).all()
    assert axes.get_xlim()[0] <= 0 and axes.get_ylim()[0] <= shown[0, 1]
    assert np.isfinite(axes.transData.transform(shown)).all()
    table = {"t": [0.1, 0.2], "loss": [-1.0, -2.0]}
    panel = Panel("Loss", "t", "loss", (Series("loss", "loss", "t", "loss"),), y_scale="log")
    below = fake_finding(tables={"loss": table}, panels=(panel,))
    assert finding_figure(below).axes[0].get_yscale() == "linear"


def test_ends_of_an_interval_are_drawn_as_it() -> None:
    few = lines_of(5)
    table = {**few.tables["loss"], "low": few.tables["loss"]["loss"] - 0.1, "high": few.tables["loss"]["loss"] + 0.4}
    series = few.panels[0].series[0]._replace(error=None, low="low", high="high")
    finding = dataclasses.replace(few, tables={"loss": table}, panels=(few.panels[0]._replace(series=(series,)),))
    axes = finding_figure(finding).axes[0]
    ends = np.array([segment[:, 1] for segment in axes.containers[0].lines[2][0].get_segments()])
    np.testing.assert_allclose(ends, np.stack([table["low"], table["high"]], 1))


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 6])
def test_a_legend_hides_nothing_that_is_drawn(count: int) -> None:
    table = {"t": np.linspace(0, 1, 30)} | {f"model of size {k}": np.linspace(k, 0, 30) for k in range(count)}
    series = tuple(Series(name, "loss", "t", name) for name in list(table)[1:])
    panel = Panel("Loss", "t", "mean over coordinates", series)
    figure = finding_figure(fake_finding(tables={"loss": table}, panels=(panel, panel)))
    to_png(figure, 60)
    for axes in figure.axes:
        legend, frame = axes.get_legend().get_window_extent(), axes.get_window_extent()
        assert legend.y1 < axes.xaxis.get_tightbbox().y0  # below the axes and the name of their time
        assert legend.y0 >= 0 and frame.height > 0.4 * figure.bbox.height


@pytest.mark.parametrize(("low", "high"), [(2.8, 6.5), (0.02, 1.3), (1e-3, 3.0)])
def test_ticks_of_a_logarithmic_axis_are_few_and_plain(low: float, high: float) -> None:
    table = {"t": np.linspace(0, 1, 30), "loss": np.geomspace(low, high, 30)}
    panel = Panel("Loss", "t", "loss", (Series("loss", "loss", "t", "loss"),), y_scale="log")
    axes = finding_figure(fake_finding(tables={"loss": table}, panels=(panel,))).axes[0]
    to_png(axes.figure, 40)
    bottom, top = axes.get_ylim()
    ticks = [
        label.get_text() for label in axes.get_yticklabels(which="both") if bottom <= label.get_position()[1] <= top
    ]
    assert 2 <= len(ticks) <= 10 and len(set(ticks)) == len(ticks)
    assert all(float(tick) > 0 for tick in ticks)


def test_values_on_both_sides_of_zero_and_far_from_it_are_all_seen() -> None:
    table = {"t": np.linspace(0, 1, 30), "divergence": np.linspace(0.5, -900, 30)}
    panel = Panel("Divergence", "t", "", (Series("model", "d", "t", "divergence"),), y_scale="symlog")
    axes = finding_figure(fake_finding(tables={"d": table}, panels=(panel,))).axes[0]
    to_png(axes.figure, 40)
    assert axes.get_yscale() == "symlog" and axes.get_ylim()[0] < -900 and axes.get_ylim()[1] > 0.5


@pytest.mark.parametrize(("values", "bars"), [([3.0, 3.1], 0), ([3.0, 0.4], 2), ([0.0, 0.0], 2), ([-3.0, 1.0], 2)])
def test_values_close_together_are_points_since_bars_would_look_alike(values: list[float], bars: int) -> None:
    table = {"name": ["one", "two"], "FD": values, "FD_error": [0.1, 0.1]}
    panel = Panel("Quality", "", "FD", (Series("FD", "fd", "name", "FD", "FD_error"),), kind="bar")
    axes = finding_figure(fake_finding(tables={"fd": table}, panels=(panel,))).axes[0]
    assert len(axes.patches) == bars
    low, high = axes.get_ylim()
    assert low < min(values) - 0.19 or min(values) == 0
    assert high > max(values) + 0.19 and (bars or low > 2)


@pytest.mark.parametrize("kind", ["bar", "line"])
def test_names_get_a_bar_each_beside_those_of_other_series(kind: str) -> None:
    first = {"interval": NAMES, "FD": [3.0, 2.0, np.nan], "FD_error": [0.1, 0.2, np.nan]}
    second = {"interval": NAMES[::-1], "FD": [9.0, 8.0, 7.0]}
    series = (Series("one", "first", "interval", "FD", "FD_error"), Series("two", "second", "interval", "FD"))
    panel = Panel("Guidance", "interval", "FD", series, kind=kind)  # type: ignore[arg-type]
    axes = finding_figure(fake_finding(tables={"first": first, "second": second}, panels=(panel,))).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == NAMES
    one, two = (c for c in axes.containers if isinstance(c, BarContainer))
    centres = [[bar.get_x() + bar.get_width() / 2 for bar in bars] for bars in (one, two)]
    assert [bar.get_height() for bar in one] == [3, 2, 0]
    order = np.argsort(centres[1])  # the second table has its rows the other way round
    assert [two[k].get_height() for k in order] == [7, 8, 9]
    assert np.all(np.sort(centres[0]) < np.sort(centres[1]))
    assert max(centres[0][0], centres[1][2]) < 0.5


def test_numbers_are_names_too_in_a_bar_panel() -> None:
    panel = Panel("Shift", "s", "FD", (Series("FD", "s", "s", "FD"),), kind="bar")
    axes = finding_figure(fake_finding(tables={"s": {"s": [1.0, 0.7, 0.1], "FD": [1, 2, 3]}}, panels=(panel,))).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "0.7", "0.1"]


def test_without_panels_there_is_no_figure() -> None:
    with pytest.raises(InputError, match="no panels"):
        finding_figure(fake_finding(panels=()))


def shown(gallery: Gallery) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for image in gallery_figure(gallery).axes[0].images]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_are_drawn_in_the_range_of_most_and_noise_is_clipped(channels: int) -> None:
    rng = np.random.default_rng(0)
    images = rng.uniform(-1.04, 1.04, (3, 4, channels, 6, 6))  # models overshoot a little
    images[0] = 3 * rng.standard_normal((4, channels, 6, 6))
    pixels = shown(Gallery("x", images, ("a", "b", "c"), ("1", "2", "3", "4")))
    assert len(pixels) == 12
    assert {p.shape for p in pixels} == {(6, 6, 3)}
    expected = np.clip((images[1, 0, 0] + 1) / 2, 0, 1)
    np.testing.assert_allclose(pixels[4][..., 0], expected)
    assert pixels[0].min() == 0 and pixels[0].max() == 1


def test_an_image_that_is_undefined_is_left_empty() -> None:
    images = np.zeros((1, 3, 1, 4, 4))
    images[0, 1] = np.nan
    assert len(shown(Gallery("x", images, ("",), ("a", "b", "c")))) == 2
    assert shown(Gallery("x", np.full((1, 1, 1, 4, 4), np.nan), ("",), ("",))) == []


@pytest.mark.parametrize("shape", [(2, 3, 16), (0, 3, 1, 4, 4)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected \(R, C, channels, H, W\)"):
        gallery_figure(Gallery("x", np.zeros(shape), ("",) * shape[0], ("",) * 3))


def test_a_notebook_shows_words_and_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    found = fake_finding(found="a < b & c", why="because", title="What?")
    drawn, plot = [], Finding.plot
    monkeypatch.setattr(Finding, "plot", lambda self: (drawn.append(self), plot(self))[1])
    assert not drawn  # nothing is drawn until it is shown
    shown = found._repr_html_()
    assert len(drawn) == 1
    for words in ("a &lt; b &amp; c", "because", "What?", found.verdict):
        assert f">{words}</" in shown
    (image,) = re.findall('<img alt="[^"]+" src="data:image/svg\\+xml;base64,([^"]+)">', shown)
    assert b"<svg" in base64.b64decode(image)[:500]
    assert "<img" not in fake_finding(panels=())._repr_html_()


def test_a_zero_is_seen_on_a_logarithmic_axis_and_does_not_flatten_the_rest() -> None:
    table = {"t": np.array([0.1, 0.4, 0.7, 0.9]), "loss": np.array([1.0, 0.1, 0.01, 0.0])}
    panel = Panel("Loss", "t", "loss", (Series("loss", "loss", "t", "loss"),), y_scale="log")
    axes = finding_figure(fake_finding(tables={"loss": table}, panels=(panel,))).axes[0]
    to_png(axes.figure, 40)
    at = axes.transAxes.inverted().transform(axes.transData.transform(np.column_stack(list(table.values()))))[:, 1]
    assert at.min() >= 0
    np.testing.assert_allclose(at[0] - at[1], at[1] - at[2], rtol=1e-6)  # a decade is as long as another
    assert "0" in [label.get_text() for label in axes.get_yticklabels()]


@pytest.mark.parametrize("count", [5, 64])
def test_no_interval_leaves_the_range_of_a_panel(count: int) -> None:
    table = {"t": np.linspace(0, 1, count), "share": np.linspace(0, 1, count), "share_error": np.full(count, 0.2)}
    series = (Series.with_error("share", "s", "t", "share"),)
    for kind, scale in (("line", "linear"), ("line", "log"), ("bar", "linear")):
        panel = Panel("Copies", "t", "share", series, kind, "linear", scale, 0, 1)  # type: ignore[arg-type]
        axes = finding_figure(fake_finding(tables={"s": table}, panels=(panel,))).axes[0]
        drawn = [np.asarray(path.vertices)[:, 1] for c in axes.collections for path in c.get_paths()]
        assert min(map(np.min, drawn)) == 0 and max(map(np.max, drawn)) == 1


def test_a_panel_without_values_is_left_out() -> None:
    one = lines_of(3)
    table = {**one.tables["loss"], "nothing": [np.nan] * 3}
    empty = one.panels[0]._replace(title="Empty", series=(Series("nothing", "loss", "t", "nothing"),))
    finding = dataclasses.replace(one, tables={"loss": table}, panels=(empty, *one.panels))
    assert [axes.get_title(loc="left") for axes in finding_figure(finding).axes] == ["Loss"]
    with pytest.raises(InputError, match="no panels"):
        finding_figure(dataclasses.replace(finding, panels=(empty,)))


def test_a_figure_names_set_and_models() -> None:
    models = [{"name": f"runs/large-{k // 2}"} for k in range(10)]
    finding = dataclasses.replace(lines_of(3), provenance={"models": models})
    title = finding_figure(finding).get_suptitle()
    assert title == "digits: N = 1,797, D = 64; models large-0, large-1, large-2 and 2 more"
    assert finding_figure(dataclasses.replace(finding, training_set={})).get_suptitle() == ""


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_marks_are_lines_at_their_place_with_their_names(scale: str) -> None:
    marks = (Mark("half", 0.4), Mark("saturation", 0.55), Mark("half", 0.41, 1), Mark("saturation", 7.0))
    panel = lines_of(20).panels[0]._replace(x_scale=scale, marks=marks)
    axes = finding_figure(dataclasses.replace(lines_of(20), panels=(panel,))).axes[0]
    to_png(axes.figure, 40)
    lines = [line for line in axes.lines if len(set(line.get_xdata())) == 1]
    assert [line.get_xdata()[0] for line in lines] == [0.4, 0.55, 0.41]  # one far outside would squeeze all others
    assert [line.get_color() for line in lines] == [LIGHT.ink, LIGHT.ink, LIGHT.lines[1]]
    assert [text.get_text() for text in axes.texts] == ["half", "saturation"]  # two at one place are named once
    extents = [text.get_window_extent() for text in axes.texts]
    assert extents[0].x1 < extents[1].x0 and all(e.y0 >= axes.get_window_extent().y1 for e in extents)


def test_names_that_differ_at_their_end_alone_are_told_apart() -> None:
    names = [f"density shifted, path linear, shift {s}" for s in (0.3, 3.0)]
    panel = Panel("Transition", "", "t", (Series("learned", "x", "model", "t"),), kind="bar")
    axes = finding_figure(fake_finding(tables={"x": {"model": names, "t": [0.5, 0.6]}}, panels=(panel, panel))).axes[0]
    shown = [label.get_text().replace("\n", " ") for label in axes.get_xticklabels()]
    assert shown == names

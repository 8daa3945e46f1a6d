"""Results in notebooks: figures, bars, one-line texts and frames; and the notebooks of examples/."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import flowscope as fs
from flowscope.core.progress import with_progress
from flowscope.errors import InputError, MissingExtraError
from flowscope.studies import explain_study
from flowscope.training import minibatch_floor
from tests.support.fakes import digits_curve, fake_finding, fake_reproduction, size_sweep
from tests.support.notebooks import displayed, run_notebook

NOTEBOOKS = sorted((Path(__file__).parent.parent / "examples").glob("*.ipynb"))
ORACLE = fs.Oracle(fs.load("gaussian:N=40,D=3"))


@pytest.mark.slow
@pytest.mark.parametrize("make", [digits_curve, size_sweep, fake_finding])
def test_results_and_their_figures_show_themselves_without_a_plotting_mode(make: Any) -> None:
    result = make()
    assert displayed(result) == "html"
    figure = result.plot()
    assert displayed(figure) == "png" and figure._repr_png_().startswith(b"\x89PNG")


def test_results_are_one_line_and_frames_hold_what_they_hold() -> None:
    curve, sweep, finding, reproduction = digits_curve(), size_sweep(), fake_finding(), fake_reproduction()
    found = fs.Monitor(ORACLE, fs.load("gaussian:N=20,D=3", seed=1), bins=2, probes=8)(ORACLE, 7)
    floor = minibatch_floor(ORACLE.training_set, subset=20, probes=8, groups=2, bins=2)
    posterior = ORACLE.posterior(torch.zeros(2, 3), 0.5)
    results = [curve, sweep, finding, reproduction, found, found.held_out, floor, posterior]
    for result in results:
        assert len(repr(result)) < 200 and "\n" not in repr(result) and "array" not in repr(result), repr(result)
    assert repr(found).startswith("Measurement(step 7: loss ") and "half at t = " in repr(curve)
    frames = [result.to_frame() for result in results]
    assert [len(frame) for frame in frames] == [len(curve.t), len(sweep.values), *map(len, frames[2:4]), 2, 2, 2, 2]
    np.testing.assert_array_equal(frames[0]["top1"], curve.top1)
    np.testing.assert_array_equal(frames[4]["gap"], found.gap)
    np.testing.assert_array_equal(frames[7]["entropy"], posterior.entropy.numpy())
    first, *others = finding.tables
    assert list(frames[2].columns) == list(finding.tables[first])
    for name in others:
        assert list(finding.to_frame(name).columns) == list(finding.tables[name])
    with pytest.raises(InputError, match=f"table is 'nosuch'; expected one of {first}"):
        finding.to_frame("nosuch")


def test_without_pandas_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match=r"pip install 'flowscope\[frames\]'"):
        digits_curve().to_frame()


def test_progress_true_shows_a_bar_and_anything_else_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[tuple[int, int]] = []
    kept = fs.stages(ORACLE, 4, 16, progress=lambda done, total: calls.append((done, total)))
    assert capsys.readouterr().err == "" and calls[-1][0] == calls[-1][1]
    shown = fs.stages(ORACLE, 4, 16, progress=True)
    said = capsys.readouterr().err
    assert "stages" in said and "100%" in said
    np.testing.assert_array_equal(shown.top1, kept.top1)
    fs.sample(ORACLE, n=2, steps=3, progress=True)
    assert "sample" in (said := capsys.readouterr().err) and "3/3" in said
    explain_study(ORACLE, ORACLE, n=8, steps=2, progress=True)
    assert "explain" in capsys.readouterr().err
    fs.stages(ORACLE, 4, 16, progress=False)
    assert capsys.readouterr().err == ""
    with pytest.raises(InputError, match="progress is 3; expected True for a bar"):
        fs.stages(ORACLE, 4, 16, progress=3)


def test_a_bar_is_closed_where_the_work_fails(capsys: pytest.CaptureFixture[str]) -> None:
    @with_progress
    def failing(progress: Any = None) -> None:
        progress(1, 3, "part")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        failing(progress=True)
    assert "failing part" in (said := capsys.readouterr().err) and said.endswith("\n")


def test_every_notebook_is_whole_and_without_outputs() -> None:
    assert {path.stem for path in NOTEBOOKS} == {"own_loop_with_the_monitor", "is_it_a_copy"}
    for path in NOTEBOOKS:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
        ids = [cell["id"] for cell in notebook["cells"]]
        assert len(set(ids)) == len(ids)
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.slow
def test_my_own_loop_with_the_monitor(capsys: pytest.CaptureFixture[str]) -> None:
    shown = run_notebook(NOTEBOOKS[1])
    assert [displayed(value) for value in shown][1:3] == ["png", "html"]
    history = shown[3]
    assert history[-1].total["excess"] < 0.5 * history[0].total["excess"]
    assert list(shown[4]["loss"]) == [round(v, 3) for v in history[-1].loss]
    said = capsys.readouterr()
    assert "stages" in said.err and f"overfits: {history[-1].overfits}" in said.out


@pytest.mark.slow
def test_is_it_a_copy(capsys: pytest.CaptureFixture[str]) -> None:
    found, frame, figure, planted = run_notebook(NOTEBOOKS[0])
    by_sample = frame.set_index("sample")["copy"]
    assert by_sample[list(range(6))].all() and not by_sample[list(range(6, 12))].any()
    assert displayed(figure) == "png" and planted == found.planted and planted["exact"] == 1
    assert "of held-out digits pass" in capsys.readouterr().out

"""Convergence of runs whose oracle losses are known, and of one that was trained."""

from pathlib import Path

import numpy as np
import pytest

import flowscope as fs
from flowscope.errors import InputError
from flowscope.metrics import FeatureSpace
from flowscope.studies.convergence import convergence_study
from flowscope.training import TrainSettings, train_to
from tests.support.made_fields import off_by

SET = fs.load("gaussian:N=120,D=6")
ORACLE = fs.Oracle(SET)


def run(*epsilons: float) -> list:
    return [(10 * k, off_by(ORACLE, lambda t, e=e: e + 0 * t)) for k, e in enumerate(epsilons, 1)]


@pytest.mark.slow
def test_smooth_and_wavy_are_told_apart() -> None:
    found = convergence_study({"falls": run(1.0, 0.5, 0.3), "waves": run(0.5, 0.7, 0.3, 0.6)}, ORACLE, n=80, bins=10)
    table, shape = found.tables["convergence"], found.tables["shape"]
    assert table["step"] == [10, 20, 30, 10, 20, 30, 40]
    np.testing.assert_allclose(table["all"], np.square([1.0, 0.5, 0.3, 0.5, 0.7, 0.3, 0.6]), rtol=1e-4)
    rows = {key: k for k, key in enumerate(zip(shape["run"], shape["stage"], strict=True))}
    falls, waves = rows["falls", "all"], rows["waves", "navigation"]
    assert (shape["shape"][falls], shape["rises"][falls]) == ("smooth", 0)
    assert (shape["shape"][waves], shape["rises"][waves], shape["intervals"][waves]) == ("wavy", 2, 3)
    assert shape["left"][falls] == pytest.approx(0.09, rel=1e-3)
    assert found.verdict == "cannot be tested"
    drawn = found.plot().axes[0]
    np.testing.assert_allclose(drawn.lines[0].get_ydata(), np.square([1.0, 0.5, 0.3]), rtol=1e-4)
    labels = [text.get_text() for text in drawn.get_legend().get_texts()]
    assert labels[:2] == ["falls", "waves"]


@pytest.mark.slow
def test_quality_is_measured_where_a_space_is_given() -> None:
    found = convergence_study(
        {"run": run(2.0, 0.1)}, ORACLE, space=FeatureSpace("pixels"), samples=60, steps=8, n=40, bins=4
    )
    fd = found.tables["convergence"]["fd"]
    assert fd[1] < fd[0]


@pytest.mark.slow
def test_a_trained_folder_is_read_with_its_snapshots_and_losses(tmp_path: Path) -> None:
    settings = TrainSettings(model="mlp", width=8, steps=8, batch=8, snapshots=2, warmup=1)
    folder = train_to(SET, settings, tmp_path / "net", device="cpu", tracker=None)
    found = convergence_study([folder], ORACLE, n=40, bins=4)
    assert found.tables["convergence"]["step"] == [4, 8]
    assert found.tables["convergence"]["run"] == ["net", "net"]
    assert len(found.tables["training_loss"]["loss"]) == 8
    assert np.isfinite(found.tables["convergence"]["all"]).all()


@pytest.mark.parametrize("runs", [[], {"a": []}, {"a": "text"}, [ORACLE], 3])
def test_what_is_no_run_is_refused(runs) -> None:
    with pytest.raises(InputError, match="expected"):
        convergence_study(runs, ORACLE)

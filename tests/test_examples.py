"""The examples run as a reader would run them, print nothing to standard error, and say what is true."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


END = "-- the end of an example --"
# One interpreter loads what they all need; every example is a fork of it.
ALL = f"""
import os, runpy, sys
import flowscope, torch
for path in sys.argv[1:]:
    sys.stdout.flush()
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0, path
        print({END!r}, flush=True)
    else:
        sys.argv = [path]
        runpy.run_path(path, run_name="__main__")
        break
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each example prints, run in an empty folder, in which it leaves nothing."""
    folder = tmp_path_factory.mktemp("empty")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ALL, *(str(ROOT / "examples" / name) for name in EXAMPLES)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and list(folder.iterdir()) == []
    return dict(zip(EXAMPLES, done.stdout.split(END), strict=False))


def numbers(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", text)]


def line(output: str, start: str) -> str:
    return next(found for found in output.splitlines() if found.startswith(start))


def test_every_example_is_tested() -> None:
    assert set(EXAMPLES) == {
        "coarse_to_fine.py",
        "conditional_curves.py",
        "oracle_sampling.py",
        "points_of_any_shape.py",
        "stages_of_an_array.py",
    }


@pytest.mark.long
def test_stages_of_an_array(outputs: dict[str, str]) -> None:
    output = outputs["stages_of_an_array.py"]
    half, _, low, high = numbers(line(output, "navigation ends"))
    saturation = numbers(line(output, "refinement settles"))[0]
    assert 0 < low <= half <= high < saturation < 1
    integral, error, entropy = numbers(line(output, "self-check").replace("+-", " "))
    assert abs(integral - entropy) < 4 * error


@pytest.mark.long
def test_oracle_sampling_lands_on_training_points(outputs: dict[str, str]) -> None:
    output = outputs["oracle_sampling.py"]
    evaluations, largest = numbers(line(output, "50 function"))
    assert evaluations == 50 and largest < 1e-6
    points = {numbers(found)[1] for found in output.splitlines() if found.startswith("sample")}
    assert len(points) > 4  # different noise, different points


@pytest.mark.long
def test_coarse_to_fine_is_best_where_navigation_ends(outputs: dict[str, str]) -> None:
    output = outputs["coarse_to_fine.py"]
    half = numbers(line(output, "navigation ends"))[0]
    one, early, best, late = (numbers(found) for found in output.splitlines() if found.startswith("[0, "))
    fifty = numbers(line(output, "50 steps"))
    assert best[1] == pytest.approx(half, abs=1e-3)
    assert [values[-3] for values in (one, early, best, late, fifty)] == [1, 2, 2, 2, 50]
    distances, different = ([values[i] for values in (one, early, best, late)] for i in (-2, -1))
    assert min(distances) == best[-2] < 0.8 * sorted(distances)[1] and fifty[-2] == 0
    assert max(different) == best[-1] > 5 * late[-1] and one[-1] == 1


@pytest.mark.long
def test_conditional_curves(outputs: dict[str, str]) -> None:
    output = outputs["conditional_curves.py"]
    digits = [numbers(found) for found in output.splitlines() if found.startswith("digit")]
    assert [int(values[0]) for values in digits] == list(range(10))
    assert sum(values[1] for values in digits) == pytest.approx(1797)
    assert all(low <= half <= high for _, _, half, low, high in digits)
    together, apart = (numbers(line(output, start))[0] for start in ("without", "with the"))
    assert apart < together  # fewer points: navigation ends earlier


@pytest.mark.long
def test_points_of_any_shape(outputs: dict[str, str]) -> None:
    lines = outputs["points_of_any_shape.py"].strip().splitlines()
    shapes = ["178 points of shape (13,)", "785 points of shape (4, 16)", "185 points of shape (4, 33)"]
    for found, shape in zip(lines, shapes, strict=True):
        assert shape in found
        half, low, high, integral, error, entropy = numbers(found.partition("half at t =")[2].replace("+-", " "))
        assert 0 < low <= half <= high < 1
        assert abs(integral - entropy) < 4 * error

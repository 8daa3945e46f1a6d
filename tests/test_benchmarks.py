"""The suite of contenders: its truth is the reference's, and whatever a contender does ends in a row."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.reference import oracles

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
HERE = ["flowscope", "one-shot-numpy"]  # of those that need no environment of their own

RIVAL = """
import os, time

def prepare(points):
    print("a library that talks")

    def velocity(x, t):
        if t == 0.5:
            raise ValueError("no halves")
        if t == 0.7:
            os._exit(3)
        if t == 0.9:
            time.sleep(60)
        return x

    return velocity
"""


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the benchmarks by its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def suite(*arguments: str) -> list[str]:
    return [sys.executable, str(BENCHMARKS / "suite.py"), "--quick", "--rounds", "1", "--threads", "1", *arguments]


@contextmanager
def begun(command: list[str], log: Path, far_enough: Callable[[], bool]) -> Iterator[subprocess.Popen]:
    """A process that has come so far, with what it prints in a log; ended at last, whatever happens."""
    with log.open("w") as out:
        running = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    try:
        until = time.monotonic() + 300
        while not far_enough():
            assert running.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.02)
        yield running
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()


@pytest.mark.long
def test_a_quick_run_that_is_ended_goes_on_after_the_cases_it_has(tmp_path: Path) -> None:
    out = tmp_path / "out"
    missing = ["--no-install", "--environments", str(tmp_path / "none")]
    command = suite("--only", *HERE, "faiss", *missing, "--out", str(out))
    with begun(command, tmp_path / "log", (out / "suite.partial").exists) as running:
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 143
    assert [file.name for file in out.iterdir()] == ["suite.partial"]
    kept = (out / "suite.partial").read_text()
    cases = json.loads(kept)["rows"]
    assert 0 < len(cases) < 4

    other = subprocess.run([*command, "--resume", "--limit", "5"], capture_output=True, text=True, check=False)
    assert other.returncode == 1 and "is of a run with other limit; begin anew without --resume" in other.stderr
    assert (out / "suite.partial").read_text() == kept

    command.append("--resume")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and not (out / "suite.partial").exists()
    assert f"going on after {len(cases)} cases" in done.stdout
    result = json.loads((tmp_path / "out" / "suite.json").read_text())
    assert all(result["floors"][kind]["rate"] > 0 for kind in ("products", "reads"))
    rows = result["rows"]
    assert {row["contender"] for row in rows} == {*HERE, "faiss"} and len(rows) == 4 * 3
    before = [row for found in cases.values() for row in found]
    assert [row.get("seconds") for row in rows[: len(before)]] == [row.get("seconds") for row in before]
    for row in rows:
        assert row["floor"] > 0
        if row["contender"] == "faiss":
            assert "not installed" in row["reason"] and "seconds" not in row
            continue
        assert row["error"] < (1e-6 if row["contender"] == "flowscope" else 1e-4)
        assert row["over_floor"] == pytest.approx(row["seconds"] / row["floor"])
        assert row["transient"] >= 0 and row["held"] >= 0
    assert {row["over_flowscope"] for row in rows if row["contender"] == "flowscope"} == {1.0}
    assert {row["contender"] for row in result["growth"]["timesteps"]} == {*HERE, "faiss", "flowscope, one pass"}
    assert not [row for row in result["growth"]["timesteps"] if "reason" in row and row["contender"] != "faiss"]
    page = (tmp_path / "out" / "suite.md").read_text()
    assert result["about"]["processor"] in page and "faiss: not installed" in page
    assert (tmp_path / "out" / "suite-growth.png").stat().st_size > 10_000


@pytest.mark.long
def test_its_truth_is_the_reference(tmp_path: Path, module: Any) -> None:
    cases = module("_cases")
    for t in (0.1, 0.5, 0.9):
        case = cases.Case("small", 40, 7, 6, t)
        _, points, apart = cases.stored(tmp_path, [case])
        x = cases.queries(case, points, apart)
        u, size = cases.truth(case, points, x)
        answer = oracles(np.asarray(points, np.float64), np.asarray(x, np.float64), t)
        assert np.abs(u.numpy() - answer.velocity).max() < 1e-10 * np.abs(answer.velocity).max()
        np.testing.assert_allclose(size.numpy(), answer.scale, rtol=1e-9)
        assert cases.error(answer.velocity, u, size) < 1e-12
        wrong = answer.velocity + 0.1 * answer.scale[:, None] * np.eye(7)[0]
        assert cases.error(wrong, u, size) == pytest.approx(0.1)
        assert cases.error(wrong * np.nan, u, size) == np.inf


def test_growth_is_fitted_to_powers(module: Any) -> None:
    sizes = np.array([100.0, 200.0, 800.0])
    assert module("_pages").slope(sizes, 3e-4 * sizes**1.5) == pytest.approx(1.5)


def test_whatever_a_contender_does_is_told(tmp_path: Path, module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    contenders = module("_contenders")
    monkeypatch.setattr(contenders, "RIVALS", tmp_path)
    (tmp_path / "odd.py").write_text(RIVAL)
    points, x, out = (str(tmp_path / name) for name in ("points.npy", "x.npy", "out.npy"))
    np.save(points, np.ones((5, 3), np.float32))
    np.save(x, np.full((2, 3), 7, np.float32))
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert "OPENBLAS_CORETYPE" not in contenders.environment(1)

    def worker() -> Any:
        made = contenders.Worker("odd", sys.executable, 1, tmp_path / "log")
        made.ask("load", 60, file=points, rows=5, dimension=3, mapped=False)
        return made

    first = worker()
    try:
        assert first.ask("run", 60, file=x, t=0.1, out=out)["queries"] == 2  # what it printed is no answer
        assert np.load(out).tolist() == [[7] * 3] * 2
        with pytest.raises(contenders.OutOfRaceError, match="ValueError: no halves"):
            first.ask("run", 60, file=x, t=0.5, out=out)
        assert first.alive
        with pytest.raises(contenders.OutOfRaceError, match=r"died \(code 3\)"):
            first.ask("run", 60, file=x, t=0.7, out=out)
    finally:
        first.close()
    second = worker()
    try:
        with pytest.raises(contenders.OutOfRaceError, match=r"did not end in 0\.2 s"):
            second.ask("run", 0.2, file=x, t=0.9, out=out)
        assert not second.alive
    finally:
        second.close()


@pytest.mark.long
def test_what_does_not_install_says_why(tmp_path: Path, module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    contenders = module("_contenders")
    monkeypatch.setattr(contenders, "RIVALS", tmp_path)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "odd.txt").write_text("--no-index\nno-such-package==1.0\n")
    with pytest.raises(contenders.OutOfRaceError, match=r"did not install: .*no-such-package==1\.0"):
        contenders.interpreter("odd", tmp_path / "environments", True, 300)
    with pytest.raises(contenders.OutOfRaceError, match="--no-install"):  # half an environment is none
        contenders.interpreter("odd", tmp_path / "environments", False, 300)


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are read off /proc")
def test_an_interrupt_ends_every_worker(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with begun(suite("--only", "cdist", "one-shot-numpy"), log, lambda: "tiny" in log.read_text()) as running:
        listed = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 1
    assert len(listed) >= 2
    assert [child for child in listed if Path(f"/proc/{child}").exists()] == []
    assert "interrupted; nothing was written" in log.read_text()

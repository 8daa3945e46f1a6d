"""The command line as a process of its own: exit codes, pipes, terminals, signals, a full disk."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from flowscope.cli import main

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "FORCE_COLOR": "1", "COLUMNS": "40"}
SCRIPT = str(Path(sys.executable).parent / "flowscope")
MODULE = [sys.executable, "-m", "flowscope"]
SMALL = ["--probes", "8", "--timesteps", "3"]


def start(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)


@pytest.mark.long
def test_script_and_module_are_the_same_program(tmp_path: Path) -> None:
    wrong = ["stages", "gaussian:N=9,D=2", "--out", "new", "--probes", "abc"]
    script, module = start([SCRIPT, *wrong], tmp_path), start([*MODULE, *wrong], tmp_path)
    for done in (script, module):
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr == module.stderr
    assert module.stderr.count("\n") == 1
    assert module.stderr.startswith("flowscope: --probes is 'abc'; expected")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    done = start(["bash", "-c", f"{' '.join(MODULE)} info gaussian:N=9,D=2 | true; exit ${{PIPESTATUS[0]}}"], tmp_path)
    assert done.stdout == ""
    assert done.stderr == ""
    assert done.returncode == 1


@pytest.mark.long
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_standard_output_on_a_full_disk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert main(["info", "gaussian:N=9,D=2"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "no space left on device; expected" in line


@pytest.mark.long
def test_a_terminal_sees_a_bar_with_the_time_left(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [*MODULE, "sweep", "mixture:N=40,D=3,modes=2", "--over", "classes", *SMALL, "--json"]
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        assert process.stdout is not None
        document = json.loads(process.stdout.read())
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert process.returncode == 0
    assert len(document["values"]) == 2
    assert "curve" in shown
    assert "0:00:0" in shown


# Loads all that is needed once; every run is a fork of it, which writes its state after every block. At its n-th
# writing it sends itself a signal.
SIGNALS = r"""
import functools, json, os, signal, sys
import sklearn.cluster
import flowscope.cli.stages as command
import flowscope.report
from flowscope.cli import main
from flowscope.curve.checkpoint import ResumeState

command.ResumeState = functools.partial(ResumeState, interval=0, clock=lambda: 0.0)
flowscope.report.stages_files = lambda *_: {}  # the page takes seconds and is not what this is about
RUN = ["stages", "mixture:N=1200,D=24,modes=3", "--conditional", "--probes", "32", "--timesteps", "5"]
RUN += ["--memory", "200KB"]
writings, last, sent = 0, 0, None

def writing(event, _):
    global writings
    if event == "os.rename":
        writings += 1
        if writings == last:
            os.kill(os.getpid(), sent)

sys.addaudithook(writing)

def run(out, after, number, *options):
    global last, sent
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    last, sent = after, number
    os.dup2(os.open(out + ".txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os._exit(main([*RUN, "--out", out, *options]))

whole = run("whole", 0, None)
interrupted = run("interrupted", 3, signal.SIGINT)
left = sorted(os.listdir("interrupted"))
resumed = run("interrupted", 0, None, "--resume")
kills = [run("killed", after, signal.SIGKILL, "--resume") for after in (1, 4, 2)]
finished = run("killed", 0, None, "--resume")
print(json.dumps([whole, interrupted, left, resumed, kills, finished]))
"""


@pytest.mark.long
def test_runs_that_are_interrupted_or_killed_go_on_to_the_same_numbers(tmp_path: Path) -> None:
    done = start([sys.executable, "-c", SIGNALS], tmp_path)
    assert done.stderr == ""
    whole, interrupted, left, resumed, kills, finished = json.loads(done.stdout)
    assert (whole, interrupted, resumed, finished) == (0, 130, 0, 0)
    assert left == [".flowscope.json", ".stages-state.npz"]
    assert kills == [-9, -9, -9]
    said = (tmp_path / "interrupted.txt").read_text()
    assert said.count("\n") == 1
    assert "interrupted: nothing half-written is left" in said
    results = [(tmp_path / name / "stages.csv").read_bytes() for name in ("whole", "interrupted", "killed")]
    assert results[0] == results[1] == results[2]
    for name in ("whole", "interrupted", "killed"):  # no state is left, nor halves of one
        assert sorted(p.name for p in (tmp_path / name).iterdir()) == [".flowscope.json", "stages.csv", "stages.json"]


@pytest.mark.long
def test_a_full_disk_is_left_as_it_was(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("flowscope.report.stages_files", lambda *_: {})
    (small_disk / "there").write_text("keep")
    for command in (["stages"], ["sweep", "--over", "N", "--values", "300"]):
        options = ["gaussian:N=300,D=3", "--probes", "4", "--timesteps", "400"]
        assert main([*command, *options, "--out", str(small_disk / "new")]) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert "no space left on device; expected a folder" in line
        assert [p.name for p in small_disk.rglob("*")] == ["there"]


@pytest.mark.long
def test_state_of_another_run_is_refused_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    run = ["stages", "gaussian:N=60,D=3", *SMALL, "--out", str(tmp_path)]
    monkeypatch.setattr("flowscope.report.stages_files", interrupt)
    assert main(run) == 130
    state = tmp_path / ".stages-state.npz"
    kept = state.read_bytes()
    capsys.readouterr()
    for other, named in (
        (["--probes", "9"], "probes"),
        (["--seed", "1"], "seed"),
        (["--path", "vp"], "path"),
        (["--timesteps", "4"], "timesteps"),
        (["--subset", "59"], "training_set"),
    ):
        assert main([*run, "--resume", *other]) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert named in line
        assert "without --resume" in line
    assert main([*run, "--probes", "0"]) == 2  # what is refused costs no state either
    assert state.read_bytes() == kept
    state.write_bytes(kept[: len(kept) // 2])
    capsys.readouterr()
    assert main([*run, "--resume"]) == 2
    assert "remove it" in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == {".flowscope.json", state.name}
    monkeypatch.setattr("flowscope.report.stages_files", lambda *_: {})
    assert main(run) == 0  # without --resume it does not matter
    assert {p.name for p in tmp_path.iterdir()} == {".flowscope.json", "stages.csv", "stages.json"}
    assert np.isfinite(np.loadtxt(tmp_path / "stages.csv", delimiter=",", skiprows=2)).all()


@pytest.mark.long
@pytest.mark.parametrize("loaded", ["_struct", "libtorch_cpu", "_umath_linalg", "_safetensors_rust"])
@pytest.mark.parametrize("program", [[SCRIPT], MODULE])
def test_an_interrupt_while_it_loads_is_one_line(program: list[str], loaded: str, tmp_path: Path) -> None:
    if not Path("/proc/self/maps").exists():
        pytest.skip("what a process has loaded is read from /proc")
    with subprocess.Popen([*program, "info", "digits"], cwd=tmp_path, env=ENVIRONMENT, stderr=-1, text=True) as process:
        maps, until = Path(f"/proc/{process.pid}/maps"), time.monotonic() + 60
        while loaded not in maps.read_text() and time.monotonic() < until:
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert said.startswith("flowscope: interrupted: nothing") and said.count("\n") == 1


@pytest.mark.long
@pytest.mark.parametrize("command", ["stages", "train"])
def test_a_backend_of_matplotlib_that_is_none_is_refused_before_the_work(command: str, tmp_path: Path) -> None:
    line = [*MODULE, command, "gaussian:N=20,D=2", "--out", "new"]
    environment = {**ENVIRONMENT, "MPLBACKEND": "nonsense"}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("flowscope: MPLBACKEND is 'nonsense', with which matplotlib does not load; expected")
    assert list(tmp_path.iterdir()) == []

"""flowscope stages as one of several processes: one speaks and writes; what is killed goes on where it was."""

import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from flowscope.cli import main
from flowscope.curve.checkpoint import unpack
from tests.support.ranks_job import Job, until

pytestmark = pytest.mark.long

RUN = ["stages", "gaussian:N=1500,D=3", "--timesteps", "6", "--probes", "16", "--memory", "60KB", "--rank-timeout", "4"]
PROGRAM = """
import sys
import flowscope.report
from flowscope.cli import main
flowscope.report.stages_files = lambda *_: {"index.html": "stages"}  # the page takes seconds, and needs no ranks
sys.exit(main())
"""
SLOW = """
import functools, os, time
import flowscope.cli.stages as command
import flowscope.curve.measure as measure
command.ResumeState = functools.partial(command.ResumeState, share=1e9)  # however long it takes to write here
blocks, rank = measure.add_blocks, os.environ["RANK"]
def slow(*arguments):
    for at in blocks(*arguments):
        yield at  # taken up again when the state has been kept
        time.sleep(0.1)
        open(f"at-{rank}-{at}", "w").close()
measure.add_blocks = slow
"""


def table(folder: Path) -> np.ndarray:
    return np.genfromtxt(folder / "stages.csv", delimiter=",", skip_header=2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on two ranks that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    (code, out, err), second = Job(PROGRAM, 2, folder, *RUN, "--out", "new").wait()
    assert (code, err) == (0, "")
    assert "ranks        2" in out and "navigation ends at" in out
    assert second == (0, "", "")  # it says nothing
    return folder / "new"


def test_two_ranks_write_what_one_process_does(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowscope.report.stages_files", lambda *_: {"index.html": "stages"})
    assert main([*RUN, "--out", str(tmp_path)]) == 0
    assert {p.name for p in whole.iterdir()} == {p.name for p in tmp_path.iterdir()}  # and no states are left
    found, alone = table(whole), table(tmp_path)
    scale = np.nanmax(np.abs(alone), axis=0)
    assert np.isfinite(scale).all()
    np.testing.assert_allclose(found / scale, alone / scale, rtol=0, atol=1e-6)


def test_a_killed_run_goes_on_with_as_many_ranks(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    job = Job(SLOW + PROGRAM, 2, tmp_path, *RUN, "--out", "new")
    until(out / ".stages-state-1.npz")
    while len(list(tmp_path.glob("at-1-*"))) < 3:
        time.sleep(0.01)
    job.send(1, signal.SIGKILL)
    ((code, _, said),) = job.wait(0)
    assert code == 2
    assert re.fullmatch(r"flowscope: rank 1 has made no progress for \d+ s; expected .*\n", said)
    held = {
        p.name for p in out.iterdir() if p.suffix != ".part"
    }  # which a killed process leaves, and the next one removes
    assert held == {".flowscope.json", ".stages-state-1.npz", ".stages-state.npz"}
    for rank, name in enumerate((".stages-state.npz", ".stages-state-1.npz")):
        marks = sorted(int(p.name.split("-")[2]) for p in tmp_path.glob(f"at-{rank}-*"))
        with (out / name).open("rb") as stream:
            kept = int(unpack(stream)[1]["current"]["at"])
        assert kept >= marks[-1]  # all that was done before the block it was at
    before = {name: (out / name).read_bytes() for name in held}
    refused = Job(PROGRAM, 3, tmp_path, *RUN, "--out", "new", "--resume").wait()
    said = "".join(err for _, _, err in refused)  # by the first of the host to find out
    assert [code for code, _, _ in refused] == [2, 2, 2]
    assert re.search(r"differs in ranks \(\[\d, 2\] there, \[\d, 3\] here\)", said) and said.count("\n") == 1
    assert all((out / name).read_bytes() == text for name, text in before.items())
    ended = Job(PROGRAM, 2, tmp_path, *RUN, "--out", "new", "--resume").wait()
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert (out / "stages.csv").read_bytes() == (whole / "stages.csv").read_bytes()  # bit for bit
    assert {p.name for p in out.iterdir()} == {p.name for p in whole.iterdir()}


def test_a_rank_that_missed_the_last_meeting_catches_up(whole: Path, tmp_path: Path) -> None:
    """One has written what the ranks found together, the other was killed before it had: they end the same."""
    stop = "import sys, flowscope.studies\ndef end(*_): raise KeyboardInterrupt\n"
    stop += "sys.modules['flowscope.curve.stages'].summarise = end\n"
    codes = [code for code, _, _ in Job(stop + PROGRAM, 2, tmp_path, *RUN, "--out", "new").wait()]
    assert codes == [130, 130]
    (tmp_path / "new" / ".stages-state-1.npz").unlink()
    ended = Job(PROGRAM, 2, tmp_path, *RUN, "--out", "new", "--resume").wait()
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert (tmp_path / "new" / "stages.csv").read_bytes() == (whole / "stages.csv").read_bytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "m"], "--model is given, and studies of models run in one process"),
        (["--rank-timeout", "0"], "--rank-timeout is '0'; expected seconds above 0"),
    ],
)
def test_what_is_wrong_is_one_line(
    options: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    assert main([*RUN, "--out", "somewhere", *options]) == 2
    line = capsys.readouterr().err
    assert said in line and line.count("\n") == 1


def test_a_source_that_is_not_there_is_said_once_a_host(tmp_path: Path) -> None:
    results = Job(PROGRAM, 2, tmp_path, "stages", "no-such-file.npy", "--out", "new").wait()
    assert [code for code, _, _ in results] == [2, 2]
    assert sum(said.count("\n") for _, _, said in results) == 1
    assert not (tmp_path / "new").exists()


def test_the_launcher_ends_it_in_one_line(tmp_path: Path) -> None:
    job = Job(SLOW + PROGRAM, 2, tmp_path, *RUN, "--out", "new")
    until(tmp_path / "new" / ".stages-state-1.npz")
    job.send(0, signal.SIGTERM)
    results = job.wait()
    assert [code for code, _, _ in results] == [2, 2]
    assert results[0][2].startswith("flowscope: the launcher ended this rank (SIGTERM)")
    assert results[0][2].count("\n") == 1 and results[1][2] == ""

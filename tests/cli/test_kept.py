"""Nothing of the user's is lost: files in the way, retyped commands, signals, two runs in one folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flowscope.cli import main
from flowscope.training.trainer import Run
from tests.support.toys import toy_file, toy_model

ROOT = Path(__file__).parents[2]
CURVE = ["--probes", "4", "--timesteps", "2"]
TRAIN = ["--model", "mlp", "--width", "8", "--steps", "9", "--batch", "4", "--tracker", "none", "--no-page"]


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data and a model; pages take no time."""
    monkeypatch.setattr("flowscope.report.stages_files", lambda *_: {"index.html": "stages"})
    monkeypatch.setattr("flowscope.report.sweep_files", lambda *_: {"index.html": "sweep"})
    monkeypatch.setattr("flowscope.report.finding_files", lambda *_: {"index.html": "study"})
    monkeypatch.setattr("flowscope.report.reproduction_files", lambda *_: {"index.html": "reproduction"})
    toy_file(tmp_path)
    toy_model(tmp_path / "model")
    return tmp_path


def typed(room: Path, name: str) -> list[str]:
    """A command that writes a folder, without --out."""
    source, model = str(room / "toy.npz"), str(room / "model")
    return {
        "train": ["train", source, *TRAIN],
        "stages": ["stages", source, *CURVE],
        "sweep": ["sweep", source, "--over", "N", "--values", "20,30", *CURVE],
        "study": ["study", "switch", "--model", model, "--data", source, "--n", "20", "--steps", "2"],
        "sample": ["sample", model, "--n", "2", "--steps", "2"],
        "reproduce": ["reproduce", source, "--quick", "--steps", "2", "--only", "loss", "--device", "cpu"],
    }[name]


WRITES = {  # each command with some of the files that it writes
    "train": ["model.json", "state.safetensors", "loss.csv"],
    "stages": ["index.html", "stages.csv"],
    "sweep": ["index.html", "sweep.json", "curves/N=20/stages.csv"],
    "study": ["index.html", "switch.json"],
    "sample": ["samples.npy"],
    "reproduce": ["index.html", "reproduction.csv", "stages/stages.json", "loss/index.html", "models/small-0/loss.csv"],
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "file"), [(name, file) for name, files in WRITES.items() for file in files])
def test_a_file_of_the_users_is_named_refused_and_left_as_it_was(
    name: str, file: str, room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = room / "out" / file
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert main([*typed(room, name), "--out", str(room / "out")]) == 2
    said = capsys.readouterr().err
    assert str(mine.relative_to(room / "out")) in said and "--overwrite" in said and said.count("\n") == 1
    assert mine.read_text() == "mine"
    if not file.startswith("models/"):  # that one is found when its turn comes, and what was made before is kept
        assert [p for p in (room / "out").rglob("*") if p.is_file()] == [mine]


@pytest.mark.long
@pytest.mark.parametrize("name", WRITES)
def test_with_overwrite_it_goes_on_and_the_users_other_files_stay(name: str, room: Path) -> None:
    out = room / "out"
    for file in (*WRITES[name], "notes.txt"):
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        (out / file).write_text("mine")
    command = [*typed(room, name), "--out", str(out)]
    assert main([*command, "--overwrite"]) == 0
    assert [file for file in WRITES[name] if (out / file).exists() and (out / file).read_bytes() == b"mine"] == []
    assert (out / "notes.txt").read_text() == "mine"
    results = {p for p in out.rglob("*") if p.is_file() and ".flowscope" not in p.name}
    again = [*command, "--resume"] if name == "train" else command
    assert main(again) == 0  # flowscope's own results are replaced without a word
    assert {p for p in out.rglob("*") if p.is_file() and ".flowscope" not in p.name} == results


def test_overwrite_needs_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stages", "gaussian:N=9,D=2", "--json", "--overwrite"]) == 2
    assert "--overwrite is given without --out" in capsys.readouterr().err


@pytest.mark.slow
def test_a_finished_model_outlives_the_command_that_made_it(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*typed(room, "train"), "--out", str(room / "m")]
    assert main(command) == 0
    before = {p: p.read_bytes() for p in (room / "m").rglob("*") if p.is_file()}
    capsys.readouterr()
    assert main(command) == 2
    assert "m holds a finished model (model.json); expected" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert {p: p.read_bytes() for p in (room / "m").rglob("*") if p.is_file()} == before
    assert main([*command, "--resume", "--steps", "12"]) == 0
    assert main([*typed(room, "train"), "--steps", "12", "--out", str(room / "whole")]) == 0
    assert (room / "m" / "model.safetensors").read_bytes() == (room / "whole" / "model.safetensors").read_bytes()
    assert main([*typed(room, "stages"), "--out", str(room / "m")]) == 2
    assert "holds results of flowscope train" in capsys.readouterr().err


@pytest.mark.slow
def test_a_model_of_a_reproduction_is_replaced_with_overwrite_only(
    room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*typed(room, "reproduce"), "--out", str(room / "out")]
    assert main(command) == 0
    model = room / "out" / "models" / "small-0" / "model.safetensors"
    before = model.read_bytes()
    assert main([*command, "--steps", "3"]) == 2
    assert "small-0 holds a finished model" in capsys.readouterr().err and model.read_bytes() == before
    assert main([*command, "--steps", "3", "--overwrite"]) == 0
    assert model.read_bytes() != before


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_the_step_says_so_and_has_its_code(
    number: int, code: int, room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    advance, before = Run.advance, {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}

    def stopping(run: Run) -> object:
        if run.step == 5:
            os.kill(os.getpid(), number)
        return advance(run)

    command = [*typed(room, "train"), "--checkpoint-every", "1000", "--out", str(room / "m")]
    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", stopping)
        assert main(command) == code
    said = capsys.readouterr().err
    assert said.startswith("flowscope: interrupted: nothing half-written is left; step 6 of 9 is kept; ")
    assert f"{room / 'm'} keeps state.safetensors; the same command with --resume goes on\n" in said
    assert {n: signal.getsignal(n) for n in before} == before
    assert main([*command, "--resume"]) == 0
    assert main([*command[:-1], str(room / "whole")]) == 0
    assert (room / "m" / "model.safetensors").read_bytes() == (room / "whole" / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stages", "study"])
def test_sigterm_where_nothing_is_kept_is_said(
    name: str, room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("flowscope.data.TrainingSet.digest", property(lambda _: os.kill(os.getpid(), signal.SIGTERM)))
    assert main([*typed(room, name), "--out", str(room / "out")]) == 143
    assert capsys.readouterr().err == "flowscope: interrupted: nothing half-written is left; nothing was kept\n"
    assert not (room / "out").exists()


@pytest.mark.slow
def test_a_second_command_in_a_folder_is_refused(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = "import sys; from flowscope.core.run_folder import run_folder\n"
    code += "with run_folder(sys.argv[1], 'stages'): print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(room / "out")]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as first:
        assert first.stdout is not None and first.stdout.readline()
        for name in WRITES:
            assert main([*typed(room, name), "--out", str(room / "out")]) == 2
            said = capsys.readouterr().err
            assert f"another run writes to {room / 'out'} (process {first.pid})" in said and said.count("\n") == 1
    assert not (room / "out").exists()


@pytest.mark.slow
def test_a_sweep_of_other_settings_takes_the_page_away_with_its_first_curve(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, kept = room / "out", []
    command = [*typed(room, "sweep"), "--out", str(out)]
    assert main([*command, "--values", "20,30,40"]) == 0

    def look(*_: object) -> dict[str, str]:
        kept.append((out / "sweep.json").exists())
        return {"index.html": "sweep"}

    monkeypatch.setattr("flowscope.report.sweep_files", look)
    assert main([*command, "--values", "20,30,40"]) == 0
    assert main([*command, "--seed", "1"]) == 0
    assert kept == [True, False]
    assert sorted(p.name for p in (out / "curves").iterdir()) == ["N=20", "N=30"]  # and no curve of the other is left


@pytest.mark.long
def test_killed_commands_go_on_to_the_same_results_and_leave_nothing_over() -> None:
    """A few of the kills of benchmarks/kills.py."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), "--kills", "3", "--seed", "1"]
    command += ["--only", "train"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "\n0 wrong\n" in done.stdout, done.stdout + done.stderr

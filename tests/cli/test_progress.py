"""Progress where standard error is no terminal: a plain line now and then, and standard output stays the result's."""

import json
from pathlib import Path

import pytest

from flowscope.cli import console, main
from flowscope.cli.console import Lines, duration
from tests.support.toys import toy_file

SMALL = ["--probes", "8", "--timesteps", "3"]


class Clock:
    """Time that passes when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_a_line_at_most_every_ten_seconds_with_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    report = Lines("training", clock)
    for done in range(1, 101):
        clock.now += 0.3
        report(done, 100, "loss 0.5")
    lines = said(capsys)
    assert len(lines) == 2  # of 30 seconds
    assert lines[0] == "training: 34 of 100, loss 0.5, 20 s left"
    assert lines[1].startswith("training: 68 of 100")


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    report = Lines("stages", clock)
    for done in range(9):
        clock.now += 1
        report(done, 9)
    assert said(capsys) == []


def test_work_that_goes_on_or_starts_anew_is_timed_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    report = Lines("reproduce", clock)
    report(1501, 2000, "small-0")  # resumed: what was done before tells nothing of the pace
    clock.now += 20
    report(1601, 2000, "small-0")
    clock.now += 20
    report(1, 9, "switch")
    clock.now += 60
    report(2, 9, "switch")
    assert said(capsys) == [
        "reproduce: 1,601 of 2,000, small-0, 1 min 20 s left",
        "reproduce: 1 of 9, switch",
        "reproduce: 2 of 9, switch, 7 min 0 s left",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.4, "59 s"), (61, "1 min 1 s"), (3599.6, "1 h 0 min"), (7500, "2 h 5 min")]
)
def test_a_time_is_told_in_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.slow
@pytest.mark.parametrize("command", ["stages", "train", "sample", "sweep"])
def test_commands_tell_their_progress_and_keep_standard_output(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "EVERY", 0)
    monkeypatch.setattr("flowscope.report.stages_files", lambda *_: {})
    source, model = str(toy_file(tmp_path)), str(tmp_path / "model")
    trained = ["train", source, "--model", "mlp", "--width", "8", "--steps", "3", "--batch", "4", "--tracker", "none"]
    trained += ["--no-page"]
    if command == "sample":
        assert main([*trained, "--out", model]) == 0
        capsys.readouterr()
    arguments, line = {
        "stages": ([source, *SMALL], "posterior: "),
        "train": ([*trained[1:], "--out", model], "training: 1 of 3, loss "),
        "sample": ([model, "--n", "2", "--steps", "3", "--out", str(tmp_path / "drawn")], "sampling: 1 of 3"),
        "sweep": ([source, "--over", "classes", *SMALL], "curve: 0 of 3, 2"),
    }[command]
    assert main([command, *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)
    assert err.startswith(line)
    assert all(" of " in text and text.isprintable() for text in err.splitlines())

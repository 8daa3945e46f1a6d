"""The folder of a run: locked while it is open, and nothing of the user's is replaced or removed there."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flowscope.core.files import remove_file, write_atomic, write_files
from flowscope.core.lock import LOCK
from flowscope.core.manifest import MANIFEST
from flowscope.core.run_folder import run_folder
from flowscope.errors import OutputError


def everything(folder: Path) -> dict[str, str]:
    """All files but the manifest, by name."""
    found = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != MANIFEST)
    return {str(p.relative_to(folder)): p.read_text() for p in found}


def write(folder: Path, files: dict[str, str], kind: str = "stages", alone: bool = True, **options: bool) -> None:
    """One run that writes files."""
    with run_folder(folder, kind, files, **options):
        write_files(folder, files, alone=alone)


def test_results_of_flowscope_are_replaced_by_the_next_run_and_those_it_does_not_write_are_removed(
    tmp_path: Path,
) -> None:
    write(tmp_path, {"a": "1", "below/b": "1", "c": "1"})
    (tmp_path / "mine").write_text("mine")
    write(tmp_path, {"a": "2", "d": "2"})
    assert everything(tmp_path) == {"a": "2", "d": "2", "mine": "mine"}
    assert not (tmp_path / "below").exists()


@pytest.mark.parametrize("name", ["a", "below/a"])
def test_a_file_of_the_users_is_refused_by_name_before_the_work_and_goes_with_overwrite(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=f"{name} is in the way.*--overwrite"), run_folder(tmp_path, "sweep", [name]):
        raise AssertionError("the work has begun")
    assert everything(tmp_path) == {name: "mine"} and not (tmp_path / MANIFEST).exists()
    write(tmp_path, {name: "ours"}, overwrite=True)
    assert everything(tmp_path) == {name: "ours"}


def test_a_file_that_nobody_announced_is_refused_when_it_would_be_written(tmp_path: Path) -> None:
    (tmp_path / "late").write_text("mine")
    with run_folder(tmp_path, "sweep"):
        for harm in (
            lambda: write_files(tmp_path, {"new": "1", "late": "1"}),
            lambda: write_atomic(tmp_path / "late", "1"),
            lambda: remove_file(tmp_path / "late"),
        ):
            with pytest.raises(OutputError, match="late is in the way"):
                harm()
    assert everything(tmp_path) == {"late": "mine"}


def test_a_file_that_was_changed_is_the_users(tmp_path: Path) -> None:
    write(tmp_path, {"a": "1", "b": "1"})
    (tmp_path / "a").write_text("notes")
    with pytest.raises(OutputError, match="a is in the way: flowscope did not write it, or it was changed"):
        write(tmp_path, {"a": "2"})
    write(tmp_path, {"c": "2"})  # it is not in the way of this, and stays
    assert everything(tmp_path) == {"a": "notes", "c": "2"}
    with pytest.raises(OutputError, match="a is in the way"):
        write(tmp_path, {"a": "2"})


def test_the_folder_of_another_command_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"model.json": "{}"}, "train")
    with pytest.raises(OutputError, match=r"holds results of flowscope train, such as model\.json; expected"):
        write(tmp_path, {"stages.csv": ""}, "stages")
    assert everything(tmp_path) == {"model.json": "{}"}
    write(tmp_path, {"stages.csv": ""}, "stages", overwrite=True)
    assert everything(tmp_path) == {"stages.csv": ""}  # never both


def test_a_run_that_writes_nothing_leaves_nothing(tmp_path: Path) -> None:
    with run_folder(tmp_path / "new" / "folder", "study"):
        assert (tmp_path / "new" / "folder" / LOCK).exists()
    assert list(tmp_path.iterdir()) == []


CHILD = """
import sys, time
from flowscope.core import files
from flowscope.core.run_folder import run_folder
out, at = sys.argv[1:]
real, calls = files.os.replace, 0

def replace(a, b):
    global calls
    calls += 1
    if calls == int(at):
        print("there", flush=True)
        time.sleep(60)
    real(a, b)

files.os.replace = replace
with run_folder(out, "stages", ["a", "below/b"]):
    files.write_files(out, {"a": "new", "below/b": "new"}, alone=True)
    print("written", flush=True)
    time.sleep(60)
"""


def child(folder: Path, at: int) -> subprocess.Popen[str]:
    """A run that stops before it renames for the time `at`, or after all, and waits there."""
    command = [sys.executable, "-c", CHILD, str(folder), str(at)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None and running.stdout.readline()
    return running


def test_a_second_run_is_refused_until_the_first_one_is_dead(tmp_path: Path) -> None:
    with child(tmp_path, 0) as first:
        with pytest.raises(OutputError, match=f"another run writes to .* .process {first.pid}."):
            write(tmp_path, {"a": "2"})
        first.send_signal(signal.SIGKILL)
        first.wait()
    write(tmp_path, {"a": "2"})  # a lock outlives no process
    assert everything(tmp_path) == {"a": "2"}
    with run_folder(tmp_path, "stages"), pytest.raises(OutputError, match=f"process {os.getpid()}"):
        write(tmp_path, {"a": "3"})


@pytest.mark.slow
@pytest.mark.parametrize("at", range(1, 7))  # the renamings of a run: two files, and the manifest before and after
def test_killed_at_any_renaming_a_folder_holds_one_run_and_the_next_sweeps_it(at: int, tmp_path: Path) -> None:
    write(tmp_path, {"a": "old", "c": "old"})
    (tmp_path / ".a.0123abcd.part.mine").write_text("mine")
    with child(tmp_path, at) as first:
        first.send_signal(signal.SIGKILL)
        first.wait()
    found = everything(tmp_path)
    results = {name: text for name, text in found.items() if not name.split("/")[-1].startswith(".")}
    assert len(set(results.values())) <= 1, results
    write(tmp_path, {"a": "2", "below/b": "2"})
    assert everything(tmp_path) == {".a.0123abcd.part.mine": "mine", "a": "2", "below/b": "2"}


@pytest.mark.parametrize(
    "manifest",
    [
        "no json", "[]", "{}", "null", '{"schema": 1, "kind": "stages", "run": "", "files": [], "folders": []}',
        '{"schema": 1, "kind": "stages", "run": "", "files": {"a": 3}, "folders": []}',
        '{"schema": 1, "kind": "stages", "run": "", "files": {"../outside": null}, "folders": []}',
        '{"schema": 1, "kind": "stages", "run": "", "files": {}, "folders": ["/"]}', "[" * 100_000,
    ],
)  # fmt: skip
def test_a_manifest_that_flowscope_did_not_write_is_refused_and_harms_nothing(manifest: str, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("mine")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / MANIFEST).write_text(manifest)
    with pytest.raises(OutputError, match="cannot be read as the list of what flowscope wrote"):
        write(folder, {"a": "1"})
    assert (folder / MANIFEST).read_text() == manifest
    write(folder, {"a": "1"}, overwrite=True)
    assert everything(tmp_path) == {"out/a": "1", "outside": "mine"}
    assert list(json.loads((folder / MANIFEST).read_text())["files"]) == ["a"]


def test_a_page_over_results_goes_when_one_of_another_run_comes(tmp_path: Path) -> None:
    def run(identity: str, part: str) -> None:
        with run_folder(tmp_path, "sweep") as opened:
            opened.supersede(identity, ["page"])
            write_files(tmp_path / part, {"curve": identity})
            if part == "first":
                write_files(tmp_path, {"page": identity})

    run("one", "first")
    run("one", "second")  # the same run again
    assert everything(tmp_path) == {"first/curve": "one", "page": "one", "second/curve": "one"}
    run("two", "second")
    assert everything(tmp_path) == {"first/curve": "one", "second/curve": "two"}

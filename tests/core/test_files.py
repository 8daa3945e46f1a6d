"""Whole files or none: nothing half-written is left, whatever happens."""

import errno
import os
from pathlib import Path

import pytest

from flowscope.core.files import check_writable, remove_file, write_atomic, write_files
from flowscope.errors import OutputError


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def fail_at(monkeypatch: pytest.MonkeyPatch, name: str, call: int, error: BaseException) -> None:
    """Make the call-th use of a function of os fail."""
    real, count = getattr(os, name), iter(range(1, 1000))

    def failing(*args: object) -> object:
        if next(count) == call:
            raise error
        return real(*args)

    monkeypatch.setattr(f"flowscope.core.files.os.{name}", failing)


NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


def test_text_and_bytes_arrive_as_they_are(tmp_path: Path) -> None:
    assert write_atomic(tmp_path / "deep" / "er" / "a.txt", "ü\r\n\n") == tmp_path / "deep" / "er" / "a.txt"
    write_atomic(tmp_path / "b", bytes(range(256)))
    assert everything(tmp_path) == {"deep/er/a.txt": "ü\r\n\n".encode(), "b": bytes(range(256))}


def test_a_file_is_replaced_and_a_reader_keeps_the_old_one(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", "old")
    with open(tmp_path / "a") as reader:
        write_atomic(tmp_path / "a", "new")
        assert reader.read() == "old"
    assert (tmp_path / "a").read_text() == "new"


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_atomic(tmp_path / "a", "")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [(NO_SPACE, OutputError, "no space left"), (KeyboardInterrupt("asked"), KeyboardInterrupt, "asked")],
)
def test_a_full_disk_or_ctrl_c_leaves_what_was_there(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: int,
    error: BaseException,
    raised: type[BaseException],
    said: str,
) -> None:
    write_files(tmp_path / "out", {"a": "1", "b": "2"})
    fail_at(monkeypatch, "fsync", call, error)
    with pytest.raises(raised, match=said):
        write_files(tmp_path / "out", {"a": "new", "b": "new", "c": "new"})
    assert everything(tmp_path) == {"out/a": b"1", "out/b": b"2"}


def test_folders_made_for_nothing_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, "fsync", 1, NO_SPACE)
    with pytest.raises(OutputError, match="no space left"):
        write_atomic(tmp_path / "x" / "y" / "a", "new")
    assert list(tmp_path.iterdir()) == []


def test_the_message_is_one_line_and_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, "fsync", 2, NO_SPACE)
    with pytest.raises(OutputError) as caught:
        write_files(tmp_path, {"a.png": b"", "b.csv": ""})
    assert "b.csv" in str(caught.value)
    assert "expected a folder" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_or_folder_in_the_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("keep")
    (tmp_path / "folder" / "name").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"cannot write .*file.*; expected a folder"):
        write_atomic(tmp_path / "file" / "a", "")
    with pytest.raises(OutputError, match=r"cannot write .*name.*; expected a folder"):
        write_atomic(tmp_path / "folder" / "name", "")
    assert everything(tmp_path) == {"file": b"keep"}


def test_what_a_killed_writer_left_goes_with_its_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a[1]", "1")
    for name in (".a[1].0f0f0f0f.part", ".a1.0f0f0f0f.part", ".b.0f0f0f0f.part"):
        (tmp_path / name).write_text("half")
    remove_file(tmp_path / "a[1]")
    remove_file(tmp_path / "a[1]")  # not there: nothing to do
    assert sorted(everything(tmp_path)) == [".a1.0f0f0f0f.part", ".b.0f0f0f0f.part"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot remove"):
        remove_file(tmp_path / "folder")


def test_check_writable_tells_and_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("keep")
    with pytest.raises(OutputError, match="cannot write"):
        check_writable(tmp_path / "file" / "below")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="permission"):
            check_writable(tmp_path / "new")
        with pytest.raises(OutputError, match="permission"):
            write_atomic(tmp_path / "a", "")
    finally:
        tmp_path.chmod(0o700)

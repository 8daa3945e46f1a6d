"""Memory: what a control group leaves, and that what is asked for is told."""

import logging
from pathlib import Path

import pytest

from flowscope.core.memory import GIB, available_memory, check_memory
from flowscope.errors import InputError


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("flowscope.core.memory.CONTROL_GROUP", tmp_path)
    return tmp_path


def test_a_control_group_leaves_its_limit_less_what_it_cannot_give_up(group: Path) -> None:
    free = available_memory()
    (group / "memory.max").write_text("max\n")
    assert available_memory() > free / 2  # no limit
    (group / "memory.max").write_text("1000000\n")
    assert available_memory() == 1_000_000
    (group / "memory.current").write_text("700000\n")
    assert available_memory() == 300_000
    (group / "memory.stat").write_text("anon 100\ninactive_file 200000\nactive_file 5\n")
    assert available_memory() == 500_000
    (group / "memory.current").write_text("5000000\n")
    assert available_memory() == 0


def test_what_is_asked_for_is_told_and_what_is_not_there_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "flowscope.memory"):
        check_memory(1000, "a thing", "take less")
        with pytest.raises(InputError, match=r"^it takes 1,048,576.0 GiB, and .* GiB of memory are free: take less$"):
            check_memory(GIB << 20, "it", "take less")
    assert [record.args for record in caplog.records] == [("a thing", 1000), ("it", GIB << 20)]

"""Settings shared by all tests. What tests use by name is imported from `tests.reference` and its neighbours."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ["MPLBACKEND"] = "Agg"  # no test opens a window
os.environ["FLOWSCOPE_CACHE"] = str(Path(tempfile.gettempdir(), "flowscope-tests-cache"))  # never the user's own
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as under nohup: what tests start would ignore it, too
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Repeatable runs by default: the same examples every time. `pytest --hypothesis-profile=explore` looks for new ones.
# Two cores shared by several workers make single examples slow at random, so time is no failure.
_common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("repeatable", derandomize=True, database=None, **_common)
settings.register_profile("explore", max_examples=500, **_common)
settings.load_profile("repeatable")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small disk takes root and its permission")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what is long, and the variants of a test that its mark `slow_but` does not name."""
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker("slow")
        for mark in item.iter_markers("slow_but"):
            variant = item.name.partition("[")[2].removesuffix("]")
            if not any(fnmatchcase(variant, pattern) for pattern in mark.args):
                item.add_marker("slow")

"""The fuzz of all readers finds nothing in some hundred cases, and finds what is wrong where something is."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CASES = 150

# Readers that do what none may, and two that do not; each says how the fuzz saw it.
FAULTY = """
import json, os, tempfile
from pathlib import Path
from flowscope.core.memory import check_memory
from flowscope.errors import InputError
from tests.fuzz.readers import Reader
from tests.fuzz.run import Bench, Worker

def fails(folder): raise KeyError("secret")
def refuses(folder): raise InputError("no")
def hangs(folder):
    while not (folder / "never").exists(): pass
def dies(folder): os.abort()
def takes(folder): return bytes(b"x") * (400 << 20)
def asks(folder):
    check_memory(300 << 20, "it", "no")
    return takes(folder)

found = {}
for read in (fails, refuses, hangs, dies, takes, asks):
    good = iter([True])  # the good file is read first
    reader = Reader("one", lambda f: (f / "a.bin").write_bytes(b"abc"), lambda f, r=read: next(good, False) or r(f))
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(0, [reader], Path(place))
        bench.prepare()
        worker = Worker(bench, 2.0)
        said = worker.run(0)
        worker.end()
        found[read.__name__] = said["ended"] + ": " + said["fault"]
print(json.dumps(found))
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.long
def test_no_reader_ends_in_a_traceback_hangs_or_takes_what_it_did_not_ask_for(tmp_path: Path) -> None:
    done = run("-m", "tests.fuzz", "--seed", "0", "--cases", str(CASES), "--minutes", "60", "--keep", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{CASES} cases, 0 faults" in done.stdout
    ways = {match[1] for match in re.finditer(r": (\w+)$", done.stdout, re.M)}
    assert ways == {"read", "refused"}  # so that changes do not break all, and break something


@pytest.mark.long
def test_what_is_wrong_with_a_reader_is_found() -> None:
    done = run("-c", FAULTY)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["refuses"] == "refused: "
    assert found["asks"] == "read: "
    assert "KeyError: 'secret'" in found["fails"]
    assert found["hangs"] == "hang: no end after 2 s"
    assert found["dies"].startswith("died: the process died, status")
    assert re.search(r"took \d+ MiB, and 0 MiB were announced", found["takes"])

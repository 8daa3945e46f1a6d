"""Laws of the house: what importing and using the library must not do to the program that uses it.

Most are read off in a fresh interpreter, since this one has long loaded everything.
"""

import importlib.metadata
import importlib.resources
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flowscope

HEAVY = [
    "matplotlib",
    "PIL",
    "typer",
    "rich",
    "sklearn",
    "mlxtend",
    "jinja2",
    "playwright",
    "triton",
    "scipy.stats",
    "scipy.sparse",
    "datasets",
    "pyarrow",
    "h5py",
    "webdataset",
]

# What a user does with the library, from its import on, with data made on the spot.
USE = """
import numpy as np
import torch
import flowscope as fs

points = np.random.Generator(np.random.PCG64(0)).standard_normal((40, 6)).astype(np.float32)
data = fs.TrainingSet(points, labels=np.arange(40) % 2, name="probe")
oracle = fs.Oracle(data)
x = torch.from_numpy(points[:3])
oracle.posterior(x, 0.3, torch.tensor([0, 1, 1]), k=2)
oracle.divergence(x, 0.3)
curve = fs.stages(oracle, timesteps=5, probes=16, seed=0, conditional=True)
curve.to_dict()
digits = fs.load("digits")
digits.digest
"""

# Everything global that a library could disturb, as one comparable text.
STATE = """
import json, locale, logging, os, random, signal, sys, warnings
import numpy as np
import sklearn.cluster, sklearn.datasets  # first, for these set environment variables and draw from `random` themselves
import torch

def state():
    numpy_state = np.random.get_state()
    return json.dumps({
        "torch random state": torch.get_rng_state().tolist(),
        "numpy random state": [numpy_state[1].tolist(), numpy_state[2:]],
        "python random state": random.getstate(),
        "torch threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "default dtype": str(torch.get_default_dtype()),
        "default device": str(torch.get_default_device()),
        "autograd": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "denormals": float(torch.tensor(1e-310, dtype=torch.float64) * 1.0),
        "numpy errors": np.geterr(),
        "numpy printing": str(np.get_printoptions()),
        "warning filters": str(warnings.filters),
        "root logger": [logging.root.level, len(logging.root.handlers)],
        "interrupt": str(signal.getsignal(signal.SIGINT)),
        "environment": sorted(os.environ.items()),
        "folder": os.getcwd(),
        "locale": locale.setlocale(locale.LC_ALL),
        "hook": str(sys.excepthook),
    })

torch.manual_seed(7); np.random.seed(7); random.seed(7)
"""

# Reports what leaves the process: connections, other programs, files that are written, changed or removed.
WATCH = """
import os, sys

seen = []
WATCHED = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "subprocess.Popen", "os.system",
           "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")

def watch(event, args):
    if event in WATCHED:
        seen.append(f"{event} {args}")
    elif event == "open":
        name, mode, flags = args
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and name != os.devnull:
            seen.append(f"open {name!r} for writing")

sys.addaudithook(watch)
"""


def run(code: str, folder: Path) -> Any:
    """The JSON that `code`, run in a fresh interpreter in `folder`, prints as its only output."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", f"the library wrote to standard error: {done.stderr}"
    return json.loads(done.stdout)  # fails if anything else was printed


@pytest.mark.slow
def test_import_loads_no_plotting_web_or_model_library(tmp_path: Path) -> None:
    code = "import json, sys, flowscope; loaded = 'torch' in sys.modules\n"
    code += "names = [getattr(flowscope, name) for name in flowscope.__all__]\n"
    code += f"print(json.dumps([loaded, [m for m in {HEAVY} if m in sys.modules]]))"
    assert run(code, tmp_path) == [False, []]


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any], list[str], list[Path]]:
    """The global state before and after the library is used, what has left the process, and what is in its folder."""
    folder = tmp_path_factory.mktemp("used")
    code = f"{STATE}\n{WATCH}\nbefore = state()\n{USE}\nprint(json.dumps([*map(json.loads, (before, state())), seen]))"
    return *run(code, folder), list(folder.iterdir())


@pytest.mark.slow
def test_global_state_is_left_as_it_was(used: Any) -> None:
    before, after, _, _ = used
    assert [name for name in before if before[name] != after[name]] == []


@pytest.mark.slow
def test_nothing_is_written_or_sent(used: Any) -> None:
    assert used[2:] == ([], [])


def test_the_logger_is_silent_until_asked() -> None:
    logger = logging.getLogger("flowscope")
    assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]
    assert logger.level == logging.NOTSET


@pytest.mark.slow
def test_it_runs_as_a_module_from_any_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flowscope", "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "stages" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_that_of_the_installed_package() -> None:
    assert flowscope.__version__ == importlib.metadata.version("flowscope")


def test_the_package_ships_its_types() -> None:
    assert (importlib.resources.files("flowscope") / "py.typed").is_file()


def test_no_test_imports_a_test() -> None:
    """Nor does a program in a string of a test: what several share lies in tests/support."""
    imports = re.compile(
        r"^\s*(?:from|import) (tests\.\S*\btest_\w+)|^\s*from tests\S* import .*\btest_\w+", re.MULTILINE
    )
    files = sorted(Path(__file__).parent.rglob("*.py"))
    assert len(files) > 100
    assert [f"{file.name}: {found[0]}" for file in files for found in imports.finditer(file.read_text())] == []

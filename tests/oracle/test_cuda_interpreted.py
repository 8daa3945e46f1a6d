"""The fused pass: its kernels in Triton's interpreter, and what is said where they cannot be used."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from flowscope import InputError, Oracle
from flowscope.errors import MissingExtraError
from flowscope.oracle.engines.matmul import halves, split_dots, split_sums
from tests.support.cases import cloud

TRITON = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed: pip install 'flowscope[gpu]'")
ROOT = Path(__file__).parents[2]
HERE = ROOT / "tests" / "support"


@pytest.mark.long
@TRITON
@pytest.mark.skipif(torch.cuda.is_available(), reason="with a device Triton compiles; there is test_cuda.py for it")
def test_the_kernels_in_the_interpreter() -> None:
    """In a process of its own: Triton decides at its import whether to interpret."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "interpreted.py")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


@pytest.mark.long
@TRITON
def test_the_kernels_compile_without_a_device(tmp_path: Path) -> None:
    """For Ampere and Hopper, as they are started for 256 float16 points of 4096 coordinates; nothing runs."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(HERE / "compiled.py"), "80", "90"],
        cwd=ROOT,
        env=os.environ | {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@TRITON
def test_the_kernels_do_not_compute_on_a_cpu() -> None:
    with pytest.raises(InputError, match="library is 'triton', which computes on CUDA devices, not on cpu"):
        Oracle(cloud(9, (3,)), library="triton")


def test_where_triton_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(MissingExtraError, match=r"triton is not installed .* pip install 'flowscope\[gpu\]'"):
        Oracle(cloud(9, (3,)), library="triton")


def test_factors_that_tf32_holds() -> None:
    """Both parts have at most 13 bits, the first 11: what TF32 leaves out of the second is below 2^-20."""
    values = torch.cat([cloud(1000, ()), 1e-30 * cloud(9, ()), 1e30 * cloud(9, ()), torch.zeros(1)])
    high, low = halves(values)
    assert torch.equal(high + low, values)
    assert bool(((high.view(torch.int32) & 0x1FFF) == 0).all())
    assert bool((low.abs() <= 2.0**-10 * values.abs()).all())


@pytest.mark.slow
def test_products_of_split_factors() -> None:
    points, x, weights = cloud(300, (70,)), cloud(9, (70,), seed=1), cloud(300, (9,), seed=2).abs()
    torch.testing.assert_close(split_dots(points, x).double(), points.double() @ x.double().T, rtol=1e-5, atol=1e-5)
    true = weights.double().T @ points.double()
    torch.testing.assert_close(split_sums(weights, points).double(), true, rtol=1e-5, atol=1e-4)

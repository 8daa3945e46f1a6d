"""The libraries of matrix products: each is right, every process chooses the same one, and it can be set."""

import contextlib
import logging
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from flowscope import InputError, Oracle
from flowscope.oracle.engines import matmul as products
from tests.support.cases import cloud, expected, states, velocity_error
from tests.support.engines import small_oracle


@pytest.mark.slow
@pytest.mark.parametrize("library", products.LIBRARIES)
def test_products_against_float64(library):
    points, queries, weights = cloud(300, (70,)), cloud(9, (70,), seed=1), cloud(300, (9,), seed=2).abs()
    by = products.products(library)
    dots, sums = by.dots(points, queries), by.sums(weights, points)
    assert dots.dtype == sums.dtype == torch.float32
    torch.testing.assert_close(dots.double(), points.double() @ queries.double().T, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sums.double(), weights.double().T @ points.double(), rtol=1e-5, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-10, 1e18, 1e25, 1e90])
@pytest.mark.parametrize("tolerance", [None, 1e-3])
def test_numpy_warns_of_nothing_that_leaves_a_dtypes_range(scale, tolerance):
    """Whatever a user has numpy do about overflow and underflow: infinity and 0 are handled, as torch's are."""
    points = cloud(2100, (500,), dtype=torch.float64, scale=scale)  # enough for float32 products and for pruning
    t = torch.tensor([0.0, 0.5, max(0.9, 1 - 3 * scale)], dtype=torch.float64)  # in the last, many points share
    for dtype in (torch.float64, torch.float32)[: 1 if scale > 1e38 else 2]:
        x = states(points, t, rows=3, dtype=dtype)
        with np.errstate(all="raise"):
            u, other = (Oracle(points, library=name, tolerance=tolerance)(x, t) for name in ("numpy", "torch"))
        for i in range(3):
            answer = expected(points, x[i : i + 1], float(t[i]))
            for found in (u, other):
                assert (velocity_error(found[i : i + 1], answer) < (tolerance or 0) + 1e-6).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_leaves_a_dtypes_range_is_infinity_nan_or_0_with_every_library(dtype):
    root = 2e19 if dtype == torch.float32 else 2e154  # of what is just beyond the range
    points = torch.tensor([[root, root], [root, 0.0], [1 / root, 1 / root], [1.0, 0.0]], dtype=dtype)
    queries = torch.tensor([[root, root], [-root, 1.0], [math.inf, -math.inf], [0.0, 1e-9 / root]], dtype=dtype)
    for library in products.LIBRARIES.values():
        with np.errstate(all="raise"):
            dots, sums = library.dots(points, queries), library.sums(queries.T.contiguous(), points[:2])
        assert dots[0, :2].tolist() == [math.inf, -math.inf] and bool(dots[0, 2].isnan())
        assert dots[1:, :2].isfinite().tolist() == [[False, False], [True, True], [True, True]]
        assert abs(float(dots[2, 3])) < 1e-9 / root
        assert sums[:2, 0].tolist() == [math.inf, -math.inf] and bool(sums[2, 0].isnan())


CHOICES = [
    ("AuthenticAMD", True, True, "numpy"),
    ("HygonGenuine", True, True, "numpy"),
    ("GenuineIntel", True, True, "torch"),
    ("", True, True, "torch"),  # the system does not say
    ("AuthenticAMD", False, True, "torch"),  # torch was built with another library than MKL
    ("AuthenticAMD", True, False, "torch"),  # numpy has no OpenBLAS of its own
]


@pytest.mark.parametrize(("vendor", "torch_has_mkl", "numpy_has_openblas", "library"), CHOICES)
def test_numpy_where_mkl_is_slow_and_torch_elsewhere(vendor, torch_has_mkl, numpy_has_openblas, library):
    assert products.faster_library(vendor, torch_has_mkl, numpy_has_openblas) == library


def test_the_processor_vendor_is_read_from_the_system(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: vendor_id of nobody\n")
    assert products.processor_vendor(file) == "AuthenticAMD"
    file.write_text("processor\t: 0\nCPU implementer\t: 0x41\n")
    assert products.processor_vendor(file) == products.processor_vendor(tmp_path / "absent") == ""


@pytest.mark.long
def test_every_process_chooses_the_same_library():
    """Whatever was loaded and multiplied before, with any number of threads; and this one agrees."""
    busy = "import numpy, scipy.linalg, sklearn; a = numpy.ones((600, 600)); a @ a"
    found = {}
    for threads, before in (("1", "import torch"), ("2", busy)):
        code = f"{before}\nfrom flowscope.oracle.engines import matmul\n"
        code += "print(matmul.default_library(), matmul.numpy_openblas(), matmul.processor_vendor())"
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        command = [sys.executable, "-c", code]
        found[threads] = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert found["1"] == found["2"]
    chosen = products.default_library()
    assert found["1"].split()[0] == chosen
    assert products.products(None) is products.double_products(None) is products.LIBRARIES[chosen]


def test_the_choice_is_logged(caplog):
    products.default_library.cache_clear()
    with caplog.at_level(logging.INFO, logger="flowscope.oracle.engines.matmul"):
        chosen = products.default_library()
        assert products.default_library() == chosen
    assert [record.message for record in caplog.records] == [caplog.records[0].message]
    assert caplog.records[0].message.startswith(f"products by {chosen} (processor ")


def test_torch_is_left_out_where_the_user_allows_it_less_precise_products():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert not products.torch_is_exact()
        assert products.products(None).dots is products.LIBRARIES["numpy"].dots
    finally:
        torch.set_float32_matmul_precision(before)
    assert products.torch_is_exact()


def test_torch_keeps_to_one_thread_beside_another_librarys_products(monkeypatch):
    """And has its own back afterwards, whatever happened."""
    seen, before = [], torch.get_num_threads()
    numpy = products.LIBRARIES["numpy"]
    by = numpy._replace(dots=lambda *given: seen.append(torch.get_num_threads()) or numpy.dots(*given))
    monkeypatch.setitem(products.ON_CPU, "numpy", by)
    points = cloud(300, (70,))
    torch.set_num_threads(3)
    try:
        for dtype in (torch.float32, torch.float64):
            x = states(points, 0.3, rows=5, dtype=dtype)
            u = small_oracle(points, library="numpy")(x, 0.3)
            assert (velocity_error(u, expected(points, x, 0.3)) < 1e-6).all()
            assert torch.get_num_threads() == 3
        assert set(seen) == {1}
        with contextlib.suppress(ZeroDivisionError), products.one_torch_thread(by):
            with products.one_torch_thread(by):
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == 1
            raise ZeroDivisionError
        assert torch.get_num_threads() == 3
        with products.one_torch_thread(products.LIBRARIES["torch"]), products.one_torch_thread(None):
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("keep", [torch.float32, torch.bfloat16], ids=str)
def test_apples_gpu_takes_products_alone(monkeypatch, keep):
    """The CPU stands in for it, as float32 and as something far less precise: refinements stay in float64."""

    def dots(points, queries):
        return (points.to(keep).float() @ queries.to(keep).float().T).cpu()

    monkeypatch.setattr(products, "APPLE", "cpu")
    used = []
    by = products.MatmulBackend(lambda *given: used.append("dots") or dots(*given), products._apple_sums)
    monkeypatch.setitem(products.ON_CPU, "mps", by)
    points = cloud(300, (70,))
    oracle = small_oracle(points, device="mps")
    assert (oracle.device.type, oracle.library) == ("cpu", "mps")
    for t in (0.0, 0.1, 0.4, 0.9):
        x = states(points, t, rows=5, dtype=torch.float32)
        assert (velocity_error(oracle(x, t), expected(points, x, t)) < 1e-6).all()
    assert used
    assert products.ON_CPU["mps"].sums(points, points).shape == (70, 70)


def test_apples_gpu_is_refused_where_there_is_none():
    if torch.backends.mps.is_available():
        pytest.skip("there is one")
    for given in ({"device": "mps"}, {"device": torch.device("mps:0")}, {"library": "mps"}):
        with pytest.raises(InputError, match="mps is Apple's GPU, and torch finds none here; expected the device cpu"):
            Oracle(cloud(3, (2,)), **given)


def test_an_unknown_library_is_refused():
    with pytest.raises(
        InputError, match="library is 'mkl'; expected None for the one that suits the machine, or one of torch"
    ):
        Oracle(cloud(3, (2,)), library="mkl")

"""The libraries of float32 products: each is right, the choice is made by trial, logged, and can be set."""

import contextlib
import logging
import math

import numpy as np
import pytest
import torch

from flowscope import InputError, Oracle
from flowscope.oracle.engines import matmul as products
from flowscope.oracle.engines import select as engines
from tests.support.cases import cloud, expected, states, velocity_error


@pytest.mark.parametrize("library", products.LIBRARIES)
def test_products_against_float64(library):
    points, queries, weights = cloud(300, (70,)), cloud(9, (70,), seed=1), cloud(300, (9,), seed=2).abs()
    by = products.products(library, 9, 70)
    dots, sums = by.dots(points, queries), by.sums(weights, points)
    assert dots.dtype == sums.dtype == torch.float32
    torch.testing.assert_close(dots.double(), points.double() @ queries.double().T, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sums.double(), weights.double().T @ points.double(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-10, 1e18, 1e25, 1e150])
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


def test_the_fastest_is_chosen_by_trial_and_logged(monkeypatch, caplog):
    seconds = {products.LIBRARIES["torch"]: 2.4, products.LIBRARIES["numpy"]: 2.0}
    monkeypatch.setattr(products, "seconds_of", lambda call: seconds[call.args[0]])
    products._fastest.cache_clear()
    assert products.products(None, 5, 64) is products.LIBRARIES["torch"]  # not clearly slower
    seconds[products.LIBRARIES["torch"]] = 3.0
    products._fastest.cache_clear()
    with caplog.at_level(logging.INFO, logger="flowscope.oracle.engines.matmul"):
        assert products.products(None, 5, 64) is products.LIBRARIES["numpy"]
    assert "products of 8 queries" in caplog.text
    assert "numpy (torch 3000.00 ms, numpy 2000.00 ms)" in caplog.text
    products._fastest.cache_clear()


def test_torch_is_left_out_where_the_user_allows_it_less_precise_products():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert not products.torch_is_exact()
        assert products.products(None, 5, 64).dots is products.LIBRARIES["numpy"].dots
    finally:
        torch.set_float32_matmul_precision(before)
    assert products.torch_is_exact()


def test_torch_keeps_to_one_thread_beside_another_librarys_products(monkeypatch):
    """And has its own back afterwards, whatever happened; which library is fastest is asked with all of them."""
    seen, before = [], torch.get_num_threads()
    dots = products._numpy_dots
    by = products.LIBRARIES["numpy"]._replace(dots=lambda *given: seen.append(torch.get_num_threads()) or dots(*given))
    monkeypatch.setitem(products.ON_CPU, "numpy", by)
    monkeypatch.setattr(engines, "SMALLEST", 0)
    points = cloud(300, (70,))
    torch.set_num_threads(3)
    try:
        for dtype in (torch.float32, torch.float64):
            x = states(points, 0.3, rows=5, dtype=dtype)
            u = Oracle(points, library="numpy")(x, 0.3)
            assert (velocity_error(u, expected(points, x, 0.3)) < 1e-6).all()
            assert torch.get_num_threads() == 3
        assert set(seen) == {1}
        with contextlib.suppress(ZeroDivisionError), products.undisturbed(by):
            assert torch.get_num_threads() == 1
            with products.undisturbed(by):
                assert torch.get_num_threads() == 1 and products._threads.get() == 3
            raise ZeroDivisionError
        assert torch.get_num_threads() == 3 and products._threads.get() is None
        with products.undisturbed(products.LIBRARIES["torch"]), products.undisturbed(None):
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_torch_is_not_timed_while_threads_of_another_library_wait(monkeypatch):
    """OpenBLAS's look for work for a while after a product: torch's seemed four times as slow, and numpy was chosen."""
    now, asked = [100.0], []
    monkeypatch.setattr(products.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(products.time, "sleep", lambda seconds: now.append(now.pop() + seconds))
    monkeypatch.setattr(
        products, "seconds_of", lambda call: asked.append((call.args[0].apart, now[0])) or call() or 1.0
    )
    with products.undisturbed(products.LIBRARIES["numpy"]):
        now[0] += 1.0
    now[0] += 0.05
    for queries in (3, 5):
        products._fastest.__wrapped__(queries, 64, 2, True)
    ends = [101.0, 101.2]  # of the product above, and of the first trial of numpy's
    for (apart, at), end in zip([entry for entry in asked if not entry[0]], ends, strict=True):
        assert not apart and at == pytest.approx(end + products.WAITING)
    products.rest()
    assert now[0] == pytest.approx(101.4 + products.WAITING)


@pytest.mark.parametrize("keep", [torch.float32, torch.bfloat16], ids=str)
def test_apples_gpu_takes_products_alone(monkeypatch, keep):
    """The CPU stands in for it, as float32 and as something far less precise: refinements stay in float64."""

    def dots(points, queries):
        return (points.to(keep).float() @ queries.to(keep).float().T).cpu()

    monkeypatch.setattr(products, "APPLE", "cpu")
    used = []
    by = products.MatmulBackend(lambda *given: used.append("dots") or dots(*given), products._apple_sums)
    monkeypatch.setitem(products.ON_CPU, "mps", by)
    monkeypatch.setattr(engines, "SMALLEST", 0)
    points = cloud(300, (70,))
    oracle = Oracle(points, device="mps")
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
    with pytest.raises(InputError, match="library is 'mkl'; expected None for the fastest, or one of torch, numpy"):
        Oracle(cloud(3, (2,)), library="mkl")

"""The libraries of float32 products: each is right, the choice is made by trial, logged, and can be set."""

import logging

import pytest
import torch

from flowscope import InputError, Oracle
from flowscope.oracle import products
from tests.contracts.cases import cloud


@pytest.mark.parametrize("library", products.LIBRARIES)
def test_products_against_float64(library):
    points, queries, weights = cloud(300, (70,)), cloud(9, (70,), seed=1), cloud(300, (9,), seed=2).abs()
    by = products.products(library, 9, 70)
    dots, sums = by.dots(points, queries), by.sums(weights, points)
    assert dots.dtype == sums.dtype == torch.float32
    torch.testing.assert_close(dots.double(), points.double() @ queries.double().T, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sums.double(), weights.double().T @ points.double(), rtol=1e-5, atol=1e-4)


def test_the_fastest_is_chosen_by_trial_and_logged(monkeypatch, caplog):
    seconds = {products.LIBRARIES["torch"]: 2.4, products.LIBRARIES["numpy"]: 2.0}
    monkeypatch.setattr(products, "seconds_of", lambda call: seconds[call.args[0]])
    products._fastest.cache_clear()
    assert products.products(None, 5, 64) is products.LIBRARIES["torch"]  # not clearly slower
    seconds[products.LIBRARIES["torch"]] = 3.0
    products._fastest.cache_clear()
    with caplog.at_level(logging.INFO, logger="flowscope.oracle.products"):
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


def test_an_unknown_library_is_refused():
    with pytest.raises(InputError, match="library is 'mkl'; expected None for the fastest, or one of torch, numpy"):
        Oracle(cloud(3, (2,)), library="mkl")

"""Moments: one associative operation, so that it does not matter how points are cut; and doubled arithmetic."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import flowscope as fs
from flowscope.oracle.engines.float64 import block_moments
from flowscope.oracle.equation import double_double as doubled
from flowscope.oracle.equation.moments import combine, top_of
from tests.support.engines import queries_of

floats = st.floats(-1e6, 1e6, allow_subnormal=False)


def blocks_of(oracle: fs.Oracle, t: float, x: Tensor, cuts: list[int]) -> list:
    law, queries = next(queries_of(oracle, x, t))
    edges = [0, *sorted(set(cuts)), len(law)]
    pairs = [(a, b) for a, b in pairwise(edges) if a < b]
    return [block_moments(law.block(a, b), queries, None, 3, 1000) for a, b in pairs]


@given(
    cuts=st.lists(st.integers(1, 39), max_size=4), order=st.permutations(range(5)), t=st.sampled_from([0.0, 0.5, 0.999])
)
def test_combine_is_associative_and_commutative(cuts: list[int], order: list[int], t: float) -> None:
    g = torch.Generator().manual_seed(0)
    points = torch.randn(40, 5, generator=g)
    points[7], points[31] = points[3] + 1e-4, points[3] - 1e-4
    oracle = fs.Oracle(points)
    x = t * points[:6].double() + (1 - t) * torch.randn(6, 5, generator=g, dtype=torch.float64)
    parts = blocks_of(oracle, t, x, cuts)
    parts = [parts[i] for i in order if i < len(parts)]
    left = parts[0]
    for part in parts[1:]:
        left = combine(left, part)
    right = parts[-1]
    for part in reversed(parts[:-1]):
        right = combine(part, right)
    whole = blocks_of(oracle, t, x, [])[0]
    for one in (left, right):
        torch.testing.assert_close(one.weights, whole.weights, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(one.mean, whole.mean, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(one.entropy, whole.entropy, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(one.effective_size, whole.effective_size, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(one.total_variance, whole.total_variance, rtol=1e-6, atol=1e-12)
        torch.testing.assert_close(one.peak + one.mass.log(), whole.peak + whole.mass.log(), rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_ties_go_to_the_lowest_position(k: int) -> None:
    values = torch.tensor([[0.0, 1, 1, 0, 1, 1, 0], [2.0, 2, 2, 2, 2, 2, 2], [5.0, 4, 3, 2, 1, 0, 6]])
    index = torch.arange(10, 17)
    _, found = top_of(values, index, k)
    truth = [[11, 12, 14, 15, 10, 13, 16], [10, 11, 12, 13, 14, 15, 16], [16, 10, 11, 12, 13, 14, 15]]
    assert found.tolist() == [row[:k] for row in truth]


@given(st.lists(st.tuples(floats, floats), min_size=1, max_size=9), st.floats(0, 1, allow_subnormal=False))
def test_doubled_distances_have_thirty_digits(pairs: list[tuple[float, float]], alpha: float) -> None:
    x, y = (np.array(v) for v in zip(*pairs, strict=True))
    high, low = doubled.squared_distance(
        *(torch.tensor(v)[None] for v in (x, y)), torch.tensor([[alpha]], dtype=torch.float64)
    )
    truth = sum((Fraction(a) - Fraction(alpha) * Fraction(b)) ** 2 for a, b in zip(x, y, strict=True))
    error = abs(Fraction(high.item()) + Fraction(low.item()) - truth)
    size = sum((abs(Fraction(a)) + Fraction(alpha) * abs(Fraction(b))) ** 2 for a, b in zip(x, y, strict=True))
    assert error <= size * Fraction(1, 2**98) + Fraction(1, 10**280)


@given(floats, floats)
def test_sums_and_products_are_exact(a: float, b: float) -> None:
    for operation, truth in ((doubled.add, Fraction(a) + Fraction(b)), (doubled.multiply, Fraction(a) * Fraction(b))):
        high, low = operation(*torch.tensor([a, b], dtype=torch.float64))
        found = Fraction(high.item()) + Fraction(low.item())
        assert found == truth or abs(found - truth) < Fraction(1, 10**290)

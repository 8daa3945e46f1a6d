"""Moments: one associative operation, so that it does not matter how points are cut; and doubled arithmetic."""

import functools
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import flowscope as fs
from flowscope.oracle.engines.float64 import block_moments
from flowscope.oracle.equation import double_double as doubled
from flowscope.oracle.equation.moments import Moments, combine, top_of
from flowscope.oracle.equation.posterior import LOGIT_TOLERANCE
from tests.reference import oracle as reference
from tests.support.engines import queries_of

floats = st.floats(-1e6, 1e6, allow_subnormal=False)


def blocks_of(oracle: fs.Oracle, t: float, x: Tensor, cuts: list[int]) -> list:
    law, queries = next(queries_of(oracle, x, t))
    edges = [0, *sorted(set(cuts)), len(law)]
    pairs = [(a, b) for a, b in pairwise(edges) if a < b]
    return [block_moments(law.block(a, b), queries, None, 3, 1000) for a, b in pairs]


@pytest.mark.slow
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


def assert_same(a: Moments, b: Moments, tolerance: float) -> None:
    for name in ("weights", "mean", "entropy", "effective_size", "total_variance"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=tolerance, atol=tolerance, msg=name)
    torch.testing.assert_close(a.peak + a.mass.log(), b.peak + b.mass.log(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_logits_in_doubled_precision_are_the_same_logits(t: float) -> None:
    """Where expanded logits are as good as exact, it does not matter that some or all of them are done again."""
    g = torch.Generator().manual_seed(1)
    points, weights = torch.randn(30, 5, generator=g), torch.logspace(0, -3, 30)
    x = t * points[:6].double() + (1 - t) * torch.randn(6, 5, generator=g, dtype=torch.float64)
    law, queries = next(queries_of(fs.Oracle(fs.TrainingSet(points, weights=weights)), x, t))
    assert float(queries.error.max()) < LOGIT_TOLERANCE / 2
    block = law.block(0, len(law))
    expanded = block_moments(block, queries, None, 5, 1000)
    for error in (LOGIT_TOLERANCE, 5.0):
        again = block_moments(block, replace(queries, error=torch.full_like(queries.error, error)), None, 5, 7)
        assert_same(again, expanded, 1e-9)


def test_blocks_whose_peaks_differ_in_their_low_parts() -> None:
    """Logits of 5e17 nats, a multiple of 64 in float64, that are half a nat and more apart."""
    points, t = torch.ones(6, 2, dtype=torch.float64), 1 - 1e-9
    points[:, 1] = 1e-9 * torch.tensor([3.0, 0.0, 1.0, 2.0, 5.0, 4.0])
    x = torch.zeros(1, 2, dtype=torch.float64)
    truth = reference(points.numpy(), x[0].numpy(), t, exact=True).weights
    parts = blocks_of(fs.Oracle(points), t, x, [1, 2, 4])
    assert len({float(part.peak) for part in parts}) == 1 and len({float(part.peak_low) for part in parts}) == 4
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        found = functools.reduce(combine, [parts[k] for k in order])
        np.testing.assert_allclose(found.weights[0].numpy(), np.sort(truth)[::-1][:3], rtol=1e-6)


@pytest.mark.slow
@given(st.floats(-700, 700), st.floats(-700, 700))
def test_what_was_left_out_adds_up(one: float, other: float) -> None:
    points = torch.eye(4, dtype=torch.float64)
    a, b = blocks_of(fs.Oracle(points), 0.5, points[:1], [2])
    logs = [torch.tensor([value], dtype=torch.float64) for value in (one, other)]
    found = combine(a._replace(left_out=logs[0]), b._replace(left_out=logs[1])).left_out
    assert float(found) == pytest.approx(float(mpmath.log(mpmath.exp(one) + mpmath.exp(other))), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_ties_go_to_the_lowest_position(k: int) -> None:
    values = torch.tensor([[0.0, 1, 1, 0, 1, 1, 0], [2.0, 2, 2, 2, 2, 2, 2], [5.0, 4, 3, 2, 1, 0, 6]])
    index = torch.arange(10, 17)
    _, found = top_of(values, index, k)
    truth = [[11, 12, 14, 15, 10, 13, 16], [10, 11, 12, 13, 14, 15, 16], [16, 10, 11, 12, 13, 14, 15]]
    assert found.tolist() == [row[:k] for row in truth]


@pytest.mark.slow
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


@pytest.mark.slow
@given(floats, floats)
def test_sums_and_products_are_exact(a: float, b: float) -> None:
    for operation, truth in ((doubled.add, Fraction(a) + Fraction(b)), (doubled.multiply, Fraction(a) * Fraction(b))):
        high, low = operation(*torch.tensor([a, b], dtype=torch.float64))
        found = Fraction(high.item()) + Fraction(low.item())
        assert found == truth or abs(found - truth) < Fraction(1, 10**290)

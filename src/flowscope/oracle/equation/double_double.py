"""Doubled float64: an unevaluated sum of two floats, about 32 digits.

Near sigma = 0 the logit -|x - alpha x1|^2 / (2 sigma^2) is so large that float64 no longer tells points apart that
share the weight. The few points for which that matters are done here with error-free transformations (Dekker 1971,
Knuth 1969): each sum and product returns its rounding error beside it.
"""

import torch
from torch import Tensor

Doubled = tuple[Tensor, Tensor]  # high, low; the value is their exact sum

_SPLIT = 134217729.0  # 2^27 + 1: halves a 53-bit significand


def add(a: Tensor, b: Tensor) -> Doubled:
    """a + b exactly (Knuth's two-sum)."""
    total = a + b
    virtual = total - a
    return total, (a - (total - virtual)) + (b - virtual)


def multiply(a: Tensor, b: Tensor) -> Doubled:
    """a * b exactly (Dekker's product; float64, no overflow below 1e290)."""
    product = a * b
    a_high, a_low = _halves(a)
    b_high, b_low = _halves(b)
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def scale(value: Doubled, factor: Tensor) -> Doubled:
    """A doubled value times a float."""
    high, low = multiply(value[0], factor)
    return add(high, low + value[1] * factor)


def divide(value: Doubled, divisor: Tensor) -> Doubled:
    """A doubled value over a float."""
    first = value[0] / divisor
    product, product_low = multiply(first, divisor)
    return add(first, (((value[0] - product) - product_low) + value[1]) / divisor)


def difference(x: Tensor, y: Tensor, alpha: Tensor) -> Doubled:
    """x - alpha y.

    Args:
        x, y: (n, D) float64.
        alpha: (n, 1) float64.
    """
    product, product_low = multiply(alpha.expand_as(y), y)
    high, low = add(x, -product)
    return add(high, low - product_low)


def squared_distance(x: Tensor, y: Tensor, alpha: Tensor) -> Doubled:
    """|x - alpha y|^2 over the last axis.

    Args:
        x, y: (n, D) float64.
        alpha: (n, 1) float64.
    """
    high, low = difference(x, y, alpha)
    square, square_low = multiply(high, high)
    return _sum(square, square_low + 2 * high * low)


def _sum(high: Tensor, low: Tensor) -> Doubled:
    """Over the last axis, by halves."""
    while high.shape[-1] > 1:
        half = high.shape[-1] // 2
        rest = high[..., 2 * half :], low[..., 2 * half :]
        total, error = add(high[..., :half], high[..., half : 2 * half])
        low = torch.cat([low[..., :half] + low[..., half : 2 * half] + error, rest[1]], -1)
        high = torch.cat([total, rest[0]], -1)
    return add(high[..., 0], low[..., 0])


def _halves(a: Tensor) -> Doubled:
    big = a * _SPLIT
    high = big - (big - a)
    return high, a - high

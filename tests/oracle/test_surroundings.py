"""What programs set around a call changes no bit of an answer, whichever engine gives it."""

from contextlib import contextmanager
from functools import cache

import numpy as np
import pytest
import torch

from flowscope import TrainingSet, stages
from tests.support.cases import cloud, states
from tests.support.engines import small_oracle


@contextmanager
def default(setter, value, before):
    setter(value)
    try:
        yield
    finally:
        setter(before)


AROUND = {
    "autocast to bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", torch.float16),
    "a default device": lambda: default(torch.set_default_device, "meta", None),
    "default dtype float64": lambda: default(torch.set_default_dtype, torch.float64, torch.float32),
    "default dtype bfloat16": lambda: default(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "inference mode": torch.inference_mode,
}
POINTS = cloud(600, (32,))
X = {t: states(POINTS, t, rows=4, dtype=torch.float32) for t in (0.1, 0.6)}


def answers():
    """Of an oracle that is made anew: float32, float64, pruned, classes."""
    labels = torch.arange(600, device="cpu") % 3
    for options in ({}, {"tolerance": 1e-4}):
        oracle = small_oracle(TrainingSet(POINTS, labels), **options)
        for t, x in X.items():
            yield from (oracle(x, t), oracle(x.double(), t), oracle.certify(x, t)[0])
            yield from (oracle.divergence(x, t), oracle.posterior(x, t).mean, oracle.conditions(x, t).velocities)


@cache
def plain_answers():
    return [*answers()]


@cache
def plain_curve():
    return stages(wide(), 8, probes=64)


def wide():
    """From 256 coordinates on a curve's products are float32."""
    return cloud(200, (256,))


@pytest.mark.slow_but("autocast to bfloat16")
@pytest.mark.parametrize("around", AROUND)
def test_surroundings_change_no_answer(around):
    expected = plain_answers()
    with AROUND[around]():
        found = [*answers()]
    for one, other in zip(expected, found, strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("around", ["autocast to bfloat16", "a default device", "default dtype float64"])
def test_surroundings_change_no_curve(around):
    points, expected = wide(), plain_curve()
    with AROUND[around]():
        found = stages(points, 8, probes=64)
    assert np.array_equal(expected.top1, found.top1) and np.array_equal(expected.gap, found.gap)


def test_what_was_computed_in_inference_mode_serves_outside():
    with torch.inference_mode():
        oracle = small_oracle(POINTS, tolerance=1e-4)
        inside = oracle(X[0.6], 0.6)
    assert torch.equal(oracle(X[0.6], 0.6), inside) and not inside.is_inference()


@pytest.mark.slow
def test_a_compiled_call_answers_the_same():
    """The oracle is no graph: it is left out of what is compiled."""
    oracle, x = small_oracle(POINTS), X[0.6]

    def twice(states):
        return 2 * oracle(states, 0.6)

    assert torch.equal(torch.compile(twice, backend="eager")(x), twice(x))


def test_gradients_are_not_tracked():
    x = X[0.6].clone().requires_grad_()
    assert not small_oracle(POINTS)(x, 0.6).requires_grad
    assert np.isfinite(x.detach().numpy()).all()

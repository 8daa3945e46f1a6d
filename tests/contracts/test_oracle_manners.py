"""What the oracle leaves alone, and what it refuses."""

import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from flowscope import InputError, Oracle, TrainingSet
from tests.support.cases import PATHS, cloud, process_state, states

POINTS = cloud(8, (2, 3))
LABELS = np.array([0, 0, 1, 1, 4, 4, 0, 1])
QUANTITIES = ("__call__", "velocity", "denoise", "noise", "score", "log_density", "divergence", "posterior")


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_tracked_and_nothing_changed(path):
    points, x = POINTS.clone().requires_grad_(), states(POINTS, 0.5, path).requires_grad_()
    t, y = torch.full((4,), 0.5, requires_grad=True), torch.tensor([0, 1, 4, 0])
    before = [v.detach().clone() for v in (points, x, t, y)]
    oracle = Oracle(TrainingSet(points, LABELS), path)
    for quantity in QUANTITIES:
        result = getattr(oracle, quantity)(x, t, y)
        tensors = [result] if isinstance(result, Tensor) else list(vars(result).values())
        assert not any(tensor.requires_grad for tensor in tensors)
    assert all(torch.equal(a, b) for a, b in zip(before, (points, x, t, y), strict=True))
    with torch.inference_mode():
        inside = oracle(states(POINTS, 0.5, path), 0.5)
    assert torch.equal(inside, oracle(x, 0.5))
    assert torch.is_grad_enabled()


def test_the_process_is_left_as_it_was():
    before = process_state()
    for path in PATHS:
        oracle = Oracle(TrainingSet(POINTS, LABELS), path)
        oracle.posterior(states(POINTS, 0.5, path), 0.5, torch.tensor([0, 1, 4, 0]), k=2)
    assert process_state() == before


def test_two_oracles_do_not_share_anything():
    a, b = Oracle(POINTS), Oracle(2 * POINTS, "cosine")
    x = states(POINTS, 0.4)
    first = a(x, 0.4)
    b(x, 0.9)
    assert torch.equal(a(x, 0.4), first)


def test_states_of_any_layout():
    x = states(POINTS, 0.4, rows=6)
    strided = torch.stack([x, x], -1)[..., 0]
    reversed_axes = x.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    oracle = Oracle(POINTS)
    assert torch.equal(oracle(strided, 0.4), oracle(x, 0.4)) and torch.equal(oracle(reversed_axes, 0.4), oracle(x, 0.4))


def test_no_rows_in_no_rows_out():
    oracle = Oracle(TrainingSet(POINTS, LABELS))
    x = torch.zeros(0, 2, 3)
    assert oracle(x, 0.5).shape == (0, 2, 3) and oracle.log_density(x, 0.5).shape == (0,)
    posterior = oracle.posterior(x, torch.zeros(0), torch.zeros(0, dtype=torch.int64), k=2)
    assert posterior.weights.shape == (0, 2) and posterior.mean.shape == (0, 2, 3)


X = torch.zeros(3, 2, 3)
BAD_CALLS = {
    "x a list": ([[0.0] * 3] * 2, 0.5, None),
    "x integers": (X.long(), 0.5, None),
    "x one point": (X[0], 0.5, None),
    "x another shape": (torch.zeros(3, 3, 2), 0.5, None),
    "x NaN": (X * math.nan, 0.5, None),
    "x infinite": (X + math.inf, 0.5, None),
    "t 1": (X, 1.0, None),
    "t above": (X, 1.5, None),
    "t below": (X, -1e-6, None),
    "t NaN": (X, math.nan, None),
    "t NaN in one row": (X, torch.tensor([0.1, math.nan, 0.1]), None),
    "t of two for three": (X, torch.tensor([0.1, 0.2]), None),
    "t text": (X, "0.5", None),
    "t None": (X, None, None),
    "y of no point": (X, 0.5, torch.tensor([0, 1, 2])),
    "y negative": (X, 0.5, torch.tensor([-1, 0, 0])),
    "y floats": (X, 0.5, torch.zeros(3)),
    "y of two for three": (X, 0.5, torch.tensor([0, 1])),
    "y text": (X, 0.5, "cat"),
}


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("case", BAD_CALLS)
def test_wrong_calls_are_input_errors(case, quantity):
    oracle = Oracle(TrainingSet(POINTS, LABELS))
    with pytest.raises(InputError, match="expected") as caught:
        getattr(oracle, quantity)(*BAD_CALLS[case])
    assert isinstance(caught.value, ValueError) and "\n" not in str(caught.value)


def test_a_label_that_no_point_has_is_named():
    with pytest.raises(InputError, match="2"):
        Oracle(TrainingSet(POINTS, LABELS))(X, 0.5, torch.tensor([0, 2, 0]))


def test_labels_for_a_set_without_labels():
    with pytest.raises(InputError, match="label"):
        Oracle(POINTS)(X, 0.5, torch.tensor([0, 0, 0]))


@pytest.mark.parametrize("k", [0, -1, 9, 1.5, "two", None, True])
def test_wrong_k(k):
    with pytest.raises(InputError, match=r"\bk\b"):
        Oracle(POINTS).posterior(X, 0.5, k=k)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("path", ["straight", None], "one of linear, cosine, vp, ve, or a flowscope.Path"),
        ("memory", ["lots", 0, "-1GB", "0MB", None], "an amount above zero"),
        ("device", ["abacus", "cuda:99"], '"cpu", or "cuda" where there is one'),
        ("tolerance", [0, -1e-6, math.nan, math.inf, "small", True], "None, or a number above 0"),
    ],
)
def test_wrong_options(name, values, expected):
    for value in values:
        message = rf"^{name} is {re.escape(repr(value))}(, .*)?; expected {re.escape(expected)}"
        with pytest.raises(InputError, match=message) as caught:
            Oracle(POINTS, **{name: value})
        assert isinstance(caught.value, ValueError)


def test_a_tolerance_above_zero_is_taken():
    assert Oracle(POINTS, tolerance=np.float32(1e-3)).tolerance == np.float32(1e-3)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("digits-but-a-name", "the text 'digits-but-a-name'; expected an array"),
        (None, "points are a NoneType; expected a tensor or an array"),
        (3.0, "points are a float; expected a tensor or an array"),
        ({"points": torch.zeros(3, 2)}, "points are a dict; expected a tensor or an array"),
        pytest.param(TensorDataset(torch.zeros(3, 2)), "points are a TensorDataset; .* or flowscope.load", id="a set"),
        (torch.zeros(0, 2), "there are no points; expected at least one"),
        (torch.zeros(3), r"shape \(3,\); expected \(N, \*shape\)"),
        (torch.zeros(3, 2).long(), "dtype int64; expected float16"),
        (torch.full((3, 2), math.nan), "point 0 of points holds nan; expected finite numbers"),
    ],
    ids=repr,
)
def test_wrong_sets(source, said):
    with pytest.raises(InputError, match=said):
        Oracle(source)

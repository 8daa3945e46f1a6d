"""The one check of a field's arguments."""

import math

import numpy as np
import pytest
import torch

from flowscope import InputError, VelocityField
from flowscope.fields import check_query

X = torch.zeros(3, 2, 4)


@pytest.mark.parametrize(
    "t",
    [0, 0.25, np.float32(0.25), torch.tensor(0.25), torch.tensor([0.25]), [0.1, 0.2, 0.3], np.array([0.1, 0.2, 0.3])],
)
@pytest.mark.parametrize("y", [None, 2, torch.tensor([1, 2, 0]), np.array([1, 2, 0], dtype=np.uint8), [1, 2, 0]])
def test_time_and_labels_are_broadcast(t, y):
    query = check_query(X, t, y, (2, 4))
    assert query.t.shape == (3,) and query.t.dtype == torch.float64
    assert query.t.tolist() == np.broadcast_to(np.asarray(t, np.float64), 3).tolist()
    if y is None:
        assert query.y is None
    else:
        assert query.y.dtype == torch.int64 and query.y.tolist() == np.broadcast_to(np.asarray(y), 3).tolist()


def test_a_python_float_is_not_rounded_to_single():
    assert check_query(X, 0.1, None, (2, 4)).t[0].item() == 0.1


BAD = {
    "a list": ([[0.0] * 4] * 3, 0.5, None),
    "an array": (X.numpy(), 0.5, None),
    "integers": (X.long(), 0.5, None),
    "booleans": (X.bool(), 0.5, None),
    "complex": (X.to(torch.complex64), 0.5, None),
    "one point, no batch": (X[0], 0.5, None),
    "flattened": (X.flatten(1), 0.5, None),
    "another shape": (torch.zeros(3, 4, 2), 0.5, None),
    "NaN in x": (X + math.nan, 0.5, None),
    "infinity in x": (X + math.inf, 0.5, None),
    "t is 1": (X, 1.0, None),
    "t below 0": (X, -0.1, None),
    "t NaN": (X, math.nan, None),
    "one t of many is 1": (X, torch.tensor([0.1, 1.0, 0.2]), None),
    "two t for three": (X, torch.tensor([0.1, 0.2]), None),
    "t a column": (X, torch.full((3, 1), 0.1), None),
    "t text": (X, "half", None),
    "t None": (X, None, None),
    "t boolean": (X, torch.tensor([True, False, True]), None),
    "t complex": (X, 0.5 + 0j, None),
    "y floats": (X, 0.5, torch.tensor([0.0, 1.0, 2.0])),
    "y booleans": (X, 0.5, torch.tensor([True, False, True])),
    "y text": (X, 0.5, ["a", "b", "c"]),
    "two y for three": (X, 0.5, torch.tensor([0, 1])),
    "y a column": (X, 0.5, torch.zeros(3, 1, dtype=torch.int64)),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_arguments_say_what_was_got_and_expected(case):
    x, t, y = BAD[case]
    with pytest.raises(InputError, match="expected") as caught:
        check_query(x, t, y, (2, 4))
    assert isinstance(caught.value, ValueError) and "\n" not in str(caught.value)


def test_a_plain_function_is_a_field():
    assert isinstance(lambda x, t, y=None: x, VelocityField)

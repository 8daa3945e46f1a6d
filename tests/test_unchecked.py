"""Whoever asks a field looks for NaN in its answer, once; and a NaN is said with the field and the time it is of."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from flowscope.errors import NumericalError
from flowscope.fields import VelocityField, ask, guide, switch, unchecked
from flowscope.networks import as_field
from flowscope.sampling import Counted, sample, trajectory

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


class Looking:
    """A field that counts how it is called: with or without a look of its own at the answer."""

    def __init__(self) -> None:
        self.looks = self.plain = 0

    def __call__(self, x: Tensor, t: Any, y: Any = None) -> Tensor:
        self.looks += 1
        return -x

    def unchecked(self, x: Tensor, t: Any, y: Any = None) -> Tensor:
        self.plain += 1
        return -x


class Late(torch.nn.Module):
    """A network that goes wrong in its second row, from t = 0.5 on."""

    def forward(self, x: Tensor, t: Tensor, y: Any = None) -> Tensor:
        wrong = torch.where(t[:, None] >= 0.5, math.nan, 1.0).expand_as(x).clone()
        wrong[[0, *range(2, len(x))]] = 1.0
        return x * wrong


WAYS: dict[str, Callable[[VelocityField], VelocityField]] = {
    "alone": lambda field: field,
    "guided": lambda field: guide(lambda x, t, y=None: x, 2.0, (0.2, 0.8), field),
    "guiding": lambda field: guide(field, 2.0, null=lambda x, t, y=None: x),
    "first": lambda field: switch(field, lambda x, t, y=None: x, 0.9),
    "second": lambda field: switch(lambda x, t, y=None: x, field, 0.3),
    "counted": lambda field: Counted(guide(field, 2.0, null=lambda x, t, y=None: x)),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_field_that_is_sampled_does_not_look_itself(way: str) -> None:
    field = Looking()
    made = WAYS[way](field)
    sample(made, X, steps=10)
    assert field.plain > 0
    assert field.looks == 0
    made(X, 0.5)
    assert field.looks > 0


@pytest.mark.parametrize("way", WAYS)
def test_an_unlooked_call_answers_the_same(way: str) -> None:
    net = torch.nn.Linear(3, 3)
    made = WAYS[way](as_field(WithTime(net), "flow_matching"))
    for t in (0.1, 0.5, torch.tensor([0.1, 0.25, 0.5, 0.95], dtype=torch.float64)):
        assert torch.equal(unchecked(made, X, t), made(X, t))
        assert torch.equal(ask(made, X, t), made(X, t))


class WithTime(torch.nn.Module):
    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(x) + t[:, None]


@pytest.mark.parametrize("way", WAYS)
def test_the_error_names_field_and_time(way: str) -> None:
    made = WAYS[way](as_field(Late(), "flow_matching", name="small"))
    said = r"small returned NaN or infinity at t = 0\.5 for 1 of 4 finite states; expected .*: look at"
    with pytest.raises(NumericalError, match=said):
        sample(made, X, steps=10)
    with pytest.raises(NumericalError, match=said):
        list(trajectory(made, X, [0.4, 0.5, 0.6], "heun"))
    with pytest.raises(NumericalError, match=said):
        made(X, 0.5)


def test_a_time_for_each_row_is_that_of_the_wrong_row() -> None:
    field = as_field(Late(), "flow_matching", name="small")
    with pytest.raises(NumericalError, match=r"at t = 0\.75 for 1 of 4"):
        field(X, torch.tensor([0.6, 0.75, 0.1, 0.9]))


def test_of_a_function_it_is_said_as_well() -> None:
    with pytest.raises(NumericalError, match=r"the field returned NaN or infinity at t = 0\.3 for 4 of 4"):
        sample(lambda x, t, y=None: x * math.nan if t >= 0.3 else x, X, steps=10)

"""What other programs set around a call changes no answer: autocast, defaults, inference mode, compile."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from flowscope import Oracle, TrainingSet, VelocityField
from flowscope.fields import guide, switch
from flowscope.networks import Convention, as_field
from flowscope.networks.tabulated_path import linear_betas, tabulated_path
from flowscope.references import GaussianMixture, SmoothedOracle, Wiener
from flowscope.sampling import Counted, sample, trace
from tests.support.cases import cloud

ORACLE = Oracle(TrainingSet(cloud(30, (2, 4)), labels=np.arange(30) % 3))
X, Y = cloud(4, (2, 4), seed=1), torch.tensor([0, 1, 2, 0])
T = torch.tensor([0.05, 0.2, 0.5, 0.9], dtype=torch.float64)


class Still(nn.Module):
    """A network without products, which autocast leaves alone."""

    num_classes = 3

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return -x * (1 + t.reshape(-1, 1, 1))


def own(path: str) -> Convention:
    return Convention("mine", "data", path=path, reverse=True, last_is_null=True)


FIELDS: dict[str, VelocityField] = {
    "oracle": ORACLE,
    "network": as_field(Still(), "sit", shape=(2, 4)),
    "network of another path": as_field(Still(), own("cosine"), shape=(2, 4)),
    "network of a table": as_field(Still(), own("ddpm"), shape=(2, 4)),
    "guided": guide(ORACLE, 2.0, (0.1, 0.6)),
    "switched": switch(guide(ORACLE, 2.0), as_field(Still(), "sit"), 0.4),
    "counted": Counted(ORACLE),
    "Wiener": Wiener(ORACLE.training_set, by_class=True),
    "mixture": GaussianMixture(ORACLE.training_set, parts=2),
    "smoothed": SmoothedOracle(ORACLE.training_set, temperature=2.0, bandwidth=0.1),
}


@contextmanager
def default(setter: Callable[[Any], None], value: Any, before: Any) -> Iterator[None]:
    setter(value)
    try:
        yield
    finally:
        setter(before)


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast to bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", torch.float16),
    "another default device": lambda: default(torch.set_default_device, "meta", None),
    "default dtype float64": lambda: default(torch.set_default_dtype, torch.float64, torch.float32),
    "default dtype bfloat16": lambda: default(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "inference mode": torch.inference_mode,
}


def answers(field: VelocityField) -> Iterator[Tensor]:
    """Velocities at one time and at many, samples by every kind of solver, drawn and given, and a trace."""
    yield from (field(X, 0.3, Y), field(X, T, Y), field(X, T, 1))
    yield from (sample(field, X, steps=3, solver=solver, y=Y) for solver in ("euler", "heun", "rk4"))
    yield sample(field, n=3, steps=3, shift=0.5, seed=1, y=1)
    for value in trace(ORACLE, field, X, [0.1, 0.5, 0.9], y=Y):
        yield value if isinstance(value, Tensor) else torch.from_numpy(value)


@cache
def plain_answers(name: str) -> list[Tensor]:
    return [*answers(FIELDS[name])]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Still knows noise levels")  # of the table, at t = 0
@pytest.mark.parametrize("around", SURROUNDINGS)
@pytest.mark.parametrize("name", FIELDS)
def test_surroundings_change_no_answer(name: str, around: str) -> None:
    expected = plain_answers(name)
    with SURROUNDINGS[around]():
        found = [*answers(FIELDS[name])]
    for a, b in zip(expected, found, strict=True):
        assert a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("around", ["autocast to bfloat16", "another default device", "inference mode"])
def test_surroundings_change_no_step_of_dopri5(around: str) -> None:
    field = FIELDS["network"]
    expected = sample(field, X, timesteps=[0, 0.5, 0.9], solver="dopri5", y=Y)
    with SURROUNDINGS[around]():
        assert torch.equal(sample(field, X, timesteps=[0, 0.5, 0.9], solver="dopri5", y=Y), expected)


@pytest.mark.slow
def test_what_is_made_in_inference_mode_serves_gradients_later() -> None:
    linear_betas.cache_clear()
    with torch.inference_mode():
        field, table = as_field(Still(), own("ddpm"), shape=(2, 4)), tabulated_path([0.9, 0.5, 0.1], "short")
        field(X, 0.3, Y)
    for path in (linear_betas(), table):
        t = torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True)
        (rate,) = torch.autograd.grad(path(t).alpha.sum(), t)
        torch.testing.assert_close(rate, path(t.detach()).d_alpha)
    x = X.clone().requires_grad_()
    field(x, 0.3, Y).sum().backward()
    assert x.grad is not None and bool(x.grad.any())


@pytest.mark.parametrize("convention", ["sit", own("cosine")], ids=["sit", "data of another path"])
def test_autocast_is_for_the_network_alone(convention: Any) -> None:
    """What the network returns is autocast's; the path, the conversion and the dtype of the answer are as without."""

    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.out = nn.Linear(4, 4), None

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            self.out = self.layer(x) if self.out is None else self.out
            return self.out

    module = Product()
    field = as_field(module, convention)
    with torch.autocast("cpu", torch.bfloat16):
        found = field(X, 0.3)
    assert module.out is not None and module.out.dtype == torch.bfloat16 and found.dtype == torch.float32
    assert torch.equal(field(X, 0.3), found)  # from the same output of the network, without autocast


@pytest.mark.long
def test_a_compiled_call_answers_the_same() -> None:
    field = FIELDS["network of another path"]
    compiled = torch.compile(field, backend="eager")
    assert torch.equal(compiled(X, 0.3, Y), field(X, 0.3, Y))

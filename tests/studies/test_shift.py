"""The study of the timestep shift, on flows whose Euler samples are known in closed form."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flowscope.errors import InputError
from flowscope.oracle import Oracle
from flowscope.sampling import make_nodes
from flowscope.studies.shift import shift_study
from tests.support.fields_known import cloud

AIM = torch.tensor([6.0, 0.0])


def flow(speed: Callable[[float], float]) -> Callable[..., Tensor]:
    """Everything moves along AIM at a speed that depends on t alone: the only error is that of the steps."""

    def field(x: Tensor, t: Any, y: Any = None) -> Tensor:
        return speed(float(t)) * AIM.to(x).expand_as(x)

    return field


def travelled(speed: Callable[[float], float], shift: float, steps: int) -> float:
    nodes = make_nodes(steps, shift).numpy()
    return float(sum(speed(t) * d for t, d in zip(nodes[:-1], np.diff(nodes), strict=True)))


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    """Noise moved by AIM."""
    points = cloud(400, spread=1.0)
    return Oracle(np.asarray(points.points) + AIM.numpy())


def late_speed(t: float) -> float:
    return 4 * t**3


def early_speed(t: float) -> float:
    return 16 * (1 - t) ** 15


@pytest.mark.slow
@pytest.mark.parametrize(
    ("speed", "steps", "n", "verdict"), [(late_speed, 20, 100, "agrees"), (early_speed, 40, 400, "differs")]
)
def test_fd_follows_the_steps_where_the_flow_bends(
    oracle: Oracle, speed: Any, steps: int, n: int, verdict: str
) -> None:
    found = shift_study([flow(speed)] * 3, oracle, steps=steps, n=n, references=False)
    assert found.verdict == verdict
    table = found.tables["shift"]
    apart = [(1 - travelled(speed, s, steps)) * 6 for s in table["shift"]]
    drift = draws_apart(oracle, n)
    expected = [a**2 - 2 * a * drift for a in apart]  # |b|^2 + 2 b.(mu - mu_r) beside the FD of the samples themselves
    np.testing.assert_allclose(np.diff(table["fd"]), np.diff(expected), atol=1e-4)


def draws_apart(oracle: Oracle, n: int) -> float:
    """How far the mean of the first n noises lies from that of the points less AIM, along AIM."""
    from flowscope.sampling import draw_noise

    noise = draw_noise(n, (2,)).mean(0) + AIM
    return float(noise[0]) - float(np.asarray(oracle.training_set.points)[:, 0].mean())


@pytest.mark.slow
def test_where_the_steps_do_not_matter_nothing_is_found(oracle: Oracle) -> None:
    found = shift_study([flow(lambda t: 1.0)] * 2, oracle, steps=10, n=60)
    assert found.verdict == "cannot be tested"
    assert np.ptp(found.tables["shift"]["fd"]) < 1e-6
    assert "Clearly above it: none" in found.found


@pytest.mark.slow
def test_shares_of_early_steps_are_those_of_the_paper(oracle: Oracle) -> None:
    found = shift_study(flow(lambda t: 1.0), oracle, shifts=(1.0, 0.7, 0.5, 0.1), steps=50, n=20)
    assert found.tables["shift"]["early_steps"] == [0.22, 0.28, 0.34, 0.72]


def test_without_the_papers_shifts_there_is_no_verdict(oracle: Oracle) -> None:
    found = shift_study(flow(late_speed), oracle, shifts=(1.0, 0.1), steps=10, n=60)
    assert found.verdict == "cannot be tested"
    assert "Not all three" in found.why


def test_shifts_must_be_usable(oracle: Oracle) -> None:
    for wrong, told in (((), "at least one"), ((1.0, 1), "each once"), ((0.0,), "above 0")):
        with pytest.raises(InputError, match=told):
            shift_study(flow(late_speed), oracle, shifts=wrong, n=60)

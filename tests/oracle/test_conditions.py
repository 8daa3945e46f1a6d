"""Every label's oracle from one pass: each against the oracle asked for that label alone, and against Bayes' rule."""

import numpy as np
import pytest
import torch

from flowscope import InputError, Oracle, TrainingSet, convert, guide
from tests.support.cases import cloud, expected, states, velocity_error
from tests.support.engines import small_oracle

TIMES = (0.0, 0.1, 0.4, 0.8, 0.99)


def labelled(weights=None, count=120, shape=(4, 6)):
    points = cloud(count, shape)
    points[7], points[8] = points[0], points[1]  # a point of several labels, and one twice in a label
    labels = np.arange(count) % 5 * 3 - 3
    labels[8] = labels[1]
    return TrainingSet(points, labels, weights)


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("path", ["linear", "cosine", "vp", "ve"])
def test_conditions_are_the_oracle_of_each_label(path, weighted):
    weights = np.random.default_rng(0).random(120) if weighted else None
    data = labelled(weights)
    oracle = Oracle(data, path)
    for t in TIMES:
        x = states(data.rows(slice(None)), t, path, rows=3)
        found = oracle.conditions(x, t)
        assert found.labels.tolist() == list(data.classes)
        torch.testing.assert_close(found.velocity, oracle(x, t), rtol=1e-9, atol=1e-9)
        for k, label in enumerate(data.classes):
            own = oracle(x, t, torch.full((3,), label))
            torch.testing.assert_close(found.velocities[:, k], own, rtol=1e-12, atol=1e-12)
            prior = data.relative_weights[data.labels == label].sum() / data.relative_weights.sum()
            bayes = prior * (oracle.log_density(x, t, torch.full((3,), label)) - oracle.log_density(x, t)).exp()
            torch.testing.assert_close(found.probabilities[:, k], bayes, rtol=1e-8, atol=1e-12)
        torch.testing.assert_close(found.probabilities.sum(1), torch.ones(3, dtype=torch.float64))


def test_the_whole_is_the_mean_over_labels():
    """u = sum_y p(y | x) u_y, at a time of its own for every state."""
    oracle = Oracle(labelled())
    x, t = cloud(5, (4, 6), seed=3, dtype=torch.float64), torch.tensor([0.0, 0.2, 0.5, 0.7, 0.9], dtype=torch.float64)
    found = oracle.conditions(x, t)
    mean = torch.einsum("bc,bcij->bij", found.probabilities, found.velocities)
    torch.testing.assert_close(found.velocity, mean, rtol=1e-8, atol=1e-8)


def test_against_the_slow_reference():
    data = labelled()
    points, t = data.rows(slice(None)), 0.4
    x = states(points, t, rows=4)
    found = Oracle(data).conditions(x, t)
    for k, label in enumerate(data.classes):
        answer = expected(points[data.labels == label], x, t)
        assert velocity_error(found.velocities[:, k], answer).max() < 1e-9


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_guided(scale):
    """Each column is what `guide` makes of the oracle, asked for that label alone."""
    oracle, x = Oracle(labelled()), cloud(2, (4, 6), seed=4, dtype=torch.float64)
    found = oracle.conditions(x, 0.3)
    for k, label in enumerate(found.labels.tolist()):
        alone = guide(oracle, scale)(x, 0.3, torch.full((2,), label))
        torch.testing.assert_close(found.guided(scale)[:, k], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_float32_states_and_little_memory():
    data = labelled()
    x = states(data.rows(slice(None)), 0.3, rows=40, dtype=torch.float32)
    exact = Oracle(data).conditions(x.double(), 0.3)
    for make in (Oracle, small_oracle):  # the float64 and the float32 pass
        found = make(data, memory="50KB").conditions(x, 0.3)
        assert found.velocities.dtype == found.probabilities.dtype == torch.float32
        for one, two in zip(vars(found).values(), vars(exact).values(), strict=True):
            torch.testing.assert_close(one.to(two.dtype), two, rtol=1e-5, atol=2e-6)


def test_a_restricted_oracle_has_its_own_shares():
    data = labelled()
    oracle = Oracle(data).restrict(np.flatnonzero(data.labels != 0)[:50])
    x = cloud(3, (4, 6), seed=5, dtype=torch.float64)
    found = oracle.conditions(x, 0.0)
    assert 0 not in found.labels.tolist()
    kept = data.labels[np.flatnonzero(data.labels != 0)[:50]]
    torch.testing.assert_close(
        found.probabilities[0], torch.tensor([np.mean(kept == y) for y in found.labels.tolist()])
    )


def test_what_is_no_state_or_no_set_of_points():
    oracle = Oracle(labelled())
    for x in (torch.zeros(2, 4, 6).to_sparse(), torch.zeros(2, 4, 6, device="meta")):
        for ask in (oracle.velocity, oracle.conditions, oracle.posterior):
            with pytest.raises(InputError, match="expected a dense tensor of numbers"):
                ask(x, 0.5)
    with pytest.raises(InputError, match="squares of lengths leave float64"):
        Oracle(np.full((3, 4), 1e160))
    with pytest.raises(InputError, match="expected an amount above zero"):
        Oracle(cloud(3, (2,)), memory=10**400)
    with pytest.raises(InputError, match="positions are not an array"):
        oracle.restrict([[1], [1, 2]])
    with pytest.raises(InputError, match=r"the velocity has shape \(4, 3\), and x \(2, 3\)"):
        convert(torch.ones(4, 3), torch.ones(2, 3), oracle.path(0.3), "velocity", "data")


def test_no_states():
    found = Oracle(labelled()).conditions(torch.empty(0, 4, 6), 0.5)
    assert found.velocities.shape == (0, 5, 4, 6)
    assert found.probabilities.shape == (0, 5)


def test_a_set_without_labels_is_refused():
    with pytest.raises(InputError, match="points has no labels, so there are no classes; give it labels"):
        Oracle(cloud(3, (2,))).conditions(torch.zeros(1, 2), 0.5)


def test_results_that_do_not_fit_into_memory_are_refused(monkeypatch):
    monkeypatch.setattr("flowscope.core.memory.available_memory", lambda: 1000)
    with pytest.raises(InputError, match=r"velocities of 5 labels takes .* give fewer states at a time"):
        Oracle(labelled()).conditions(torch.zeros(10, 4, 6), 0.5)

"""Norms and divergences of fields for which they are known."""

import numpy as np
import pytest
import torch

import flowscope as fs
from flowscope.errors import InputError
from flowscope.studies.norm import hutchinson, norm_study
from flowscope.training.monitor.probes import draw_probes
from tests.support.made_fields import Made

SET = fs.load("mixture:N=80,D=5,modes=4,spread=0.5")
ORACLE = fs.Oracle(SET)
MATRIX = torch.tensor(np.random.default_rng(0).standard_normal((5, 5)), dtype=torch.float32)


@pytest.mark.slow
def test_of_a_linear_field_the_divergence_is_its_trace() -> None:
    states = draw_probes(ORACLE, SET, 400, 4, 0, False, 0.0)
    found = hutchinson(Made(lambda x, t, y: x @ MATRIX), states, 8, 0, 64)
    assert found.mean() == pytest.approx(float(MATRIX.trace()), abs=4 * found.std() / 20)
    assert found.std() > 0.01
    diagonal = hutchinson(Made(lambda x, t, y: x * MATRIX.diagonal()), states, 1, 0, 64)
    np.testing.assert_allclose(diagonal, float(MATRIX.trace()), rtol=1e-5)  # signs square to one


def test_of_a_field_with_labels_it_is_asked_by_label() -> None:
    states = draw_probes(ORACLE, SET, 40, 4, 0, True, 0.0)
    found = hutchinson(Made(lambda x, t, y: x * y[:, None]), states, 1, 0, 16)
    np.testing.assert_allclose(found, 5 * states.y.numpy())


@pytest.mark.slow
def test_norms_add_up_as_the_law_of_total_variance_says() -> None:
    found = norm_study(Made(lambda x, t, y: 2 + 0 * x), ORACLE, n=600, bins=4)
    norm, gap = found.tables["norm"], fs.stages(ORACLE, 80, 600, seed=2)
    np.testing.assert_allclose(norm["model"], 2, rtol=1e-6)
    missing = norm["conditional"] ** 2 - norm["oracle"] ** 2
    error = 2 * (norm["conditional"] * norm["conditional_error"] + norm["oracle"] * norm["oracle_error"])
    assert (np.abs(missing - gap.gap.reshape(4, 20).mean(1)) < 3 * error).all()
    assert missing[0] > 3 * error[0]
    np.testing.assert_allclose(found.tables["divergence"]["model"], 0, atol=1e-7)
    early, curve = found.tables["divergence"], gap.divergence.reshape(4, 20).mean(1) / 5
    assert (np.abs(early["oracle"] - curve)[:2] < 4 * early["oracle_error"][:2]).all()
    assert found.verdict == "cannot be tested"  # no numbers of the paper's are known
    assert {"Wiener", "oracle"} <= set(found.tables["references"]["reference"])


def test_what_cannot_be_differentiated_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be differentiated"):
        norm_study(ORACLE, ORACLE, n=40, bins=4)


@pytest.mark.slow
def test_parameters_keep_no_gradient() -> None:
    net = torch.nn.Linear(5, 5)
    norm_study(Made(lambda x, t, y: net(x)), ORACLE, n=40, bins=4)
    assert net.weight.grad is None

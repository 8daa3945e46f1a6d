"""explain: a field that is a reference explains itself, at states of every source."""

import numpy as np
import pytest
import torch

import flowscope as fs
from flowscope.errors import InputError
from flowscope.references import ladder
from flowscope.studies import explain_study
from tests.support.fields_known import Known

SHAPE = (1, 4, 4)
SOURCES = ("training", "held_out", "own")


def images(count, seed=0):
    """Images of two classes: blobs of another mean each."""
    labels = np.arange(count) % 2
    drawn = 0.6 * np.random.default_rng(seed).standard_normal((count, *SHAPE)) + labels[:, None, None, None]
    return fs.TrainingSet(drawn.astype(np.float32), labels)


@pytest.fixture(scope="module")
def larger():
    return images(120)


@pytest.fixture(scope="module")
def oracle(larger):
    return fs.Oracle(fs.TrainingSet(larger.points[:96], larger.labels[:96]))


@pytest.fixture(scope="module")
def rows(oracle, larger):
    return ladder(oracle, conditional=True, more=larger)


def explained(field, oracle, larger):
    return explain_study(field, oracle, images(20, seed=5), larger, n=16, steps=5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["Wiener", "class-wise Wiener", "Gaussian mixture", "local", "smoothed", "oracle of more data", "oracle"]
)
def test_a_reference_explains_itself(name, rows, oracle, larger):
    found = explained(rows[name].field, oracle, larger)
    table = {key: np.array(values) for key, values in found.tables["explain"].items()}
    own = table["reference"] == name
    np.testing.assert_allclose(table["r2"][own], 1, atol=1e-10)
    assert (table["mse"][own] == 0).all() and (table["beyond"][own] == 0).all()
    nearest = found.tables["nearest"]
    for source in SOURCES:  # early on the usual patch is the image, and local the oracle
        assert all(name in names.split(" = ") for names in nearest[source])
        assert nearest[source][-1] == name
        assert nearest[f"{source}_clear"][-1] or not rows[name].memoryless  # late, all that remember are at the points
    assert found.found.count(f"{name} in refinement (r2 1.000") == 3
    assert found.verdict == "cannot be tested" and set(found.settings["references"]) == set(rows)


def test_numbers_are_those_of_their_definitions(oracle):
    """The oracle plus 0.1: its MSE is 0.01 everywhere, and r2 follows from the spread of velocities."""
    model = Known(oracle, lambda x, t: torch.full_like(x, 0.1))
    found = explain_study(model, oracle, n=12, steps=4)
    table = {key: np.array(values) for key, values in found.tables["explain"].items()}
    own = table["reference"] == "oracle"
    np.testing.assert_allclose(table["mse"][own], 0.01, rtol=1e-3)
    assert (table["mse_error"][own] < 1e-4).all()
    assert list(dict.fromkeys(table["source"])) == ["training", "own"]
    start = (table["source"] == "own") & (table["t"] == 0) & own
    assert 0.9 < table["r2"][start][0] < 1  # at t = 0 the velocity is the mean less unit noise: 1 - 0.01 / 1


def test_held_out_points_of_another_shape_are_refused(oracle):
    with pytest.raises(InputError, match=r"held-out .* shape"):
        explain_study(oracle, oracle, fs.TrainingSet(np.zeros((4, 3))), n=8, steps=4)


def test_more_data_without_the_training_points_are_refused(oracle):
    with pytest.raises(InputError, match="more data"):
        explain_study(oracle, oracle, None, images(130, seed=9), n=8, steps=4)

"""explain: a field that is a reference explains itself, at states of every source."""

import numpy as np
import pytest
import torch

import flowscope as fs
from flowscope.errors import InputError
from flowscope.references import ladder
from flowscope.studies import explain_study
from flowscope.studies.bench.final_samples import median
from flowscope.studies.bench.sample_bench import SampleBench
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
    final = {name: values for name, *values in zip(*found.tables["final"].values(), strict=True)}
    assert final[name] == pytest.approx([1, 1, 1, 0], abs=1e-9)  # median r2, its interval and MSE


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


def test_final_samples_are_compared_pixel_by_pixel(oracle):
    """Samples off by c at every pixel: r2 = 1 - c^2 / variance over the pixels of a sample."""
    model = Known(oracle, lambda x, t: torch.full_like(x, 0.1))
    found = explain_study(model, oracle, n=12, steps=1)  # one step: samples are x0 + u(x0), off by 0.1
    row = found.tables["final"]["reference"].index("oracle")
    bench = SampleBench(oracle, None, (model,), 1, 12, None, 0, 256, None, fd=False)
    own = bench.draw(model, np.array([0.0, 1.0])).double().flatten(1).numpy()
    expected = 1 - 0.01 / own.var(1)
    assert found.tables["final"]["r2"][row] == pytest.approx(np.median(expected), rel=1e-5)
    assert found.tables["final"]["mse"][row] == pytest.approx(0.01, rel=1e-5)


def test_the_interval_of_a_median_covers():
    rng = np.random.default_rng(0)
    for count in (6, 25, 64):
        drawn = np.exp(rng.standard_normal((2000, count)))  # a skew law, whose median is 1
        ends = np.array([median(values) for values in drawn])
        assert 0.94 < ((ends[:, 1] <= 1) & (ends[:, 2] >= 1)).mean() < 0.99
    assert median(np.arange(5.0))[1:] == (-np.inf, np.inf)


def test_points_that_are_no_images_have_no_final_samples():
    data = fs.load("gaussian:N=60,D=4")
    found = explain_study(fs.Oracle(data), fs.Oracle(data), n=8, steps=2)
    assert "final" not in found.tables and "Final" not in found.found


def test_held_out_points_of_another_shape_are_refused(oracle):
    with pytest.raises(InputError, match=r"held-out .* shape"):
        explain_study(oracle, oracle, fs.TrainingSet(np.zeros((4, 3))), n=8, steps=4)


def test_more_data_without_the_training_points_are_refused(oracle):
    with pytest.raises(InputError, match="more data"):
        explain_study(oracle, oracle, None, images(130, seed=9), n=8, steps=4)

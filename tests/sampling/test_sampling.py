"""Sampling: orders of the solvers against exact flows, where samples land, and that they belong to their seeds."""

import copy
import functools
import itertools
import math
import pickle

import numpy as np
import pytest
import torch

import flowscope.core.settings
from flowscope import InputError, Oracle, load
from flowscope.errors import MissingExtraError, NumericalError
from flowscope.fields import guide, switch
from flowscope.paths import PATHS
from flowscope.sampling import SOLVERS, Counted, draw_noise, make_nodes, sample, trace, trajectory
from tests.reference import oracles
from tests.support.cases import DTYPES, cloud
from tests.support.flows import MEAN, Gaussian, Pendulum, Recorder

ORDERS = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4}
POINTS = cloud(40, (2, 2), dtype=torch.float64)


def start(n=6, dtype=torch.float64, shape=(3,), seed=0):
    return draw_noise(n, shape, seed, dtype=dtype)


@pytest.mark.slow
@pytest.mark.parametrize("field", [Gaussian("cosine"), Pendulum()], ids=["Gaussian", "pendulum"])
@pytest.mark.parametrize("solver", ORDERS)
def test_solvers_have_their_order(solver, field):
    """The slope of log error on log step, against the exact flow up to t = 0.8."""
    x, counts = start(), np.array([16, 32, 64, 128])
    runs = [sample(field, x, timesteps=np.linspace(0, 0.8, n + 1), solver=solver) for n in counts]
    errors = [float((run - field.flow(x, 0.0, 0.8)).abs().max()) for run in runs]
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(ORDERS[solver], abs=0.15), errors


@pytest.mark.slow
@pytest.mark.parametrize("path", ["linear", "cosine"])
@pytest.mark.parametrize("nodes", [[0.0, 0.8], [0.0, 0.1, 0.8]])
def test_dopri5_keeps_its_tolerance_and_its_interval(path, nodes):
    field, x = Recorder(Gaussian(path)), start()
    steps = list(trajectory(field, x, nodes, "dopri5"))
    assert float((steps[-1].x - field.flow(x, 0.0, 0.8)).abs().max()) < 1e-5
    assert all(0 <= t <= 0.8 for t in field.times) and steps[-1].nfe == len(field.calls)
    for step, t in zip(steps, nodes, strict=True):
        assert float((step.x - field.flow(x, 0.0, t)).abs().max()) < 1e-5


@pytest.mark.slow
def test_dopri5_says_when_it_cannot_go_on():
    with pytest.raises(NumericalError, match=r"dopri5 cannot go from t = 0\.0 to 0\.5"):
        sample(lambda x, t, y: torch.sin(1e9 * t + 1e7 * x), start(1), timesteps=[0, 0.5], solver="dopri5")


def test_dopri5_without_torchdiffeq_says_what_to_install(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name, name=name)

    monkeypatch.setattr(flowscope.core.settings, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"pip install 'flowscope\[ode\]'"):
        sample(Gaussian(), n=1, steps=2, solver="dopri5")


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("solver", ORDERS)
def test_an_interval_that_ends_at_one_lands_on_the_predicted_data(solver, path):
    field = Recorder(Gaussian(path))
    *_, before, last = trajectory(field, start(), [0.0, 0.3, 0.6, 1.0], solver)
    torch.testing.assert_close(last.x, field.data(before.x, 0.6), rtol=1e-9, atol=1e-9)
    assert torch.equal(last.x, before.data) and last.velocity is None and last.data is None
    assert max(field.times) == 0.6 and field.times[-1] == 0.6  # nothing is asked in the last interval but its start


@pytest.mark.parametrize("path", ["linear", "cosine"])
@pytest.mark.parametrize("solver", ORDERS)
def test_one_step_from_noise_lands_on_the_mean(solver, path):
    x = sample(Gaussian(path), n=4, steps=1, solver=solver, dtype=torch.float64)
    torch.testing.assert_close(x, MEAN.expand(4, 3), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("path", PATHS)
def test_the_oracle_sampled_to_one_ends_on_a_training_point(path, dtype):
    """To rounding, since the posterior has collapsed at the last time it is asked."""
    oracle = Oracle(POINTS, path)
    nodes = make_nodes(timesteps=[*np.linspace(0, 0.999, 30), 1.0])
    followed = trace(oracle, oracle, sigma_noise(oracle, 8, dtype), nodes)
    assert followed.weight[-1].min() > 1 - 1e-12
    ends = POINTS[followed.index[-1]]
    assert float((followed.x.double() - ends).abs().max()) <= 4 * torch.finfo(dtype).eps
    assert len(set(followed.index[-1])) > 2  # different noise, different points


def sigma_noise(oracle, n, dtype):
    return (float(oracle.path(0.0).sigma) * start(n, shape=oracle.training_set.shape)).to(dtype)


def test_with_coarse_steps_the_oracle_need_not_end_on_a_training_point():
    """Where two points still share the posterior at the last time asked, the sample lies between the points."""
    oracle = Oracle(cloud(400, (2,), dtype=torch.float64))
    followed = trace(oracle, oracle, start(32, shape=(2,)), make_nodes(5))
    far = torch.cdist(followed.x, oracle.training_set.points).min(1).values.numpy()
    assert (far > 0.01).mean() > 0.5 and followed.weight[-1].max() < 1 - 1e-6
    assert np.all(far <= (1 - followed.weight[-1]) * 10)  # what the other points can pull, 10 the width of the set


def test_a_trace_is_what_the_definition_says():
    oracle, x = Oracle(POINTS), start(5, shape=(2, 2))
    found, nodes = trace(oracle, oracle, x, [0.0, 0.2, 0.5, 0.8]), [0.0, 0.2, 0.5]
    states = list(trajectory(oracle, x, [0.0, 0.2, 0.5, 0.8]))
    assert found.t.tolist() == nodes and found.nfe.tolist() == [1, 2, 3] and torch.equal(found.x, states[-1].x)
    for k, t in enumerate(nodes):
        answer = oracles(POINTS.flatten(1).numpy(), states[k].x.flatten(1).numpy(), t)
        assert found.index[k].tolist() == (answer.weights.argmax(1).tolist() if t else [0] * 5)  # all equal: the first
        np.testing.assert_allclose(found.weight[k], answer.weights.max(1), rtol=1e-9)
        np.testing.assert_allclose(found.entropy[k], answer.entropy, rtol=1e-9, atol=1e-12)


def test_a_trace_needs_an_oracle_and_one_path():
    with pytest.raises(InputError, match="oracle is a Gaussian; expected an Oracle"):
        trace(Gaussian(), Gaussian(), start(2), make_nodes(3))
    with pytest.raises(InputError, match="field is on the cosine path and the oracle on linear"):
        trace(Oracle(POINTS), Oracle(POINTS, "cosine"), start(2, shape=(2, 2)), make_nodes(3))


def test_noise_belongs_to_its_sample():
    whole = draw_noise(9, (2, 3), seed=5, dtype=torch.float64)
    assert torch.equal(torch.cat([draw_noise(4, (2, 3), 5, 0, dtype=torch.float64), whole[4:]]), whole)
    assert torch.equal(draw_noise(5, (2, 3), 5, first=4, dtype=torch.float64), whole[4:])
    expected = np.random.default_rng((5, 7)).standard_normal((2, 3))
    assert np.array_equal(whole[7].numpy(), expected)
    for dtype in DTYPES:
        assert torch.equal(draw_noise(9, (2, 3), 5, dtype=dtype), whole.to(dtype))
    many = draw_noise(2000, (5,), seed=1, dtype=torch.float64)
    assert (
        torch.corrcoef(torch.cat([many, draw_noise(2000, (5,), 2, dtype=torch.float64)], 1).T).triu(1).abs().max() < 0.1
    )
    assert float(many.mean().abs()) < 0.04 and float(many.var()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("first", [-1, 0.5, "a", True])
def test_noise_begins_at_a_number_of_a_sample(first):
    with pytest.raises(InputError, match="first is"):
        draw_noise(2, (3,), first=first)


class Network(torch.nn.Module):
    """A small convolution that knows time and label, in single precision."""

    shape = (2, 6, 6)

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.last = torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.Conv2d(16, 2, 3, padding=1)

    def forward(self, x, t, y=None):
        label = torch.zeros(len(x)) if y is None else y
        plane = (label + torch.as_tensor(t, dtype=torch.float32)).reshape(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
        return self.last(torch.tanh(self.first(torch.cat([x, plane], 1))))


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_samples_do_not_depend_on_the_batch(solver):
    labels = torch.tensor([0, 3, 1, 2, 0, 1, 2])
    whole = sample(Network(), n=7, steps=6, solver=solver, y=labels, seed=3)
    for batch in (1, 3, 7, 100):
        parts = sample(Network(), n=7, steps=6, solver=solver, y=labels, seed=3, batch=batch)
        assert float((parts - whole).abs().max()) < 1e-5
    alone = sample(Network(), draw_noise(1, (2, 6, 6), 3, first=4), steps=6, solver=solver, y=labels[4:5])
    assert float((alone - whole[4:5]).abs().max()) < 1e-5


@pytest.mark.slow_but("dtype0")
@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_have_the_dtype_of_their_noise_and_rounding_does_not_add_up(dtype):
    """Many steps of a constant velocity: in half precision each is below the rounding of the state."""
    field = Recorder(lambda x, t, y: torch.ones_like(x))
    x = sample(field, torch.zeros(2, 3, dtype=dtype), steps=400)
    assert x.dtype == dtype and x.shape == (2, 3)
    assert {call[1].dtype for call in field.calls} == {dtype}
    torch.testing.assert_close(x, torch.ones_like(x), rtol=torch.finfo(dtype).eps, atol=0)


def test_the_field_gets_time_in_double_precision_and_labels_for_every_row():
    nodes = [0.1, 1 / 3, 0.7 + 1e-12, 1.0]
    field = Recorder(Gaussian())
    sample(field, start(4, torch.float32), timesteps=nodes, y=2)
    assert field.times == nodes[:-1] and all(type(t) is float for t in field.times)
    assert all(y.tolist() == [2] * 4 and y.dtype == torch.int64 for _, _, y in field.calls)
    sample(field, start(4), steps=1)
    assert field.calls[-1][2] is None


NFE = {"euler": lambda n: n, "heun": lambda n: 2 * n - 1, "midpoint": lambda n: 2 * n - 1, "rk4": lambda n: 4 * n - 3}


@pytest.mark.parametrize("solver", NFE)
def test_evaluations_are_counted(solver):
    """As many as there are calls: the last interval takes one, being an Euler step."""
    for steps in (1, 2, 7):
        field = Recorder(Gaussian())
        followed = list(trajectory(field, start(), make_nodes(steps), solver))
        assert followed[-1].nfe == len(field.calls) == NFE[solver](steps)
        assert [step.index for step in followed] == list(range(steps + 1))
        assert followed[0].nfe == 1  # that of the velocity it holds
    field = Recorder(Gaussian())
    *_, last = trajectory(guide(field, 2.0, (0.3, 0.6)), start(), make_nodes(10), solver, y=0)
    assert last.nfe == len(field.calls) > NFE[solver](10)


def test_steps_hold_what_they_say():
    field, x, nodes = Gaussian("cosine"), start(), make_nodes(4, shift=0.5)
    steps = list(trajectory(field, x, nodes))
    assert torch.equal(steps[0].x, x) and [step.t for step in steps] == nodes.tolist()
    for step, after in itertools.pairwise(steps):
        torch.testing.assert_close(step.velocity, field(step.x, step.t))
        torch.testing.assert_close(step.data, field.data(step.x, step.t))
        if after.t < 1:
            torch.testing.assert_close(after.x, step.x + (after.t - step.t) * step.velocity)
    torch.testing.assert_close(sample(field, x, steps=4, shift=0.5), steps[-1].x)


def test_nothing_is_tracked_and_nothing_is_switched_off():
    x = start().requires_grad_()
    net = torch.nn.Linear(3, 3, dtype=torch.float64)
    for step in trajectory(lambda x, t, y: net(x), x, make_nodes(3)):
        assert torch.is_grad_enabled() and not step.x.requires_grad
    assert sample(lambda x, t, y: net(x), x, steps=2).grad_fn is None
    sample(lambda x, t, y: x.mul_(0), start(), steps=1)  # what a field does to its argument ...
    kept = start()
    sample(lambda x, t, y: -x, kept, steps=3)
    assert torch.equal(kept, start())


def test_progress_and_shapes():
    seen = []
    sample(Gaussian(), n=5, steps=3, batch=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k, 9) for k in range(1, 10)]
    oracle = Oracle(POINTS)
    for field in (oracle, guide(oracle, 1.0), switch(lambda x, t, y: -x, oracle, 0.5)):
        assert sample(field, n=2, steps=2).shape == (2, 2, 2)
    assert sample(lambda x, t, y: -x, n=2, shape=[4], steps=2).dtype == torch.float32


def test_noise_is_scaled_to_the_path():
    field = Recorder(Gaussian("ve"))
    sample(field, n=3, steps=2, seed=1, dtype=torch.float64)
    torch.testing.assert_close(field.calls[0][1], 80 * start(3, seed=1))


GOOD = dict(field=Gaussian(), n=2)
REFUSED = {
    "x0 and n": (dict(x0=start()), "both given"),
    "neither": (dict(n=None), "neither x0 nor n"),
    "more than there is memory": (dict(n=10**12), "noise for 1000000000000 samples takes .* draw fewer at a time"),
    "no samples": (dict(n=0), "n is 0"),
    "n and nodes from later": (dict(timesteps=[0.3, 1.0]), "first node is 0.3"),
    "no shape": (dict(field=lambda x, t, y: x), "does not know the shape"),
    "another shape": (dict(shape=(4,)), r"field's samples are \(3,\)"),
    "shape a number": (dict(shape=3), "shape is 3"),
    "x0 of another shape": (dict(n=None, x0=start(), shape=(4,)), "leave shape out"),
    "x0 an array": (dict(n=None, x0=np.zeros((2, 3))), "x0 is a ndarray"),
    "x0 a number": (dict(n=None, x0=torch.tensor(1.0)), "no axes"),
    "x0 integers": (dict(n=None, x0=torch.zeros(2, 3, dtype=torch.int64)), "dtype int64"),
    "x0 NaN": (dict(n=None, x0=start() * math.nan), "NaN"),
    "x0 and dtype": (dict(n=None, x0=start(), dtype=torch.float32), "samples have the dtype of x0"),
    "dtype integer": (dict(dtype=torch.int32), "dtype is"),
    "unknown solver": (dict(solver="rk45"), "expected one of euler, heun, midpoint, rk4, dopri5"),
    "solver None": (dict(solver=None), "solver is None"),
    "no field": (dict(field=3), "field is a int"),
    "steps 0": (dict(steps=0), "steps is 0"),
    "shift 0": (dict(shift=0.0), "shift is 0"),
    "nodes fall": (dict(timesteps=[0, 0.5, 0.5, 1]), "do not increase"),
    "seed negative": (dict(seed=-1), "seed is -1"),
    "seed a float": (dict(seed=0.5), "seed is 0.5"),
    "batch 0": (dict(batch=0), "batch is 0"),
    "three labels for two": (dict(y=[0, 1, 2]), r"y has shape \(3,\)"),
    "labels as floats": (dict(y=[0.5, 1.0]), "integer labels"),
    "no such device": (dict(device="abacus"), "device is 'abacus'"),
    "an unknown path": (
        dict(field=type("F", (Gaussian,), {"path": "straight", "__init__": object.__init__})()),
        "path is",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_sampled_is_refused(name):
    arguments, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        sample(**(GOOD | arguments))


ANSWERS = {
    "NaN": (lambda x: x * math.nan, NumericalError, "NaN or infinity"),
    "infinity": (lambda x: x / 0, NumericalError, "NaN or infinity"),
    "one row for all": (lambda x: x[:1], InputError, r"returned \(1, 3\) for states of shape \(2, 3\)"),
    "another shape": (lambda x: x[:, :2], InputError, r"returned \(2, 2\)"),
    "a list": (lambda x: x.tolist(), InputError, "returned a list"),
    "nothing": (lambda x: None, InputError, "returned a NoneType"),
    "integers": (lambda x: x.long(), InputError, "dtype int64"),
    "too fast": (lambda x: torch.full_like(x, 6e4), NumericalError, "beyond the range of float16"),
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_field_that_answers_wrongly_is_refused(name, solver):
    answer, error, message = ANSWERS[name]
    x = torch.ones(2, 3, dtype=torch.float16) * 4e4
    with pytest.raises(error, match=message):
        sample(lambda x, t, y: answer(x), x, steps=3, solver=solver)


@pytest.mark.parametrize("solver", SOLVERS)
def test_nan_is_noticed_however_late_it_comes(solver):
    late = Recorder(lambda x, t, y: x * (math.nan if t >= 0.9 else -1.0))
    with pytest.raises(NumericalError, match="NaN"):
        sample(late, start(2), steps=10, solver=solver)
    assert len(late.calls) >= 10


def test_arguments_may_stand_in_the_order_of_the_contract():
    oracle, nodes, x = Oracle(POINTS), [0.0, 0.5, 1.0], start(3, shape=(2, 2))
    expected = sample(oracle, x0=x, timesteps=nodes, solver="heun")
    assert torch.equal(sample(oracle, x, None, None, 2, "heun", 1.0, nodes, None, 0), expected)
    drawn = sample(oracle, None, 3, (2, 2), 2, "heun", 1.0, None, None, 0)
    torch.testing.assert_close(drawn, expected.float(), atol=1e-5, rtol=0)
    assert sample(oracle, x[:0]).shape == (0, 2, 2)


def test_arguments_of_a_trajectory_are_checked_before_it_begins():
    for nodes, solver, said in (
        ([0.5, 0.2], "euler", "timesteps do not increase"),
        ([0, 1], "simpson", "solver is 'simpson'; expected one of euler"),
    ):
        with pytest.raises(InputError, match=said):
            trajectory(Gaussian(), start(), nodes, solver)


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: switch(f, f, 0.5), lambda f: guide(f, 1.0)])
def test_evaluations_are_counted_through_fields_of_fields_and_at_a_time_for_each_row(wrap):
    seen = []

    def field(x, t, y=None):
        seen.append(len(x))
        return -x

    guided = guide(field, 2.0, (0.2, 0.6))
    counted, inner = Counted(wrap(guided)), Counted(field)
    x, y = torch.ones(4, 2), torch.tensor([0, 1, 0, 1])
    for t in (0.1, 0.3, torch.tensor([0.1, 0.2, 0.5, 0.6]), torch.tensor([0.3])):
        seen.clear()
        before, within = counted.states, inner.states
        counted(x, t, y)
        wrap(guide(inner, 2.0, (0.2, 0.6)))(x, t, y)
        made = sum(seen) // 2
        assert counted.states - before == inner.states - within == made


def test_a_counted_field_can_be_copied():
    for counted in (copy.deepcopy(Counted(Pendulum())), pickle.loads(pickle.dumps(Counted(Pendulum())))):
        assert torch.equal(counted(start(), 0.5), Pendulum()(start(), 0.5)) and counted.states == 6
        with pytest.raises(AttributeError, match="nothing"):
            _ = counted.nothing


@functools.cache
def finely(path):
    """An oracle, noise, and where that ends by way of many nodes."""
    oracle = Oracle(load("digits", subset=300), path)
    x = float(oracle.path(0.0).sigma) * draw_noise(3, oracle.training_set.shape, dtype=torch.float64)
    return oracle, x, sample(oracle, x, timesteps=[*np.linspace(0, 0.99, 12), 1], solver="dopri5")


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [[0, 0.3, 1], [0, 0.9, 1], [0, 1]])
@pytest.mark.parametrize("path", PATHS)
def test_dopri5_ends_on_the_points_wherever_the_last_interval_begins(nodes, path):
    """One Euler step of 0.7 ended 2.5 from the nearest digit."""
    oracle, x, fine = finely(path)
    counted = Counted(oracle)
    *_, last = trajectory(counted, x, nodes, "dopri5")
    points = oracle.training_set.rows(slice(None)).to(torch.float64).flatten(1)
    assert float(torch.cdist(last.x.flatten(1), points).amin(1).max()) < 1e-5
    assert last.nfe * len(x) == counted.states
    torch.testing.assert_close(last.x, fine, atol=1e-4, rtol=0)


def test_dopri5_goes_on_to_where_only_landing_is_left():
    """A Gaussian's flow ends, in closed form, at the images of noise; one step of 0.5 would end at the mean."""
    field, x = Recorder(Gaussian()), start()
    *_, last = trajectory(field, x, [0, 0.5, 1], "dopri5")
    torch.testing.assert_close(last.x, field.flow(x, 0.0, 0.9999), atol=1e-3, rtol=0)
    assert last.nfe == len(field.calls) and 0.5 < max(field.times) <= 0.999 == field.times[-1]
    field = Recorder(Gaussian())
    *_, last = trajectory(field, x, [0.9995, 1], "dopri5")
    assert last.nfe == len(field.calls) == 1


@pytest.mark.slow
def test_sampling_with_a_tolerance_in_few_dimensions_is_sampling():
    """Of 20,000 points in 64 dimensions, fewer than the directions of the bounds, which once were NaN there."""
    points = cloud(20_000, (64,), seed=3)
    whole, pruned = (sample(Oracle(points, tolerance=tolerance), n=4, steps=6) for tolerance in (None, 1e-6))
    assert torch.isfinite(pruned).all()  # and nothing is warned of: warnings are errors here
    torch.testing.assert_close(pruned, whole, rtol=0, atol=1e-4)

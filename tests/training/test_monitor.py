"""The monitor against what losses, floors and directions are by definition, computed apart from the library."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

import flowscope as fs
from flowscope.data.split import split
from flowscope.errors import InputError, NumericalError
from flowscope.training.monitor.measurement import Measurement
from flowscope.training.monitor.monitor import Monitor

SET = fs.load("mixture:N=60,D=6,modes=3,spread=0.6")
TRAIN, HELD = split(SET, 20)


def posterior(points: np.ndarray, x: np.ndarray, t: float, labels: np.ndarray | None = None, y: int | None = None):
    """(N,) log weights of the linear path, straight from the definition; -inf outside the class."""
    logits = -((x - t * points) ** 2).sum(1) / (2 * (1 - t) ** 2)
    logits = logits if y is None else np.where(labels == y, logits, -np.inf)
    top = logits.max()
    return logits - top - math.log(np.exp(logits - top).sum())


class Others(torch.nn.Module):
    """The velocity to the posterior mean over all points but the heaviest, or to the heaviest, by definition."""

    def __init__(self, points: np.ndarray, nearest: bool = False) -> None:
        super().__init__()
        self.points, self.nearest = points, nearest

    def forward(self, x, t, y):
        rows = []
        for state, time in zip(x.double().numpy(), t.tolist(), strict=True):
            logits = posterior(self.points, state, time)
            lead = int(logits.argmax())
            if self.nearest:
                data = self.points[lead]
            else:
                logits[lead] = -np.inf
                weights = np.exp(logits - logits.max())
                data = weights @ self.points / weights.sum()
            rows.append((data - state) / (1 - time))
        return torch.tensor(np.array(rows))


def rough(x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
    """A model far from the oracle, and by different amounts at different times."""
    time = torch.as_tensor(t, dtype=x.dtype).reshape(-1, 1)
    return 0.7 * torch.tanh(x) - 0.9 * x + 0.3 * time


def brute_loss(model, points, low, high, n=40_000):
    """CFM loss on [low, high) by plain sampling: mean and standard error."""
    rng = np.random.default_rng(11)
    x1 = torch.tensor(points[rng.integers(len(points), size=n)], dtype=torch.float64)
    x0, t = torch.tensor(rng.standard_normal(x1.shape)), torch.tensor(rng.uniform(low, high, n))
    loss = (model(t[:, None] * x1 + (1 - t[:, None]) * x0, t) - (x1 - x0)).square().mean(1)
    return float(loss.mean()), float(loss.std() / math.sqrt(n))


def points_of(training_set: fs.TrainingSet) -> np.ndarray:
    return training_set.rows(slice(None)).double().numpy()


@pytest.mark.slow
def test_the_oracle_itself_is_at_the_floor_and_turns_to_the_nearest_point() -> None:
    found = Monitor(fs.Oracle(TRAIN), probes=120)(fs.Oracle(TRAIN), 7)
    assert found.step == 7
    np.testing.assert_allclose(found.oracle_loss, 0, atol=1e-10)
    np.testing.assert_allclose(found.excess, 0, atol=1e-5)
    np.testing.assert_allclose(found.loss, found.floor, atol=1e-5)
    np.testing.assert_allclose(found.alignment_nearest[-1], 1, atol=1e-4)
    assert (found.alignment_mixture[-2:] < 0.99).all()
    many = fs.Oracle(fs.load("gaussian:N=1000,D=32"))
    stages = Monitor(many, probes=200)(many, 0)
    assert stages.alignment_mixture[0] > 0.98  # of 1,000 points one more or less is nothing
    half = int(fs.stages(many, 20, 200).half.t * 10)
    ahead = stages.alignment_nearest > stages.alignment_mixture
    assert not ahead[:half].any() and ahead[half + 1 :].all()  # it turns where the posterior collapses


@pytest.mark.slow
def test_floor_is_the_gap_of_the_stage_curve() -> None:
    found = Monitor(fs.Oracle(TRAIN), bins=5, probes=600, seed=3)(rough, 0)
    curve = fs.stages(TRAIN, 100, 600, seed=8)
    apart = found.floor - curve.gap.reshape(5, 20).mean(1)
    scale = np.hypot(found.floor_error, curve.gap_error.reshape(5, 20).max(1))
    assert (np.abs(apart) < 3 * scale + 1e-3).all()
    assert abs(found.total["floor"] - curve.loss_floor.value) < 3 * np.hypot(
        found.total["floor_error"], curve.loss_floor.error
    )


@pytest.mark.slow
def test_loss_is_the_loss_and_splits_into_floor_and_oracle_loss() -> None:
    found = Monitor(fs.Oracle(TRAIN), bins=4, probes=1200, seed=1)(rough, 0)
    for b in range(4):
        loss, error = brute_loss(rough, points_of(TRAIN), b / 4, (b + 1) / 4)
        assert abs(found.loss[b] - loss) < 3 * math.hypot(error, found.loss_error[b])
        assert abs(found.excess[b] - found.oracle_loss[b]) < 3 * found.excess_error[b]
    assert (found.oracle_loss > 20 * found.oracle_loss_error).all()  # there is something to agree on
    np.testing.assert_allclose(found.loss, found.floor + found.excess, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["cosine", "vp", "ve"])
def test_the_identity_holds_on_every_path(path: str) -> None:
    oracle = fs.Oracle(TRAIN, path)

    def model(x, t, y=None):
        return oracle(x, t) * 0.9 + 0.1 * x

    found = Monitor(oracle, bins=4, probes=400)(model, 0)
    assert (np.abs(found.excess - found.oracle_loss) < 4 * found.excess_error).all()
    assert (found.oracle_loss > 0).all()
    curve = fs.stages(oracle, 96, 400, seed=4)
    early = slice(0, 3)  # of vp the gap grows without end towards t = 1
    expected = curve.gap.reshape(4, 24).mean(1)
    error = np.sqrt((curve.gap_error**2).reshape(4, 24).mean(1) + found.loss_error**2)
    assert (np.abs(found.floor - expected)[early] < 4 * error[early]).all()


@pytest.mark.slow
def test_errors_say_how_far_another_seed_comes_out() -> None:
    runs = [Monitor(fs.Oracle(TRAIN), bins=2, probes=100, seed=s)(rough, 0) for s in range(24)]
    for name in ("excess", "oracle_loss", "floor", "alignment_nearest"):
        spread = np.std([getattr(run, name) for run in runs], axis=0, ddof=1)
        claimed = np.mean([getattr(run, f"{name}_error") for run in runs], axis=0)
        assert ((spread / claimed > 0.6) & (spread / claimed < 1.5)).all(), name


@pytest.mark.slow
def test_a_conditional_floor_with_label_dropout_is_the_mixture() -> None:
    found = Monitor(fs.Oracle(TRAIN), bins=2, probes=800, conditional=True, dropout=0.3)(rough, 0)
    gaps = [fs.stages(TRAIN, 64, 800, seed=5, conditional=c) for c in (True, False)]
    expected = sum(p * c.gap.reshape(2, 32).mean(1) for p, c in zip((0.7, 0.3), gaps, strict=True))
    apart = np.abs(gaps[0].gap - gaps[1].gap).reshape(2, 32).mean(1)
    assert (np.abs(found.floor - expected) < 4 * found.floor_error).all()
    assert (apart[0] > 8 * found.floor_error[0]).all()  # neither law alone would have passed
    assert (np.abs(found.excess - found.oracle_loss) < 3 * found.excess_error).all()
    own = Monitor(fs.Oracle(TRAIN), bins=2, probes=60, conditional=True, dropout=0.3)(fs.Oracle(TRAIN), 0)
    np.testing.assert_allclose(own.oracle_loss, 0, atol=1e-10)


@pytest.mark.slow
def test_floor_and_alignments_are_those_of_their_definitions() -> None:
    """A^2 tr Cov / D, mixed by label dropout, and the oracle's cosines, by plain sampling: weights and classes."""
    bins, p, n, rng = 3, 0.35, 40_000, np.random.default_rng(5)
    points, labels, weights = rng.standard_normal((9, 2)), np.arange(9) % 3, rng.uniform(0.3, 2, 9)
    oracle = fs.Oracle(fs.TrainingSet(points, labels, weights))
    found = Monitor(oracle, None, bins, 1500, conditional=True, dropout=p)(oracle, 0)
    for b in range(bins):
        t, i = rng.uniform(b / bins, (b + 1) / bins, (n, 1)), rng.choice(9, n, p=weights / weights.sum())
        x = t * points[i] + (1 - t) * rng.standard_normal((n, 2))
        there = np.where((rng.random(n) < p)[:, None] | (labels == labels[i][:, None]), np.log(weights), -np.inf)
        logits = there - ((x[:, None] - t[:, None] * points) ** 2).sum(2) / (2 * (1 - t) ** 2)
        lead = logits.argmax(1)
        rest = np.where(np.arange(9) == lead[:, None], -np.inf, logits)
        gamma, others, law = (np.exp(v - v.max(1, keepdims=True)) for v in (logits, rest, there))
        gamma, others, law = (w / w.sum(1, keepdims=True) for w in (gamma, others, law))
        data, others, law = (w @ points for w in (gamma, others, law))
        variance = (gamma * ((points - data[:, None]) ** 2).sum(2)).sum(1)
        truth = {"floor": variance / (1 - t[:, 0]) ** 2 / 2}
        for name, to in (("mixture", others), ("nearest", points[lead])):
            a, c = data - law, to - law
            truth[f"alignment_{name}"] = (a * c).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(c, axis=1)
        for name, values in truth.items():
            error = math.hypot(values.std() / math.sqrt(len(values)), getattr(found, f"{name}_error")[b])
            assert abs(getattr(found, name)[b] - values.mean()) < 4 * error < 0.2, (name, b)


ARRAYS = ("t", "loss", "floor", "excess", "oracle_loss", "alignment_mixture", "alignment_nearest")


@pytest.mark.slow
def test_held_out_points_may_come_in_any_form_and_arguments_in_order() -> None:
    oracle = fs.Oracle(TRAIN)
    forms = (HELD, torch.as_tensor(points_of(HELD)), points_of(HELD), points_of(HELD).astype(np.float32))
    found = [Monitor(oracle, held, 5, 40)(rough, 12) for held in forms]
    for run in found:
        assert run.step == 12 and run.held_out.loss == pytest.approx(found[0].held_out.loss, rel=1e-5)
        for name in (*ARRAYS, *(f"{name}_error" for name in ARRAYS)):
            value = getattr(run, name)
            assert isinstance(value, np.ndarray) and value.shape == (5,) and np.isfinite(value).all(), name
    assert not found[0].t_error.any()


@pytest.mark.slow
def test_weights_and_copies_are_part_of_the_law() -> None:
    points = points_of(TRAIN)[:12]
    weights = np.linspace(0.2, 3, 12)
    doubled = fs.TrainingSet(np.concatenate([points, points]), weights=np.tile(weights / 2, 2))
    runs = [
        Monitor(fs.Oracle(s), bins=4, probes=400)(rough, 0) for s in (fs.TrainingSet(points, None, weights), doubled)
    ]
    for run in runs:
        assert (np.abs(run.excess - run.oracle_loss) < 3 * run.excess_error + 1e-9).all()
    np.testing.assert_allclose(runs[0].floor, runs[1].floor, rtol=1e-9)  # the same pairs of the same law


@pytest.mark.slow
@pytest.mark.parametrize("nearest", [False, True])
def test_fields_that_point_to_one_part_are_aligned_with_it(nearest: bool) -> None:
    """Also where the others' weight is far below the smallest float, since few enough points are left."""
    small = fs.TrainingSet(points_of(TRAIN)[:20])
    found = Monitor(fs.Oracle(small), probes=200)(Others(points_of(small), nearest), 0)
    name, other = ("nearest", "mixture") if nearest else ("mixture", "nearest")
    np.testing.assert_allclose(getattr(found, f"alignment_{name}"), 1, atol=1e-5)
    assert (getattr(found, f"alignment_{other}") < 0.999).all()
    assert (found.mixture_probes == found.probes).all()


@pytest.mark.slow
@pytest.mark.parametrize("conditional", [False, True])
def test_the_weight_of_the_nearest_is_the_top_weight_of_the_stage_curve(conditional: bool) -> None:
    oracle = fs.Oracle(TRAIN)
    found = Monitor(oracle, bins=8, probes=800, conditional=conditional)(oracle, 0)
    curve = fs.stages(TRAIN, 64, 800, seed=2, conditional=conditional)
    apart = found.nearest_weight - curve.top1.reshape(8, 8).mean(1)
    assert (
        np.abs(apart) < 4 * np.hypot(found.nearest_weight_error, curve.top1_error.reshape(8, 8).max(1)) + 0.01
    ).all()


@pytest.mark.slow
def test_directions_that_are_not_defined_are_left_out_and_counted() -> None:
    one = fs.TrainingSet(points_of(TRAIN)[:1])
    found = Monitor(fs.Oracle(one))(rough, 0)
    assert np.isnan(found.alignment_mixture).all()
    assert np.isnan(found.alignment_nearest).all()
    assert found.mixture_probes.sum() == 0
    # 200 points hard to tell apart, far from a heavy one: where that has all the weight, too many others share the rest
    crowd = 30 + 1e-3 * np.random.default_rng(0).standard_normal((200, 6))
    far = fs.TrainingSet(np.concatenate([np.zeros((1, 6)), crowd]), weights=np.append(800, np.ones(200)))
    late = Monitor(fs.Oracle(far), bins=4, probes=80)(fs.Oracle(far), 0)
    assert 0 < late.mixture_probes[2] < late.probes[2] == 20


@pytest.mark.slow
def test_held_out_points_show_memorisation() -> None:
    oracle = fs.Oracle(TRAIN)
    monitor = Monitor(oracle, HELD, bins=4, probes=400)
    memoriser, naive = monitor(oracle, 0), monitor(rough, 0)
    assert memoriser.gap is not None and naive.gap is not None and memoriser.held_out is not None
    assert (memoriser.gap[1:3] > 3 * memoriser.gap_error[1:3]).all()
    twin = Monitor(oracle, TRAIN, bins=4, probes=400)(rough, 0)  # "held out" from the training points: no gap
    assert twin.gap is not None and (np.abs(twin.gap) < 3 * twin.gap_error).all()
    loss, error = brute_loss(rough, points_of(HELD), 0.25, 0.5)
    assert abs(naive.held_out.loss[1] - loss) < 3 * math.hypot(error, naive.held_out.loss_error[1])
    np.testing.assert_allclose(memoriser.held_out.loss, memoriser.held_out.reference, rtol=1e-4)
    assert (memoriser.held_out.reference[1:] > memoriser.floor[1:]).all()
    assert not hasattr(memoriser.held_out, "floor")


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(6))
        self.seen: list = []

    def forward(self, x, t, y):
        assert not torch.is_grad_enabled() and not self.body.training
        assert x.dtype == t.dtype == torch.float32
        self.seen.append(y)
        return self.body(x)


def test_the_model_is_left_as_it_was() -> None:
    net = Net()
    net.body[2].eval()  # a frozen layer in a network that trains
    before = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    monitor = Monitor(fs.Oracle(TRAIN), probes=40)
    first, second = monitor(net, 0), monitor(net, 1)
    assert [m.training for m in (net, net.body, net.body[1], net.body[2])] == [True, True, True, False]
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    np.testing.assert_array_equal(first.loss, second.loss)  # dropout was off
    assert all(p.grad is None for p in net.parameters())
    assert set(net.seen) == {None}
    with pytest.raises(NumericalError, match="NaN"):
        monitor(lambda x, t, y: x * math.nan, 0)


@pytest.mark.slow
def test_labels_are_those_of_the_probes_points() -> None:
    labelled = {}

    def field(x, t, y=None):
        labelled.setdefault(y is None, []).append((x, t, y))
        return -x

    field.classes = 3
    Monitor(fs.Oracle(TRAIN), probes=200, bins=1, dropout=0.25)(field, 0)
    dropped = sum(len(x) for x, _, _ in labelled[True])
    assert 25 < dropped < 75  # of 200 by chance 1/4
    x, t, y = (torch.cat(column) for column in zip(*labelled[False], strict=True))
    late = t > 0.9
    labels = [
        TRAIN.labels[posterior(points_of(TRAIN), a.double().numpy(), b).argmax()]
        for a, b in zip(x[late], t[late].tolist(), strict=True)
    ]
    assert labels == y[late].tolist()
    labelled.clear()
    Monitor(fs.Oracle(TRAIN), probes=20)(fs.guide(field, 2.0, (0.0, 0.0)), 0)  # nowhere guided: the field itself
    assert set(labelled) == {False}
    labelled.clear()
    Monitor(fs.Oracle(TRAIN), probes=20, conditional=False)(field, 0)
    assert set(labelled) == {True}


@pytest.mark.slow
def test_probes_are_fixed_by_their_seed() -> None:
    def run(**how) -> Measurement:
        return Monitor(fs.Oracle(TRAIN), **{"probes": 40, "bins": 4} | how)(rough, 0)

    assert run().to_dict() == run().to_dict()
    assert run(batch=7).total["oracle_loss"] == pytest.approx(run().total["oracle_loss"], rel=1e-6)
    assert run(seed=1).total["loss"] != run().total["loss"]


def test_the_result_is_frozen_and_goes_to_a_tracker() -> None:
    found = Monitor(fs.Oracle(TRAIN), HELD, probes=40, bins=4)(rough, 3)
    with pytest.raises(ValueError, match="read-only"):
        found.loss[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError, match="step"):
        found.step = 4
    row = found.row()
    assert row["step"] == 3
    assert row["loss/t=0.125"] == found.loss[0]
    assert row["gap"] == pytest.approx(np.mean(found.gap))
    assert all(isinstance(v, (int, float)) for v in row.values())
    assert found.to_dict()["held_out"]["reference"] == found.held_out.reference.tolist()
    assert "gap" not in Monitor(fs.Oracle(TRAIN), probes=40)(rough, 0).row()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o: Monitor(TRAIN), "expected an Oracle"),
        (lambda o: Monitor(o, probes=15), "at least 20"),
        (lambda o: Monitor(o, bins=0), "bins is 0"),
        (lambda o: Monitor(o, dropout=1.5), "dropout is 1.5"),
        (lambda o: Monitor(o, conditional="yes"), "conditional is 'yes'"),
        (lambda o: Monitor(o, np.zeros((4, 7))), r"shape \(7,\); expected \(6,\)"),
        (lambda o: Monitor(o, points_of(HELD), conditional=True), "no labels"),
        (lambda o: Monitor(o, fs.TrainingSet(points_of(HELD), [9] * 20), conditional=True), "no point has label 9"),
        (lambda o: Monitor(o, "digits"), "the text 'digits'"),
        (lambda o: Monitor(o)(rough, 2.5), "step is 2.5"),
        (lambda o: Monitor(o)(rough, None), "step is None"),
        (lambda o: Monitor(o)(fs.switch(rough, type("F", (Net,), {"path": "cosine"})(), 0.5), 0), "cosine path"),
        (lambda o: Monitor(o)("model", 0), "callable as field"),
        (lambda o: Monitor(o)(torch.nn.Linear(6, 6), 0), "as_field"),
        (lambda o: Monitor(o)(fs.Oracle(TRAIN, path="cosine"), 0), "cosine path"),
        (lambda o: Monitor(o)(lambda x, t, y: x[:, :2], 0), "expected a velocity for each"),
    ],
)
def test_what_cannot_be_used_is_refused(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(fs.Oracle(TRAIN))


def test_a_module_of_half_precision_is_given_exact_times() -> None:
    """0.98 would be 0.9805 in bfloat16, which leaves 2 % less to 1."""

    class Half(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.times = torch.nn.Parameter(torch.ones(6, dtype=torch.bfloat16)), []

        def forward(self, x, t, y):
            self.times.append(t)
            return x * self.weight

    model, seen = Half(), []
    Monitor(fs.Oracle(TRAIN), probes=40, bins=4)(model, 0)
    Monitor(fs.Oracle(TRAIN), probes=40, bins=4)(lambda x, t, y: seen.append(t) or x, 0)
    assert torch.equal(torch.cat(model.times), torch.cat(seen).float())

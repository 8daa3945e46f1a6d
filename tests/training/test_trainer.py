"""The loop: what it draws, what it aims at, how it averages, and what it refuses."""

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor, nn

import flowscope
from flowscope import InputError, Oracle, TrainingSet
from flowscope.errors import MissingExtraError, NumericalError
from flowscope.training import TrainSettings, train
from flowscope.training.densities import draw_times
from flowscope.training.draws import Draws
from flowscope.training.ema import make_average, update_average
from flowscope.training.targets import make_target, velocity
from flowscope.training.trainer import Run, learning_rate_at
from tests.support.trainings import Own, cloud, tiny

# what is drawn


def logit_normal_cdf(t: float) -> float:
    """By integrating the density over t."""
    density = lambda v: math.exp(-0.5 * math.log(v / (1 - v)) ** 2) / (math.sqrt(2 * math.pi) * v * (1 - v))  # noqa: E731
    return integrate.quad(density, 1e-12, t)[0]


CDFS = {  # F(t) of each density before it is restricted
    "uniform": ({}, lambda t: t),
    "shifted": ({"shift": 0.3}, lambda t: t / (0.3 + 0.7 * t)),  # the share of uniform steps before t
    "logit-normal": ({}, logit_normal_cdf),
    "staged": ({"navigation": 0.7, "boundary": 0.1}, lambda t: 7 * t if t < 0.1 else 0.7 + (t - 0.1) / 3),
}


@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.05, 0.4)])
@pytest.mark.parametrize("density", CDFS)
def test_timesteps_follow_their_density_within_the_interval(density: str, interval: tuple[float, float]) -> None:
    changes, cdf = CDFS[density]
    low, high = interval
    t = draw_times(tiny(density=density, interval=interval, **changes), np.random.default_rng(0), 2000)
    assert low <= t.min() and t.max() < high
    table = np.linspace(low, high, 400)
    whole = np.array([cdf(min(max(v, 1e-12), 1 - 1e-12)) for v in table])
    restricted = (whole - whole[0]) / (whole[-1] - whole[0])
    assert stats.kstest(t, lambda v: np.interp(v, table, restricted)).pvalue > 0.01


def test_a_uniform_density_with_a_shift_is_the_shifted_one_and_logit_normal_moves_by_its_logarithm() -> None:
    draw = lambda **changes: draw_times(tiny(**changes), np.random.default_rng(0), 500)  # noqa: E731
    np.testing.assert_array_equal(draw(shift=0.5), draw(density="shifted", shift=0.5))
    moved = draw(density="logit-normal", shift=0.5)
    logit = lambda t: np.log(t / (1 - t))  # noqa: E731
    np.testing.assert_allclose(logit(moved), logit(draw(density="logit-normal")) + math.log(0.5), atol=1e-9)


def test_points_are_drawn_by_their_weights_and_none_without_weight() -> None:
    weights = np.array([0.0, 1.0, 2.0, 0.0, 5.0, 0.0])
    draws = Draws(TrainingSet(np.eye(6, dtype=np.float32), weights=weights), tiny(batch=4000), torch.device("cpu"))
    counts = np.bincount(draws.positions(0), minlength=6)
    assert (counts[weights == 0] == 0).all()
    assert stats.chisquare(counts[weights > 0], 4000 * weights[weights > 0] / 8).pvalue > 0.01


def test_points_without_weights_are_drawn_alike_and_differ_from_step_to_step() -> None:
    draws = Draws(cloud(10), tiny(batch=2000), torch.device("cpu"))
    assert stats.chisquare(np.bincount(draws.positions(3), minlength=10)).pvalue > 0.01
    assert not np.array_equal(draws.positions(3), draws.positions(4))


@pytest.mark.slow
def test_labels_are_dropped_at_their_rate_and_others_are_the_points_own() -> None:
    data = cloud()
    draw = Draws(data, tiny(batch=4000, label_dropout=0.2), torch.device("cpu"))(5)
    dropped = draw.y < 0
    assert stats.binomtest(int(dropped.sum()), 4000, 0.2).pvalue > 0.01
    np.testing.assert_array_equal(draw.y[~dropped], data.labels[draw.positions][~dropped])
    torch.testing.assert_close(draw.x1, torch.as_tensor(data.points)[draw.positions])


def test_noise_is_standard_normal_and_belongs_to_seed_and_step() -> None:
    draws = [Draws(cloud(), tiny(batch=1000, seed=seed), torch.device("cpu")) for seed in (0, 1)]
    noise = draws[0](7).x0
    assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 0.01
    assert torch.equal(noise, draws[0](7).x0)
    for other in (draws[0](8).x0, draws[1](7).x0):
        assert abs(float(torch.corrcoef(torch.stack([noise.flatten(), other.flatten()]))[0, 1])) < 0.06


def test_a_set_that_is_too_large_for_memory_is_drawn_alike() -> None:
    kept, read = (Draws(cloud(), tiny(), torch.device("cpu"), resident_bytes=room)(2) for room in (1 << 20, 0))
    assert torch.equal(kept.x1, read.x1) and torch.equal(kept.x0, read.x0)


# what is aimed at


def drawn(data: TrainingSet, settings: TrainSettings) -> tuple[Any, Tensor, Tensor]:
    """A draw, its states and its conditional velocities, on the linear path."""
    draw = Draws(data, settings, torch.device("cpu"))(0)
    t = draw.t.to(torch.float32)[:, None]
    return draw, t * draw.x1 + (1 - t) * draw.x0, draw.x1 - draw.x0


def test_the_oracle_target_is_the_oracle_and_unconditional_where_the_label_was_dropped() -> None:
    data, settings = cloud(), tiny(target="oracle", batch=64, label_dropout=0.5)
    oracle = Oracle(data)
    draw, x, conditional = drawn(data, settings)
    u = make_target(settings, oracle)(0, draw, x, conditional)
    for i in range(64):
        label = None if draw.y[i] < 0 else draw.y[i : i + 1]
        torch.testing.assert_close(u[i : i + 1], oracle.velocity(x[i : i + 1], draw.t[i : i + 1], label))


@pytest.mark.parametrize("weights", [None, np.arange(40) + 0.5], ids=["equal", "weighted"])
def test_the_stable_target_over_the_whole_set_is_the_oracle(weights: Any) -> None:
    data, settings = cloud(weights=weights), tiny(target="stf", stf_reference=40, batch=32, label_dropout=0.3)
    draw, x, conditional = drawn(data, settings)
    found = make_target(settings, Oracle(data))(0, draw, x, conditional)
    torch.testing.assert_close(found, velocity(Oracle(data), draw, x), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_the_stable_target_holds_the_point_itself_and_nears_the_oracle_as_its_reference_grows() -> None:
    data = cloud(400, labels=False)
    oracle = Oracle(data)
    late = tiny(target="stf", stf_reference=1, batch=32, interval=(0.998, 0.999))
    draw, x, conditional = drawn(data, late)  # so late that the posterior is the point itself, if it is there
    torch.testing.assert_close(make_target(late, oracle)(0, draw, x, conditional), conditional, atol=0.05, rtol=0)
    errors = []
    for reference in (8, 64, 256):
        settings = tiny(target="stf", stf_reference=reference, batch=1, interval=(0.2, 0.3))
        off = []
        for step in range(40):
            one = Draws(data, settings, torch.device("cpu"))(step)
            t = one.t.to(torch.float32)[:, None]
            state = t * one.x1 + (1 - t) * one.x0
            off.append(float((make_target(settings, oracle)(step, one, state, state) - oracle(state, one.t)).norm()))
        errors.append(float(np.mean(off)))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


@pytest.mark.slow
@pytest.mark.parametrize("path", ["linear", "cosine"])
def test_the_losses_on_the_two_targets_differ_by_the_gap(path: str) -> None:
    """E[u_cond | x_t] = u*, so for any network loss(cfm) - loss(oracle) = E|u* - u_cond|^2 / D, the gap of `stages`."""
    data, t, p = cloud(), 0.4, 0.3
    loss = {}
    for target in ("cfm", "oracle"):
        settings = tiny(
            target=target,
            steps=12,
            batch=256,
            learning_rate=1e-12,
            interval=(t, t + 1e-9),
            label_dropout=p,
            path=path,
            ema=0.0,
        )
        loss[target] = np.array([float(step.loss) for step in train(data, settings)])
    difference = loss["cfm"] - loss["oracle"]
    error = difference.std(ddof=1) / math.sqrt(len(difference))
    oracle = Oracle(data, path)
    curves = [flowscope.stages(oracle, [t], 800, conditional=c) for c in (False, True)]
    expected = p * curves[0].gap[0] + (1 - p) * curves[1].gap[0]
    spread = math.hypot(error, p * curves[0].gap_error[0], (1 - p) * curves[1].gap_error[0])
    assert abs(difference.mean() - expected) < 4 * spread
    assert spread < 0.1 * expected


# the loop


@pytest.mark.slow
def test_the_loss_falls_below_that_of_the_zero_field_and_the_field_learns_the_oracle() -> None:
    data = TrainingSet(np.array([[1.0, -1.0], [1.0, -1.0]], dtype=np.float32))  # one point: u* = (x1 - x)/(1 - t)
    settings = tiny(steps=200, width=32, batch=64, learning_rate=0.01, interval=(0.0, 0.5), schedule="cosine", ema=0.95)
    *_, last = train(data, settings)
    x, t = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)), torch.linspace(0, 0.49, 200)
    x = t[:, None] * torch.tensor([1.0, -1.0]) + (1 - t)[:, None] * x
    exact = Oracle(data)(x, t)
    assert float((last.ema_field(x, t) - exact).square().mean()) < 0.05 * float(exact.square().mean())


class Weight(nn.Module):
    """A single weight."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value], dtype=torch.float64))


def averaged(decay: float, values: list[float]) -> np.ndarray:
    """The average after each of the values that a weight takes, from its beginning on."""
    network = Weight(values[0])
    average, found = make_average(network), []
    for update, value in enumerate(values[1:], start=1):
        network.weight.data.fill_(value)
        update_average(average, network, decay, update)
        found.append(float(average.weight))
    return np.array(found)


def test_the_average_forgets_the_beginning_at_once_and_then_reaches_as_far_back_as_its_decay_says() -> None:
    np.testing.assert_allclose(averaged(0.99, [0.7] * 50), 0.7)
    beginning = averaged(0.9999, [1.0] + [0.0] * 800)  # what is left of it
    assert (np.diff(beginning) < 0).all()
    assert beginning[0] < 0.2 and beginning[9] < 1e-4
    assert beginning[799] / beginning[399] == pytest.approx(0.5**9, rel=0.1)  # by a power of the number of updates
    late = averaged(0.9, [0.0] * 500 + [1.0] * 20)[-20:]
    np.testing.assert_allclose(1 - late, 0.9 ** np.arange(1, 21))
    lag = np.arange(1, 1000) - averaged(0.9, list(range(1000)))
    assert lag[-1] == pytest.approx(0.9 / (1 - 0.9))  # of a weight that rises by 1 an update


@pytest.mark.slow
def test_the_average_is_made_of_the_weights_of_every_step() -> None:
    settings = tiny(steps=40, ema=0.9, seed=3)
    network = Run(cloud(), settings).network
    average = make_average(network)
    for step in train(cloud(), settings):
        update_average(average, step.network, 0.9, step.step)
        for ours, theirs in zip(average.parameters(), step.ema.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_the_rate_rises_and_then_stays_or_falls_to_nothing() -> None:
    constant, cosine = (
        tiny(steps=100, warmup=10, learning_rate=0.5),
        tiny(steps=100, warmup=10, learning_rate=0.5, schedule="cosine"),
    )
    assert [learning_rate_at(constant, k) for k in (0, 4, 9, 10, 99)] == [0.05, 0.25, 0.5, 0.5, 0.5]
    assert learning_rate_at(cosine, 55) == pytest.approx(0.25)  # half way
    assert learning_rate_at(cosine, 10) == 0.5 and learning_rate_at(cosine, 99) < 0.001
    assert [step.learning_rate for step in train(cloud(), tiny(steps=3))] == [0.01 / 3, 0.02 / 3, 0.01]


def test_gradients_are_clipped() -> None:
    """Adam's first update hardly depends on the gradient's size; its first moment is a tenth of the gradient."""
    step = next(iter(train(cloud(), tiny(grad_clip=1e-3))))
    moments = [state["exp_avg"] for state in step.run.optimizer.state.values()]
    assert float(torch.cat([m.flatten() for m in moments]).norm()) == pytest.approx(1e-4, rel=1e-3)


@pytest.mark.slow
def test_a_seed_decides_and_the_callers_random_numbers_are_left_alone() -> None:
    before = torch.get_rng_state()
    ends = [[p.clone() for p in [*train(cloud(), tiny(seed=seed))][-1].network.parameters()] for seed in (5, 5, 6)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(ends[0], ends[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(ends[0], ends[2], strict=True))


def test_a_network_of_ones_own_is_trained_in_place() -> None:
    network = Own()
    before = network.layer.weight.detach().clone()
    *_, last = train(cloud(labels=False), tiny(), network=network)
    assert last.network is network
    assert not torch.equal(network.layer.weight, before)
    assert last.field(torch.zeros(2, 3), 0.5).shape == (2, 3)


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [("shape", InputError, r"returned \(8, 2\)"), ("nan", NumericalError, "the loss is nan")],
)
def test_a_network_that_answers_nonsense_is_refused(wrong: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        list(train(cloud(labels=False), tiny(), network=Own(wrong)))


@pytest.mark.parametrize("labels", [np.array([-1, 0]), np.array([0, 2_000_000])], ids=["negative", "large"])
def test_labels_without_room_for_them_are_refused(labels: np.ndarray) -> None:
    with pytest.raises(InputError, match="labels go from"):
        train(TrainingSet(np.zeros((2, 3), np.float32), labels), tiny())


def test_labels_beyond_the_networks_classes_are_refused() -> None:
    from flowscope.networks.architectures import build_network

    with pytest.raises(InputError, match="labels go up to 1, the network has 1 classes"):
        train(cloud(), tiny(), network=build_network("mlp", (3,), 1, width=8))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "gan"}, "model is 'gan'; expected one of unet"),
        ({"target": "mse"}, "target is 'mse'; expected one of cfm, oracle, stf"),
        ({"density": "beta"}, "density is 'beta'"),
        ({"schedule": "linear"}, "schedule is 'linear'"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
        ({"path": "vpp"}, "path is 'vpp'"),
        ({"steps": 0}, "steps is 0"),
        ({"batch": 1.5}, "batch is 1.5"),
        ({"warmup": -1}, "warmup is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"label_dropout": 1.1}, "label_dropout is 1.1"),
        ({"ema": 1.0}, "ema is 1"),
        ({"shift": 0.0}, "shift is 0.0"),
        ({"density": "shifted"}, "with shift 1, which is uniform"),
        ({"density": "staged", "shift": 0.5}, "expected one of them"),
        ({"navigation": 1.0}, "navigation is 1.0"),
        ({"boundary": 0.0}, "boundary is 0.0"),
        ({"interval": (0.5, 0.2)}, "it is reversed"),
        ({"interval": (0.2, 1.2)}, "interval is"),
        ({"interval": (0.2, 0.2)}, "which is empty"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        TrainSettings(**changes)


def test_settings_come_back_from_their_form_in_json() -> None:
    settings = tiny(interval=(0.1, 0.5), density="shifted", shift=0.4)
    assert TrainSettings.from_dict(settings.to_dict()) == settings


@pytest.mark.parametrize(
    ("package", "extra", "model"), [("accelerate", "train", "mlp"), ("diffusers", "models", "unet")]
)
def test_an_absent_package_is_said_with_its_extra(
    package: str, extra: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"flowscope\[{extra}\]"):
        train(np.zeros((4, 1, 8, 8), np.float32), tiny(model=model))


def test_one_training_may_follow_another_of_other_precision_and_not_run_beside_it() -> None:
    first = train(cloud(), tiny())
    next(first)
    second = train(cloud(), tiny(precision="bf16"))
    assert math.isfinite(float(next(second).loss))
    with pytest.raises(InputError, match="expected them one after the other"):
        next(first)

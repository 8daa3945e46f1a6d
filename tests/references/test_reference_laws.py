"""Laws that every reference obeys: it is a field of its path, and depends on the points as a law alone."""

import itertools

import numpy as np
import pytest
import torch

import flowscope as fs
from flowscope.errors import InputError
from flowscope.fields import shape_of
from flowscope.references import GaussianMixture, LocalOracle, SmoothedOracle, Wiener
from flowscope.training.monitor.evaluate import label_count
from tests.reference import coefficients
from tests.support.cases import cloud, states

SHAPE, COUNT = (2, 4, 4), 24
MAKE = {
    "Wiener": Wiener,
    "class-wise": lambda data, *path, **where: Wiener(data, *path, by_class=True, **where),
    "mixture": lambda data, *path, **where: GaussianMixture(data, *path, parts=2, rank=3, **where),
    "local": lambda data, *path, **where: LocalOracle(data, *path, patch=3, **where),
    "equivariant": lambda data, *path, **where: LocalOracle(data, *path, patch=3, equivariant=True, **where),
    "usual patches": LocalOracle,
    "tempered": lambda data, *path, **where: SmoothedOracle(data, *path, temperature=2.0, **where),
    "blurred": lambda data, *path, **where: SmoothedOracle(data, *path, bandwidth=0.3, **where),
}
DENSE = ("Wiener", "class-wise", "mixture", "blurred")  # those of a law with a density
FAST = ("mixture", "local")  # one of a density and one of none


def names(*of):
    """Parametrize by the names of references, some of them in the fast tests."""
    return pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in of])


every, dense = names(*MAKE), names(*DENSE)
FOUND = {}


def points():
    """Two groups of images, so that parts and classes are unambiguous."""
    images = cloud(COUNT, SHAPE)
    images[::2] += 2.0
    return images


def labels():
    return np.arange(COUNT) % 2


def field(name, path="linear"):
    """A reference, made once."""
    if (name, path) not in FOUND:
        FOUND[name, path] = MAKE[name](fs.TrainingSet(points(), labels()), path)
    return FOUND[name, path]


@every
def test_velocity_noise_and_score_follow_from_the_data(name):
    for path in ("linear", "ve"):
        reference = field(name, path)
        for t in (0.3, 0.8):
            alpha, sigma, d_alpha, d_sigma = (float(c) for c in coefficients(path, t))
            x = states(points(), t, path)
            data = reference.denoise(x, t)
            noise = (x - alpha * data) / sigma
            for ours, truth in (
                (reference(x, t), d_alpha * data + d_sigma * noise),
                (reference.velocity(x, t), reference(x, t)),
                (reference.noise(x, t), noise),
                (reference.score(x, t), -noise / sigma),
            ):
                assert float((ours - truth).norm() / truth.norm()) < 1e-6


@every
def test_pure_noise_knows_only_the_mean(name):
    mean = points().double().mean(0)
    data = field(name).denoise(cloud(3, SHAPE, seed=2, dtype=torch.float64), 0.0)
    if name == "equivariant":  # all positions are one there, but for the border
        data, mean = data.mean((2, 3)), mean.mean((1, 2))
    torch.testing.assert_close(data, mean.expand_as(data), rtol=1e-5, atol=1e-5)


@dense
@pytest.mark.parametrize("label", [None, 1])
def test_the_score_is_the_gradient_of_the_log_density(name, label):
    reference, step = field(name), 1e-5
    for t in (0.3, 0.9):
        x = states(points(), t, rows=2)
        score = reference.score(x, t, label)
        for direction in cloud(2, SHAPE, seed=7, dtype=torch.float64):
            ahead, behind = (reference.log_density(x + h * direction, t, label) for h in (step, -step))
            slope = (score * direction).flatten(1).sum(1)
            torch.testing.assert_close((ahead - behind) / (2 * step), slope, rtol=1e-5, atol=1e-5)


@dense
def test_the_density_is_that_of_the_flow(name):
    """d/dt log p = -div u - <u, score>: the velocity carries the density."""
    reference, step = field(name), 1e-5
    t, x = 0.5, states(points(), 0.5, rows=1)
    units = torch.eye(x.numel(), dtype=torch.float64).reshape(-1, *SHAPE)
    ahead, behind = (reference(x + h * units, t) for h in (step, -step))
    divergence = torch.einsum("kchw,kchw->", (ahead - behind) / (2 * step), units)
    growth = (reference.log_density(x, t + step) - reference.log_density(x, t - step)) / (2 * step)
    flow = -divergence - (reference(x, t) * reference.score(x, t)).sum()
    torch.testing.assert_close(growth[0], flow, rtol=1e-5, atol=1e-4)


@every
def test_states_times_and_labels_are_taken_row_by_row(name):
    reference = field(name)
    t = torch.tensor([0.0, 0.3, 0.9, 0.3], dtype=torch.float64)
    x, y = states(points(), t.numpy()), torch.tensor([0, 1, 1, 0])
    for own in (None, y):
        together = reference(x, t, own)
        rows = [reference(x[k : k + 1], float(t[k]), None if own is None else int(own[k])) for k in range(4)]
        torch.testing.assert_close(together, torch.cat(rows), rtol=1e-9, atol=1e-9)


@every
def test_a_label_is_the_reference_of_its_points(name):
    if name == "Wiener":
        assert torch.equal(field(name)(points(), 0.5, 1), field(name)(points(), 0.5))  # labels change nothing
        return
    chosen = labels() == 1
    alone = MAKE[name](fs.TrainingSet(points()[chosen], labels()[chosen]))
    t = 0.6 if name != "usual patches" else 0.999  # where the sides are one for both
    x = states(points(), t)
    torch.testing.assert_close(field(name)(x, t, 1), alone(x, t), rtol=1e-6, atol=1e-6)


@every
def test_weights_are_repeats_and_the_order_does_not_matter(name):
    counts = np.arange(COUNT) % 3 + 1
    repeated, shuffle = np.repeat(np.arange(COUNT), counts), np.random.default_rng(0).permutation(COUNT)
    sets = [
        fs.TrainingSet(points()[of], labels()[of], w)
        for of, w in ((slice(None), counts), (repeated, None), (shuffle, counts[shuffle]))
    ]
    x = states(points(), 0.7)
    first, *others = (MAKE[name](s) for s in sets)
    for y in (None, 1):
        for other in others:
            torch.testing.assert_close(other(x, 0.7, y), first(x, 0.7, y), rtol=1e-7, atol=1e-7)


@every
def test_the_budget_does_not_change_the_answer(name):
    data = fs.TrainingSet(points(), labels())
    x = states(points(), 0.6, rows=9)
    torch.testing.assert_close(MAKE[name](data, memory=24_000)(x, 0.6), field(name)(x, 0.6), rtol=1e-9, atol=1e-9)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_the_dtype_of_x_comes_out(name, dtype):
    x = states(points(), 0.5, dtype=dtype)
    u = field(name)(x, 0.5)
    assert u.dtype == dtype
    room = 4 * torch.finfo(dtype).eps * float(u.abs().max()) + 1e-6
    assert float((u.double() - field(name)(x.double(), 0.5)).abs().max()) < room


@every
def test_small_steps_in_x_and_t_make_small_changes(name):
    reference, x, t = field(name), states(points(), 0.5), 0.5
    u = reference(x, t)
    for other in (reference(x + 1e-7, t), reference(x, t + 1e-7)):
        assert float((other - u).abs().max()) < 1e-4


@names(*(name for name in MAKE if name not in ("mixture", "blurred")))
def test_near_the_data_it_stays_on_them(name):
    """At a training image with next to no noise it is returned, where data have no width in all directions."""
    image, t = points()[3:4].double(), 1 - 1e-6
    data = field(name).denoise(t * image, t, 1)
    torch.testing.assert_close(data, image, rtol=1e-4, atol=1e-4)


@every
def test_velocities_stay_finite_to_the_end(name):
    t = torch.tensor([0.999, 1 - 1e-6, 1 - 1e-9, 1 - 1e-12], dtype=torch.float64)
    assert bool(torch.isfinite(field(name)(states(points(), 0.5), t)).all())


@every
def test_the_end_and_what_is_no_state_are_refused(name):
    with pytest.raises(InputError, match=r"t is 1.0; expected 0 <= t < 1"):
        field(name)(cloud(2, SHAPE), 1.0)
    with pytest.raises(InputError, match=r"x has shape \(2, 3\)"):
        field(name)(cloud(2, (3,)), 0.5)
    if name != "Wiener":  # for which labels change nothing
        with pytest.raises(InputError, match="no point has label 7"):
            field(name)(cloud(2, SHAPE), 0.5, 7)


@every
def test_it_is_used_as_any_field(name):
    reference, oracle = field(name), fs.Oracle(fs.TrainingSet(points(), labels()))
    assert isinstance(reference, fs.VelocityField)
    assert label_count(reference) == (0 if name == "Wiener" else 2) and shape_of(reference) == SHAPE
    x0, y = cloud(3, SHAPE, seed=4), torch.tensor([0, 1, 1])
    ours = fs.sample(reference, x0, steps=4, y=y, solver="euler")
    x, nodes = x0.double(), np.linspace(0, 1, 5)
    for start, end in itertools.pairwise(nodes.tolist()):
        x = x + (end - start) * reference(x, start, y)
    torch.testing.assert_close(ours.double(), x, rtol=1e-4, atol=1e-4)
    late = fs.switch(oracle, reference, 0.5)
    assert torch.equal(late(x, 0.6, y), reference(x, 0.6, y)) and torch.equal(late(x, 0.4, y), oracle(x, 0.4, y))
    guided = fs.guide(oracle, 2.0, null=reference, null_labels=False)
    torch.testing.assert_close(guided(x, 0.6, y), 2 * oracle(x, 0.6, y) - reference(x, 0.6))
    with pytest.raises(InputError, match="path"):
        fs.switch(reference, fs.Oracle(points(), "vp"), 0.5)


@every
def test_a_path_of_ones_own(name):
    """Squared time: alpha = t^2, sigma = 1 - t^2 is the linear path on another clock."""
    squared = fs.Path("squared", lambda t: (t**2, 1 - t**2, 2 * t, -2 * t), lambda r: (r**0.5 / (1 + r**0.5)) ** 0.5)
    own, x = MAKE[name](fs.TrainingSet(points(), labels()), squared), states(points(), 0.49)
    torch.testing.assert_close(own.denoise(x, 0.7), field(name).denoise(x, 0.7**2), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(own(x, 0.7), 2 * 0.7 * field(name)(x, 0.7**2), rtol=1e-7, atol=1e-7)


@names("Wiener", "mixture", "local", "tempered")
def test_points_in_a_file_are_read_from_there(name, tmp_path):
    np.save(tmp_path / "points.npy", points().numpy())
    stored = fs.load(tmp_path / "points.npy")
    x = states(points(), 0.6)
    torch.testing.assert_close(MAKE[name](stored)(x, 0.6), field(name)(x, 0.6), rtol=1e-6, atol=1e-6)

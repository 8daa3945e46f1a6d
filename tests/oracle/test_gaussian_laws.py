"""Laws of data N(m_i, s_i^2): all quantities against the reference at every t in [0, 1], limits, what is refused."""

import numpy as np
import pytest
import torch

from flowscope import Oracle, TrainingSet
from flowscope.errors import InputError, NumericalError
from flowscope.paths import linear, widen
from flowscope.sampling import sample
from tests.reference import alpha_sigma, gaussian_oracles
from tests.support.cases import PATHS, cloud, expected, flat, states, velocity_error
from tests.support.engines import small_oracle
from tests.support.laws import DEVIATIONS, gaussian_states

TIMES = (0.0, 1e-3, 0.3, 0.7, 0.99, 1 - 1e-9, 1.0)
POINTS = cloud(9, (2, 3), dtype=torch.float64)


@pytest.mark.slow_but("linear-*", "vp-shared")
@pytest.mark.parametrize("kind", DEVIATIONS)
@pytest.mark.parametrize("path", PATHS)
def test_every_quantity_equals_the_reference_at_every_time(path, kind):
    s, weights = DEVIATIONS[kind](POINTS), np.arange(1.0, 10.0)
    oracle = Oracle(TrainingSet(POINTS, weights=weights, deviations=s), path)
    for t in TIMES:
        x = gaussian_states(POINTS, s, t, path, rows=4)
        answer = gaussian_oracles(flat(POINTS), flat(torch.as_tensor(s).expand_as(POINTS)), flat(x), t, path, weights)
        found = oracle.posterior(x, t, k=9)
        error = np.linalg.norm(flat(oracle.velocity(x, t)) - answer.velocity, axis=1)
        assert (error <= 1e-6 * answer.scale).all(), f"t = {t}"
        for name, ours in (
            ("mean", oracle.denoise(x, t)),
            ("mean", found.mean),
            ("noise", oracle.noise(x, t)),
            ("score", oracle.score(x, t)),
        ):
            size = 1 + np.abs(getattr(answer, name)).max()
            np.testing.assert_allclose(flat(ours), getattr(answer, name), rtol=0, atol=1e-7 * size, err_msg=name)
        np.testing.assert_allclose(oracle.log_density(x, t), answer.log_density, rtol=1e-7, atol=1e-7)
        np.testing.assert_allclose(oracle.divergence(x, t), answer.divergence, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(found.total_variance, answer.total_variance, rtol=1e-6, atol=1e-12)
        order = np.sort(answer.weights, axis=1)[:, ::-1]
        np.testing.assert_allclose(found.weights, order, rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", DEVIATIONS)
def test_the_divergence_is_the_trace_of_the_jacobian_and_the_score_a_gradient(kind):
    oracle = Oracle(TrainingSet(POINTS, deviations=DEVIATIONS[kind](POINTS)))
    x = POINTS[:2] * 0.9 + 0.1
    for t in (0.4, 1.0):
        steps = 1e-5 * torch.eye(6, dtype=torch.float64).reshape(6, 1, 2, 3)
        ahead, behind = (torch.stack([oracle.velocity(x + sign * step, t) for step in steps]) for sign in (1, -1))
        jacobian = ((ahead - behind) / 2e-5).flatten(2)
        np.testing.assert_allclose(oracle.divergence(x, t), torch.einsum("kbk->b", jacobian), rtol=1e-6, atol=1e-6)
        step = torch.zeros_like(x)
        step[:, 0, 1] = 1e-5
        slope = (oracle.log_density(x + step, t) - oracle.log_density(x - step, t)) / 2e-5
        np.testing.assert_allclose(slope, oracle.score(x, t)[:, 0, 1], rtol=1e-6, atol=1e-7)


@pytest.mark.slow_but("own")
@pytest.mark.parametrize("kind", DEVIATIONS)
def test_it_is_the_mean_over_sets_that_are_drawn_anew(kind):
    """The velocity of many sets of points that are drawn from the Gaussians, together, tends to this at t < 1."""
    points = cloud(3, (2,), dtype=torch.float64)
    s = torch.as_tensor(DEVIATIONS[kind](points)).expand_as(points)
    noise = torch.randn(40_000, 3, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    oracle, sampled = Oracle(TrainingSet(points, deviations=s)), Oracle((points + s * noise).flatten(0, 1))
    x = torch.tensor([[0.3, -0.2], [-0.5, 0.4]], dtype=torch.float64)
    for t in (0.2, 0.6):
        for name in ("velocity", "denoise", "log_density"):
            found, drawn = (getattr(one, name)(x, t) for one in (oracle, sampled))
            np.testing.assert_allclose(found, drawn, rtol=0, atol=0.03, err_msg=f"{name}, t = {t}")
        own, other = (one.posterior(x, t).total_variance for one in (oracle, sampled))
        np.testing.assert_allclose(own, other, rtol=0.05)


@pytest.mark.parametrize("kind", DEVIATIONS)
def test_small_deviations_are_points_at_fixed_times(kind):
    s = 1e-9 * torch.as_tensor(DEVIATIONS[kind](POINTS))
    data = TrainingSet(POINTS, deviations=float(s) if s.ndim == 0 else s)
    for t in (0.0, 0.4, 0.9):
        x = states(POINTS, t, rows=3)
        assert (velocity_error(Oracle(data).velocity(x, t), expected(POINTS, x, t)) < 1e-6).all()


@pytest.mark.slow_but("linear")
@pytest.mark.parametrize("path", PATHS)
def test_one_gaussian_is_known(path):
    """E[x1|x] of N(m, s^2) is linear in x, and at t = 1 the data are the state."""
    m, s = torch.tensor([[1.0, -2.0]], dtype=torch.float64), torch.tensor([[0.5, 2.0]], dtype=torch.float64)
    oracle, x = Oracle(TrainingSet(m, deviations=s), path), torch.tensor([[0.3, 0.7]], dtype=torch.float64)
    for t in (0.1, 0.6, 1.0):
        alpha, sigma = map(float, alpha_sigma(path, t))
        share = alpha * s**2 / (alpha**2 * s**2 + sigma**2)
        torch.testing.assert_close(oracle.denoise(x, t), m + share * (x - alpha * m), rtol=1e-9, atol=1e-9)
        assert oracle.posterior(x, t).weights.item() == 1
    torch.testing.assert_close(oracle.denoise(x, 1.0), x / alpha - sigma * oracle.noise(x, 1.0) / alpha)


def test_deviations_that_are_all_one_number_are_that_number():
    shared = TrainingSet(POINTS, deviations=0.25)
    array = TrainingSet(POINTS, deviations=np.full(POINTS.shape, 0.25, np.float32))
    assert array.deviations == 0.25 and array.digest == shared.digest != TrainingSet(POINTS).digest
    nearly = np.full(POINTS.shape, 0.25)
    nearly[0, 0, 0] *= 1 + 1e-15
    x = cloud(4, (2, 3), seed=5, dtype=torch.float64)
    for t in (0.0, 0.5, 1.0):  # two forms of one law
        for name in ("velocity", "score", "log_density", "divergence"):
            one, other = (getattr(Oracle(d), name)(x, t) for d in (shared, TrainingSet(POINTS, deviations=nearly)))
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_the_certificate_of_a_shared_deviation_holds():
    s = 0.2
    oracle = Oracle(TrainingSet(POINTS, deviations=s))
    for t in (0.0, 0.5, 1.0):
        x = gaussian_states(POINTS, s, t, rows=4)
        velocity, proof = oracle.certify(x, t)
        answer = gaussian_oracles(flat(POINTS), s, flat(x), t)
        assert (np.linalg.norm(flat(velocity) - answer.velocity, axis=1) <= proof.error.numpy()).all()
        assert float(proof.relative.max()) < 1e-6
    with pytest.raises(InputError, match="certificates are of points and of one"):
        Oracle(TrainingSet(POINTS, deviations=DEVIATIONS["own"](POINTS))).certify(x, 0.5)


@pytest.mark.parametrize("kind", DEVIATIONS)
def test_labels_and_conditions(kind):
    s, labels = DEVIATIONS[kind](POINTS), np.array([4] * 5 + [7] * 4)
    oracle, x = Oracle(TrainingSet(POINTS, labels, deviations=s)), gaussian_states(POINTS, s, 1.0, rows=3)
    every = torch.as_tensor(s).expand_as(POINTS)
    part = Oracle(TrainingSet(POINTS[5:], deviations=every[5:]))
    for t in (0.3, 1.0):
        found = oracle.conditions(x, t)
        torch.testing.assert_close(oracle.velocity(x, t, torch.full((3,), 7)), part.velocity(x, t))
        torch.testing.assert_close(found.velocity, oracle.velocity(x, t))
        torch.testing.assert_close(found.velocities[:, 1], part.velocity(x, t))
        chance = part.log_density(x, t) + np.log(4 / 9) - oracle.log_density(x, t)
        torch.testing.assert_close(found.probabilities[:, 1], chance.exp())
        restricted = oracle.restrict([5, 6, 7, 8])
        torch.testing.assert_close(restricted.velocity(x, t), part.velocity(x, t))


def test_points_that_differ_in_their_deviations_alone_are_two():
    points = POINTS[:1].repeat(3, 1, 1)
    s = torch.full_like(points, 0.1)
    s[2] = 0.2
    oracle = Oracle(TrainingSet(points, deviations=s))
    assert len(oracle.support.law()) == 2
    x = gaussian_states(points, s, 0.9, rows=3)
    answer = gaussian_oracles(flat(points), flat(s), flat(x), 0.9)
    np.testing.assert_allclose(flat(oracle.velocity(x, 0.9)), answer.velocity, rtol=1e-9)


def test_the_widened_path_of_the_formula():
    c = widen(linear, 0.5)(torch.tensor([0.0, 0.25, 1.0]))
    torch.testing.assert_close(c.sigma, torch.tensor([1.0, (0.75**2 + 0.125**2) ** 0.5, 0.5], dtype=torch.float64))
    snr = c.snr[1]
    torch.testing.assert_close(widen(linear, 0.5).time_of_snr(snr), torch.tensor(0.25, dtype=torch.float64))
    assert widen(linear, 0.5).time_of_snr(4.1).item() == np.inf  # beyond 1/s^2, which the path does not reach


def test_float32_states_of_a_shared_deviation_go_the_float32_way():
    data, hard = TrainingSet(POINTS.float(), deviations=0.1), []
    oracle = small_oracle(data, hard=hard)
    for t in (0.3, 0.9, 1.0):
        x = gaussian_states(POINTS, 0.1, t, rows=5).float()
        answer = gaussian_oracles(flat(POINTS.float()), 0.1, flat(x), t)
        error = np.linalg.norm(flat(oracle.velocity(x, t)) - answer.velocity, axis=1)
        assert (error < 1e-6 * answer.scale).all()
    assert len(hard) == 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (0.0, "deviations are 0.0; expected one number above 0"),
        (-0.1, "deviations are -0.1"),
        (float("nan"), "deviations are nan"),
        (True, "deviations have shape"),
        ("0.1", "deviations have shape"),
        (np.ones(9), r"expected one number above 0, or one for each coordinate .*\(9, 2, 3\)"),
        (np.ones((9, 2, 3), int), "dtype int64"),
        (np.where(np.arange(54).reshape(9, 2, 3) == 8, 0.0, 1.0), "deviations hold 0.0 at point 1"),
        (np.full((9, 2, 3), np.nan), "deviations hold nan at point 0"),
    ],
    ids=str,
)
def test_what_is_no_deviation_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        TrainingSet(POINTS, deviations=given)


def test_times_end_at_one_and_only_where_there_is_a_density():
    x = POINTS[:1]
    with pytest.raises(InputError, match="expected 0 <= t <= 1"):
        Oracle(TrainingSet(POINTS, deviations=0.1)).velocity(x, 1.0001)
    with pytest.raises(InputError, match="expected 0 <= t < 1"):
        Oracle(TrainingSet(POINTS)).velocity(x, 1.0)


def test_deviations_below_what_float64_can_tell_are_refused_and_not_wrong():
    s = np.ones((9, 2, 3))
    s[0] = 1e-14
    with pytest.raises(NumericalError, match="deviations go down to 1e-14"):
        Oracle(TrainingSet(POINTS, deviations=s)).score(POINTS[:1], 1.0)


@pytest.mark.slow_but("shared")
@pytest.mark.parametrize("kind", DEVIATIONS)
def test_samples_are_data_of_the_law(kind):
    """By short ways through the span of a small law, too: one Gaussian's flow is known, to its spread at the end."""
    points = cloud(1, (64,), seed=8, dtype=torch.float64)
    s = torch.as_tensor(DEVIATIONS[kind](points), dtype=torch.float64).expand_as(points)
    noise = torch.randn(5, 64, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ends = sample(Oracle(TrainingSet(points, deviations=s)), noise, steps=100, solver="heun")
    torch.testing.assert_close(ends, points + s * noise, rtol=0, atol=0.02)
    two = torch.cat([points, -points])
    law = Oracle(TrainingSet(two, deviations=s.expand_as(two)))
    near = sample(law, noise, steps=20)
    by_calls = sample(lambda x, t, y=None: law.velocity(x, t), noise, steps=20)
    torch.testing.assert_close(near, by_calls, rtol=1e-6, atol=1e-6)

"""What the contract tests share: training sets, states on a path, and how answers are compared."""

import functools
import random

import numpy as np
import torch

from tests.reference import coefficients, oracles

PATHS = ("linear", "cosine", "vp", "ve")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
TIMES = (0.0, 1e-3, 0.1, 0.3, 0.5, 0.9, 0.99, 0.999)


def flat(values):
    """(B, D) float64 numpy of a tensor (B, *shape)."""
    return torch.as_tensor(values).flatten(1).double().numpy()


def cloud(count, shape, seed=0, dtype=torch.float32, scale=1.0):
    """`count` Gaussian points (count, *shape)."""
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(count, *shape, generator=generator, dtype=torch.float64)).to(dtype)


def ladder(path):
    """Eight times at which signal-to-noise ratios on all paths go from next to nothing to collapse."""
    return TIMES if path != "ve" else (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.9, 0.999)


def states(points, t, path="linear", rows=4, seed=1, dtype=torch.float64):
    """States (rows, *shape) on the path of training points: alpha x1 + sigma x0; t a number or one for each row."""
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(len(points), (rows,), generator=generator)
    noise = torch.randn(rows, *points.shape[1:], generator=generator, dtype=torch.float64)
    t = np.broadcast_to(np.asarray(t, np.float64), rows)
    mix = torch.tensor([[float(c) for c in coefficients(path, float(s))[:2]] for s in t], dtype=torch.float64)
    alpha, sigma = (mix[:, i].reshape(-1, *[1] * (points.ndim - 1)) for i in (0, 1))
    return (alpha * points[which].double() + sigma * noise).to(dtype)


def velocity_error(velocity, answer):
    """Relative errors (B,) of velocities, against the size of the conditional velocity."""
    return np.linalg.norm(flat(velocity) - answer.velocity, axis=1) / answer.scale


def expected(points, x, t, path="linear", weights=None, exact=False):
    """The reference's answers at states x (B, *shape)."""
    given = [None if value is None else as_bytes(value) for value in (flat(points), flat(x), t, weights)]
    return _expected(*given, path, np.asarray(exact).tobytes(), np.shape(exact))


def as_bytes(value):
    """An array of numbers as what can be a key."""
    numbers = np.asarray(value, np.float64)
    return numbers.tobytes(), numbers.shape


@functools.lru_cache(maxsize=32)
def _expected(points, x, t, weights, path, exact, shape):
    """The same of bytes: the libraries, engines and budgets that answer one question are held to one reference."""
    given = (points, x, t, weights)
    points, x, t, weights = (None if v is None else np.frombuffer(v[0]).reshape(v[1]) for v in given)
    return oracles(points, x, t, path, weights, np.frombuffer(exact, bool).reshape(shape))


def same_posterior(a, b, tolerance=1e-6):
    """Two Posteriors agree: entries of weights absolutely, everything else relative to its own size.

    The error of the total variance is some 1e-15 of squared lengths, however small it is itself.
    """
    alive = b.weights > 1e-6  # points of no weight are in no order
    assert torch.equal(a.indices[alive], b.indices[alive])
    for name in ("weights", "mean", "entropy", "effective_size", "total_variance", "log_density"):
        one, two = getattr(a, name), getattr(b, name)
        least = max(1e-30, 1e-8 * float(b.mean.abs().max()) ** 2 if name == "total_variance" else 0.0)
        size = 1.0 if name in ("weights", "entropy") else max(least, float(two.abs().max()))
        assert float((one - two).abs().max()) <= tolerance * size, name


def process_state():
    """What a library must leave alone: global random states, threads, defaults, error settings."""
    return (
        random.getstate(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        torch.get_rng_state().tolist(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_grad_enabled(),
        np.geterr(),
    )

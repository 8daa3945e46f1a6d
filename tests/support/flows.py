"""Flows in closed form, and fields that keep a record of how they are asked: what the tests of sampling share."""

import math

import torch

from flowscope.paths import get_path

MEAN = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
SPREAD = torch.tensor([0.3, 1.0, 2.5], dtype=torch.float64)  # variances


class Gaussian:
    """u*(x, t) of data N(MEAN, diag SPREAD): linear in x, and so is its flow."""

    shape = (3,)

    def __init__(self, path="linear"):
        self.path = get_path(path)

    def _size(self, c):
        return c.alpha**2 * SPREAD + c.sigma**2

    def __call__(self, x, t, y=None):
        c = self.path(t)
        slope = (c.alpha * c.d_alpha * SPREAD + c.sigma * c.d_sigma) / self._size(c)
        return (c.d_alpha * MEAN + slope * (x - c.alpha * MEAN)).to(x.dtype)

    def data(self, x, t):
        """E[x1|x], the mean of x1 given x = alpha x1 + sigma x0."""
        c = self.path(t)
        return MEAN + c.alpha * SPREAD / self._size(c) * (x - c.alpha * MEAN)

    def flow(self, x, t, after):
        """The state at `after` of what is at x at t: each law N(alpha m, alpha^2 l + sigma^2) carried to the next."""
        c, d = self.path(t), self.path(after)
        return d.alpha * MEAN + (self._size(d) / self._size(c)).sqrt() * (x - c.alpha * MEAN)


class Pendulum:
    """u = g'(t) sin x with g = sin(3 t): not linear in x; its flow multiplies tan(x/2)."""

    def __call__(self, x, t, y=None):
        return 3 * math.cos(3 * t) * torch.sin(x)

    def flow(self, x, t, after):
        return 2 * torch.atan(torch.tan(x / 2) * math.exp(math.sin(3 * after) - math.sin(3 * t)))


class Recorder:
    """A field that notes every call: times, dtypes, labels."""

    def __init__(self, field):
        self.field, self.calls = field, []

    def __getattr__(self, name):
        return getattr(self.field, name)

    def __call__(self, x, t, y=None):
        self.calls.append((t, x, y))
        return self.field(x, t, y)

    @property
    def times(self):
        return [t for t, _, _ in self.calls]

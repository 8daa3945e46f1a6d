"""AnalyticGaussianVelocity of rectified-flow, on its straight path: x_t = t x_1 + (1 - t) x_0, as ours."""

import torch
from rectified_flow.flow_components.interpolation_solver import AffineInterp
from rectified_flow.models.gauss_analytic import AnalyticGaussianVelocity


class Rows(list):
    """The shape of a batch of points, which compares equal to the shape of one.

    The release gives its result the shape of a single point and so fails for more than one query; with this as its
    `data_shape` its check passes as before, and its result keeps the batch.
    """

    def __eq__(self, shape):
        return tuple(shape) == tuple(self[1:])

    __hash__ = None


def prepare(points):
    model = AnalyticGaussianVelocity(torch.from_numpy(points), AffineInterp("straight"))
    model.data_shape = Rows([-1, points.shape[1]])
    return lambda x, t: model(torch.from_numpy(x), torch.full((len(x),), t)).numpy()

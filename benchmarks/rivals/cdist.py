"""torch.cdist, softmax and a product. Distances of x/t, so that the points need no scaled copy."""

import torch


def prepare(points):
    X = torch.from_numpy(points)

    def velocity(x, t):
        x = torch.from_numpy(x)
        gamma = (torch.cdist(x / t, X) ** 2 * (-(t**2) / (2 * (1 - t) ** 2))).softmax(1)
        return ((gamma @ X - x) / (1 - t)).numpy()

    return velocity

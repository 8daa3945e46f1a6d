"""Expanded squares in float32 in one shot, with the points' squares computed once."""

import torch


def prepare(points):
    X = torch.from_numpy(points)
    half_squares = torch.linalg.vector_norm(X, dim=1) ** 2 / 2

    def velocity(x, t):
        x = torch.from_numpy(x)
        logits = (t * (x @ X.T) - t**2 * half_squares) / (1 - t) ** 2
        return ((logits.softmax(1) @ X - x) / (1 - t)).numpy()

    return velocity

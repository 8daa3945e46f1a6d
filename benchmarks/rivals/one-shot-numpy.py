"""Expanded squares in float32 in one shot by numpy, whose products are another library's than torch's."""

import numpy as np


def prepare(points):
    half_squares = np.einsum("nd,nd->n", points, points) / 2

    def velocity(x, t):
        logits = (t * (x @ points.T) - t**2 * half_squares) / np.float32((1 - t) ** 2)
        gamma = np.exp(logits - logits.max(1, keepdims=True))
        gamma /= gamma.sum(1, keepdims=True)
        return (gamma @ points - x) / (1 - t)

    return velocity

"""The slow local oracle: the posterior over patches straight from its definition, by loops, one state at a time."""

import math

import numpy as np

from tests.reference import coefficients


def square_apart(x, image, alpha, here, there, patch):
    """|x - alpha image|^2 over the patch about `here` in x and `there` in the image; None if the border differs."""
    before, after = (patch - 1) // 2, patch // 2
    total = 0.0
    for row in range(-before, after + 1):
        for column in range(-before, after + 1):
            inside = [0 <= i + row < x.shape[1] and 0 <= j + column < x.shape[2] for i, j in (here, there)]
            if inside[0] != inside[1]:
                return None
            if inside[0]:
                a = x[:, here[0] + row, here[1] + column]
                b = image[:, there[0] + row, there[1] + column]
                total += float(((a - alpha * b) ** 2).sum())
    return total


def local_mean(images, x, t, patch, path="linear", weights=None, equivariant=False):
    """E[x1|x] (C, H, W) of one state x (C, H, W) at time t, for images (N, C, H, W)."""
    alpha, sigma = (float(c) for c in coefficients(path, float(t))[:2])
    weights = np.ones(len(images)) if weights is None else weights
    pixels = [(i, j) for i in range(x.shape[1]) for j in range(x.shape[2])]
    out = np.empty_like(x)
    for here in pixels:
        logits, values = [], []
        for image, weight in zip(images, weights, strict=True):
            for there in pixels if equivariant else [here]:
                square = square_apart(x, image, alpha, here, there, patch)
                if square is not None:
                    logits.append(math.log(weight) - square / (2 * sigma**2))
                    values.append(image[:, there[0], there[1]])
        gamma = np.exp(np.array(logits) - max(logits))
        out[:, here[0], here[1]] = gamma @ np.array(values) / gamma.sum()
    return out

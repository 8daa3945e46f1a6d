"""A loop over queries, each by direct differences: the definition, in torch."""

import torch

QUERIES = 4  # at most so many are run, and the time scaled to all of them: each query costs the same


def prepare(points):
    X = torch.from_numpy(points)

    def velocity(x, t):
        x = torch.from_numpy(x)
        means = [((-((q - t * X) ** 2).sum(1) / (2 * (1 - t) ** 2)).softmax(0)) @ X for q in x]
        return ((torch.stack(means) - x) / (1 - t)).numpy()

    return velocity

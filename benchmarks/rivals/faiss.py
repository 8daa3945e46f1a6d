"""FAISS: the exact k nearest points, then softmax over those k alone. What the others weigh is left out."""

import faiss
import numpy as np

K = 64


def prepare(points):
    index = faiss.IndexFlatL2(points.shape[1])
    index.add(points)

    def velocity(x, t):
        distances, nearest = index.search(x / np.float32(t), min(K, len(points)))
        logits = distances * np.float32(-(t**2) / (2 * (1 - t) ** 2))
        gamma = np.exp(logits - logits.max(1, keepdims=True))
        gamma /= gamma.sum(1, keepdims=True)
        return (np.einsum("bk,bkd->bd", gamma, points[nearest]) - x) / np.float32(1 - t)

    return velocity

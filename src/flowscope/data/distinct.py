"""find_distinct: the distinct points of a set, and which of them each point is a copy of."""

import hashlib

import numpy as np
import torch

from flowscope.data.training_set import TrainingSet

PASS_BYTES = 16 << 20  # float64 bytes of points looked at at a time, at most


def find_distinct(training_set: TrainingSet, rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Find the distinct points; points are told apart by a hash of 128 bits.

    Args:
        training_set: whose points they are; -0 and +0 are equal.
        rows: points that are looked at at a time; None for a few megabytes of them.

    Returns:
        (G,) the position of each distinct point's first copy, ascending, and (N,) which of them each point is.
    """
    keys = training_set.statistics.keys
    rows = max(1, PASS_BYTES // (8 * training_set.dimension)) if rows is None else rows
    names = np.zeros((len(keys), 2), np.int64)
    names[:, 0] = keys
    order = np.argsort(keys, kind="stable")
    equal = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    shared = np.sort(np.unique(np.concatenate([order[equal], order[equal + 1]])))
    for start in range(0, len(shared), rows):
        which = shared[start : start + rows]
        flat = training_set.rows(which).flatten(1).cpu()
        if training_set.own_deviations:  # points are told apart by them, too
            flat = torch.cat([flat, training_set.deviation_rows(which).flatten(1).cpu()], 1)
        raw = (flat + 0.0).contiguous().view(torch.uint8).numpy()  # + 0.0 makes one zero of -0 and +0
        for position, row in zip(which.tolist(), raw, strict=True):
            names[position] = np.frombuffer(hashlib.blake2b(row.data, digest_size=16).digest(), np.int64)
    _, first, group = np.unique(names.view("V16")[:, 0], return_index=True, return_inverse=True)
    order = np.argsort(first)  # by position, not by hash
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[group.reshape(-1)]

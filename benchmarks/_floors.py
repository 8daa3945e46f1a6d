"""What no contender can go below: the best rate of a float32 product at hand, and the rate at which memory is read.

Run as a script it measures once and prints JSON; the suite runs it several times between the contenders and takes the
best. Products are timed for both libraries and both orientations, on a block of points with B queries.
"""

import json
import sys
import time

import numpy as np
import torch

QUICK = {"rows": 2048, "dimension": 768, "batch": 64, "least": 0.05, "size": 2**26}
WHOLE = {"rows": 8192, "dimension": 3072, "batch": 256, "least": 1.0, "size": 2**29}


def best(call, work, least):
    """The highest work per second over calls that take `least` seconds in all."""
    call()
    rate, began = 0.0, time.perf_counter()
    while time.perf_counter() - began < least:
        start = time.perf_counter()
        call()
        rate = max(rate, work / (time.perf_counter() - start))
    return rate


def products(rows, dimension, batch, least):
    """Multiply-adds count twice. Keys: library and which operand comes first."""
    generator = np.random.default_rng(0)
    X, x, w = (generator.standard_normal(s, np.float32) for s in ((rows, dimension), (batch, dimension), (batch, rows)))
    work, found = 2 * rows * dimension * batch, {}
    for library, (P, q, g) in {"numpy": (X, x, w), "torch": tuple(map(torch.from_numpy, (X, x, w)))}.items():
        calls = {
            "logits, queries first": lambda q=q, P=P: q @ P.T,
            "logits, points first": lambda q=q, P=P: P @ q.T,
            "means, weights first": lambda g=g, P=P: g @ P,
            "means, points first": lambda g=g, P=P: P.T @ g.T,
        }
        found |= {f"{library}: {name}": best(call, work, least) for name, call in calls.items()}
    return found


def reads(size, least):
    """Bytes per second, by reductions that read every number once; `size` is far beyond the caches."""
    held = np.ones(size // 4, np.float32)
    tensor, ones = torch.from_numpy(held), torch.ones(4096)
    matrix = tensor[: len(held) // 4096 * 4096].reshape(-1, 4096)
    calls = {
        "torch: sum": tensor.sum,
        "torch: largest": tensor.max,
        "torch: matrix by vector": lambda: matrix @ ones,
        "numpy: sum": held.sum,
        "numpy: matrix by vector": lambda: matrix.numpy() @ ones.numpy(),
    }
    return {name: best(call, held.nbytes, least) for name, call in calls.items()}


def measure(rows, dimension, batch, least, size):
    """Rates of products and of reads, as above."""
    return {"products": products(rows, dimension, batch, least), "reads": reads(size, least)}


def main():
    print(json.dumps(measure(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()

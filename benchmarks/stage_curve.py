"""What the one-pass stage curve costs: against one timestep, against separate evaluations, and as T, N and D grow.

Three questions, each a ratio taken in one run:

1. 64 timesteps against 1, at D = 3072: goal at most 3.
2. 64 separate posterior evaluations at the same probes against the one pass: goal at least 10, everywhere.
3. growth with timesteps, N and D, each alone.

Data are synthetic: unit Gaussians are the hardest case for dropping pairs early, clusters the usual one. On both sides
the probes are drawn and the posterior's statistics taken; the bootstrap and the prediction of `stages` are left out.
"""

from functools import partial

import torch

import flowscope as fs
from _harness import interleave, save, table
from flowscope.oracle.budget import plan
from flowscope.oracle.pairs import PathSums, add_blocks
from flowscope.oracle.probes import draw
from flowscope.studies.measure import make_nodes

PROBES = 256


def one_pass(oracle: fs.Oracle, timesteps: int):
    """The posterior's statistics at all nodes, as `stages` measures them."""
    t = torch.arange(timesteps, dtype=torch.float64).numpy() / timesteps
    law = oracle.support.law()
    nodes = make_nodes(oracle.path, t, law.mean_square, law.entropy)
    sizes = plan(oracle.memory, PROBES, len(law), law.support.dimension)
    sums = PathSums.of_source(PROBES, len(nodes.r), oracle.device)
    for _ in add_blocks(sums, law, draw(law, range(PROBES), 0), torch.as_tensor(nodes.r), sizes):
        pass
    return sums.trace, sums.first / sums.mass, sums.entropy, sums.effective_size


def separate(oracle: fs.Oracle, timesteps: int) -> None:
    """The same probes, one posterior evaluation a timestep."""
    law = oracle.support.law()
    probes = draw(law, range(PROBES), 0)
    x1 = probes.points + oracle.support.centre
    for k in range(timesteps):
        t = k / timesteps
        x = (t * x1 + (1 - t) * probes.noise).reshape(PROBES, *oracle.training_set.shape)
        oracle.posterior(x, t, k=2)


def oracle_of(n: int, d: int, kind: str) -> fs.Oracle:
    spec = f"gaussian:N={n},D={d}" if kind == "gaussian" else f"mixture:N={n},D={d},modes=20,spread=0.5"
    return fs.Oracle(fs.load(spec))


def main() -> None:
    rows, found = [], []
    for n, d, kind in (
        (1797, 64, "mixture"),
        (10000, 64, "gaussian"),
        (10000, 784, "mixture"),
        (5000, 3072, "gaussian"),
    ):
        oracle = oracle_of(n, d, kind)
        calls = {
            "one": partial(one_pass, oracle, 1),
            "64": partial(one_pass, oracle, 64),
            "separate 8": partial(separate, oracle, 8),
        }
        s = interleave(calls, 3)
        row = (kind, n, d, s["64"], s["64"] / s["one"], 8 * s["separate 8"] / s["64"])
        rows.append(row)
        found.append(dict(zip(("data", "N", "D", "seconds", "over_one", "separate_over"), row, strict=True)))
    columns = ("data", "N", "D", "64 timesteps, s", "over 1 timestep", "64 separate evaluations over it")
    table(f"The stage curve, {PROBES} probes (separate evaluations: 8 timed, times 8)", columns, rows)
    last = oracle_of(5000, 3072, "gaussian")
    sized = {
        "timesteps": {k: partial(one_pass, last, k) for k in (1, 4, 16, 64, 256)},
        "N": {n: partial(one_pass, oracle_of(n, 784, "mixture"), 64) for n in (1250, 2500, 5000, 10000)},
        "D": {d: partial(one_pass, oracle_of(5000, d, "mixture"), 64) for d in (48, 192, 768, 3072)},
    }
    growth = {name: list(interleave(calls, 3).items()) for name, calls in sized.items()}
    for name, points in growth.items():
        first = points[0][1]
        table(f"Growth with {name}", (name, "seconds", "over the first"), [(k, s, s / first) for k, s in points])
    save("stage_curve", {"rows": found, "growth": growth, "budget": plan(2**29, PROBES, 10000, 784)._asdict()})


if __name__ == "__main__":
    main()

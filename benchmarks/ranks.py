"""What ranks gain: two single-thread ranks against one, and from measured times what many would reach.

    python benchmarks/ranks.py [--points N] [--dimension D] [--probes N] [--timesteps N] [--rounds N]

1. The pass over the points, with its bootstrap, on one rank and on two, in turn, in one run: the same two processes, of
   which the second waits while the first works alone. Goal: at least 1.8. Processor times stand beside: where two ranks
   take more than one in sum, they do work twice; where a rank takes longer than its processor time, the machine was
   doing something else.
2. The model of docs/distributed.md, with the time of a point and of everything that is not shared out as measured here:

       seconds = N census + fixed + N point / W + batches 2 ceil(log2 W) (latency + bytes / bandwidth)

   for 8, 64 and 512 ranks and 10^7 to 10^9 points. Latency and bandwidth are those of a network that is assumed, not of
   this machine's memory.
"""

import argparse
import math
import os
import socket
import statistics
import time
from datetime import timedelta
from functools import partial

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded, here and in the ranks

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as processes

import flowscope as fs
from _harness import save, table
from flowscope.curve.measure import Measurement, place_nodes
from flowscope.curve.measure import measure as follow
from flowscope.oracle import Oracle, Ranks
from flowscope.oracle.law import ClassLaw
from flowscope.paths import get_path

LATENCY, BANDWIDTH = (
    1e-3,
    1.25e9,
)  # assumed: seconds from host to host, gloo's rounds included; bytes a second (10 Gb/s)
KEPT = 64  # bytes of each point that every rank keeps: keys, norms, positions, probabilities
RANKS, POINTS = (8, 64, 512), (10**7, 10**8, 10**9)


def work(rank: int, port: int, asked: argparse.Namespace, answers) -> None:
    """One of two ranks: [wall-clock, processor time] of each round and contender go to `answers`."""
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2, timeout=timedelta(seconds=600))
    generator = torch.Generator().manual_seed(0)
    data = fs.TrainingSet(torch.randn(asked.points, asked.dimension, generator=generator))
    made = time.process_time()
    alone = Oracle(data)
    alone.support.law()
    data.digest  # noqa: B018 - computed once, on first use
    ready = time.process_time()
    curve = partial(fs.stages, alone, asked.timesteps, asked.probes)
    curve()
    whole = time.process_time()
    curve()
    whole = time.process_time() - whole
    law, path, memory = alone.support.law(), alone.path, alone.memory
    nodes = place_nodes(path, np.arange(asked.timesteps) / asked.timesteps, law.mean_square, law.entropy)
    with Ranks(timeout=600) as ranks:
        contenders = {"one": None, "two": ranks}
        for round_ in range(asked.rounds + 1):  # the first is a warm-up
            for name, over in contenders.items():
                ranks.meet()
                wall, own = time.perf_counter(), time.process_time()
                if name == "two" or rank == 0:
                    what = Measurement(path, nodes, asked.probes, 0, memory, "torch", ranks=over)
                    follow(what, ClassLaw(1.0, None, law), lambda at: None)
                own, wall = time.process_time() - own, time.perf_counter() - wall
                ranks.meet()
                if round_:
                    answers.put((rank, name, wall, own))
    if rank == 0:
        answers.put((0, "census", ready - made, whole))


def collect(asked: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answers = processes.get_context("spawn").SimpleQueue()
    job = processes.spawn(work, (port, asked, answers), nprocs=2, join=False)
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(4 * asked.rounds + 1):
        rank, name, wall, own = answers.get()
        found.setdefault(f"{name} {rank}", []).append((wall, own))
    job.join()
    return found


def model(per_point: float, statistics: float, fixed: float, message: float, batches: int) -> list[list[str]]:
    """A row for each number of points and ranks."""
    rows = []
    for points in POINTS:
        for size in RANKS:
            shared = points * per_point / size
            talk = batches * 2 * math.ceil(math.log2(size)) * (LATENCY + message / BANDWIDTH)
            total = points * statistics + fixed + shared + talk
            gain = (points * (statistics + per_point) + fixed) / total
            pass_gain = points * per_point / (shared + talk)
            row = f"{points:.0e}", size, round(shared, 1), round(talk, 2), round(pass_gain, 1)
            rows.append([*row, round(points * statistics), round(total), round(gain, 1), f"{points * KEPT / 1e9:g} GB"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("points", 50_000), ("dimension", 768), ("probes", 256), ("timesteps", 64), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    found = collect(asked)
    wall = {name: statistics.median(row[0] for row in rows) for name, rows in found.items()}
    own = {name: statistics.median(row[1] for row in rows) for name, rows in found.items()}
    gain = wall["one 0"] / wall["two 0"]
    by_processor = own["one 0"] / max(own["two 0"], own["two 1"])
    table(
        f"N={asked.points}, D={asked.dimension}, {asked.probes} probes, {asked.timesteps} timesteps; one thread a rank",
        ["", "seconds", "processor seconds of rank 0", "of rank 1"],
        [
            ["one rank", wall["one 0"], own["one 0"], "-"],
            ["two ranks", wall["two 0"], own["two 0"], own["two 1"]],
            ["gain (goal 1.8)", round(gain, 2), round(by_processor, 2), ""],
        ],
    )
    per_point, census = own["one 0"] / asked.points, wall["census 0"] / asked.points
    fixed = max(own["census 0"] - own["one 0"], 0.0)  # of a whole curve: the prediction
    times = np.arange(asked.timesteps) / asked.timesteps
    nodes = len(place_nodes(get_path("linear"), times, float(asked.dimension), math.log(asked.points)).r)
    message = 48.0 * asked.probes * nodes  # six sums of 8 bytes
    rows = model(per_point, census, fixed, message, 1)
    columns = ["points", "ranks", "pass, s", "messages, s", "gain of the pass", "census, s", "all, s", "gain", "kept"]
    table(
        f"Model: {1e6 * per_point:.2f} us a point in the pass and {1e6 * census:.2f} in the census, {fixed:.1f} s "
        f"fixed, messages of {message / 1e6:.1f} MB",
        columns,
        rows,
    )
    save("ranks", {"seconds": wall, "processor": own, "gain": gain, "by_processor": by_processor, "model": rows})


if __name__ == "__main__":
    main()

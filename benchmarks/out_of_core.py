"""Points that do not fit: 1.28 million x 4,096 fp16 numbers in files (10.5 GB, ImageNet's latent size), under 2 GB.

    python benchmarks/out_of_core.py [FOLDER] [--points 1280000] [--memory 512MB]

writes the points into FOLDER once (a mixture of 1,000 Gaussians, seeded, in four safetensors shards) and measures

1. the whole stage curve, 64 timesteps and 256 probes, from opening the files to the result: at most 2.5 times
   max(read floor, product floor);
2. the oracle at 64 queries: at most 1.5 times max(read floor, product floor) of its own;
3. peak resident memory of both at a quarter, a half (of the oracle alone) and all of the points: flat.

Floors are measured on the spot: reading all files once with nothing in the system's cache, and 4 N D B operations at
the best float32 rate of the libraries at hand. Each measurement is a process of its own, so that its peak memory is its
own; the cache is emptied of the files before each.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

import flowscope as fs
from _harness import save, table

DIMENSION, SHARDS, MODES, PROBES, QUERIES, TIMESTEPS = 4096, 4, 1000, 256, 64, 64
ROWS = 4096  # written at a time


def write_points(folder: Path, count: int) -> list[Path]:
    """The shards, written where they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    centres = 0.6 * torch.randn(MODES, DIMENSION, generator=torch.Generator().manual_seed(0))
    paths, each = [], count // SHARDS
    for k in range(SHARDS):
        path = folder / f"points-{k + 1:05}-of-{SHARDS:05}.safetensors"
        paths.append(path)
        entry = {"latents": {"dtype": "F16", "shape": [each, DIMENSION], "data_offsets": [0, 2 * each * DIMENSION]}}
        head = json.dumps(entry).encode()
        head += b" " * (-len(head) % 8)
        if path.exists() and path.stat().st_size == 8 + len(head) + 2 * each * DIMENSION:
            continue
        generator = torch.Generator().manual_seed(1 + k)
        with path.open("wb") as stream:
            stream.write(len(head).to_bytes(8, "little") + head)
            for start in range(0, each, ROWS):
                n = min(ROWS, each - start)
                mode = torch.randint(MODES, (n,), generator=generator)
                x = torch.randn(n, DIMENSION, generator=generator).mul_(0.8).add_(centres[mode])
                stream.write(x.to(torch.float16).numpy().data)
            stream.flush()
            os.fsync(stream.fileno())
    return paths


def part_of(folder: Path, paths: list[Path], shards: int) -> Path:
    """A folder with the first shards alone, without a copy."""
    part = folder / f"first-{shards}"
    part.mkdir(exist_ok=True)
    for k, path in enumerate(paths[:shards]):
        link = part / f"points-{k + 1:05}-of-{shards:05}.safetensors"
        if not link.exists():
            os.link(path, link)
    return part


def forget(paths: list[Path]) -> None:
    """Empty the system's cache of these files."""
    for path in paths:
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_floor(paths: list[Path]) -> float:
    """Seconds to read all bytes once, in order."""
    forget(paths)
    buffer, began = memoryview(bytearray(8 << 20)), time.perf_counter()
    for path in paths:
        with path.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass
    return time.perf_counter() - began


def product_rate(batch: int) -> float:
    """The best float32 operations a second of the libraries at hand, on `batch` queries."""
    a, b = torch.randn(batch, DIMENSION), torch.randn(1024, DIMENSION)
    best = 0.0
    for call in (lambda: a @ b.T, lambda: b @ a.T, lambda: np.dot(a.numpy(), b.numpy().T)):
        for _ in range(8):
            began = time.perf_counter()
            call()
            best = max(best, 2 * batch * 1024 * DIMENSION / (time.perf_counter() - began))
    return best


def peak_memory() -> int:
    """Peak resident bytes of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def tell(done: int, total: int, began: list[float], shown: list[float]) -> None:
    """A line with the time left, every five seconds."""
    now = time.perf_counter()
    if not began:
        began.append(now)
    if done == total or now - shown[0] > 5:
        shown[0] = now
        left = (now - began[0]) * (total / max(done, 1) - 1)
        print(f"  {done / total:6.1%}  about {left:.0f} s left", file=sys.stderr, flush=True)


def curve(folder: Path, memory: str) -> dict[str, float]:
    before, began = peak_memory(), time.perf_counter()
    oracle = fs.Oracle(fs.load(folder), memory=memory)
    ready = time.perf_counter()
    start: list[float] = []
    shown = [ready]
    found = fs.stages(oracle, TIMESTEPS, PROBES, progress=lambda done, total: tell(done, total, start, shown))
    ended = time.perf_counter()
    return {
        "seconds": ended - began,
        "open": ready - began,
        "stages": ended - ready,
        "peak": peak_memory(),
        "before": before,
        "half": found.half.t,
        "integral": found.information.integral,
        "integral_error": found.information.integral_error,
        "entropy": found.information.log_n,
    }


def oracle(folder: Path, memory: str) -> dict[str, float]:
    before = peak_memory()
    oracle = fs.Oracle(fs.load(folder), memory=memory)
    generator = torch.Generator().manual_seed(5)
    t = 0.1
    x = t * oracle.training_set.rows(np.arange(QUERIES)).float()
    x += (1 - t) * torch.randn(x.shape, generator=generator)
    forget(sorted(folder.glob("*.safetensors")))
    began = time.perf_counter()
    oracle(x, t)
    return {"seconds": time.perf_counter() - began, "peak": peak_memory(), "before": before}


def measure(kind: str, folder: Path, memory: str) -> dict[str, float]:
    """`curve` or `oracle` in a process of its own, with a cold cache."""
    forget(sorted(folder.glob("*.safetensors")))
    command = [sys.executable, __file__, str(folder), "--only", kind, "--memory", memory]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--points", type=int, default=1_280_000)
    parser.add_argument("--memory", default="512MB")
    parser.add_argument("--only", choices=("curve", "oracle"))
    asked = parser.parse_args()
    if asked.folder is None:
        print("left out: name a folder with 11 GB of room, python benchmarks/out_of_core.py FOLDER")
        return
    if asked.only:
        print(json.dumps({"curve": curve, "oracle": oracle}[asked.only](asked.folder, asked.memory)))
        return
    paths = write_points(asked.folder, asked.points)
    sizes: list[dict[str, float]] = []
    rows = []
    for shards in (1, 2, 4):
        part = part_of(asked.folder, paths, shards)
        n = asked.points * shards // SHARDS
        for kind, batch, goal in (("oracle", QUERIES, 1.5), ("curve", PROBES, 2.5)):
            if kind == "curve" and shards == 2:
                continue  # two sizes of the longest show as much
            read = read_floor(sorted(part.glob("*.safetensors")))
            rate = product_rate(batch if kind == "oracle" else 2 * batch)
            floor = max(read, 4 * n * DIMENSION * batch / rate)
            found = measure(kind, part, asked.memory)
            load = os.getloadavg()[0]
            row = {"kind": kind, "N": n, "read": read, "rate": rate, "floor": floor, "goal": goal, "load": load} | found
            sizes.append(row | {"ratio": found["seconds"] / floor})
            seconds, ratio, peak = found["seconds"], found["seconds"] / floor, found["peak"] / 1e6
            rows.append((kind, n, read, rate / 1e9, floor, seconds, ratio, goal, peak, load))
            save("out_of_core", {"memory": asked.memory, "dimension": DIMENSION, "rows": sizes})
    columns = ("what", "N", "read, s", "product, GFLOP/s", "floor, s", "seconds", "over the floor", "goal", "peak, MB")
    table(f"Points in files, D = {DIMENSION}, fp16, budget {asked.memory}", (*columns, "load"), rows)


if __name__ == "__main__":
    main()

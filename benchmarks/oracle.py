"""The oracle on a CPU at the size of CIFAR-10: `python benchmarks/oracle.py [PART ...] [--quick]`.

Ratios to the floor, to torch.cdist and to a one-shot float32 expansion, with errors against float64, at several batch
sizes and times, on queries from the path of training points and of held-out ones. The floor is max(4 N D B / rate,
bytes of the points / bandwidth), with rate the best float32 product at hand (torch and numpy, both ways round, of 256
queries) and bandwidth that of the fastest read, both measured in the same run before each batch size, of which the best
counts. Beside it stands what the faster library's two products of this very batch size take, measured in between.

Those are the part `floors`. `conditions` has every label's oracle from one pass against the unconditional one, `price`
what exactness costs, `skipping` what is gained by leaving out the second product for points whose weights vanish.

CIFAR-10 is looked for in the folder that FLOWSCOPE_DATA names (else ../shared/data); without it Gaussian points of the
same size are used, and the table says so.
"""

import copy
import math
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import _floors
import flowscope as fs
from _contenders import RIVALS
from _harness import interleave, save, table
from _worker import load_module
from flowscope.oracle.engines.accumulator import Float32Policy
from flowscope.oracle.engines.matmul import LIBRARIES, MatmulBackend
from flowscope.oracle.engines.select import Policies

DATA = Path(os.environ.get("FLOWSCOPE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
QUICK = "--quick" in sys.argv[1:]
BATCHES = (1, 16, 64, 256)
TIMES = (0.1, 0.3, 0.5, 0.9)


def images() -> tuple[str, Tensor, Tensor]:
    """Name, training points and held-out points, float32 (N, D)."""
    train, test = (DATA / f"cifar10_jpegbytes_{part}.npz" for part in ("train", "test"))
    count = 5000 if QUICK else 50000
    if not (train.exists() and test.exists()):
        generator = torch.Generator().manual_seed(0)
        return "gaussian", *(torch.randn(n, 3072, generator=generator) for n in (count, 1000))
    parts = (fs.load(str(file)).rows(slice(None)).flatten(1) for file in (train, test))
    points, held_out = (part.to(torch.float32).contiguous() for part in parts)
    return "CIFAR-10 (JPEG)", points[:count].clone(), held_out[:1000].clone()


def cdist(points: Tensor) -> Callable[[Tensor, float], Tensor]:
    """The suite's contender: distances, softmax, product."""
    velocity = load_module(RIVALS / "cdist.py").prepare(points.numpy())
    return lambda x, t: torch.from_numpy(velocity(x.numpy(), t))


def one_shot(points: Tensor, norms: Tensor, x: Tensor, t: float) -> Tensor:
    """Expanded squares, softmax, product."""
    logits = torch.addmm(norms, x, points.T, beta=-0.5 * (t / (1 - t)) ** 2, alpha=t / (1 - t) ** 2)
    return (torch.softmax(logits, 1) @ points - x) / (1 - t)


def rates() -> tuple[float, float]:
    """Operations a second of the fastest product, and bytes a second of the fastest read."""
    found = _floors.measure(**(_floors.QUICK if QUICK else {**_floors.WHOLE, "least": 0.5}))
    return max(found["products"].values()), max(found["reads"].values())


def pairs(points: Tensor, batch: int) -> dict[str, Any]:
    """The two products of a pass, by each library."""
    states, weights = torch.randn(batch, points.shape[1]), torch.rand(len(points), batch)

    def both(library: MatmulBackend) -> None:
        library.dots(points, states)
        library.sums(weights, points)

    return {f"products: {name}": partial(both, library) for name, library in LIBRARIES.items()}


def measure(name: str, points: Tensor, source: Tensor, oracle: fs.Oracle, batch: int) -> list[dict[str, Any]]:
    """Seconds and errors for each time."""
    generator = torch.Generator().manual_seed(batch)
    norms, by_cdist, rows = (points**2).sum(1), cdist(points), []
    for t in TIMES:
        chosen = torch.randint(len(source), (batch,), generator=generator)
        x = t * source[chosen] + (1 - t) * torch.randn(batch, points.shape[1], generator=generator)
        calls: dict[str, Any] = {"flowscope": partial(oracle, x, t), "one shot": partial(one_shot, points, norms, x, t)}
        if batch <= 16 or t == TIMES[0]:
            calls["cdist"] = partial(by_cdist, x, t)
        s = interleave(calls | pairs(points, batch), 3 if batch == 256 else 5)
        errors = relative_errors(oracle, x, t, {k: call() for k, call in calls.items()})
        rows.append({"queries": name, "B": batch, "t": t, "seconds": s, "errors": errors})
        print(rows[-1], flush=True)
    return rows


def relative_errors(oracle: fs.Oracle, x: Tensor, t: float, found: dict[str, Tensor]) -> dict[str, float]:
    """The largest velocity error of some rows against the float64 pass, relative to the conditional velocity's size."""
    few = x[:8].double()
    truth, trace = oracle(few, t), oracle.posterior(few, t).total_variance
    size = (truth.pow(2).sum(1) + trace / (1 - t) ** 2).sqrt()
    return {k: float(((v[:8].double() - truth).norm(dim=1) / size).max()) for k, v in found.items()}


def conditions(points: Tensor, held_out: Tensor) -> list[list[Any]]:
    """One pass for all labels, over the unconditional oracle's time, in float64 and in float32."""
    rows = []
    for labels in (10, 200):
        drawn = torch.randint(labels, (len(points),), generator=torch.Generator().manual_seed(labels))
        oracle = fs.Oracle(fs.TrainingSet(points, drawn))
        for t in (0.1, 0.5):
            x = t * held_out[:64] + (1 - t) * torch.randn(
                64, points.shape[1], generator=torch.Generator().manual_seed(0)
            )
            calls: dict[str, Any] = {}
            for dtype in (torch.float64, torch.float32):
                calls[f"one {dtype}"] = partial(oracle, x.to(dtype), t)
                calls[f"all {dtype}"] = partial(oracle.conditions, x.to(dtype), t)
            s = interleave(calls, 2)
            rows.append([labels, t, *(s[f"all {d}"] / s[f"one {d}"] for d in (torch.float64, torch.float32))])
            print(rows[-1], flush=True)
    return rows


def price(points: Tensor, held_out: Tensor, oracle: fs.Oracle) -> list[list[Any]]:
    """What exactness costs: the pass over itself without dominant points, and over the float64 pass."""

    bare = copy.copy(oracle)  # no point is dominant, and no state is done again
    bare.use(Policies(float32=Float32Policy(tolerance=math.inf, most=math.inf)))
    rows = []
    for batch in (64, 256):
        for t in (0.1, 0.2, 0.3, 0.5, 0.9):
            noise = torch.randn(batch, points.shape[1], generator=torch.Generator().manual_seed(batch))
            x = t * held_out[:batch] + (1 - t) * noise
            calls: dict[str, Any] = {"exact": partial(oracle, x, t), "bare": partial(bare, x, t)}
            if batch == 64:
                calls["float64"] = partial(oracle, x.double(), t)
            s = interleave(calls, 2)
            errors = relative_errors(oracle, x, t, {k: calls[k]() for k in ("exact", "bare")})
            rows.append([batch, t, s["exact"] / s["bare"], s["float64"] / s["exact"] if batch == 64 else None])
            rows[-1] += [errors["exact"], errors["bare"]]
            print(rows[-1], flush=True)
    return rows


def skipping(points: Tensor, held_out: Tensor, oracle: fs.Oracle) -> list[list[Any]]:
    """The pass with both products for every point, over the pass as it is."""

    whole = copy.copy(oracle)
    whole.use(Policies(float32=Float32Policy(gathered=0.0)))
    rows = []
    for batch in (1, 16, 64, 256):
        for t in (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9):
            noise = torch.randn(batch, points.shape[1], generator=torch.Generator().manual_seed(batch))
            x = t * held_out[:batch] + (1 - t) * noise
            s = interleave({"skips": partial(oracle, x, t), "whole": partial(whole, x, t)}, 3 if batch == 256 else 5)
            rows.append([batch, t, s["whole"] / s["skips"]])
            print(rows[-1], flush=True)
    return rows


def floors_and_rivals(points: Tensor, held_out: Tensor, oracle: fs.Oracle) -> list[list[Any]]:
    """The oracle over the floor and beside rivals, on queries of both kinds."""
    found, known = [], []
    for batch in BATCHES:
        known.append(rates())
        found += measure("train", points, points, oracle, batch)
        found += measure("held out", points, held_out, oracle, batch)
    rate, bandwidth = map(max, zip(*known, strict=True))
    shown = ", ".join(f"{a / 1e9:.0f} GFLOP/s and {b / 1e9:.0f} GB/s" for a, b in known)
    print(f"Rates before each batch size: {shown}")
    return [over_floor(row, points, rate, bandwidth) for row in found]


def over_floor(row: dict[str, Any], points: Tensor, rate: float, bandwidth: float) -> list[Any]:
    """A row of the table."""
    s, errors = row["seconds"], row["errors"]
    floor = max(4 * points.numel() * row["B"] / rate, points.numel() * points.element_size() / bandwidth)
    alone = min(seconds for name, seconds in s.items() if name.startswith("products"))
    ratios = [s[k] / s["flowscope"] if k in s else None for k in ("cdist", "one shot")]
    about = [row["queries"], row["B"], row["t"], 1e3 * floor, s["flowscope"] / floor, s["flowscope"] / alone]
    return [*about, *ratios, *(errors.get(k) for k in ("flowscope", "cdist", "one shot"))]


FLOORS = ["queries", "B", "t", "floor, ms", "over the floor", "over its two products", "cdist over it"]
FLOORS += ["one shot over it", "error", "error of cdist", "error of one shot"]
PARTS: dict[str, tuple[str, Any, list[str]]] = {  # title, function of (points, held-out points, oracle), columns
    "floors": (
        "Over the floor and beside rivals",
        floors_and_rivals,
        FLOORS,
    ),
    "conditions": (
        "Every label's oracle, the whole and p(y | x) from one pass, B = 64",
        lambda points, held_out, oracle: conditions(points, held_out),
        ["labels", "t", "all labels over one, float64", "float32"],
    ),
    "price": (
        "The price of exactness, held-out queries",
        price,
        [
            "B",
            "t",
            "time over that without dominant points",
            "float64 pass over it",
            "error",
            "error without dominant points",
        ],
    ),
    "skipping": (
        "The second product left out where weights vanish, held-out queries",
        skipping,
        ["B", "t", "both products for all points, over it"],
    ),
}


def main() -> None:
    asked = [word for word in sys.argv[1:] if word in PARTS] or list(PARTS)
    name, points, held_out = images()
    oracle = fs.Oracle(points)
    for part in asked:
        title, run, columns = PARTS[part]
        rows = run(points, held_out, oracle)
        table(f"{title}: {name}, N = {len(points):,}, D = {points.shape[1]:,}", columns, rows)
        if not QUICK:
            save(f"oracle_{part}", {"data": name, "columns": columns, "rows": rows})


if __name__ == "__main__":
    main()

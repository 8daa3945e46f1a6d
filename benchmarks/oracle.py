"""The oracle beside the usual ways to write it: seconds as ratios, and the error of each against float64.

Rivals, all in float32 with torch: a loop over queries, torch.cdist with softmax and a product, and one-shot expanded
products. Ours computes in float64 and refines beyond it; the errors say what that buys. Points are on the path of a
training point.
"""

from functools import partial

import torch

import flowscope as fs
from _harness import interleave, save, table


def looped(X: torch.Tensor, x: torch.Tensor, t: float) -> torch.Tensor:
    out = [((-((q - t * X) ** 2).sum(1) / (2 * (1 - t) ** 2)).softmax(0)) @ X for q in x]
    return (torch.stack(out) - x) / (1 - t)


def by_cdist(X: torch.Tensor, x: torch.Tensor, t: float) -> torch.Tensor:
    gamma = (-(torch.cdist(x, t * X) ** 2) / (2 * (1 - t) ** 2)).softmax(1)
    return (gamma @ X - x) / (1 - t)


def one_shot(X: torch.Tensor, x: torch.Tensor, t: float) -> torch.Tensor:
    logits = (t * (x @ X.T) - t**2 * (X * X).sum(1) / 2) / (1 - t) ** 2
    return (logits.softmax(1) @ X - x) / (1 - t)


def truth(X: torch.Tensor, x: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The velocity, and the size of a conditional velocity, by float64 differences."""
    X, x = X.double(), x.double()
    D, size = torch.empty_like(x), torch.empty(len(x), dtype=torch.float64)
    for i, q in enumerate(x):
        gamma = (-((q - t * X) ** 2).sum(1) / (2 * (1 - t) ** 2)).softmax(0)
        D[i] = gamma @ X
        size[i] = (gamma @ ((X - q) ** 2).sum(1)).sqrt() / (1 - t)
    return (D - x) / (1 - t), size


def main() -> None:
    torch.manual_seed(0)
    rows, found = [], []
    for n, d, batch in ((10000, 784, 256), (10000, 784, 16), (20000, 3072, 64), (20000, 3072, 1)):
        X = torch.randn(n, d) * torch.linspace(1, 0.05, d)  # a falling spectrum, as images have
        ours = fs.Oracle(X)
        for t in (0.1, 0.5, 0.9, 0.99):
            x = t * X[:batch] + (1 - t) * torch.randn(batch, d)
            ways = {"flowscope": lambda _, x, t, ours=ours: ours(x, t), "cdist": by_cdist, "one shot": one_shot}
            if batch <= 16:
                ways["loop"] = looped
            calls = {name: partial(way, X, x, t) for name, way in ways.items()}
            s = interleave(calls, 3)
            u, size = truth(X, x[:16], t)
            error = {k: float(((f()[:16].double() - u).norm(dim=1) / size).max()) for k, f in calls.items()}
            base = s["flowscope"]
            for name in calls:
                rows.append((n, d, batch, t, name, s[name] / base, error[name]))
                found.append(dict(zip(("N", "D", "B", "t", "rival", "over_flowscope", "error"), rows[-1], strict=True)))
    columns = ("N", "D", "B", "t", "way", "time over flowscope's", "velocity error")
    table("One evaluation of the velocity", columns, rows)
    save("oracle", {"rows": found})


if __name__ == "__main__":
    main()

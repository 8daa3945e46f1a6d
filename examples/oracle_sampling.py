"""The oracle as a velocity field, integrated from noise to the data: python examples/oracle_sampling.py

A network that reached the minimum of its loss would be this field, and its samples would be training points. Each
Euler step moves x along u*(x, t). On the linear path a step from t to 1 lands on E[x1|x], so that the field is never
asked at t = 1.
"""

import itertools

import torch

import flowscope as fs

STEPS = 50

data = fs.load("digits")
oracle = fs.Oracle(data, path="linear")
x = torch.randn(8, *data.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
times = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64).tolist()

for now, after in itertools.pairwise(times):
    x = x + (after - now) * oracle(x, now)

points = torch.as_tensor(data.points, dtype=torch.float64)
distance, nearest = torch.cdist(x.flatten(1), points.flatten(1)).min(1)
for k, (far, index) in enumerate(zip(distance.tolist(), nearest.tolist(), strict=True)):
    print(f"sample {k}: training point {index}, a {data.labels[index]}, at distance {far:.1e}")
print(f"{STEPS} function evaluations; largest distance {float(distance.max()):.1e}")

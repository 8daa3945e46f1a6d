"""Two evaluations, one coarse and one fine: python examples/coarse_to_fine.py

Policies that must act quickly sample in two steps, as CF-VLA does for robot actions: nodes [0, t, 1]. The first step
goes along the mean velocity (coarse), the second lands on the predicted data (fine). Where should t lie? Before
navigation has ended the second step still averages over many points; long after it, all samples have gone one way
with the mean. Here is the end of navigation measured, tried as t, and compared with fifty steps from the same noise.
"""

import torch

import flowscope as fs
from flowscope.sampling import draw_noise, make_nodes, sample, trace

N = 128

data = fs.load("digits")
oracle = fs.Oracle(data)
half = fs.stages(oracle, timesteps=16, probes=64, seed=0).half
print(f"navigation ends at t = {half.t:.3f} (95 % interval {half.low:.3f} to {half.high:.3f})")

noise = draw_noise(N, data.shape, seed=0, dtype=torch.float64)
fifty = sample(oracle, noise, steps=50)
points = torch.as_tensor(data.points, dtype=torch.float64).flatten(1)

print("nodes            evaluations   distance to the samples of 50 steps   different digits")
for nodes in ([0, 1], [0, 0.1, 1], [0, half.t, 1], [0, 0.9, 1], make_nodes(50)):
    found = trace(oracle, oracle, noise, nodes)
    distance = float((found.x - fifty).square().mean().sqrt())
    different = len(set(torch.cdist(found.x.flatten(1), points).argmin(1).tolist()))
    name = "50 steps" if len(nodes) > 3 else "[" + ", ".join(f"{t:.3g}" for t in nodes) + "]"
    print(f"{name:<16} {found.nfe[-1]:>11} {distance:>37.3f} {different:>18}")

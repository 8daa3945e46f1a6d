"""The two stages of each class, for a network that is given the label: python examples/conditional_curves.py

To such a network every class is a training set of its own: fewer points, and less to choose from.
"""

import flowscope as fs

data = fs.load("digits")
together = fs.stages(data, timesteps=8, probes=128, seed=0)
by_class = fs.stages(data, timesteps=8, probes=64, seed=0, conditional=True)

print(f"without the label   half at t = {together.half.t:.3f}   saturation at t = {together.saturation.t:.3f}")
print(f"with the label      half at t = {by_class.half.t:.3f}   saturation at t = {by_class.saturation.t:.3f}")
for c in by_class.per_class:
    print(f"digit {c.name}: {c.points} points   half at t = {c.half.t:.3f} ({c.half.low:.3f} to {c.half.high:.3f})")

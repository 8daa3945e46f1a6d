"""Where navigation ends and refinement begins on an array of your own: python examples/stages_of_an_array.py

Any array (N, *shape) of floats is a training set. This one has 600 points about six centres in 32 dimensions.
"""

import numpy as np

import flowscope as fs

rng = np.random.default_rng(0)
centres = rng.standard_normal((6, 32))
points = np.repeat(centres, 100, axis=0) + 0.3 * rng.standard_normal((600, 32))

curve = fs.stages(points.astype(np.float32), timesteps=32, probes=256, seed=0)

print("   t    top-1 weight    effective size")
for t, top1, size in zip(curve.t[::4], curve.top1[::4], curve.effective_size[::4], strict=True):
    print(f"{t:.3f}   {top1:12.3f}   {size:15.1f}")
half, saturation, check = curve.half, curve.saturation, curve.information
print(f"navigation ends at t = {half.t:.3f} (95 % interval {half.low:.3f} to {half.high:.3f})")
print(f"refinement settles at t = {saturation.t:.3f} ({saturation.low:.3f} to {saturation.high:.3f})")
print(f"predicted from the spectrum: t = {curve.predicted:.3f}")
print(f"self-check: {check.integral:.2f} +- {check.integral_error:.2f} nats, against log N = {check.log_n:.2f}")

"""Vectors, trajectories and spectra as training sets: python examples/points_of_any_shape.py

Real data that come with scikit-learn and matplotlib: chemical analyses of wines, and an EEG of 800 steps.
"""

import numpy as np
from matplotlib.cbook import get_sample_data
from sklearn.datasets import load_wine

import flowscope as fs
from flowscope.data import windows

wine = load_wine()
# 13 quantities of unlike units: mean and std of each become 0 and 1
vectors = fs.load(wine.data, labels=wine.target, normalise="channel", name="wines")

with get_sample_data("eeg.dat") as file:
    eeg = np.frombuffer(file.read()).reshape(800, 4)  # steps, electrodes
cut, _ = windows([eeg], steps=16)  # (785, 16, 4)
# the first axis of a point is its channels: here the electrodes
trajectories = fs.load(cut.transpose(0, 2, 1), normalise="channel", name="EEG, 16 steps")

waves, _ = windows([eeg], steps=64, stride=4)
power = np.log(np.abs(np.fft.rfft(waves * np.hanning(64)[:, None], axis=1)) ** 2)  # (185, 33, 4)
spectra = fs.load(power.transpose(0, 2, 1), normalise="channel", name="EEG, spectra")

for data in (vectors, trajectories, spectra):
    curve = fs.stages(data, timesteps=16, probes=96, seed=0)
    half, check = curve.half, curve.information
    print(f"{data.name}: {len(data)} points of shape {data.shape}, half at t = {half.t:.3f}", end=" ")
    print(f"({half.low:.3f} to {half.high:.3f}), self-check {check.integral:.2f}", end=" ")
    print(f"+- {check.integral_error:.2f} nats, log N = {check.log_n:.2f}")

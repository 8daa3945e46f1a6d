"""flowscope, through its public face."""

import torch

import flowscope as fs


def prepare(points):
    oracle = fs.Oracle(torch.from_numpy(points))
    return lambda x, t: oracle(torch.from_numpy(x), t).numpy()


def prepare_curve(points):
    """All timesteps in one pass: the whole stage curve, of `batch` probes that `stages` draws itself."""
    oracle = fs.Oracle(torch.from_numpy(points))
    return lambda timesteps, batch: fs.stages(oracle, timesteps=timesteps, probes=batch, seed=0)

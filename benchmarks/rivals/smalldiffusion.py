"""smalldiffusion's IdealDenoiser: the noise eps in y = x_1 + sigma eps, here y = x/t and sigma = (1 - t)/t.

From the noise, u = E[x_1|x] - E[x_0|x] = (x - E[x_0|x])/t, with E[x_0|x] = eps.
"""

import torch
from smalldiffusion import IdealDenoiser


def prepare(points):
    denoiser = IdealDenoiser(torch.from_numpy(points))

    def velocity(x, t):
        x = torch.from_numpy(x)
        with torch.no_grad():
            return ((x - denoiser(x / t, torch.tensor((1 - t) / t))) / t).numpy()

    return velocity

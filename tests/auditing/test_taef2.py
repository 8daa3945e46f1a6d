"""TAEF2's encoder: what its decoder makes of the latents is the image again."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import flowscope as fs
from flowscope.auditing.spaces import find_space
from flowscope.auditing.taef2 import TAEF2
from flowscope.errors import InputError
from tests.support.photographs import photographs

DATA = Path(os.environ.get("FLOWSCOPE_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")) / "weights"
ENCODER, DECODER = DATA / "taef2_encoder.pth", DATA / "taef2_decoder.pth"
needs_weights = pytest.mark.skipif(not DECODER.is_file(), reason=f"{DECODER} is not there")
DOUBLED = (6, 11, 16)  # places of the decoder at which sides are doubled; at 0 values are bounded, at 2 is a ReLU


def decoded(latents: Tensor) -> Tensor:
    """Images on [0, 1] of latents (n, 32, h, w), by the decoder's weights."""
    state = {name: value.float() for name, value in torch.load(DECODER, weights_only=True).items()}

    def convolve(x: Tensor, name: str) -> Tensor:
        weight = state[f"{name}.weight"]
        return functional.conv2d(x, weight, state.get(f"{name}.bias"), padding=weight.shape[-1] // 2)

    x = 3 * torch.tanh(latents / 3)
    for k in range(20):
        if k in DOUBLED:
            x = functional.interpolate(x, scale_factor=2)
        elif f"{k}.weight" in state:
            x = convolve(x, str(k))
            x = x.relu() if k == 1 else x
        elif f"{k}.conv.0.weight" in state:
            if f"{k}.pool.0.weight" in state:
                pooled = convolve(x, f"{k}.pool.0")
                normal = functional.group_norm(pooled, 4, state[f"{k}.pool.1.weight"], state[f"{k}.pool.1.bias"])
                x = x + convolve(normal.relu(), f"{k}.pool.3")
            inner = convolve(convolve(x, f"{k}.conv.0").relu(), f"{k}.conv.2").relu()
            x = (convolve(inner, f"{k}.conv.4") + x).relu()
    return x.clamp(0, 1)


@pytest.mark.slow
@needs_weights
def test_the_decoder_gives_the_image_back() -> None:
    images = photographs(64)[:8]
    latents = TAEF2(ENCODER)(images)
    assert latents.shape == (8, 32 * 8 * 8)
    error = ((decoded(latents.reshape(8, 32, 8, 8)) - (images + 1) / 2) ** 2).mean()
    assert 10 * torch.log10(1 / error) > 20  # decibels
    assert torch.equal(TAEF2(ENCODER)(images[:, :1]), TAEF2(ENCODER)(images[:, :1].expand(-1, 3, -1, -1)))


@pytest.mark.slow
@needs_weights
def test_it_is_a_space_of_the_audit_and_other_weights_are_refused() -> None:
    images = photographs()
    found = fs.audit(images[:6].flip(-1), images[:40], space=f"taef2:{ENCODER}", planted=0, measure=False)
    assert found.share == 1 and found.space["name"] == "TAEF2"
    with pytest.raises(InputError, match="expected the weights of TAEF2's encoder"):
        find_space(f"taef2:{DECODER}")

"""MobileNetV1's features: against integer arithmetic on the weights as they are stored."""

import numpy as np
import pytest
import torch
from benchmarks.mobilenet import DATA, WEIGHTS, MobileNetV1, pad_same, space

from flowscope import InputError
from flowscope.metrics import features

needs_weights = pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"{WEIGHTS} is not there")


def integer_layer(file: dict[str, np.ndarray], k: int, x: np.ndarray, scale: float, zero: int) -> np.ndarray:
    """Layer k on quantised input (H, W, C), by loops over positions in integers; its output in units, after ReLU6."""
    weight, bias, q, stride = file[f"w{k}"].astype(np.int64), file[f"b{k}"], file[f"q{k}"], int(file["strides"][k])
    weight = weight - int(q[1])
    assert q[2] == pytest.approx(scale * q[0], rel=1e-4)  # the bias is in units of input times weight
    size, kernel = x.shape[0], weight.shape[1]
    out = -(-size // stride)
    before = max(0, (out - 1) * stride + kernel - size) // 2
    padded = np.zeros((size + 2 * kernel, size + 2 * kernel, x.shape[2]), np.int64)
    padded[before : before + size, before : before + size] = x.astype(np.int64) - zero
    found = np.empty((out, out, len(bias)))
    for i in range(out):
        for j in range(out):
            window = padded[i * stride : i * stride + kernel, j * stride : j * stride + kernel]
            if str(file["kinds"][k]) == "DEPTHWISE_CONV_2D":
                total = (window * weight[0]).sum((0, 1))
            else:
                total = (weight * window).sum((1, 2, 3))
            found[i, j] = total + bias
    return np.clip(found * scale * q[0], 0, 6)


@needs_weights
@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_layers_are_those_of_integer_arithmetic(k: int) -> None:
    """A convolution with stride 2, depthwise ones with stride 1 and 2, and a pointwise one."""
    file = dict(np.load(WEIGHTS))
    before = 3 if k == 0 else len(file[f"b{k - 1}"])
    scale, zero = (1 / 128, 128) if k == 0 else (float(file[f"q{k - 1}"][3]), int(file[f"q{k - 1}"][4]))
    x = np.random.default_rng(k).integers(0, 256, (9 if k == 3 else 10, 9 if k == 3 else 10, before))
    real = torch.from_numpy(((x - zero) * scale).transpose(2, 0, 1)[None]).float()
    found = MobileNetV1().layer(k, real)[0].permute(1, 2, 0)
    np.testing.assert_allclose(found, integer_layer(file, k, x, scale, zero), atol=2e-4)


@pytest.mark.slow
@needs_weights
def test_features_tell_kinds_of_pictures_apart() -> None:
    """Gratings of two directions, at random places and in noise, are told apart by the nearest mean of features."""
    y, x = np.mgrid[:32, :32] / 32
    draw = np.random.default_rng(0)
    labels = np.arange(48) % 2
    waves = [np.sin(2 * np.pi * (4 * (x if kind else y) + draw.random())) for kind in labels]
    images = (0.5 * np.stack(waves)[:, None] + 0.2 * draw.standard_normal((48, 1, 32, 32))).astype(np.float32)
    found = features(images, space(side=64))
    assert found.shape == (48, 1024)
    assert 0 <= float(found.min()) < float(found.max()) <= 6
    means = torch.stack([found[:24][labels[:24] == kind].mean(0) for kind in (0, 1)])
    assert (torch.cdist(found[24:], means).argmin(1).numpy() == labels[24:]).all()


@pytest.mark.slow
@needs_weights
def test_grey_images_are_colour_images_with_equal_channels() -> None:
    grey = torch.rand(2, 1, 16, 16) * 2 - 1
    network = MobileNetV1(side=32)
    torch.testing.assert_close(network(grey), network(grey.repeat(1, 3, 1, 1)))
    with pytest.raises(InputError, match=r"expected \(B, 1, H, W\)"):
        network(torch.zeros(2, 4, 8, 8))


def test_padding_is_that_of_tensorflow() -> None:
    """Stride 2 on an even side pads only below and on the right."""
    x = torch.ones(1, 1, 4, 5)
    padded = pad_same(x, 3, 2)
    assert padded.shape == (1, 1, 5, 7)
    assert padded[0, 0, 0, 1] == 1
    assert float(padded[0, 0, -1].sum()) == 0


def test_absent_weights_are_said() -> None:
    with pytest.raises(InputError, match="weights: check the path"):
        MobileNetV1(DATA / "nothing.npz")

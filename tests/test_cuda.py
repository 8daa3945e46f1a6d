"""The same answers on a GPU as on the CPU. Skipped where there is none."""

from pathlib import Path

import numpy as np
import pytest
import torch

import flowscope as fs
from flowscope.training import TrainSettings, train
from tests.contracts.cases import PATHS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(scope="module")
def data() -> fs.TrainingSet:
    return fs.load("digits")


@pytest.mark.parametrize("path", PATHS)
def test_the_oracle_answers_alike_on_gpu_and_cpu(data: fs.TrainingSet, path: str) -> None:
    here, there = fs.Oracle(data, path), fs.Oracle(data, path, device="cuda")
    rng = np.random.default_rng(0)
    x1 = torch.as_tensor(np.asarray(data.points[:64]), dtype=torch.float64)
    x0 = torch.as_tensor(rng.standard_normal(x1.shape))
    for t in (0.0, 0.3, 0.6, 0.9, 0.999):
        c = here.path(t)
        x = c.alpha * x1 + c.sigma * x0
        for y in (None, torch.as_tensor(data.labels[:64])):
            u = here(x, t, y)
            v = there(x.cuda(), t, None if y is None else y.cuda())
            assert v.device.type == "cuda"
            scale = u.flatten(1).norm(dim=1).max()
            assert (u - v.cpu()).flatten(1).norm(dim=1).max() < 1e-9 * scale
        p, q = here.posterior(x, t, k=3), there.posterior(x.cuda(), t, k=3)
        assert torch.allclose(p.weights, q.weights.cpu(), atol=1e-9)
        assert torch.allclose(p.entropy, q.entropy.cpu(), atol=1e-9)


def test_points_apart_by_less_than_float64_sees_are_told_apart_on_the_gpu() -> None:
    points = torch.zeros(3, 2, dtype=torch.float64)
    points[1, 0], points[2, 0] = 1e-9, 2e-9
    points += 1e3
    here, there = fs.Oracle(points), fs.Oracle(points, device="cuda")
    x = 0.999999 * points + 1e-6 * torch.tensor([[0.3, -0.2]], dtype=torch.float64)
    p, q = here.posterior(x, 0.999999, k=3), there.posterior(x.cuda(), 0.999999, k=3)
    assert torch.allclose(p.weights, q.weights.cpu(), atol=1e-7)


def test_the_curve_is_the_same_on_gpu_and_cpu(data: fs.TrainingSet) -> None:
    curves = [fs.stages(fs.Oracle(data, device=device), timesteps=16, probes=64) for device in ("cpu", "cuda")]
    for name in ("top1", "gap", "entropy", "total_variance"):
        a, b = (getattr(c, name) for c in curves)
        assert np.allclose(a, b, rtol=1e-5, atol=1e-7), name
    assert abs(curves[0].half.t - curves[1].half.t) < 1e-6


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_training_learns_and_resumes_on_the_gpu(data: fs.TrainingSet, tmp_path: Path, precision: str) -> None:
    settings = TrainSettings(steps=60, batch=64, width=8, precision=precision, warmup=5, checkpoint_every=20)
    losses = []
    for step in train(data, settings, device="cuda", out=tmp_path):
        losses.append(float(step.loss))
        if step.step == 30:
            break
    for step in train(data, settings, device="cuda", out=tmp_path, resume=True):
        losses.append(float(step.loss))
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    found = fs.sample(step.ema_field, n=4, steps=4, y=[0, 1, 2, 3])
    assert found.device.type == "cuda" and bool(torch.isfinite(found).all())


def test_the_monitor_measures_alike_on_gpu_and_cpu(data: fs.TrainingSet) -> None:
    settings = TrainSettings(steps=1, width=8)
    step = next(iter(train(data, settings, device="cuda")))
    here = fs.load("digits")
    field = step.field
    a = fs.Monitor(fs.Oracle(here, device="cuda"), probes=64)(field, 1)
    b = fs.Monitor(fs.Oracle(here), probes=64)(field, 1)
    assert np.allclose(a.loss, b.loss, rtol=1e-2)
    assert np.allclose(a.floor, b.floor, rtol=1e-5)

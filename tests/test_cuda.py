"""The same answers on a GPU as on the CPU. Skipped where there is none."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import flowscope as fs
from flowscope.oracle.engines import matmul as products
from flowscope.training import TrainSettings, train
from tests.support.cases import PATHS, cloud, expected, states, velocity_error
from tests.support.engines import small_oracle
from tests.support.hard_sets import SETS, TOLERANCE, queries, resolution

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

TRITON = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed: pip install 'flowscope[gpu]'")
LIBRARIES = ("torch", pytest.param("triton", marks=TRITON))
DTYPES = (torch.float16, torch.bfloat16, torch.float32)


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


def kernels_products(device: torch.device) -> products.MatmulBackend:
    """The products of the kernels, which need Triton."""
    from flowscope.oracle.engines.cuda.engine import fused_backend

    return fused_backend(device)


@pytest.fixture(params=["highest", "high"])
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    """What the user allows torch's float32 products to be."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_products_are_no_plain_tf32(library: str, dtype: torch.dtype, precision: str) -> None:
    """TF32 keeps 11 bits of a factor, and errs by 1e-4 here; float32 by 1e-7."""
    device = torch.device("cuda")
    by = products.products(library, device) if library == "torch" else kernels_products(device)
    points, x = cloud(3000, (4096,), dtype=dtype).cuda(), cloud(64, (4096,), seed=1).cuda()
    weights = cloud(3000, (64,), seed=2).cuda().sigmoid()
    taken = points if dtype in by.takes else points.float()
    dots, sums = by.dots(taken, x), by.sums(weights, taken)
    size = torch.outer(points.double().norm(dim=1), x.double().norm(dim=1))
    assert float(((dots.double() - points.double() @ x.double().T).abs() / size).max()) < 1e-6
    true = weights.double().T @ points.double()
    assert float((sums.double() - true).norm() / true.norm()) < 1e-6


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", SETS)
def test_float32_velocities_are_as_exact_as_on_the_cpu(name: str, library: str) -> None:
    points, hard = SETS[name](), []
    for t in (0.0, 0.1, 0.5, 0.9, 0.99, 1 - 2.0**-20):
        x = queries(points, t, "linear").float()
        lost = resolution(points, x, t, "linear")
        answer = expected(points, x, t, exact=lost > 1e-10)
        oracle = small_oracle(points, device="cuda", library=library, hard=hard)
        for u in (oracle(x.cuda(), t), torch.cat([oracle(row[None].cuda(), t) for row in x])):
            assert (velocity_error(u.cpu(), answer) < TOLERANCE + lost).all()
    assert len(hard) > 0, "the float32 pass was not taken"


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ordinary_points_need_no_second_pass_on_the_gpu(dtype: torch.dtype, library: str, precision: str) -> None:
    """Many points of many coordinates: long sums on the device, whose roundings must not add up."""
    points, hard = cloud(40_000, (1024,), dtype=dtype), []
    oracle, exact = small_oracle(points, device="cuda", library=library, hard=hard), fs.Oracle(points, device="cuda")
    for t in (0.0, 0.05, 0.2, 0.5, 0.9, 0.999):
        for rows in (1, 40, 300):
            x = states(points, t, rows=rows, dtype=torch.float32).cuda()
            u, true = oracle(x, t), exact(x.double(), t)
            size = (true.pow(2).sum(1) + exact.posterior(x.double(), t).total_variance / (1 - t) ** 2).sqrt()
            assert float(((u.double() - true).norm(dim=1) / size).max()) < TOLERANCE
    assert max(hard) < 0.05, hard


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_device_out_of_memory_shrinks_the_block(library: str, caplog: pytest.LogCaptureFixture) -> None:
    points = cloud(60_000, (1024,), dtype=torch.float16)
    x = states(points, 0.3, rows=512, dtype=torch.float32).cuda()
    oracle = small_oracle(points, device="cuda", library=library, memory="16GB")
    before = oracle(x, 0.3)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(max(0, free - (400 << 20)), dtype=torch.uint8, device="cuda")
    try:
        after = oracle(x, 0.3)
    finally:
        del held
        torch.cuda.empty_cache()
    assert "is out of memory with blocks of" in caplog.text
    assert float((after - before).abs().max()) < 1e-5 * float(before.abs().max())

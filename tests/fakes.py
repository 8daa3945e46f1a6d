"""Results as the studies give them, made of plain arrays: what figures and pages are tested on."""

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np


class Crossing(NamedTuple):
    t: float
    low: float
    high: float


class Information(NamedTuple):
    integral: float
    integral_error: float
    log_n: float
    log_n_error: float


class LossFloor(NamedTuple):
    value: float
    error: float


NOWHERE = Crossing(np.nan, np.nan, np.nan)
HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)>&\"$\\frac{1}{2}$"


def digits_curve(timesteps: int = 64, **changes: Any) -> Any:
    """A curve with numbers like those of the digits on the linear path."""
    t = np.linspace(0, 0.98, timesteps)
    top1 = 1 / (1 + np.exp(-(t - 0.537) * 21)) * 0.999 + 0.0006
    entropy = 7.494 * (1 - 1 / (1 + np.exp(-(t - 0.42) * 14)))
    fields: dict[str, Any] = dict(
        t=t,
        log_snr=2 * np.log(np.maximum(t, 1e-300) / (1 - t)),
        gap=0.85 * np.exp(-3.1 * t) * (1 - t**8),
        top1=top1,
        margin=np.maximum(0, top1 - 0.55 * (1 - top1)) * 0.98,
        entropy=entropy,
        effective_size=1 + 1796 * np.exp(-9 * t),
        total_variance=28 * (1 - t) ** 2,
        divergence=-64 / (1 - t) * (1 - top1),
        half=Crossing(0.537, 0.520, 0.550),
        saturation=Crossing(0.752, 0.731, 0.778),
        predicted=0.553,
        predicted_plain=0.532,
        information=Information(7.46, 0.05, 7.494, 0.0),
        loss_floor=LossFloor(0.2412, 0.0021),
        per_class=None,
        notes=(),
        conditional=False,
        training_set=dict(
            name="digits", digest="3f" * 32, N=1797, distinct=1797, shape=[1, 8, 8], dtype="float32",
            classes=10, normalisation="value/8 - 1", weighted=False,
        ),
        settings=dict(path="linear", timesteps=timesteps, probes=512, seed=0, conditional=False, memory="512MB"),
        provenance=dict(flowscope="0.1.0", torch="2.13.0", numpy="2.4.0", python="3.11.2", nfe=512, seconds=1.84),
    )  # fmt: skip
    for name in ("gap", "top1", "margin", "entropy", "effective_size", "total_variance", "divergence"):
        fields[f"{name}_error"] = np.abs(fields[name]) * 0.02 * np.sqrt(np.clip(1 - top1, 0, 1))
    fields.update(changes)
    curve = SimpleNamespace(**fields)
    curve.to_dict = lambda: {"schema": 1, "half": list(curve.half), "training_set": curve.training_set}
    return curve


def class_curve(names: tuple[str, ...] = ("zero", "one", HOSTILE), **changes: Any) -> Any:
    """A conditional curve with a row for each class; the last class never crosses."""
    curve = digits_curve(conditional=True, **changes)
    rows = []
    for k, name in enumerate(names):
        last = k == len(names) - 1
        half = NOWHERE if last else Crossing(0.44 - 0.03 * k, 0.42 - 0.03 * k, 0.46 - 0.03 * k)
        saturation = NOWHERE if last else Crossing(0.65, 0.62, 0.69)
        rows.append(
            SimpleNamespace(
                label=k, name=name, points=170 + 9 * k, half=half, saturation=saturation,
                predicted=np.nan if last else 0.45, top1=curve.top1 ** (1 + 0.1 * k), gap=curve.gap * (1 + 0.1 * k),
            )
        )  # fmt: skip
    curve.per_class = tuple(rows)
    return curve


def undefined_curve(**changes: Any) -> Any:
    """A curve of two points: nothing crosses, nothing is predicted."""
    nothing = dict(half=NOWHERE, saturation=NOWHERE, predicted=np.nan, predicted_plain=np.nan)
    information = Information(np.nan, np.nan, 0.693, 0.0)
    notes = ("t_half is undefined: the mean top-1 weight starts at 0.5",)
    return digits_curve(
        **(nothing | dict(information=information, loss_floor=LossFloor(np.nan, np.nan), notes=notes) | changes)
    )


def size_sweep(**changes: Any) -> Any:
    """A sweep over N."""
    half = np.array([0.31, 0.36, 0.42, 0.48, 0.537])
    fields: dict[str, Any] = dict(
        over="N", values=np.array([100, 200, 450, 900, 1797]), names=(), half=half, half_low=half - 0.02,
        half_high=half + 0.015, saturation=half + 0.2, saturation_low=half + 0.17, saturation_high=half + 0.22,
        predicted=half * 1.03, predicted_plain=half * 0.98, notes=("subsets are nested",),
        training_set=digits_curve(2).training_set, settings=dict(path="linear", probes=512, seed=0),
        provenance=dict(flowscope="0.1.0", nfe=2560, seconds=7.0),
    )  # fmt: skip
    return SimpleNamespace(**(fields | changes))


def class_sweep(names: tuple[str, ...] = ("zero", "one", HOSTILE)) -> Any:
    """A sweep over classes, the last of which never crosses."""
    half = np.linspace(0.3, 0.5, len(names))
    half[-1] = np.nan
    return size_sweep(
        over="classes", values=np.arange(len(names)), names=names, half=half, half_low=half - 0.02, half_high=half + 0.02,
        saturation=half + 0.2, saturation_low=half + 0.17, saturation_high=half + 0.22, predicted=half, predicted_plain=half,
    )  # fmt: skip


def fake_pictures(probes: int = 2, times: int = 8, channels: int = 1, side: int = 8, seed: int = 0) -> Any:
    """Pictures of smooth blobs that come out of noise."""
    rng = np.random.default_rng(seed)
    grid = np.linspace(-1, 1, side)
    centre = rng.uniform(-0.5, 0.5, (probes, 4, channels, 1, 1, 2))
    distance = (grid[:, None] - centre[..., 0]) ** 2 + (grid - centre[..., 1]) ** 2
    points = 2 * np.exp(-4 * distance) - 1
    t = np.linspace(0, 0.9, times)
    s = t[:, None, None, None]
    weights = np.stack([0.1 + 0.89 * t, 0.06 * (1 - t), np.where(t > 0.8, 0, 0.04 * (1 - t))], -1)
    return SimpleNamespace(
        t=t,
        states=s * points[:, :1] + (1 - s) * rng.standard_normal((probes, 1, channels, side, side)),
        predictions=s * points[:, :1] + (1 - s) * points.mean((0, 1)),
        neighbours=np.broadcast_to(points[:, None, :3], (probes, times, 3, channels, side, side)),
        weights=np.broadcast_to(weights, (probes, times, 3)),
        indices=np.broadcast_to(np.array([3, 1200, 49999]), (probes, times, 3)),
        probes=np.arange(probes) * 7,
        labels=None,
        names=None,
        note="",
    )

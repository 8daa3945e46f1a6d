"""Results with made-up numbers, for figures and pages: real types, no computation."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowscope.curve.crossing import NEVER, Crossing
from flowscope.curve.pictures import Pictures
from flowscope.curve.result import ClassStages, Information, LossFloor, StageCurve
from flowscope.curve.sweep import Sweep
from flowscope.reproduction.result import Reproduction, Row
from flowscope.studies.bench.finding import Finding, Gallery, Panel, Series
from flowscope.training import TrainSettings

HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)>&\"$\\frac{1}{2}$"
TRAINING_SET = {
    "name": "digits",
    "digest": "3f" * 32,
    "N": 1797,
    "distinct": 1797,
    "shape": [1, 8, 8],
    "dtype": "float32",
    "classes": 10,
    "normalisation": "value/8 - 1",
    "weighted": False,
}
VERSIONS = {
    "flowscope": "0.1.0",
    "torch": "2.13.0",
    "numpy": "2.4.0",
    "python": "3.11.2",
    "nfe": 32768,
    "seconds": 1.84,
}
MEASURED = ("gap", "top1", "margin", "entropy", "effective_size", "total_variance", "divergence")


def digits_curve(timesteps: int = 64, **changes: Any) -> StageCurve:
    """A curve with numbers like those of the digits on the linear path."""
    t = np.arange(timesteps) / timesteps
    top1 = 1 / (1 + np.exp(-(t - 0.537) * 21)) * 0.999 + 0.0006
    with np.errstate(divide="ignore"):
        log_snr = 2 * np.log(t / (1 - t))
    fields: dict[str, Any] = {
        "t": t,
        "log_snr": log_snr,
        "gap": 0.85 * np.exp(-3.1 * t) * (1 - t**8),
        "top1": top1,
        "margin": np.clip(1.6 * top1 - 0.6, 0, 1) * 0.6 + 0.4 * top1,
        "entropy": 7.494 * (1 - 1 / (1 + np.exp(-(t - 0.42) * 14))),
        "effective_size": 1 + 1796 * np.exp(-9 * t),
        "total_variance": 28 * (1 - t) ** 2,
        "divergence": -64 / (1 - t) * (1 - top1),
        "half": Crossing(0.537, 0.520, 0.550),
        "saturation": Crossing(0.752, 0.731, 0.778),
        "predicted": 0.553,
        "predicted_saturation": 0.731,
        "predicted_top1": 1 / (1 + np.exp(-(t - 0.553) * 22)),
        "predicted_plain": 0.532,
        "deficit": 1.23,
        "information": Information(7.46, 0.05, 7.494, 0.0),
        "loss_floor": LossFloor(0.2412, 0.0021),
        "per_class": None,
        "notes": (),
        "conditional": False,
        "training_set": dict(TRAINING_SET),
        "settings": {"path": "linear", "timesteps": t.tolist(), "probes": 512, "seed": 0, "memory": 512_000_000},
        "provenance": dict(VERSIONS),
    }
    for name in MEASURED:
        fields[f"{name}_error"] = np.abs(fields[name]) * 0.02 * np.sqrt(np.clip(1 - top1, 0, 1))
    return StageCurve(**(fields | changes))


def class_curve(names: tuple[str, ...] = ("zero", "one", "two", HOSTILE), **changes: Any) -> StageCurve:
    """A conditional curve with a row for each class, earlier from class to class; the last never crosses."""
    curve = digits_curve()
    rows = []
    for k, name in enumerate(names):
        t = 0.44 - 0.03 * k
        half, saturation = Crossing(t, t - 0.02, t + 0.02), Crossing(t + 0.2, t + 0.17, t + 0.24)
        if k == len(names) - 1:
            half = saturation = NEVER
        rows.append(
            ClassStages(
                k,
                name,
                170 + 9 * k,
                half,
                saturation,
                half.t * 1.02,
                saturation.t * 0.97,
                curve.top1 ** (1 + k),
                curve.gap,
            )
        )
    return digits_curve(**({"conditional": True, "per_class": tuple(rows)} | changes))


def undefined_curve(**changes: Any) -> StageCurve:
    """A curve of two points: nothing crosses, nothing is predicted."""
    fields: dict[str, Any] = {
        "top1": np.linspace(0.5, 1, 64),
        "margin": np.linspace(0, 1, 64),
        "half": NEVER,
        "saturation": NEVER,
        "predicted": np.nan,
        "predicted_saturation": np.nan,
        "predicted_plain": np.nan,
        "deficit": np.nan,
        "information": Information(np.nan, np.nan, 0.693, 0.0),
        "loss_floor": LossFloor(np.nan, np.nan),
        "notes": ("half is undefined: the mean top-1 weight starts at 0.5",),
    }
    return digits_curve(**(fields | changes))


def size_sweep(values: Sequence[float] = (100, 200, 450, 900, 1797), **changes: Any) -> Sweep:
    """A sweep over N; `half` may be given, and all else follows it."""
    half = changes.pop("half", np.linspace(0.31, 0.537, len(values)))
    fields: dict[str, Any] = {
        "over": "N",
        "values": np.array(values, dtype=np.float64),
        "names": tuple(str(v) for v in values),
        "half": half,
        "half_low": half - 0.02,
        "half_high": half + 0.015,
        "saturation": half + 0.2,
        "saturation_low": half + 0.17,
        "saturation_high": half + 0.22,
        "predicted": half * 1.03,
        "predicted_saturation": half * 1.03 + 0.18,
        "predicted_plain": half * 0.98,
        "deficit": 10 * half,
        "curves": tuple(digits_curve(3) for _ in values),
        "notes": ("subsets are nested",),
        "training_set": {**TRAINING_SET, "variants": [{**TRAINING_SET, "N": v} for v in values]},
        "settings": {"path": "linear", "probes": 512, "seed": 0},
        "provenance": dict(VERSIONS),
    }
    return Sweep(**(fields | changes))


def class_sweep(names: tuple[str, ...] = ("zero", "one", "two", HOSTILE)) -> Sweep:
    """A sweep over classes, the last of which never crosses."""
    half = np.linspace(0.3, 0.5, len(names))
    half[-1] = np.nan
    return size_sweep(range(len(names)), over="classes", names=names, half=half)


def fake_pictures(probes: int = 2, times: int = 8, channels: int = 1, side: int = 8) -> Pictures:
    """Pictures of smooth blobs that come out of noise."""
    rng = np.random.default_rng(0)
    grid = np.linspace(-1, 1, side)
    centre = rng.uniform(-0.5, 0.5, (probes, 4, channels, 1, 1, 2))
    distance = (grid[:, None] - centre[..., 0]) ** 2 + (grid - centre[..., 1]) ** 2
    points = 2 * np.exp(-4 * distance) - 1
    t = np.linspace(0, 0.9, times)
    s = t[:, None, None, None]
    weights = np.stack([0.1 + 0.89 * t, 0.06 * (1 - t), 0.04 * (1 - t)], -1)
    return Pictures(
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


def fake_finding(side: int = 8, **changes: Any) -> Finding:
    """A finding with lines, bars, names, undefined values and a gallery; one of its names is hostile."""
    t = np.array([0.0, 0.1, 0.3, 0.5, 1.0])
    main = {"t": t, "share": t**0.5, "share_error": np.full(5, 0.02), "distance": 3 - 2 * t}
    models = {"model": ["small", HOSTILE], "FD": np.array([12.5, np.nan]), "FD_error": np.array([0.5, np.nan])}
    fields: dict[str, Any] = {
        "study": "switch",
        "title": "When does the oracle's head start turn into copies?",
        "where": "Fig. 5, 13, 14",
        "claim": "switched after t = 0.2 it copies",
        "found": f"the share of copies grows from 0.00 ± 0.02 to 1.00 ± 0.02 ({HOSTILE})",
        "verdict": "agrees",
        "why": "the share grows by more than two standard errors",
        "tables": {"switch": main, "models": models},
        "panels": (
            Panel(
                "Copies", "t of the switch", "share", (Series("near-copies", "switch", "t", "share", "share_error"),)
            ),
            Panel("Quality", "model", "FD", (Series("seed 0", "models", "model", "FD", "FD_error"),), kind="bar"),
        ),
        "galleries": (
            Gallery(
                "Samples",
                fake_pictures(side=side).states[:, :5],
                ("first", HOSTILE),
                tuple(f"t = {v:g}" for v in t),
            ),
        ),
        "notes": ("small sample",),
        "training_set": dict(TRAINING_SET),
        "settings": {"n": 16, "seed": 0, "weights": "/home/somebody/secret/model"},
        "provenance": {**VERSIONS, "models": {"small": "ab" * 8}},
    }
    return Finding(**(fields | changes))


def fake_reproduction() -> Reproduction:
    """A study with a page and one that was not run."""
    found = f"FD 3.0 ± 0.1 with the small model in refinement {HOSTILE}, more than in navigation"
    rows = (
        Row("Tab. 1", "capacity", "A stage each", "refinement needs it", found, "agrees", "by 2 errors", 6, True, 9.0),
        Row("Fig. 6", "refine", "Refine", "", "", "not run", "over the budget of 9 minutes"),
    )
    settings = TrainSettings(width=16, density="shifted", shift=0.3).to_dict()
    models = {"small-0": {"settings": settings, "parameters": 293745, "seconds": 61.5}}
    return Reproduction(rows, models, dict(TRAINING_SET), {"seeds": 1}, dict(VERSIONS), ("a note",))

"""What is recorded of a set: values by name, each with its natural size and how well it must be kept.

Only what users may call is called. Two ranks must say the same, so nothing is recorded of them: see shared.py.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import flowscope as fs
from tests.goldens.sets import SETS, states

DOUBLE, SINGLE = 1e-12, 1e-6  # share of a natural size that may change: of float64 and of float32 arithmetic
ROUNDING = 2.0**-52  # of float64
BOUND = 1e-9  # of a certificate's errors, which are bounds
ALL_PATHS = ("three", "weights")  # sets asked about on all paths
PRUNED = ("large",)  # sets of which points can be left out
PATHS = ("linear", "cosine", "vp", "ve")
TOLERANCE = 1e-3  # of a velocity where points are left out: here those that weigh nothing, so that no digit changes
CURVE = ("gap", "top1", "margin", "entropy", "effective_size", "total_variance", "divergence")
CURVE_TIMES = [0.0, 0.05, 0.2, 0.4, 0.6, 0.9]


class Golden(NamedTuple):
    """A quantity: values (B, m), their natural size (B, 1) or (1, 1), and what share of it they may be off."""

    values: np.ndarray
    size: np.ndarray
    share: float | np.ndarray  # (B, 1) where it differs from row to row


class Sizes(NamedTuple):
    """Natural sizes (B,) at some states; of vectors, those of what one point of the posterior says.

    `logit` is that of the squares of which logits are differences: their rounding is one of it.
    """

    velocity: np.ndarray
    data: np.ndarray
    noise: np.ndarray
    score: np.ndarray
    variance: np.ndarray
    divergence: np.ndarray
    logit: np.ndarray


Goldens = dict[str, Golden]


def plain(value: Tensor) -> np.ndarray:
    """(B, m) float64."""
    return value.reshape(len(value), -1).double().numpy()


def sketch(value: Tensor) -> np.ndarray:
    """(B, 2) of vectors (B, *shape): the product with a fixed random vector, and the length; (B, 1) of numbers."""
    rows = plain(value)
    if rows.shape[1] == 1:
        return rows
    direction = np.random.default_rng(7).standard_normal(rows.shape[1])
    return np.stack([(rows * direction).sum(1), np.sqrt((rows * rows).sum(1))], 1)


def sizes(oracle: fs.Oracle, x: Tensor, t: Tensor, y: Tensor | None = None) -> Sizes:
    """At float64 states."""
    c, found = oracle.path(t), oracle.posterior(x, t, y)
    spread = found.total_variance.clamp_min(0).numpy()
    A, B, alpha, sigma = (v.numpy() for v in (c.A, c.B, c.alpha, c.sigma))

    def size(value: Tensor, factor: Any) -> np.ndarray:
        return np.sqrt((plain(value) ** 2).sum(1) + factor**2 * spread)

    points = plain(oracle.training_set.rows(slice(None)))
    centre = points.mean(0)
    wide = np.full(len(x), ((points - centre) ** 2).sum(1).max())
    away = ((plain(x) - alpha[:, None] * centre) ** 2).sum(1)
    noise = size(oracle.noise(x, t, y), alpha / sigma)
    return Sizes(
        size(oracle.velocity(x, t, y), A),
        np.maximum(size(found.mean, 1.0), 0.01 * np.sqrt(wide)),  # a mean may be 0
        noise,
        noise / sigma,
        wide,
        np.abs(A * alpha / sigma**2) * wide + oracle.training_set.dimension * np.abs(B),
        (away + alpha**2 * wide) / (2 * sigma**2),
    )


def of_logits(share: float, size: Sizes) -> np.ndarray:
    """(B, 1) the share by which weights, and what follows from them, may be off: logits are rounded, too."""
    return np.maximum(share, DOUBLE + ROUNDING * size.logit)[:, None]


def golden(values: Tensor | np.ndarray, size: Any, share: float | np.ndarray) -> Golden:
    rows = plain(values) if isinstance(values, Tensor) else np.asarray(values, np.float64)
    return Golden(rows, np.asarray(size, np.float64).reshape(-1, 1), share)


def vector_goldens(oracle: fs.Oracle, ask: tuple[Any, ...], size: Sizes, share: float) -> Goldens:
    """Velocity, data, noise and score."""
    return {
        "velocity": golden(sketch(oracle.velocity(*ask)), size.velocity, share),
        "denoise": golden(sketch(oracle.denoise(*ask)), size.data, share),
        "noise": golden(sketch(oracle.noise(*ask)), size.noise, share),
        "score": golden(sketch(oracle.score(*ask)), size.score, share),
    }


def posterior_goldens(oracle: fs.Oracle, ask: tuple[Any, ...], size: Sizes, share: float) -> Goldens:
    """All fields of the posterior, with its three heaviest points, where they have any weight."""
    p = oracle.posterior(*ask, k=3 if len(ask) == 2 else 1)
    named = torch.where(p.weights > 1e-6, p.indices, -1)
    density = np.abs(p.log_density.double().numpy()) + oracle.training_set.dimension
    weighed = of_logits(share, size)
    return {
        "mean": golden(sketch(p.mean), size.data, share),
        "weights": golden(p.weights, 1.0, weighed),
        "indices": golden(named, 1.0, 0.0),
        "entropy": golden(p.entropy, 1.0 + p.entropy.double().numpy(), weighed),
        "effective_size": golden(p.effective_size, p.effective_size, weighed),
        "total_variance": golden(p.total_variance, size.variance, share),
        "log_density": golden(p.log_density, density, weighed),
    }


def certificate_goldens(oracle: fs.Oracle, ask: tuple[Any, ...], size: Sizes, share: float) -> Goldens:
    """The certified velocity and its proof."""
    velocity, proof = oracle.certify(*ask)
    return {
        "velocity": golden(sketch(velocity), size.velocity, share),
        "mass": golden(proof.mass, 1.0, DOUBLE),
        "error": golden(proof.error, proof.error, BOUND),
        "relative": golden(proof.relative, proof.relative, BOUND),
        "touched": golden(proof.touched, 1.0, 0.0),
    }


def condition_goldens(oracle: fs.Oracle, x: Tensor, t: Tensor, share: float) -> Goldens:
    """The oracle of every label."""
    found = oracle.conditions(x, t)
    labels = found.labels.tolist()
    each = [sizes(oracle, x.double(), t, torch.full((len(x),), label)).velocity for label in labels]
    whole = sizes(oracle, x.double(), t)
    velocities = {
        f"velocity of {label}": golden(sketch(found.velocities[:, k]), each[k], share) for k, label in enumerate(labels)
    }
    return velocities | {
        "velocity": golden(sketch(found.velocity), whole.velocity, share),
        "probabilities": golden(found.probabilities, 1.0, of_logits(share, whole)),
    }


def state_goldens(oracle: fs.Oracle, dtype: torch.dtype) -> Iterator[tuple[str, Goldens]]:
    """What is asked at states, by what is asked."""
    share = DOUBLE if dtype == torch.float64 else SINGLE
    data, path = oracle.training_set, oracle.path.name
    x, t, y = states(data, path)
    size, given = sizes(oracle, x, t), x.to(dtype)
    density = np.abs(oracle.log_density(x, t).numpy()) + data.dimension
    yield "fields", vector_goldens(oracle, (given, t), size, share)
    yield "posterior", posterior_goldens(oracle, (given, t), size, share)
    divergence = golden(oracle.divergence(given, t), size.divergence, share)
    yield (
        "density",
        {
            "log_density": golden(oracle.log_density(given, t), density, of_logits(share, size)),
            "divergence": divergence,
        },
    )
    yield f"certify {name_of(dtype)}", certificate_goldens(oracle, (given, t), size, share)
    if path != "linear":
        return
    noise = sizes(oracle, x[:3], torch.zeros(3, dtype=t.dtype)).velocity
    yield "at noise", {"velocity": golden(sketch(oracle(given[:3], 0.0)), noise, share)}
    if data.classes:
        own = sizes(oracle, x, t, y)
        yield "fields of y", vector_goldens(oracle, (given, t, y), own, share)
        yield "posterior of y", posterior_goldens(oracle, (given, t, y), own, share)
        yield "conditions", condition_goldens(oracle, given, t, share)


def sample_goldens(oracle: fs.Oracle, dtype: torch.dtype) -> Goldens:
    """Samples, with the labels where there are some."""
    data = oracle.training_set
    share = DOUBLE if dtype == torch.float64 else SINGLE
    size = float(plain(data.rows(slice(None))).std()) * data.dimension**0.5
    found = {"sample": fs.sample(oracle, n=3, steps=8, seed=1, dtype=dtype)}
    if data.classes:
        found["sample of y"] = fs.sample(oracle, n=3, steps=8, seed=1, dtype=dtype, y=data.classes[0])
    return {key: golden(sketch(value), size, share) for key, value in found.items()}


def curve_goldens(oracle: fs.Oracle, conditional: bool) -> Goldens:
    """The stage curve, whose sums are float32."""
    curve = fs.stages(oracle, timesteps=CURVE_TIMES, probes=24, seed=3, conditional=conditional)
    found = {}
    for name in CURVE:
        values, errors = getattr(curve, name), getattr(curve, f"{name}_error")
        size = np.maximum(np.abs(values), 1.0) if name in ("top1", "margin", "entropy") else np.abs(values)
        found[name] = golden(np.stack([values, errors], 1), size + errors, SINGLE)
    single = {
        "log_snr": curve.log_snr[1:],
        "half": curve.half,
        "saturation": curve.saturation,
        "predicted": (curve.predicted, curve.predicted_plain),
        "information": curve.information,
        "loss_floor": curve.loss_floor,
    }
    for name, value in single.items():
        values = np.array(value, np.float64)[None]  # NaN where the curve knows none
        flat = 1e2 if name in curve.untrusted["crossings"] else 1.0  # on a plateau the last digits of float32 move it
        found[name] = golden(values, flat * max(1e-3, np.abs(np.nan_to_num(values)).max()), SINGLE)
    return found


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def measure(
    name: str,
    folder: Path,
    dtype: torch.dtype,
    make: Callable[..., fs.Oracle] = fs.Oracle,
    paths: Sequence[str] | None = None,
) -> dict[str, Goldens]:
    """All that is recorded of a set, by path and what is asked.

    Answers at float32 states are held to those at the same states in float64, and so have the same names.

    Args:
        folder: where files may be written. dtype: of states.
        make: an oracle of a training set, the name of a path and perhaps a tolerance.
        paths: by name; None for all that are recorded of the set.
    """
    found: dict[str, Goldens] = {}
    data = SETS[name](folder)
    for path in paths or (PATHS if name in ALL_PATHS else PATHS[:1]):
        oracle = make(data, path)
        found |= {f"{name}|{path}|{what}": values for what, values in state_goldens(oracle, dtype)}
        if path == "linear":
            found[f"{name}|{path}|samples {name_of(dtype)}"] = sample_goldens(oracle, dtype)
        if name in PRUNED:
            part = dict(state_goldens(make(data, path, tolerance=TOLERANCE), dtype))
            asked = "fields", "at noise", f"certify {name_of(dtype)}"
            found |= {f"{name}|{path}|pruned {what}": part[what] for what in asked}
        if dtype == torch.float64:
            found[f"{name}|{path}|curve"] = curve_goldens(oracle, False)
            if data.classes and path == "linear":
                found[f"{name}|{path}|curve by class"] = curve_goldens(oracle, True)
    return found

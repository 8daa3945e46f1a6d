r"""Norm: how long the velocity is, and how it diverges, against t (arXiv 2512.02826, Fig. 8).

Norms are root mean squares over coordinates and probes of the training law, on which

    E|u_cond|^2 = E|u*|^2 + E|u* - u_cond|^2,

so that the oracle's velocity is the shorter one wherever the loss has a floor. The divergence of a network is estimated
by v^T J v with v of random signs (Hutchinson 1990), that of the oracle is exact: A alpha/sigma^2 tr Cov + D B.
"""

import numpy as np
import torch
from torch import Tensor

from flowscope.core.settings import check_count
from flowscope.errors import InputError
from flowscope.fields import VelocityField
from flowscope.networks.eval_mode import eval_mode
from flowscope.oracle import Oracle
from flowscope.studies.bench.finding import Finding, Panel, Series
from flowscope.studies.bench.probe_bench import ProbeBench, Progress, stage_times
from flowscope.studies.bench.variants import variants
from flowscope.training.monitor.evaluate import velocities
from flowscope.training.monitor.probes import Probes

N, BINS, BATCH = 512, 20, 128
CLAIM = (
    "The paper shows the norm of the predicted velocity and related trends against t; no numbers of it are known here."
)
WHY = "There is no claim to compare with: model and oracle are set side by side."
NORMS = ("model", "oracle", "conditional")


def norm_study(
    model: VelocityField,
    oracle: Oracle,
    *,
    n: int = N,
    bins: int = BINS,
    signs: int = 1,
    seed: int = 0,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Finding:
    """Norm and divergence of a model's velocity against t, beside the oracle's.

    Args:
        model: the model; it must be differentiable by x. oracle: of its training set and path.
        n: probes of the training law. bins: equal parts of time. signs: random sign vectors a probe.
        seed: of probes and signs. batch: states a call. progress: called as progress(done, total).

    Raises:
        InputError: an argument is not usable, the model does not fit the oracle or cannot be differentiated.
    """
    found, signs = variants(model, oracle), check_count(signs, "signs")
    bench = ProbeBench(oracle, n, bins, found.conditional, seed, batch)
    states = bench.probes
    squares = {
        "model": velocities(model, states, batch).double().square().flatten(1).mean(1),
        "oracle": states.oracle.double().square().flatten(1).mean(1),
        "conditional": states.target.double().square().flatten(1).mean(1),
    }
    bench.done = 1 + 2 * signs  # a gradient counts as one more evaluation
    norms: dict[str, np.ndarray] = {"t": bench.middle}
    for name, square in squares.items():
        mean, error = bench.by_bin(square.cpu().numpy())
        norms |= {name: np.sqrt(mean), f"{name}_error": error / (2 * np.sqrt(mean))}
    D = oracle.training_set.dimension
    own, exact = hutchinson(model, states, signs, seed, batch, progress) / D, _exact(oracle, states) / D
    divergences = {"t": bench.middle, **bench.columns("model", own), **bench.columns("oracle", exact)}
    divergences |= bench.columns("difference", own - exact)
    times = stage_times(oracle, found.conditional, seed)
    return Finding(
        study="norm",
        title="How long is the velocity, and how does it diverge?",
        where="Fig. 8",
        claim=CLAIM,
        found=_in_words(norms, divergences),
        verdict="no claim",
        why=WHY,
        tables={"norm": norms, "divergence": divergences},
        panels=_panels(),
        notes=(
            "Divergences are for each coordinate: of the model by Hutchinson's estimate, of the oracle exact.",
            f"The oracle's half lies at t = {times.half.t:.3f}, its saturation at t = {times.saturation.t:.3f}.",
            "Errors are standard errors over probes of one model.",
        ),
        **bench.about([model], signs=signs),
    )


def hutchinson(
    model: VelocityField, states: Probes, signs: int, seed: int, batch: int, progress: Progress | None = None
) -> np.ndarray:
    """(n,) estimates of the divergence of a field, a sum over coordinates, at all probes.

    Args:
        signs: random sign vectors a probe, over which the estimate is a mean.

    Raises:
        InputError: the field's answer does not depend on x by a graph that can be differentiated.
    """
    n, D = len(states.t), states.x[0].numel()
    total = torch.zeros(n, dtype=torch.float64, device=states.x.device)
    for k in range(signs):
        v = np.stack([np.random.default_rng((seed, k, i)).integers(0, 2, D) * 2.0 - 1 for i in range(n)])
        drawn = torch.as_tensor(v, dtype=states.x.dtype, device=states.x.device).reshape(states.x.shape)
        for rows, y in states.calls(batch):
            total[rows] += _quadratic(model, states.x[rows], states.t[rows], y, drawn[rows])
        if progress is not None:
            progress(k + 1, signs)
    return (total / signs).cpu().numpy()


def _quadratic(model: VelocityField, x: Tensor, t: Tensor, y: Tensor | None, v: Tensor) -> Tensor:
    """(b,) v^T J v, of the Jacobian of the field by x."""
    with eval_mode(model), torch.enable_grad():
        x = x.detach().requires_grad_()
        u = model(x, t, y)
        if not u.requires_grad:
            raise InputError(
                "the model's velocity cannot be differentiated by x: it runs without gradients; expected a network, or "
                "a field made of networks (of an oracle ask Oracle.divergence)"
            )
        (slope,) = torch.autograd.grad((u * v).sum(), x)
    return (slope * v).flatten(1).double().sum(1)


def _exact(oracle: Oracle, states: Probes) -> np.ndarray:
    """(n,) div u*, a sum over coordinates."""
    found = torch.empty(len(states.t), dtype=torch.float64, device=states.x.device)
    for rows, y in states.calls(len(states.t)):
        found[rows] = oracle.divergence(states.x[rows].double(), states.t[rows], y)
    return found.cpu().numpy()


def _in_words(norms: dict[str, np.ndarray], divergences: dict[str, np.ndarray]) -> str:
    def at(table: dict[str, np.ndarray], name: str, k: int) -> str:
        return f"{table[name][k]:.3f} ± {table[f'{name}_error'][k]:.3f}"

    ends = [
        f"at t = {norms['t'][k]:.3f} the model's velocity is {at(norms, 'model', k)} long and the oracle's "
        f"{at(norms, 'oracle', k)}, their divergences a coordinate are {at(divergences, 'model', k)} and "
        f"{at(divergences, 'oracle', k)}"
        for k in (0, len(norms["t"]) // 2, -1)
    ]
    ratio = norms["model"] / norms["oracle"]
    widest = int(np.abs(ratio - 1).argmax())
    text = "; ".join(ends)
    most = f"The norms differ most at t = {norms['t'][widest]:.3f}, by a factor of {ratio[widest]:.3f}."
    return f"{text[0].upper()}{text[1:]}. {most}"


def _panels() -> tuple[Panel, ...]:
    return (
        Panel("Norm", "t", "rms over coordinates", tuple(Series(s, "norm", "t", s, f"{s}_error") for s in NORMS)),
        Panel(
            "Divergence",
            "t",
            "divergence a coordinate",
            tuple(Series(s, "divergence", "t", s, f"{s}_error") for s in NORMS[:2]),
            y_scale="symlog",  # the oracle's falls without end towards t = 1
        ),
    )

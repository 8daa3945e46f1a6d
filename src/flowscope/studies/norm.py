r"""Norm: the norm and the divergence of the velocity against t (arXiv 2512.02826, Fig. 8).

Norms are root mean squares over coordinates and probes of the training law. On that law

    E|u_cond|^2 = E|u*|^2 + E|u* - u_cond|^2,

so the oracle's velocity is the shorter one wherever the loss has a floor. The divergence of a network is estimated by
v^T J v with random signs v (Hutchinson 1990). That of the oracle is exact: A alpha/sigma^2 tr Cov + D B.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from flowscope.core.settings import check_count
from flowscope.curve.stage_times import StageTimes
from flowscope.errors import InputError
from flowscope.fields import VelocityField
from flowscope.networks.eval_mode import eval_mode
from flowscope.oracle import Oracle
from flowscope.studies.bench.criteria import criterion
from flowscope.studies.bench.finding import Finding, Panel, Progress, Series
from flowscope.studies.bench.ladder import (
    MODEL,
    ORACLE,
    TABLE,
    Fields,
    Standing,
    Statistic,
    column_name,
    reference_fields,
    reference_table,
    stand,
    statistic,
)
from flowscope.studies.bench.marks import mark_stages
from flowscope.studies.bench.noted import noted
from flowscope.studies.bench.probe_bench import ProbeBench
from flowscope.studies.bench.variants import variants
from flowscope.training.monitor.evaluate import velocities
from flowscope.training.monitor.probes import Probes

CLAIM = (
    "The paper shows the norm of the predicted velocity and related trends against t; no numbers of it are known here."
)
NORMS = ("model", "oracle", "conditional")
Columns = dict[str, np.ndarray]


@noted
def norm_study(
    model: VelocityField,
    oracle: Oracle,
    *,
    n: int = 512,
    bins: int = 20,
    signs: int = 1,
    seed: int = 0,
    batch: int = 128,
    references: bool | None = None,
    progress: Progress | None = None,
) -> Finding:
    """Measure norm and divergence of a model's velocity against t, and those of the oracle.

    Args:
        model: the model; it must be differentiable by x.
        oracle: of its training set and path.
        signs: random sign vectors for each probe.
        n, bins, seed, batch, references, progress: as for :func:`flowscope.studies.alignment_study`.

    Raises:
        InputError: an argument cannot be used, or the model does not fit the oracle or cannot be differentiated.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.studies import norm_study
        >>> oracle = fs.Oracle(fs.load("gaussian:N=60,D=4"))
        >>> finding = norm_study(lambda x, t, y=None: -3 * x, oracle, n=80, bins=8)
        >>> finding.tables["divergence"]["model"].tolist()  # for each coordinate
        [-3.0, -3.0, -3.0, -3.0, -3.0, -3.0, -3.0, -3.0]
    """
    found, signs = variants(model, oracle), check_count(signs, "signs")
    bench = ProbeBench(oracle, n, bins, found.conditional, seed, batch)
    rungs, told = reference_fields(oracle, references, (model,))
    norms = _norms(bench, model, rungs)
    shares, standing = _explained(bench, {MODEL: model} | rungs)
    divergences = _divergences(bench, model, signs, progress)
    bench.measurements = 1 + 2 * signs + len(rungs)  # a gradient counts as one more evaluation
    return Finding(
        study="norm",
        title="How long is the velocity, and how does it diverge?",
        where="Fig. 8",
        claim=CLAIM,
        found=f"{standing.in_words('the squared length of the velocity') + ' ' if rungs else ''}"
        f"{_in_words(norms, divergences)}",
        verdict="cannot be tested",
        why=criterion("norm").why,
        tables={"norm": norms, "divergence": divergences}
        | ({TABLE: reference_table("square", shares, standing)} if rungs else {}),
        panels=mark_stages(_panels(list(rungs)), bench.stage_times.boundaries),
        notes=(*_notes(bench.stage_times), *told),
        **bench.about([model], signs=signs, **bench.stage_times.boundaries._asdict()),
    )


def _explained(bench: ProbeBench, fields: Fields) -> tuple[dict[str, Statistic], Standing]:
    """The mean square of each field's velocity over all probes, and where the fields stand by it."""
    answers = {name: velocities(field, bench.probes, bench.batch) for name, field in fields.items()}
    answers[ORACLE] = bench.probes.oracle
    squares = {
        name: statistic((1.0, u.double().square().flatten(1).mean(1).cpu().numpy())) for name, u in answers.items()
    }
    return squares, stand(squares)


def _norms(bench: ProbeBench, model: VelocityField, rungs: Fields) -> Columns:
    states = bench.probes
    fields = dict(zip(NORMS, (velocities(model, states, bench.batch), states.oracle, states.target), strict=True))
    fields |= {column_name(name): velocities(field, states, bench.batch) for name, field in rungs.items()}
    columns = {"t": bench.bin_centres}
    for name, u in fields.items():
        mean, error = bench.by_bin(u.double().square().flatten(1).mean(1).cpu().numpy())
        columns |= {name: np.sqrt(mean), f"{name}_error": error / (2 * np.sqrt(mean))}
    return columns


def _divergences(bench: ProbeBench, model: VelocityField, signs: int, progress: Progress | None) -> Columns:
    """Divergences for each coordinate."""
    D = bench.oracle.training_set.dimension
    own = hutchinson(model, bench.probes, signs, bench.seed, bench.batch, progress) / D
    exact = _oracle_divergence(bench.oracle, bench.probes) / D
    columns = {"t": bench.bin_centres}
    for name, values in (("model", own), ("oracle", exact), ("difference", own - exact)):
        columns |= bench.columns(name, values)
    return columns


def hutchinson(
    model: VelocityField, states: Probes, signs: int, seed: int, batch: int, progress: Progress | None = None
) -> np.ndarray:
    """Estimate the divergence of a field at all probes, as a sum over coordinates.

    Args:
        model: the field.
        states: n probes.
        signs: random sign vectors for each probe, over which the estimate is a mean.
        seed: of the signs.
        batch: states in a call.
        progress: called as progress(done, signs).

    Returns:
        (n,) float64.

    Raises:
        InputError: the field runs without gradients.
    """
    n, D = len(states.t), states.x[0].numel()
    total = torch.zeros(n, dtype=torch.float64, device=states.x.device)
    for k in range(signs):
        v = np.stack([np.random.default_rng((seed, k, i)).integers(0, 2, D) * 2.0 - 1 for i in range(n)])
        drawn = torch.as_tensor(v, dtype=states.x.dtype, device=states.x.device).reshape(states.x.shape)
        for rows, y in states.calls(batch):
            total[rows] += _quadratic_form(model, states.x[rows], states.t[rows], y, drawn[rows])
        if progress is not None:
            progress(k + 1, signs)
    return (total / signs).cpu().numpy()


def _quadratic_form(model: VelocityField, x: Tensor, t: Tensor, y: Tensor | None, v: Tensor) -> Tensor:
    """(b,) v^T J v, with J the Jacobian of the field by x."""
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


def _oracle_divergence(oracle: Oracle, states: Probes) -> np.ndarray:
    """(n,) div u*, as a sum over coordinates."""
    found = torch.empty(len(states.t), dtype=torch.float64, device=states.x.device)
    for rows, y in states.calls(len(states.t)):
        found[rows] = oracle.divergence(states.x[rows].double(), states.t[rows], y)
    return found.cpu().numpy()


def _in_words(norms: Columns, divergences: Columns) -> str:
    def at(table: Columns, name: str, k: int) -> str:
        return f"{table[name][k]:.3f} ± {table[f'{name}_error'][k]:.3f}"

    sentences = [
        f"At t = {norms['t'][k]:.3f} the norm is {at(norms, 'model', k)} for the model and {at(norms, 'oracle', k)} "
        f"for the oracle, the divergence for each coordinate {at(divergences, 'model', k)} and "
        f"{at(divergences, 'oracle', k)}."
        for k in (0, len(norms["t"]) // 2, -1)
    ]
    ratio = norms["model"] / norms["oracle"]
    widest = int(np.abs(ratio - 1).argmax())
    most = f"The norms differ most at t = {norms['t'][widest]:.3f}, by a factor of {ratio[widest]:.3f}."
    return " ".join([*sentences, most])


def _notes(times: StageTimes) -> tuple[str, ...]:
    return (
        "Divergences are for each coordinate: of the model by Hutchinson's estimate, of the oracle exact.",
        f"The oracle's half lies at t = {times.half.t:.3f}, its saturation at t = {times.saturation.t:.3f}.",
        *times.notes(one_time=True),
        "Errors are standard errors over probes of one model.",
    )


def _panels(rungs: Sequence[str]) -> tuple[Panel, ...]:
    norms = tuple(Series.with_error(s, "norm", "t", column_name(s)) for s in (*NORMS, *rungs))
    divergences = tuple(Series.with_error(s, "divergence", "t", s) for s in NORMS[:2])
    return (
        Panel("Norm", "t", "rms over coordinates", norms, low=0),
        # the oracle's divergence is unbounded below as t -> 1
        Panel("Divergence", "t", "divergence for each coordinate", divergences, y_scale="symlog"),
    )

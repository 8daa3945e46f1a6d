r"""The two-stage curve (arXiv 2512.02826, Fig. 2 and 3): where navigation ends and refinement begins.

Probes are pairs (x1_j, x0) from the training law; on each path the posterior is followed at all nodes in one pass
over the points (path_pass.py). Nodes are the timesteps asked for, and an internal grid in log snr from snr(0) up, far
enough to tell the nearest pair apart: on it the crossings are located and the information integral is taken.

"Dominated by the nearest sample" is a mean top-1 weight of at least 0.5 (`half`), settled at 0.99 (`saturation`).

The information and its growth by I-MMSE are also the subject of InfoNoise (arXiv 2602.18647) and entropic time (arXiv
2504.13612).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowscope.core.memory import check_memory
from flowscope.core.progress import Progress, with_progress
from flowscope.core.schema import ArrayForm
from flowscope.core.settings import check_count, check_seed, versions
from flowscope.core.surroundings import undisturbed
from flowscope.curve.checkpoint import ResumeState, catch_up
from flowscope.curve.crossing import RESAMPLES
from flowscope.curve.direct import direct_nodes, measure_direct
from flowscope.curve.distances import product_library
from flowscope.curve.measure import QUANTITIES, Measurement, Part, check_saved, measure, place_nodes
from flowscope.curve.placement import AUTO, place_timesteps
from flowscope.curve.result import StageCurve
from flowscope.curve.summary import predicted_law, summarise
from flowscope.errors import InputError, unknown_name
from flowscope.oracle import Oracle
from flowscope.oracle.engines.matmul import ON_CPU, check_library
from flowscope.oracle.law import ClassLaw
from flowscope.oracle.plan import plan

MAX_TIMESTEPS = 100_000
SUMS_FORM = 3  # of the sums in a ResumeState: raised where older ones cannot be gone on with


@undisturbed
@with_progress
def stages(
    oracle_or_training_set: Any,
    timesteps: int | str | Sequence[float] = 64,
    probes: int = 512,
    seed: int = 0,
    conditional: bool = False,
    *,
    progress: Progress | None = None,
    state: ResumeState | None = None,
) -> StageCurve:
    """Measure the two-stage curve of a training set in one pass over its points.

    Args:
        oracle_or_training_set: an Oracle (its path, memory budget and device are used), or what Oracle takes. With
            ranks every rank makes the same call, passes over its own points and returns the same curve. Deviations that
            differ have no one-pass form: every node is a pass over the points. The notes say which form was taken.
        timesteps: a count n >= 1 for t = 0, 1/n, ..., (n-1)/n, explicit times in [0, 1), or "auto" for 64 times, most
            of them where the curve moves by prediction (placement.py).
        probes: how many pairs (x1, x0) are followed; where conditional, in each class.
        seed: of the probes; the same seed gives the same curve.
        conditional: follow the posterior within the source's class, and report each class. The curve is the mean over
            classes by their weight.
        progress: called as progress(done, total) after every block of points; True for a bar of tqdm.
        state: keeps what is done, so that an interrupted run can go on.

    Raises:
        InputError: an argument is not usable.
        ResumeError: `state` is of another data set or other settings, or of another number of ranks.
        RankError: the ranks ask for different things, or one has failed.
        NumericalError: the sums left the range of float64.

    Example:
        >>> import torch
        >>> from flowscope import stages
        >>> curve = stages(torch.eye(20), timesteps=4, probes=64)
        >>> curve.t.tolist()
        [0.0, 0.25, 0.5, 0.75]
        >>> float(curve.top1[0].round(6))  # at t = 0 all 20 points weigh the same
        0.05
        >>> 0 < curve.half.t < curve.saturation.t < 1
        True
    """
    began = time.perf_counter()
    oracle = oracle_or_training_set if isinstance(oracle_or_training_set, Oracle) else Oracle(oracle_or_training_set)
    oracle.training_set.check_unchanged()
    settings = _settings(oracle, probes, seed, conditional)
    laws = oracle.support.class_laws() if conditional else [ClassLaw(1.0, None, oracle.support.law())]
    settings = _times(oracle, laws, timesteps) | settings
    what = _measurement(oracle, laws, settings, state)
    how = partial(measure_direct, oracle) if oracle.support.own_deviations else measure
    parts, resampled = _measure_laws(what, laws, how, progress)
    provenance = _provenance(what, len(laws))
    curve = summarise(oracle, laws, what.nodes, parts, resampled, settings, provenance)
    return replace(curve, provenance=provenance | {"seconds": round(time.perf_counter() - began, 3)})


def _times(oracle: Oracle, laws: list[ClassLaw], timesteps: Any) -> dict[str, Any]:
    """The timesteps as a setting, with a word on where they come from if they were placed."""
    if not (isinstance(timesteps, str) and timesteps == AUTO):
        return {"timesteps": check_timesteps(timesteps).tolist()}
    if oracle.support.own_deviations:
        raise InputError(
            f"timesteps are {AUTO!r}, which needs a prediction, and the deviations of {oracle.training_set.name} "
            "differ; expected a count or times"
        )
    placed = place_timesteps(oracle.law_path, [[predicted_law(oracle, c) for c in laws]])
    return {"timesteps": placed.tolist(), "placement": AUTO}


def _settings(oracle: Oracle, probes: Any, seed: Any, conditional: Any) -> dict[str, Any]:
    """What a curve is measured with, checked, as plain numbers and texts."""
    probes, seed = check_count(probes, "probes"), check_seed(seed)
    if not isinstance(conditional, bool):
        raise InputError(f"conditional is {conditional!r}; expected True or False")
    return {
        "path": oracle.path.name,
        "probes": probes,
        "seed": seed,
        "conditional": conditional,
        "memory": oracle.memory,
        "device": str(oracle.device),
    }


def _measurement(
    oracle: Oracle, laws: list[ClassLaw], settings: dict[str, Any], state: ResumeState | None
) -> Measurement:
    """What is measured of every law, agreed upon with the other ranks and with the run that is resumed."""
    probes, t, whole = settings["probes"], np.array(settings["timesteps"]), oracle.support.law()
    oracle.path(torch.as_tensor(t))  # refuses times outside [0, 1)
    entropy = min(c.law.entropy for c in laws)
    if oracle.support.own_deviations:
        nodes = direct_nodes(oracle, t, entropy)
    else:
        nodes = place_nodes(oracle.law_path, t, whole.mean_square, entropy)
    room = 8 * len(nodes.r) * ((len(QUANTITIES) + 1) * (probes + 3 * len(laws)) + 3 * RESAMPLES)
    check_memory(room, f"a curve of {len(nodes.r)} nodes and {probes} probes", "ask for fewer timesteps or probes")
    what = Measurement(oracle.law_path, nodes, probes, settings["seed"], oracle.memory, None, state, oracle.ranks)
    return replace(what, library=_begin(oracle, laws, settings, what))


def _begin(oracle: Oracle, laws: list[ClassLaw], settings: dict[str, Any], what: Measurement) -> str:
    """Agree with the other ranks, and open the state; the library of float32 products.

    That is the library of the run which is resumed, or the one that suits the machine.
    """
    ranks, state = oracle.ranks, what.state
    if ranks is not None:  # each may compute on a device of its own
        wanted = {name: value for name, value in settings.items() if name != "device"}
        ranks.agree("settings", wanted | {"resumable": state is not None})
    chosen = product_library(laws[0].law, oracle.library)
    if state is None:
        return chosen
    state.open(
        {"training_set": oracle.training_set.digest, **settings, **_arithmetic(oracle, laws, settings["probes"])}
    )
    check_saved(state, laws, what)
    catch_up(state, ranks)
    if (kept := state.get("library")) is not None:
        state.check("library", {"name": ArrayForm("U", ())})
        if (name := str(kept["name"])) not in ON_CPU:
            raise unknown_name("the library in the state of the interrupted run", name, ON_CPU)
        return check_library(name) or chosen
    state.keep("library", {"name": np.array(chosen)})
    return chosen


def _arithmetic(oracle: Oracle, laws: list[ClassLaw], probes: int) -> dict[str, Any]:
    """What the last bits of a curve depend on besides its settings: a resumed run must have the same."""
    sizes = [plan(oracle.memory, probes, len(c.law), oracle.training_set.dimension) for c in laws]
    ranks = [0, 1] if oracle.ranks is None else [oracle.ranks.rank, oracle.ranks.size]
    return {"form": SUMS_FORM, "threads": torch.get_num_threads(), "block": [list(s) for s in sizes], "ranks": ranks}


def _provenance(what: Measurement, laws: int) -> dict[str, Any]:
    """Versions, and how many posteriors were evaluated."""
    found: dict[str, Any] = {**versions(), "nfe": what.probes * laws * len(what.nodes.r)}
    return found if what.ranks is None else found | {"ranks": what.ranks.size}


def check_timesteps(timesteps: Any) -> np.ndarray:
    """(T,) the times that `stages` makes of its argument.

    Raises:
        InputError: it is neither a count nor a list of increasing numbers.
    """
    if isinstance(timesteps, (int, np.integer)) and not isinstance(timesteps, bool):
        count = check_count(timesteps, "timesteps")
        if count > MAX_TIMESTEPS:
            raise InputError(f"timesteps is {count}; expected at most {MAX_TIMESTEPS}")
        return np.arange(count) / count
    try:
        values = timesteps.detach().cpu() if isinstance(timesteps, Tensor) else timesteps
        t = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        t = np.empty((0, 0))
    if t.ndim != 1 or len(t) == 0:
        raise InputError(
            f"timesteps is {timesteps!r}; expected a count of at least 1, or a list of times in [0, 1), or {AUTO!r}"
        )
    falls = np.flatnonzero(np.diff(t) <= 0)
    if len(falls):
        a, b = t[falls[0] : falls[0] + 2].tolist()
        raise InputError(f"timesteps do not increase: {a} is followed by {b}; expected each time once, in order")
    return t


def _measure_laws(
    what: Measurement,
    laws: list[ClassLaw],
    how: Callable[[Measurement, ClassLaw, Callable[[int], None]], tuple[Part, np.ndarray]],
    progress: Progress | None,
) -> tuple[list[Part], np.ndarray]:
    """Every law's part, and (RESAMPLES, R) the mean over laws of the bootstrap means of the top-1 weight."""
    saved = what.saved("finished")
    resampled = saved.pop("resampled", np.zeros((RESAMPLES, len(what.nodes.r))))
    parts = [Part(*row) for row in zip(*(saved[name] for name in Part._fields), strict=True)] if saved else []
    work = [what.work(c.law) for c in laws]
    for k, c in enumerate(laws):

        def report(at: int, before: int = sum(work[:k])) -> None:
            if progress is not None:
                progress(before + at, sum(work))

        if k >= len(parts):
            part, own = how(what, c, report)
            parts.append(part)
            resampled = resampled + c.share * own
            columns = {name: np.stack([getattr(p, name) for p in parts]) for name in Part._fields}
            what.keep("finished", {**columns, "resampled": resampled})
        report(work[k])
    return parts, resampled

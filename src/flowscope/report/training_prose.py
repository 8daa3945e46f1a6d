"""Sentences of the page of a training: one for each thing that is measured."""

import math
from typing import Any

import numpy as np

from flowscope.figures.style import STANDARD_ERRORS_95
from flowscope.report.formatting import number, percent, time, with_error
from flowscope.studies.bench.wording import noun
from flowscope.training.watch import Watched, change

COMPARABLE = {"target": "cfm", "density": "uniform", "shift": 1.0}  # settings whose loss in training has this floor


def state(watched: Watched) -> str:
    """Whether the training goes on, and after which step this was measured."""
    about, settings = watched.about, watched.about["settings"]
    at = f"step {about['step']:,} of {settings['steps']:,}"
    return {
        "running": f"The training runs. Measured after {at}; this page is drawn again every "
        f"{settings['checkpoint_every']:,} steps, and reloads itself.",
        "finished": f"The training is finished. Measured after {at}.",
        "interrupted": f"The training was interrupted. Measured after {at}; what was trained after it is kept, too.",
        "failed": f"The training has failed; the terminal says why. Measured after {at}.",
    }[watched.state]


def sentences(watched: Watched) -> list[str]:
    """What the numbers say, one sentence for each."""
    found = watched.measurement
    if found is None:
        return ["The network could not be measured; the notes say why."]
    return [*_loss(watched), *_excess(watched), *_gap(watched), *_copies(watched)]


def whole(watched: Watched) -> bool:
    """Whether the network was trained on all times, so that means over all t say something of it."""
    return tuple(watched.about["settings"]["interval"]) == (0.0, 1.0)


def trained(watched: Watched) -> np.ndarray:
    """(bins,) which parts of time the network was trained on with their middle."""
    low, high = watched.about["settings"]["interval"]
    t = watched.measurement.t if watched.measurement is not None else np.empty(0)
    return (t >= low) & (t < high)


def _loss(watched: Watched) -> list[str]:
    if not whole(watched):
        low, high = watched.about["settings"]["interval"]
        return [f"The network is an expert for t from {low:g} to {high:g}, and is shown there alone."]
    total: Any = watched.measurement.total if watched.measurement is not None else {}
    share = total["oracle_loss"] / total["loss"] if total["loss"] > 0 else math.nan
    of = f", {percent(share)} of the loss" if math.isfinite(share) else ""
    words = (
        f"The loss is {with_error(total['loss'], total['loss_error'])} (mean over coordinates, t uniform on [0, 1)), "
        f"of which {with_error(total['floor'], total['floor_error'])} is the floor that no network can beat: the "
        f"network's own error is {with_error(total['oracle_loss'], total['oracle_loss_error'])}{of}."
    )
    changed = change(watched.history)
    if changed is None:
        return [words]
    step, fell, error = changed
    was = total["oracle_loss"] + fell
    reach = STANDARD_ERRORS_95 * error
    if fell > reach:
        told = "it still falls, and more steps would help"
    elif fell < -reach:
        told = "it has risen: a lower learning rate may help"
    else:
        told = "that is no clear change"
    return [words, f"That error was {number(was)} after step {step:,}; {told}."]


def _excess(watched: Watched) -> list[str]:
    found, where = watched.measurement, trained(watched)
    if found is None or not where.any():
        return []
    k = int(np.flatnonzero(where)[found.oracle_loss[where].argmax()])
    worst = with_error(found.oracle_loss[k], found.oracle_loss_error[k])
    return [
        f"The error is largest at log-snr {number(found.log_snr[k])} (t = {time(found.t[k])}), where it is {worst}."
    ]


def _gap(watched: Watched) -> list[str]:
    found = watched.measurement
    if found is None or not whole(watched):
        return []
    if found.gap is None:
        return ["No points are held out, so the page cannot say whether the network overfits: train with --held-out N."]
    total = found.total
    ends = f"{number(total['gap_after_half_low'])} to {number(total['gap_after_half_high'])}"
    told = (
        "all of it above 0: the network overfits, which does not say that it copies"
        if found.overfits
        else "which holds 0 or lies below: no overfitting is seen"
    )
    if math.isnan(total["gap_after_half"]):
        return ["The generalisation gap after the oracle's half is undefined: too few held-out points belong to it."]
    words = (
        f"From the oracle's half on (t = {time(total['half'])}) the loss on held-out points less that on training "
        f"points is {number(total['gap_after_half'])} (95 % interval {ends}), {told}."
    )
    return [words]


def _copies(watched: Watched) -> list[str]:
    if watched.own is None:
        return []
    own = watched.own.memorised
    called = noun(watched.own.samples.shape[1:])
    words = f"{round(own.share * own.n):,} of {own.n:,} samples are copies of training {called}s"
    words += f" (d1/d2 below 1/3; 95 % interval {percent(own.low)} to {percent(own.high)})"
    if not own.null_n:
        return [f"{words}; how many held-out {called}s pass the same test is unknown, for none are held out."]
    null = f"{round(own.null_share * own.null_n):,} of {own.null_n:,} held-out {called}s"
    more = own.low > own.null_high
    told = "the samples clearly more often" if more else "so that is no sign of memorisation"
    return [f"{words}; {null} pass the same test, {told}."]

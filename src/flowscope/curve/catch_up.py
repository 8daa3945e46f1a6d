"""Resuming on several ranks: each has a state of its own, and all must go on from the same place."""

import io
import json

import numpy as np

from flowscope.curve.checkpoint import ResumeState, pack, unpack
from flowscope.oracle import Ranks

OWN = ("sums", "at")  # of the group "current": what a rank has done of its own points since the ranks last met


def catch_up(state: ResumeState, ranks: Ranks | None) -> None:
    """Bring every rank to where the one that got farthest was.

    Ranks meet after every batch of probes, and from then on hold the same; one that was killed at that moment may not
    have written it. It is given that by the one that got farthest, and begins its points of this batch anew.
    """
    if ranks is None:
        return
    here = _place(state)
    everyone = [json.loads(text) for text in ranks.gather(json.dumps(here).encode())]
    farthest = max(everyone)
    if min(everyone) == farthest:
        return
    sent = ranks.from_rank(everyone.index(farthest), pack({}, _common(state)))
    if here != farthest:
        state.drop("current")
        for group, arrays in unpack(io.BytesIO(sent))[1].items():
            state.keep(group, arrays)


def _place(state: ResumeState) -> list[int]:
    """[laws finished, probes of the next one finished]"""
    finished, current = state.get("finished"), state.get("current")
    return [0 if finished is None else len(finished["means"]), 0 if current is None else int(current["probe"])]


def _common(state: ResumeState) -> dict[str, dict[str, np.ndarray]]:
    """What all ranks hold at the same place."""
    groups = {name: state.get(name) or {} for name in ("finished", "current")}
    groups["current"] = {name: value for name, value in groups["current"].items() if name not in OWN}
    return {name: arrays for name, arrays in groups.items() if arrays}

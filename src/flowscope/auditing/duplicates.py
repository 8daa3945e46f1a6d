"""The audit of a training set alone: which of its points are copies or near-copies of others."""

import numpy as np
import torch
from torch import Tensor

from flowscope.auditing import rule
from flowscope.auditing.inputs import about, as_float, names, shown_pairs
from flowscope.auditing.planted import Values, kinds_for, originals, values_of
from flowscope.auditing.result import Audit, Pair
from flowscope.core.settings import versions
from flowscope.data.near_copies import NEAR, describe, near_copies
from flowscope.data.pixels import is_image
from flowscope.data.training_set import TrainingSet

RULE = (
    f"A point is a near-copy of an earlier one where their distance is below {NEAR} of that to the nearest point that "
    "is none, for both."
)


def audit_training_set(s: TrainingSet, planted: int, seed: int) -> Audit:
    """Find copies and near-copies within a set; see :func:`flowscope.data.near_copies.near_copies`."""
    group, values = torch.from_numpy(near_copies(s)), values_of(s)
    first = torch.from_numpy(np.unique(group.numpy(), return_index=True)[1])[group]
    later = (first != torch.arange(len(s))).nonzero()[:, 0]
    distance, mirrored = _distances(s, later, first[later])
    order = torch.from_numpy(np.argsort(distance.numpy(), kind="stable"))
    later, distance, mirrored = later[order], distance[order], mirrored[order]
    told = names(s, later), names(s, first[later]), distance.tolist()
    share = rule.share_of(first != torch.arange(len(s)))
    return Audit(
        len(s),
        *share,
        null=None,
        pairs=tuple(Pair(a, b, d, float("nan"), True) for a, b, d in zip(*told, strict=True)),
        planted=_recall(s, group, values, planted, seed),
        rule=RULE,
        threshold=NEAR,
        third=(share, None),
        measures=(),
        space={"name": "pixels", "method": "blurred pixels, least over mirror images", "features": "none"},
        ratios=(np.empty(0), np.empty(0)),
        shown=shown_pairs(s, later, s, first[later], mirrored, values),
        notes=s.notes,
        training_set=about(s),
        settings={"generated": None, "held_out": None, "space": "pixels", "planted": planted, "seed": seed},
        provenance={"criteria": rule.VERSION, **versions()},
    )


def _distances(s: TrainingSet, points: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) distances of the descriptors of points and their originals, and whether mirrored; 0 where they are equal."""
    if not len(points) or not is_image(s.shape):
        return torch.zeros(len(points), dtype=torch.float64), torch.zeros(len(points), dtype=torch.bool)
    found = []
    for rows, others_of in zip(points.split(256), others.split(256), strict=True):
        a, b = (s.rows(part.numpy()) for part in (rows, others_of))
        one, other = describe(a)[0], describe(b)[0]
        plain, mirror = ((one - v).flatten(1).double().norm(dim=1) for v in (other, other.flip(-1)))
        found.append(torch.stack([plain, mirror]))
    plain, mirror = torch.cat(found, 1)
    return torch.minimum(plain, mirror), mirror < plain


def _recall(s: TrainingSet, group: Tensor, values: Values, planted: int, seed: int) -> dict[str, float]:
    """The share of planted copies of each kind that are in one group with what they were made of."""
    kinds = kinds_for(s)
    positions = originals(s, group, planted * len(kinds), seed)
    parts = [positions[k :: len(kinds)] for k in range(len(kinds))]  # an image has one planted copy, not eight
    if not planted or not all(len(part) for part in parts):
        return {}
    whole = as_float(s.rows(slice(None)))
    made = [change(whole[part], values).to(whole.dtype) for part, change in zip(parts, kinds.values(), strict=True)]
    both = near_copies(torch.cat([whole, *made]))
    at, found = len(s), {}
    for kind, part in zip(kinds, parts, strict=True):
        found[kind] = float((both[at : at + len(part)] == both[part]).mean())
        at += len(part)
    return found

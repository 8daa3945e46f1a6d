"""What a training set is, and what its spectrum predicts, without any oracle evaluation."""

import math
from collections import Counter
from typing import Any

import numpy as np

from flowscope.core.serialize import to_jsonable
from flowscope.curve.boundaries import predict_by_class, recommend
from flowscope.curve.measure import LEVELS
from flowscope.curve.prediction import predicted_snr, threshold
from flowscope.curve.subsets import MOST_SUBSET_POINTS, predict_from_subsets
from flowscope.curve.summary import UNKNOWN, describe, predict, predictable, predicted_law
from flowscope.data import TrainingSet
from flowscope.data.channels import channel_statistics
from flowscope.data.near_copies import near_copies
from flowscope.data.pixels import is_image
from flowscope.oracle import Oracle
from flowscope.oracle.law import ClassLaw

MAX_NEAR_COPY_IMAGES = 10_000  # images times channels, up to which near-copies are looked for without being asked


def training_set_info(oracle: Oracle, subsets: bool = False, near_duplicates: bool | None = None) -> dict[str, Any]:
    """Plain facts about an oracle's training set: how it was read, what it holds, what its spectrum predicts.

    Args:
        oracle: of the set.
        subsets: also predict from six measured subsets of points.
        near_duplicates: look for images that are nearly copies; None for sets of at most 10,000 images times channels,
            where that takes seconds.

    Returns:
        How the set was read: `source`, `format`, `normalisation`, `flips`, `options`, `notes`. Of points (C, H, W)
        `mean`, `standard_deviation` and `range` are lists by channel, of others lists of one number, weighted as the
        points are. `duplicates` counts exact copies, `near_duplicates` those beyond them, `classes` points by class.
        Where there are two classes, `predicted_by_class` is the boundary within classes and `recommended` says which
        of the two a training follows.

        Numbers that are not defined or were not looked for are None. `predicted` and `predicted_saturation` are times
        on the oracle's path, and `threshold` is I*(N) in nats. `half_from_subsets` and `saturation_from_subsets`, if
        asked for, have t, low and high. `effective_rank` is exp of the entropy of the covariance's eigenvalues (Roy and
        Vetterli 2007).
    """
    s, law = oracle.training_set, oracle.support.law()
    known = predicted_law(oracle, ClassLaw(1.0, None, law))
    clustered, plain = known.spectra
    expected, snr = UNKNOWN, math.nan
    if predictable(oracle):
        expected, snr = predict(oracle.law_path, [known]), predicted_snr([known], LEVELS[0])
    group = oracle.support.group[: len(s)]  # of the points as they are stored
    duplicates = len(s) - len(np.unique(group))
    near, why_not = _near_duplicates(s, group, near_duplicates)
    about = _how_read(s) | {"notes": "none"} | describe(oracle) | channel_statistics(s)._asdict()
    about |= {
        "classes": _class_sizes(s),
        "duplicates": duplicates,
        "near_duplicates": near,
        **({"near_duplicates_skipped": why_not} if why_not else {}),
        "total_variance": plain.total_variance,
        "effective_rank": plain.effective_rank,
        "path": oracle.path.name,
        "predicted": expected.half,
        "predicted_saturation": expected.saturation,
        "predicted_plain": expected.plain,
        "threshold": math.nan if law.entropy < math.log(2) else threshold(max(2.0, math.exp(law.entropy))),
        "spectrum": plain.note,
        "clusters": len(clustered.weights),
        "predicted_log_snr": math.log(snr) if snr > 0 else math.nan,
    }
    by_class, note = predict_by_class(oracle)
    if by_class is not None:
        recommended = " ".join(filter(None, (recommend(by_class.half, expected.half), note)))
        about |= {"predicted_by_class": by_class.half, "predicted_saturation_by_class": by_class.saturation}
        about |= {"recommended": recommended or None}
    if subsets:
        found = predict_from_subsets(oracle, min(MOST_SUBSET_POINTS, len(law) // 2))
        about |= {f"{name}_from_subsets": getattr(found, name)._asdict() for name in ("half", "saturation")}
    return dict(to_jsonable(about))


def _how_read(s: TrainingSet) -> dict[str, Any]:
    """Where the points came from, and what was done to them on the way."""
    options = {name: value for name, value in s.origin.items() if name not in ("format", "flips")}
    return {"source": s.source, "format": s.origin.get("format"), "flips": s.origin.get("flips"), "options": options}


def _near_duplicates(s: TrainingSet, exact: np.ndarray, wanted: bool | None) -> tuple[int | None, str]:
    """How many points are near-copies of others and no exact ones, or None and why that was not looked for.

    Codes of mirror images that are stored with those of images are the second half of the points, and do not count.
    """
    if not is_image(s.shape):
        return None, "points are no images"
    if wanted is False:
        return None, "not asked for"
    if wanted is None and len(s) * s.shape[0] > MAX_NEAR_COPY_IMAGES:
        return None, f"{len(s):,} images take long: ask for it (--near-duplicates, near_duplicates=True)"
    own = len(s) // 2 if s.origin.get("flips") and not s.augmentations else len(s)
    return len(np.unique(exact[:own])) - len(np.unique(near_copies(s)[:own])), ""


def _class_sizes(s: TrainingSet) -> dict[str, int]:
    """Points by class name; a name that several labels share is told apart by them."""
    if s.labels is None:
        return {}
    labels, sizes = np.unique(s.labels, return_counts=True)
    shared = Counter(s.class_name(y) for y in labels.tolist())
    names = (f"{name} ({y})" if shared[name := s.class_name(y)] > 1 else name for y in labels.tolist())
    return dict(zip(names, sizes.tolist(), strict=True))

"""What a training set is, and what its spectrum predicts, without any oracle evaluation."""

import math
from collections import Counter
from typing import Any

import numpy as np

from flowscope.core.serialize import to_jsonable
from flowscope.curve.measure import LEVELS
from flowscope.curve.prediction import predicted_snr, threshold
from flowscope.curve.subsets import MOST_SUBSET_POINTS, predict_from_subsets
from flowscope.curve.summary import describe, predict, predicted_law
from flowscope.data import TrainingSet
from flowscope.oracle import Oracle
from flowscope.oracle.law import ClassLaw


def training_set_info(oracle: Oracle, subsets: bool = False) -> dict[str, Any]:
    """Plain facts about an oracle's training set: counts, classes, entropy, digest, spectrum, predicted boundary.

    Numbers that are not defined are None. `predicted` and `predicted_saturation` are times on the oracle's path, and
    `threshold` is I*(N) in nats. `half_from_subsets` and `saturation_from_subsets`, if asked for, have t, low and high.
    `effective_rank` is exp of the entropy of the covariance's eigenvalues (Roy and Vetterli 2007).
    """
    s, law = oracle.training_set, oracle.support.law()
    known = predicted_law(oracle, ClassLaw(1.0, None, law))
    clustered, plain = known.spectra
    expected, snr = predict(oracle.path, [known]), predicted_snr([known], LEVELS[0])
    about = describe(oracle) | {
        "classes": _class_sizes(s),
        "duplicates": len(s) - len(np.unique(oracle.support.group)),
        "total_variance": plain.total_variance,
        "effective_rank": plain.effective_rank,
        "path": oracle.path.name,
        "predicted": expected.half,
        "predicted_saturation": expected.saturation,
        "predicted_plain": expected.plain,
        "threshold": threshold(math.exp(law.entropy)) if len(law) > 1 else math.nan,
        "spectrum": plain.note,
        "clusters": len(clustered.weights),
        "predicted_log_snr": math.log(snr) if snr > 0 else math.nan,
    }
    if subsets:
        found = predict_from_subsets(oracle, min(MOST_SUBSET_POINTS, len(law) // 2))
        about |= {f"{name}_from_subsets": getattr(found, name)._asdict() for name in ("half", "saturation")}
    return dict(to_jsonable(about))


def _class_sizes(s: TrainingSet) -> dict[str, int]:
    """Points by class name; a name that several labels share is told apart by them."""
    if s.labels is None:
        return {}
    labels, sizes = np.unique(s.labels, return_counts=True)
    shared = Counter(s.class_name(y) for y in labels.tolist())
    names = (f"{name} ({y})" if shared[name := s.class_name(y)] > 1 else name for y in labels.tolist())
    return dict(zip(names, sizes.tolist(), strict=True))

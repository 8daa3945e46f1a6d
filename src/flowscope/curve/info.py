"""What a training set is, and what its spectrum predicts, without any oracle evaluation."""

import math
from collections import Counter
from typing import Any

import numpy as np

from flowscope.core.serialize import to_jsonable
from flowscope.curve.prediction import boundary_snr
from flowscope.curve.summary import describe, measured_spectra, predict
from flowscope.data import TrainingSet
from flowscope.oracle import Oracle
from flowscope.oracle.law import ClassLaw


def training_set_info(oracle: Oracle) -> dict[str, Any]:
    """Plain facts about an oracle's training set: counts, classes, entropy, digest, spectrum, predicted boundary.

    Numbers that are not defined are None. `predicted_*` are t_half on the oracle's path; `effective_rank` is exp of the
    entropy of the covariance's eigenvalues (Roy and Vetterli 2007).
    """
    s, law = oracle.training_set, oracle.support.law()
    clustered, whole = measured_spectra(oracle, law)
    about = describe(oracle) | {
        "classes": _class_sizes(s),
        "duplicates": len(s) - len(np.unique(oracle.support.group)),
        "total_variance": whole.total_variance,
        "effective_rank": whole.effective_rank,
        "path": oracle.path.name,
    }
    for name, spectrum in (("predicted", clustered), ("predicted_plain", whole)):
        about[name] = predict(oracle.path, [ClassLaw(1.0, None, law)], [spectrum])
        about[name.replace("predicted", "spectrum")] = spectrum.note
    snr = boundary_snr([(1.0, law.entropy, clustered)])
    about["predicted_log_snr"] = math.log(snr) if snr > 0 else math.nan
    return dict(to_jsonable(about))


def _class_sizes(s: TrainingSet) -> dict[str, int]:
    """Points by class name; a name that several labels share is told apart by them."""
    if s.labels is None:
        return {}
    labels, sizes = np.unique(s.labels, return_counts=True)
    shared = Counter(s.class_name(y) for y in labels.tolist())
    names = (f"{name} ({y})" if shared[name := s.class_name(y)] > 1 else name for y in labels.tolist())
    return dict(zip(names, sizes.tolist(), strict=True))

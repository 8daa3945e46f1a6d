"""The two boundaries of a labelled set: of all points, and within each class; which of them a training follows."""

import math
from typing import NamedTuple

import numpy as np

from flowscope.curve.result import StageCurve
from flowscope.curve.summary import Expected, predict, predictable, predicted_law
from flowscope.errors import InputError
from flowscope.oracle import Oracle
from flowscope.oracle.law import ClassLaw

MAX_PREDICTED_CLASSES = 32  # whose spectra are measured; of more classes these are spread evenly over the labels
AGREE_WITHIN = 0.01  # relative, of two boundaries that are called equal


class OtherBoundary(NamedTuple):
    """The boundary of a labelled set that a curve did not measure: within classes, or of all points.

    Attributes:
        half: where the mean top-1 weight crosses 0.5.
        measured: by another curve; otherwise it is predicted from spectra.
        note: on how it was predicted, or "".
    """

    half: float
    measured: bool
    note: str = ""


def other_boundary(oracle: Oracle, conditional: bool) -> OtherBoundary | None:
    """Predict the boundary of all points beside a conditional curve, and that within classes beside another one.

    None where there are not two classes. Evaluates no oracle.
    """
    if len(oracle.training_set.classes) < 2 or not predictable(oracle):
        return None
    if conditional:
        law = predicted_law(oracle, ClassLaw(1.0, None, oracle.support.law()))
        return OtherBoundary(predict(oracle.law_path, [law]).half, False)
    found, note = predict_by_class(oracle)
    return None if found is None else OtherBoundary(found.half, False, note)


def boundary_beside(beside: StageCurve, oracle: Oracle, conditional: bool) -> OtherBoundary:
    """The measured boundary of an earlier curve of the same points, for a curve that is yet to be measured.

    Raises:
        InputError: it is of other points or another path, or both are conditional, or neither is.
    """
    for what, there, here in (
        ("digest", beside.training_set["digest"], oracle.training_set.digest),
        ("path", beside.settings["path"], oracle.path.name),
    ):
        if there != here:
            raise InputError(f"the curve beside this one has the {what} {there}; expected that of this one, {here}")
    if conditional == beside.conditional:
        raise InputError(
            f"the curve beside this one is {'' if conditional else 'un'}conditional, as this one is; expected one with "
            "--conditional (conditional=True) and one without"
        )
    return OtherBoundary(beside.half.t, True)


def predict_by_class(oracle: Oracle) -> tuple[Expected | None, str]:
    """The boundaries of the mean over classes, and a note where not all were looked at; None without two classes."""
    if len(oracle.training_set.classes) < 2 or not predictable(oracle):
        return None, ""
    laws = oracle.support.class_laws()
    if len(laws) < 2:
        return None, ""
    chosen = np.linspace(0, len(laws) - 1, min(MAX_PREDICTED_CLASSES, len(laws))).round().astype(int)
    total = sum(laws[k].share for k in chosen)
    known = [predicted_law(oracle, laws[k]._replace(share=laws[k].share / total)) for k in chosen]
    note = "" if len(chosen) == len(laws) else f"Predicted from {len(chosen)} of {len(laws):,} classes."
    return predict(oracle.law_path, known), note


def recommend(by_class: float, whole: float) -> str:
    """Which of two values of `half` a training follows, and why; empty where one of them is undefined.

    Args:
        by_class: the mean over classes, each with its own posterior.
        whole: that of all points together.

    Example:
        >>> from flowscope.curve.boundaries import recommend
        >>> recommend(0.31, 0.31)
        'Both boundaries agree within 1 %: take either.'
    """
    if not (math.isfinite(by_class) and math.isfinite(whole)):
        return ""
    if abs(by_class - whole) <= AGREE_WITHIN * max(by_class, whole):
        return f"Both boundaries agree within {100 * AGREE_WITHIN:g} %: take either."
    return (
        f"For class-conditional training take the conditional one, t = {by_class:.4f}: a network that is given the "
        "label learns each class as a training set of its own. A network without labels learns all points together: "
        f"t = {whole:.4f}."
    )

"""Sentences of the pages that depend on numbers: what a stage curve means for its training set."""

import math
from typing import Any, NamedTuple

from flowscope.curve.boundaries import OtherBoundary, recommend
from flowscope.curve.result import AGREES_WITHIN
from flowscope.errors import InputError
from flowscope.paths import get_path
from flowscope.report.formatting import NBSP, crossing, number, percent, time, with_error
from flowscope.report.plain_text import without_paths
from flowscope.sampling.schedules import DEFAULT_STEPS, steps_before

MEAN_WEIGHT = "the mean weight of the heaviest training point"


class StageCard(NamedTuple):
    """A stage: its name, from when to when it lasts, and what happens in it."""

    stage: str
    times: str
    meaning: str


def name_of(result: Any) -> str:
    """What the training set is called; of a path its last part."""
    return without_paths(str(result.training_set["name"])) or "points"


def describe(training_set: dict[str, Any]) -> str:
    """The training set in one line."""
    count, distinct = training_set["N"], training_set.get("distinct", training_set["N"])
    shape = " × ".join(str(n) for n in training_set["shape"])
    words = f"{count:,} training points of shape {shape}"
    return words + (f", {distinct:,} of them distinct" if distinct != count else "")


def verdict(curve: Any) -> str:
    """The result in one sentence."""
    name, half, saturation = name_of(curve), curve.half.t, curve.saturation.t
    if math.isfinite(half) and math.isfinite(saturation):
        return (
            f"On {name}, navigation lasts to t = {time(half)} and the transition to t = {time(saturation)}; "
            "from there on flow matching refines single training points."
        )
    if math.isfinite(half):
        return f"On {name}, navigation lasts to t = {time(half)}; the transition does not end: {_why(curve, 0.99)}."
    return f"On {name}, no boundary between navigation and refinement was found: {_why(curve, 0.5)}."


def _why(curve: Any, level: float) -> str:
    first, last = float(curve.top1[0]), float(curve.top1[-1])
    if first >= level:
        return f"{MEAN_WEIGHT} is {number(first)} already at t = {time(float(curve.t[0]))}"
    if last < level:
        return f"{MEAN_WEIGHT} is still {number(last)} at t = {time(float(curve.t[-1]))}"
    return f"{MEAN_WEIGHT} does not cross {level} once and for all"


def stage_cards(curve: Any) -> list[StageCard]:
    """A card for each stage that there is."""
    half, saturation = curve.half, curve.saturation
    if not math.isfinite(half.t):
        return []
    settles = math.isfinite(saturation.t)
    end = time(saturation.t) if settles else "1"
    shared = "Many training points share the posterior: the velocity points at a mixture of them, and a network learns"
    navigation = f"{shared} where to go. End: {crossing(half)}."
    top = f"0.99. End: {crossing(saturation)}." if settles else f"{number(float(curve.top1[-1]))}; 0.99 is not reached."
    transition = f"One training point takes over: the mean weight of the heaviest grows from 0.5 to {top}"
    cards = [
        StageCard("navigation", f"t = 0 to {time(half.t)}", navigation),
        StageCard("transition", f"t = {time(half.t)} to {end}", transition),
    ]
    if settles:
        meaning = (
            "One training point carries nearly all the weight: the velocity points at it, and the details are drawn."
        )
        cards.append(StageCard("refinement", f"t = {end} to 1", meaning))
    return cards


def steps(curve: Any) -> str:
    """How many uniform steps navigation takes."""
    half = curve.half.t
    if not math.isfinite(half):
        return "The end of navigation was not found, so the number of its steps is unknown."
    count = steps_before(half)
    steps, last = DEFAULT_STEPS, 1 - 1 / DEFAULT_STEPS
    return (
        f"Of {steps} uniform Euler steps, which start at t = 0, {1 / steps}, …, {last}, {count} start below "
        f"t = {time(half)}: {percent(count / steps)} of the network evaluations navigate."
    )


def guidance(curve: Any) -> str:
    """What the curve does not say about classifier-free guidance, and what does."""
    advice = (
        "The curve does not say in which interval classifier-free guidance helps: it tells when the posterior settles "
        "on one point, not when it settles on a class. Compare intervals on your model (flowscope study guidance). The "
        "paper found gFID 2.80 for guidance on [0.1, 0.6], 10.79 on all of [0, 1] and 12.99 without any "
        "(LightningDiT-B/1, scale 2.5)."
    )
    if not math.isfinite(curve.half.t):
        return advice
    return f"Navigation ends at t = {time(curve.half.t)}{_noise_level(curve)}. {advice}"


def _noise_level(curve: Any) -> str:
    try:
        c = get_path(str(curve.settings["path"]))(float(curve.half.t))
    except InputError:  # a path of the user's own
        return ""
    level = float(c.sigma / c.alpha)
    return f" (noise level sigma/alpha = {number(level)}, as EDM counts)" if math.isfinite(level) else ""


def boundaries(curve: Any, other: OtherBoundary | None) -> list[str]:
    """Of labelled points both boundaries, and which of them a training follows; nothing where there is one alone."""
    if other is None:
        return []
    names = ("conditional", "unconditional") if curve.conditional else ("unconditional", "conditional")
    how = "measured, too" if other.measured else "predicted from spectra"
    told = f"The {names[0]} half is t = {time(curve.half.t)}; the {names[1]} one, {how}, is t = {time(other.half)}."
    pair = (curve.half.t, other.half) if curve.conditional else (other.half, curve.half.t)
    words = [told, *filter(None, (other.note, recommend(*pair)))]
    if not other.measured:
        command = "without --conditional" if curve.conditional else "with --conditional"
        words.append(f"To measure the {names[1]} one, run flowscope stages {command}, and give its folder as --beside.")
    return words


def floor(curve: Any) -> list[str]:
    """The loss that no network can beat."""
    value, error = curve.loss_floor
    if value == math.inf:
        return ["The loss has no finite floor on this path: what its target has of noise grows too fast towards t = 1."]
    if not math.isfinite(value):
        return ["The floor of the loss could not be computed."]
    below = (
        f"No network can bring the conditional flow-matching loss below {with_error(value, error)} on this training "
        "set (velocity target, mean over coordinates, t uniform on [0, 1), in expectation over the training points): "
        "the optimal loss of arXiv 2506.13763."
    )
    meaning = "That much of the loss is the variance of its target; only what exceeds it is the network's error."
    dropout = (
        "This holds for a network that is always given the label. With label dropout p the floor is (1 − p) times this "
        "one plus p times the unconditional one."
    )
    return [below, meaning, dropout] if curve.conditional else [below, meaning]


def self_check(curve: Any) -> list[str]:
    """The information integral against the entropy of the weights, partition sums, and whether they agree."""
    return [*_information(curve), *_partition_sums(curve)]


def _information(curve: Any) -> list[str]:
    info = curve.information
    if not (math.isfinite(info.integral) and math.isfinite(info.log_n)):
        return [f"The self-check could not be made: the information integral is {number(info.integral)}."]
    entropy = "the entropy of the weights" if curve.training_set.get("weighted") or curve.conditional else "log N"
    identity = (
        f"All information that x_t gathers about its training point, as t grows, must add up to {entropy}. (InfoNoise, "
        "arXiv 2602.18647, draws training times by its growth; entropic time, arXiv 2504.13612, places steps by it.)"
    )
    integral, log_n = with_error(info.integral, info.integral_error), with_error(info.log_n, info.log_n_error)
    measured = f"Measured: {integral} nats, against {log_n}."
    if not math.isfinite(info.error):
        unknown = "Its error is undefined, so nothing can be said about agreement: take more probes."
        return [identity, measured, unknown]
    difference = abs(info.integral - info.log_n)
    distance = (
        f"{number(difference / info.error, 2)} standard errors" if info.error > 0 else f"{number(difference)} nats"
    )
    if info.agrees:
        return [identity, measured, f"They agree within {AGREES_WITHIN} standard errors: they differ by {distance}."]
    refusal = f"They do not agree within {AGREES_WITHIN} standard errors: they differ by {distance}."
    advice = "Do not rely on this curve before you know why. Run it again with another seed and more probes."
    return [identity, measured, refusal, advice]


def _partition_sums(curve: Any) -> list[str]:
    error, limit = curve.self_check
    if curve.self_check.agrees is None:
        return []
    what = (
        "That check is blind to the loss of a few points in a hundred. So partition sums are held against what they "
        "must be, too: at pure noise all are known, and a few probes are followed in float64."
    )
    if curve.self_check.agrees:
        return [what, f"All agree within {number(limit, 2)} of themselves."]
    return [what, f"One is off by {number(error, 2)} of itself. Do not rely on this curve before you know why."]


def prediction(curve: Any) -> list[str]:
    """How well the spectrum predicts the boundaries, without any oracle evaluation, and what its error says."""
    half, predicted = curve.half.t, curve.predicted
    if not math.isfinite(predicted):
        return ["The spectrum of this training set predicts no boundary."]
    if not math.isfinite(half):
        return ["The spectrum predicts a boundary, but none was measured: trust the measurement."]
    error = 100 * (predicted / half - 1)
    side = "late" if error > 0 else "early"
    found = (
        f"From the spectrum alone the end of navigation is predicted at t = {time(predicted)}, "
        f"{number(abs(error), 2)}{NBSP}% too {side}. The prediction is of Gaussians with these covariances and as many "
        "points, and costs no oracle evaluation. It is early where points are far from Gaussian, most of all for "
        "saturation. Use the measured boundaries."
    )
    deficit = (
        f"At the measured half a Gaussian of the same covariance tells {number(curve.deficit, 2)} nats more than the "
        "threshold asks for (the deficit). It is about 0 for Gaussian points."
    )
    return [found, deficit] if math.isfinite(curve.deficit) else [found]


def class_spread(curve: Any) -> str:
    """From which class to which the boundaries go."""
    found = []
    for name in ("half", "saturation"):
        there = sorted((getattr(c, name).t, str(c.name)) for c in curve.per_class if math.isfinite(getattr(c, name).t))
        if there:
            (low, first), (high, last) = there[0], there[-1]
            found.append(f"{name} goes from t = {time(low)} ({first}) to {time(high)} ({last})")
    return f"Over the classes {', '.join(found)}." if found else "No class crosses a boundary."


def alt_text(curve: Any) -> str:
    """What the figure shows, for those who do not see it."""
    t, top1, size = curve.t, curve.top1, curve.effective_size
    ends = (0, len(t) - 1)
    heavy, gap, sharing = (" to ".join(number(float(values[k])) for k in ends) for values in (top1, curve.gap, size))
    return (
        f"Three panels against t from {time(float(t[0]))} to {time(float(t[-1]))}. The mean weight of the heaviest "
        f"training point goes from {heavy}; the gap to the conditional velocity from {gap}; the effective number of "
        f"points that share the posterior from {sharing}. Half is at {crossing(curve.half)}, saturation at "
        f"{crossing(curve.saturation)}."
    )

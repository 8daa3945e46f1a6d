"""The inputs of a study: trained models from their folders and the oracle of their training set, checked.

A model was trained on one set. Its oracle is the oracle of that set, so a study takes both together or refuses.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from flowscope.data.normaliser import check_one_scale
from flowscope.data.training_set import TrainingSet
from flowscope.errors import FlowscopeWarning, InputError
from flowscope.metrics import FeatureSpace, hold_out
from flowscope.networks import NetworkField
from flowscope.networks.published import is_published
from flowscope.oracle import Oracle
from flowscope.references.ladder import check_contains
from flowscope.studies.bench.variants import settings_of
from flowscope.training import load_model

SEED_SETTINGS = ("seed", "checkpoint_every", "snapshots")  # settings in which models of one kind may differ
DIGEST_DIGITS = 12  # digits of a digest in a message


@dataclass(frozen=True, eq=False)
class StudyInputs:
    """The models and points that a study is called with.

    Attributes:
        models: the models under study, one for each seed.
        others: the models of a second kind, if a study compares two kinds.
        folders: of the models.
        other_folders: of the others.
        oracle: of the points they were trained on.
        held_out: points they were not trained on.
        foreign: images of another kind.
        space: of the Frechet distance.
        more: a larger set that contains the points they were trained on.
    """

    models: tuple[NetworkField, ...]
    others: tuple[NetworkField, ...]
    folders: tuple[Path, ...]
    other_folders: tuple[Path, ...]
    oracle: Oracle
    held_out: TrainingSet | None = None
    foreign: TrainingSet | None = None
    space: FeatureSpace | None = None
    more: TrainingSet | None = None


def load_models(
    folders: Sequence[str | Path],
    device: str | torch.device | None = None,
    shape: tuple[int, ...] | None = None,
    **project: Any,
) -> tuple[NetworkField, ...]:
    """Load models, each named by its folder or file.

    Args:
        folders: of flowscope train, or other models that load_model takes.
        device: where to put them.
        shape: of the points, for models of other projects that do not say it.
        project: what load_model is told of models of other projects.

    Raises:
        InputError: a folder holds no model, or one is given twice.
    """
    check_distinct(folders)
    foreign = [is_published(folder) for folder in folders]
    unasked = {} if any(foreign) else project  # with flowscope's own models alone, load_model refuses it
    how = [{"shape": shape, **project} if is_foreign else unasked for is_foreign in foreign]
    return tuple(load_model(folder, device=device, **named) for folder, named in zip(folders, how, strict=True))


def check_distinct(folders: Sequence[str | Path]) -> None:
    """Refuse a folder that is given twice.

    Raises:
        InputError: one is.
    """
    paths = [Path(folder) for folder in folders]
    for k, path in enumerate(paths):
        if path.resolve() in [p.resolve() for p in paths[:k]]:
            raise InputError(f"the model {path} is given twice; expected each once: several are seeds of one setting")


def check_seeds(models: Sequence[NetworkField], what: str = "--model") -> None:
    """Refuse models that differ in more than their seed.

    Raises:
        InputError: they do; the message says in what.
    """
    for model in models[1:]:
        if differing := _differing_settings(models[0], model, SEED_SETTINGS):
            raise InputError(
                f"the models of {what} differ in {differing}; expected the same settings but the seed: give one of "
                "them, or those of the other kind as --other"
            )


def check_kinds(
    models: Sequence[NetworkField], others: Sequence[NetworkField], what: str, allowed: Sequence[str]
) -> None:
    """Refuse models of a second kind that differ from the first kind in other settings than expected.

    Args:
        models: of the first kind.
        others: of the second kind.
        what: the second kind, in words.
        allowed: the settings in which the kinds may differ.

    Raises:
        InputError: they do; the message says in what.
    """
    for other in others:
        if differing := _differing_settings(models[0], other, (*allowed, *SEED_SETTINGS)):
            raise InputError(
                f"{other.name} differs from {models[0].name} in {differing}; expected {what}: train it with the same "
                "settings otherwise"
            )


def _differing_settings(model: NetworkField, other: NetworkField, allowed: Sequence[str]) -> str:
    """The settings, but the allowed ones, in which two models differ, with both values; "" for none."""
    a, b = settings_of(model), settings_of(other)
    differing = sorted(k for k in a.keys() | b.keys() if k not in allowed and a.get(k) != b.get(k))
    return ", ".join(f"{k} ({a.get(k)} and {b.get(k)})" for k in differing)


def trained_points(data: TrainingSet, models: Sequence[NetworkField]) -> tuple[TrainingSet, TrainingSet | None]:
    """Split the points of a source into those that models were trained on and those that were held out then.

    Raises:
        InputError: the models were trained on another set, or on other parts of it.
    """
    models = [model for model in models if "training_set" in model.about]
    if not models:
        return data, None
    held_out_of = [model.about.get("held_out") or {"count": 0} for model in models]
    parts = {(int(h["count"]), int(h.get("seed", 0))) for h in held_out_of}
    if len(parts) > 1:
        got = " and ".join(f"{count} with seed {seed}" for count, seed in sorted(parts))
        raise InputError(f"the models held out {got} of their data; expected the same: train them alike")
    count, seed = parts.pop()
    train, held_out = hold_out(data, count, seed) if count < len(data) else (data, None)
    for model in models:
        own = model.about["training_set"]
        if own["digest"] != train.digest:
            theirs = _describe_set(own.get("name"), own.get("points"), own["digest"])
            raise InputError(
                f"the model {model.name} was trained on {theirs}, and the data are "
                f"{_describe_set(train.name, len(train), train.digest)}; expected the same points: give the source and "
                "options (--resize, --grey, --subset, ...) that it was trained with"
            )
    return train, held_out


def said_of_training(model: NetworkField, data: TrainingSet) -> NetworkField:
    """A model of another project with the notes that its training set is not known, and how that was scaled.

    They are warned of, too. A model of flowscope train is returned as it is.
    """
    if "training_set" in model.about:
        return model
    unknown = (
        f"nobody knows the points that {model.name} was trained on: those of {data.name} are taken for them, and what "
        "is said of the oracle holds for the network only as far as that is so"
    )
    notes = [unknown]
    wanted = model.about.get("normalise")
    if wanted is not None and data.normaliser is None and data.normalisation == "none":
        notes.append(
            f"{model.name} was trained on latents scaled by {wanted}, and {data.name} is taken as it is stored: unless "
            f"that is scaled already, load it with --normalise {wanted}"
        )
    for note in notes:
        warnings.warn(note, FlowscopeWarning, stacklevel=2)
    return replace(model, about={**model.about, "notes": [*(model.about.get("notes") or []), *notes]})


def _describe_set(name: Any, count: Any, digest: str) -> str:
    """A set of points in a message."""
    return f"{name or 'points'} ({count} points, digest {digest[:DIGEST_DIGITS]}...)"


def load_inputs(
    data: TrainingSet,
    models: Sequence[str | Path],
    others: Sequence[str | Path] = (),
    *,
    held_out: TrainingSet | None = None,
    foreign: TrainingSet | None = None,
    more: TrainingSet | None = None,
    space: FeatureSpace | None = None,
    device: str | torch.device | None = None,
    memory: str | int = "512MB",
    parts: bool = False,
    **project: Any,
) -> StudyInputs:
    """Load models from their folders, and make the oracle of the points they were trained on.

    Of a model of another project nobody knows those points: the data are taken for them, and a FlowscopeWarning says
    so.

    Args:
        data: the whole source, as it was loaded for training. Points that were held out then are held out again.
        models: folders of `flowscope train`, one for each seed.
        others: folders of models of a second kind.
        held_out: points in place of those held out in training.
        foreign: images of another kind, of the same shape.
        more: a larger set that contains the points that the models were trained on.
        space: where Frechet distances are taken; None for pixels.
        device: where models and oracle compute.
        memory: as in Oracle.
        parts: whether each model was trained on a part of the data. Then the oracle is that of all, and the study
            matches models with their parts.
        project: what load_model is told of models of other projects: convention, extras.

    Raises:
        InputError: the inputs do not fit together; the message says in what, and what to do.
    """
    everyone = load_models([*models, *others], device, data.shape, **project)
    everyone = tuple(said_of_training(model, data) for model in everyone)
    first, second = everyone[: len(models)], everyone[len(models) :]
    check_seeds(first)
    train, rest = (data, None) if parts else trained_points(data, everyone)
    for name, other in (("held-out", held_out), ("foreign", foreign)):
        if other is not None and other.shape != train.shape:
            raise InputError(f"the {name} points have shape {other.shape}; expected {train.shape}, as {train.name} has")
        if other is not None:
            check_one_scale(train, other, name)
    if more is not None:
        check_one_scale(train, more, "further")
        check_contains(more, train)
    oracle = Oracle(train, first[0].path, memory=memory, device=device)
    folders, other_folders = tuple(map(Path, models)), tuple(map(Path, others))
    held_out = rest if held_out is None else held_out
    return StudyInputs(first, second, folders, other_folders, oracle, held_out, foreign, space, more)

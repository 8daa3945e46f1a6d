"""Given: the trained models and the data that a study works on, brought together from folders and checked.

A model was trained on one set. Its oracle is the oracle of that set, so a study takes both or refuses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flowscope.data.split import split
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError
from flowscope.metrics import FeatureSpace
from flowscope.networks import NetworkField
from flowscope.oracle import Oracle
from flowscope.training import load_model

FREE = ("seed", "checkpoint_every", "snapshots")  # settings in which seeds of one kind may differ


@dataclass(frozen=True, eq=False)
class Given:
    """What a study is called with.

    Attributes:
        models: the models under study, one for each seed. others: those of a second kind, where a study compares two.
        folders, other_folders: where they lie. oracle: of the points they were trained on.
        held_out: points they were not trained on. foreign: images of another kind. space: of the Frechet distance.
    """

    models: tuple[NetworkField, ...]
    others: tuple[NetworkField, ...]
    folders: tuple[Path, ...]
    other_folders: tuple[Path, ...]
    oracle: Oracle
    held_out: TrainingSet | None = None
    foreign: TrainingSet | None = None
    space: FeatureSpace | None = None


def load_models(folders: Sequence[str | Path], device: str | torch.device | None = None) -> tuple[NetworkField, ...]:
    """The models of some folders, each named by its folder.

    Raises:
        InputError: a folder holds no model, or one is given twice.
    """
    check_distinct(folders)
    return tuple(load_model(folder, device=device) for folder in folders)


def check_distinct(folders: Sequence[str | Path]) -> None:
    """Refuse folders of which two are one.

    Raises:
        InputError: two are.
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
    first = _settings(models[0])
    for model in models[1:]:
        own = _settings(model)
        differing = sorted(k for k in first.keys() | own.keys() if k not in FREE and first.get(k) != own.get(k))
        if differing:
            told = ", ".join(f"{k} ({first.get(k)} and {own.get(k)})" for k in differing)
            raise InputError(
                f"the models of {what} differ in {told}; expected the same settings but the seed: give one of them, "
                "or those of the other kind as --other"
            )


def check_kinds(models: Sequence[NetworkField], others: Sequence[NetworkField], what: str, may: Sequence[str]) -> None:
    """Refuse models of a second kind that differ from the first in more than they are about.

    Args:
        what: the kind of model that is expected, in words. may: the settings in which they may differ.

    Raises:
        InputError: they do; the message says in what.
    """
    first = _settings(models[0])
    for other in others:
        own = _settings(other)
        differing = sorted(k for k in first.keys() | own.keys() if first.get(k) != own.get(k))
        if wrong := [k for k in differing if k not in (*may, *FREE)]:
            told = ", ".join(f"{k} ({first.get(k)} and {own.get(k)})" for k in wrong)
            raise InputError(
                f"{other.name} differs from {models[0].name} in {told}; expected {what}: train it with the same "
                "settings otherwise"
            )


def _settings(model: NetworkField) -> Mapping[str, Any]:
    return dict(model.about.get("settings", {}))


def trained_points(data: TrainingSet, models: Sequence[NetworkField]) -> tuple[TrainingSet, TrainingSet | None]:
    """The points of a source that models were trained on, and those that were held out then.

    Raises:
        InputError: the models were trained on another set, or on other parts of it.
    """
    parts = {(int(h["count"]), int(h.get("seed", 0))) for h in (m.about.get("held_out") or NONE_OUT for m in models)}
    if len(parts) > 1:
        told = " and ".join(f"{count} with seed {seed}" for count, seed in sorted(parts))
        raise InputError(f"the models held out {told} of their data; expected the same: train them alike")
    count, seed = parts.pop()
    train, held_out = split(data, count, seed) if count < len(data) else (data, None)
    for model in models:
        own = model.about["training_set"]
        if own["digest"] != train.digest:
            theirs = _identity(own.get("name"), own.get("points"), own["digest"])
            raise InputError(
                f"the model {model.name} was trained on {theirs}, and the data are "
                f"{_identity(train.name, len(train), train.digest)}; expected the same points: give the source and "
                "options (--resize, --grey, --subset, ...) that it was trained with"
            )
    return train, held_out


def _identity(name: Any, count: Any, digest: str) -> str:
    """A set of points in a message: what people call it, and as much of its digest as tells sets apart."""
    return f"{name or 'points'} ({count} points, digest {digest[:SHOWN]}...)"


SHOWN = 12  # digits of a digest
NONE_OUT = {"count": 0, "seed": 0}


def bring_together(
    data: TrainingSet,
    models: Sequence[str | Path],
    others: Sequence[str | Path] = (),
    *,
    held_out: TrainingSet | None = None,
    foreign: TrainingSet | None = None,
    space: FeatureSpace | None = None,
    device: str | torch.device | None = None,
    memory: str | int = "512MB",
) -> Given:
    """Models from their folders, with the oracle of the points they were trained on.

    Args:
        data: the whole source, as it was loaded for training; what was held out then is held out again.
        models: folders of `flowscope train`, one for each seed.
        others: folders of models of a second kind.
        held_out: points in place of those held out in training.
        foreign: images of another kind, of the same shape.
        space: where Frechet distances are taken; None for pixels.
        device: where models and oracle compute. memory: as in Oracle.

    Raises:
        InputError: something of it does not fit together; the message says what and what to do.
    """
    check_distinct([*models, *others])
    fields, second = load_models(models, device), load_models(others, device)
    check_seeds(fields)
    train, aside = trained_points(data, (*fields, *second))
    for name, other in (("held-out", held_out), ("foreign", foreign)):
        if other is not None and other.shape != train.shape:
            raise InputError(f"the {name} points have shape {other.shape}; expected {train.shape}, as {train.name} has")
    oracle = Oracle(train, fields[0].path, memory=memory, device=device)
    folders, beside = tuple(map(Path, models)), tuple(map(Path, others))
    rest = aside if held_out is None else held_out
    return Given(fields, second, folders, beside, oracle, rest, foreign, space)

"""Variants: the models of a study, what their records say, and which of them differ in the seed alone."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path as Folder
from typing import Any, NamedTuple

from flowscope.errors import InputError
from flowscope.fields import VelocityField, check_field, guide
from flowscope.networks import NetworkField
from flowscope.oracle import Oracle
from flowscope.paths import Path
from flowscope.training import load_model, snapshot_steps
from flowscope.training.monitor.evaluate import check_model, check_oracle, label_count

Models = VelocityField | Sequence[VelocityField]  # one field, or one for each seed


class Variants(NamedTuple):
    """Models by label, one for each seed of a setting."""

    models: dict[str, tuple[VelocityField, ...]]
    conditional: bool

    @property
    def all_models(self) -> list[VelocityField]:
        return [model for seeds in self.models.values() for model in seeds]

    @property
    def seed_counts(self) -> dict[str, int]:
        return {label: len(seeds) for label, seeds in self.models.items()}


def variants(models: Any, oracle: Oracle) -> Variants:
    """Group models by what they differ in, and check them against the oracle.

    Args:
        models: a field; a list of fields, grouped by their settings but the seed; or a mapping from labels to fields
            or lists of them.
        oracle: of their training set.

    Raises:
        InputError: there is no model, one does not fit the oracle, or some take labels and some do not.
    """
    check_oracle(oracle)
    if not isinstance(models, Mapping):
        models = _by_setting(list(models) if isinstance(models, (list, tuple)) else [models])
    groups = {str(k): tuple(v) if isinstance(v, (list, tuple)) else (v,) for k, v in models.items()}
    everyone = [model for seeds in groups.values() for model in seeds]
    if not everyone or not all(groups.values()):
        raise InputError("there are no models; expected a velocity field, a list of them, or a mapping from labels")
    for model in everyone:
        check_field(model, "model")
    conditional = take_labels([m for m in everyone if not isinstance(m, Oracle)])
    for model in everyone:
        check_model(model, oracle_on_path_of(model, oracle))
    return Variants(groups, conditional)


def _by_setting(models: Sequence[Any]) -> dict[str, list[Any]]:
    """Models grouped by their settings but the seed, labelled by what differs, or by name if nothing is known."""
    settings = [variant_settings(model) for model in models]
    differing = sorted({k for s in settings for k in s if len({str(other.get(k)) for other in settings}) > 1})
    grouped: dict[str, list[Any]] = {}
    for model, own in zip(models, settings, strict=True):
        label = ", ".join(f"{k} {own.get(k)}" for k in differing) or "model" if own else identity(model)["name"]
        grouped.setdefault(label, []).append(model)
    return grouped


def oracle_on_path_of(model: VelocityField, oracle: Oracle) -> Oracle:
    """The oracle of the same points on the model's own path."""
    path = getattr(model, "path", None)
    if not isinstance(path, Path) or path.name == oracle.path.name:
        return oracle
    return Oracle(oracle.training_set, path, memory=oracle.memory, device=oracle.device)


def as_models(models: Any, what: str = "models") -> tuple[VelocityField, ...]:
    """One field, or a list with one for each seed, as a tuple.

    Raises:
        InputError: the list is empty, or holds what is not a velocity field.
    """
    found = tuple(models) if isinstance(models, (list, tuple)) else (models,)
    if not found:
        raise InputError(f"{what} is empty; expected a velocity field, or a list with one for each seed")
    for model in found:
        check_field(model, what)
    return found


def count_seeds(groups: Mapping[str, tuple[VelocityField, ...]]) -> int:
    """The number of seeds that every group of models has.

    Raises:
        InputError: the groups differ in length, so that models cannot be paired.
    """
    sizes = {name: len(models) for name, models in groups.items()}
    if len(set(sizes.values())) > 1:
        got = ", ".join(f"{count} of {name}" for name, count in sizes.items())
        raise InputError(f"got {got}; expected as many models of each: those of one seed are used together")
    return next(iter(sizes.values()))


def take_labels(models: Sequence[VelocityField]) -> bool:
    """Whether the models take labels.

    Raises:
        InputError: some do and some do not.
    """
    found = {label_count(m) > 0 for m in models}
    if len(found) > 1:
        raise InputError("some of the models take labels and some do not; expected all or none, on one data set")
    return True in found


def any_takes_labels(models: Sequence[VelocityField]) -> bool:
    """Whether one of the models takes labels; an oracle goes by the others."""
    return any(label_count(m) > 0 for m in models if not isinstance(m, Oracle))


def has_null_label(model: VelocityField) -> bool:
    """Whether a field with labels can be called without one."""
    return isinstance(model, Oracle) or getattr(model, "null", None) is not None


def record_of(model: Any) -> dict[str, Any]:
    """The record of a model's training, its `about`; empty for a field without one."""
    return getattr(model, "about", None) or {}


def settings_of(model: Any) -> dict[str, Any]:
    """The settings that a model was trained with; empty if it has no record of them."""
    return dict(record_of(model).get("settings") or {})


def guided(model: VelocityField, like: VelocityField, scale: float, part: Any) -> VelocityField:
    """A field guided in the channels that the code of a model's project guides: `like`, the model; else in all."""
    return guide(model, scale, part, channels=record_of(like).get("guided_channels"))


def variant_settings(model: Any) -> dict[str, Any]:
    """The settings that make a model a variant: all but the seed and the length, and the step of a snapshot."""
    record, settings = record_of(model), settings_of(model)
    known = {k: v for k, v in settings.items() if k not in ("seed", "steps")}
    return known | ({"step": record["step"]} if "step" in record else {})


def identity(model: VelocityField) -> dict[str, Any]:
    """The model in a result: its name, its seed, and the digests of its weights and training set, None if unknown."""
    record = record_of(model)
    name = getattr(model, "name", None) or type(model).__name__
    digest = (record.get("training_set") or {}).get("digest")
    return {
        "name": name,
        "seed": settings_of(model).get("seed"),
        "digests": record.get("digests"),
        "training_set": digest,
    }


def load_snapshots(folder: str | Folder, device: Any = None) -> list[tuple[int, NetworkField]]:
    """(step, model) of every snapshot in a model's folder and of its last step, ascending."""
    last = load_model(folder, device=device)
    step = int(last.about["step"])
    found = [(k, load_model(folder, device=device, step=k)) for k in snapshot_steps(folder) if k < step]
    named = [(k, replace(m, about={**m.about, "step": k}, name=f"{m.name}, step {k}")) for k, m in found]
    return [*named, (step, last)]

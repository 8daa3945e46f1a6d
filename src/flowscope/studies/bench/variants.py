"""Variants: models told apart by what their records say, those that differ in the seed alone together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path as Folder
from typing import Any, NamedTuple

from flowscope.errors import InputError
from flowscope.fields import VelocityField, check_field
from flowscope.networks import NetworkField
from flowscope.oracle import Oracle
from flowscope.paths import Path
from flowscope.studies.bench.sample_bench import identity, take_labels
from flowscope.training import load_model, snapshot_steps
from flowscope.training.monitor.evaluate import check_model, check_oracle


class Variants(NamedTuple):
    """Models by label, one for each seed of a setting."""

    models: dict[str, tuple[VelocityField, ...]]
    conditional: bool

    @property
    def every(self) -> list[VelocityField]:
        return [model for seeds in self.models.values() for model in seeds]


def variants(models: Any, oracle: Oracle) -> Variants:
    """Models by what they differ in, checked against the oracle.

    Args:
        models: a field; a list of fields, told apart by their settings (those that differ in the seed alone are one
            setting); or a mapping from labels to fields or lists of them.

    Raises:
        InputError: there is none, one does not fit the oracle, or some take labels and some do not.
    """
    check_oracle(oracle)
    if not isinstance(models, Mapping):
        models = _by_setting(list(models) if isinstance(models, (list, tuple)) else [models])
    found = {str(k): tuple(v) if isinstance(v, (list, tuple)) else (v,) for k, v in models.items()}
    every = [model for seeds in found.values() for model in seeds]
    if not every or not all(found.values()):
        raise InputError("there are no models; expected a velocity field, a list of them, or a mapping from labels")
    for model in every:
        check_field(model, "model")
    conditional = take_labels([m for m in every if not isinstance(m, Oracle)])
    for model in every:
        check_model(model, oracle_on(oracle, model))
    return Variants(found, conditional)


def oracle_on(oracle: Oracle, model: VelocityField) -> Oracle:
    """The oracle of the same points on a model's own path."""
    path = getattr(model, "path", None)
    if not isinstance(path, Path) or path.name == oracle.path.name:
        return oracle
    return Oracle(oracle.training_set, path, memory=oracle.memory, device=oracle.device)


def _by_setting(models: Sequence[Any]) -> dict[str, list[Any]]:
    """Models grouped by their settings but the seed, labelled by what differs, or by name where nothing is known."""
    facts = [facts_of(model) for model in models]
    differing = sorted({k for f in facts for k in f if len({str(g.get(k)) for g in facts}) > 1})
    grouped: dict[str, list[Any]] = {}
    for model, own in zip(models, facts, strict=True):
        name = identity(model)["name"]
        label = ", ".join(f"{k} {own.get(k)}" for k in differing) or "model" if own else name
        grouped.setdefault(label, []).append(model)
    return grouped


def facts_of(model: Any) -> dict[str, Any]:
    """What a model's record says of how it was made, but the seed: its settings, and the step of a snapshot."""
    about = getattr(model, "about", None) or {}
    facts = {k: v for k, v in (about.get("settings") or {}).items() if k != "seed"}
    facts.pop("steps", None)
    return facts | ({"step": about["step"]} if "step" in about else {})


def snapshots_of(folder: str | Folder, device: Any = None) -> list[tuple[int, NetworkField]]:
    """(step, model) of every snapshot that a model's folder keeps, ascending, and of its last step."""
    last = load_model(folder, device=device)
    step = int(last.about["step"])
    found = [(k, load_model(folder, device=device, step=k)) for k in snapshot_steps(folder) if k < step]
    named = [(k, replace(m, about={**m.about, "step": k}, name=f"{m.name}, step {k}")) for k, m in found]
    return [*named, (step, last)]

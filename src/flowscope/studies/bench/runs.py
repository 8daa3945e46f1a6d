"""Runs: the models of a training, from its first snapshot to its last, by folder; also of other projects."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowscope.errors import FlowscopeWarning
from flowscope.networks import NetworkField
from flowscope.networks.published import is_published
from flowscope.studies.bench.variants import load_snapshots

Run = Path | list[tuple[int, NetworkField]]  # a folder of flowscope train, or (step, model), ascending


def runs_of(folders: Sequence[Path], models: Sequence[NetworkField]) -> dict[str, Run]:
    """Each run by its name.

    The checkpoints of another project that lie in one folder are one run. A model that does not say after how many
    steps it was written stands at 1, with a FlowscopeWarning.

    Args:
        folders: of the models; files for checkpoints.
        models: as they were loaded, one for each folder.
    """
    grouped: dict[Path, list[tuple[int, NetworkField]]] = {}
    for folder, model in zip(folders, models, strict=True):
        found = [(_step(model), model)] if is_published(folder) else []
        grouped.setdefault(_home(folder), []).extend(found)
    names = [home.name for home in grouped]
    return {
        home.name if names.count(home.name) == 1 else str(home): sorted(found, key=lambda pair: pair[0]) or home
        for home, found in grouped.items()
    }


def earlier(folder: Path, device: Any = None) -> list[NetworkField]:
    """The snapshots of a folder before its last step; a model of another project has none."""
    return [] if is_published(folder) else [model for _, model in load_snapshots(folder, device)[:-1]]


def _home(folder: Path) -> Path:
    """What names a run: the folder of a model, or that in which a numbered checkpoint lies."""
    path = folder.resolve()
    return path.parent if path.is_file() and path.stem.isdecimal() else path


def _step(model: NetworkField) -> int:
    step = model.about.get("step")
    if step:
        return int(step)
    warnings.warn(
        f"{model.name} does not say after how many steps of training it was written: it stands at 1",
        FlowscopeWarning,
        stacklevel=3,
    )
    return 1

"""The plan of a reproduction: the models that it trains, their settings, and the studies that need them.

A kind of model is a change of the small one's settings. A model is a kind with a seed, such as "large-2". Models are
trained seed by seed, so that every study can be run once the first seed is done.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from flowscope.core.settings import check_count
from flowscope.data.pixels import is_image
from flowscope.data.training_set import TrainingSet
from flowscope.errors import unknown_name
from flowscope.studies.bench.criteria import criterion
from flowscope.studies.catalogue import CATALOGUE, find
from flowscope.training import TrainSettings, train

SEEDS = {False: 3, True: 1}  # of every kind, by whether it is quick
STEPS = {False: 4000, True: 250}  # of training, by whether it is quick
EARLY_SHIFT, LATE_SHIFT = 0.3, 3.0  # timestep shifts in training, towards noise and towards data
SNAPSHOTS = 4  # that a training keeps
TIMED_STEPS = 3  # from which the time of training is estimated
ONE_SEED_KINDS = ("early", "late", "cosine", "vp")  # trained from the first seed only


class Need(NamedTuple):
    """The kinds of models that a study is given, as `models` and as `others`."""

    models: tuple[str, ...]
    others: tuple[str, ...] = ()


NEEDS: Mapping[str, Need] = {
    "intermediate": Need(("large",)),
    "switch": Need(("large",)),
    "refine": Need(("large",)),
    "loss": Need(("small",), ("large",)),
    "norm": Need(("large",)),
    "convergence": Need(("small",)),
    "capacity": Need(("small",), ("large",)),
    "shift": Need(("small",)),
    "guidance": Need(("small",)),
    "experts": Need(("small",), ("navigation", "refinement")),
    "target": Need(("small",), ("oracle",)),
    "alignment": Need(("large",)),
    "explain": Need(("large",)),
    "ablation": Need(("small",), ("early", "late", "cosine", "vp")),
    "memorise": Need(()),  # its models are trained on parts of the data
}


def kinds_of(
    shape: Sequence[int],
    boundary: float,
    steps: int,
    quick: bool,
    device: str,
    overrides: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Every kind of model by name, as settings of training without the seed.

    Args:
        shape: of a point.
        boundary: in (0, 1), where one expert ends and the other begins.
        steps: of a model of all of [0, 1]. Each expert takes half of them, for equal compute.
        quick: whether networks are small.
        device: bf16 on "cuda", else float32.
        overrides: settings by kind; those under "all" are for every kind.

    Raises:
        InputError: an override is for an unknown kind.
    """
    small, large = widths(shape, quick)
    usual = {"model": "unet" if is_image(shape) else "mlp", "width": small, "steps": steps, "snapshots": SNAPSHOTS}
    usual |= {"precision": "bf16" if device.startswith("cuda") else "no"} | dict(overrides.get("all", {}))
    kinds = _changes(boundary, max(1, steps // 2), large)
    if unknown := overrides.keys() - kinds.keys() - {"all"}:
        raise unknown_name("the kind of model that settings are given for", min(unknown), ("all", *kinds))
    return {name: usual | kind | dict(overrides.get(name, {})) for name, kind in kinds.items()}


def _changes(boundary: float, half: int, large: int) -> dict[str, dict[str, Any]]:
    """The settings in which each kind differs from the small model."""
    return {
        "small": {},
        "large": {"width": large},
        "oracle": {"target": "oracle"},
        "navigation": {"interval": (0.0, boundary), "steps": half},
        "refinement": {"interval": (boundary, 1.0), "steps": half},
        "early": {"density": "shifted", "shift": EARLY_SHIFT},
        "late": {"density": "shifted", "shift": LATE_SHIFT},
        "cosine": {"path": "cosine"},
        "vp": {"path": "vp"},
    }


def widths(shape: Sequence[int], quick: bool) -> tuple[int, int]:
    """The widths of the small and the large network, as `build_network` takes them."""
    if not is_image(shape):
        return (32, 128) if quick else (64, 256)
    base = 32 if min(shape[1:]) <= 16 else 64 if min(shape[1:]) <= 32 else 128
    return (base // 4, 3 * base // 4) if quick else (base // 2, 3 * base // 2)


def models_of(kinds: Mapping[str, Mapping[str, Any]], studies: Iterable[str], seeds: int) -> dict[str, TrainSettings]:
    """The models that some studies need, in the order of training.

    Raises:
        InputError: settings cannot be used.
    """
    needed = {kind for study in studies for part in NEEDS[study] for kind in part}
    return {
        f"{kind}-{seed}": TrainSettings(**{**settings, "seed": seed})
        for seed in range(seeds)
        for kind, settings in kinds.items()
        if kind in needed and (seed == 0 or kind not in ONE_SEED_KINDS)
    }


def models_for(study: str, trained: Iterable[str]) -> tuple[list[str], list[str]]:
    """The trained models that a study is given, as `models` and as `others`; empty if a kind is missing.

    Only seeds of which every kind is trained are used.
    """
    names, need = set(trained), NEEDS[study]
    seeds = sorted({int(name.rsplit("-", 1)[1]) for name in names})[: None if CATALOGUE[study].seeds else 1]
    complete = [s for s in seeds if all(f"{kind}-{s}" in names for part in need for kind in part)]
    models, others = ([f"{kind}-{s}" for kind in part for s in complete] for part in need)
    return models, others


@dataclass(frozen=True)
class Recipe:
    """What is to be trained and run, checked and with its defaults filled in.

    Attributes:
        quick: whether networks are small.
        studies: by name.
        seeds: of every kind of model.
        steps: of training.
        device: where to train and compute.
        overrides: settings by kind, as in `kinds_of`.
    """

    quick: bool
    studies: list[str]
    seeds: int
    steps: int
    device: str
    overrides: Mapping[str, Mapping[str, Any]]

    @property
    def path(self) -> str:
        """The path of all models."""
        return str(self.overrides.get("all", {}).get("path", TrainSettings.path))

    def models(self, shape: Sequence[int], boundary: float) -> dict[str, TrainSettings]:
        """The models to train, in order; one expert ends at `boundary` and the other begins."""
        kinds = kinds_of(shape, boundary, self.steps, self.quick, self.device, self.overrides)
        return models_of(kinds, self.studies, self.seeds)


def short_of_seeds(recipe: Recipe) -> list[str]:
    """A sentence for each study whose criterion needs more seeds than are trained."""
    needed = {name: int(criterion(name).numbers.get("seeds", 1)) for name in recipe.studies}
    return [
        f"{name} cannot be tested with {recipe.seeds} seed{'s' * (recipe.seeds > 1)}: its criterion needs {count}"
        for name, count in needed.items()
        if recipe.seeds < count
    ]


def make_recipe(
    quick: bool,
    seeds: int | None,
    steps: int | None,
    overrides: Mapping[str, Mapping[str, Any]],
    only: Sequence[str] | None,
    device: Any,
) -> Recipe:
    """The arguments of :func:`flowscope.reproduction.reproduce.reproduce` as a recipe.

    Raises:
        InputError: one of them cannot be used.
    """
    count = SEEDS[quick] if seeds is None else check_count(seeds, "seeds")
    length = STEPS[quick] if steps is None else check_count(steps, "steps")
    where = str(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Recipe(quick, chosen_studies(only), count, length, where, overrides)


def chosen_studies(only: Sequence[str] | None) -> list[str]:
    """The studies to run, in the order of the catalogue.

    Raises:
        InputError: a study is unknown.
    """
    for name in only or ():
        find(name)
    return [name for name in CATALOGUE if only is None or name in only]


def seconds_of(training_set: TrainingSet, wanted: Mapping[str, TrainSettings], device: str) -> float:
    """Estimate the seconds that training takes from a few steps of each kind of network; nothing is written."""
    rates: dict[tuple[Any, ...], float] = {}
    total = 0.0
    for settings in wanted.values():
        kind = (settings.model, settings.width, settings.target, settings.batch)
        if kind not in rates:
            rates[kind] = _seconds_per_step(training_set, settings, device)
        total += settings.steps * rates[kind]
    return total


def _seconds_per_step(training_set: TrainingSet, settings: TrainSettings, device: str) -> float:
    loop = train(training_set, settings, device=device)
    float(next(loop).loss)  # the first step warms up
    began = time.perf_counter()
    losses = [next(loop).loss for _ in range(min(TIMED_STEPS, settings.steps - 1))]
    seconds = (time.perf_counter() - began) / max(1, len([float(v) for v in losses]))
    loop.close()  # type: ignore[attr-defined]
    return seconds

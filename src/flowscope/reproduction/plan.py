"""Plan: which models a reproduction trains, with which settings, and which studies need them.

A kind of model is a change of the small one's settings; a model is a kind with a seed, such as "large-2". Models are
trained seed by seed, so that with one seed done every study can be run.
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
from flowscope.studies.catalogue import CATALOGUE, find
from flowscope.training import TrainSettings, train

SEEDS = 3  # of every kind that is compared; 1 where it has to be quick
STEPS = {False: 4000, True: 250}
EARLY, LATE = 0.3, 3.0  # timestep shifts in training: more noise, more data
SNAPSHOTS = 4
TRIED = 3  # steps from which the time of training is estimated
ONE_SEED = ("early", "late")  # kinds that are trained from the first seed only


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
    "ablation": Need(("small",), ("early", "late")),
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
        shape: of a point. boundary: in (0, 1), where one expert ends and the other begins.
        steps: of a model of all of [0, 1]. The experts take half of them each: equal compute.
        quick: small networks. device: bf16 on "cuda", else float32.
        overrides: settings by kind; those under "all" are for every kind.

    Raises:
        InputError: an override is of no kind.
    """
    small, large = widths(shape, quick)
    usual = {"model": "unet" if is_image(shape) else "mlp", "width": small, "steps": steps, "snapshots": SNAPSHOTS}
    usual["precision"] = "bf16" if device.startswith("cuda") else "no"
    half = max(1, steps // 2)
    kinds: dict[str, dict[str, Any]] = {
        "small": {},
        "large": {"width": large},
        "oracle": {"target": "oracle"},
        "navigation": {"interval": (0.0, boundary), "steps": half},
        "refinement": {"interval": (boundary, 1.0), "steps": half},
        "early": {"density": "shifted", "shift": EARLY},
        "late": {"density": "shifted", "shift": LATE},
    }
    unknown = overrides.keys() - kinds.keys() - {"all"}
    if unknown:
        raise unknown_name("the kind of model that settings are given for", min(unknown), ("all", *kinds))
    return {
        name: usual | dict(overrides.get("all", {})) | kind | dict(overrides.get(name, {}))
        for name, kind in kinds.items()
    }


def widths(shape: Sequence[int], quick: bool) -> tuple[int, int]:
    """Of the small and of the large network, as `build_network` counts."""
    if not is_image(shape):
        return (32, 128) if quick else (64, 256)
    base = 32 if min(shape[1:]) <= 16 else 64 if min(shape[1:]) <= 32 else 128
    return (base // 4, 3 * base // 4) if quick else (base // 2, 3 * base // 2)


def models_of(kinds: Mapping[str, Mapping[str, Any]], studies: Iterable[str], seeds: int) -> dict[str, TrainSettings]:
    """The models that some studies need, in the order in which they are trained.

    Raises:
        InputError: settings are not usable.
    """
    needed = {kind for study in studies for part in NEEDS[study] for kind in part}
    return {
        f"{kind}-{seed}": TrainSettings(**{**settings, "seed": seed})
        for seed in range(seeds)
        for kind, settings in kinds.items()
        if kind in needed and (seed == 0 or kind not in ONE_SEED)
    }


def models_for(study: str, trained: Iterable[str]) -> tuple[list[str], list[str]]:
    """The trained models that a study is given, as `models` and as `others`; empty where a kind is missing.

    Only seeds of which every kind is there are used.
    """
    there = set(trained)
    need = NEEDS[study]
    one = not CATALOGUE[study].seeds
    seeds = sorted({int(name.rsplit("-", 1)[1]) for name in there})[: 1 if one else None]
    full = [s for s in seeds if all(f"{kind}-{s}" in there for part in need for kind in part)]
    models, others = ([f"{kind}-{s}" for kind in part for s in full] for part in need)
    return models, others


@dataclass(frozen=True)
class Recipe:
    """What is to be trained and run: checked, and with every default in its place.

    Attributes:
        studies: by name. seeds, steps: of training. device: where. overrides: settings by kind, as in `kinds_of`.
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
        """The models to train, in order; experts part at `boundary`."""
        kinds = kinds_of(shape, boundary, self.steps, self.quick, self.device, self.overrides)
        return models_of(kinds, self.studies, self.seeds)


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
        InputError: one of them is not usable.
    """
    count = (1 if quick else SEEDS) if seeds is None else check_count(seeds, "seeds")
    length = STEPS[quick] if steps is None else check_count(steps, "steps")
    where = str(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Recipe(quick, chosen_studies(only), count, length, where, overrides)


def chosen_studies(only: Sequence[str] | None) -> list[str]:
    """The studies to run, in the order of the catalogue.

    Raises:
        InputError: a name is of no study.
    """
    for name in only or ():
        find(name)
    return [name for name in CATALOGUE if only is None or name in only]


def seconds_of(training_set: TrainingSet, wanted: Mapping[str, TrainSettings], device: str) -> float:
    """What training all of them will take, from a few steps of each kind of network. Writes nothing."""
    rates: dict[tuple[Any, ...], float] = {}
    total = 0.0
    for settings in wanted.values():
        kind = (settings.model, settings.width, settings.target, settings.batch)
        if kind not in rates:
            loop = train(training_set, settings, device=device)
            float(next(loop).loss)  # the first step warms up
            began = time.perf_counter()
            losses = [next(loop).loss for _ in range(min(TRIED, settings.steps - 1))]
            rates[kind] = (time.perf_counter() - began) / max(1, len([float(v) for v in losses]))
            loop.close()  # type: ignore[attr-defined]
        total += settings.steps * rates[kind]
    return total

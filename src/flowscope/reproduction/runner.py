"""Work: a reproduction under way. Models that are missing are trained, studies that are missing are run."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowscope.core.files import remove_file, write_files
from flowscope.core.serialize import json_text, to_jsonable
from flowscope.core.settings import versions
from flowscope.data.training_set import TrainingSet
from flowscope.errors import FlowscopeError, InputError, OutputError
from flowscope.metrics import FeatureSpace
from flowscope.oracle import Oracle
from flowscope.studies.bench.finding import Finding
from flowscope.studies.catalogue import options_of, run_study
from flowscope.studies.inputs import StudyInputs, load_models
from flowscope.training import TrainSettings, train_to
from flowscope.training.model_store import upgrade_about

INPUTS = "inputs.json"  # beside a result: what it was made from
MODELS = "models"
TRAINING_SHARE = 0.75  # of a budget that training may take

Progress = Callable[[int, int, str], None]


class SkippedError(Exception):
    """Something that is not done, with the reason."""


@dataclass(eq=False)
class Runner:
    """What a reproduction is of, and what has been done.

    Attributes:
        whole: all points, of which `aside` are held out. oracle: of those that models are trained on.
        out: the folder. quick: few samples. budget: seconds, or infinity. device: where models are trained and run.
        progress, tell, each: as in :func:`flowscope.reproduction.reproduce.reproduce`.
        trained: name -> what model.json says. missing: name -> why it was not trained.
    """

    whole: TrainingSet
    aside: int
    oracle: Oracle
    held_out: TrainingSet | None
    out: Path
    space: FeatureSpace | None
    foreign: TrainingSet | None
    device: Any
    quick: bool
    budget: float
    resume: bool
    progress: Progress
    tell: Callable[[str], object]
    each: Callable[[Any, Path], object]
    trained: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began

    def train(self, wanted: Mapping[str, TrainSettings]) -> None:
        """Train the models that are missing, as far as the budget goes."""
        for k, (name, settings) in enumerate(wanted.items()):
            try:
                self.trained[name] = self._trained(name, settings, f"model {k + 1} of {len(wanted)}, {name}")
            except SkippedError as reason:
                self.missing[name] = str(reason)

    def _trained(self, name: str, settings: TrainSettings, what: str) -> dict[str, Any]:
        folder = self.out / MODELS / name
        if not is_trained(folder, settings, self.oracle.training_set):
            expected = settings.steps * self._rate(settings)
            left = TRAINING_SHARE * self.budget - self.seconds
            if left <= 0 or expected > left:
                raise SkippedError(f"over the budget of {self.budget / 60:g} minutes, of which training may take 3/4")
            self.tell(f"training {what}: {settings.steps} steps")
            train_to(
                self.whole,
                settings,
                folder,
                held_out=self.aside,
                resume=self.resume,
                device=self.device,
                tracker=None,
                progress=lambda done, total, loss: self.progress(done, total, f"{name}, {loss}"),
            )
        return upgrade_about(read_json(folder / "model.json"))

    def _rate(self, settings: TrainSettings) -> float:
        """Seconds a step of the models trained so far with the same network and target; 0 for none."""
        alike = [
            about["seconds"] / about["settings"]["steps"]
            for about in self.trained.values()
            if all(about["settings"][k] == getattr(settings, k) for k in ("model", "width", "target", "batch"))
        ]
        return max(alike, default=0.0)

    def run(self, study: str, models: Sequence[str], others: Sequence[str], options: Mapping[str, Any]) -> Finding:
        """The finding of a study, taken as it is where it was made from the same before.

        Raises:
            LeftOutError: the budget is spent, or the study cannot be made of these data.
        """
        inputs = {"study": study, "models": self._digests(models), "others": self._digests(others)} | self._beside()
        return self.result(
            study,
            inputs | {"options": dict(options), "quick": self.quick},
            lambda: self._study(study, models, others, options),
            lambda folder: Finding.load(folder, study),
        )

    def _study(self, name: str, models: Sequence[str], others: Sequence[str], options: Mapping[str, Any]) -> Finding:
        if self.seconds >= self.budget:
            raise SkippedError(f"over the budget of {self.budget / 60:g} minutes")
        self.tell(f"running {name}")
        folders, second = ([self.out / MODELS / model for model in part] for part in (models, others))
        fields, beside = load_models(folders, self.device), load_models(second, self.device)
        where = tuple(folders), tuple(second)
        given = StudyInputs(fields, beside, *where, self.oracle, self.held_out, self.foreign, self.space)
        told: dict[str, Any] = {}
        if "progress" in options_of(name):
            told["progress"] = lambda done, total: self.progress(done, total, name)
        try:
            return run_study(name, given, quick=self.quick, **options, **told)
        except OutputError:
            raise
        except FlowscopeError as error:
            raise SkippedError(str(error)) from None

    def result(self, name: str, inputs: Mapping[str, Any], make: Callable[[], Any], load: Callable[[Path], Any]) -> Any:
        """A result with `to_files`, from its folder where it was made from the same inputs, else made now and kept."""
        folder = self.out / name
        identity = json.loads(json_text(to_jsonable({"version": versions()["flowscope"], **inputs})))
        if (folder / INPUTS).exists() and read_json(folder / INPUTS) == identity:
            return load(folder)
        found = make()
        remove_file(folder / INPUTS)  # what it says is no longer true of what comes
        write_files(folder, found.to_files())
        self.each(found, folder)
        write_files(folder, {INPUTS: json_text(identity)})  # last: only now is it done
        return found

    def _digests(self, models: Sequence[str]) -> dict[str, Any]:
        return {name: self.trained[name]["digests"] for name in models}

    def _beside(self) -> dict[str, Any]:
        sets = {"data": self.oracle.training_set, "held_out": self.held_out, "foreign": self.foreign}
        digests = {name: None if s is None else s.digest for name, s in sets.items()}
        return digests | {"space": "pixels" if self.space is None else self.space.name}


def read_json(path: Path) -> dict[str, Any]:
    """A file that flowscope wrote.

    Raises:
        InputError: it is damaged.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        raise InputError(f"{path} cannot be read; expected a file that flowscope wrote: remove its folder") from None


def is_trained(folder: Path, settings: TrainSettings, training_set: TrainingSet) -> bool:
    """Whether a folder holds a finished model of these settings and points."""
    if not (folder / "model.json").exists():
        return False
    about = upgrade_about(read_json(folder / "model.json"))
    same = about.get("settings") == settings.to_dict() and about.get("step") == settings.steps
    return bool(same and about.get("training_set", {}).get("digest") == training_set.digest)

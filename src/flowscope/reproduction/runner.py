"""The runner of a reproduction: trains the models and runs the studies whose results are not there yet."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowscope.core.files import remove_file, write_files
from flowscope.core.run_folder import opened_folder
from flowscope.core.schema import read_json
from flowscope.core.serialize import json_text, to_jsonable
from flowscope.core.settings import versions
from flowscope.data.training_set import TrainingSet
from flowscope.errors import FlowscopeError, OutputError
from flowscope.metrics import FeatureSpace
from flowscope.oracle import Oracle
from flowscope.studies.bench.criteria import criteria_version
from flowscope.studies.bench.finding import Finding
from flowscope.studies.catalogue import options_of, run_study
from flowscope.studies.inputs import StudyInputs, load_models
from flowscope.training import TrainSettings, train_to
from flowscope.training.checkpoint import forget_unfinished
from flowscope.training.model_store import read_about

INPUTS_FILE = "inputs.json"  # in the folder of a result: what it was made from
KIND = "a file that flowscope wrote: remove its folder"  # in messages
MODELS_FOLDER = "models"
MODEL_FILE = "model.json"  # in the folder of a model: its record
RESULT_FILES = ("index.html", "reproduction.json", "reproduction.csv")  # over all results
MAX_TRAINING_SHARE = 0.75  # of the budget

Progress = Callable[[int, int, str], None]


class SkippedError(Exception):
    """A model is not trained or a study is not run; the message says why."""


@dataclass(eq=False)
class Runner:
    """The inputs of a reproduction, and the models that it has trained.

    Attributes:
        points: all points.
        held_out_count: the number of them that are held out.
        oracle: of those that models are trained on.
        held_out: the held-out points.
        out: the folder of all results.
        space, foreign, device, quick, resume, overwrite, progress, tell, each: as in
            :func:`flowscope.reproduction.reproduce.reproduce`.
        budget: seconds, or infinity.
        trained: name -> the record of a model.
        missing: name -> the reason why a model was not trained.
    """

    points: TrainingSet
    held_out_count: int
    oracle: Oracle
    held_out: TrainingSet | None
    out: Path
    space: FeatureSpace | None
    foreign: TrainingSet | None
    device: Any
    quick: bool
    budget: float
    resume: bool
    overwrite: bool
    progress: Progress
    tell: Callable[[str], object]
    each: Callable[[Any, Path], object]
    trained: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def train(self, wanted: Mapping[str, TrainSettings]) -> None:
        """Train the models that are missing, as far as the budget goes."""
        for k, (name, settings) in enumerate(wanted.items()):
            try:
                self.trained[name] = self._trained(name, settings, f"model {k + 1} of {len(wanted)}, {name}")
            except SkippedError as reason:
                self.missing[name] = str(reason)

    def _trained(self, name: str, settings: TrainSettings, what: str) -> dict[str, Any]:
        folder = self.out / MODELS_FOLDER / name
        if not is_trained(folder, settings, self.oracle.training_set):
            expected = settings.steps * self._rate(settings)
            left = MAX_TRAINING_SHARE * self.budget - self.seconds
            if left <= 0 or expected > left:
                raise SkippedError(f"{self._over_budget()}, of which training may take 3/4")
            self.tell(f"training {what}: {settings.steps} steps")
            if not self.resume:
                forget_unfinished(folder)
            train_to(
                self.points,
                settings,
                folder,
                held_out=self.held_out_count,
                resume=self.resume,
                overwrite=self.overwrite,
                device=self.device,
                tracker=None,
                progress=lambda done, total, loss: self.progress(done, total, f"{name}, {loss}"),
            )
        return read_about(folder)

    def _rate(self, settings: TrainSettings) -> float:
        """Seconds for each step of the models trained so far with the same network and target; 0 for none."""
        alike = [
            about["seconds"] / about["settings"]["steps"]
            for about in self.trained.values()
            if all(about["settings"][k] == getattr(settings, k) for k in ("model", "width", "target", "batch"))
        ]
        return max(alike, default=0.0)

    def run(self, study: str, models: Sequence[str], others: Sequence[str], options: Mapping[str, Any]) -> Finding:
        """The finding of a study, from its folder if it was made from the same inputs before.

        Raises:
            SkippedError: the budget is spent, or the study cannot be run on these data.
        """
        inputs = {"study": study, "models": self._digests(models), "others": self._digests(others)}
        inputs |= self._point_digests()
        return self.result(
            study,
            inputs | {"options": dict(options), "quick": self.quick},
            lambda: self._study(study, models, others, options),
            lambda folder: Finding.load(folder, study),
        )

    def _study(self, name: str, models: Sequence[str], others: Sequence[str], options: Mapping[str, Any]) -> Finding:
        if self.seconds >= self.budget:
            raise SkippedError(self._over_budget())
        self.tell(f"running {name}")
        first, second = (tuple(self.out / MODELS_FOLDER / model for model in part) for part in (models, others))
        loaded, compared = load_models(first, self.device), load_models(second, self.device)
        inputs = StudyInputs(loaded, compared, first, second, self.oracle, self.held_out, self.foreign, self.space)
        report: dict[str, Any] = {}
        if "progress" in options_of(name):
            report["progress"] = lambda done, total: self.progress(done, total, name)
        try:
            return run_study(name, inputs, quick=self.quick, **options, **report)
        except OutputError:
            raise
        except FlowscopeError as error:
            raise SkippedError(str(error)) from None

    def _over_budget(self) -> str:
        return f"over the budget of {self.budget / 60:g} minutes"

    def result(self, name: str, inputs: Mapping[str, Any], make: Callable[[], Any], load: Callable[[Path], Any]) -> Any:
        """A result, from its folder if it was made from the same inputs, else made now and written there.

        Args:
            name: of the folder.
            inputs: what the result depends on, as plain values.
            make: makes the result, which has `to_files`.
            load: loads it from the folder.
        """
        folder = self.out / name
        identity = json.loads(
            json_text(to_jsonable({"version": versions()["flowscope"], "criteria": criteria_version(), **inputs}))
        )
        if (folder / INPUTS_FILE).exists() and read_json(folder / INPUTS_FILE, Any, KIND) == identity:
            return load(folder)
        found = make()
        self._outdate(name)
        write_files(folder, found.to_files())
        self.each(found, folder)
        write_files(folder, {INPUTS_FILE: json_text(identity)})  # last, since only now are all files there
        return found

    def _outdate(self, name: str) -> None:
        """Remove an earlier result and the pages over all results: they would not be true of what comes now."""
        opened = opened_folder(self.out)
        if opened is not None:
            remove_file(self.out / name / INPUTS_FILE)
            opened.clear(name)
            for page in RESULT_FILES:
                remove_file(self.out / page)

    def _digests(self, models: Sequence[str]) -> dict[str, Any]:
        return {name: self.trained[name]["digests"] for name in models}

    def _point_digests(self) -> dict[str, Any]:
        sets = {"data": self.oracle.training_set, "held_out": self.held_out, "foreign": self.foreign}
        digests = {name: None if s is None else s.digest for name, s in sets.items()}
        return digests | {"space": "pixels" if self.space is None else self.space.name}


def is_trained(folder: Path, settings: TrainSettings, training_set: TrainingSet) -> bool:
    """Whether a folder holds a finished model of these settings and points."""
    if not (folder / MODEL_FILE).exists():
        return False
    about = read_about(folder)
    same = about["settings"] == settings.to_dict() and about["step"] == settings.steps
    return bool(same and about["training_set"]["digest"] == training_set.digest)

"""flowscope study: one finding about a trained model."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from flowscope.cli import options as o
from flowscope.cli import parse
from flowscope.cli.console import progress, say, say_settings
from flowscope.cli.grouped import Text, grouped, use
from flowscope.cli.remembered import source_of
from flowscope.core.files import write_files
from flowscope.data import TrainingSet, load
from flowscope.data.loaders.builtin import is_builtin
from flowscope.data.normaliser import Normaliser
from flowscope.errors import InputError
from flowscope.studies import catalogue
from flowscope.studies.bench.finding import Finding, finding_names, verdict_in_words
from flowscope.studies.inputs import StudyInputs, load_inputs

NAMES = "\b\nNAME is one of\n" + "\n".join(
    f"  {name:<12}  {entry.question}" for name, entry in catalogue.CATALOGUE.items()
)


@dataclass(frozen=True)
class ModelsOptions:
    """Which models are studied, and what was or was not in their training."""

    SECTION = "Models"
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model", metavar="MODEL", help="Study this trained model; repeat for further seeds.  [required]"
        ),
    ] = None
    others: Annotated[
        list[str] | None,
        typer.Option("--other", metavar="MODEL", help="Compare with this model; repeat for further seeds."),
    ] = None
    data: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Take these data.  [default: those that flowscope trained on]"),
    ] = None
    held_out_data: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Replace the points held out in training.")
    ] = None
    foreign: o.Foreign = None
    more: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Compare with the oracle of this larger set, data included."),
    ] = None

    def beside(self) -> list[str]:
        """Which data are given beside those of training, by their names in the catalogue."""
        given = {"held_out": self.held_out_data, "foreign": self.foreign, "more": self.more}
        return [name for name, source in given.items() if source is not None]


@dataclass(frozen=True)
class EffortOptions:
    """How much is drawn and computed."""

    SECTION = "Sampling"
    n: Annotated[
        int | None,
        typer.Option(metavar="N", help="Use this many samples or probes.  [default: by study]"),
        Text(parse.whole(1)),
    ] = None
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", help="Take this many solver steps.  [default: by study]"),
        Text(parse.whole(1)),
    ] = None
    seed: o.Seed = 0
    boundary: Annotated[
        float | None,
        typer.Option(metavar="T", help="Let experts take over here.  [default: as they were trained]"),
    ] = None
    references: Annotated[
        bool | None,
        typer.Option(
            "--references/--no-references",
            help="Measure fields of known memory beside the model.  [default: cheap ones]",
        ),
    ] = None
    quick: Annotated[bool, typer.Option("--quick", help="Use few samples and steps, for a first impression.")] = False

    def given(self) -> dict[str, Any]:
        """The options of a study that were given."""
        options: dict[str, Any] = {"n": self.n, "steps": self.steps, "seed": self.seed}
        options |= {"boundary": self.boundary, "references": self.references}
        return {name: value for name, value in options.items() if value is not None}


@grouped
def study(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Study to run.")],
    output: o.OutputOptions,
    models: ModelsOptions,
    effort: EffortOptions,
    project: o.ProjectOptions,
    data: o.DataOptions,
    compute: o.ComputeOptions,
) -> None:
    """Find out one thing about a trained model.

    Reproduces a figure or table of the paper with your model and data. Writes figure, numbers and a page that says what
    was found and whether it agrees with the paper.
    """
    options = effort.given()
    source, folders, data = _required(name, models, data)
    catalogue.check_study(name, len(folders), len(models.others or ()), models.beside(), **options)
    trained, further = (*folders, *(models.others or ())), (models.held_out_data, models.foreign, models.more)
    folder = output.folder(source, trained, further)
    use(output.opened(folder, f"study {name}", finding_names(name)))
    given = _given(data.load(source), folders, models, data, compute, project, catalogue.find(name).parts)
    points = given.oracle.training_set
    about: dict[str, Any] = {"models": ", ".join(m.name for m in given.models)}
    about |= {"others": ", ".join(m.name for m in given.others) or None}
    about |= {"more": given.more and f"{given.more.name}, {len(given.more)} points"}
    about |= {"points": len(points), "digest": points.digest} | options
    about |= {"quick": effort.quick, "device": str(given.oracle.device), "out": folder and str(folder)}
    say_settings(f"flowscope study {name}: {points.name}", about, output.as_json, output.dry_run)
    if output.dry_run:
        return
    with progress(name) as report:
        told = {"progress": report} if "progress" in catalogue.options_of(name) else {}
        finding = catalogue.run_study(name, given, quick=effort.quick, **options, **told)
    if folder is not None:
        write_files(folder, all_files(finding), alone=True)
    say(json.dumps(finding.to_dict(), allow_nan=False) if output.as_json else _summary(finding, folder))


def _given(
    data: TrainingSet,
    folders: list[str],
    models: ModelsOptions,
    options: o.DataOptions,
    compute: o.ComputeOptions,
    project: o.ProjectOptions,
    parts: bool,
) -> StudyInputs:
    return load_inputs(
        data,
        folders,
        [os.path.expanduser(other) for other in models.others or ()],
        held_out=load_beside(models.held_out_data, data, options),
        foreign=load_beside(models.foreign, data, options),
        more=None
        if models.more is None
        else replace(options, subset=None).load(models.more, _normaliser(data, options)),
        device=compute.device,
        memory=compute.memory,
        parts=parts,
        **project.given(),
    )


def _required(name: str, models: ModelsOptions, data: o.DataOptions) -> tuple[str, list[str], o.DataOptions]:
    """The data and the folders of models, without which there is no study; data may be those of the training."""
    if not models.models:
        wanted = "expected a folder, a checkpoint or FILE.py:FUNCTION: --model MODEL"
        raise InputError(f"study {name} is given no model; {wanted}")
    folders = [os.path.expanduser(model) for model in models.models]
    missing = f"study {name} is given no data, and no model says on which it was trained; expected those: --data SOURCE"
    source, data = source_of(models.data, [*folders, *(models.others or ())], data, missing)
    return source, folders, data


def load_beside(source: str | None, data: TrainingSet, options: o.DataOptions) -> TrainingSet | None:
    """Another source, its images brought to the size and channels of the data; None for none.

    It is read as it is, or if that is refused, with what the options say of the meaning of the data. `--normalise`
    holds for both, by the statistics of the data.
    """
    if source is None:
        return None
    images, named = len(data.shape) == 3, is_builtin(source)
    size = (data.shape[1], data.shape[2]) if images else None
    own = o.DataOptions(
        resize=None if named else size,
        crop=options.crop if images and not named else None,
        normalise=options.normalise,
        no_cache=options.no_cache,
    )
    normaliser = _normaliser(data, options)
    found, used = load_or_answer(source, own, options, normaliser)
    if images and len(found.shape) == 3 and found.shape != data.shape:
        grey = found.shape[0] > data.shape[0] == 1
        found = replace(used, resize=size, crop=options.crop, grey=grey).load(source, normaliser)
    return _labels_by_name(found, data)


def _labels_by_name(found: TrainingSet, data: TrainingSet) -> TrainingSet:
    """Points whose classes have the labels that the data give to these names; as they are if names are unknown."""
    if found.labels is None or not found.class_names or not data.class_names:
        return found
    number = {name: label for label, name in data.class_names.items()}
    names = [found.class_names.get(label) for label in found.labels.tolist()]
    if not all(name in number for name in names):
        return found
    labels = np.array([number[str(name)] for name in names], dtype=np.int64)
    return found if np.array_equal(labels, found.labels) else load(found, labels=labels, name=found.name)


def _normaliser(data: TrainingSet, options: o.DataOptions) -> Normaliser | None:
    """The one that `--normalise` has found for the data, which holds for all sources; None where it is not given."""
    return None if options.normalise is None else data.normaliser


def load_or_answer(
    source: str, own: o.DataOptions, options: o.DataOptions, normaliser: Normaliser | None
) -> tuple[TrainingSet, o.DataOptions]:
    """A source by its own options, or where its meaning is open, by what the options say of the data's."""
    names = ("skip_broken", "layout", "assume", "split", "columns", "posterior")
    try:
        return own.load(source, normaliser), own
    except InputError:
        answered = replace(own, **{name: getattr(options, name) for name in names})
        if answered == own:
            raise
    return answered.load(source, normaliser), answered


def all_files(finding: Finding) -> dict[str, str | bytes]:
    """Numbers, figures and page of a finding, by name."""
    from flowscope.report import finding_files

    return {**finding.to_files(), **finding_files(finding)}


def _summary(finding: Finding, out: Path | None) -> str:
    verdict = verdict_in_words(finding.verdict, finding.provenance)
    lines = [finding.found, f"{finding.where}: {verdict}", f"why: {finding.why}"]
    return "\n".join([*lines, *([] if out is None else [f"page: {out / 'index.html'}"])])

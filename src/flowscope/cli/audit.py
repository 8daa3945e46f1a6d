"""flowscope audit: are samples copies of training points?"""

import json
import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from flowscope.auditing import Audit
from flowscope.auditing import audit as measure
from flowscope.auditing.result import PAGE_FILES
from flowscope.auditing.rule import FALSE_ALARMS
from flowscope.cli import options as o
from flowscope.cli import parse
from flowscope.cli.console import between, progress, say, say_settings
from flowscope.cli.grouped import Text, grouped, use
from flowscope.cli.remembered import source_of
from flowscope.cli.study import load_or_answer
from flowscope.core.files import write_files
from flowscope.data import TrainingSet
from flowscope.data.channels import channel_statistics
from flowscope.data.pixels import is_image
from flowscope.errors import FlowscopeWarning, InputError
from flowscope.metrics.memorised import MEMORISED_RATIO
from flowscope.sampling import sample

OVER = 3  # exit code: the limit that was asked for is exceeded
SHOWN = 3  # pairs that are printed
NO_DATA = "audit is given no --data; expected the points that the model was trained on: --data SOURCE"
LABELS_STREAM = 2  # of random numbers, for labels of drawn samples


@dataclass(frozen=True)
class SetOptions:
    """Which points are compared."""

    SECTION = "Points"
    data: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Take these data.  [default: those that flowscope trained on]"),
    ] = None
    held_out: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Measure false alarms on these real points.")
    ] = None
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Draw the samples from this trained model.")] = None
    n: Annotated[int, typer.Option(metavar="N", help="Draw this many samples with --model."), Text(parse.whole(1))] = (
        1000
    )
    steps: Annotated[
        int, typer.Option(metavar="N", help="Take this many solver steps with --model."), Text(parse.whole(1))
    ] = 50
    seed: o.Seed = 0


@dataclass(frozen=True)
class RuleOptions:
    """How copies are told, and what follows."""

    SECTION = "Audit"
    space: Annotated[
        str, typer.Option(metavar="pixels|NAME:FILE|FILE.pt|FILE.py:MAKE", help="Compare points in this space.")
    ] = "pixels"
    planted: Annotated[
        int, typer.Option(metavar="N", help="Plant this many copies of each kind."), Text(parse.whole(0))
    ] = 100
    measures: Annotated[
        bool, typer.Option("--measures/--no-measures", help="Take AuthPct, C_T, precision, FD and others, too.")
    ] = True
    fail_above: Annotated[
        float | None,
        typer.Option(metavar="X", help="Exit with 3 if the share is surely above X."),
        Text(parse.share),
    ] = None


@grouped
def audit(
    *,
    generated: Annotated[
        str | None, typer.Argument(metavar="GENERATED", help="Samples: a name, a file or a folder.")
    ] = None,
    output: o.OutputOptions,
    sets: SetOptions,
    rule: RuleOptions,
    project: o.ProjectOptions,
    data: o.DataOptions,
    compute: o.DeviceOptions,
) -> None:
    """Tell how many samples are copies of training points, and which.

    Finds the nearest training points of each sample and the share of copies, with its interval and that of held-out
    points. Plants copies of the training points and says what share of them it finds. Without GENERATED and --model it
    looks for copies within --data. Writes a page of pairs, worst first, copies.csv and audit.json to --out.
    """
    project.check(sets.model)
    models = () if sets.model is None else (sets.model,)
    source, data = source_of(sets.data, models, data, NO_DATA)
    if generated is not None and sets.model is not None:
        raise InputError("GENERATED and --model are both given; expected one: samples, or the model that draws them")
    folder = None if output.out is None else output.folder(source, models, (generated, sets.held_out))
    use(output.opened(folder, "audit", PAGE_FILES))
    train = data.load(source)
    rest = None if sets.held_out is None else _beside(sets.held_out, data, train)
    samples = None if generated is None else _beside(generated, data, train)
    shown: dict[str, Any] = {"generated": generated, "model": sets.model, "held_out": sets.held_out}
    shown |= {"space": rule.space, "points": len(train), "seed": sets.seed}
    shown |= {"fail_above": rule.fail_above, "out": folder and str(folder)}
    say_settings(f"flowscope audit {train.name}", shown, output.as_json, output.dry_run)
    if output.dry_run:
        return
    if sets.model is not None:
        samples, train, rest = _drawn(sets, train, rest, project, compute.device)
    with progress("audit") as report:
        how: dict[str, Any] = {"planted": rule.planted, "measure": rule.measures, "seed": sets.seed}
        found = measure(samples, train, rest, rule.space, **how, device=compute.device, progress=report)
    if folder is not None:
        write_files(folder, _files(found), alone=True)
    say(json.dumps(found.to_dict(), allow_nan=False) if output.as_json else _summary(found, folder))
    _check_limit(rule.fail_above, found)
    if rule.fail_above is not None and found.low > rule.fail_above:
        raise typer.Exit(OVER)


def _beside(source: str, options: o.DataOptions, data: TrainingSet) -> TrainingSet:
    """Samples or held-out points: resized only where that is asked for, as the data then are."""
    own = o.DataOptions(
        resize=options.resize,
        crop=options.crop,
        grey=options.grey,
        normalise=options.normalise,
        no_cache=options.no_cache,
    )
    return load_or_answer(source, own, options, None if options.normalise is None else data.normaliser)[0]


def _drawn(
    sets: SetOptions,
    data: TrainingSet,
    rest: TrainingSet | None,
    project: o.ProjectOptions,
    device: str | None,
) -> tuple[TrainingSet, TrainingSet, TrainingSet | None]:
    """Samples of the model, the points it was trained on, and those held out then if no others are given."""
    from flowscope.studies.inputs import load_models, said_of_training, trained_points

    (model,) = load_models([os.path.expanduser(sets.model or "")], device, data.shape, **project.given())
    model = said_of_training(model, data)
    train, held_out = trained_points(data, [model])
    y = None
    if model.classes and train.labels is not None:  # labels in the proportions of the training set
        y = np.random.default_rng((sets.seed, LABELS_STREAM)).choice(train.labels, sets.n).tolist()
    with progress("sampling") as report:
        made = sample(model, n=sets.n, steps=sets.steps, y=y, seed=sets.seed, batch=256, progress=report)
    notes: tuple[str, ...] = ()
    if is_image(train.shape):  # as they would be cut if they were saved as pixels
        lows, highs = zip(*channel_statistics(train).range, strict=True)
        made = made.clamp(min(lows), max(highs))
        notes = ("Samples of the model were cut to the range of the training images.",)
    samples = TrainingSet(made.cpu(), name=f"{sets.n} samples of {model.name}")
    samples.notes += notes
    return samples, train, held_out if rest is None else rest


def _check_limit(limit: float | None, found: Audit) -> None:
    """Warn of a limit that a model which copies nothing exceeds by chance."""
    if limit is not None and limit < FALSE_ALARMS and found.null is not None and found.threshold > MEMORISED_RATIO:
        warnings.warn(
            f"--fail-above {limit} is below the share of false alarms, {FALSE_ALARMS}: expected more than that",
            FlowscopeWarning,
            stacklevel=2,
        )


def _files(found: Audit) -> dict[str, str | bytes]:
    from flowscope.report import audit_files

    return {**found.to_files(), **audit_files(found)}


def _summary(found: Audit, out: Path | None) -> str:
    lines = [f"copies      {found.summary}", f"rule        {found.rule}"]
    if found.null is not None:
        lines.append(f"held-out    {between(*found.null)}   share of held-out points that the rule calls copies")
    if found.planted:
        planted = ", ".join(f"{kind} {share:.2f}" for kind, share in found.planted.items())
        lines.append(f"found       {planted}   share of planted copies")
    for pair in found.pairs[:SHOWN]:
        near = f"distance {pair.distance:.3g}" if math.isnan(pair.ratio) else f"d1/d2 {pair.ratio:.3f}"
        lines += [f"worst       {pair.sample} of {pair.training}, {near}"] if pair.copy else []
    lines += [f"note        {note}" for note in found.notes]
    return "\n".join([*lines, *([] if out is None else [f"page        {out / 'index.html'}"])])

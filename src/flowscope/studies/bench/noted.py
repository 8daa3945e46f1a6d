"""noted: what flowscope warns of in a study, or warned of in training, is in the notes of the finding, on its page."""

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ParamSpec

from flowscope.core.progress import with_progress
from flowscope.errors import FlowscopeWarning
from flowscope.studies.bench.finding import Finding

Arguments = ParamSpec("Arguments")


def noted(study: Callable[Arguments, Finding]) -> Callable[Arguments, Finding]:
    """Make of a study one that repeats in its notes each FlowscopeWarning, and those of its models' training.

    Its `progress` may be True, for a bar.

    Warnings go their usual way afterwards.
    """

    @functools.wraps(study)
    def run(*arguments: Arguments.args, **options: Arguments.kwargs) -> Finding:
        seen: list[warnings.WarningMessage] = []
        try:
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always", FlowscopeWarning)
                finding = study(*arguments, **options)
        finally:
            for w in seen:
                warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
        said = [str(w.message) for w in seen if issubclass(w.category, FlowscopeWarning)]
        said += notes_of([*arguments, *options.values()])
        notes = dict.fromkeys(f"{text}." for text in said)
        return replace(finding, notes=(*finding.notes, *notes)) if notes else finding

    return with_progress(run)


def notes_of(given: Any) -> list[str]:
    """What the records of models, among the arguments of a study, say that was decided in their training."""
    if isinstance(given, (list, tuple)):
        return [note for value in given for note in notes_of(value)]
    if isinstance(given, Mapping):
        return notes_of(list(given.values()))
    about = getattr(given, "about", None)
    notes = about.get("notes") if isinstance(about, Mapping) else None
    return [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []

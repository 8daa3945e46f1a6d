"""noted: what flowscope warns of during a study is among the notes of its finding, and so on its page."""

import functools
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import ParamSpec

from flowscope.errors import FlowscopeWarning
from flowscope.studies.bench.finding import Finding

Arguments = ParamSpec("Arguments")


def noted(study: Callable[Arguments, Finding]) -> Callable[Arguments, Finding]:
    """Make of a study one that repeats each FlowscopeWarning in its notes; warnings go their usual way afterwards."""

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
        notes = dict.fromkeys(f"{w.message}." for w in seen if issubclass(w.category, FlowscopeWarning))
        return replace(finding, notes=(*finding.notes, *notes)) if notes else finding

    return run

"""The page of a reproduction: a row for each figure and table of the paper, with links to the pages of the studies."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

from flowscope.core.files import write_files
from flowscope.report import prose
from flowscope.report.elements import Cell, Table, name_cell, number_cell
from flowscope.report.formatting import number
from flowscope.report.page import render
from flowscope.report.plain_text import without_paths
from flowscope.report.provenance import NETWORK_COST, provenance
from flowscope.studies.bench.finding import verdict_in_words

ROW_COLUMNS = ("the paper's", "study", "verdict", "question", "models")
VERDICT_COUNTS = {  # what is said of so many rows
    "agrees": "agree with the paper",
    "differs": "differ",
    "cannot be tested": "cannot be tested here",
    "does not tell memory from denoising": "do not tell memory from denoising",
    "not run": "were not run",
}
MODEL_COLUMNS = ("model", "network", "width", "target", "timesteps", "part of time", "steps", "parameters", "seconds")


def reproduction_files(result: Any) -> dict[str, bytes | str]:
    """index.html, by name.

    Args:
        result: a :class:`flowscope.reproduction.result.Reproduction`; pages of studies lie in folders beside the page.

    Example:
        >>> from flowscope.report import reproduction_files
        >>> sorted(reproduction_files(result))  # doctest: +SKIP
        ['index.html']
    """
    html = render(
        "reproduction.html.j2",
        title=f"flowscope reproduce: {prose.name_of(result)}",
        subtitle=f"What arXiv 2512.02826 shows, on {prose.describe(dict(result.training_set))}",
        result=result,
        counts=_counts(result),
        table=_row_table(result),
        models=_model_table(result),
        provenance=provenance(result, NETWORK_COST),
    )
    return {"index.html": html}


def write_reproduction(result: Any, directory: str | os.PathLike[str]) -> Path:
    """Write `reproduction_files` into a folder, whole or not at all; returns the path of index.html.

    Raises:
        OutputError: the files cannot be written.

    Example:
        >>> from flowscope.report import write_reproduction
        >>> write_reproduction(result, "runs/reproduction")  # doctest: +SKIP
        PosixPath('runs/reproduction/index.html')
    """
    write_files(directory, reproduction_files(result))
    return Path(directory) / "index.html"


def _counts(result: Any) -> str:
    """How many rows have which verdict."""
    counts = Counter(row.verdict for row in result.rows)
    told = ", ".join(f"{counts[verdict]} {words}" for verdict, words in VERDICT_COUNTS.items() if counts[verdict])
    return f"Of {len(result.rows)} rows {told}."


def _row_table(result: Any) -> Table:
    """A row for each figure and table of the paper."""
    rows = [
        [
            name_cell(row.where),
            Cell(row.study, row.study, f"{row.study}/index.html" if row.page else None),
            name_cell(verdict_in_words(row.verdict, result.settings)),
            name_cell(without_paths(row.title)),
            Cell(str(row.models) if row.models else "–", row.models),
        ]
        for row in result.rows
    ]
    return Table("Figures and tables of the paper, on these data; a heading sorts", ROW_COLUMNS, rows, sortable=True)


def _model_table(result: Any) -> Table | None:
    """A row for each model that was trained; None without any."""
    rows = [_model_row(name, model) for name, model in result.models.items()]
    return Table("What was trained; a heading sorts", MODEL_COLUMNS, rows, sortable=True) if rows else None


def _model_row(name: str, model: Any) -> list[Cell]:
    settings = model["settings"]
    times = settings["density"] + (f", shift {settings['shift']:g}" if settings["shift"] != 1 else "")
    part = "{:g} to {:g}".format(*settings["interval"])
    width = "default" if settings["width"] is None else str(settings["width"])
    return [
        *map(name_cell, (name, settings["model"], width, settings["target"], times, part)),
        *(Cell(f"{count:,}", count) for count in (settings["steps"], model["parameters"])),
        number_cell(model["seconds"], number),
    ]

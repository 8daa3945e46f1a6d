"""The page of a reproduction: a row for each figure and table of the paper, with links to the pages of the studies."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

from flowscope.core.files import write_files
from flowscope.report import words
from flowscope.report.finding import COST
from flowscope.report.markup import Cell, number_cell, paragraph, section, table, text, without_paths
from flowscope.report.numbers import number
from flowscope.report.page import page
from flowscope.report.tables import notes_section, provenance_section

COLUMNS = ("the paper's", "study", "verdict", "question", "models")
COUNTED = {
    "agrees": "agree with the paper",
    "differs": "differ",
    "cannot be tested": "cannot be tested here",
    "no claim": "have no claim to agree with",
    "not run": "were not run",
}
MODELS = ("model", "network", "width", "target", "timesteps", "part of time", "steps", "parameters", "seconds")


def reproduction_files(result: Any) -> dict[str, bytes | str]:
    """index.html, by name.

    Args:
        result: a :class:`flowscope.reproduction.result.Reproduction`; pages of studies lie in folders beside the page.
    """
    sections = (
        _rows(result),
        _findings(result),
        _models(result),
        notes_section(result),
        provenance_section(result, COST),
    )
    html = page(
        f"flowscope reproduce: {words.name_of(result)}",
        f"What arXiv 2512.02826 shows, on {words.describe(dict(result.training_set))}",
        "\n".join(filter(None, sections)),
    )
    return {"index.html": html}


def write_reproduction(result: Any, directory: str | os.PathLike[str]) -> Path:
    """Write `reproduction_files` into a folder, whole or not at all; returns the path of index.html.

    Raises:
        OutputError: the files cannot be written.
    """
    write_files(directory, reproduction_files(result))
    return Path(directory) / "index.html"


def _rows(result: Any) -> str:
    counts = Counter(row.verdict for row in result.rows)
    told = ", ".join(f"{counts[verdict]} {words}" for verdict, words in COUNTED.items() if counts[verdict])
    intro = f"Of {len(result.rows)} rows {told}. A study's name leads to its page; what was found stands below."
    rows = [
        [
            Cell(row.where, row.where),
            Cell(row.study, row.study, f"{row.study}/index.html" if row.page else None),
            Cell(row.verdict, row.verdict),
            Cell(without_paths(row.title), row.title),
            Cell(str(row.models) if row.models else "–", row.models),
        ]
        for row in result.rows
    ]
    shown = table("Figures and tables of the paper, on these data; a heading sorts", COLUMNS, rows, sortable=True)
    return section("rows", "Figures and tables", paragraph(intro), f'<div class="report">{shown}</div>')


def _findings(result: Any) -> str:
    """What was found for each row, and why it agrees or does not: too many words for a table."""
    return section("findings", "What was found", *map(_found, result.rows))


def _found(row: Any) -> str:
    items = (("The paper", row.claim), ("Here", row.found), ("Why", row.why))
    told = "".join(f"<dt>{text(who)}</dt><dd>{text(without_paths(what))}</dd>" for who, what in items if what)
    verdict = f'<strong class="badge {text(row.verdict.replace(" ", "-"))}">{text(row.verdict)}</strong>'
    where = f"{row.where}: " if row.where.startswith(("Fig.", "Tab.")) else ""
    return f'<h3>{text(where + without_paths(row.title))}</h3><p>{verdict}</p><dl class="told">{told}</dl>'


def _models(result: Any) -> str:
    """What was trained for it."""
    rows = []
    for name, model in result.models.items():
        s = model["settings"]
        times = s["density"] + (f", shift {s['shift']:g}" if s["shift"] != 1 else "")
        part = "{:g} to {:g}".format(*s["interval"])
        width = "default" if s["width"] is None else str(s["width"])
        cells = [Cell(v, v) for v in (name, s["model"], width, s["target"], times, part)]
        counts = [Cell(f"{v:,}", v) for v in (s["steps"], model["parameters"])]
        rows.append([*cells, *counts, number_cell(model["seconds"], number)])
    if not rows:
        return section("models", "Models", paragraph("No model was trained."))
    return section("models", "Models", table("What was trained; a heading sorts", MODELS, rows, sortable=True))

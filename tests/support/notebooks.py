"""Notebooks, run cell by cell as a kernel does: what stands last in a cell is shown."""

import ast
import json
from pathlib import Path
from typing import Any


def run_notebook(path: Path) -> list[Any]:
    """The values that the cells of a notebook show, in order, but None."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = []
    for k, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]), f"{path.name}, cell {k}")
        last, names["_shown"] = tree.body[-1], None
        if isinstance(last, ast.Expr):
            tree.body[-1] = ast.Assign([ast.Name("_shown", ast.Store())], last.value)
        exec(compile(ast.fix_missing_locations(tree), f"{path.name}, cell {k}", "exec"), names)
        if names["_shown"] is not None:
            shown.append(names["_shown"])
    return shown


def displayed(value: Any) -> str:
    """How a fresh notebook shows a value: as "html" or "png" where it says so itself, else its text."""
    html, png = (getattr(value, f"_repr_{kind}_", lambda: None)() for kind in ("html", "png"))
    return "html" if html else "png" if png else repr(value)

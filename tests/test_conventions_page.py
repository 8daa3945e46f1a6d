"""docs/conventions.md is what the code says, and names tests that exist and conventions that are ready."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def load_script():
    spec = importlib.util.spec_from_file_location("make_conventions", ROOT / "docs" / "make_conventions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_conventions_are_the_one_of_the_code():
    script = load_script()
    assert set(script.ROWS) == set(script.all_conventions())
    assert script.PAGE.read_text(encoding="utf-8") == script.page()
    assert {row[-1] for row in (*script.ROWS.values(), *script.BY_SCHEDULER)} == set(script.TESTED)
    rows = [line.split(" | ") for line in script.tables().partition("\n\n")[0].splitlines()]
    said = {cells[0].removeprefix("| "): cells[2:4] for cells in rows}
    assert said["Lumina 2"] == ["t", "x1 - x0"] and said["HiDream"] == ["1000 (1 - t)", "x1 - x0"]
    assert said["PRX"] == ["1 - t", "x0 - x1"] and said["REPA"] == ["1 - t", "x0 - x1"]

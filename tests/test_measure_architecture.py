"""docs/measure_architecture.py, which fills the tables of docs/architecture.md, on a package made for it."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "measure_architecture.py"

FILES = {
    "__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from toy.top import go\n",
    "errors.py": "import os\n",
    "low/__init__.py": "from toy.low.a import f\n",
    "low/a.py": "from toy import errors\nfrom toy.low import b\ndef f():\n    return b\n",
    "low/b.py": "from toy.low.c import x\n",
    "low/c.py": "import toy.low.a\nx = 1\n",
    "low/d.py": "if True:\n    from toy.low import a\n",
    "mid/__init__.py": "",
    "mid/one.py": "from toy.low import f\ndef late():\n    from toy.mid import two\n    return two\n",
    "mid/two.py": "from toy.mid.one import late\nfrom toy.mid.deep import inner\n",
    "mid/deep/__init__.py": "",
    "mid/deep/inner.py": "import typing\nif typing.TYPE_CHECKING:\n    import toy.mid.two\n"
    "else:\n    import toy.errors\n",
    "top.py": "from toy.mid.two import late\nclass C:\n    def go(self):\n        def nested():\n"
    + "            pass\n" * 36
    + "        return nested\n",
}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("measure_architecture", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    yield spec.loader.exec_module(module) or module
    del sys.modules[spec.name]


@pytest.fixture
def modules(script, tmp_path):
    for name, text in FILES.items():
        file = tmp_path / "toy" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return {module.name: module for module in script.read_package(tmp_path / "toy")}


def test_imports_by_what_runs_them(modules):
    assert {"", "errors", "low", "low.a", "mid.deep", "mid.deep.inner", "top"} <= set(modules)
    assert modules[""].imports == set() and modules[""].types == {"top"}
    assert modules["low.a"].imports == {"errors", "low.b"}
    assert modules["low.d"].imports == {"low.a"}  # inside an if is still at module level
    assert modules["mid.one"].imports == {"low"} and modules["mid.one"].later == {"mid.two"}
    assert modules["mid.deep.inner"].imports == {"errors"} and modules["mid.deep.inner"].types == {"mid.two"}


def test_circles(script, modules):
    found = modules.values()
    assert script.circles({m.name: m.imports for m in found}) == [["low.a", "low.b", "low.c"]]
    assert script.circles({m.name: m.imports | m.later for m in found})[1:] == [["mid.one", "mid.two"]]
    assert script.circles({m.name: m.imports | m.types for m in found})[1:] == [["mid.deep.inner", "mid.two"]]
    assert script.circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    two = {"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"c"}}
    assert script.circles(two) == [["a", "b"], ["c", "d"]]


def test_floors(script, modules):
    found = list(modules.values())
    assert script.floors(script.grouped(found, script.room_of)) == 4  # top, mid, low, errors
    assert script.floors(script.grouped(found, script.inside("mid", 2))) == 2  # two on one, and two on deep
    assert script.floors(script.grouped(found, script.inside("low"))) == 4  # d on a circle of three
    assert script.floors({}) == 0


def test_files_lines_and_functions(script, modules):
    assert sorted(modules["top"].functions) == [37, 39]
    rows = [line.split(" | ") for line in script.room_table(list(modules.values())).splitlines()]
    top = next(row for row in rows if "top" in row[0])
    assert top[1:8] == ["1", "41", "41", "41", "2", "2", "0"]
    total = sum(len(text.splitlines()) for text in FILES.values())
    assert rows[-1][1:3] == [f"{len(FILES)}", f"{total}"]
    assert rows[-1][4] == "2"
    assert rows[-1][-1] == "100.0% |"


def test_docstrings_and_empty_lines_are_no_code(script, tmp_path):
    code = "A = 1  # a comment is code", "def f():", "    return A"
    text = f'"""A module.\n\nOf two lines.\n"""\n\n{code[0]}\n\n\n{code[1]}\n    """Nothing."""\n{code[2]}\n'
    (tmp_path / "file.py").write_text(text)
    module = script.read_module("file", tmp_path / "file.py", "file", set())
    assert (module.lines, module.lines - module.text) == (11, 3)


def test_tables_and_notes_name_what_was_found(script, modules):
    notes = script.import_notes(list(modules.values()))
    assert "at module level: 1 (`low.a`, `low.b`, `low.c`). Among boxes: 0." in notes
    assert "Imports inside functions alone: 1. Circles with those: 2" in notes
    assert "Imports for type checkers alone: 2. Circles with those: 2" in notes
    assert "| among rooms | 4 | 0 | 4 |" in script.import_table(list(modules.values()))


def test_the_way_is_the_deepest_stack_to_the_first_function_of_the_file(script):
    """Inner functions of that file do not lengthen it, and neither does what stands above the start."""
    equation = "def inner():\n    pass\ndef outer():\n    inner()\nclass State:\n    def rows(self):\n        pass\n"
    face = (
        "def public():\n    outer()\n    for _ in middle():\n        pass\n    deep(5)\n"
        "def middle():\n    outer()\n    yield 1\n"
        "def deep(n):\n    State().rows() if n == 0 else deep(n - 1)\n"
    )
    names = {}
    exec(compile(equation, "equation.py", "exec"), names)
    exec(compile(face, "face.py", "exec"), names)
    way = script.way_to(names["public"], names["public"], lambda file: file.endswith("equation.py"))
    assert way == ["face.public", "face.middle", "equation.outer"]


def test_a_folder_without_the_package_is_refused(script, tmp_path):
    with pytest.raises(SystemExit, match="holds no package flowscope; expected a checkout, or its src"):
        script.package_folder(tmp_path)
    (tmp_path / "flowscope").mkdir()
    (tmp_path / "flowscope" / "__init__.py").touch()
    assert script.package_folder(tmp_path) == script.package_folder(tmp_path / "flowscope") == tmp_path / "flowscope"

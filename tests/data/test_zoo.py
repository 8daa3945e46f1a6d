"""The zoo: `info` reads each animal as its owner means it, or refuses it in one line; and the page is what it says."""

import importlib.util
from pathlib import Path

import pytest

from flowscope.data import load
from tests.support.animals import ANIMALS, visit_all

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def visits(tmp_path_factory):
    return visit_all(tmp_path_factory.mktemp("zoo"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::flowscope.errors.FlowscopeWarning")
@pytest.mark.parametrize("title", ANIMALS)
def test_every_animal_is_read_right_or_refused_in_one_line(title, visits):
    wrong = []
    for animal, (place, said) in zip(ANIMALS[title], visits[title], strict=True):
        lines = said.err.splitlines()
        refused = said.code == 2 and len(lines) == 1 and lines[0].startswith("flowscope: ") and not said.out
        read = said.code == 0 and all(line.startswith("flowscope: note: ") for line in lines)
        if not (refused if animal.refused else read) or animal.says not in said.in_short:
            wrong.append((animal.name, animal.says, said))
        elif animal.right is not None and not animal.right(load(place, **animal.options_at(place))):
            wrong.append((animal.name, "not the right points", said))
    assert wrong == []


@pytest.mark.slow
def test_the_page_is_what_is_said(visits):
    spec = importlib.util.spec_from_file_location("make_zoo", ROOT / "docs" / "make_zoo.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.PAGE.read_text(encoding="utf-8") == script.page(visits), "run `python docs/make_zoo.py`"

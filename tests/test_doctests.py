"""The examples in the docstrings of all public names run, need nothing from around them and leave nothing behind."""

import doctest
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import flowscope

ROOMS = (
    *("data", "metrics", "studies", "sampling", "networks", "training", "curve", "oracle", "figures", "report"),
    *("references", "auditing", "integrations.accelerate", "integrations.lightning"),
)


def exports() -> Iterator[tuple[str, object]]:
    """(name, value) of every class and function that flowscope or one of its rooms exports, each once."""
    seen: set[int] = set()
    for module in (flowscope, *(importlib.import_module(f"flowscope.{room}") for room in ROOMS)):
        for name in module.__all__:
            value = getattr(module, name)
            if (inspect.isclass(value) or inspect.isfunction(value)) and id(value) not in seen:
                seen.add(id(value))
                yield f"{module.__name__}.{name}", value


EXPORTS = dict(exports())


def examples(name: str) -> list[doctest.DocTest]:
    """The examples of a name and of its methods; names of their module are not theirs to use."""
    found = doctest.DocTestFinder().find(EXPORTS[name], name, globs={"__name__": "__main__"})
    return [test for test in found if test.examples]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXPORTS if examples(name)])
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    for test in examples(name):
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        assert runner.run(test, out=said.append).failed == 0, "".join(said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", EXPORTS)
def test_public_names_have_an_example(name: str) -> None:
    assert any(test.name == name for test in examples(name)), f"the docstring of {name} has no example"

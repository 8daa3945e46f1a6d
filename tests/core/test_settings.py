"""Optional packages: absent ones are named with the extra that brings them, broken ones are not hidden."""

import sys

import pytest

from flowscope.core.settings import need
from flowscope.errors import MissingExtraError


def test_a_package_that_is_there_is_the_package():
    import json

    assert need("json", "models") is json


def test_an_absent_package_is_named_with_its_extra():
    with pytest.raises(MissingExtraError, match=r"no_such_package is not installed.*pip install 'flowscope\[ode\]'"):
        need("no_such_package.deep", "ode")


def test_a_package_that_lacks_one_of_its_own_is_not_called_absent(tmp_path, monkeypatch):
    (tmp_path / "flowscope_broken_package.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package") as caught:
        need("flowscope_broken_package", "models")
    assert not isinstance(caught.value, MissingExtraError)
    sys.modules.pop("flowscope_broken_package", None)

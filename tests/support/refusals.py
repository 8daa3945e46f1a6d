"""What load says of what it refuses."""

from typing import Any

import pytest

from flowscope.data import load
from flowscope.errors import InputError


def refused(source: Any, said: str, **options: Any) -> str:
    """The line with which load refuses a source; `said` is in it."""
    with pytest.raises(InputError, match=said) as caught:
        load(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)

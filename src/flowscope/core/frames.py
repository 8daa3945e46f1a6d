"""to_frame: columns of a result as a pandas DataFrame, where pandas is installed."""

from collections.abc import Mapping
from typing import Any

from flowscope.core.settings import need


def to_frame(columns: Mapping[str, Any]) -> Any:
    """Columns of one length as a pandas DataFrame.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    return need("pandas", "frames").DataFrame(dict(columns))

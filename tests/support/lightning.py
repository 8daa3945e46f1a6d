"""Lightning, where it is installed."""

from typing import Any

lightning: Any
try:
    import lightning.pytorch.loggers
except ModuleNotFoundError:
    lightning = None

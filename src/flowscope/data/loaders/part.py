"""Part: which part of a source is read, where it has several: train or test, some columns of a table."""

from collections.abc import Sequence
from typing import NamedTuple

from flowscope.errors import InputError


class Part(NamedTuple):
    """What the user asks for: the name of a part ("none" for the whole), and names of columns; None for all."""

    split: str | None = None
    columns: str | Sequence[str] | None = None

    @property
    def column_names(self) -> list[str] | None:
        """The columns, where the user names some."""
        if self.columns is None:
            return None
        names = self.columns.split(",") if isinstance(self.columns, str) else list(self.columns)
        if not names or not all(isinstance(name, str) and name for name in names):
            raise InputError(f"columns are {self.columns!r}; expected names, such as 'image,label'")
        return names

    def refuse_split(self, where: str) -> None:
        """Refuse a part of a source that has none.

        Raises:
            InputError: one is asked for.
        """
        if self.split is not None and self.split != "none":
            raise InputError(f"split is {self.split!r} and {where} has no parts: leave split out")

    def refuse_columns(self, where: str) -> None:
        """Refuse columns of a source that is no table.

        Raises:
            InputError: some are asked for.
        """
        if self.columns is not None:
            raise InputError(f"columns are {self.columns!r} and {where} is no table: leave columns out")

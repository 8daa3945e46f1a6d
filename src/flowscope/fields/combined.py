"""What all fields made of fields share."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor

from flowscope.errors import InputError
from flowscope.fields.protocol import VelocityField, allows_end, path_name, shape_of, unchecked


def check_one_path(*fields: tuple[str, Any]) -> None:
    """Refuse fields of two paths."""
    (one, first), (other, second) = fields
    names = [path_name(field) for field in (first, second)]
    if None not in names and names[0] != names[1]:
        raise InputError(
            f"the {one} field is on the {names[0]} path and the {other} on the {names[1]} path; expected one"
        )


Call = Callable[[VelocityField, Tensor, float | Tensor, Any], Tensor]  # a way to call a field


def _checked(field: VelocityField, x: Tensor, t: float | Tensor, y: Any) -> Tensor:
    return field(x, t, y)


class Combined(ABC):
    """A field made of fields; path, shape and device are those of the first part that has them."""

    @property
    @abstractmethod
    def parts(self) -> tuple[VelocityField | None, ...]:
        """The fields it is made of."""

    @abstractmethod
    def answer(self, call: Call, x: Tensor, t: float | Tensor, y: Any) -> Tensor:
        """The velocity, of parts that are called as call(part, x, t, y)."""

    def __call__(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """The velocity at x (B, *shape), t and y, (B, *shape)."""
        return self.answer(_checked, x, t, y)

    def unchecked(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """The velocity from parts that do not look for NaN; see :func:`flowscope.fields.unchecked`."""
        return self.answer(unchecked, x, t, y)

    def _first(self, name: str) -> Any:
        found = (getattr(part, name, None) for part in self.parts)
        return next((value for value in found if value is not None), None)

    @property
    def path(self) -> Any:
        """Their path; None where none has one."""
        return self._first("path")

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of one state; None where none of them knows it."""
        return next((shape for shape in map(shape_of, self.parts) if shape is not None), None)

    @property
    def device(self) -> Any:
        """Where the first of them computes; None where none says."""
        return self._first("device")

    @property
    def allows_end(self) -> bool:
        """Whether all parts may be asked at the end; see :func:`flowscope.fields.allows_end`."""
        return all(allows_end(part) for part in self.parts if part is not None)

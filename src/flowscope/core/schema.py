"""Schemas: whatever a file says of itself is held against a form before any of it is used.

A form is a type: a TypedDict for a JSON object, ``list[Whole]`` for a list, and so on. pydantic checks strictly, so no
text becomes a number. Keys beyond the form are left alone. Arrays have forms of their own, :class:`ArrayForm`.
"""

import json
import math
import re
import reprlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

import numpy as np
from annotated_types import Ge, Le, Predicate
from typing_extensions import TypedDict

from flowscope.core.memory import check_memory
from flowscope.errors import InputError

MAX_WHOLE = 2**63 - 1  # of what is counted
MAX_JSON_WHOLE = 2**128 - 1  # of any whole number in JSON: the seeds that numpy draws have 128 bits
JSON_BYTES_PER_CHARACTER = 32  # of objects that a character of JSON makes, at most: an empty list takes 64 for two
MAX_LISTED = 5  # faults in a message

Whole = Annotated[int, Ge(0), Le(MAX_WHOLE)]  # a number of things, or a seed
Count = Annotated[int, Ge(1), Le(MAX_WHOLE)]
LabelText = Annotated[
    str, Predicate(re.compile("-?[0-9]{1,19}", re.ASCII).fullmatch)
]  # a label as the key of a JSON object
Number = float | None  # a measured number, of which NaN is written as null


class ArrayForm(NamedTuple):
    """What an array of a file has to be.

    Attributes:
        kinds: the letters of its dtype, as numpy's `dtype.kind`.
        shape: its sides; None for any.
        least, most: of its values, where they are whole numbers.
    """

    kinds: str
    shape: tuple[int | None, ...]
    least: int | None = None
    most: int | None = None


def read_json(path: Path, form: Any, kind: str) -> Any:
    """The content of a JSON file, once it has the form.

    Args:
        path: the file.
        form: the type that it has to be.
        kind: what was expected, for the message.

    Raises:
        InputError: it is missing, damaged, too large for memory, or not of the form.
    """
    try:
        check_json_memory(path.stat().st_size, path)
        text = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise InputError(f"{path} cannot be read ({reason}); expected {kind}") from None
    return parse_json(text, form, path, kind)


def check_json_memory(size: int, where: object) -> None:
    """Ask for the memory that so many bytes of JSON may take as objects.

    Raises:
        InputError: there is not so much.
    """
    check_memory(JSON_BYTES_PER_CHARACTER * size, f"reading {where}", "expected a smaller file: is it the right one?")


def parse_json(text: str | bytes, form: Any, where: object, kind: str) -> Any:
    """The value of a JSON text, once it has the form; numbers are finite, whole ones of 128 bits at most.

    Raises:
        InputError: it is no such text, or not of the form; the message says where.
    """
    try:
        value = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"{where} cannot be read ({said}); expected {kind}: it is damaged") from None
    check_form(value, form, where, kind)
    return value


def check_form(value: Any, form: Any, where: object, kind: str) -> None:
    """Refuse a value that is not of a form.

    Args:
        value: lists, dictionaries, texts and numbers.
        form: the type that it has to be.
        where: the file, for the message.
        kind: what was expected, for the message.

    Raises:
        InputError: the message names the place within the value, what is there and what should be.
    """
    from pydantic import ValidationError

    try:
        _adapter(form).validate_python(value, strict=True)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
        lacking = [_place(fault["loc"]) for fault in faults if fault["type"] == "missing"]
        if lacking:
            more = ", ..." if len(lacking) > MAX_LISTED else ""
            said = f"lacks {', '.join(lacking[:MAX_LISTED])}{more}"
        else:
            first = faults[0]
            got = reprlib.repr(first["input"])
            place, wanted = _place(first["loc"]), first["msg"][:1].lower() + first["msg"][1:]
            said = f"{place} is {got}: {wanted}"
        raise InputError(f"{where} is damaged ({said}); expected {kind}") from None


def check_arrays(arrays: Mapping[str, np.ndarray], forms: Mapping[str, ArrayForm], where: object) -> None:
    """Refuse arrays that are not those of the forms.

    Raises:
        InputError: one is missing or unknown, or has another dtype, shape or range.
    """
    if arrays.keys() != forms.keys():
        has, wanted = (", ".join(sorted(names)) or "nothing" for names in (arrays, forms))
        raise InputError(f"{where} holds {has[:200]}; expected {wanted}: it is damaged")
    for name, form in forms.items():
        array = arrays[name]
        fits = array.ndim == len(form.shape) and all(
            side is None or side == own for side, own in zip(form.shape, array.shape, strict=True)
        )
        if not fits or array.dtype.kind not in form.kinds:
            wanted = "(" + ", ".join("any" if side is None else str(side) for side in form.shape) + ")"
            raise InputError(
                f"{name} of {where} is {array.dtype} {array.shape}; expected shape {wanted} and a dtype of kind "
                f"{form.kinds}: it is damaged"
            )
        low, high = form.least, form.most
        if array.size and ((low is not None and array.min() < low) or (high is not None and array.max() > high)):
            raise InputError(f"{name} of {where} is out of range; expected {low} to {high}: it is damaged")


def form_of(record: type, **changed: Any) -> Any:
    """The form of a dataclass or NamedTuple as a JSON object: its fields by name and type, but for those `changed`."""
    make: Any = TypedDict
    return make(record.__name__, {name: changed.get(name, kind) for name, kind in get_type_hints(record).items()})


@cache
def _adapter(form: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(form)


def _place(where: tuple[int | str, ...]) -> str:
    """A place within a value: settings.interval[1]."""
    said = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
    return said.removeprefix(".")[:80] or "the whole"


def _whole(text: str) -> int:
    value = int(text) if len(text) <= len(str(-MAX_JSON_WHOLE)) else MAX_JSON_WHOLE + 1
    if abs(value) > MAX_JSON_WHOLE:
        raise ValueError(f"{text[:24]} is a whole number beyond 128 bits")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:24]} is no finite number")
    return value


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")

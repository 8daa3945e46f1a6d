"""Forms: what is not of a form is refused with its place, and what is stays as it is."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

import numpy as np
import pytest
from annotated_types import Len
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import TypedDict

from flowscope.core.schema import (
    ArrayForm,
    Count,
    Number,
    Whole,
    check_arrays,
    check_form,
    form_of,
    parse_json,
    read_json,
)
from flowscope.errors import FlowscopeError, InputError


class Inner(TypedDict):
    """A form within another."""

    count: Count
    seed: NotRequired[Whole]


class Outer(TypedDict):
    """A form."""

    name: str
    ends: Annotated[list[float], Len(2, 2)]
    inner: Inner
    value: Number
    on: bool


GOOD: dict[str, Any] = {"name": "a", "ends": [0, 1.5], "inner": {"count": 3}, "value": None, "on": True}


def test_what_has_the_form_stays_as_it_is_further_keys_included() -> None:
    more = GOOD | {"further": [1, {"x": None}]}
    assert parse_json(json.dumps(more), Outer, "f", "a file") == more


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": 3}, r"name is 3: input should be a valid string"),
        ({"ends": [0.0]}, r"ends is \[0.0\]: list should have at least 2"),
        ({"ends": [0.0, "1"]}, r"ends\[1\] is '1': input should be a valid number"),
        ({"ends": [0.0, True]}, r"ends\[1\] is True"),
        ({"inner": []}, r"inner is \[\]"),
        ({"inner": {"count": 0}}, r"inner.count is 0: input should be greater than or equal to 1"),
        ({"inner": {"count": 1.0}}, r"inner.count is 1.0"),
        ({"inner": {"count": True}}, r"inner.count is True"),
        ({"inner": {}}, r"lacks inner.count"),
        ({"on": 1}, r"on is 1"),
        ({"value": "nan"}, r"value.* is 'nan'"),
    ],
)
def test_what_has_not_is_refused_with_its_place(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=rf"^the file is damaged \({said}.*\); expected a file of mine$"):
        check_form(GOOD | change, Outer, "the file", "a file of mine")


def test_what_is_lacking_is_listed_and_long_values_are_cut() -> None:
    with pytest.raises(InputError, match=r"\(lacks name, ends, inner, value, on\)"):
        check_form({}, Outer, "f", "k")
    with pytest.raises(InputError) as caught:
        check_form(GOOD | {"name": ["x" * 10_000] * 100}, Outer, "f", "k")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "nan", "[NaN]", "[Infinity]", "[-Infinity]", "[1e999]", f"[{2**128}]",
        f"[-{2**128}]",
        f"[{'9' * 100_000}]", "[" * 100_000, b"\xff\xfe\x00", '"\ud800'.encode("utf-8", "surrogatepass"),
    ],
)  # fmt: skip
def test_no_json_and_numbers_beyond_128_bits_are_refused(text: str | bytes) -> None:
    with pytest.raises(InputError, match=r"^f cannot be read \(.*\); expected k: it is damaged$"):
        parse_json(text, Any, "f", "k")


def test_the_largest_numbers_are_read() -> None:
    text = f"[{2**128 - 1}, -{2**128 - 1}, 1e308, 5e-324]"
    assert parse_json(text, list[Any], "f", "k") == [2**128 - 1, 1 - 2**128, 1e308, 5e-324]
    for wrong in (2**63, -1):
        with pytest.raises(InputError, match=rf"\[0\] is {wrong}"):
            parse_json(f"[{wrong}]", list[Whole], "f", "k")


VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=10)


@pytest.mark.slow
@given(VALUES, st.sampled_from(sorted(GOOD)))
def test_any_value_in_any_place_is_taken_or_refused_in_one_line(value: Any, place: str) -> None:
    said = ""
    try:
        check_form(GOOD | {place: value}, Outer, "f", "k")
    except FlowscopeError as error:
        said = str(error)
    assert "\n" not in said


def test_files_are_read_and_missing_ones_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(GOOD))
    assert read_json(tmp_path / "a.json", Outer, "k") == GOOD
    with pytest.raises(InputError, match=r"b.json cannot be read \(no such file or directory\)"):
        read_json(tmp_path / "b.json", Outer, "k")
    with pytest.raises(InputError, match="is a directory"):
        read_json(tmp_path, Outer, "k")


def test_memory_is_asked_for_before_json_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text(json.dumps(GOOD))
    monkeypatch.setattr("flowscope.core.memory.available_memory", lambda: 1000)
    with pytest.raises(InputError, match="memory are free"):
        read_json(tmp_path / "a.json", Outer, "k")


class Pair(NamedTuple):
    """A NamedTuple."""

    first: int
    kind: Literal["line", "bar"] = "line"


@dataclass
class Whole2:
    """A dataclass."""

    pair: Pair
    notes: tuple[str, ...]


def test_records_give_their_forms() -> None:
    form = form_of(Whole2, pair=form_of(Pair), notes=list[str])
    check_form({"pair": {"first": 1, "kind": "bar"}, "notes": ["a"]}, form, "f", "k")
    for wrong, said in (
        ({"pair": {"first": 1, "kind": "pie"}, "notes": []}, "pair.kind is 'pie'"),
        ({"pair": {"first": 1}, "notes": []}, "lacks pair.kind"),
        ({"pair": {"first": 1, "kind": "bar"}, "notes": [1]}, r"notes\[0\] is 1"),
    ):
        with pytest.raises(InputError, match=said):
            check_form(wrong, form, "f", "k")


FORMS = {"sums": ArrayForm("f", (2, None)), "at": ArrayForm("iu", (), 0, 5)}
ARRAYS = {"sums": np.zeros((2, 7)), "at": np.array(5)}


def test_arrays_of_their_forms_pass() -> None:
    check_arrays(ARRAYS, FORMS, "f")
    check_arrays({**ARRAYS, "at": np.array(0, np.uint8), "sums": np.zeros((2, 0), np.float32)}, FORMS, "f")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sums": np.zeros((3, 7))}, r"sums of f is float64 \(3, 7\); expected shape \(2, any\)"),
        ({"sums": np.zeros(2)}, "sums of f"),
        ({"sums": np.zeros((2, 7), int)}, "sums of f is int64"),
        ({"at": np.array(6)}, "at of f is out of range; expected 0 to 5"),
        ({"at": np.array(-1)}, "at of f is out of range"),
        ({"at": np.array([1])}, "at of f"),
        ({"more": np.zeros(1)}, "f holds at, more, sums; expected at, sums"),
    ],
)
def test_arrays_of_other_forms_are_refused(change: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_arrays({**ARRAYS, **change}, FORMS, "f")
    with pytest.raises(InputError, match="f holds at; expected at, sums"):
        check_arrays({"at": np.array(1)}, FORMS, "f")

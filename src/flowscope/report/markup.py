"""HTML by small functions. Every text that comes from outside is escaped here; nothing else writes < or &."""

import base64
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

LONG = 8  # entries from which a list is only summed up
SHORT = 20  # letters up to which a cell's text stays on one line
_PATH = re.compile(r"(?:^|(?<=[\s'\"(=,;]))(?:file://)?(?:~?/|[A-Za-z]:[\\/])[^\s'\"<>|:;,()]*[^\s'\"<>|:;,().]")


class Cell(NamedTuple):
    """A table's cell: what is shown, what it is sorted by (None sorts last), and where it leads, if anywhere."""

    text: str
    key: float | str | None
    href: str | None = None


def text(value: object) -> str:
    """Any text, escaped for content and for attributes."""
    return escape(str(value), quote=True)


def paragraph(*sentences: str) -> str:
    """Sentences as one paragraph."""
    return f"<p>{text(' '.join(s for s in sentences if s))}</p>"


def section(name: str, title: str, *parts: str) -> str:
    """A section with a heading and an id, which its heading names."""
    heading = f'<h2 id="{text(name)}-title">{text(title)}</h2>'
    return f'<section id="{text(name)}" aria-labelledby="{text(name)}-title">{heading}{"".join(parts)}</section>'


def bullets(items: Iterable[str]) -> str:
    """A list of texts."""
    return "<ul>" + "".join(f"<li>{text(item)}</li>" for item in items) + "</ul>"


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], sortable: bool = False) -> str:
    """A table in a frame that scrolls sideways by itself; the first cell of a row names it."""
    head = "".join(f'<th scope="col">{text(column)}</th>' for column in columns)
    body = "".join(
        "<tr>" + _cell(row[0], 'th scope="row"', "th") + "".join(_cell(c, "td", "td") for c in row[1:]) + "</tr>"
        for row in rows
    )
    kind = ' class="sortable"' if sortable else ""
    parts = f"<caption>{text(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return scrolling(caption, f"<table{kind}>{parts}</table>")


def scrolling(label: str, inner: str, kind: str = "") -> str:
    """A frame that scrolls sideways by itself, also by keys."""
    return (
        f'<div class="scroll{kind and " " + kind}" tabindex="0" role="region" aria-label="{text(label)}">{inner}</div>'
    )


def _cell(cell: Cell, opening: str, closing: str) -> str:
    key = "" if cell.key is None else f' data-key="{text(cell.key)}"'
    name = "number" if not isinstance(cell.key, str) else "name" if len(cell.text) <= SHORT else "words"
    kind = f' class="{name}"'
    shown = text(cell.text) if cell.href is None else f'<a href="{text(cell.href)}">{text(cell.text)}</a>'
    return f"<{opening}{kind}{key}>{shown}</{closing}>"


def number_cell(value: float, form: Callable[[float], str]) -> Cell:
    """A number's cell; NaN has no key and sorts last."""
    return Cell(form(float(value)), float(value) if math.isfinite(value) else None)


def outputs(prefix: str, names: Iterable[tuple[str, str]]) -> str:
    """Places `prefix-name` that the script fills in, with their labels."""
    items = (
        f'<div><dt>{text(label)}</dt><dd><output id="{prefix}-{name}"></output></dd></div>' for name, label in names
    )
    return f"<dl>{''.join(items)}</dl>"


def pairs(caption: str, values: dict[str, Any]) -> str:
    """A dictionary as a table of two columns; of dictionaries in it each entry."""
    rows = [(Cell(key.replace("_", " "), key), Cell(shown, shown)) for key, shown in _entries(values)]
    return table(caption, ("what", "value"), rows)


def _entries(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{before}{without_paths(str(key))}"
        if isinstance(value, Mapping):
            yield from _entries(value, f"{name}: ")
        else:
            yield name, plain(value)


def plain(value: Any) -> str:
    """A setting as people read it; of a path only the last part."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        if len(value) > LONG:
            return f"{len(value)} values from {plain(value[0])} to {plain(value[-1])}"
        separator = " × " if all(isinstance(v, int) for v in value) else ", "
        return separator.join(map(plain, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return without_paths(str(value))


def without_paths(words: str) -> str:
    """Text in which every absolute path is cut to its last part: a page does not tell where files lie."""
    if PurePosixPath(words).is_absolute() or PureWindowsPath(words).is_absolute():
        return PureWindowsPath(words).name
    return _PATH.sub(lambda found: PureWindowsPath(found[0]).name, words)


def cleaned(value: Any) -> Any:
    """Plain data without absolute paths and with None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {str(key): cleaned(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [cleaned(v) for v in value]
    if hasattr(value, "tolist"):  # arrays and numpy's numbers
        return cleaned(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return without_paths(value) if isinstance(value, str) else value


def json_island(name: str, data: Any) -> str:
    """Data for the script. No character in it can end the element or begin a tag."""
    source = json.dumps(cleaned(data), allow_nan=False)
    for character in "<>&\u2028\u2029":
        source = source.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{text(name)}">{source}</script>'


def data_uri(data: bytes, kind: str) -> str:
    """Bytes as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def download(name: str, data: bytes, kind: str, label: str) -> str:
    """A link that saves bytes kept in the page."""
    return f'<a class="button" download="{text(name)}" href="{data_uri(data, kind)}">{text(label)}</a>'


def themed_image(light: bytes, dark: bytes, kind: str, alt: str) -> str:
    """One picture in two schemes."""
    source = f'<source media="(prefers-color-scheme: dark)" srcset="{data_uri(dark, kind)}">'
    return f'<picture>{source}<img src="{data_uri(light, kind)}" alt="{text(alt)}"></picture>'

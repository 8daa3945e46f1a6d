"""Values and texts as a page may show them: readable, without absolute paths, valid as JSON."""

import math
import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

MAX_LISTED = 8  # entries; a longer list of plain values is summed up by its first and last
_PATH = re.compile(r"(?:^|(?<=[\s'\"(=,;]))(?:file://)?(?:~?/|[A-Za-z]:[\\/])[^\s'\"<>|:;,()]*[^\s'\"<>|:;,().]")

Readable = str | list["Readable"] | dict[str, "Readable"]


def without_paths(words: str) -> str:
    """Text with each absolute path cut to its last part: a page does not tell where files lie."""
    if PurePosixPath(words).is_absolute() or PureWindowsPath(words).is_absolute():
        return PureWindowsPath(words).name
    return _PATH.sub(lambda found: PureWindowsPath(found[0]).name, words)


def readable(value: Any) -> Readable:
    """A setting as people read it.

    Args:
        value: a plain value, a list, a mapping, or any nesting of these.

    Returns:
        A mapping as a dict of readable values, a list with a mapping in it as a list of them, all else as text.
    """
    if isinstance(value, Mapping):
        return {key_text(key): readable(inner) for key, inner in value.items()} or "none"
    if isinstance(value, (list, tuple)) and any(map(_holds_mapping, value)):
        return [readable(inner) for inner in value]
    return as_text(value)


def as_text(value: Any) -> str:
    """A plain value, or a list of plain values, in one line."""
    if hasattr(value, "tolist"):  # arrays and numpy's numbers
        return as_text(value.tolist())
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        if len(value) > MAX_LISTED:
            return f"{len(value)} values from {as_text(value[0])} to {as_text(value[-1])}"
        separator = " × " if all(isinstance(v, int) for v in value) else ", "
        return separator.join(map(as_text, value)) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return without_paths(str(value))


def key_text(key: Any) -> str:
    """The key of a mapping in words: "loss_floor" becomes "loss floor"."""
    return without_paths(str(key)).replace("_", " ")


def json_safe(value: Any) -> Any:
    """Plain data without absolute paths, and with None for numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): json_safe(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(v) for v in value]
    if hasattr(value, "tolist"):  # arrays and numpy's numbers
        return json_safe(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return without_paths(value) if isinstance(value, str) else value


def _holds_mapping(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_mapping, value))
    return isinstance(value, Mapping)

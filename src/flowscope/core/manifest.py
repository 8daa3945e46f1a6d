"""The manifest of a folder: what flowscope wrote there, each file with the digest of its content."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from flowscope.errors import OutputError

MANIFEST = ".flowscope.json"
SCHEMA = 1  # number of its form


def read_manifest(path: Path, overwrite: bool) -> dict[str, Any] | None:
    """The manifest of a folder, none of whose words can be trusted; None for a damaged one that may be replaced."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        files, folders = found["files"], found["folders"]
        sound = found["schema"] == SCHEMA and isinstance(found["kind"], str) and isinstance(found["run"], str)
        sound &= all(_is_below(name) for name in (*files, *folders))
        sound &= all(digest is None or isinstance(digest, str) for digest in files.values())
        if sound:
            return dict(found)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    if overwrite:
        return None
    raise OutputError(
        f"{path} cannot be read as the list of what flowscope wrote here; expected it as it was written: choose "
        "another --out, or replace what is in the way with --overwrite"
    )


def _is_below(name: Any) -> bool:
    """Whether a name leads to a file in or below a folder."""
    return isinstance(name, str) and not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts

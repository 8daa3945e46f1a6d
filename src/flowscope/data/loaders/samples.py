"""Samples of WebDataset: files of one key, an image with its label in a `.cls` or a `.json`.

The key of a file is its name up to the first dot behind the last "/", as the package's own reader takes it.
"""

import json
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from flowscope.data.loaders.labels import Labels, make_labels
from flowscope.data.loaders.source import reading
from flowscope.data.loaders.tree import Tree
from flowscope.errors import InputError

LABEL_ENDINGS = ("cls", "json")
JSON_KEYS = ("label", "cls")
MAX_LABEL_FILE_BYTES = 1 << 20
EXPECTED = 'a whole number in .cls, or {"label": 3} in .json'


def split_key(name: str) -> tuple[str, str]:
    """The key of a file and its ending in lower case, all that stands behind the first dot."""
    folder, base = posixpath.split(name)
    stem, _, ending = base.partition(".")
    return posixpath.join(folder, stem), ending.lower()


def find_labels(tree: Tree, images: Sequence[str]) -> tuple[Labels | None, set[str]]:
    """The labels of images in files of their keys, and the names of these files; None where no file has one.

    Raises:
        InputError: two images have one key, a label has no image, some images have none, or two labels disagree.
    """
    label_files = _label_files(tree.files)
    if not label_files:
        return None, set()
    keys = [split_key(name)[0] for name in images]
    said = [_label_of(tree, label_files.get(key, ())) for key in keys]
    if all(value is None for value in said):
        return None, set()
    key, count = Counter(keys).most_common(1)[0]
    if count > 1:
        raise InputError(f"{tree.where} holds {count} images of the key {key}; expected one image and its label")
    alone = sorted(key for key, names in label_files.items() if key not in set(keys) and names[0].endswith(".cls"))
    if alone:
        raise InputError(f"{tree.where} has a label for {alone[0]} and no image of that key; expected both")
    read = {name for key in keys for name in label_files.get(key, ())}
    return make_labels(said, images, tree.where), read


def _label_files(names: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The files of each key that may hold labels."""
    found = dict[str, tuple[str, ...]]()
    for name in names:
        key, ending = split_key(name)
        if ending in LABEL_ENDINGS:
            found[key] = (*found.get(key, ()), name)
    return found


def _label_of(tree: Tree, names: Sequence[str]) -> Any:
    """The label in the files of a key; None for none."""
    said = dict[str, Any]()
    for name in names:
        content = tree.read(name)
        with reading(tree.where / name, EXPECTED):
            if len(content) > MAX_LABEL_FILE_BYTES:
                raise InputError(f"{tree.where / name} has {len(content):,} bytes; expected {EXPECTED}")
            if name.lower().endswith(".cls"):
                said[name] = int(content)
                continue
            about = json.loads(content)
            keys = [key for key in JSON_KEYS if key in about] if isinstance(about, dict) else []
            said |= {f"{key} of {name}": about[key] for key in keys}
    if len(set(map(repr, said.values()))) > 1:
        raise InputError(f"labels of {tree.where} disagree ({said}); expected the same in each place: correct one")
    return next(iter(said.values()), None)

"""Files beside images that say which label each has: `dataset.json`, `metadata.jsonl`, `metadata.csv`.

`dataset.json` is that of EDM, EDM2 and StyleGAN: {"labels": [[name, 3], ...]}, or null for none; folders are chunks.
The others are those of the imagefolder of `datasets`: a line for each image, with its `file_name` relative to the file.
What they do not list is no part of the set, as there; a line without a file is refused.
"""

import csv
import io
import json
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from flowscope.core.schema import check_json_memory
from flowscope.core.text import nfc
from flowscope.data.loaders.labels import Labels, make_labels, pick_label_key
from flowscope.data.loaders.source import reading, unread_notes
from flowscope.data.loaders.tree import Tree
from flowscope.errors import InputError, listed

DATASET_JSON = "dataset.json"
METADATA = ("metadata.jsonl", "metadata.csv")
UNREAD_METADATA = "metadata.parquet"
FILE_KEY = "file_name"
MAX_LINE_BYTES = 1 << 20
CHUNKS = f"{DATASET_JSON} has no labels, and subfolders beside it are chunks, no classes: points have no labels."


class Indexed(NamedTuple):
    """The images that index files list, in the order in which they were given, their labels, and notes."""

    images: list[str]
    labels: Labels
    notes: tuple[str, ...] = ()


def find_index_files(tree: Tree) -> list[str]:
    """The index files of a tree.

    Raises:
        InputError: there are several kinds, so that labels could be in two places.
    """
    found = [DATASET_JSON] if DATASET_JSON in tree.files else []
    found += [name for name in tree.files if posixpath.basename(name) in (*METADATA, UNREAD_METADATA)]
    kinds = sorted({posixpath.basename(name) for name in found})
    if len(kinds) > 1:
        raise InputError(f"{tree.where} holds {listed(kinds)}; expected one kind of them: move the others elsewhere")
    if kinds == [UNREAD_METADATA]:
        raise InputError(f"{tree.where} holds {UNREAD_METADATA}; expected metadata.jsonl or .csv: save it as one")
    return found


def read_index(tree: Tree, index: Sequence[str], images: Sequence[str]) -> Indexed:
    """What index files say of images.

    Args:
        tree: the files.
        index: what :func:`find_index_files` found, at least one.
        images: names of the images there are.

    Raises:
        InputError: an index file is damaged, or does not fit the images.
    """
    if index[0] == DATASET_JSON:
        said = _read_dataset_json(tree, images)
        chunks = said.values is None and any("/" in name for name in images)
        return Indexed(list(images), said, (CHUNKS,) if chunks else ())
    label_of, notes = dict[str, Any](), list[str]()
    for name in index:
        labels, unread = _read_metadata(tree, name, set(images))
        if twice := sorted(labels.keys() & label_of.keys()):
            raise InputError(f"{twice[0]} is listed twice, in {tree.where / name} again; expected it once")
        label_of |= labels
        notes += unread
    kept = [image for image in images if image in label_of]
    if not kept:
        raise InputError(f"{tree.where / index[0]} lists no image; expected {_example(index[0])} for each image")
    found = make_labels([label_of[image] for image in kept], kept, tree.where / index[0])
    if len(kept) < len(images):
        notes.append(f"Images were left out that {listed(index[:3])} does not list: {len(images) - len(kept):,}.")
    return Indexed(kept, found, tuple(notes))


def _read_metadata(tree: Tree, name: str, there: set[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The label of each image that one file lists, None for no label, and a note on columns that are not read."""
    where, columns = tree.where / name, set[str]()
    rows = dict[str, dict[str, Any]]()
    for line, row in _read_rows(tree, name):
        columns |= row.keys()
        file = _listed_file(tree, name, line, row, there)
        if file in rows:
            raise InputError(f"{where} lists {file} twice, in line {line} again; expected it once")
        rows[file] = row
    key = pick_label_key(columns, where)
    said = [None if key is None else row.get(key) for row in rows.values()]
    notes = unread_notes(columns, (FILE_KEY, key or FILE_KEY), where)
    return dict(zip(rows, _whole(said, name), strict=True)), notes


def _whole(said: list[Any], index: str) -> list[Any]:
    """Labels of a .csv as whole numbers, where all of them are; an empty one is none."""
    if not index.endswith(".csv"):
        return said
    said = [value or None for value in said]
    whole = all(value is None or (value.isascii() and value.isdecimal() and len(value) < 20) for value in said)
    return [None if value is None else int(value) for value in said] if whole else said


def _listed_file(tree: Tree, index: str, line: int, row: dict[str, Any], there: set[str]) -> str:
    """The image that a line lists."""
    said = row.get(FILE_KEY)
    if not isinstance(said, str):
        raise InputError(
            f"line {line} of {tree.where / index} has no {FILE_KEY}; expected {_example(index)} for each image"
        )
    name = posixpath.normpath(posixpath.join(posixpath.dirname(index), nfc(said)))
    if name not in there:
        raise InputError(
            f"line {line} of {tree.where / index} lists {said[:80]!r}, and there is no such image; expected a file "
            "beside it: correct the line, or bring the file"
        )
    return name


def _example(index: str) -> str:
    return f"a column {FILE_KEY}" if index.endswith(".csv") else f'{{"{FILE_KEY}": "1.png", "label": 3}}'


def _read_rows(tree: Tree, index: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number of each line of a metadata file, and what it says by column."""
    where, content = tree.where / index, tree.read(index)
    check_json_memory(len(content), where)
    with reading(where, f"{_example(index)} for each image"):
        text = io.StringIO(content.decode("utf-8-sig"), newline="")
        if index.endswith(".csv"):
            table = csv.DictReader(text, strict=True)
            for row in table:
                if None in row or None in row.values():
                    raise InputError(
                        f"line {table.line_num} of {where} has not as many cells as its header; expected "
                        f"{len(table.fieldnames or ())}"
                    )
                yield table.line_num, row
            return
        for number, line in enumerate(text, 1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise InputError(f"line {number} of {where} is no object; expected {_example(index)}")
                yield number, row


def _read_dataset_json(tree: Tree, images: Sequence[str]) -> Labels:
    """The label of each image by dataset.json; none where that says that there are none."""
    path = tree.where / DATASET_JSON
    expected = f'{{"labels": [["{images[0]}", 3], ...]}} with every image, or {{"labels": null}}'
    content = tree.read(DATASET_JSON)
    check_json_memory(len(content), path)
    with reading(path, expected):
        labels = json.loads(content)["labels"]
        if labels is None:
            return Labels(None)
        pairs = [(nfc(name), label) for name, label in (labels.items() if isinstance(labels, dict) else labels)]
    label_of = dict(pairs)
    if len(label_of) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise InputError(f"{path} lists {twice} twice; expected it once: correct that file")
    wrong = next((label for label in label_of.values() if type(label) is not int or not 0 <= label < 2**63), None)
    if wrong is not None:
        raise InputError(f"{path} has the label {str(wrong)[:40]!r}; expected {expected}")
    missing = [image for image in images if image not in label_of]
    if missing or len(label_of) > len(images):
        gone = f"does not list {missing[0]}" if missing else f"lists {len(label_of):,} images of {len(images):,}"
        raise InputError(f"{path} {gone}; expected the same images there and in the folder: correct or move that file")
    return make_labels([label_of[image] for image in images], images, path)

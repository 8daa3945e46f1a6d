"""Data sets of Hugging Face's `datasets` (the extra `hub`): save_to_disk folders, parquet files, hub names, objects.

Which column is the image and which the label is read off their types. The package runs no code of a data set. Images
stay encoded until they are decoded one by one.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flowscope.core.memory import check_memory
from flowscope.core.schema import check_form, read_json
from flowscope.core.settings import need
from flowscope.data.loaders.columns import keep_columns, label_names, no_points, pick_one
from flowscope.data.loaders.images import EncodedImages
from flowscope.data.loaders.labels import Labels, make_labels
from flowscope.data.loaders.part import Part
from flowscope.data.loaders.python_sets import load_torch
from flowscope.data.loaders.shards import find_shards, holds_only
from flowscope.data.loaders.source import Source, check_class_names, check_inside, reading, unread_notes
from flowscope.data.loaders.vector_columns import is_vectors, read_vectors
from flowscope.errors import InputError, listed

HUB_PREFIX = "hf:"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
PARQUET = ".parquet"
SPLITS_FILE, STATE_FILE = "dataset_dict.json", "state.json"
CELL = {"bytes", "path"}  # of an image as a struct
NO_LABEL = -1  # in a column of classes
TABLE_BYTES = 2  # in memory for a byte of a table, with its copy
PROBE_SECONDS = 10


def is_saved(folder: Path) -> bool:
    """Whether a folder was written by save_to_disk."""
    return (folder / SPLITS_FILE).is_file() or (folder / STATE_FILE).is_file()


def load_saved(folder: Path, part: Part) -> Source:
    """Load a folder of save_to_disk, memory-mapped.

    Raises:
        InputError: it is damaged, has several parts and `split` does not say which, or no column of images.
        MissingExtraError: the package is not installed.
    """
    datasets = need("datasets", "hub")
    name = folder.resolve().name
    if (folder / SPLITS_FILE).is_file():
        splits = read_json(folder / SPLITS_FILE, dict[str, list[str]], '{"splits": [...]}').get("splits", [])
        splits = [name for name in splits if os.path.basename(name) == name and (folder / name).is_dir()]
        split = _ask_split(splits, part.split, folder)
        folder, name = folder / split, f"{name}/{split}"
        check_inside(folder, folder.parent)
    else:
        part.refuse_split(str(folder))
    state = read_json(folder / STATE_FILE, dict[str, Any], "what save_to_disk writes")
    check_form(state.get("_data_files"), list[dict[str, str]], f"_data_files of {folder / STATE_FILE}", "files")
    for entry in state["_data_files"]:
        file = entry.get("filename", "")
        if os.path.basename(file) != file or file in ("", ".", ".."):
            raise InputError(f"{folder / STATE_FILE} names the file {file[:80]!r}; expected files beside it")
        check_inside(folder / file, folder)
    with reading(folder, "a folder of save_to_disk"):
        found = datasets.load_from_disk(str(folder))
        return from_dataset(found, name, folder, part.column_names, foreign=True)


def load_parquet(path: Path, part: Part) -> Source:
    """Load a .parquet file, or a folder of numbered ones; it stays in memory, with its images encoded.

    Raises:
        InputError: damaged or missing files, several parts and `split` does not say which, or no column of images.
        MissingExtraError: the package is not installed.
    """
    datasets = need("datasets", "hub")
    import pyarrow
    from pyarrow import parquet

    if not path.is_dir():
        part.refuse_split(str(path))
    paths, named = find_shards(path, PARQUET, part.split) if path.is_dir() else ([path], None)
    name = path.resolve().name.removesuffix(PARQUET)
    tables = []
    for file in paths:
        with reading(file, "a .parquet table"), parquet.ParquetFile(file) as opened:
            kept = keep_columns(opened.schema_arrow.names, part.column_names, file)
            groups = [opened.metadata.row_group(k) for k in range(opened.metadata.num_row_groups)]
            claimed = sum(max(0, group.total_byte_size) for group in groups)
            check_memory(TABLE_BYTES * claimed, str(file), "take some of its files, or save_to_disk, which is mapped")
            tables.append(opened.read(columns=kept))
    with reading(path, "tables of one form"):
        found = datasets.Dataset(pyarrow.concat_tables(tables))
        return from_dataset(found, f"{name}/{named}" if named else name, path, part.column_names, foreign=True)


def is_repository(folder: Path) -> bool:
    """Whether a folder is a copy of a repository of the hub, with .parquet files in `data`."""
    return (folder / "data").is_dir() and not (folder / "data").is_symlink() and holds_only(folder / "data", PARQUET)


def load_repository(folder: Path, part: Part) -> Source:
    """Load the .parquet files of a copy of a repository; see :func:`load_parquet`."""
    return replace(load_parquet(folder / "data", part), name=folder.resolve().name)


def load_hub(text: str, part: Part) -> Source:
    """Load a data set of the hub, "hf:owner/name" or "hf:owner/name:configuration"; it is kept in the package's cache.

    Raises:
        InputError: there is no network, no such set, several parts and `split` does not say which, no images.
        MissingExtraError: the package is not installed.
    """
    datasets = need("datasets", "hub")
    repository, _, configuration = text.removeprefix(HUB_PREFIX).partition(":")
    if not repository.strip("/") or repository.count("/") > 1:
        raise InputError(f"{text!r} is no name of the hub; expected hf:owner/name, or hf:owner/name:configuration")
    _probe(text, repository)
    with reading(text, "a data set of the hub that datasets.load_dataset reads"):
        chosen = _ask_split(datasets.get_dataset_split_names(repository, configuration or None), part.split, text)
        found = datasets.load_dataset(repository, configuration or None, split=chosen)
        return from_dataset(found, f"{repository}/{chosen}", text, part.column_names)


def is_hub_object(source: Any) -> bool:
    """Whether a source is a Dataset or a DatasetDict of `datasets`; the package is not loaded for it."""
    kinds = {kind.__name__ for kind in type(source).__mro__ if kind.__module__.partition(".")[0] == "datasets"}
    return not kinds.isdisjoint({"Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict"})


def load_object(source: Any, part: Part) -> Source:
    """Load a Dataset, or one of a DatasetDict; where it has a transform or streams, item by item.

    Raises:
        InputError: several parts and `split` does not say which, no column of images, or items of no known form.
    """
    if isinstance(source, dict):
        source = source[_ask_split(list(source), part.split, type(source).__name__)]
    else:
        part.refuse_split(type(source).__name__)
    if not hasattr(source, "data") or source.format["type"] == "custom":
        part.refuse_columns(f"a {type(source).__name__} that streams or has a transform")
        return load_torch(source)
    return from_dataset(source, str(source.info.dataset_name or "points"), "the Dataset", part.column_names)


def from_dataset(
    dataset: Any, name: str, where: Path | str, columns: Sequence[str] | None, foreign: bool = False
) -> Source:
    """The images or vectors of a `datasets.Dataset`, and their labels.

    Args:
        dataset: the object.
        name: of the set.
        where: what messages call it.
        columns: that are looked at; None for all.
        foreign: it comes from a file, which may not point to other files.

    Raises:
        InputError: no column of images or vectors or several, several of labels, or labels that are none.
    """
    datasets, features = need("datasets", "hub"), dataset.features
    kept = keep_columns(list(features), columns, where)
    points = pick_one("images", [c for c in kept if _is_image(features[c], datasets)], where)
    if points is not None:
        values: Any = _encoded(dataset, points, where, foreign)
    else:
        points = pick_one("vectors", [c for c in kept if is_vectors(dataset, c)], where)
        if points is None:
            kinds = "images (type Image, or {bytes, path}) or vectors (lists of floats)"
            raise no_points(kinds, features, where, "; save a table of numbers, a point a row, as .csv")
        values = read_vectors(dataset, points, where)
    classes = [c for c in kept if isinstance(features[c], datasets.ClassLabel)]
    label = pick_one("labels", classes or [c for c in label_names(kept) if c != points], where)
    labels, notes = _labels(dataset, label, where)
    notes += unread_notes(features, {points, label or points}, Path(str(where)))
    return Source(values, name, labels.values, class_names=labels.names, notes=notes)


def _encoded(dataset: Any, column: str, where: Path | str, foreign: bool) -> EncodedImages:
    """The images of a column."""
    datasets = need("datasets", "hub")
    plain = dataset.with_format(None).select_columns([column])
    if isinstance(dataset.features[column], datasets.Image):
        plain = plain.cast_column(column, datasets.Image(decode=False))
    if foreign:
        for chunk in plain.data.column(column).chunks:
            chunk.validate(full=True)
    return EncodedImages(_Cells(plain, column, where, foreign), lambda i: f"image {i} of {where}")


class _Cells(Sequence[Any]):
    """The images of a column, as bytes or as paths."""

    def __init__(self, plain: Any, column: str, where: Path | str, foreign: bool) -> None:
        self._plain, self._column, self._where, self._foreign = plain, column, where, foreign

    def __len__(self) -> int:
        return len(self._plain)

    def __getitem__(self, at: int) -> Any:  # type: ignore[override]
        cell = self._plain[at][self._column] or {}
        if cell.get("bytes") is not None:
            return cell["bytes"]
        if cell.get("path") is None or self._foreign:
            raise InputError(
                f"image {at} of {self._where} has no bytes (path {str(cell.get('path'))[:80]!r}); expected images "
                "within the file: save it by datasets' save_to_disk or to_parquet"
            )
        return Path(cell["path"])


def _labels(dataset: Any, column: str | None, where: Path | str) -> tuple[Labels, tuple[str, ...]]:
    if column is None:
        return Labels(None), ()
    said = dataset.with_format("arrow").select_columns([column])[:].column(column).to_pylist()
    rows, names = range(len(said)), getattr(dataset.features[column], "names", None)
    if names is not None:
        said = [None if value == NO_LABEL else value for value in said]
    labels = make_labels(said, [f"row {i}" for i in rows], f"column {column} of {where}")
    if labels.values is None:
        return labels, (f"The column {column} has no labels.",)
    if names is not None:
        labels = Labels(labels.values, check_class_names(list(names), labels.values, where))
    return labels, ()


def _is_image(feature: Any, datasets: Any) -> bool:
    return isinstance(feature, datasets.Image) or (isinstance(feature, dict) and set(feature) == CELL)


def _ask_split(splits: Sequence[str], split: str | None, where: Path | str) -> str:
    """The part that is read: the one there is, or the one asked for."""
    if split in splits:
        return str(split)
    if split is None and len(splits) == 1:
        return splits[0]
    has = listed(splits) if splits else "none"
    said = "" if split is None else f"split is {split!r} and "
    example = splits[0] if splits else "train"
    raise InputError(f"{said}{where} has the parts {has}; say which: split={example!r} (--split {example})")


def _probe(text: str, repository: str) -> None:
    """Ask the hub for the data set, once: `datasets` itself would try for half a minute without a network."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return
    with reading(text, "a name of the hub and a network (or HF_HUB_OFFLINE=1, where it was loaded before)"):
        try:
            huggingface_hub.HfApi().dataset_info(repository, timeout=PROBE_SECONDS)
        except HfHubHTTPError as error:
            raise InputError(f"{text!r} is no data set that can be read ({error}); expected hf:owner/name") from None

"""The page of a data set: how it was understood, with some of its images."""

import math
from typing import Any, NamedTuple

import numpy as np
from torch.nn import functional

from flowscope.core.serialize import json_text
from flowscope.data import TrainingSet
from flowscope.data.pixels import is_image
from flowscope.report import prose
from flowscope.report.elements import Cell, Table, name_cell, number_cell
from flowscope.report.finding import GalleryPart, gallery_part
from flowscope.report.formatting import number, percent
from flowscope.report.page import render
from flowscope.report.plain_text import as_text, without_paths
from flowscope.report.provenance import Settings, download, entries

MAX_IMAGES = 64  # on a contact sheet
MAX_CLASS_ROWS = 16  # of a contact sheet
MAX_SHOWN_SIDE = 128  # pixels of an image there
MAX_CHANNELS = 64  # in the table of channels
READ = ("source", "format", "name", "normalisation", "flips", "options", "digest")
HELD = ("N", "shape", "dtype", "distinct", "duplicates", "near_duplicates", "near_duplicates_skipped", "weighted")
PREDICTED = (
    *("path", "predicted", "predicted_saturation", "predicted_by_class", "predicted_saturation_by_class"),
    *("predicted_plain", "predicted_log_snr", "half_from_subsets", "saturation_from_subsets", "threshold", "entropy"),
    *("spectrum", "clusters", "total_variance", "effective_rank"),
)


class ContactSheet(NamedTuple):
    """Some images of a set: a row a class, or just rows. The fields are those of a gallery.

    Attributes:
        images: (R, C, channels, H, W); NaN where a class has no further image.
        rows, columns: their names; those of classes, or empty.
    """

    title: str
    images: np.ndarray
    rows: list[str]
    columns: list[str]


def info_files(found: dict[str, Any], training_set: TrainingSet) -> dict[str, bytes | str]:
    """index.html and info.json, by name.

    Args:
        found: what :func:`flowscope.curve.info.training_set_info` says of the set.
        training_set: the set, of which at most 64 images are shown, the same ones each time.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.curve.info import training_set_info
        >>> from flowscope.report import info_files
        >>> oracle = fs.Oracle(fs.load("gaussian:N=50,D=3"))
        >>> sorted(info_files(training_set_info(oracle), oracle.training_set))
        ['index.html', 'info.json']
    """
    saved = json_text(found)
    html = render(
        "info.html.j2",
        title=f"flowscope info: {without_paths(str(found['name']))}",
        subtitle=prose.describe(found),
        found=found,
        notes=training_set.notes,
        sheet=_sheet_part(training_set),
        tables=[
            Settings(caption, list(entries({key: _told(found[key]) for key in keys if key in found})))
            for caption, keys in (("How it was read", READ), ("What it holds", HELD), ("What it predicts", PREDICTED))
        ],
        channels=_channel_table(found),
        classes=_class_table(found),
        downloads=[download("info.json", saved)],
    )
    return {"info.json": saved, "index.html": html}


def _told(value: Any) -> Any:
    if value == {}:
        return "as by default"
    return "undefined" if value is None else value


def contact_sheet(s: TrainingSet, seed: int = 0) -> ContactSheet:
    """At most 64 images, drawn by a seed: of each of at most 16 classes as many, or of all points.

    Args:
        s: a set of images.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    if len(s.classes) > 1:
        labels = np.sort(rng.choice(s.classes, min(MAX_CLASS_ROWS, len(s.classes)), replace=False)).tolist()
        groups = [np.flatnonzero(s.labels == label) for label in labels]
        columns = max(MAX_IMAGES // MAX_CLASS_ROWS, min(8, MAX_IMAGES // len(groups)))
        names = [s.class_name(label) for label in labels]
        chosen = [np.sort(rng.choice(group, min(columns, len(group)), replace=False)) for group in groups]
    else:
        drawn = np.sort(rng.choice(len(s), min(MAX_IMAGES, len(s)), replace=False))
        columns = min(8, len(drawn))
        chosen = np.split(drawn, range(columns, len(drawn), columns))
        names = [""] * len(chosen)
    rows = [_small(s, positions) for positions in chosen]
    images = np.full((len(rows), columns, *rows[0].shape[1:]), math.nan, np.float32)
    for k, row in enumerate(rows):
        images[k, : len(row)] = row
    return ContactSheet("Some of the images", images, names, [""] * columns)


def _small(s: TrainingSet, positions: np.ndarray) -> np.ndarray:
    """Some images as float32, shrunk to what a page shows."""
    images = s.rows(positions).cpu().float()
    scale = MAX_SHOWN_SIDE / max(s.shape[1:])
    if scale < 1:
        size = [max(1, round(side * scale)) for side in s.shape[1:]]
        images = functional.interpolate(images, size, mode="bilinear", antialias=True)
    return images.numpy()


def _sheet_part(s: TrainingSet) -> GalleryPart | None:
    return gallery_part(contact_sheet(s)) if is_image(s.shape) else None


def _channel_table(found: dict[str, Any]) -> Table:
    """A row a channel, or one for all coordinates."""
    columns = ("channel", "least", "largest", "mean", "standard deviation")
    count = len(found["mean"])
    rows = [
        [
            Cell(str(k) if count > 1 else "all", float(k)),
            *(number_cell(value, number) for value in (*found["range"][k], found["mean"][k])),
            number_cell(found["standard_deviation"][k], number),
        ]
        for k in range(min(count, MAX_CHANNELS))
    ]
    return Table(f"Values: {as_text(found['normalisation'])}", columns, rows)


def _class_table(found: dict[str, Any]) -> Table | None:
    if not found["classes"]:
        return None
    rows = [
        [name_cell(without_paths(name)), Cell(f"{size:,}", float(size)), Cell(percent(size / found["N"]), float(size))]
        for name, size in found["classes"].items()
    ]
    return Table("Classes; a heading sorts", ("class", "points", "share"), rows, sortable=True)

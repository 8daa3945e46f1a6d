"""Folders of images: which files are images, which label each has, and what was passed over.

Labels are those of `dataset.json` where the folder has one (EDM, EDM2, StyleGAN: its subfolders are chunks). Else each
subfolder is a class.
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowscope.data.loaders.images import EncodedImages
from flowscope.data.loaders.source import SPLITS, Source, by_ending, check_inside, in_words, reading, skipped_notes
from flowscope.errors import InputError, listed

JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
IMAGE_SUFFIXES = {".png", ".apng", *JPEG_SUFFIXES, ".bmp", ".gif", ".webp", ".avif", ".tif", ".tiff", ".ppm", ".pgm"}
LABELS_FILE = "dataset.json"
MAX_LISTED_FOLDERS = 12  # in a note


class Found(NamedTuple):
    """The images below a folder, relative to it, and how many files were passed over by what is said of them."""

    images: list[Path]
    skipped: Counter[str]


def find_split(root: Path, split: str | None) -> Path:
    """The folder that is read: of train, val and test the one that is asked for, else the folder itself.

    Raises:
        InputError: the folder has such subfolders and `split` does not say which, or names none of its subfolders.
    """
    if split == "none":
        return root
    with reading(root, "a folder of images"):
        folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != ".")
    if split is not None:
        if split not in folders:
            has = ", ".join(folders[:12]) or "none"
            raise InputError(f"split is {split!r} and {root} has the subfolders {has}; expected one of them, or 'none'")
        check_inside(root / split, root)
        return root / split
    splits = [name for name in folders if name.lower() in SPLITS]
    if splits and len(splits) in (len(folders), *range(2, len(folders))):
        raise InputError(
            f"{root} has the subfolders {listed(splits)}, which look like parts of a data set, not like classes; say "
            f"which to read: split={splits[0]!r} (--split {splits[0]}), or split='none' (--split none) for classes"
        )
    return root


def load_folder(root: Path) -> Source:
    """Load the images of a folder with their labels, by `dataset.json` or by subfolders.

    Without `dataset.json`, label k is the k-th subfolder that holds images, by name; by number where all names are
    numbers. Images come class by class, then by path.

    Raises:
        InputError: no image, a link that leads out of the folder, images both beside and within subfolders, or a
            `dataset.json` that does not belong to these images.
    """
    with reading(root, "a folder of images"):
        found = _find_images(root)
    if not found.images:
        skipped = f" ({in_words(found.skipped)})" if found.skipped else ""
        raise InputError(
            f"{root} holds no images{skipped}; expected files such as .png, .jpg or .webp, "
            "in subfolders by class if they have classes"
        )
    images, labels, names = found.images, None, None
    if (root / LABELS_FILE).is_file():
        labels = _read_labels(root / LABELS_FILE, images)
    else:
        names = _class_names(root, images)
        number = {folder: label for label, folder in enumerate(names or ())}
        images = sorted(images, key=lambda path: (number.get(path.parts[0], 0), path.parts))
        labels = None if names is None else np.array([number[path.parts[0]] for path in images], dtype=np.int64)
    values = EncodedImages([root / path for path in images], lambda i: f"image {root / images[i]}")
    name = root.resolve().name or "images"
    notes, files = _notes(root, found, names), [path.as_posix() for path in images]
    return Source(values, name, labels, class_names=names, notes=notes, files=files)


def _class_names(root: Path, images: Sequence[Path]) -> list[str] | None:
    """The subfolders that hold images, in order; None where images lie in the folder itself."""
    flat = [path for path in images if len(path.parts) == 1]
    if flat and len(flat) < len(images):
        nested = next(path for path in images if len(path.parts) > 1)
        raise InputError(
            f"{root} holds images beside its subfolders ({flat[0]}) and within them ({nested}); "
            "expected one or the other, since subfolders are classes: move the loose images"
        )
    folders = {path.parts[0] for path in images}
    if flat:
        return None
    numeric = all(name.isascii() and name.isdecimal() for name in folders)
    return sorted(folders, key=(lambda name: (int(name), name)) if numeric else None)


def _read_labels(path: Path, images: Sequence[Path]) -> np.ndarray | None:
    """The label of each image by dataset.json; None where that says that there are none."""
    expected = f'{{"labels": [["{images[0].as_posix()}", 3], ...]}} with every image, or {{"labels": null}}'
    with reading(path, expected):
        said = json.loads(path.read_bytes())
        labels = said["labels"]
        if labels is None:
            return None
        label_of: dict[str, Any] = dict(labels)
    wrong = next((label for label in label_of.values() if type(label) is not int or not 0 <= label < 2**63), None)
    if wrong is not None:
        raise InputError(f"{path} has the label {str(wrong)[:40]!r}; expected {expected}")
    missing = [image for image in images if image.as_posix() not in label_of]
    if missing or len(label_of) > len(images):
        gone = f"does not list {missing[0]}" if missing else f"lists {len(label_of):,} images of {len(images):,}"
        raise InputError(f"{path} {gone}; expected the same images there and in the folder: correct or move that file")
    return np.array([label_of[image.as_posix()] for image in images], dtype=np.int64)


def _find_images(root: Path) -> Found:
    """The images below root, sorted by path; hidden files and folders are left out."""
    images, skipped = [], Counter[str]()
    for folder, subfolders, files in os.walk(root, onerror=_raise):
        skipped["hidden"] += sum(name.startswith(".") for name in subfolders)
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in subfolders:
            _check_link(Path(folder, name), root, folder=True)
        for name in files:
            path = Path(folder, name)
            if name.startswith("."):
                skipped["hidden"] += path.suffix.lower() in IMAGE_SUFFIXES
                continue
            _check_link(path, root, folder=False)
            if path == root / LABELS_FILE:
                continue
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                skipped[by_ending(name)] += 1
            elif path.is_file() or not path.exists():  # a link that leads nowhere is a broken image
                images.append(path.relative_to(root))
            else:
                skipped["that are pipes or devices"] += 1
    return Found(sorted(images, key=lambda path: path.parts), +skipped)


def _notes(root: Path, found: Found, names: Sequence[str] | None) -> tuple[str, ...]:
    """What was passed over, and which subfolders are no classes since they hold no image."""
    folders = {entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != "."}
    empty = sorted(folders - set(names)) if names is not None else []
    no_class = f"Subfolders hold no image and are no classes: {', '.join(empty[:MAX_LISTED_FOLDERS])}."
    return (*skipped_notes(found.skipped), *([no_class] if empty else []))


def _check_link(path: Path, root: Path, folder: bool) -> None:
    check_inside(path, root)
    if folder and path.is_symlink():
        raise InputError(f"{path} is a link to a folder, which would count images twice; expected folders: remove it")


def _raise(error: OSError) -> None:
    raise error

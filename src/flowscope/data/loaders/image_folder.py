"""Folders and archives of images: which files are images, which label each has, and what was passed over.

Labels are those of an index file where there is one (`index_files.py`), else those of samples of WebDataset
(`samples.py`). Else each subfolder is a class.
"""

import os
import posixpath
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from flowscope.core.text import nfc
from flowscope.data.loaders.archive import ARCHIVES, open_tar
from flowscope.data.loaders.array_files import POSTERIOR, array_names, read_arrays
from flowscope.data.loaders.cifar import find_batches, load_batches
from flowscope.data.loaders.images import EncodedImages, Stamp, stamp_file
from flowscope.data.loaders.index_files import DATASET_JSON, METADATA, find_index_files, read_index
from flowscope.data.loaders.labels import Labels, order_names
from flowscope.data.loaders.latents import STATISTICS_FILE
from flowscope.data.loaders.part import Part
from flowscope.data.loaders.pictures import IMAGE_SUFFIXES
from flowscope.data.loaders.samples import find_labels
from flowscope.data.loaders.shards import find_shards
from flowscope.data.loaders.source import SPLITS, Source, by_ending, check_inside, in_words, reading, skipped_notes
from flowscope.data.loaders.splits import choose_split
from flowscope.data.loaders.tree import HIDDEN, SPECIAL, Tree, in_order, open_folder
from flowscope.errors import InputError

TAR_SUFFIX = ".tar"
MAX_LISTED_FOLDERS = 12  # in a note
CHUNK = re.compile(r"\d{5,}", re.ASCII)  # a folder that may be one of numbered files
LAST_NUMBER = re.compile(r"(\d{1,18})\D*$", re.ASCII)


def find_split(root: Path, split: str | None) -> Path:
    """The folder that is read: of train, val and test the one that is asked for, else the folder itself.

    Raises:
        InputError: the folder has such subfolders and `split` does not say which, or names none of its subfolders.
    """
    with reading(root, "a folder of images"):
        folders = {nfc(e.name): e.name for e in os.scandir(root) if e.is_dir() and e.name[0] != "."}
    chosen = choose_split(sorted(folders), root, None if split is None else nfc(split))
    if chosen is None:
        return root
    check_inside(root / folders[chosen], root)
    return root / folders[chosen]


def load_folder(root: Path) -> Source:
    """Load the images of a folder; see :func:`load_images`."""
    with reading(root, "a folder of images"):
        tree = open_folder(root)
    return load_images(tree, root.resolve().name or "images")


def load_archive(path: Path, part: Part) -> Source:
    """Load the images of a .zip or .tar; see :func:`load_images`.

    Raises:
        InputError: it is damaged, leads out of itself, or holds no set of images.
    """
    tree = ARCHIVES[path.suffix.lower()](path)
    name = path.name.removesuffix(path.suffix).removesuffix(".tar")
    if batches := find_batches(tree, part.split):
        return load_batches(tree, batches, name, part)
    part.refuse_columns(str(path))
    tree, notes = _unwrapped(tree)
    chosen = choose_split(tree.folders, tree.where, part.split)
    if chosen is not None:
        tree, name = tree.below(chosen), f"{name}/{chosen}"
    found = load_images(tree, name)
    return replace(found, notes=notes + found.notes)


def load_tar_shards(folder: Path, part: Part) -> Source:
    """Load the images of a folder of numbered tars, as WebDataset has them; see :func:`load_images`.

    Raises:
        InputError: tars of several sets or parts, a missing number, or no set of images.
    """
    part.refuse_columns(str(folder))
    paths, named = find_shards(folder, TAR_SUFFIX, part.split)
    files, passed = dict[str, Any](), dict[str, str]()
    for path in paths:
        tree, stem = open_tar(path), path.name.removesuffix(TAR_SUFFIX).replace(".", "_")
        files |= {_in_shard(stem, name): (tree, file) for name, file in tree.files.items()}
        passed |= {_in_shard(stem, name): why for name, why in tree.passed.items()}
    folders = tuple(sorted({name.partition("/")[0] for name in files if "/" in name}))
    whole = Tree(folder, in_order(files), folders, passed, lambda place: place[0].fetch(place[1]))
    name = folder.resolve().name
    others = Counter(by_ending(p.name) for p in folder.iterdir() if p.suffix != TAR_SUFFIX and p.name[0] != ".")
    found = load_images(whole, f"{name}/{named}" if named else name)
    beside = (f"Beside the .tar files were skipped: {in_words(others)}.",) if others else ()
    return replace(found, notes=beside + found.notes)


def _in_shard(shard: str, name: str) -> str:
    """The name of a file among those of several shards, which may have equal names."""
    folder, base = posixpath.split(name)
    return posixpath.join(folder, f"{shard}:{base}")


def _unwrapped(tree: Tree) -> tuple[Tree, tuple[str, ...]]:
    """The one folder of an archive that holds all the rest, where this is no class, with a note; else the whole."""
    outer: tuple[str, ...] = ()
    while len(tree.folders) == 1 and tree.folders[0].lower() not in SPLITS and all("/" in name for name in tree.files):
        (folder,) = tree.folders
        inner = tree.below(folder)
        indexed = any(name in inner.files for name in (DATASET_JSON, *METADATA))
        if not inner.files or (_images(inner, [n for n in inner.files if "/" not in n]) and not indexed):
            break
        tree, outer = inner, (*outer, folder)
    return tree, (f"All lies in the folder {'/'.join(outer)}, which is not taken for a class.",) if outer else ()


def load_images(tree: Tree, name: str) -> Source:
    """Load the images of a tree with their labels: by an index file, by files of their keys, or by subfolders.

    Without the first two, label k is the k-th subfolder that holds images, by name; by number where all names are
    numbers. Images come class by class, then by path.

    Args:
        tree: the files.
        name: of the set.

    Where there is no image, files of arrays are points in the same way; see :mod:`flowscope.data.loaders.array_files`.

    Raises:
        InputError: no image, images both beside and within subfolders, or labels that do not belong to these images.
    """
    images = _images(tree, tree.files)
    if not images and (arrays := array_names(tree)):
        return _load_arrays(tree, name, arrays)
    if not images:
        skipped = _skipped(tree, ())
        said = f" (passed over: {in_words(skipped)})" if skipped else ""
        raise InputError(
            f"{tree.where} holds no images{said}; expected files such as .png, .jpg or .webp, or arrays (.npy, .pt), a "
            "point a file, in subfolders by class if they have classes"
        )
    images, labels, notes, read = _labelled(tree, images)
    values = EncodedImages(
        tree.items(images), lambda i: f"image {tree.where / images[i]}", lambda i: _stamp(tree, images[i])
    )
    passed = skipped_notes(_skipped(tree, read))
    return Source(values, name, labels.values, class_names=labels.names, notes=passed + notes, files=images)


def _load_arrays(tree: Tree, name: str, arrays: list[str]) -> Source:
    """The set of a tree in which each array is a point; folders of posteriors are chunks and no classes."""
    chunks = posixpath.basename(arrays[0]).startswith(POSTERIOR) and not find_index_files(tree)
    arrays, labels, notes, read = (arrays, Labels(None), (), set()) if chunks else _labelled(tree, arrays)
    found = read_arrays(tree, arrays, name)
    passed = skipped_notes(_skipped(tree, {*arrays, *read, *((STATISTICS_FILE,) if found.statistics else ())}))
    notes = passed + notes + found.notes
    origin = {"format": "folder of arrays", **found.origin}
    return replace(found, labels=labels.values, class_names=labels.names, notes=notes, origin=origin)


def _labelled(tree: Tree, images: list[str]) -> tuple[list[str], Labels, tuple[str, ...], set[str]]:
    """The files that are points, in order, their labels, notes, and the files in which the labels were found."""
    index, notes, read = find_index_files(tree), tuple[str, ...](), set[str]()
    if index:
        images, labels, notes = read_index(tree, index, images)
        read = set(index)
    else:
        found, read = find_labels(tree, images)
        if found is None:
            notes = _chunks(images)
            images, labels = (images, Labels(None)) if notes else _by_folder(tree, images)
            notes += _no_classes(tree, labels.names)
        else:
            labels = found
    return images, labels, notes, read


def _stamp(tree: Tree, name: str) -> Stamp:
    """What changes when a file of a tree changes; of a file in an archive, when the archive changes."""
    file = tree.files[name]
    if isinstance(file, Path):
        return stamp_file(file)
    holder = file[0] if isinstance(file, tuple) and isinstance(file[0], Tree) else tree
    places = holder.where, *holder.where.parents  # a folder within an archive is no file
    return stamp_file(next((place for place in places if place.is_file()), holder.where), name)


def _images(tree: Tree, names: Collection[str]) -> list[str]:
    return [name for name in names if posixpath.splitext(name)[1].lower() in IMAGE_SUFFIXES]


def _skipped(tree: Tree, read: Collection[str]) -> Counter[str]:
    """How many files are passed over, by what is said of them; hidden ones and devices if they would be images."""
    passed = [name.removesuffix("/") for name, why in tree.passed.items() if why == HIDDEN and name.endswith("/")]
    hidden = len(passed) + len(_images(tree, [name for name, why in tree.passed.items() if why == HIDDEN]))
    special = len(_images(tree, [name for name, why in tree.passed.items() if why == SPECIAL]))
    images = {*_images(tree, tree.files), *read}
    others = Counter(by_ending(name) for name in tree.files if name not in images)
    return +(others + Counter({HIDDEN: hidden, SPECIAL: special}))


def _by_folder(tree: Tree, images: list[str]) -> tuple[list[str], Labels]:
    """The images class by class, and their labels; no labels where images lie in no folder."""
    flat = [name for name in images if "/" not in name]
    if len(flat) == len(images):
        return images, Labels(None)
    if flat:
        nested = next(name for name in images if "/" in name)
        raise InputError(
            f"{tree.where} holds images beside its subfolders ({flat[0]}) and within them ({nested}); "
            "expected one or the other, since subfolders are classes: move the loose images"
        )
    folder_of = [name.partition("/")[0] for name in images]
    names = order_names(set(folder_of))
    number = {folder: label for label, folder in enumerate(names)}
    labels = np.array([number[folder] for folder in folder_of], dtype=np.int64)
    order = np.argsort(labels, kind="stable")
    return [images[i] for i in order.tolist()], Labels(labels[order], names)


def _chunks(images: list[str]) -> tuple[str, ...]:
    """The note on subfolders that are chunks of files with running numbers, as tools write them; none for classes.

    Such are `00001/img00001000.png` (EDM, StyleGAN), `01000/01000.png` (FFHQ) and `00001/000010000.jpg` (img2dataset).
    In folders of classes numbers begin anew, or are mixed.
    """
    numbers = dict[str, list[int]]()
    for name in images:
        folder, _, rest = name.partition("/")
        found = LAST_NUMBER.search(posixpath.splitext(rest)[0])
        if found is None or not CHUNK.fullmatch(folder):
            return ()
        numbers.setdefault(folder, []).append(int(found[1]))
    ends = [(min(of_one), max(of_one)) for _, of_one in sorted(numbers.items())]
    if len(set(map(len, numbers))) != 1 or any(one[1] >= other[0] for one, other in pairwise(ends)):
        return ()
    first, last = min(numbers), max(numbers)
    which = f"Subfolder {first} is a chunk" if first == last else f"Subfolders {first} to {last} are chunks"
    return (
        f"{which} of files with running numbers, not of a class, so points have no labels (rename folders of classes).",
    )


def _no_classes(tree: Tree, names: Sequence[str] | None) -> tuple[str, ...]:
    """The note on subfolders that are no classes since they hold no image."""
    empty = sorted(set(tree.folders) - set(names)) if names is not None else []
    said = f"Subfolders hold no image and are no classes: {', '.join(empty[:MAX_LISTED_FOLDERS])}."
    return (said,) if empty else ()

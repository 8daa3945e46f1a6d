"""Points in files of their own, .npy or .pt: latents of REPA and EDM2, samples of WebDataset, class folders of arrays.

They lie in a tree as images do and have labels in the same places; see :mod:`flowscope.data.loaders.image_folder`.
"""

import io
import posixpath
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flowscope.core.memory import check_memory
from flowscope.core.tensors import to_numpy
from flowscope.data.loaders.latents import STATISTICS_FILE
from flowscope.data.loaders.npy import read_header
from flowscope.data.loaders.pt import checked_tensor, load_saved
from flowscope.data.loaders.samples import split_key
from flowscope.data.loaders.source import POINT_KEYS, SPLITS, Source, pick_points, reading, unread_notes
from flowscope.data.loaders.tree import Tree
from flowscope.data.rows.item_rows import ItemRows
from flowscope.data.rows.mapped_rows import MappedRows
from flowscope.errors import InputError, listed

ARRAY_SUFFIXES = (".npy", ".pt")
POSTERIOR = "img-mean-std-"  # with which the names of REPA's and EDM2's files begin
MAX_WHOLE_SETS = 12  # files such as x_train.npy and x_test.npy in a folder
EXPECTED = "a point a file, .npy or .pt, all of one shape"
SCALE = (
    "holds posteriors of an autoencoder, of which REPA gives a network samples times 0.18215 and EDM2 samples "
    "normalised by channel; say which: normalise='scale:0.18215' (--normalise scale:0.18215), a file of mean and std "
    "(EDM2: mean 5.81, 3.25, 0.12, -2.15, std 8.34, 9.24, 7.42, 6.56), or 'none' for as they are stored"
)


def array_names(tree: Tree) -> list[str]:
    """The files of a tree that may be points.

    Raises:
        InputError: they are of several kinds, or look like whole sets.
    """
    suffixes_read = ARRAY_SUFFIXES[: 1 if tree.archive else None]  # torch reads files
    names = [
        name
        for name in tree.files
        if posixpath.splitext(name)[1].lower() in suffixes_read and posixpath.basename(name) != STATISTICS_FILE
    ]
    kinds = sorted({split_key(name)[1] for name in names})
    suffixes = sorted({posixpath.splitext(name)[1].lower() for name in names})
    if len(suffixes) > 1 or 1 < len(kinds) < len(names):
        shown = listed(f".{kind}" for kind in kinds[:3])
        raise InputError(f"{tree.where} holds {shown} files; expected {EXPECTED}: move the others elsewhere")
    if len({name.startswith(POSTERIOR) for name in map(posixpath.basename, names)}) > 1:
        raise InputError(f"{tree.where} holds {POSTERIOR}*.npy and other arrays; expected one kind: move the others")
    whole = [name for name in names if split_key(posixpath.basename(name))[0].split("_")[-1].lower() in SPLITS]
    if len(names) == 1 or (whole and len(names) <= MAX_WHOLE_SETS):
        raise InputError(
            f"{tree.where} holds {(whole or names)[0]}, which looks like a set of its own; expected {EXPECTED}: give "
            "the file itself"
        )
    return names


def read_arrays(tree: Tree, names: Sequence[str], name: str) -> Source:
    """The points in some files of a tree, without labels.

    Args:
        tree: the files.
        names: of those that are points, from :func:`array_names`, in order.
        name: of the set.

    Raises:
        InputError: the first file is damaged, or holds no array.
    """
    items = tree.items(names)

    def describe(at: int) -> str:
        return str(tree.where / names[at])

    def read(at: int) -> np.ndarray:
        return _read_item(items[at], describe(at))

    posterior = posixpath.basename(names[0]).startswith(POSTERIOR)
    first = items[0]
    return Source(
        MappedRows([ItemRows(read, len(names), describe)]),
        name,
        latents=posterior,
        posterior=posterior,
        scale_question=SCALE if posterior else None,
        statistics=tree.where / STATISTICS_FILE if STATISTICS_FILE in tree.files and not tree.archive else None,
        notes=_unread(first) if isinstance(first, Path) and first.suffix.lower() != ".npy" else (),
        files=names,
    )


def _read_item(item: Path | bytes, where: str) -> np.ndarray:
    """The array of a file."""
    with reading(where, "a .npy array, or a tensor written by torch.save"):
        if isinstance(item, Path) and item.suffix.lower() != ".npy":
            return _read_pt(item)
        if isinstance(item, Path):
            check_memory(item.stat().st_size, where, "expected a smaller file: is it a point?")
            item = item.read_bytes()
        return parse_npy(item, where)


def parse_npy(content: bytes, where: str) -> np.ndarray:
    """The array of a .npy file, in this machine's byte order.

    Raises:
        InputError: it is truncated or damaged, or holds Python objects.
    """
    header = read_header(io.BytesIO(content), where)
    if len(content) != header.size:
        raise InputError(
            f"{where} has {len(content):,} bytes and its header claims {header.size:,}: it is truncated or damaged; "
            "copy it again"
        )
    flat = np.frombuffer(content, header.dtype, offset=header.offset)
    shaped = flat.reshape(header.shape[::-1]).T if header.order == "F" else flat.reshape(header.shape)
    return shaped.astype(header.dtype.newbyteorder("="), copy=False)


def _read_pt(path: Path) -> np.ndarray:
    """The tensor of a file, alone or under one of the names of points."""
    saved = load_saved(path)
    found = saved[pick_points(saved, path)] if isinstance(saved, dict) else saved
    return to_numpy(checked_tensor(found, "points", path), f"points of {path}")


def _unread(path: Path) -> tuple[str, ...]:
    """The note on what else the first .pt file holds beside its points."""
    saved = load_saved(path)
    return unread_notes(saved, POINT_KEYS, path) if isinstance(saved, dict) else ()

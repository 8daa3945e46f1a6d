"""Source: what a file or an argument holds before any option is applied, and what the loaders share."""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowscope.core.tensors import to_numpy
from flowscope.data.normaliser import Normaliser
from flowscope.data.rows.mapped_rows import MappedRows
from flowscope.errors import FlowscopeError, InputError

MAX_COPY_ON_WRITE_BYTES = 256 << 20  # of an array, up to which its map may be written to in memory
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval"})
MAX_LISTED_REASONS = 5  # for which files were passed over, in a note
MAX_AXES = 32  # of an array: numpy's limit, in every version
MAX_BYTES = 2**63 - 1  # of an array, even without those of its sides that are 0
MAX_CLASS_NAMES = 1_000_000
MAX_NAME_CHARACTERS = 1_000  # of the name of a class
SAVE_ALONE = {  # an array of a file, by its ending
    ".npz": "numpy.save('points.npy', numpy.load({!r})[{!r}])",
    ".h5": "numpy.save('points.npy', h5py.File({!r})[{!r}][:])",
    ".hdf5": "numpy.save('points.npy', h5py.File({!r})[{!r}][:])",
    ".safetensors": "torch.save(safetensors.torch.load_file({!r})[{!r}], 'points.pt')",
    ".pt": "torch.save(torch.load({!r})[{!r}].clone(), 'points.pt')",
    ".pth": "torch.save(torch.load({!r})[{!r}].clone(), 'points.pt')",
}
NETWORKS = frozenset({".safetensors", ".pt", ".pth"})  # whose arrays may be weights, no points
POINT_KEYS = ("points", "images", "latents")  # names under which a file may keep points


@dataclass(frozen=True)
class Source:
    """Raw points and what came with them.

    Attributes:
        values: (N, *shape) as stored: a tensor, array, memory map or MappedRows, or encoded images; uint8 means pixels.
        name: what the set is called unless the caller names it.
        labels, weights, class_names, normalisation, files: as in :class:`flowscope.data.training_set.TrainingSet`.
        latents: the values are codes of an autoencoder, with the axes of images, but not to be mirrored or resized.
        known: floats are known to have the scale and the order of axes of points, and are not asked about.
        flipped: (N, *shape) codes of the mirror images, where the source has them.
        statistics: the file of the latents' mean and standard deviation, where the source has it.
        notes: what was left out or decided while reading, in sentences.
        where: the path that was read, or what stands for it; None for the name.
        normaliser: that was applied to the values already, as in TrainingSet.
        posterior: each value is the mean of a posterior and, in as many further channels, its standard deviation.
        scale_question: why a normalisation is needed that the source does not state, and the answers; None for no need.
        deviations, augmentations: as in TrainingSet.
        digest: that the set must have if it is read as it is, where the source says so.
        origin: how it was read, {word: value}, for people to read: its format, and options in use.
    """

    values: Any
    name: str
    labels: Any = None
    weights: Any = None
    class_names: Mapping[int, str] | Sequence[str] | None = None
    normalisation: str = "none"
    latents: bool = False
    known: bool = False
    flipped: Any = None
    statistics: Path | None = None
    notes: tuple[str, ...] = ()
    files: Sequence[str] | None = None
    where: str | None = None
    normaliser: Normaliser | None = None
    posterior: bool = False
    scale_question: str | None = None
    deviations: Any = None
    augmentations: tuple[str, ...] = ()
    digest: str | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def reading(where: object, kind: str) -> Iterator[None]:
    """Turn whatever a parser raises on a foreign file into an InputError that names the file.

    Such a file can make a parser raise nearly anything (OverflowError, RecursionError, zlib.error ...), and all of it
    means the same to the user. So this is the one place that catches every Exception.

    Args:
        where: the file, for the message.
        kind: what was expected, for the message.
    """
    try:
        yield
    except FlowscopeError:
        raise
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"{where} cannot be read ({said}); expected {kind}: check it or save it again") from error


def skipped_notes(skipped: Counter[str]) -> tuple[str, ...]:
    """The note on files that were passed over, counted by reason; none where none were."""
    return (f"Files were skipped: {in_words(skipped)}.",) if skipped else ()


def unread_notes(found: Collection[Any], read: Collection[str], where: Path) -> tuple[str, ...]:
    """The note on arrays of a file that were passed over, by their names; none where none were."""
    names = sorted(str(name)[:40] for name in found if name not in read)
    rest = f" and {len(names) - MAX_LISTED_REASONS:,} more" if len(names) > MAX_LISTED_REASONS else ""
    said = ", ".join(names[:MAX_LISTED_REASONS]) + rest
    return (f"Of {where.name} was not read: {said}.",) if names else ()


def in_words(skipped: Counter[str]) -> str:
    """How many files were passed over, by reason, the most frequent first."""
    first = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))[:MAX_LISTED_REASONS]
    rest = skipped.total() - sum(count for _, count in first)
    return ", ".join([*(f"{count:,} {why}" for why, count in first), *([f"{rest:,} others"] if rest else [])])


def passed_over(folder: Path, known: str | tuple[str, ...]) -> Counter[str]:
    """What lies in a folder of files that is not hidden and has none of the known endings, by its reason."""
    names = [path.name + "/" * path.is_dir() for path in folder.iterdir() if not path.name.startswith(".")]
    return Counter("in subfolders" if n.endswith("/") else by_ending(n) for n in names if not n.endswith(known))


def by_ending(name: str) -> str:
    """The reason of a file that is passed over for its ending."""
    suffix = Path(name).suffix.lower()
    return f"by their ending {suffix}" if suffix else "without an ending"


def pick_points(found: Collection[str], where: object) -> str:
    """The one name in POINT_KEYS that `found` holds.

    Raises:
        InputError: none of them is there, or several are.
    """
    present = [key for key in POINT_KEYS if key in found]
    if len(present) == 1:
        return present[0]
    has = ", ".join(str(name)[:40] for name in sorted(found, key=str)[:12]) or "nothing"
    got = f"holds several sets of points ({', '.join(present)})" if present else f"holds {has}"
    expected = "expected exactly one of points, images, latents (and labels, weights if any)"
    raise InputError(f"{where} {got}; {expected}{_recipe(present, found, where)}")


def _recipe(present: Sequence[str], found: Collection[str], where: object) -> str:
    """The line of Python that saves one array of several alone; empty where there are not several."""
    suffix = where.suffix.lower() if isinstance(where, Path) else ""
    names = list(present) if present or suffix in NETWORKS else sorted(found, key=str)
    if suffix not in SAVE_ALONE or len(names) < 2:
        return ""
    line = SAVE_ALONE[suffix].format(str(where), names[0])
    return f": save the one that holds points alone, such as by {line}"


def check_class_names(names: Any, labels: Any, where: object) -> list[str]:
    """Check the names of classes.

    Args:
        names: one for each label from 0 on.
        labels: (N,) an array or a tensor; None for no labels.
        where: the file, for the message.

    Raises:
        InputError: they are no texts, or too few for the labels.
    """
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise InputError(f"classes of {where} are a {type(names).__name__}; expected a list of names, one a label")
    count = len(names)
    if count > MAX_CLASS_NAMES or max(map(len, names), default=0) > MAX_NAME_CHARACTERS:
        raise InputError(
            f"classes of {where} are {count:,} names; expected at most {MAX_CLASS_NAMES:,}, of at most "
            f"{MAX_NAME_CHARACTERS:,} characters each"
        )
    array = np.empty(0) if labels is None else to_numpy(labels, f"labels of {where}")
    if array.size and array.dtype.kind in "iuf" and array.max() >= count:
        raise InputError(
            f"classes of {where} are {count} names, and its labels go up to {int(array.max())}; expected one "
            "for each label from 0 on"
        )
    return list(names)


def check_inside(path: Path, root: Path) -> None:
    """Refuse a link that leads out of the folder in which it lies.

    Raises:
        InputError: the target lies outside `root`.
    """
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{path} is a link that leaves the folder {root}; expected files within it: copy them there")


def check_extent(shape: Sequence[int], itemsize: int, where: object) -> None:
    """Refuse a shape that no array can have.

    Args:
        shape: the sides, each of at least 0.
        itemsize: bytes of a number.
        where: the array, for the message.

    Raises:
        InputError: it has too many axes, is too large for an address, or its numbers have no bytes.
    """
    if itemsize < 1:
        raise InputError(f"{where} claims numbers of 0 bytes; expected numbers: it is damaged")
    if len(shape) > MAX_AXES:
        raise InputError(f"{where} claims {len(shape)} axes; expected at most {MAX_AXES}: it is damaged")
    if math.prod(side or 1 for side in shape) * itemsize > MAX_BYTES:
        raise InputError(f"{where} claims the shape {tuple(shape)}, which no memory holds: it is truncated or damaged")


def map_file(path: Path, dtype: np.dtype, shape: tuple[int, ...], offset: int = 0, order: str = "C") -> np.ndarray:
    """Memory-map an array in a file; no byte is read yet.

    A small array is mapped copy-on-write, so that torch takes it as it is. A large one is mapped read-only:
    :class:`~flowscope.data.rows.file_rows.FileRows` reads it, and Linux refuses copy-on-write maps larger than memory.
    """
    if 0 in shape:
        return np.empty(shape, dtype)
    layout: Any = order
    small = math.prod(shape) * dtype.itemsize <= MAX_COPY_ON_WRITE_BYTES
    return np.memmap(path, dtype, "c" if small else "r", offset, shape, layout)


def native(values: Any) -> Any:
    """The values aligned and in this machine's byte order; others are converted as their rows are read."""
    floats = isinstance(values, np.ndarray) and values.dtype.kind == "f" and values.ndim > 0
    if floats and not (values.dtype.isnative and values.flags.aligned):
        return MappedRows([values], _to_native)
    return values


def _to_native(block: np.ndarray) -> np.ndarray:
    return np.array(block, dtype=block.dtype.newbyteorder("="))


def is_pixels(values: Any) -> bool:
    """Whether values are uint8, which stands for pixels."""
    return bool(values.dtype == torch.uint8 if isinstance(values, Tensor) else values.dtype == np.uint8)

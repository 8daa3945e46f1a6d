"""Data sets of Python: torch's Dataset, map-style and iterable, TensorDataset and DataLoader.

Items are x, (x, y), or a dict with known names. The law is that of the items, each once: the order does not matter, so
a loader's data set is read itself. An item that differs when it is read twice is none of finitely many points.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
    default_convert,
)

from flowscope.core.memory import check_memory
from flowscope.core.tensors import to_numpy
from flowscope.data.loaders.images import EncodedImages
from flowscope.data.loaders.labels import LABEL_KEYS, make_labels
from flowscope.data.loaders.pictures import is_picture
from flowscope.data.loaders.source import POINT_KEYS, Source, check_class_names
from flowscope.errors import InputError, listed

X_KEYS = (*POINT_KEYS, "image", "img", "pixel_values", "x")
Y_KEYS = (*LABEL_KEYS, "y", "target")
READ_TWICE = 16  # items that are read again, to see whether transforms are random
STEP_BYTES = 16 << 20  # of items of unknown number, after which memory is asked for again
EXPECTED = "expected items x, (x, y), or dicts with x under one of " + ", ".join(X_KEYS)


class Items(NamedTuple):
    """What is read of a data set: how many items, each by position, and what must be said."""

    total: int
    read: Callable[[int], Any]
    notes: tuple[str, ...] = ()


def load_torch(dataset: Any) -> Source:
    """Load the items of a data set, or of a loader's data set.

    Raises:
        InputError: items are of no known form, of several shapes or random, or a loader makes others of them.
    """
    positions, notes = None, tuple[str, ...]()
    if isinstance(dataset, DataLoader):
        dataset, positions, notes = _unwrap(dataset)
    if isinstance(dataset, TensorDataset) and (source := _from_tensors(dataset, positions, notes)) is not None:
        return source
    name = type(dataset).__name__
    items = _iterated(dataset, positions) if _is_iterable(dataset) else _indexed(dataset, positions)
    if items.total == 0:
        raise InputError(f"{name} has no items; expected at least one")
    first, _, unread = _parts(items.read(0), name)
    is_pictures = is_picture(first)
    said, values = list[Any](), None
    for i in range(items.total):
        x, y, _ = _parts(items.read(i), name)
        said.append(_as_label(y, i, name))
        if not is_pictures:
            array = _as_array(x, i, name)
            if values is None:
                check_memory(
                    items.total * array.nbytes, f"{name} of {items.total:,} items", "take a part of it (Subset)"
                )
                values = np.empty((items.total, *array.shape), array.dtype)
            if array.shape != values.shape[1:] or array.dtype != values.dtype:
                one, other = (f"{a.dtype} {shape}" for a, shape in ((values, values.shape[1:]), (array, array.shape)))
                raise InputError(f"items 0 and {i} of {name} are {one} and {other}; expected one shape and dtype")
            values[i] = array
    labels = make_labels(said, [f"item {i}" for i in range(items.total)], name)
    names = getattr(dataset, "classes", None) if labels.names is None and labels.values is not None else labels.names
    if labels.names is None and names is not None:
        names = check_class_names([str(n) for n in names], labels.values, name)
    if unread:
        notes = (*notes, f"Of the items of {name} was not read: {', '.join(unread)}.")
    pictures = EncodedImages(_Pictures(items, name), lambda i: f"item {i} of {name}")
    return Source(
        pictures if is_pictures else values, "points", labels.values, class_names=names, notes=notes + items.notes
    )


class _Pictures(Sequence[Any]):
    """The pictures of the items."""

    def __init__(self, items: Items, name: str) -> None:
        self._items, self._name = items, name

    def __len__(self) -> int:
        return self._items.total

    def __getitem__(self, at: int) -> Any:  # type: ignore[override]
        return _parts(self._items.read(at), self._name)[0]


def _from_tensors(dataset: TensorDataset, positions: Sequence[int] | None, notes: tuple[str, ...]) -> Source | None:
    """The points of a TensorDataset, and its labels where a second tensor holds some; None to read its items."""
    tensors = dataset.tensors
    labelled = len(tensors) == 2 and tensors[1].ndim == 1 and not tensors[1].is_floating_point()
    if positions is not None:
        return None
    if len(tensors) != 1 and not labelled:
        raise InputError(
            f"a TensorDataset holds {len(tensors)} tensors; expected one of points, or points and labels: "
            "leave out the others, and give labels=..."
        )
    return Source(tensors[0].detach(), "points", tensors[1] if labelled else None, notes=notes)


def _is_iterable(dataset: Any) -> bool:
    return isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__")


def _indexed(dataset: Any, positions: Sequence[int] | None) -> Items:
    """The items of a map-style data set; some of them are read twice."""
    if positions is None:
        if not hasattr(dataset, "__len__"):
            raise InputError(f"{type(dataset).__name__} has no length; expected one, or an IterableDataset")
        positions = range(len(dataset))
    count, name = len(positions), type(dataset).__name__

    def read(i: int) -> Any:
        try:
            return dataset[positions[i]]
        except LookupError as error:
            raise InputError(
                f"item {positions[i]} of {name} raises {type(error).__name__}, and {name} says that it has {count:,} "
                "items; expected each of them: correct its __len__, or its items"
            ) from error

    for i in {round(k * (count - 1) / READ_TWICE) for k in range(READ_TWICE + 1)} if count else ():
        _check_equal(read(i), read(i), i, name)
    return Items(count, read)


def _iterated(dataset: Any, positions: Sequence[int] | None) -> Items:
    """The items of an iterable data set, kept; the first ones are read twice."""
    kept, name, waiting = list[Any](), type(dataset).__name__, 0
    for item in dataset:
        kept.append(item)
        waiting += _item_bytes(item)
        if waiting > STEP_BYTES:
            check_memory(2 * waiting, f"{name}, {len(kept):,} items and more,", "take fewer items")
            waiting = 0
    notes, again = tuple[str, ...](), list(islice(iter(dataset), READ_TWICE))
    for i, (one, other) in enumerate(zip(kept, again, strict=False)):
        _check_equal(one, other, i, name)
    if kept and not again:
        notes = (f"{name} gives its items once, so that random transforms would not be seen.",)
    count = len(kept) if positions is None else len(positions)
    return Items(count, kept.__getitem__, notes)


def _unwrap(loader: Any) -> tuple[Any, Sequence[int] | None, tuple[str, ...]]:
    """The data set of a loader, the positions that its sampler draws (None for all), and what must be said."""
    wanted = "give its data set itself: load(loader.dataset)"
    if loader.collate_fn not in (default_collate, default_convert):
        raise InputError(f"a DataLoader has a collate_fn of its own, which may change items; {wanted}")
    dataset, size, drop = loader.dataset, loader.batch_size, loader.drop_last
    if _is_iterable(dataset):
        notes = ("drop_last may leave out items at the end of each epoch; all are taken.",) if drop else ()
        return dataset, None, notes
    sampler, batches = loader.sampler, loader.batch_sampler
    if batches is not None:
        if type(batches) is not BatchSampler:
            raise InputError(f"a DataLoader draws batches by {type(batches).__name__}; {wanted}")
        sampler, size, drop = batches.sampler, batches.batch_size, batches.drop_last
    count, positions = len(dataset), None
    if isinstance(sampler, SubsetRandomSampler):
        positions = sorted(sampler.indices)
        count = len(positions)
    elif isinstance(sampler, RandomSampler):
        if sampler.replacement or sampler.num_samples != count:
            raise InputError(f"a DataLoader draws {sampler.num_samples:,} of {count:,} items at random; {wanted}")
    elif type(sampler) is not SequentialSampler:
        raise InputError(f"a DataLoader draws items by {type(sampler).__name__}; {wanted}, with weights=... if need be")
    rest = count % size if drop and size else 0
    if not rest:
        return dataset, positions, ()
    if isinstance(sampler, SequentialSampler):
        return dataset, range(count - rest), (f"drop_last leaves out the last {rest:,} of {count:,} items, here too.",)
    said = f"drop_last leaves out {rest:,} of {count:,} items in each epoch, others each time; all are taken."
    return dataset, positions, (said,)


def _parts(item: Any, name: str) -> tuple[Any, Any, list[str]]:
    """(x, y, names that are not read) of an item; y is None for none."""
    if isinstance(item, Mapping):
        x_keys, y_keys = ([key for key in keys if key in item] for keys in (X_KEYS, Y_KEYS))
        if len(x_keys) != 1 or len(y_keys) > 1:
            raise InputError(f"items of {name} are dicts with {listed(map(str, item))}; {EXPECTED}, and one label")
        y = item[y_keys[0]] if y_keys else None
        return item[x_keys[0]], y, sorted(str(key) for key in item if key not in (*x_keys, *y_keys))
    if isinstance(item, (tuple, list)):
        if len(item) not in (1, 2) or isinstance(item[0], (int, float)):
            raise InputError(f"items of {name} are a {type(item).__name__} of {len(item)}; {EXPECTED}")
        return item[0], item[1] if len(item) == 2 else None, []
    return item, None, []


def _as_array(x: Any, i: int, name: str) -> np.ndarray:
    if not isinstance(x, (Tensor, np.ndarray)):
        raise InputError(f"item {i} of {name} is a {type(x).__name__}; {EXPECTED}, each x a tensor, array or picture")
    array = to_numpy(x, f"item {i} of {name}")
    if array.ndim == 0:
        raise InputError(f"item {i} of {name} is one number; expected a point with at least one axis")
    return array


def _as_label(y: Any, i: int, name: str) -> Any:
    """A label as a whole number or a text; None for none."""
    if y is None or isinstance(y, (str, int)):
        return y
    array = to_numpy(y, f"the label of item {i} of {name}")
    if array.size != 1 or array.dtype.kind not in "iu":
        raise InputError(
            f"item {i} of {name} has a second part of {array.dtype} {array.shape}; expected a label, one whole number: "
            "give a data set of x alone, and labels=... if there are any"
        )
    return int(array.reshape(()))


def _check_equal(one: Any, other: Any, i: int, name: str) -> None:
    x, y = (_parts(item, name)[0] for item in (one, other))
    if not np.array_equal(np.asarray(x), np.asarray(y)):
        raise InputError(
            f"item {i} of {name} differs when it is read twice: its order or its transforms are random, so that it is "
            "no set of finitely many points; expected fixed items: leave out random transforms (flips=True adds mirror "
            "images)"
        )


def _item_bytes(item: Any) -> int:
    parts: Iterable[Any] = (
        item.values() if isinstance(item, Mapping) else item if isinstance(item, (tuple, list)) else [item]
    )
    pictures = (part.width * part.height * 4 if is_picture(part) else getattr(part, "nbytes", 64) for part in parts)
    return sum(pictures)

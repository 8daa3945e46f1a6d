"""TrainingSet: the finite law {x1_i, w_i} that a network is trained on, and the digest that names it.

Points stay where they are (a tensor, an array, a memory-mapped file) and in their stored dtype. Everything that reads
them goes through :meth:`TrainingSet.rows`, so a set larger than memory is never copied whole.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.core.memory import check_memory
from flowscope.core.tensors import check_dense, check_is_array, to_numpy
from flowscope.data.augmentations import Augmentations, check_augmentations
from flowscope.data.deviations import check_deviations, deviation_bytes, deviation_pieces, read_rows
from flowscope.data.normaliser import Normaliser
from flowscope.data.rows.file_rows import as_file_rows
from flowscope.data.statistics import PIECE_BYTES, Statistics, hash_blocks, measure_statistics, refuse_infinite
from flowscope.errors import InputError
from flowscope.fields import FLOATS

WORK_VECTORS = 5  # in float64, as long as a point, that a pass over the points holds

LEAST_WEIGHT = 1e-290  # of a positive weight, over the largest


class TrainingSet:
    """The points {x1_i}, i = 1..N, with labels, weights, normalisation and a digest.

    Args:
        points: (N, *shape) finite floating point: a torch tensor, a numpy array or memory map, or a
            :class:`flowscope.data.rows.mapped_rows.MappedRows`. Kept as it is, in its stored dtype.
        labels: (N,) integers; None for no labels.
        weights: (N,) finite, not negative, not all zero; None for equal weights. Only their ratios matter.
        name: what results call this set.
        normalisation: how stored values came from raw ones, for people to read; "none" for as they are.
        class_names: the name of each label, {label: name}, where the source had names; or names of the labels 0..K-1.
        notes: what a reader of results must know of these points, in sentences; results repeat them.
        files: (N,) the name of the file that each point came from, in the source; None where they have none.
        source: where the points came from: a path, or what stands for it; None for the name.
        normaliser: the function that brought the points to their scale, as `load` applied it; None for none.
        origin: how the source was read, {word: value}, for people to read: its format, and options in use.
        deviations: s of data N(m_i, s_i^2) that are drawn anew each time, about the points m_i, as from an
            autoencoder's posterior: one number, or (N, *shape); all above 0. None for points alone.
        augmentations: what else a network is given of the images (C, H, W): "flip" for their mirror images, "shift:K"
            for all shifts by up to K pixels each way, edges repeated. They are made as they are read: point k N + i is
            transformation k of point i.

    Raises:
        InputError: an argument is not of this form; the message says which and how.

    Example:
        >>> import flowscope as fs
        >>> fs.TrainingSet([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], labels=[0, 1, 1], name="corners")
        TrainingSet('corners', N=3, shape=(2,), float64, 2 classes)
    """

    def __init__(
        self,
        points: Any,
        labels: Any = None,
        weights: Any = None,
        name: str | None = None,
        *,
        normalisation: str = "none",
        class_names: Mapping[int, str] | Sequence[str] | None = None,
        notes: Sequence[str] = (),
        files: Sequence[str] | None = None,
        source: str | None = None,
        normaliser: Normaliser | None = None,
        origin: Mapping[str, Any] | None = None,
        deviations: Any = None,
        augmentations: Sequence[str] = (),
    ) -> None:
        self.points = check_points(points)
        self.shape: tuple[int, ...] = tuple(int(n) for n in self.points.shape[1:])
        self.transformations = check_augmentations(augmentations, self.shape)
        self.augmentations = self.transformations.names
        self.deviations = None if deviations is None else check_deviations(deviations, (len(self), *self.shape))
        if (vast := WORK_VECTORS * 8 * self.dimension) > PIECE_BYTES:
            check_memory(
                vast, f"work on points of {self.dimension:,} coordinates", "expected smaller points: resize them"
            )
        self.labels = None if labels is None else check_labels(labels, len(self))
        self.weights = None if weights is None else check_weights(weights, len(self))
        self.name = "points" if name is None else _printable(name)
        self.normalisation = normalisation
        self.class_names = None if class_names is None else check_class_names(class_names)
        self.notes = tuple(_printable(note) for note in notes)
        self.files = None if files is None else check_files(files, len(self))
        self.source = self.name if source is None else _printable(source)
        self.normaliser = normaliser
        self.origin = dict(origin or {})
        self._stored = as_file_rows(self.points)
        self._augmented: TrainingSet | None = None  # the law as a set
        if self.streamed:
            self.statistics = measure_statistics(self, digest=True)  # the one pass refuses what is not finite, too
        else:
            self._check_finite()

    def __len__(self) -> int:
        return int(self.points.shape[0])

    def __repr__(self) -> str:
        classes = "" if self.labels is None else f", {len(self.classes)} classes"
        law = "".join(f", {name}" for name in self.augmentations) + (", deviations" * (self.deviations is not None))
        return f"TrainingSet({self.name!r}, N={len(self)}, shape={self.shape}, {self.dtype}{classes}{law})"

    @property
    def dimension(self) -> int:
        """D, the number of coordinates of a point."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> str:
        """The stored dtype's name, such as "float32"."""
        return str(self.points.dtype).removeprefix("torch.")

    @cached_property
    def classes(self) -> tuple[int, ...]:
        """The labels that occur, ascending; empty without labels."""
        return () if self.labels is None else tuple(int(y) for y in np.unique(self.labels))

    def class_name(self, label: int) -> str:
        """The name of a label: its class name where the source had one, else the number."""
        return (self.class_names or {}).get(label, str(label))

    @property
    def relative_weights(self) -> np.ndarray:
        """(N,) float64 weights divided by the largest, so that sums cannot overflow; ones where none are given."""
        return np.ones(len(self)) if self.weights is None else self.weights / self.weights.max()

    @property
    def own_deviations(self) -> bool:
        """Whether each point has deviations of its own."""
        return self.deviations is not None and not isinstance(self.deviations, float)

    @cached_property
    def least_deviation(self) -> float | None:
        """The least s of the law; None where data are points."""
        if self.deviations is None or isinstance(self.deviations, float):
            return self.deviations
        return min(float(rows.min()) for _, rows in deviation_pieces(self.deviations))

    def rows(self, which: slice | np.ndarray) -> Tensor:
        """Read the chosen points, and only these, as a tensor (n, *shape) in the stored dtype.

        Args:
            which: a slice of the N stored points; or positions, of which k N + i is transformation k of point i.
        """
        return self._transformed(self._read, which)

    def deviation_rows(self, which: slice | np.ndarray) -> Tensor:
        """The deviations of the chosen points, as :meth:`rows` has them, where each point has its own."""
        return self._transformed(partial(read_rows, self.deviations), which)

    def _transformed(self, read: Callable[[slice | np.ndarray], Tensor], which: slice | np.ndarray) -> Tensor:
        """Rows as they are read, with their transformations."""
        if isinstance(which, slice) or len(self.transformations) == 1 or np.asarray(which).dtype == bool:
            return read(which)
        number, at = np.divmod(np.asarray(which), len(self))
        if not number.any():
            return read(which)
        if number.min() < 0 or number.max() >= len(self.transformations):
            raise IndexError(f"positions go beyond the {len(self.transformations)} times {len(self)} points of the law")
        return self.transformations.apply(read(at), number)

    def _read(self, which: slice | np.ndarray) -> Tensor:
        if isinstance(self.points, Tensor):
            if isinstance(which, slice):
                return self.points[which]
            chosen = torch.as_tensor(which, device=self.points.device)
            plain = chosen.ndim == 1 and chosen.dtype == torch.int64 and len(chosen) > 0 and int(chosen.min()) >= 0
            return self.points.index_select(0, chosen) if plain else self.points[chosen]  # twice as fast
        block = np.ascontiguousarray(self._stored[which])
        return torch.from_numpy(block if block.flags.writeable else block.copy())

    def reweighted(self, weights: np.ndarray) -> "TrainingSet":
        """The points alone, with their labels and augmentations, and with other weights (N,)."""
        return TrainingSet(self.points, self.labels, weights, self.name, augmentations=self.augmentations)

    def check_unchanged(self) -> None:
        """Refuse points that are not those that were measured; a look at 256 numbers, which may miss a small change.

        Raises:
            InputError: they were changed in place.
        """
        if not self.streamed and "statistics" in vars(self) and self._glance() != self._measured:
            raise InputError(
                f"{self.name} was changed in place after it was measured; expected the points as they were: make a new "
                "TrainingSet of them, or give it a copy"
            )

    def _glance(self) -> tuple[int, bytes]:
        """What tells whether the points were changed in place: their version, and some numbers of 16 points."""
        at = np.unique(np.linspace(0, len(self) - 1, 16).round().astype(np.int64))
        some = self.rows(at).flatten()
        if self.own_deviations:
            some = torch.cat([some.to(torch.float64), self.deviation_rows(at).flatten().to(some.device, torch.float64)])
        seen = some[:: max(1, len(some) // 256)].cpu().contiguous().view(torch.uint8).numpy().tobytes()
        tensor = isinstance(self.points, Tensor) and not self.points.is_inference()
        return self.points._version if tensor else 0, seen

    @property
    def streamed(self) -> bool:
        """Whether the points lie in a file and are read from it each time they are needed."""
        return bool(getattr(self._stored, "streamed", False))

    @cached_property
    def statistics(self) -> Statistics:
        """What one pass over the points measures; taken once."""
        self._measured = self._glance()
        return measure_statistics(self, digest=False)

    def pieces(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """Yield (position, points) from `start` to `stop` or the end, in order, in pieces of bounded bytes."""
        stop, step = len(self) if stop is None else stop, max(1, PIECE_BYTES // (8 * self.dimension))
        for at in range(start, stop, step):
            yield at, self.rows(slice(at, min(at + step, stop)))

    def blocks(self, rows: int) -> Iterator[tuple[int, Tensor]]:
        """Yield (start, points[start : start + rows]) for every block of that many rows, in order."""
        for start in range(0, len(self), rows):
            yield start, self.rows(slice(start, min(start + rows, len(self))))

    @property
    def draw_order(self) -> np.ndarray:
        """(N,) positions of points in an order that does not hang on the set's own: random numbers choose from it."""
        labels = np.zeros(len(self), np.int64) if self.labels is None else self.labels
        return self.statistics.draw_order(slice(None), labels, self.relative_weights)

    def draw(self, n: int, rng: np.random.Generator, *, replace: bool = True) -> np.ndarray:
        """(n,) positions of points drawn by their weights, whatever the order of the set."""
        order = self.draw_order
        weights = self.relative_weights[order]
        return rng.choice(order, n, replace=replace, p=None if self.weights is None else weights / weights.sum())

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the hashes of blocks of points, and over shape, dtype, labels, weights and normalisation.

        Transformations of points count as points: a set with "flip" has the digest of the images and their mirror
        images, one behind the other. Deviations count where there are any.

        It does not depend on where the points are kept or on how they are read. It has 64 hexadecimal digits and is
        computed once, on first use.
        """
        if len(self.transformations) > 1:
            return augmented(self).digest
        total = hashlib.sha256(f"flowscope-1|{len(self)}|{self.shape}|{self.dtype}|{self.normalisation}|".encode())
        digests = self.statistics.digests if self.streamed else None
        total.update(hash_blocks(self) if digests is None else digests)
        for tag, values in ((b"labels", self.labels), (b"weights", self.weights)):
            total.update(tag)
            if values is not None:
                total.update(hashlib.sha256(values.tobytes()).digest())
        if self.deviations is not None:
            total.update(b"|deviations" + deviation_bytes(self.deviations))
        return total.hexdigest()

    def _check_finite(self) -> None:
        for start, piece in self.pieces():
            if not all(bool(torch.isfinite(part).all()) for part in piece.reshape(-1).split(PIECE_BYTES // 8)):
                refuse_infinite(self.name, start, piece.flatten(1))


class MadeRows(NamedTuple):
    """What is known of points that are made as they are read."""

    shape: tuple[int, ...]
    dtype: Any


class AugmentedSet(TrainingSet):
    """The K N transformed points of a set of N, as a set of its own: point k N + i is transformation k of point i.

    Labels and weights are those of the source's points. Nothing of the points is kept.

    Args:
        source: a set with augmentations.
    """

    def __init__(self, source: TrainingSet) -> None:
        copies = len(source.transformations)
        vars(self).update(
            (name, value) for name, value in vars(source).items() if name not in ("statistics", "digest", "classes")
        )
        self.stored, self._augmented = source, None
        self.points = MadeRows((copies * len(source), *source.shape), source.points.dtype)
        self.labels, self.weights = (None if v is None else np.tile(v, copies) for v in (source.labels, source.weights))
        self.files = None if source.files is None else source.files * copies
        self.transformations, self.augmentations = Augmentations(), ()

    def reweighted(self, weights: np.ndarray) -> TrainingSet:
        """The made points with other weights (K N,)."""
        other = AugmentedSet(self.stored)
        other.weights = check_weights(weights, len(self))
        return other

    @property
    def streamed(self) -> bool:
        """Whether the stored points lie in a file."""
        return self.stored.streamed

    def rows(self, which: slice | np.ndarray) -> Tensor:
        """Make the chosen points, and only these."""
        return self.stored.rows(np.arange(len(self))[which])

    def deviation_rows(self, which: slice | np.ndarray) -> Tensor:
        """The deviations of the chosen points, transformed as they are."""
        return self.stored.deviation_rows(np.arange(len(self))[which])

    def _glance(self) -> tuple[int, bytes]:
        """What tells whether the points of the source, or these, were changed in place."""
        version, seen = super()._glance()
        stored, own = self.stored._glance()
        return version + stored, seen + own


def as_training_set(source: Any) -> TrainingSet:
    """Return a TrainingSet as it is, and make one without labels of an array or a tensor."""
    return source if isinstance(source, TrainingSet) else TrainingSet(source)


def augmented(training_set: TrainingSet) -> TrainingSet:
    """The law of a set as a set: that itself where there are no augmentations; made once."""
    if len(training_set.transformations) == 1:
        return training_set
    if training_set._augmented is None:
        training_set._augmented = AugmentedSet(training_set)
    return training_set._augmented


def points_alone(training_set: Any, who: str) -> TrainingSet:
    """The law of a set as a set of points.

    Args:
        training_set: a TrainingSet, or points.
        who: asks, in the plural, for the message.

    Raises:
        InputError: data are drawn from Gaussians about the points.
    """
    s = as_training_set(training_set)
    if s.deviations is not None:
        raise InputError(
            f"{s.name} has deviations, and {who} know the law of points alone; expected a set without deviations: give "
            "samples of its data as points, or ask Oracle and stages, which know them"
        )
    return augmented(s)


def _printable(name: Any) -> str:
    """A name that can be shown and written: control characters, and bytes of file names that are no text, become ?."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in str(name))


def check_class_names(names: Any) -> dict[int, str]:
    """Check the names of classes and return them by label.

    Args:
        names: {label: name}, or the names of the labels 0..K-1.

    Raises:
        InputError: they are neither.
    """
    given = dict(names) if isinstance(names, Mapping) else dict(enumerate(names)) if not isinstance(names, str) else {}
    if isinstance(names, str) or not all(_is_label(label) and isinstance(name, str) for label, name in given.items()):
        raise InputError(
            f"class_names are {str(names)[:60]!r}; expected {{label: name}}, or the names of the labels 0, 1, ..."
        )
    return {int(label): _printable(name) for label, name in given.items()}


def _is_label(label: Any) -> bool:
    return isinstance(label, (int, np.integer)) and not isinstance(label, bool)


def check_files(files: Any, count: int) -> tuple[str, ...]:
    """Check the names of the files that points came from.

    Raises:
        InputError: they are not one text for each of `count` points.
    """
    names = tuple(files)
    if isinstance(files, str) or len(names) != count or not all(isinstance(name, str) for name in names):
        raise InputError(f"files are {len(names)} names; expected {count}, a text for each point")
    return tuple(map(_printable, names))


def check_points(points: Any) -> Any:
    """Check points and return them as they are kept.

    Raises:
        InputError: they are not (N, *shape) floating point with N >= 1.
    """
    if isinstance(points, (str, bytes)):
        raise InputError(
            f"points are the text {points[:60]!r}; expected an array (use flowscope.load for a name or a file)"
        )
    if isinstance(points, Tensor):
        check_dense(points, "points")
    elif not all(hasattr(points, name) for name in ("shape", "dtype", "__getitem__")):
        check_is_array(points)
        try:
            points = np.asarray(points)
        except ValueError as error:
            raise InputError(f"points are not one array ({error}); expected (N, *shape) floating point") from None
    kind = str(points.dtype).removeprefix("torch.")
    if isinstance(points, Tensor):
        points = points.detach().resolve_neg()
        points = points.cpu() if points.device.type == "mps" else points  # mps has no float64
        floating = points.dtype in FLOATS
    else:
        floating = np.dtype(points.dtype).kind == "f" and kind in ("float16", "float32", "float64")
    if not floating:
        raise InputError(
            f"points have dtype {kind}; expected float16, bfloat16, float32 or float64: "
            "convert them, or save pixels as uint8, which flowscope.load maps to [-1, 1]"
        )
    if len(points.shape) < 2:
        raise InputError(
            f"points have shape {tuple(points.shape)}; expected (N, *shape) with at least one coordinate axis"
        )
    if 0 in points.shape:
        what = "points" if points.shape[0] == 0 else "coordinates"
        raise InputError(f"points have shape {tuple(points.shape)}: there are no {what}; expected at least one")
    return points


def check_labels(labels: Any, count: int) -> np.ndarray:
    """Check labels and return them as (count,) int64.

    Raises:
        InputError: they are not (count,) integers below 2^63, or whole floats that their dtype holds exactly.
    """
    array = to_numpy(labels, "labels")
    if array.shape != (count,):
        raise InputError(f"labels have shape {array.shape}; expected ({count},), one for each point")
    if array.dtype.kind == "f" and bool((array == np.trunc(array)).all()):
        dtype = labels.dtype if isinstance(labels, Tensor) else array.dtype
        _check_exact(float(np.abs(array).max()), dtype)
        return np.ascontiguousarray(array, dtype=np.int64)
    if array.dtype.kind not in "iu":
        raise InputError(f"labels have dtype {array.dtype}; expected integers")
    if array.dtype == np.uint64 and (array > np.iinfo(np.int64).max).any():
        raise InputError(f"labels go up to {array.max()}; expected integers below 2^63")
    return np.ascontiguousarray(array, dtype=np.int64)


def _check_exact(largest: float, dtype: Any) -> None:
    """Refuse whole floats so large that their dtype, torch's or numpy's, may have rounded them."""
    info: Any = torch.finfo(dtype) if isinstance(dtype, torch.dtype) else np.finfo(dtype)
    exact, kind = int(2 / float(info.eps)), str(dtype).removeprefix("torch.")
    if not largest < exact:
        raise InputError(
            f"labels have dtype {kind} and go up to {largest:g}; {kind} rounds integers from {exact} on: expected "
            "integers: save them as int64"
        )


def check_weights(weights: Any, count: int) -> np.ndarray:
    """Check weights and return them as (count,) float64.

    Raises:
        InputError: they are not (count,) finite numbers, none negative and not all zero.
    """
    array = to_numpy(weights, "weights")
    if array.shape != (count,):
        raise InputError(f"weights have shape {array.shape}; expected ({count},), one for each point")
    if array.dtype.kind not in "iuf":
        raise InputError(f"weights have dtype {array.dtype}; expected real numbers")
    array = np.ascontiguousarray(array, dtype=np.float64)
    if not np.isfinite(array).all() or (array < 0).any() or not (array > 0).any():
        wrong = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
        got = f"weight {wrong[0]} is {array[wrong[0]]}" if len(wrong) else "all weights are 0"
        raise InputError(
            f"{got}; expected finite weights that are not negative and not all zero: correct or leave them out"
        )
    least = float(array[array > 0].min()) / float(array.max())
    if least < LEAST_WEIGHT:
        raise InputError(
            f"the smallest positive weight is {least:.1e} of the largest; expected at least {LEAST_WEIGHT:.0e} of it, "
            "where float64 keeps all digits: make smaller ones 0"
        )
    return array

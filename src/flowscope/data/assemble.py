"""From a source to a TrainingSet: points are chosen, decoded and mapped; large sets are mapped as they are read."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.core.memory import check_memory
from flowscope.core.tensors import check_dense
from flowscope.data.augmentations import FLIP
from flowscope.data.deviations import read_rows
from flowscope.data.image_cache import CachePolicy, decode_cached
from flowscope.data.loaders.images import Decoded, EncodedImages
from flowscope.data.loaders.pictures import BACKGROUND, Shown
from flowscope.data.loaders.source import Source, is_pixels
from flowscope.data.meaning import find_meaning, refuse_for_pixels
from flowscope.data.normalise import find_wanted, make_normaliser
from flowscope.data.normaliser import NONE, Normaliser
from flowscope.data.options import Options, choose
from flowscope.data.pixels import chain, row_functions
from flowscope.data.posterior import choose_posterior
from flowscope.data.rows.mapped_rows import MappedRows, RowFunction
from flowscope.data.training_set import (
    TrainingSet,
    check_class_names,
    check_files,
    check_labels,
    check_points,
    check_weights,
)
from flowscope.errors import InputError

BLOCK_BYTES = 32 << 20  # of points in float64, at most, that are mapped at a time


class Reading(NamedTuple):
    """How images are read, which changes nothing of what is read.

    Attributes:
        cache: what is kept of decoded images; None for no cache.
        progress: called as progress(done, total) after every few images.
    """

    cache: CachePolicy | None = None
    progress: Callable[[int, int], None] | None = None


def assemble(source: Source, options: Options, name: str | None, how: Reading = Reading()) -> TrainingSet:
    """Apply the options to a source.

    Args:
        source: what a loader found.
        options: what the user asked for.
        name: of the set; None for the source's name with the options in use.
        how: images are read.

    Raises:
        InputError: the values are no points, or an option does not apply to them.
    """
    encoded, origin = isinstance(source.values, EncodedImages), {"flips": False, **source.origin, **options.in_use}
    values = source.values if encoded else _check_values(source.values)
    labels = None if source.labels is None else check_labels(source.labels, len(values))
    weights = None if source.weights is None else check_weights(source.weights, len(values))
    names = None if source.class_names is None else check_class_names(source.class_names)
    files = None if source.files is None else np.array(check_files(source.files, len(values)), dtype=object)
    index = choose(len(values), labels, names, options)
    called = _name(source, options) if name is None else name
    if encoded:
        refuse_for_pixels(options)  # before the work
        decoded = _decode(values, index, options, how)
        pixels, index, skipped = decoded.pixels, decoded.positions, decoded.skipped
        called += f" ({skipped} broken left out)" if skipped else ""
        broken = (f"Broken images were left out: {skipped:,}.",) if skipped else ()
        source = replace(source, values=pixels, notes=source.notes + broken + _lost(decoded))
        options = replace(options, layout="chw")
    elif options.skip_broken:
        raise InputError("skip_broken applies to image files and JPEG bytes; the source holds plain numbers")
    else:
        source = replace(source, values=values)
    source, options = _as_stated(source, options)
    points, normalisation, normaliser = _points(source, None if encoded else index, options)
    twins = _has_twins(source, options)
    labels, weights, files = (_keep(of_each, index, twins) for of_each in (labels, weights, files))
    return TrainingSet(
        points,
        labels,
        weights,
        called,
        normalisation=normalisation,
        class_names=names,
        notes=source.notes + _scale_note(source, options, normaliser),
        files=None if files is None else files.tolist(),
        source=source.where,
        normaliser=source.normaliser if normaliser is None else normaliser,
        origin={**origin, "flips": origin["flips"] if options.flips is None else options.flips},
        deviations=_deviations(source, index, options),
        augmentations=_augmentations(source, options),
    )


def _has_twins(source: Source, options: Options) -> bool:
    """Whether codes of mirror images, which are points of their own, are read with those of the images."""
    return bool(options.flips) and source.latents


def _augmentations(source: Source, options: Options) -> tuple[str, ...]:
    """Those of the source, with or without flips where the user says so: mirror images are made as they are read."""
    others = tuple(name for name in source.augmentations if name != FLIP)
    flips = FLIP in source.augmentations if options.flips is None or source.latents else options.flips
    return ((FLIP,) if flips else ()) + others


def _deviations(source: Source, index: np.ndarray | None, options: Options) -> Any:
    """The deviations of the chosen points.

    Raises:
        InputError: the points are scaled or changed in shape, and their deviations are not.
    """
    kept: Any = source.deviations
    if kept is not None and not isinstance(kept, float) and index is not None:
        kept = read_rows(kept, index)
    changed = [name for name in ("resize", "grey", "layout", "assume", "normalise") if name in options.in_use]
    if kept is not None and changed:
        raise InputError(
            f"{changed[0]} applies to points, and {source.name} has deviations, which it does not change; expected a "
            "TrainingSet of the changed points with deviations of their scale"
        )
    return kept


def _keep(of_each: np.ndarray | None, index: np.ndarray | None, twins: bool) -> np.ndarray | None:
    """Labels, weights or files of the chosen points, repeated for the codes of their mirror images."""
    if of_each is None:
        return None
    return np.tile(of_each if index is None else of_each[index], 2 if twins else 1)


def _name(source: Source, options: Options) -> str:
    return f"{source.name} ({options.note})" if options.note else source.name


def _decode(images: EncodedImages, index: np.ndarray | None, options: Options, how: Reading) -> Decoded:
    if options.layout is not None:
        raise InputError(f"layout is {options.layout!r} and applies to arrays; image files need none")
    positions = np.arange(len(images)) if index is None else index
    shown = Shown(options.resize, options.crop, options.grey)
    decode = partial(images.decode, positions, shown, options.skip_broken, progress=how.progress)
    return decode_cached(images, positions, options, how.cache, decode)


def _lost(decoded: Decoded) -> tuple[str, ...]:
    """The notes on what of images is not in the points, counted."""
    said = {
        f"Transparent pixels are shown on {BACKGROUND}, in {decoded.transparent:,} images.": decoded.transparent,
        f"The first frame or page alone was read, of {decoded.frames:,} images with several.": decoded.frames,
        f"Colours were converted from CMYK to RGB without a colour profile, in {decoded.cmyk:,} images.": decoded.cmyk,
    }
    return tuple(note for note, count in said.items() if count)


def _check_values(values: Any) -> Any:
    """Refuse values that are neither points nor pixels, before any option is applied to them."""
    if isinstance(values, Tensor):
        check_dense(values, "points")
    if not is_pixels(values):
        return check_points(values)
    if len(values.shape) < 2 or 0 in values.shape:
        raise InputError(f"pixels have shape {tuple(values.shape)}; expected (N, D) or images, with at least one point")
    return values


def _as_stated(source: Source, options: Options) -> tuple[Source, Options]:
    """The source with one point a posterior, and flips where its format states them; its notes say so."""
    source, notes = choose_posterior(source, options)
    if source.flipped is not None and options.flips is None:
        options = replace(options, flips=True)
        both = f"{len(source.values):,} latents were read with those of their mirror images"
        notes += (f"Both orientations are points, as the format states: {both} (--no-flips for the latents alone).",)
    return replace(source, notes=source.notes + notes), options


def _scale_note(source: Source, options: Options, normaliser: Normaliser | None) -> tuple[str, ...]:
    """The note on a normaliser that the format states, and nobody asked for."""
    if options.normalise is not None or normaliser is None or source.statistics is None:
        return ()
    by = f"{source.statistics.name}, as the format states: {normaliser}"
    return (f"Latents are normalised by {by} (--normalise none for latents as they are stored).",)


def _points(source: Source, index: np.ndarray | None, options: Options) -> tuple[Any, str, Normaliser | None]:
    """The points, their normalisation in words, and their normaliser.

    They are as they are stored if nothing changes them, else mapped at once or as they are read, by their size.
    """
    values = source.values
    function, normalisation = find_meaning(source, values, options)
    functions, wanted = row_functions(source, options, function), find_wanted(source, options)
    twins = _has_twins(source, options)
    untouched = index is None and not functions and not twins and wanted == NONE
    if untouched and not isinstance(values, MappedRows):
        return values, normalisation, None
    parts = [values, *([source.flipped] if twins else [])]
    # numpy has neither bfloat16 nor other devices; the way there and back loses nothing
    foreign = isinstance(values, Tensor) and (values.device.type != "cpu" or values.dtype == torch.bfloat16)
    if foreign:
        kept = len(values) if index is None else len(index)
        check_memory(4 * values[:1].numel() * kept, "points of bfloat16 as float32", "take a part of them (subset)")
        parts, index = [_chosen_array(part, index) for part in parts], None
    rows = _mapped([part.numpy() if isinstance(part, Tensor) else part for part in parts], index, functions)
    normaliser = make_normaliser(wanted, source, rows)
    if normaliser is not None:
        rows = MappedRows([rows], normaliser)
        normalisation = str(normaliser) if normalisation == "none" else f"{normalisation}; {normaliser}"
    made: Any = rows if _bytes(rows) > options.eager_bytes and not foreign else _read_all(rows)
    if isinstance(values, Tensor) and isinstance(made, np.ndarray):
        made = torch.from_numpy(made)
        changed = function is not None or normaliser is not None
        made = made if not foreign else made.to(values.device, made.dtype if changed else values.dtype)
    return made, normalisation, normaliser


def _chosen_array(values: Tensor, index: np.ndarray | None) -> np.ndarray:
    chosen = values if index is None else values[torch.as_tensor(index, device=values.device)]
    return (chosen.float() if chosen.dtype == torch.bfloat16 else chosen).cpu().numpy()


def _mapped(parts: list[Any], index: np.ndarray | None, functions: list[RowFunction]) -> MappedRows:
    """The chosen rows of the values, and behind them their twins, if asked for."""
    each = [MappedRows([part], partial(chain, functions), index) for part in parts]
    return each[0] if len(each) == 1 else MappedRows(each)


def _bytes(rows: MappedRows) -> int:
    return math.prod(rows.shape) * rows.dtype.itemsize


def _read_all(rows: MappedRows) -> np.ndarray:
    """The rows as one array, made block by block so that nothing but the result is large."""
    row = math.prod(rows.shape[1:])
    step = max(1, BLOCK_BYTES // (8 * row))
    wanted = _bytes(rows) + 2 * min(step, len(rows)) * row * rows.dtype.itemsize
    check_memory(wanted, f"points of shape {rows.shape}", "take a part of them (subset), or shrink them (resize)")
    whole = np.empty(rows.shape, rows.dtype)
    for start in range(0, len(rows), step):
        whole[start : start + step] = rows[start : start + step]
    return whole

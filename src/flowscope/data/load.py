"""load: find out what a source of points is, and read it by the loader of its format."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from flowscope.core.tensors import check_dense
from flowscope.data.assemble import assemble
from flowscope.data.loaders.builtin import EXAMPLES, NAMED, SYNTHETIC, is_builtin, load_builtin
from flowscope.data.loaders.images import load_folder
from flowscope.data.loaders.npy import load_npy
from flowscope.data.loaders.npz import load_npz
from flowscope.data.loaders.pt import load_pt
from flowscope.data.loaders.safetensors import load_safetensors
from flowscope.data.loaders.source import Source, native
from flowscope.data.options import Options, check_options
from flowscope.data.rows.mapped_rows import MappedRows
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError, did_you_mean

READERS: dict[str, Callable[[Path], Source]] = {
    ".npy": load_npy,
    ".npz": load_npz,
    ".safetensors": load_safetensors,
    ".pt": load_pt,
    ".pth": load_pt,
}


def load(
    source: Any,
    *,
    labels: Any = None,
    weights: Any = None,
    name: str | None = None,
    resize: int | tuple[int, int] | None = None,
    grey: bool = False,
    flips: bool = False,
    subset: int | None = None,
    classes: Any = None,
    skip_broken: bool = False,
    layout: str | None = None,
    seed: int = 0,
) -> TrainingSet:
    """Make a TrainingSet of nearly anything.

    uint8 values are pixels: images become (C, H, W) and values value / 127.5 - 1, float32 in [-1, 1]. Floating-point
    values are taken as they are. Points of more than 1 GiB stay in their file and are mapped as they are read.

    Args:
        source: an array, tensor or TrainingSet; a name ("digits", "mnist5k", "gaussian:N=1400,D=4096,seed=0",
            "mixture:N=1000,D=64,modes=10,spread=0.1,seed=0"); a file (.npy, .npz, .safetensors, .pt, .pth); or a folder
            of .safetensors shards or of images, whose subfolders are classes. A name wins over a file of that name.
        labels: (N,) integers for the whole source, in place of its own.
        weights: (N,) weights for the whole source, in place of its own.
        name: what results call the set.
        resize: (H, W) in pixels, or the side of a square, to which images are resized; bilinear, antialiased.
        grey: turn three channels into one, by ITU-R BT.601.
        flips: add the horizontal mirror image of every image: 2 N points, the mirror image of point i at N + i.
        subset: how many points to keep, drawn without replacement, in their order in the source.
        classes: keep the points of this label or class name, or of several; labels stay as they are.
        skip_broken: leave out images that cannot be read instead of refusing the source.
        layout: "chw" or "hwc": how the axes of images in an array lie, where their shape does not tell.
        seed: of the draw of `subset`.

    Raises:
        InputError: the source is unknown, missing, damaged or no set of points, or an option does not apply to it.
        MissingExtraError: the source needs a package that is not installed.

    Example:
        >>> import flowscope as fs
        >>> fs.load("digits", classes=[3, 8], subset=100)
        TrainingSet('digits (class 3, 8; subset 100, seed 0)', N=100, shape=(1, 8, 8), float32, 2 classes)
    """
    options = check_options(
        resize=resize,
        grey=grey,
        flips=flips,
        subset=subset,
        classes=classes,
        skip_broken=skip_broken,
        layout=layout,
        seed=seed,
    )
    plain = labels is None and weights is None and name is None and options == Options(seed=options.seed)
    if isinstance(source, TrainingSet) and plain:
        return source
    found = _to_source(source)
    if labels is not None:
        found = replace(found, labels=labels, class_names=None)
    if weights is not None:
        found = replace(found, weights=weights)
    return assemble(found, options, name)


def _to_source(source: Any) -> Source:
    if isinstance(source, TrainingSet):
        return Source(
            source.points, source.name, source.labels, source.weights, source.class_names, source.normalisation
        )
    if isinstance(source, str) and is_builtin(source):
        return load_builtin(source)
    if isinstance(source, (str, os.PathLike)):
        return _read_path(os.fsdecode(source))
    return Source(_as_array(source), "points")


def _as_array(source: Any) -> Any:
    if isinstance(source, Tensor):
        check_dense(source, "points")
        return source.detach().resolve_neg()
    if isinstance(source, MappedRows):
        return source
    try:
        return native(source if isinstance(source, np.ndarray) else np.asarray(source))
    except ValueError as error:
        raise InputError(
            f"points are not one array ({error}); expected (N, *shape): are the rows of one length?"
        ) from None


def _read_path(text: str) -> Source:
    """Read what lies at a path by the loader of its suffix, or as a folder."""
    path = Path(text)
    reader = READERS.get(path.suffix.lower())
    if os.path.isdir(text):
        return load_safetensors(path) if any(path.glob("*.safetensors")) else load_folder(path)
    if os.path.isfile(text) and reader is not None:
        return reader(path)
    files = f"a file ({', '.join(READERS)}) or a folder of images or .safetensors"
    if os.path.exists(text):
        raise InputError(f"{text!r} is no kind of file that flowscope reads; expected {files}")
    if reader is not None or os.path.basename(text) != text:
        raise InputError(f"there is no file or folder {text!r}; expected {files}: check the path")
    meant = did_you_mean(text.partition(":")[0], [*NAMED, *SYNTHETIC])
    raise InputError(f"{text!r} is an unknown source; expected a name ({EXAMPLES}), {files}{meant}")

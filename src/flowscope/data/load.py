"""load: find out what a source of points is, and read it by the loader of its format."""

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from flowscope.core.progress import Progress, with_progress
from flowscope.core.tensors import check_dense, check_is_array
from flowscope.data.assemble import Reading, assemble
from flowscope.data.image_cache import CachePolicy
from flowscope.data.loaders.archive import ARCHIVES
from flowscope.data.loaders.builtin import EXAMPLES, NAMED, SYNTHETIC, is_builtin, load_builtin
from flowscope.data.loaders.cifar import holds_batches, is_batch, load_batch, load_batch_folder
from flowscope.data.loaders.csv_table import load_csv
from flowscope.data.loaders.hdf5 import load_hdf5
from flowscope.data.loaders.hub import (
    HUB_NAME,
    HUB_PREFIX,
    is_hub_object,
    is_repository,
    is_saved,
    load_hub,
    load_object,
    load_parquet,
    load_repository,
    load_saved,
)
from flowscope.data.loaders.image_folder import find_split, load_archive, load_folder, load_tar_shards
from flowscope.data.loaders.latent_cache import is_cache, load_cache
from flowscope.data.loaders.npy import load_npy
from flowscope.data.loaders.npz import load_npz
from flowscope.data.loaders.part import Part
from flowscope.data.loaders.pt import load_pt
from flowscope.data.loaders.python_sets import load_torch
from flowscope.data.loaders.safetensors import load_safetensors
from flowscope.data.loaders.shards import holds_only
from flowscope.data.loaders.source import Source, native
from flowscope.data.normaliser import Normaliser
from flowscope.data.options import Options, check_options
from flowscope.data.rows.mapped_rows import MappedRows
from flowscope.data.training_set import TrainingSet
from flowscope.errors import FlowscopeWarning, InputError, did_you_mean

READERS: dict[str, Callable[[Path], Source]] = {
    ".npy": load_npy,
    ".npz": load_npz,
    ".safetensors": load_safetensors,
    ".pt": load_pt,
    ".pth": load_pt,
}
PartReader = Callable[[Path, Part], Source]  # of what may have several parts or columns
PART_READERS: dict[str, PartReader] = {**dict.fromkeys(ARCHIVES, load_archive), ".parquet": load_parquet}
PART_READERS |= {".h5": load_hdf5, ".hdf5": load_hdf5, ".csv": load_csv, ".bin": load_batch}
FOLDER_READERS: tuple[tuple[Callable[[Path], bool], PartReader, str], ...] = (
    (is_saved, load_saved, "folder of save_to_disk"),
    (is_repository, load_repository, "repository of the hub"),
    (holds_batches, load_batch_folder, "folder of CIFAR's batches"),
    (partial(holds_only, suffix=".tar"), load_tar_shards, "folder of .tar"),
    (partial(holds_only, suffix=".parquet"), load_parquet, "folder of .parquet"),
)


@with_progress
def load(
    source: Any,
    *,
    labels: Any = None,
    weights: Any = None,
    name: str | None = None,
    resize: int | tuple[int, int] | None = None,
    crop: str | None = None,
    grey: bool = False,
    flips: bool | None = None,
    subset: int | None = None,
    classes: Any = None,
    skip_broken: bool = False,
    layout: str | None = None,
    assume: str | None = None,
    split: str | None = None,
    columns: str | Sequence[str] | None = None,
    normalise: str | os.PathLike[str] | Normaliser | None = None,
    posterior: str | None = None,
    seed: int = 0,
    cache: bool | CachePolicy = False,
    progress: Progress | None = None,
) -> TrainingSet:
    """Make a TrainingSet of nearly anything.

    uint8 values are pixels: images become (C, H, W) and values value / 127.5 - 1, float32 in [-1, 1]. Floating-point
    values are taken as they are. Points of more than 1 GiB stay in their file and are mapped as they are read.

    Where a source leaves open what it means, it is refused, and the message names the option that answers: floats with
    the shape of images (1, 3 or 4 channels or no axis of them, sides of at least 8) that have no value below 0
    (`assume`) or channels last (`layout`), folders of train, val and test (`split`), latents whose format has a scale
    that is not beside them (`normalise`), and posteriors (`posterior`). What is skipped or decided is said in a
    FlowscopeWarning and in the `notes` of the set.

    Args:
        source: an array, tensor or TrainingSet; a Dataset or DataLoader of torch, a Dataset of `datasets`; a name
            ("digits", "mnist5k", "gaussian:N=1400,D=4096,seed=0", "mixture:N=1000,D=64,modes=10,spread=0.1,seed=0",
            "hf:owner/name" of Hugging Face's hub); a file (.npy, .npz, .safetensors, .pt, .pth, .h5, .csv, .parquet); a
            folder of .safetensors shards, of what `save_to_disk` wrote, of images, whose subfolders are classes, or of
            arrays (.npy, .pt), a point a file; or an archive of images or .npy (.zip, .tar, .tar.gz). A name wins over
            a file of that name.
        labels: (N,) integers for the whole source, in place of its own.
        weights: (N,) weights for the whole source, in place of its own.
        name: what results call the set.
        resize: (H, W) in pixels, or the side of a square, to which images are resized; bilinear, antialiased.
        crop: "center" for the centre crop of ADM (guided-diffusion) to a square whose side is `resize`: halve by BOX,
            go on by BICUBIC to the short side, cut out the centre.
        grey: turn three channels into one, by ITU-R BT.601.
        flips: add the horizontal mirror image of every image to the law: the set has the augmentation "flip", and
            mirror images are made as they are read; of latents, the codes of mirror images that are stored with them:
            2 N points. None for what the format states: both orientations where `latents_flip` is stored
            (LightningDiT), else none.
        subset: how many points to keep, drawn without replacement, in their order in the source.
        classes: keep the points of this class, or of several: an integer is a label, a text a class name. Labels stay
            as they are.
        skip_broken: leave out images that cannot be read instead of refusing the source.
        layout: "chw" or "hwc": how the axes of images in an array lie, where their shape does not tell.
        assume: what floats with the shape of images are: "[0,1]" or "[0,255]" maps this interval to [-1, 1], "[-1,1]"
            takes them as they are and refuses others, "stored" takes them as they are.
        split: the subfolder of a folder of train, val and test that is read; "none" where these are classes.
        columns: the columns of a table that are looked at, as texts or as one with commas, where several may be the
            points or the labels.
        normalise: the scale of latents and other floats, last of all: "none"; "scale:0.18215"; "lightningdit" for
            (value - mean)/std by the `latents_stats.pt` beside latents, "lightningdit:0.5" with a multiplier;
            "channel" for mean and std by channel (the first axis of a point) of the kept points themselves; a file with
            mean and std (.pt, .npz, .safetensors; .npy with one behind the other); or the `normaliser` of another set.
            None for what the format states: the statistics beside LightningDiT's latents, else none.
        posterior: of latents that are stored as mean and standard deviation (REPA, EDM2), "mean" takes the means,
            "sample" draws one of each.
        seed: of the draws of `subset` and `posterior`.
        cache: keep the decoded images of a large folder or archive in a file of the user's cache, and read them from
            there while neither they nor the options change; the command line does, unless --no-cache is given.
        progress: called as progress(done, total) after every few images; True for a bar of tqdm.

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
        crop=crop,
        grey=grey,
        flips=flips,
        subset=subset,
        classes=classes,
        skip_broken=skip_broken,
        layout=layout,
        assume=assume,
        normalise=normalise,
        posterior=posterior,
        seed=seed,
    )
    plain = labels is None and weights is None and name is None and options == Options(seed=options.seed)
    if isinstance(source, TrainingSet) and plain and split is None and columns is None:
        return source
    found = _to_source(source, Part(split, columns))
    made = assemble(_with_own(found, labels, weights), options, name, Reading(_policy(cache), progress))
    if labels is None and weights is None and options == Options(seed=options.seed):
        _check_digest(found, made)
    for note in made.notes if not isinstance(source, TrainingSet) else ():
        warnings.warn(f"{made.name}: {note}", FlowscopeWarning, stacklevel=2)
    return made


def _policy(cache: Any) -> CachePolicy | None:
    if isinstance(cache, CachePolicy):
        return cache
    if not isinstance(cache, (bool, np.bool_)):
        raise InputError(f"cache is {cache!r}; expected True or False")
    return CachePolicy() if cache else None


def _check_digest(found: Source, made: TrainingSet) -> None:
    """Refuse a whole set whose digest is not the one that its file states."""
    if found.digest is not None and made.digest != found.digest:
        raise InputError(
            f"{found.where} states the digest {found.digest} and holds points of the digest {made.digest}; expected "
            "the same: it is damaged, or was changed: pack the source again"
        )


def _with_own(found: Source, labels: Any, weights: Any) -> Source:
    """A source with the user's labels and weights in place of its own."""
    found = found if labels is None else replace(found, labels=labels, class_names=None)
    return found if weights is None else replace(found, weights=weights)


def _to_source(source: Any, part: Part) -> Source:
    if isinstance(source, str) and source.startswith(HUB_PREFIX):
        return _of_format(replace(load_hub(source, part), where=source), "data set of the hub")
    if isinstance(source, (str, os.PathLike)) and not (isinstance(source, str) and is_builtin(source)):
        text = os.fsdecode(source)
        found = _read_path(text, part)
        chosen = {name: value for name, value in part._asdict().items() if value is not None}
        return replace(found, where=text, origin={**found.origin, **chosen})
    if is_hub_object(source):
        return load_object(source, part)
    part.refuse_split(f"{str(source)[:60]!r}")
    part.refuse_columns(f"{str(source)[:60]!r}")
    if isinstance(source, TrainingSet):
        return Source(
            source.points,
            source.name,
            source.labels,
            source.weights,
            source.class_names,
            source.normalisation,
            known=True,
            notes=source.notes,
            files=source.files,
            where=source.source,
            normaliser=source.normaliser,
            deviations=source.deviations,
            augmentations=source.augmentations,
            origin=source.origin,
        )
    if isinstance(source, str):
        return replace(load_builtin(source), known=True, where=source, origin={"format": "set by name"})
    if isinstance(source, (Dataset, DataLoader)):
        return load_torch(source)
    return Source(_as_array(source), "points")


def _as_array(source: Any) -> Any:
    if isinstance(source, Tensor):
        check_dense(source, "points")
        return source.detach().resolve_neg()
    if isinstance(source, MappedRows):
        return source
    check_is_array(source)
    try:
        return native(source if isinstance(source, np.ndarray) else np.asarray(source))
    except ValueError as error:
        raise InputError(
            f"points are not one array ({error}); expected (N, *shape): are the rows of one length?"
        ) from None


def _read_path(text: str, part: Part) -> Source:
    """Read what lies at a path by the loader of its suffix, or as a folder."""
    path = Path(text)
    suffix = path.suffix.lower()
    if os.path.isdir(text):
        return _read_folder(path, part)
    if os.path.isfile(text) and suffix in PART_READERS:
        return _of_format(PART_READERS[suffix](path, part), f"{suffix} file")
    if os.path.isfile(text) and is_batch(path):
        return _of_format(load_batch(path, part), "CIFAR's batch")
    part.refuse_split(repr(text))
    part.refuse_columns(repr(text))
    if os.path.isfile(text) and suffix in READERS:
        return _of_format(READERS[suffix](path), f"{suffix} file")
    known = [*READERS, *PART_READERS]
    files = f"a file ({', '.join(known)}) or a folder of images or .safetensors"
    if os.path.exists(text):
        raise InputError(f"{text!r} is no kind of file that flowscope reads; expected {files}")
    if suffix in known or os.path.basename(text) != text:
        hub = f", or type {HUB_PREFIX}{text} for a data set of the hub" if HUB_NAME.fullmatch(text) else ""
        raise InputError(f"there is no file or folder {text!r}; expected {files}: check the path{hub}")
    meant = did_you_mean(text.partition(":")[0], [*NAMED, *SYNTHETIC])
    raise InputError(f"{text!r} is an unknown source; expected a name ({EXAMPLES}), {files}{meant}")


def _of_format(found: Source, kind: str) -> Source:
    """A source with the name of its format, unless its loader knows better."""
    return replace(found, origin={"format": kind, **found.origin})


def _read_folder(path: Path, part: Part) -> Source:
    """Read a folder, or the one of its subfolders that is asked for, by what lies in it."""
    for is_one, read, kind in FOLDER_READERS:
        if is_one(path):
            return _of_format(read(path, part), kind)
    chosen = find_split(path, part.split)
    if chosen != path:
        found = _read_folder(chosen, part._replace(split="none"))
        return replace(found, name=f"{path.resolve().name}/{part.split}")
    part.refuse_columns(str(path))
    if not any(path.glob("*.safetensors")):
        return _of_format(load_folder(path), "folder of images")
    if is_cache(path):
        return _of_format(load_cache(path), "folder of cached latents")
    return _of_format(load_safetensors(path), "folder of .safetensors")

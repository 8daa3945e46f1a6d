"""Data sets of Python: what torch's Dataset and DataLoader give is the set, or is refused."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from flowscope.data import load
from flowscope.errors import FlowscopeWarning
from tests.support import formats
from tests.support.formats import LABELS, PIXELS
from tests.support.refusals import refused

POINTS = torch.from_numpy(formats.points_of())


class Items(Dataset):
    def __init__(self, make, count=12):
        self.make, self.count = make, count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        return self.make(i)


class Stream(IterableDataset):
    def __init__(self, make, count=12):
        self.make, self.count = make, count

    def __iter__(self):
        return map(self.make, range(self.count))


FORMS = {
    "(x, y)": lambda i: (POINTS[i], int(LABELS[i])),
    "y a tensor": lambda i: [POINTS[i], torch.tensor(LABELS[i])],
    "dict": lambda i: {"image": POINTS[i].numpy(), "label": LABELS[i]},
    "pixels": lambda i: (PIXELS[i], LABELS[i]),
    "pictures": lambda i: (Image.fromarray(PIXELS[i]), LABELS[i]),
    "names": lambda i: (POINTS[i], formats.CLASSES[LABELS[i]]),
}


@pytest.mark.parametrize("kind", [Items, Stream])
@pytest.mark.parametrize("form", FORMS)
def test_items_of_every_form_are_the_points_and_labels(kind, form):
    data = load(kind(FORMS[form]))
    np.testing.assert_array_equal(np.asarray(data.points), POINTS.numpy())
    assert data.labels.tolist() == LABELS.tolist() and data.notes == ()
    assert data.class_names == (dict(enumerate(formats.CLASSES)) if form == "names" else None)
    assert load(kind(lambda i: POINTS[i])).labels is None


def test_names_of_classes_are_those_that_the_data_set_has():
    items = Items(FORMS["pictures"])
    items.classes = ["ant", "bee", "cat"]  # as torchvision's ImageFolder has them
    assert load(items, classes="bee").labels.tolist() == [1] * 4


def test_floats_are_asked_about_as_those_of_arrays_are():
    bright = Items(lambda i: POINTS[i] * 0.5 + 0.5)
    refused(bright, "assume")
    np.testing.assert_allclose(load(bright, assume="[0,1]").points, POINTS, atol=1e-6)


def test_pictures_of_several_sizes_are_resized():
    mixed = Items(lambda i: Image.fromarray(PIXELS[i][: 9 - i % 2]))
    refused(mixed, "images differ in size")
    assert load(mixed, resize=6).shape == (3, 6, 6)


@pytest.mark.parametrize("kind", [Items, Stream])
def test_random_items_are_refused(kind):
    rng = np.random.default_rng(0)
    for make in (lambda i: POINTS[i] + rng.random(), lambda i: POINTS[i].flip(-1) if rng.random() < 0.5 else POINTS[i]):
        refused(kind(make), "differs when it is read twice")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda i: "text", "is a str"),
        (lambda i: (POINTS[i], 0, 1), "a tuple of 3"),
        (lambda i: (0.5, 1), "expected items x"),
        (lambda i: {"picture": POINTS[i]}, "dicts with picture"),
        (lambda i: {"image": POINTS[i], "x": POINTS[i]}, "dicts with image and x"),
        (lambda i: (POINTS[i], POINTS[i]), "expected a label, one whole number"),
        (lambda i: (POINTS[i], 0.5), "expected a label, one whole number"),
        (lambda i: POINTS[i][:, : 9 - i], "expected one shape"),
        (lambda i: (POINTS[i], None if i else 3), "has no label for item 1"),
        (lambda i: torch.tensor(1.0), "is one number"),
    ],
)
def test_items_of_no_known_form_are_refused(make, said):
    refused(Items(make, 3), said)
    refused(Stream(make, 3), said)


def test_an_empty_data_set_and_what_is_not_read():
    refused(Items(FORMS["(x, y)"], 0), "has no items")
    with pytest.warns(FlowscopeWarning, match="was not read: caption"):
        load(Items(lambda i: {"x": POINTS[i], "caption": "a"}))


# loaders


def test_a_loader_is_its_data_set_whatever_the_order():
    items = Items(FORMS["pixels"])
    expected = load(items).digest
    for loader in (DataLoader(items, 5), DataLoader(items, 5, shuffle=True), DataLoader(Stream(FORMS["pixels"]), 5)):
        assert load(loader).digest == expected
    tensors = TensorDataset(POINTS, torch.from_numpy(LABELS))
    assert load(DataLoader(tensors, 4, shuffle=True)).digest == load(tensors).digest
    assert len(load(DataLoader(items, sampler=SubsetRandomSampler([3, 1, 8])))) == 3
    assert load(Subset(tensors, [5, 0])).labels.tolist() == [1, 0]


def test_drop_last_is_said():
    items = Items(FORMS["pixels"])
    with pytest.warns(FlowscopeWarning, match="drop_last leaves out the last 2 of 12 items, here too"):
        data = load(DataLoader(items, 5, drop_last=True))
    assert data.labels.tolist() == LABELS[:10].tolist()
    with pytest.warns(FlowscopeWarning, match="drop_last leaves out 2 of 12 items in each epoch, others each time"):
        assert len(load(DataLoader(items, 5, shuffle=True, drop_last=True))) == 12
    with pytest.warns(FlowscopeWarning, match="drop_last may leave out"):
        assert len(load(DataLoader(Stream(FORMS["pixels"]), 5, drop_last=True))) == 12
    assert load(DataLoader(items, 4, drop_last=True)).notes == ()


def test_a_loader_that_makes_other_items_is_refused():
    items = Items(FORMS["pixels"])
    refused(DataLoader(items, 4, collate_fn=lambda batch: batch), "a collate_fn of its own")
    refused(DataLoader(items, 4, sampler=WeightedRandomSampler([1.0] * 12, 12)), "by WeightedRandomSampler")
    refused(DataLoader(items, batch_sampler=[[0, 1], [2]]), "batches by list")


def test_items_that_are_given_once_are_noted():
    class Once(IterableDataset):
        def __init__(self):
            self.items = map(FORMS["pixels"], range(12))

        def __iter__(self):
            return self.items

    with pytest.warns(FlowscopeWarning, match="gives its items once"):
        assert len(load(Once())) == 12


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_webdataset_is_its_samples(tmp_path):
    import webdataset

    def sample(found):
        return found["png"], found["cls"] if "cls" in found else found["json"]["label"]

    path, expected = formats.write_webdataset(tmp_path)
    stream = webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False).decode("pil").map(sample)
    assert load(stream).digest == expected.digest


def test_a_length_beyond_the_items_is_refused():
    items = Items(lambda i: POINTS[list(range(10))[i]], count=12)
    refused(items, "item 1[01] of Items raises IndexError, and Items says that it has 12 items")

"""The ladder: which references fit a set, and which of them hold its points."""

import numpy as np
import pytest
import torch

import flowscope as fs
from flowscope.errors import InputError
from flowscope.references import Ladder, ladder
from flowscope.sampling import sample
from tests.support.cases import cloud

ORDER = ["Wiener", "class-wise Wiener", "Gaussian mixture", "local", "smoothed", "oracle of more data", "oracle"]


@pytest.fixture(scope="module")
def images():
    return fs.TrainingSet(cloud(64, (1, 4, 4)), labels=np.arange(64) % 2)


@pytest.fixture(scope="module")
def rows(images):
    return ladder(images, conditional=True, more=fs.TrainingSet(cloud(96, (1, 4, 4)), labels=np.arange(96) % 2))


def test_all_rows_in_their_order(rows):
    assert list(rows) == ORDER and rows.left_out == {}
    assert [name for name, row in rows.items() if row.memoryless] == ORDER[:3]
    assert rows["Gaussian mixture"].about == "2 Gaussians for each label with 32 principal directions each, at most"
    assert [getattr(row.field, "name", name) for name, row in rows.items()][:5] == ORDER[:5]


@pytest.mark.slow
def test_memory_shows_in_samples(rows, images):
    """The last row ends on training points, rows without memory do not."""
    x0, flat = cloud(16, (1, 4, 4), seed=3), images.points.flatten(1)
    near = {}
    for name in ("Wiener", "Gaussian mixture", "oracle"):
        x = sample(rows[name].field, x0, steps=20, y=torch.arange(16) % 2)
        two = torch.cdist(x.flatten(1), flat).sort(1).values
        near[name] = float((two[:, 0] < two[:, 1] / 3).float().mean())
    assert near["oracle"] > 0.9 and max(near["Wiener"], near["Gaussian mixture"]) < 0.2


def test_what_does_not_fit_the_set_is_left_out_with_its_reason():
    rows = ladder(fs.TrainingSet(cloud(10, (6,)), labels=np.arange(10) % 2))
    assert list(rows) == ["smoothed", "oracle"] and isinstance(rows, Ladder)
    assert list(rows.left_out) == [name for name in ORDER if name not in rows]
    assert rows.left_out["Wiener"].startswith("10 distinct points are too few")
    assert rows.left_out["local"] == "Points of shape (6,) are no images, so they have no patches."
    assert ladder(cloud(20, (6,))).left_out["class-wise Wiener"] == "The set has no labels."


def test_an_oracle_gives_path_and_device_and_is_the_last_row(images):
    oracle = fs.Oracle(images, "vp")
    rows = ladder(oracle)
    assert rows["oracle"].field is oracle and {row.field.path.name for row in rows.values()} == {"vp"}


def test_more_data_must_contain_the_training_points(images):
    points = images.points
    for more, expected in (
        (images, "has 64 points and the training set 64; expected a larger set"),
        (cloud(96, (1, 4, 4), seed=1), "point 0 of the training set is not in more data"),
        (torch.cat([points[:40], points[41:], cloud(9, (1, 4, 4), seed=1)]), "point 40 of the training set is not in"),
        (cloud(96, (1, 4, 4), dtype=torch.float64), "holds float64 points"),
    ):
        with pytest.raises(InputError, match=expected):
            ladder(images, more=more)
    rows = ladder(images, more=fs.Oracle(cloud(96, (1, 4, 4)).flip(0)))
    assert len(rows["oracle of more data"].field.training_set) == 96


@pytest.mark.parametrize("settings", [{"conditional": 1}, {"seed": -1}, {"path": "lin"}])
def test_settings_that_cannot_be_used(images, settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        ladder(images, **settings)

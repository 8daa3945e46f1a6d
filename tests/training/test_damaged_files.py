"""model.json, weights and checkpoints whose structure was changed: refused in words, before anything is built."""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from flowscope.core.memory import GIB
from flowscope.data import TrainingSet
from flowscope.errors import InputError, ResumeError
from flowscope.networks.architectures import build_network
from flowscope.training import TrainSettings, train, train_to
from flowscope.training.model_store import digest_of, load_model, snapshot_steps

RNG = np.random.default_rng(0)
CLOUD = TrainingSet(RNG.standard_normal((12, 3)).astype(np.float32), labels=np.arange(12) % 2)
SETTINGS = TrainSettings(model="mlp", width=8, steps=4, batch=4, warmup=0)
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_to(CLOUD, SETTINGS, tmp_path_factory.mktemp("model") / "m", tracker=None)


@pytest.fixture
def model(finished: Path, tmp_path: Path) -> Path:
    for path in finished.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def put(*keys: str, value: Any) -> Change:
    """Puts a value where the keys lead."""

    def change(about: dict[str, Any]) -> None:
        *way, last = keys
        for key in way:
            about = about[key]
        about[last] = value

    return change


def rewritten(path: Path, change: Change) -> None:
    about = json.loads(path.read_text())
    change(about)
    path.write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("digests", value=[1]), r"digests is \[1\]"),
        (put("digests", value={"ema.safetensors": 3}), "digests.ema.safetensors is 3"),
        (put("parameters", value="many"), "parameters is 'many'"),
        (put("shape", value=[2**63]), r"shape\[0\] is 9223372036854775808"),
        (put("shape", value=[2**62]), r"shape\[0\] is"),
        (put("shape", value=[]), r"shape is \[\]"),
        (put("shape", value=[[3]]), r"shape\[0\] is \[3\]"),
        (put("seconds", value=float("nan")), "NaN is no number of JSON"),
        (put("classes", value=10**9), "classes is 1000000000"),
        (put("labels", value="all"), "labels is 'all'"),
        (put("labels", value=[0, 7]), "labels are"),
        (put("network", value=3), "network is 3"),
        (put("training_set", value=[]), r"training_set is \[\]"),
        (put("held_out", "count", value=-1), "held_out.count is -1"),
        (put("settings", "width", value="8"), "settings.width is '8'"),
        (put("settings", "width", value=8 * 2**20), "does not fit the Mlp"),
        (put("settings", "width", value=8 * 2**59), "cannot be read"),
        (put("settings", "learning_rate", value=1e400), "Infinity is no number of JSON"),
        (put("settings", "interval", value=[0.0]), "is damaged"),
        (put("settings", "path", value={}), "settings.path is {}"),
        (put("settings", "path", value="cubic"), "path is 'cubic'"),
        (put("settings", "compile", value="no"), "settings.compile is 'no'"),
        (put("schema", value=[1] * 1000), r"is of schema \[1, 1"),
    ],
)
def test_a_model_that_says_what_cannot_be_is_refused(change: Change, said: str, model: Path) -> None:
    rewritten(model / "model.json", change)
    with pytest.raises(InputError, match=said):
        load_model(model)


@pytest.mark.parametrize(
    "key", ["settings", "shape", "classes", "network", "training_set", "held_out", "step", "seconds"]
)
def test_what_a_model_does_not_say_is_named(key: str, model: Path) -> None:
    rewritten(model / "model.json", lambda about: about.pop(key))
    with pytest.raises(InputError, match=rf"model.json is damaged \(lacks {key}\)"):
        load_model(model)


def reweighed(model: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """The averaged weights changed, and their digest with them."""
    path = model / "ema.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    rewritten(model / "model.json", put("digests", "ema.safetensors", value=digest_of(path.read_bytes())))


def test_weights_of_another_dtype_are_refused_unless_both_are_usual_floats(model: Path) -> None:
    whole = {name: value.clone() for name, value in load_file(model / "ema.safetensors").items()}
    reweighed(model, lambda tensors: tensors.update({k: v.bfloat16() for k, v in whole.items()}))
    found = load_model(model).module.state_dict()
    assert all(torch.equal(found[name], value.bfloat16().float()) for name, value in whole.items())
    for dtype in (torch.int64, torch.bool, torch.float8_e4m3fn, torch.complex64):
        reweighed(model, lambda tensors, kind=dtype: tensors.update({"last.bias": torch.zeros(3).to(kind)}))
        with pytest.raises(InputError, match=rf"of another dtype: last.bias {dtype} instead of torch.float32"):
            load_model(model)


def test_memory_for_weights_is_asked_for(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowscope.core.memory.available_memory", lambda: 1000)
    with pytest.raises(InputError, match=r"memory are free"):
        load_model(model)


def test_memory_for_the_positions_of_a_transformer_is_asked_for() -> None:
    pytest.importorskip("diffusers")
    with pytest.raises(InputError, match=r"the positions of dit-s in images of 4194304x4194304 takes [\d,.]+ GiB"):
        build_network("dit-s", (4, 2**22, 2**22))
    assert 1000 * GIB < 16 * 2**42 * 384  # what the table would take


def test_other_files_among_the_snapshots_are_no_snapshots(tmp_path: Path) -> None:
    (tmp_path / "snapshots").mkdir()
    for name in ("step_000004", "step_x", "step_", "step_-1", "step_\u00b2", "mine"):
        (tmp_path / "snapshots" / f"{name}.safetensors").touch()
    assert snapshot_steps(tmp_path) == [4]


# checkpoints


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("begun")
    list(islice(train(CLOUD, SETTINGS, out=folder), 2))
    return folder / "state.safetensors"


def checkpoint(begun: Path, folder: Path, tensors: Change = dict, about: Change = dict) -> Path:
    """The checkpoint with its tensors and what it says of its run changed."""
    from safetensors import safe_open

    with safe_open(begun, framework="pt") as file:
        said = json.loads(file.metadata()["about"])
    held: dict[str, Any] = load_file(begun)
    tensors(held)
    about(said)
    save_file(held, folder / "state.safetensors", {"about": json.dumps(said)})
    return folder


def resumed(folder: Path) -> int:
    return next(train(CLOUD, SETTINGS, out=folder, resume=True)).step


def test_the_checkpoint_as_it_is_goes_on(begun: Path, tmp_path: Path) -> None:
    assert resumed(checkpoint(begun, tmp_path)) == 3


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (lambda t: t.pop("losses|sums"), "the losses in .* holds rows; expected rows, sums"),
        (lambda t: t.pop("exp_avg|last.bias"), "holds other tensors than a run has"),
        (lambda t: t.pop("weights|last.bias"), "missing: last.bias"),
        (lambda t: t.update({"exp_avg|last.bias": torch.zeros(7)}), r"last.bias of exp_avg in .* is float32 \(7,\)"),
        (lambda t: t.update({"exp_avg_sq|last.bias": torch.zeros(3).long()}), "last.bias of exp_avg_sq in .* is int64"),
        (lambda t: t.update({"more|x": torch.zeros(1)}), "holds other tensors than a run has"),
        (lambda t: t.update({"nogroup": torch.zeros(1)}), "holds other tensors than a run has"),
        (lambda t: t.update({"losses|rows": torch.zeros(2, 3)}), r"rows of the losses in .* is float32 \(2, 3\)"),
        (lambda t: t.update({"losses|sums": torch.zeros(2)}), "sums of the losses"),
        (lambda t: [t.pop(k) for k in list(t) if k.startswith("losses")], "the losses in .* holds nothing"),
    ],
)
def test_a_checkpoint_with_other_tensors_is_refused(tensors: Change, said: str, begun: Path, tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match=said):
        resumed(checkpoint(begun, tmp_path, tensors))


@pytest.mark.parametrize(
    ("about", "said"),
    [
        (put("step", value=5), "is at step 5; expected one of 4"),
        (put("step", value="2"), "step is '2'"),
        (put("seconds", value=-1), "seconds is -1"),
        (put("training_set", value=[]), r"training_set is \[\]"),
        (put("settings", value=None), "settings is None"),
        (lambda about: about.pop("seconds"), "lacks seconds"),
        (put("schema", value=3), "is of schema 3"),
    ],
)
def test_a_checkpoint_that_says_what_cannot_be_is_refused(
    about: Change, said: str, begun: Path, tmp_path: Path
) -> None:
    with pytest.raises(ResumeError, match=said):
        resumed(checkpoint(begun, tmp_path, about=about))


@pytest.mark.slow
def test_a_checkpoint_before_the_first_row_of_losses_goes_on(begun: Path, tmp_path: Path) -> None:
    """With many steps a row takes several; earlier versions then wrote rows of shape (0,)."""
    assert resumed(checkpoint(begun, tmp_path, lambda t: t.update({"losses|rows": torch.zeros(0).double()}))) == 3
    settings = TrainSettings(model="mlp", width=8, steps=2000, batch=4, warmup=0)
    list(islice(train(CLOUD, settings, out=tmp_path / "long"), 1))
    assert load_file(tmp_path / "long" / "state.safetensors")["losses|rows"].shape == (0, 14)
    assert next(train(CLOUD, settings, out=tmp_path / "long", resume=True)).step == 2

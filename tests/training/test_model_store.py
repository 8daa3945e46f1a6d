"""What training leaves on disk: resumed it ends the same, killed at any moment it is whole, and damage is said."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from flowscope.data import load
from flowscope.data.split import split
from flowscope.errors import InputError, MissingExtraError, NumericalError, OutputError, ResumeError
from flowscope.networks.architectures import build_network
from flowscope.reproduction.runner import is_trained
from flowscope.sampling import sample
from flowscope.training import TrainSettings, load_model, snapshot_steps, train, train_to
from flowscope.training.checkpoint import read_checkpoint, write_checkpoint
from flowscope.training.trainer import Run
from tests.support.trainings import Own, cloud, tiny

WEIGHTS = ("model.safetensors", "ema.safetensors")


def to(out: Path, settings: TrainSettings, **options: Any) -> Path:
    """Train the cloud into a folder, without a tracker."""
    return train_to(cloud(), settings, out, tracker=None, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, which nobody changes."""
    return to(tmp_path_factory.mktemp("finished") / "m", tiny(checkpoint_every=4, snapshots=3), held_out=5)


@pytest.fixture
def model(finished: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(finished, tmp_path / "model"))


# resuming


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"target": "stf", "stf_reference": 10, "schedule": "cosine", "label_dropout": 0.5},
        {"density": "logit-normal", "ema": 0.5},
    ],
    ids=["cfm", "stf", "logit-normal"],
)
def test_resumed_it_ends_with_the_same_weights_average_and_moments(changes: dict[str, Any], tmp_path: Path) -> None:
    settings = tiny(**changes)
    *_, whole = train(cloud(), settings)
    for step in train(cloud(), settings, out=tmp_path):
        if step.step == 5:
            break
    *_, last = train(cloud(), settings, out=tmp_path, resume=True)
    for ours, theirs in ((last.network, whole.network), (last.ema, whole.ema)):
        for name, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name
    pairs = zip(last.run.optimizer.state.values(), whole.run.optimizer.state.values(), strict=True)
    assert all(torch.equal(a[kind], b[kind]) for a, b in pairs for kind in ("step", "exp_avg", "exp_avg_sq"))
    without_seconds = [[(*row[:3], *row[4:]) for row in run.losses.rows] for run in (last.run, whole.run)]
    np.testing.assert_array_equal(*without_seconds)


class Watched(Own):
    """A network that notes the states that it is asked for."""

    def __init__(self, seen: list[bytes]) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.seen.append(x.detach().numpy().tobytes() + t.numpy().tobytes())
        return super().forward(x, t)


def test_resumed_it_draws_what_it_would_have_drawn(tmp_path: Path) -> None:
    whole: list[bytes] = []
    seen: list[bytes] = []
    data = cloud(labels=False)
    list(train(data, tiny(), network=Watched(whole)))
    next(train(data, tiny(), network=Watched(seen), out=tmp_path))
    list(train(data, tiny(), network=Watched(seen), out=tmp_path, resume=True))
    assert len(set(whole)) == 12 and seen == whole


@pytest.mark.long
def test_killed_at_any_of_20_moments_it_loses_at_most_one_interval_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a kill leaves is what lies on the disk: copies of it are made before and after each step and each write."""
    settings, every = tiny(checkpoint_every=3, snapshots=2), 3
    whole, copies, steps = tmp_path / "whole", tmp_path / "copies", [0]
    moments: list[tuple[int, Path]] = []

    def look() -> None:
        if whole.exists():
            moments.append((steps[-1], Path(shutil.copytree(whole, copies / str(len(moments))))))

    def between(function: Any) -> Any:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            look()
            found = function(*arguments, **named)
            look()
            return found

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", between(os.fsync))
        patch.setattr(os, "replace", between(os.replace))
        to(whole, settings, progress=lambda done, *_: (steps.append(done), look()))
    assert len(moments) > 50
    for made, out in random.Random(0).sample(moments, 20):
        if made > every:
            assert made - load_model(out).about["step"] <= every
        to(out, settings, resume=True)
        for name in WEIGHTS:
            assert (out / name).read_bytes() == (whole / name).read_bytes(), out.name
        assert json.loads((out / "model.json").read_text())["step"] == 12


CHILD = """
import sys
from flowscope.training import train_to
from tests.support.trainings import cloud, tiny
settings = tiny(steps=4000, checkpoint_every=20)
train_to(cloud(), settings, sys.argv[1], resume=True, tracker=None, progress=lambda done, *_: print(done, flush=True))
"""


@pytest.mark.long
def test_really_killed_twice_it_goes_on_each_time(tmp_path: Path) -> None:
    out, steps = tmp_path / "m", 0
    for further in (25, 37):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(out)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        assert child.stdout is not None
        first = int(child.stdout.readline())
        assert first > steps - 20  # it went on
        while steps < first + further:  # at least one checkpoint
            steps = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().splitlines(keepends=True)
        child.stdout.close()
        assert child.wait() == -signal.SIGKILL
        steps = int(rest[-1]) if rest and rest[-1].endswith("\n") else steps
        assert steps - load_model(out).about["step"] <= 20 + 1  # one step may be made and not said
    at = load_model(out, ema=False)
    kept = {name: value.clone() for name, value in at.module.state_dict().items()}
    for step in train(cloud(), tiny(steps=4000, checkpoint_every=20)):  # the same steps without a kill
        if step.step == at.about["step"]:
            break
    for name, value in step.network.state_dict().items():
        assert torch.equal(value, kept[name]), name


@pytest.mark.slow
def test_ctrl_c_keeps_the_step_and_leaves_the_signal_as_it_was(finished: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    settings = tiny(checkpoint_every=4, snapshots=3)

    def interrupt(done: int, total: int, what: str) -> None:
        if done == 6:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        to(tmp_path, settings, progress=interrupt, held_out=5)
    assert signal.getsignal(signal.SIGINT) is before
    assert load_model(tmp_path).about["step"] == 6
    to(tmp_path, settings, resume=True, held_out=5)
    for name in WEIGHTS:
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.slow
def test_resume_starts_anew_where_there_is_nothing_and_returns_where_all_is_done(model: Path, tmp_path: Path) -> None:
    settings = tiny(checkpoint_every=4, snapshots=3)
    to(tmp_path / "new", settings, held_out=5, resume=True)
    assert (tmp_path / "new" / WEIGHTS[0]).read_bytes() == (model / WEIGHTS[0]).read_bytes()
    before = {path: path.stat().st_mtime_ns for path in model.rglob("*")}
    to(model, settings, held_out=5, resume=True)
    assert {path: path.stat().st_mtime_ns for path in model.rglob("*")} == before


@pytest.mark.slow_but("changes1-*")
@pytest.mark.parametrize(
    ("changes", "held_out", "said"),
    [
        ({"learning_rate": 0.02}, 5, r"differs in learning_rate \(0.01 there, 0.02 here\)"),
        ({"steps": 13, "target": "oracle"}, 5, r"steps \(12 there, 13 here\), target"),
        ({}, 4, "held_out .* data"),
    ],
)
def test_resume_refuses_another_run_and_names_what_differs(
    changes: dict[str, Any], held_out: int, said: str, model: Path, tmp_path: Path
) -> None:
    settings = tiny(**{"checkpoint_every": 4, "snapshots": 3, **changes})
    with pytest.raises(ResumeError, match=said):
        to(model, settings, held_out=held_out, resume=True)
    next(train(cloud(), tiny(), out=tmp_path / "begun"))
    with pytest.raises(ResumeError, match="expected the same data and settings"):
        next(train(cloud(41), tiny(**changes), out=tmp_path / "begun", resume=True))


OLD_NAMES = {  # of settings, in schema 1
    "learning_rate": "rate",
    "stf_reference": "reference",
    "label_dropout": "dropout",
    "grad_clip": "clip",
    "weight_decay": "decay",
}


def as_schema_1(about: dict[str, Any]) -> dict[str, Any]:
    """A record as it was written before five settings were renamed."""
    return {**about, "schema": 1, "settings": {OLD_NAMES.get(k, k): v for k, v in about["settings"].items()}}


def test_a_model_of_schema_1_is_read_and_resumed(model: Path) -> None:
    new = json.loads((model / "model.json").read_text())
    assert new["schema"] == 2 and OLD_NAMES.keys() <= new["settings"].keys()
    (model / "model.json").write_text(json.dumps(as_schema_1(new)))
    assert load_model(model).about == new
    to(model, tiny(checkpoint_every=4, snapshots=3), held_out=5, resume=True)
    assert is_trained(model, tiny(checkpoint_every=4, snapshots=3), split(cloud(), 5)[0])
    with pytest.raises(ResumeError, match=r"differs in grad_clip \(1.0 there, 2.0 here\)"):
        to(model, tiny(checkpoint_every=4, snapshots=3, grad_clip=2.0), held_out=5, resume=True)


@pytest.mark.slow
def test_an_interrupted_run_of_schema_1_goes_on(finished: Path, tmp_path: Path) -> None:
    settings = tiny(checkpoint_every=4, snapshots=3)
    kept, _ = split(cloud(), 5)
    about = {"count": 5, "seed": 0, "whole": cloud().digest}
    for step in train(kept, settings, out=tmp_path, held_out=about):
        if step.step == 5:
            break
    with safe_open(tmp_path / "state.safetensors", framework="pt") as file:
        old = as_schema_1(json.loads(file.metadata()["about"]))
    state = tmp_path / "state.safetensors"
    save_file(load_file(state), state, {"about": json.dumps(old)})
    assert load_model(tmp_path).about["settings"]["learning_rate"] == 0.01
    to(tmp_path, settings, held_out=5, resume=True)
    for name in WEIGHTS:
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()


def test_a_damaged_state_is_refused_and_begun_anew_if_that_is_asked_for(tmp_path: Path) -> None:
    next(train(cloud(), tiny(), out=tmp_path))
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(ResumeError, match=r"remove .* to start anew"):
        train(cloud(), tiny(), out=tmp_path, resume=True)
    next(train(cloud(), tiny(), out=tmp_path, overwrite=True))
    assert load_model(tmp_path).about["step"] == 1


# a finished model


def test_a_model_says_what_it_is_and_samples(finished: Path) -> None:
    field = load_model(finished, shape=(3,))
    about = field.about
    assert about["training_set"]["points"] == 35 and about["held_out"]["count"] == 5
    assert about["held_out"]["whole"] == cloud().digest != about["training_set"]["digest"]
    assert (field.classes, field.null, field.path.name, about["step"]) == (2, 2, "linear", 12)
    assert about["parameters"] == sum(p.numel() for p in field.module.parameters())
    assert not field.module.training
    assert sample(field, n=3, shape=(3,), steps=4, y=1).shape == (3, 3)
    assert sorted(p.name for p in finished.iterdir()) == [
        ".flowscope.json", "ema.safetensors", "loss.csv", "model.json", "model.safetensors", "optimizer.safetensors",
        "snapshots",
    ]  # fmt: skip


def test_the_average_and_the_weights_are_what_the_loop_had(finished: Path) -> None:
    *_, last = train(split(cloud(), 5)[0], tiny())
    for ema, module in ((True, last.ema), (False, last.network)):
        loaded = load_model(finished, ema=ema).module.state_dict()
        assert all(torch.equal(value, loaded[name]) for name, value in module.state_dict().items())


def test_snapshots_are_the_averages_of_their_steps(finished: Path) -> None:
    assert snapshot_steps(finished) == [3, 6, 12]
    for step in train(split(cloud(), 5)[0], tiny()):
        if step.step in (3, 6, 12):
            kept = load_model(finished, step=step.step).module.state_dict()
            assert all(torch.equal(value, kept[name]) for name, value in step.ema.state_dict().items())
    with pytest.raises(InputError, match="of the steps: 3, 6, 12"):
        load_model(finished, step=4)


def test_the_record_of_losses_has_the_mean_of_every_tenth_of_t(finished: Path) -> None:
    table = np.genfromtxt(finished / "loss.csv", delimiter=",", names=True)
    losses = [float(step.loss) for step in train(split(cloud(), 5)[0], tiny())]
    np.testing.assert_array_equal(table["step"], np.arange(1, 13))
    np.testing.assert_allclose(table["loss"], losses, rtol=1e-6)
    run = Run(split(cloud(), 5)[0], tiny())
    draw = run.draws(0)
    each = run.squared_errors(draw).detach().double().numpy()
    for k in range(10):
        inside = (draw.t.numpy() >= k / 10) & (draw.t.numpy() < (k + 1) / 10)
        found = table[table.dtype.names[4 + k]][0]
        assert np.isnan(found) if not inside.any() else found == pytest.approx(each[inside].mean(), rel=1e-6)


def test_a_network_of_ones_own_is_loaded_into_a_network_like_it(tmp_path: Path) -> None:
    train_to(cloud(labels=False), tiny(), tmp_path, network=Own(), tracker=None)
    with pytest.raises(InputError, match=r"a network of the user's own \(Own\)"):
        load_model(tmp_path)
    field = load_model(tmp_path, network=Own())
    assert torch.isfinite(field(torch.zeros(2, 3), 0.5)).all()


@pytest.mark.slow
def test_images_are_shown_as_they_are_learned_and_tensorboard_is_told(tmp_path: Path) -> None:
    from PIL import Image

    points = np.random.default_rng(0).uniform(-1, 1, (6, 3, 8, 8)).astype(np.float32)
    train_to(points, tiny(steps=2, width=8), tmp_path)
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.mode == "RGB" and picture.size == (53 * 6, 53 * 6)
    assert list((tmp_path / "tensorboard").glob("events.*"))


# what is refused


def test_another_architecture_is_refused_with_the_names_of_what_is_missing_and_unexpected(model: Path) -> None:
    own = Own()
    with pytest.raises(InputError, match=r"missing: layer.bias, layer.weight; unexpected: blocks.0.0.bias") as caught:
        load_model(model, network=own)
    assert "same architecture" in str(caught.value)
    with pytest.raises(InputError, match=r"of another shape: .*blocks.0.2.weight \(8, 8\) instead of \(16, 16\)"):
        load_model(model, network=build_network("mlp", (3,), 2, width=16))


def test_points_of_another_shape_are_refused(model: Path) -> None:
    with pytest.raises(InputError, match=r"points of shape \(3,\), the data have \(1, 8, 8\)"):
        load_model(model, shape=(1, 8, 8))
    with pytest.raises(InputError, match="x has shape"):
        load_model(model)(torch.zeros(2, 4), 0.5)


def test_without_an_average_the_weights_are_pointed_to(model: Path) -> None:
    (model / "ema.safetensors").unlink()
    with pytest.raises(InputError, match="ema=False"):
        load_model(model)
    load_model(model, ema=False)


@pytest.mark.parametrize("name", ["model.pt", "pytorch_model.bin", "last.ckpt"])
def test_a_pickle_is_refused_and_never_opened(name: str, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save(Trap(), tmp_path / name)
    for place in (tmp_path, tmp_path / name):
        with pytest.raises(
            InputError, match=r"is a pickle; expected the folder|run code when they are read, and is refused"
        ):
            load_model(place)
    assert not (tmp_path / "sprung").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change(path: Path) -> None:
    tensors = load_file(path)
    tensors["last.bias"] += 1
    save_file(tensors, path)


def put(key: str, value: Any) -> Any:
    """Writes another value of a key into a JSON file; into a dictionary there, when it is one."""

    def damage(path: Path) -> None:
        about = json.loads(path.read_text())
        own = about[key]
        about[key] = {**own, **value} if key == "settings" and isinstance(value, dict) else value
        path.write_text(json.dumps(about))

    return damage


def lose_width(path: Path) -> None:
    about = json.loads(path.read_text())
    del about["settings"]["width"]
    path.write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("ema.safetensors", cut, "cannot be read"),
        ("ema.safetensors", change, "by its digest"),
        ("model.json", cut, "cannot be read"),
        ("model.json", lambda path: path.write_text('{"schema": 99}'), "schema 99"),
        ("model.json", lambda path: path.write_text('{"schema": 1}'), "lacks settings, shape"),
        ("model.json", lambda path: path.write_text("[]"), r"is damaged \(the whole is \[\]"),
        ("model.json", put("shape", "x"), "is damaged"),
        ("model.json", put("classes", -1), "is damaged"),
        ("model.json", put("step", 0), "is damaged"),
        ("model.json", put("settings", [1]), "is damaged"),
        ("model.json", put("settings", {"model": "gan"}), "is damaged .*model is 'gan'"),
        ("model.json", put("settings", {"colour": 1}), "is damaged .*colour"),
        ("model.json", lose_width, r"is damaged \(lacks settings.width"),
        ("model.json", put("held_out", None), "is damaged"),
        ("model.json", put("training_set", {"points": 3}), "is damaged .*digest"),
        ("model.json", Path.unlink, "holds no model"),
    ],
)
def test_a_damaged_model_is_refused(name: str, damage: Any, said: str, model: Path) -> None:
    damage(model / name)
    with pytest.raises(InputError, match=said):
        load_model(model)


def test_a_folder_that_is_not_there_or_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        load_model(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        to(tmp_path / "file", tiny())


def test_what_is_refused_leaves_a_finished_model_alone(model: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in model.rglob("*")}
    with pytest.raises(InputError, match="tracker is 'pencil'"):
        train_to(cloud(), tiny(), model, tracker="pencil")
    assert {path: path.stat().st_mtime_ns for path in model.rglob("*")} == before


def test_a_tracker_whose_package_is_absent_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: ["tensorboard"])
    with pytest.raises(MissingExtraError, match="'wandb', whose package is not installed"):
        train_to(cloud(), tiny(), tmp_path / "m", tracker="wandb")
    assert not (tmp_path / "m").exists()


def test_too_many_points_held_out_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="held_out is 40 of 40"):
        to(tmp_path, tiny(), held_out=40)


@pytest.mark.slow
def test_moments_lie_in_memory_as_their_parameters_do(tmp_path: Path) -> None:
    """As fused optimizers on a GPU, where networks are channels-last, demand."""
    points, settings = load("digits", subset=20), TrainSettings(steps=4, batch=4, width=8)
    first = Run(points, settings, device="cpu")
    first.network.to(memory_format=torch.channels_last)
    first.advance()
    write_checkpoint(first, tmp_path)
    again = Run(points, settings, device="cpu")
    again.network.to(memory_format=torch.channels_last)
    assert read_checkpoint(again, tmp_path, True)
    for run in (first, again):
        run.advance()
    for p, q in zip(first.network.parameters(), again.network.parameters(), strict=True):
        kept = again.optimizer.state[q]["exp_avg"]
        assert kept.stride() == q.stride()
        assert torch.equal(first.optimizer.state[p]["exp_avg"], kept)
        assert torch.equal(p, q)


def test_a_run_that_fails_early_leaves_the_model_that_was_there(model: Path) -> None:
    before = {path.name: path.read_bytes() for path in model.iterdir() if path.is_file()}
    with pytest.raises(NumericalError, match="the loss is"):
        to(model, tiny(learning_rate=1e30, steps=50, checkpoint_every=50), held_out=5, overwrite=True)
    assert {path.name: path.read_bytes() for path in model.iterdir() if path.is_file()} == before
    load_model(model)
    to(
        model, tiny(steps=3, snapshots=1), held_out=5, overwrite=True
    )  # one that ends takes its place, snapshots included
    assert snapshot_steps(model) == [3]

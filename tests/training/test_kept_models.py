"""What was trained is not lost: retyped, prolonged, stopped, and with networks of other people's."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from flowscope.errors import InputError, OutputError, ResumeError
from flowscope.training import TrainSettings, load_model, train, train_to
from tests.support.trainings import cloud, tiny

WEIGHTS = ("model.safetensors", "ema.safetensors")


def to(out: Path, settings: TrainSettings, **options: Any) -> Path:
    """Train the cloud, without labels, into a folder, without a tracker."""
    return train_to(cloud(labels=False), settings, out, tracker=None, **options)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def same_weights(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in WEIGHTS)


def begun(out: Path, steps: int, settings: TrainSettings, **options: Any) -> Path:
    """A training that its caller's loop leaves after some steps."""
    for step in train(cloud(labels=False), settings, out=out, **options):
        if step.step == steps:
            break
    return out


# retyped


@pytest.mark.parametrize(("steps", "said"), [(12, "a finished model .model.json"), (5, "trained in part .state")])
def test_a_model_is_replaced_only_when_that_is_asked_for(steps: int, said: str, tmp_path: Path) -> None:
    model = to(tmp_path, tiny()) if steps == 12 else begun(tmp_path, steps, tiny())
    before = everything(model)
    for again in (lambda **o: to(model, tiny(seed=1), **o), lambda **o: begun(model, 1, tiny(seed=1), **o)):
        with pytest.raises(OutputError, match=f"{said}.*--resume.*--overwrite"):
            again()
        assert everything(model) == before
    to(model, tiny(seed=1, steps=9), overwrite=True)
    assert load_model(model).about["step"] == 9 and not (model / "state.safetensors").exists()


@pytest.mark.slow
def test_a_model_to_be_replaced_stays_until_the_first_checkpoint(tmp_path: Path) -> None:
    model = to(tmp_path, tiny(snapshots=2))

    def look(done: int, total: int, what: str) -> None:
        held.append(load_model(model).about["settings"]["seed"])

    held: list[int] = []
    to(model, tiny(seed=1, checkpoint_every=4), overwrite=True, progress=look)
    assert held == [0, 0, 0] + [1] * 9
    assert not (model / "snapshots").exists()


def test_a_file_of_the_users_is_refused_before_training_and_replaced_with_overwrite(tmp_path: Path) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("the training has begun")

    (tmp_path / "loss.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"loss.csv is in the way"):
        to(tmp_path, tiny(), progress=never)
    with pytest.raises(OutputError, match=r"loss.csv is in the way"):
        begun(tmp_path, 1, tiny())
    assert everything(tmp_path) == {"loss.csv": b"mine"}
    to(tmp_path, tiny(), overwrite=True)
    assert (tmp_path / "loss.csv").read_text().startswith("step,")


def test_two_trainings_do_not_share_a_folder(tmp_path: Path) -> None:
    steps = train(cloud(labels=False), tiny(), out=tmp_path)
    next(steps)
    with pytest.raises(OutputError, match="another run writes to"):
        to(tmp_path, tiny(), resume=True)
    steps.close()  # type: ignore[attr-defined]
    to(tmp_path, tiny(), resume=True)


@pytest.mark.slow
def test_a_run_without_a_manifest_goes_on(tmp_path: Path) -> None:
    """As versions that wrote none left it."""
    begun(tmp_path / "m", 5, tiny(snapshots=2))
    (tmp_path / "m" / ".flowscope.json").unlink()
    to(tmp_path / "m", tiny(snapshots=2), resume=True)
    assert same_weights(tmp_path / "m", to(tmp_path / "whole", tiny(snapshots=2)))


# prolonged


@pytest.mark.slow
def test_train_to_goes_on_with_what_the_loop_of_train_kept(tmp_path: Path) -> None:
    to(begun(tmp_path / "loop", 5, tiny()), tiny(), resume=True)
    assert same_weights(tmp_path / "loop", to(tmp_path / "whole", tiny()))


@pytest.mark.slow
def test_a_finished_model_is_trained_on_to_the_weights_of_one_long_run(tmp_path: Path) -> None:
    whole, parts = to(tmp_path / "whole", tiny(steps=20)), to(tmp_path / "parts", tiny())
    finished = everything(parts)

    def stop(done: int, total: int, what: str) -> None:
        if done == 15:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        to(parts, tiny(steps=20), resume=True, progress=stop)
    assert {name: everything(parts)[name] for name in WEIGHTS} == {name: finished[name] for name in WEIGHTS}
    assert load_model(parts).about["step"] == 12  # the finished model serves until the longer one is there
    to(parts, tiny(steps=20), resume=True)
    assert same_weights(parts, whole) and load_model(parts).about["step"] == 20
    assert everything(parts).keys() == finished.keys()
    loop = [step.step for step in train(cloud(labels=False), tiny(steps=22), out=parts, resume=True)]
    assert loop == [21, 22]


@pytest.mark.slow_but("settings0-*")
@pytest.mark.parametrize(
    ("settings", "longer", "said"),
    [
        (
            tiny(schedule="cosine"),
            {"schedule": "cosine", "steps": 20},
            r"steps \(12 there, 20 here\).*constant schedule",
        ),
        (tiny(), {"steps": 11}, r"steps \(12 there, 11 here\)"),
        (tiny(), {"steps": 20, "seed": 1}, "differs in steps .*seed"),
    ],
)
def test_a_model_is_not_trained_on_where_it_would_be_no_run_from_one_piece(
    settings: TrainSettings, longer: dict[str, Any], said: str, tmp_path: Path
) -> None:
    before = everything(to(tmp_path, settings))
    with pytest.raises(ResumeError, match=said):
        to(tmp_path, tiny(**longer), resume=True)
    assert everything(tmp_path) == before


@pytest.mark.slow_but("model.safetensors")
@pytest.mark.parametrize("name", ["optimizer.safetensors", *WEIGHTS])
def test_files_of_two_runs_are_not_trained_on(name: str, tmp_path: Path) -> None:
    to(tmp_path / "one", tiny())
    to(tmp_path / "other", tiny(seed=1))
    os.replace(tmp_path / "other" / name, tmp_path / "one" / name)
    with pytest.raises(ResumeError, match="expected all of one run"):
        to(tmp_path / "one", tiny(steps=20), resume=True)
    (tmp_path / "one" / "optimizer.safetensors").unlink()
    with pytest.raises(ResumeError, match=r"has no optimizer\.safetensors"):
        to(tmp_path / "one", tiny(steps=20), resume=True)


# stopped


def test_the_first_checkpoint_comes_after_the_first_step(tmp_path: Path) -> None:
    kept = []
    to(tmp_path, tiny(checkpoint_every=1000), progress=lambda *_: kept.append(load_model(tmp_path).about["step"]))
    assert kept == [1] * 11 + [12]


CHILD = """
import os, signal, sys
from flowscope.training import train_to
from tests.support.trainings import cloud, tiny

def stop(done, total, what):
    if done == 6:
        os.kill(os.getpid(), signal.SIGTERM)

try:
    train_to(cloud(labels=False), tiny(checkpoint_every=1000), sys.argv[1], tracker=None, progress=stop)
finally:
    print("put in order")
"""


@pytest.mark.long
def test_sigterm_keeps_the_step_and_ends_a_program_in_order(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root / 'src'}:{root}"}
    command = [sys.executable, "-c", CHILD, str(tmp_path / "m")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (143, "put in order\n"), done.stderr
    assert load_model(tmp_path / "m").about["step"] == 6
    assert not (tmp_path / "m" / ".flowscope.lock").exists()
    to(tmp_path / "m", tiny(checkpoint_every=1000), resume=True)
    assert same_weights(tmp_path / "m", to(tmp_path / "whole", tiny(checkpoint_every=1000)))


# other people's networks


class Theirs(nn.Module):
    """A network with something that has to be kept with care."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
            self.between: nn.Module = nn.Identity()
        if kind == "tied":
            self.second.weight = self.first.weight
        elif kind == "weight norm":
            nn.utils.parametrizations.weight_norm(self.first)
        elif kind == "dropout":
            self.between = nn.Dropout(0.5)
        elif kind == "batch norm":
            self.between = nn.BatchNorm1d(4)
        elif kind == "a compiled part":
            self.first = torch.compile(self.first, backend="eager")  # type: ignore[assignment]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        hidden = torch.relu(self.first(torch.cat([x, t[:, None] / 1000], 1)))
        found: Tensor = self.last(self.between(torch.relu(self.second(hidden))))
        return found


def theirs(kind: str) -> nn.Module:
    made = Theirs(kind)
    return torch.compile(made, backend="eager") if kind == "compiled" else made  # type: ignore[return-value]


KINDS = ("plain", "tied", "weight norm", "dropout", "batch norm", "compiled", "a compiled part")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_network_resumed_ends_with_the_same_weights(kind: str, tmp_path: Path) -> None:
    whole = to(tmp_path / "whole", tiny(), network=theirs(kind))
    begun(tmp_path / "parts", 5, tiny(), network=theirs(kind))
    to(tmp_path / "parts", tiny(), network=theirs(kind), resume=True)
    assert same_weights(tmp_path / "parts", whole)
    kept = load_model(whole, network=theirs(kind)).module
    x, t = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)), torch.full((5,), 300.0)
    parts = load_model(tmp_path / "parts", network=theirs(kind)).module
    assert torch.equal(kept(x, t), parts(x, t))
    assert not torch.equal(kept(x, t), theirs(kind).eval()(x, t))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["compiled", "a compiled part"])
def test_a_compiled_network_keeps_the_names_of_the_one_that_is_not(kind: str, tmp_path: Path) -> None:
    to(tmp_path, tiny(), network=theirs(kind))
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert sorted(file.keys()) == sorted(theirs("plain").state_dict())
    plain, compiled = (load_model(tmp_path, network=theirs(k)).module.state_dict() for k in ("plain", kind))
    for ours, other in zip(plain.values(), compiled.values(), strict=True):
        assert torch.equal(ours, other)


def test_tied_weights_stay_tied_and_are_trained_as_one(tmp_path: Path) -> None:
    to(tmp_path, tiny(), network=theirs("tied"))
    module = load_model(tmp_path, network=theirs("tied")).module
    assert module.first.weight is module.second.weight
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("first.weight"), file.get_tensor("second.weight"))


def test_dropout_draws_by_seed_and_step_and_leaves_the_callers_random_numbers_alone(tmp_path: Path) -> None:
    def losses(seed: int) -> list[float]:
        steps = train(cloud(labels=False), tiny(), network=theirs("dropout"))
        torch.manual_seed(seed)
        found = []
        for step in steps:
            found.append(float(step.loss))
            drawn = torch.rand(1)
            torch.rand(step.step)  # what the caller draws between two steps does not matter
        torch.manual_seed(seed)
        for k in range(12):
            last = torch.rand(1)
            torch.rand(k + 1)
        assert torch.equal(drawn, last)
        return found

    assert losses(1) == losses(2)
    assert len(np.unique(losses(1))) == 12


class Lazy(Theirs):
    def __init__(self) -> None:
        super().__init__("plain")
        self.first = nn.LazyLinear(4)


class Counting(Theirs):
    """A network whose buffer changes in training; with `kept`, state_dict holds it."""

    def __init__(self, kept: bool) -> None:
        super().__init__("plain")
        self.register_buffer("scale", torch.ones(()), persistent=kept)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if self.training:
            self.scale = self.scale * 0.9 + 0.01
        return super().forward(x, t) * self.scale


def test_a_buffer_that_changes_is_kept_or_refused_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"its buffer scale .* leaves that out: .*persistent=True"):
        to(tmp_path / "lost", tiny(), network=Counting(False))
    assert not (tmp_path / "lost").exists()
    whole = to(tmp_path / "whole", tiny(), network=Counting(True))
    begun(tmp_path / "parts", 5, tiny(), network=Counting(True))
    to(tmp_path / "parts", tiny(), network=Counting(True), resume=True)
    assert same_weights(tmp_path / "parts", whole)
    assert float(load_model(whole, network=Counting(True)).module.scale) < 0.5


def test_networks_that_cannot_be_kept_are_refused_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"first.weight of the network has no shape yet .*call it, then train it"):
        to(tmp_path / "lazy", tiny(), network=Lazy())
    called = Lazy()
    called(torch.zeros(2, 3), torch.zeros(2))
    to(tmp_path / "called", tiny(), network=called)
    old = theirs("plain")
    with pytest.warns(FutureWarning, match="deprecated"):
        nn.utils.weight_norm(old.first)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"cannot be copied for the average .*parametrizations\.weight_norm"):
        to(tmp_path / "old", tiny(), network=old)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["called"]

"""Names that are not known: the message lists those that are, and asks for the one that was meant."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from flowscope.cli import main
from flowscope.curve.variants import variants
from flowscope.data import TrainingSet, load
from flowscope.errors import InputError, did_you_mean, unknown_name
from flowscope.networks import Convention, as_field
from flowscope.networks.architectures import build_network
from flowscope.reproduction.plan import chosen_studies, kinds_of
from flowscope.reproduction.reproduce import options_for
from flowscope.sampling import sample
from flowscope.studies.catalogue import check_study, find
from flowscope.training import TrainSettings
from flowscope.training.accelerator import check_tracker

NET, X = torch.nn.Linear(2, 2), torch.zeros(1, 2)

WRONG: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: sample(lambda x, t, y=None: x, X, solver="Huen"),
        "solver is 'Huen'; expected one of euler, heun, .* 'heun'",
    ),
    (
        lambda: as_field(NET, "torch_cfm"),
        "convention is 'torch_cfm'; .*, or a flowscope.networks.Convention.* 'torchcfm'",
    ),
    (lambda: Convention("own", "velocty"), "prediction is 'velocty'; .* 'velocity'"),  # type: ignore[arg-type]
    (lambda: build_network("unett", (1, 4, 4)), "model is 'unett'; .* 'unet'"),
    (lambda: TrainSettings(target="orcale"), "target is 'orcale'; .* 'oracle'"),
    (lambda: TrainSettings(density="logitnormal"), "density is 'logitnormal'; .* 'logit-normal'"),
    (lambda: TrainSettings(schedule="cosinus"), "schedule is 'cosinus'; .* 'cosine'"),
    (lambda: check_tracker("tensorbord", "out"), "tracker is 'tensorbord'; .* 'tensorboard'"),
    (lambda: find("swich"), "the study is 'swich'; .* 'switch'"),
    (lambda: chosen_studies(["switch", "refne"]), "the study is 'refne'; .* 'refine'"),
    (lambda: check_study("switch", 1, 0, step=3), "an option of study switch is 'step'; .* 'steps'"),
    (lambda: options_for("switch", {"swtch": {}}), "'swtch'; expected one of all, intermediate.* 'switch'"),
    (lambda: kinds_of((2,), 0.5, 10, True, "cpu", {"lage": {}}), "'lage'; expected one of all, small.* 'large'"),
    (lambda: variants(TrainingSet(torch.zeros(3, 2)), "class"), "over is 'class'; .* 'classes'"),
]


@pytest.mark.parametrize(("call", "expected"), WRONG)
def test_the_name_that_was_meant_is_asked_for(call: Callable[[], Any], expected: str) -> None:
    message, _, meant = expected.rpartition(" ")
    with pytest.raises(InputError, match=f"^.*{message}.*: did you mean {meant}\\?$"):
        call()


@pytest.mark.parametrize("got", ["zzz", "", None, 3, ["heun"]])
def test_where_none_is_close_the_names_are_listed_alone(got: Any) -> None:
    assert str(unknown_name("solver", got, ("euler", "heun"))) == f"solver is {got!r}; expected one of euler, heun"
    assert did_you_mean(got, ("euler", "heun")) == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["sampel"], "No such command 'sampel'; expected what flowscope --help says: did you mean 'sample'?"),
        (["stages", "x", "--prbes", "3"], "expected what flowscope stages --help says: did you mean '--probes'?"),
        (["train", "x", "--rate", "0.1"], "expected what flowscope train --help says: did you mean '--lr'?"),
        (["train", "x", "--dropout", "0.1"], "did you mean '--label-dropout'?"),
        (["stages", "x", "--zzzzzz"], "expected what flowscope stages --help says: look there"),
        (["study", "intermediat", "--model", "m", "--data", "digits", "--json"], "did you mean 'intermediate'?"),
        (["train", "digits", "--out", "nowhere", "--target", "orcle"], "did you mean 'oracle'?"),
    ],
)
def test_commands_options_and_studies(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    line = capsys.readouterr().err
    assert line.endswith(f"{expected}\n") and line.count("\n") == 1


def test_a_source_that_is_nearly_a_name() -> None:
    with pytest.raises(InputError, match=r"'digist' is an unknown source; .* did you mean 'digits'\?$"):
        load("digist")

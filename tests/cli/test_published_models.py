"""Models of other projects from the command line: sampled, studied, shown beside the oracle, refused in one line."""

import json
import re
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from flowscope import load, load_model
from flowscope.cli import main
from flowscope.errors import FlowscopeWarning
from flowscope.sampling import make_nodes, sample
from flowscope.studies.bench.runs import runs_of
from flowscope.training import train_to
from tests.support.published import samples, write_checkpoint
from tests.support.trainings import tiny


def said(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    """What a command says on standard error."""
    assert main([str(word) for word in arguments]) == code
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Latents of three classes."""
    path = tmp_path_factory.mktemp("data") / "latents.npz"
    points = np.random.default_rng(0).standard_normal((24, 4, 4, 4)).astype(np.float32)
    np.savez(path, points=points, labels=np.arange(24) % 3)
    return path


@pytest.mark.slow_but("*lightningdit*")
@pytest.mark.parametrize("kind", ["sit", "dit", "repa", "lightningdit"])
def test_a_checkpoint_is_sampled(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = write_checkpoint(tmp_path / "tiny.pt", kind), tmp_path / "out"
    err = said(capsys, 0, "sample", path, "--out", out, "--n", 4, "--steps", 3, "--class", "all")
    assert "note" not in err or (kind == "dit" and "knows noise levels" in err)
    field = load_model(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FlowscopeWarning)  # DiT's last levels
        expected = sample(field, n=4, timesteps=make_nodes(3), y=[0, 1, 2, 0])
    assert torch.equal(torch.from_numpy(np.load(out / "samples.npy")), expected)
    about = json.loads((out / "samples.json").read_text())
    assert about["convention"] == kind and about["model"]["digests"] == field.about["digests"]


OWN = {  # the options of the samplers that the numbers were recorded with
    "sit": ("--guidance", 2),
    "lightningdit": ("--shift", 0.3, "--guidance", 3, "--interval", 0.11, 1),
    "repa": (),
}


@pytest.mark.parametrize("kind", OWN)
def test_samples_are_those_of_the_projects_own_sampler(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_checkpoint(tmp_path / "tiny.pt", kind), tmp_path / "out"
    how = ("--n", 2, "--steps", 6, "--class", 0, "--class", 1, *OWN[kind])
    assert said(capsys, 0, "sample", path, "--out", out, *how) == ""
    assert torch.allclose(torch.from_numpy(np.load(out / "samples.npy")), samples(kind), atol=1e-4)
    channels = json.loads((out / "samples.json").read_text())["channels"]
    assert channels == (None if kind == "repa" else 3)


MAKE = """
    import torch

    class Shrink(torch.nn.Module):
        num_classes = 3
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(-0.5))
        def forward(self, x, t, y):
            return self.weight * x

    def make():
        return Shrink()

    def needs(path, size=3):
        return Shrink()

    def raises():
        raise ValueError("no weights\\nhere")

    def nothing():
        return {"a": 1}

    class Mixed(Shrink):
        def forward(self, x, t, y):
            return torch.nn.functional.linear(x, self.weight.double().expand(4, 4))

    def mixed():
        return Mixed()
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with functions that return networks, or do not."""
    path = tmp_path_factory.mktemp("made") / "mine.py"
    path.write_text(textwrap.dedent(MAKE))
    return path


def test_a_function_is_sampled(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = ("--convention", "sit", "--shape", "4x4x4", "--n", 3, "--steps", 2, "--class", 1)
    assert said(capsys, 0, "sample", f"{made}:make", "--out", tmp_path / "out", *how) == ""
    found = torch.from_numpy(np.load(tmp_path / "out" / "samples.npy"))
    field = load_model(f"{made}:make", convention="sit", shape=(4, 4, 4))
    assert torch.equal(found, sample(field, n=3, steps=2, y=1))


WRONG = {
    "another name": (":maker", (), "mine.py has no function 'maker'; it has make, needs, raises, nothing, mixed;"),
    "arguments": (":needs", (), "needs of .*mine.py needs path; expected FILE.py:FUNCTION, a function without argum"),
    "raises": (":raises", (), r"raises of .* raised ValueError: no weights here \(mine.py, line 19\)"),
    "no module": (":nothing", (), "nothing of .*mine.py returned a dict; expected"),
    "no convention": (":make", (), "returned a Shrink, and flowscope does not know .* expected --convention NAME"),
    "unknown convention": (":make", ("--convention", "sitt"), "convention is 'sitt'; .* did you mean 'sit'"),
    "dtype": (":mixed", ("--convention", "sit"), "a Mixed that cannot be called .* in one dtype"),
    "no shape": (":make", ("--convention", "sit", "--shape", "4x0"), "--shape is '4x0'; expected the sides"),
    "label": (":make", ("--convention", "sit", "--class", "3"), "--class is '3'; expected a label from 0 to 2, or all"),
}


@pytest.mark.parametrize("name", WRONG)
def test_functions_that_do_not_do_are_refused_in_one_line(
    name: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    function, options, words = WRONG[name]
    shape = () if "--shape" in options else ("--shape", "4x4x4")
    line = said(capsys, 2, "sample", f"{made}{function}", "--out", tmp_path / "out", *shape, *options)
    assert re.search(words, line) and line.count("\n") == 1, line
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_study_takes_checkpoints_and_says_that_nobody_knows_their_points(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [write_checkpoint(tmp_path / f"{name}.pt", "lightningdit") for name in ("first", "second")]
    how = ("--data", data, "--quick", "--n", 40, "--no-references", "--out", tmp_path / "out")
    err = said(capsys, 0, "study", "loss", "--model", models[0], "--other", models[1], *how)
    notes = json.loads((tmp_path / "out" / "loss.json").read_text())["notes"]
    for words in ("nobody knows the points that first was", "second was trained on latents scaled by lightningdit:1.0"):
        assert words in err and any(words in note for note in notes)


@pytest.mark.long
def test_the_page_of_stages_shows_a_checkpoint_beside_the_oracle(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_checkpoint(tmp_path / "tiny.pt", "sit")
    options = ("--model", path, "--timesteps", 8, "--probes", 20, "--normalise", "channel")
    err = said(capsys, 0, "stages", data, "--out", tmp_path / "out", *options)
    assert "nobody knows the points that tiny was trained on" in err
    page = (tmp_path / "out" / "index.html").read_text()
    assert "tiny, " in page and (tmp_path / "out" / "switch" / "index.html").exists()


def test_checkpoints_of_one_folder_are_one_run_of_convergence(tmp_path: Path) -> None:
    paths = [write_checkpoint(tmp_path / f"{step:07d}.pt", "repa") for step in (200, 100)]
    paths.append(write_checkpoint(tmp_path / "best.pt", "repa"))
    models = [load_model(path) for path in paths]
    with pytest.warns(FlowscopeWarning, match="best does not say after how many steps"):
        runs = runs_of([*paths, tmp_path / "own"], [*models, models[0]])
    assert runs[tmp_path.name] == [(100, models[1]), (200, models[0])]
    assert runs["best.pt"] == [(1, models[2])] and runs["own"] == tmp_path / "own"


@pytest.mark.slow
def test_experts_of_other_projects_meet_at_the_boundary_that_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make = tmp_path / "mine.py"
    make.write_text(textwrap.dedent(MAKE).replace("num_classes = 3", "").replace("t, y", "t"))
    for name in ("first", "second"):
        (tmp_path / f"{name}.py").write_text(make.read_text())
    models = (
        "--model",
        f"{make}:make",
        *(w for k in ("first", "second") for w in ("--other", f"{tmp_path / k}.py:make")),
    )
    how = ("--data", "gaussian:N=40,D=2", "--convention", "sit", "--quick", "--n", 40, "--no-references")
    out = ("--out", tmp_path / "out")
    assert "--boundary T" in said(capsys, 2, "study", "experts", *models, *how, *out)
    said(capsys, 0, "study", "experts", *models, *how, *out, "--boundary", 0.4)
    assert "meet at t = 0.4" in (tmp_path / "out" / "experts.json").read_text()


def test_a_convention_for_a_model_that_has_one_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, points = tmp_path / "own", "gaussian:N=20,D=2"
    train_to(load(points), tiny(steps=1), own, tracker=None)
    for command in (("sample", own), ("study", "norm", "--data", points, "--model", own)):
        line = said(capsys, 2, *command, "--convention", "sit", "--out", tmp_path / "out")
        assert "is a model of flowscope's own, whose convention is known; leave it out" in line
    assert "without --model" in said(capsys, 2, "stages", data, "--convention", "sit", "--out", tmp_path / "out")

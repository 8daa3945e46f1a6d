"""Checkpoints of DiT, SiT, REPA and LightningDiT: outputs of their own code, what comes along, what is refused."""

import argparse
import math
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from flowscope import Monitor, Oracle, TrainingSet, load_model
from flowscope.errors import FlowscopeWarning, InputError
from flowscope.networks.published import read_network
from flowscope.networks.published.network import checkpoint_field
from tests.support.published import CLASSES, HEADS, KINDS, checkpoint, inputs, output, weights, write_checkpoint


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_outputs_are_those_of_the_projects_own_code(kind: str, tmp_path: Path) -> None:
    network = read_network(write_checkpoint(tmp_path / "x.pt", kind), variance=kind == "dit")
    assert network.training is False
    found = network(*inputs(kind))
    assert torch.allclose(found, output(kind), atol=1e-5, rtol=1e-5)
    assert float(found.abs().max()) > 0.1


SIGNS = {"sit": 1, "lightningdit": 1, "repa": -1}


@pytest.mark.parametrize("kind", SIGNS)
@torch.no_grad()
def test_fields_have_the_time_and_the_sign_of_the_project(kind: str, tmp_path: Path) -> None:
    """Its module gave `output` at its own times 0.25 and 0.8."""
    field = load_model(write_checkpoint(tmp_path / "0000070.pt", kind))
    x, t, _ = inputs(kind)
    given = 1 - t if kind == "repa" else t
    assert torch.allclose(field(x[:1], given[:1], 1), SIGNS[kind] * output(kind)[:1], atol=1e-5)
    assert torch.allclose(field(x[1:], given[1:]), SIGNS[kind] * output(kind)[1:], atol=1e-5)  # no label
    assert (field.classes, field.null, field.shape, field.about["step"]) == (CLASSES, CLASSES, (4, 4, 4), 70)
    assert field.convention.name == kind


@torch.no_grad()
def test_the_noise_of_dit_is_asked_for_at_its_timesteps(tmp_path: Path) -> None:
    """One Euler step of the field on the linear path is one step of DDIM, here written out."""
    network = read_network(write_checkpoint(tmp_path / "x.pt", "dit"), variance=True)
    field = load_model(tmp_path / "x.pt")
    kept = float(torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)[600])
    level = ((1 - kept) / kept) ** 0.5
    t = 1 / (1 + level)
    x = inputs("dit")[0][:1].double()
    own = x * (kept**0.5 + 0) * (1 + level) * 1.0
    noise = network(own.float(), torch.tensor([600.0]), torch.tensor([2]))[:, :4].double()
    data = (own - (1 - kept) ** 0.5 * noise) / kept**0.5
    expected = (data - x) / (1 - t)
    assert torch.allclose(field(x, t, 2), expected, atol=2e-4, rtol=1e-4)


def test_what_the_project_does_beside_comes_along(tmp_path: Path) -> None:
    said = {kind: load_model(write_checkpoint(tmp_path / "x.pt", kind)).about for kind in ("sit", "repa", KINDS[-1])}
    assert [about["guided_channels"] for about in said.values()] == [3, None, 3]
    assert [about["label_dropout"] for about in said.values()] == [0.1, 0.2, 0.1]
    assert [about["normalise"] for about in said.values()] == ["scale:0.18215", "scale:0.18215", "lightningdit:1.0"]
    assert all(about["weights"] == "averaged" and len(about["digests"]["x.pt"]) == 64 for about in said.values())


def test_the_last_weights_can_be_asked_for(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "x.pt", "sit")
    averaged, last = (load_model(path, ema=ema).module.state_dict() for ema in (True, False))
    assert all(torch.equal(averaged[k], v) for k, v in weights("sit").items())
    assert all(torch.equal(last[k], v) for k, v in weights("sit", 0.5).items())


def test_a_file_without_averaged_weights_says_so(tmp_path: Path) -> None:
    torch.save({k: v for k, v in checkpoint("repa").items() if k != "ema"}, tmp_path / "x.pt")
    with pytest.warns(FlowscopeWarning, match="x.pt holds no averaged weights: its last ones are taken"):
        field = load_model(tmp_path / "x.pt")
    assert field.about["weights"] == "last" and len(field.about["notes"]) == 1
    assert load_model(tmp_path / "x.pt", ema=False).about["notes"] == []


@pytest.mark.slow
def test_the_monitor_takes_a_checkpoint(tmp_path: Path) -> None:
    field = load_model(write_checkpoint(tmp_path / "x.pt", "lightningdit"))
    points = TrainingSet(torch.cat([inputs("sit")[0], -inputs("sit")[0]]), labels=[0, 1, 2, 0])
    found = Monitor(Oracle(points), bins=2, probes=8)(field, 1)
    assert found.step == 1 and math.isfinite(found.total["oracle_loss"])


def test_the_path_and_the_prediction_are_those_of_the_record(tmp_path: Path) -> None:
    saved = checkpoint("sit")
    saved["args"] = argparse.Namespace(**{**vars(saved["args"]), "path_type": "GVP", "prediction": "score"})
    torch.save(saved, tmp_path / "x.pt")
    field = load_model(tmp_path / "x.pt")
    assert (field.path.name, field.convention.path, field.convention.prediction) == ("cosine", "cosine", "score")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_what_wrappers_put_before_names_is_taken_off(prefix: str, tmp_path: Path) -> None:
    wrapped = {prefix + name: value for name, value in weights("repa").items()}
    torch.save({"ema": wrapped, "args": checkpoint("repa")["args"]}, tmp_path / "x.pt")
    assert torch.equal(
        load_model(tmp_path / "x.pt").module(*inputs("repa")),
        read_network(write_checkpoint(tmp_path / "y.pt", "repa"))(*inputs("repa")),
    )


def test_the_first_files_of_repa_count_their_later_blocks_anew(tmp_path: Path) -> None:
    old = {k.replace("blocks.1.", "decoder_blocks.0."): v for k, v in weights("repa").items()}
    torch.save({"ema": old, "args": checkpoint("repa")["args"]}, tmp_path / "x.pt")
    found = read_network(tmp_path / "x.pt")(*inputs("repa"))
    assert torch.allclose(found, output("repa"), atol=1e-5)


@torch.no_grad()
def test_weights_alone_say_everything_where_a_head_shows_its_width(tmp_path: Path) -> None:
    save_file(weights("lightningdit"), tmp_path / "x.safetensors")
    field = load_model(tmp_path / "x.safetensors")
    assert field.convention.name == "lightningdit" and field.about["step"] is None
    assert torch.allclose(field.module(*inputs("lightningdit")), output("lightningdit"), atol=1e-5)


def test_half_precision_stays_and_mixed_precision_becomes_float32(tmp_path: Path) -> None:
    half = {k: v.bfloat16() for k, v in weights("lightningdit").items()}
    torch.save(half, tmp_path / "half.pt")
    assert {v.dtype for v in read_network(tmp_path / "half.pt").state_dict().values()} == {torch.bfloat16}
    torch.save(half | {"pos_embed": half["pos_embed"].float()}, tmp_path / "mixed.pt")
    assert {v.dtype for v in read_network(tmp_path / "mixed.pt").state_dict().values()} == {torch.float32}


def test_sit_and_dit_have_the_same_names_and_one_must_be_said(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save(weights("sit"), path)
    with pytest.raises(InputError, match=r"a SiT or a DiT, .* expected --convention sit or --convention dit"):
        load_model(path)
    with pytest.raises(InputError, match="width 12, and neither its weights nor its record say how many heads"):
        load_model(path, convention="sit")
    assert read_network(path, heads=HEADS).sizes.classes == CLASSES
    with pytest.raises(InputError, match="width 12, and heads are 5; expected a divisor"):
        load_model(path, convention="sit", heads=5)
    field = load_model(path, convention="sit", heads=HEADS)
    assert (field.classes, field.null) == (CLASSES, CLASSES)
    torch.save({"ema": weights("sit"), "args": argparse.Namespace(num_heads=HEADS)}, path)
    assert [load_model(path, convention=name).convention.prediction for name in ("SiT", "dit")] == ["velocity", "noise"]


class Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran",)


def broken(kind: str, path: Path) -> Path:
    """A file with one fault."""
    found = checkpoint("sit")
    names = found["ema"]
    if kind == "missing":
        del names["blocks.1.mlp.fc1.bias"]
    elif kind == "unexpected":
        names["blocks.1.mlp.gate.bias"] = torch.zeros(3)
    elif kind == "size":
        names["blocks.1.attn.proj.weight"] = torch.zeros(12, 11)
    elif kind == "another":
        found = {"ema": {"conv.weight": torch.zeros(3, 3), "head.bias": torch.zeros(2)}}
    elif kind == "classes":
        found["args"].num_classes = 1000
    elif kind == "code":
        found["args"] = Code()
    elif kind == "list":
        found = [1, 2]
    torch.save(found, path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:3000])
    if kind == "empty":
        path.write_bytes(b"")
    return path


BROKEN = {
    "missing": "missing: blocks.1.mlp.fc1.bias; expected weights of the same architecture",
    "unexpected": "unexpected: blocks.1.mlp.gate.bias; expected",
    "size": r"of another shape: blocks.1.attn.proj.weight \(12, 11\) instead of \(12, 12\); expected",
    "another": r"another architecture than DiT, .* missing: x_embedder.proj.weight, .* unexpected: conv.weight, head.b",
    "classes": "says that it has 1000 classes, and its table of labels has 4 rows",
    "code": "is cut short, or holds Python objects that run code .* --model mine.py:make",
    "list": "holds a list; expected the weights of a network by name",
    "truncated": "is cut short, or holds Python objects",
    "empty": "x.pt cannot be read .*expected weights",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_other_files_are_refused_in_one_line(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=BROKEN[kind]) as caught:
        load_model(broken(kind, tmp_path / "x.pt"))
    assert "\n" not in str(caught.value) and "x.pt" in str(caught.value)
    assert "code ran" not in capsys.readouterr().out


def test_pickles_of_edm_are_refused_with_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "edm.pkl"
    path.write_bytes(pickle.dumps({"ema": Code()}))
    with pytest.raises(InputError, match=r"edm.pkl is a pickle, .*EDM2.* --model mine.py:make"):
        load_model(path)


def test_labels_and_points_of_other_kinds_are_refused(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "x.pt", "sit")
    with pytest.raises(InputError, match=r"y holds the label 4, .* 3 classes"):
        load_model(path)(inputs("sit")[0], 0.5, 4)
    with pytest.raises(InputError, match=r"of points of shape \(4, 4, 4\), the data have \(1, 8, 8\)"):
        load_model(path, shape=(1, 8, 8))
    with pytest.raises(InputError, match=r"convention is 'sitt'; expected one of .* did you mean 'sit'"):
        checkpoint_field(path, "sitt")
    for name in ("no.pt", "no.safetensors"):
        with pytest.raises(InputError, match="does not exist"):
            load_model(tmp_path / name)
    with pytest.raises(InputError, match="convention is 3; expected one of"):
        load_model(path, convention=3)  # type: ignore[arg-type]

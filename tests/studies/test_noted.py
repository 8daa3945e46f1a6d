"""What flowscope warns of during a study is on its page."""

import inspect
import warnings

import pytest
import torch
from torch import Tensor

import flowscope as fs
from flowscope.errors import FlowscopeWarning, InputError
from flowscope.networks import Convention, as_field
from flowscope.networks.tabulated_path import levels_path
from flowscope.report import finding_files
from flowscope.studies import Finding, catalogue
from flowscope.studies.bench.noted import noted
from flowscope.studies.norm import norm_study

SET = fs.load("mixture:N=80,D=5,modes=4,spread=0.5")
SAID = "net knows noise levels sigma/alpha from 0.5 to 2 and is wanted beyond them"


class Still(torch.nn.Module):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return 0 * x


@pytest.mark.slow
def test_a_page_says_what_was_clamped() -> None:
    field = as_field(Still(), Convention("mine", "data", path=levels_path(0.5, 2.0)), name="net")
    with pytest.warns(FlowscopeWarning, match=SAID):
        found = norm_study(field, fs.Oracle(SET), n=40, bins=4)
    assert [note for note in found.notes if note.startswith(SAID)] == [found.notes[-1]]
    page = finding_files(found)["index.html"]
    assert SAID in (page if isinstance(page, str) else page.decode())


def test_a_page_says_what_was_decided_in_the_training_of_a_model() -> None:
    about = {"notes": ["labels are dropped once", 3]}
    one, two = (as_field(Still(), "sit", about=about) for _ in range(2))

    @noted
    def study(models: object, other: object = None) -> Finding:
        return Finding("demo", "", "Fig. 0", "", "", "agrees", "", {"demo": {"t": [0.0]}})

    for found in (study(one), study([one, two]), study({"a": [one]}, other=two), study(None, other=two)):
        assert found.notes == ("labels are dropped once.",)
    assert study(as_field(Still(), "sit", about={"notes": 3})).notes == ()


def test_every_study_is_noted_and_keeps_its_arguments() -> None:
    for entry in catalogue.CATALOGUE.values():
        known = inspect.signature(entry.study).parameters
        assert hasattr(entry.study, "__wrapped__") and ("training_set" if entry.parts else "oracle") in known


@noted
def warned(fail: bool) -> Finding:
    warnings.warn("rounded", FlowscopeWarning, stacklevel=1)
    warnings.warn("another's", UserWarning, stacklevel=1)
    if fail:
        raise InputError("no")
    return Finding("demo", "", "Fig. 0", "", "", "agrees", "", {"demo": {"t": [0.0]}}, notes=("own",))


@pytest.mark.parametrize("fail", [False, True])
def test_warnings_go_their_usual_way_and_notes_hold_our_own(fail: bool) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        if fail:
            with pytest.raises(InputError, match="no"):
                warned(fail)
        else:
            assert warned(fail).notes == ("own", "rounded.")
    assert [str(w.message) for w in seen] == ["rounded", "another's"] and seen[0].filename == __file__

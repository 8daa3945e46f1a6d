"""memorise: on trainings whose times are known, on fields whose memory is known, and on folders of every kind."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import flowscope as fs
from flowscope.errors import FlowscopeWarning, InputError
from flowscope.references import GaussianMixture, LocalOracle, Wiener
from flowscope.studies import Finding, memorise_study
from flowscope.studies.bench.criteria import read_criteria
from flowscope.studies.bench.paired import Interval
from flowscope.studies.memorise.onsets import Onset, find_onset, growth
from flowscope.studies.memorise.sizes import part_of, points_left
from flowscope.training import TrainSettings, train, train_to


def images() -> fs.TrainingSet:
    """Noise of 4 x 4 pixels."""
    return fs.TrainingSet(np.random.default_rng(0).standard_normal((400, 1, 4, 4)), name="images")


def one_image() -> fs.TrainingSet:
    """Nineteen in twenty of the images are one."""
    points = np.random.default_rng(0).standard_normal((2000, 1, 4, 4))
    points[100:] = 0
    return fs.TrainingSet(points[np.random.default_rng(1).permutation(2000)], name="one image")


EXPECTED = read_criteria()["expected"]
KNOWN = [("memorise", field) for field in EXPECTED["memorise"] if field != "network"]  # without training steps
KNOWN += [("memorise_one_image", field) for field in EXPECTED["memorise_one_image"]]
FAST = [("memorise", "oracle"), ("memorise_one_image", "wiener")]
POINTS = fs.load("gaussian:N=500,D=8")
NO_SNAPSHOTS = ([], [(0, lambda x, t, y: x)], [("two", lambda x, t, y: x)], {4: "field"})
STATIC = {
    "wiener": Wiener,
    "mixture": GaussianMixture,
    "local": LocalOracle,
    "more": lambda points: fs.Oracle(images()),
    "oracle": fs.Oracle,
    "nothing": lambda points: still,
}
STEPS = [2, 4, 8, 16, 32, 64, 128]
QUICK = {"n": 120, "steps": 6, "probes": 40}


def fresh(x: Tensor, t: float, y: Tensor | None = None) -> Tensor:
    """The field of the whole Gaussian: every sample is new, and as good as a held-out point."""
    time = torch.as_tensor(t, dtype=x.dtype).reshape(-1, 1)
    return ((2 * time - 1) / (time**2 + (1 - time) ** 2)) * x


def still(x: Tensor, t: float, y: Tensor | None = None) -> Tensor:
    """Samples far from every point."""
    return 4 * torch.ones_like(x)


def training(good: Callable[[int], float], copies: Callable[[int], float]) -> Callable[[fs.TrainingSet], list]:
    """A maker whose samples are good from one step on, and copies from another, by the number of points."""

    def make(points: fs.TrainingSet) -> list:
        oracle, size = fs.Oracle(points), len(points)
        return [(s, oracle if s >= copies(size) else fresh if s >= good(size) else still) for s in STEPS]

    return make


def study(make, sizes=(16, 64), **options) -> Finding:
    return memorise_study(make, POINTS, sizes=sizes, **QUICK | options)


TRAININGS = {  # from when on samples are good, and copies, by the number of points; and the verdict
    "later": (lambda n: 4, lambda n: n, "agrees"),
    "together": (lambda n: 4, lambda n: 16, "differs"),
    "earlier": (lambda n: 4, lambda n: 1024 / n, "differs"),
    "slower": (lambda n: n / 8, lambda n: 2 * n, "differs"),
    "censored at the larger size": (lambda n: 4, lambda n: 32 if n < 40 else np.inf, "agrees"),
    "censored at both, as of a field without memory": (lambda n: 4, lambda n: np.inf, "cannot be tested"),
    "never good": (lambda n: np.inf, lambda n: np.inf, "cannot be tested"),
    "there from the first, as of the oracle": (lambda n: 2, lambda n: 2, "cannot be tested"),
}


@pytest.mark.parametrize(
    "case",
    [name if name == "later" else pytest.param(name, marks=pytest.mark.long) for name in TRAININGS],
)
def test_the_verdict_is_right_where_the_times_are_known(case: str) -> None:
    good, copies, verdict = TRAININGS[case]
    found = study(training(good, copies))
    assert found.verdict == verdict
    table = found.tables["memorise"]
    for size, after, by in zip(table["points"], table["copies_after"], table["copies_by"], strict=True):
        assert after < copies(size)
        assert np.isnan(by) == (copies(size) > STEPS[-1]) and not by < copies(size)
    memory = [share for name, share in zip(*(found.tables["references"][k] for k in ("reference", "memorised")),
                                           strict=True) if name == "oracle"]  # fmt: skip
    assert min(memory) > 0.9


@pytest.mark.parametrize(
    ("table", "field"), [row if row in FAST else pytest.param(*row, marks=pytest.mark.long) for row in KNOWN]
)
def test_the_verdict_on_a_field_of_known_memory_is_the_expected_one(table: str, field: str) -> None:
    """A field without training has no time at which copies come."""
    points, sizes = (images(), [32, 128]) if table == "memorise" else (one_image(), [600, 1200])
    found = memorise_study(STATIC[field], points, sizes=sizes, n=40, steps=5, probes=24)
    assert found.verdict == EXPECTED[table][field]
    copies = found.tables[f"steps_{sizes[0]}"]["memorised"][0] > 0.8
    assert copies == (field == "oracle" or table == "memorise_one_image")


@pytest.mark.slow
def test_without_references_nothing_is_told_and_a_result_is_read_again(tmp_path: Path) -> None:
    found = study(training(*TRAININGS["later"][:2]), references=False, n=40, steps=3)
    assert found.verdict == "cannot be tested"
    assert any("references=False" in note for note in found.notes)
    found.save(tmp_path)
    assert Finding.load(tmp_path, "memorise").tables["memorise"]["points"].tolist() == [16, 64]


def test_a_size_alone_is_said_to_be_too_few_before_anything_is_trained() -> None:
    def make(points: fs.TrainingSet) -> list:
        raise InterruptedError

    with pytest.warns(FlowscopeWarning, match="needs 2"), pytest.raises(InterruptedError):
        study(make, sizes=[32])


def test_an_onset_lies_between_two_snapshots_or_is_censored() -> None:
    none, all_ = Interval(0.0, 0.0, 0.01), Interval(1.0, 0.98, 1.0)
    unclear = Interval(0.05, 0.02, 0.1)
    assert find_onset([1, 2, 4, 8], [none, unclear, all_, all_], 0.05)[:2] == (1, 4)
    assert find_onset([1, 2], [none, none], 0.05)[:2] == (2, np.inf)
    assert find_onset([1, 2], [all_, all_], 0.05)[:2] == (0, 1)
    assert growth([Onset(1, 2, 8)], [Onset(4, 8, 8)]) == (1, 3)
    assert growth([Onset(1, 2, 8)], [Onset(8, np.inf, 8)]) == (2, np.inf)
    assert growth([Onset(0, 1, 8)], [Onset(0, 1, 8)]) == (-np.inf, np.inf)
    low, high = growth([Onset(1, 2, 8)] * 3, [Onset(4, 8, 16), Onset(8, 16, 16), Onset(2, 4, 16)])
    assert low < 0 < 4 < high  # means 1 and 3, and three draws reach 4.30 standard errors of 1/sqrt(3) farther


@pytest.mark.slow
def test_brackets_hold_the_true_onset_and_growth() -> None:
    """Shares that rise past the level at a known step, counted in 200 samples: at least 95 % of brackets hold it."""
    from flowscope.studies.memorise.snapshots import share_of

    rng, held, wide = np.random.default_rng(0), 0, 0
    for _ in range(200):
        onsets = []
        for truth in (20.0, 80.0):
            chance = [min(1.0, 0.05 * (step / truth) ** 2) for step in STEPS]
            shares = [share_of(torch.from_numpy(rng.random(200) < p)) for p in chance]
            onsets.append(find_onset(STEPS, shares, 0.05))
        held += onsets[0].after <= 20 <= onsets[0].by and onsets[1].after <= 80 <= onsets[1].by
        grown = growth(onsets[:1], onsets[1:])
        wide += grown.low <= 2 <= grown.high
    assert held >= 190 and wide >= 190


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sizes, another one of other settings, and one trained on other points."""
    folder = tmp_path_factory.mktemp("sizes")
    tiny = {"model": "mlp", "width": 8, "steps": 4, "batch": 8, "snapshots": 3}
    for name, size, draw, more in (
        ("a", 16, 0, {}),
        ("b", 48, 0, {}),
        ("wide", 48, 0, {"width": 16}),
        ("far", 16, 9, {}),
    ):
        points = part_of(POINTS, size, draw)
        train_to(points, TrainSettings(**tiny | more), folder / name, tracker=None)  # type: ignore[arg-type]
    return folder


@pytest.mark.slow
def test_folders_are_matched_with_their_points(folders: Path) -> None:
    found = memorise_study([folders / "b", folders / "a"], POINTS, **QUICK)
    assert found.tables["memorise"]["points"] == [16, 48]
    assert found.tables["steps_16"]["step"] == [1, 2, 4]
    assert [part["digest"] for part in found.settings["parts"]] == [part_of(POINTS, n, 0).digest for n in (16, 48)]
    assert part_of(POINTS, 16, 0).digest == fs.load("gaussian:N=500,D=8", subset=16).digest
    assert found.verdict == "cannot be tested"  # four steps


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ("a far", {}, r"far was trained on other points \(digest .*--subset 16"),
        ("a wide", {}, r"differs from b in width|wide differs from a in width"),
        ("a a", {}, "given twice"),
        ("a b", {"sizes": [16, 64]}, r"sizes are \[16, 64\], and the folders are of \[16, 48\]"),
        ("nothing", {}, "expected the folder of a model"),
    ],
)
def test_folders_that_do_not_fit_are_refused(folders: Path, names: str, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        memorise_study([folders / name for name in names.split()], POINTS, **QUICK, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": [32, 32]}, "different numbers of points from 2 to 500"),
        ({"sizes": [1, 32]}, "from 2 to 500"),
        ({"sizes": [32, 501]}, "from 2 to 500"),
        ({"sizes": [32, 500]}, "no points are left"),
        ({"sizes": [32, 495]}, "held-out points; expected at least 8"),
        ({"held_out": torch.zeros(20, 3)}, r"shape \(3,\); expected some of shape \(8,\)"),
        ({"draws": 0}, "draws is 0"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_trained(options: dict, message: str) -> None:
    def make(points: fs.TrainingSet) -> list:
        raise AssertionError

    with pytest.raises(InputError, match=message):
        study(make, **options)


@pytest.mark.parametrize("made", [7, *(pytest.param(m, marks=pytest.mark.slow) for m in NO_SNAPSHOTS)])
def test_what_a_maker_must_not_return(made: object) -> None:
    with pytest.raises(InputError, match="expected"):
        study(lambda points: made)


def test_points_left_are_in_no_part_and_near_none() -> None:
    digits = fs.load("digits", subset=300)
    mirrored = fs.TrainingSet(torch.cat([digits.rows(slice(None)), 1.1 * digits.rows(slice(0, 300))]))
    part = fs.TrainingSet(mirrored.rows(slice(0, 200)))
    left = points_left(mirrored, [part], 0)
    assert left is not None and len(left) <= 200  # the brighter copies of the 200 are left out, too
    apart = torch.cdist(left.rows(slice(None)).flatten(1), 1.1 * part.rows(slice(None)).flatten(1))
    assert float(apart.min()) > 0.1


@pytest.mark.long
def test_a_network_memorises_a_few_points_and_not_many() -> None:
    settings = TrainSettings(model="mlp", width=64, steps=800, batch=64, learning_rate=3e-3, ema=0.99)
    points = fs.TrainingSet(2 + fs.load("gaussian:N=500,D=5").points)  # noise is not good yet

    def make(part: fs.TrainingSet) -> list:
        kept = {16, 32, 64, 128, 512, 800}
        return [(s.step, deepcopy(s.ema_field)) for s in train(part, settings, device="cpu") if s.step in kept]

    found = memorise_study(make, points, sizes=(8, 64), n=200, steps=8, probes=40)
    assert found.verdict == EXPECTED["memorise"]["network"], found.found
    assert found.tables["steps_8"]["memorised"][-1] > 0.6 > 0.1 > found.tables["steps_64"]["memorised"][-1]
    assert found.tables["memorise"]["gap_by"][0] <= 512

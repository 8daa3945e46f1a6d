"""Pages say what the numbers mean, hold nothing that runs or loads but their own, and keep private what is private."""

import base64
import hashlib
import json
import re
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jinja2 import UndefinedError

import flowscope
from flowscope.core.files import write_files
from flowscope.curve.crossing import NEVER, Crossing
from flowscope.curve.info import training_set_info
from flowscope.curve.pictures import make_pictures, times_around
from flowscope.curve.result import Information
from flowscope.errors import OutputError
from flowscope.report import (
    ModelPart,
    finding_files,
    formatting,
    info_files,
    prose,
    reproduction_files,
    stages_files,
    sweep_files,
    write_stages,
    write_sweep,
)
from flowscope.report.page import environment
from flowscope.report.plain_text import as_text, json_safe, readable, without_paths
from flowscope.sampling import schedules
from tests.support.fakes import (
    HOSTILE,
    TRAINING_SET,
    class_curve,
    class_sweep,
    digits_curve,
    fake_finding,
    fake_pictures,
    fake_reproduction,
    size_sweep,
    undefined_curve,
)
from tests.support.pages import Page, draw_nothing


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_nothing(monkeypatch)


def _write_info(folder: Path) -> Path:
    """The page of a set all of whose texts are hostile."""
    points, labels = np.random.default_rng(0).standard_normal((40, 1, 4, 4)), np.arange(40) % 2
    texts = {"normalisation": HOSTILE, "notes": [HOSTILE], "source": HOSTILE, "origin": {"format": HOSTILE}}
    data = flowscope.TrainingSet(points, labels, None, HOSTILE, class_names=[HOSTILE, "b"], **texts)
    write_files(folder, info_files(training_set_info(flowscope.Oracle(data)), data))
    return folder / "index.html"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    """Each kind of page, written once."""
    folder = tmp_path_factory.mktemp("pages")
    hostile = {**TRAINING_SET, "name": HOSTILE}
    patch = pytest.MonkeyPatch()
    draw_nothing(patch)
    written = {
        "pictures": write_stages(digits_curve(12), folder / "pictures", fake_pictures(probes=1, times=2)),
        "hostile": write_stages(class_curve(training_set=hostile, notes=(HOSTILE,)), folder / "hostile"),
        "undefined": write_stages(undefined_curve(), folder / "undefined"),
        "sweep": write_sweep(size_sweep(), folder / "sweep"),
        "hostile sweep": write_sweep(class_sweep(), folder / "hostile-sweep"),
        "hostile info": _write_info(folder / "hostile-info"),
    }
    patch.undo()
    return {name: Page(path.read_text(encoding="utf-8")) for name, path in written.items()}


KINDS = ("pictures", "hostile", "undefined", "sweep", "hostile sweep", "hostile info")


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_self_contained_and_accessible(pages: dict[str, Page], kind: str) -> None:
    page = pages[kind]
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert all(len(image["alt"]) > 40 for image in page.all("img"))
    identities = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert max(Counter(identities).values()) == 1
    named = [a[key] for _, a in page.elements for key in ("aria-labelledby", "for") if key in a]
    assert set(named) <= set(identities)
    assert len(page.all("h1")) == 1
    assert page.all("html") == [{"lang": "en"}]


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_pages_own_script_may_run(pages: dict[str, Page], kind: str) -> None:
    page = pages[kind]
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    for element in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(page.scripts[element].encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert [a for a in page.all("script") if a.get("type") != "application/json"] == [{}]


@pytest.mark.parametrize("kind", ["hostile", "hostile sweep"])
def test_hostile_names_are_shown_as_text(pages: dict[str, Page], kind: str) -> None:
    page = pages[kind]
    assert HOSTILE in page.text
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))


def test_no_character_of_data_can_end_its_element() -> None:
    data = {"a": HOSTILE, "b": "<!--\u2028]]>", "c": [np.nan, np.inf, np.float64(2), np.arange(2)]}
    macros: Any = environment().get_template("macros.html.j2").module
    page = Page(macros.json_island("x", json_safe(data)))
    assert len(page.elements) == 1
    assert "<" not in page.scripts["x"]
    assert json.loads(page.scripts["x"]) == {"a": HOSTILE, "b": "<!--\u2028]]>", "c": [None, None, 2.0, [0, 1]]}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_undefined_shows_as_nan(pages: dict[str, Page], kind: str) -> None:
    page = pages[kind]
    for shown in (page.text, *(text for name, text in page.scripts.items() if name not in ("script", "style"))):
        assert not re.search(r"\b(nan|inf|none|null%)\b", shown.replace(": none", ""), re.IGNORECASE)


def test_an_undefined_curve_says_so_in_sentences(pages: dict[str, Page]) -> None:
    text = pages["undefined"].text
    assert "no boundary between navigation and refinement was found" in text
    assert "is 0.500 already at t = 0.0000" in text
    assert "self-check could not be made" in text
    assert "half is undefined: the mean top-1 weight starts at 0.5" in text
    assert not pages["undefined"].all("svg")


def test_the_page_says_what_the_numbers_mean(pages: dict[str, Page]) -> None:
    text = pages["pictures"].text.replace("\u00a0", " ")
    for sentence in (
        "navigation lasts to t = 0.537 and the transition to t = 0.752",
        "0.537 (95 % interval 0.520 to 0.550)",
        "27 start below t = 0.537: 54 % of the network evaluations",
        "Navigation ends at t = 0.537 (noise level sigma/alpha = 0.862, as EDM counts)",
        "does not say in which interval classifier-free guidance helps",
        "the optimal loss of arXiv 2506.13763",
        "InfoNoise, arXiv 2602.18647",
        "entropic time, arXiv 2504.13612",
        "below 0.2412 ± 0.0021",
        "7.460 ± 0.050 nats, against 7.494",
        "They agree within 4 standard errors: they differ by 0.68 standard errors",
        "predicted at t = 0.553, 3.0 % too late",
        "12 values from 0 to 0.916667",
        "3f" * 32,
    ):
        assert sentence in text


def test_the_spread_over_classes_is_told() -> None:
    told = prose.class_spread(class_curve())
    assert "half goes from t = 0.380 (two) to 0.440 (zero)" in told
    assert "saturation goes from t = 0.580 (two) to 0.640 (zero)" in told


def test_predictions_are_held_against_what_was_measured() -> None:
    found, deficit = prose.prediction(digits_curve())
    assert "3.0" in found and "late" in found and "1.2 nats more" in deficit
    assert prose.prediction(undefined_curve()) == ["The spectrum of this training set predicts no boundary."]
    (alone,) = prose.prediction(digits_curve(half=NEVER, deficit=np.nan))
    assert "none was measured" in alone


def test_a_saturation_that_is_never_reached_is_said() -> None:
    curve = digits_curve(saturation=NEVER, top1=np.linspace(0.1, 0.9, 64))
    assert "the transition does not end" in prose.verdict(curve)
    assert "still 0.900" in prose.verdict(curve)
    assert [name for name, _, _ in prose.stage_cards(curve)] == ["navigation", "transition"]


@pytest.mark.parametrize(
    ("information", "expected"),
    [
        (Information(7.46, 0.05, 7.494, 0.0), "They agree"),
        (Information(7.0, 0.05, 7.494, 0.0), "They do not agree"),
        (Information(7.0, 0.05, 7.494, 0.2), "They agree"),
        (Information(0.0, 0.0, 0.0, 0.0), "They agree"),
        (Information(0.1, 0.0, 0.0, 0.0), "They do not agree"),
        (Information(7.0, np.nan, 7.494, 0.0), "nothing can be said"),
        (Information(np.nan, np.nan, 7.494, 0.0), "could not be made"),
    ],
)
def test_the_self_check_is_judged_by_four_errors(information: Information, expected: str) -> None:
    assert expected in " ".join(prose.self_check(digits_curve(4, information=information)))


@pytest.mark.parametrize("half", [Fraction(49, 1000), Fraction(537, 1000), Fraction(9, 10)])
@pytest.mark.parametrize(
    "share", [Fraction(1, 100), Fraction(1, 5), Fraction(3, 10), Fraction(1, 2), Fraction(99, 100)]
)
def test_a_shift_gives_navigation_its_share_of_the_steps(half: Fraction, share: Fraction) -> None:
    """By moving every step through the shift, exactly, and counting."""
    s = Fraction(schedules.shift_for(float(share), float(half))).limit_denominator(10**9)
    assert float(s) == pytest.approx(schedules.shift_for(float(share), float(half)), rel=1e-6)
    exact = half * (1 - share) / (share * (1 - half))

    def moved(k: int) -> Fraction:
        t = Fraction(k, 50)
        return exact * t / (1 + (exact - 1) * t)

    assert float(exact) == pytest.approx(float(s), rel=1e-6)
    assert sum(moved(k) < half for k in range(50)) == schedules.steps_before(float(share))

    def diffusers(k: int) -> Fraction:
        sigma, shift = 1 - Fraction(k, 50), 1 / exact
        return 1 - shift * sigma / (1 + (shift - 1) * sigma)

    assert all(moved(k) == diffusers(k) for k in range(51))


@pytest.mark.parametrize("half", [0.02, 0.0201, 0.5, 0.537, 0.98, 0.999])
def test_steps_below_half_are_counted(half: float) -> None:
    assert schedules.steps_before(half) == sum(k / 50 < half for k in range(50))


def test_numbers_keep_their_digits() -> None:
    assert formatting.number(-0.012345) == "−0.0123"
    assert formatting.number(1797.4, 4) == "1797"
    assert formatting.number(3e-7) == "3.00e−07"
    assert formatting.number(float("nan")) == "undefined"
    assert formatting.number(float("-inf")) == "−∞"
    assert formatting.with_error(7.4567, 0.0512).replace("\u00a0", " ") == "7.457 ± 0.051"
    assert formatting.with_error(0.5, 0.0) == "0.5000"
    assert formatting.crossing(Crossing(0.5, np.nan, np.nan)) == "0.500 (95 % interval undefined)"


@pytest.mark.usefixtures("blank")
def test_no_absolute_path_is_in_a_page(tmp_path: Path) -> None:
    secret = "/home/somebody/secret place/set.npz"
    curve = digits_curve(
        4,
        training_set={**TRAINING_SET, "name": secret},
        settings={"path": "linear", "resume": "/home/somebody/state", "windows": "C:\\Users\\somebody\\x.npy"},
        notes=("read from /home/somebody/data.npy, file:///home/somebody/b.npy and ~/private/c.npy",),
    )
    swept = size_sweep(training_set={"name": secret, "variants": [curve.training_set]})
    for path in (write_stages(curve, tmp_path / "a"), write_sweep(swept, tmp_path / "b")):
        source = path.read_text(encoding="utf-8")
        sources = [source, *(base64.b64decode(m).decode("latin-1") for m in re.findall(r";base64,([\w+/=]+)", source))]
        for text in sources:
            assert "somebody" not in text
            assert str(tmp_path) not in text
        assert "set.npz" in source
    assert "data.npy" in (tmp_path / "a" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "words", ["images/second and 1/s", "value/8 - 1", "t = 0.5 / 2", "https://example.org/a/b", "a/b/c"]
)
def test_what_is_no_path_stays(words: str) -> None:
    assert without_paths(words) == words


def test_settings_read_plainly() -> None:
    assert as_text([1, 8, 8]) == "1 × 8 × 8"
    assert as_text(None) == "none"
    assert as_text(True) == "yes"
    assert as_text([0.25, 0.5]) == "0.25, 0.5"
    assert as_text(np.array([0.25, 0.5])) == "0.25, 0.5"
    assert as_text(()) == "none"
    assert json_safe({1: (np.float64(np.nan), "x")}) == {"1": [None, "x"]}


def test_mappings_in_lists_stay_lists_and_mappings_of_text() -> None:
    value = [{"path_of": "/home/somebody/m", "steps": 3, "shape": [1, 8]}, {}, None, [{"a": [{"b": True}]}, 0.5]]
    expected = [{"path of": "m", "steps": "3", "shape": "1 × 8"}, "none", "none", [{"a": [{"b": "yes"}]}, "0.5"]]
    assert readable(value) == expected
    assert readable([[1, 2], [3]]) == "1 × 2, 3"


def test_a_mapping_in_a_list_becomes_a_list_on_the_page() -> None:
    models = [{"name": HOSTILE, "digest": f"{k}" * 8, "ema": None} for k in range(9)]
    finding = fake_finding(panels=(), galleries=(), provenance={"nfe": 4, "models": models, "seeds": {"noise": 0}})
    page = Page(str(finding_files(finding)["index.html"]))
    assert not re.search(r"\{'|'\}|\[\{|None", page.text.replace(HOSTILE, ""))
    assert page.all("ul") == [{}, {"class": "nested"}]  # the notes, the models
    assert page.all("dl").count({"class": "nested"}) == len(models)
    for model in models:
        assert f"name {HOSTILE} digest {model['digest']} ema none" in page.text
    assert "seeds: noise 0" in page.text


def everything_hostile() -> dict[str, str]:
    """A page of each kind with a hostile text wherever a text may be."""
    texts = {"notes": (HOSTILE,), "training_set": {**TRAINING_SET, "name": HOSTILE, HOSTILE: HOSTILE}}
    texts |= {
        "settings": {"path": HOSTILE, HOSTILE: [{HOSTILE: [HOSTILE]}]},
        "provenance": {"nfe": 0, HOSTILE: HOSTILE},
    }
    gallery = fake_finding().galleries[0]._replace(title=HOSTILE, columns=(HOSTILE,) * 5)
    said = dict.fromkeys(("title", "where", "claim", "found", "why"), HOSTILE)
    finding = fake_finding(tables={HOSTILE: {HOSTILE: [HOSTILE]}}, panels=(), galleries=(gallery,), **said, **texts)
    row = fake_reproduction().rows[0]._replace(study=HOSTILE, **said)
    models = {HOSTILE: fake_reproduction().models["small-0"]}
    part = ModelPart(HOSTILE, gallery, fake_finding(**said), HOSTILE)
    named = replace(fake_pictures(probes=1, times=2), names=(HOSTILE,), note=HOSTILE)
    made = {
        "stages": stages_files(class_curve(**texts), named, part),
        "sweep": sweep_files(
            size_sweep((0, 1), over="classes", names=(HOSTILE, "zero"), half=np.array([0.3, 0.4]), **texts)
        ),
        "finding": finding_files(finding),
        "reproduction": reproduction_files(replace(fake_reproduction(), rows=(row,), models=models, **texts)),
    }
    return {name: str(files["index.html"]) for name, files in made.items()}


@pytest.mark.slow
@pytest.mark.usefixtures("blank")
def test_a_hostile_text_is_nowhere_more_than_text() -> None:
    for name, source in everything_hostile().items():
        page = Page(source)
        assert page.text.count(HOSTILE) > 3, name
        assert [a for a in page.all("script") if a.get("type") != "application/json"] == [{}], name
        assert all(image["src"].startswith("data:image/") for image in page.all("img")), name
        assert not [key for _, a in page.elements for key in a if key.startswith("on")], name


def test_a_value_that_a_template_lacks_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="verdict"):
        environment().from_string("{{ curve.verdict }}").render(curve=digits_curve(2))


@pytest.mark.usefixtures("blank")
def test_pictures_are_left_out_on_request_and_only_then(pages: dict[str, Page], tmp_path: Path) -> None:
    with_pictures, without = pages["pictures"], pages["hostile"]
    assert sum(a["src"].startswith("data:image/png") for a in with_pictures.all("img")) == 1
    assert not any("image/png" in value for _, a in without.elements for value in a.values())
    assert "no training image is in it" in without.text
    assert "no training image is in it" not in with_pictures.text
    vectors = write_stages(digits_curve(4, training_set={**TRAINING_SET, "shape": [64]}), tmp_path)
    assert "points of shape 64 are not images" in vectors.read_text(encoding="utf-8")


@pytest.mark.parametrize(("kind", "result"), [("pictures", digits_curve(12)), ("sweep", size_sweep())])
def test_downloads_are_the_files_that_the_result_saves(pages: dict[str, Page], kind: str, result: Any) -> None:
    links = {a["download"]: a["href"] for a in pages[kind].all("a") if "download" in a}
    assert set(links) == set(result.to_files())
    for name, source in result.to_files().items():
        content, _, body = links[name].partition(";base64,")
        saved = base64.b64decode(body).decode()
        if name.endswith(".csv"):
            assert (content, saved) == ("data:text/csv", source)
        else:
            assert content == "data:application/json"
            assert json.loads(saved) == json.loads(source)


def test_the_class_table_has_each_class_and_its_keys(pages: dict[str, Page]) -> None:
    rows = [a for tag, a in pages["hostile"].elements if tag == "th" and a.get("scope") == "row"]
    assert [a["data-key"] for a in rows if a.get("data-key") in ("zero", "one", "two", HOSTILE)] == [
        "zero",
        "one",
        "two",
        HOSTILE,
    ]


@pytest.mark.usefixtures("blank")
def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("flowscope.core.files.os.fsync", full)
    with pytest.raises(OutputError):
        write_stages(digits_curve(4), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("blank")
def test_a_measured_curve_becomes_a_page_that_repeats(tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (40, 3, 4, 4)).astype(np.float32)
    oracle = flowscope.Oracle(flowscope.TrainingSet(points, labels=np.arange(40) % 2, name="noise"))
    curve = flowscope.stages(oracle, timesteps=6, probes=16, conditional=True)
    shown = make_pictures(oracle, probes=1, times=times_around(curve.half.t, 3), conditional=True)
    first, second = (write_stages(curve, tmp_path / name, shown) for name in "ab")
    assert sorted(p.name for p in first.parent.iterdir()) == ["index.html", "stages.png", "stages.svg"]
    for path in first.parent.iterdir():
        assert path.read_bytes() == (second.parent / path.name).read_bytes()
    text = Page(first.read_text(encoding="utf-8")).text
    assert f"navigation lasts to t = {curve.half.t:.3f}" in text
    assert "They agree" in text

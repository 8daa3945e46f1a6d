"""The page of a training and its numbers: what they are of, when they are renewed, and what they replace."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import flowscope as fs
from flowscope.errors import OutputError
from flowscope.report import TrainingPage
from flowscope.report.training import next_command
from flowscope.training import TrainSettings, estimate, load_model, train_to
from flowscope.training.watch import Watched, change, read_history
from tests.support.pages import Page
from tests.support.toys import HELD_OUT, toy_set

USUAL: dict[str, Any] = {"model": "mlp", "width": 8, "batch": 8, "warmup": 0, "label_dropout": 0.0}
COMMAND = ["train", "toy.npz", "--out", "runs/m", "--steps=4", "--overwrite"]


class Seen:
    """A page that draws nothing, and keeps what it was given."""

    def __init__(self, stop_at: int = -1) -> None:
        self.seen: list[Watched] = []
        self.stop_at = stop_at

    def __call__(self, watched: Watched) -> dict[str, str]:
        if watched.about["step"] == self.stop_at and watched.state == "running":
            raise KeyboardInterrupt
        self.seen.append(watched)
        return {"index.html": f"<p>{watched.state} {watched.about['step']}</p>"}


def settings(**changes: Any) -> TrainSettings:
    return TrainSettings(**USUAL | {"steps": 4, "checkpoint_every": 2} | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Watched]]:
    """A toy model with a page that kept all, and what it was given."""
    page = Seen()
    folder = tmp_path_factory.mktemp("watched")
    return train_to(toy_set(), settings(), folder, held_out=HELD_OUT, tracker=None, page=page), page.seen


def test_what_is_shown_is_what_the_monitor_and_the_memorised_share_say_of_the_model(finished: Any) -> None:
    folder, seen = finished
    assert [(w.about["step"], w.state) for w in seen] == [(2, "running"), (4, "finished")]
    from flowscope.metrics import hold_out

    kept, rest = hold_out(toy_set(), HELD_OUT)
    monitor, model, last = fs.Monitor(fs.Oracle(kept), rest), load_model(folder), seen[-1]
    expected = monitor(model, 4)
    np.testing.assert_allclose(last.measurement.loss, expected.loss, rtol=1e-6)
    np.testing.assert_allclose(last.measurement.gap, expected.gap, rtol=1e-5)
    assert [entry["step"] for entry in last.history] == [2, 4]
    own = last.own
    flat, points = own.samples.reshape(len(own.samples), -1), kept.rows(slice(None)).numpy().reshape(len(kept), -1)
    distances = np.linalg.norm(flat[:, None] - points, axis=2)
    np.testing.assert_array_equal(own.indices, distances.argmin(1))  # toy points are no copies of each other
    np.testing.assert_array_equal(own.nearest.reshape(len(flat), -1), points[own.indices])
    assert (np.diff(own.ratio) >= 0).all() and own.memorised.share == (own.ratio < 1 / 3).mean()
    assert own.memorised.null_n == HELD_OUT
    told = json.loads((folder / "monitor.json").read_text())
    assert (
        told["history"][-1]["total"]["loss"] == last.measurement.total["loss"] == told["measurement"]["total"]["loss"]
    )


def test_a_page_of_the_users_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(OutputError, match=r"index\.html is in the way: flowscope did not write it"):
        train_to(toy_set(), settings(), tmp_path, tracker=None, page=Seen())
    assert (tmp_path / "index.html").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
    train_to(toy_set(), settings(steps=1), tmp_path, tracker=None)  # without a page it is in nobody's way
    assert (tmp_path / "index.html").read_text() == "mine"
    with pytest.raises(OutputError, match=r"index\.html is in the way"):
        train_to(toy_set(), settings(steps=2), tmp_path, tracker=None, page=Seen(), resume=True)
    train_to(toy_set(), settings(), tmp_path, tracker=None, page=Seen(), overwrite=True)
    assert (tmp_path / "index.html").read_text() == "<p>finished 4</p>"


def test_an_interrupted_run_says_so_and_ends_as_an_uninterrupted_one(finished: Any, tmp_path: Path) -> None:
    how: dict[str, Any] = {"held_out": HELD_OUT, "tracker": None}
    page = Seen(stop_at=2)
    with pytest.raises(KeyboardInterrupt):  # after the checkpoint, before the page of the step is there
        train_to(toy_set(), settings(), tmp_path, page=page, **how)
    assert page.seen[-1].state == "interrupted"
    train_to(toy_set(), settings(), tmp_path, page=Seen(), resume=True, **how)
    for name in ("monitor.json", "index.html", "ema.safetensors", "samples.png"):
        assert (tmp_path / name).read_bytes() == (finished[0] / name).read_bytes(), name
    train_to(toy_set(), settings(steps=6), tmp_path, page=(more := Seen()), resume=True, **how)
    assert [entry["step"] for entry in more.seen[-1].history] == [2, 4, 6]


def test_measuring_changes_no_weight_and_no_random_number(finished: Any, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    plain = train_to(toy_set(), settings(), tmp_path, held_out=HELD_OUT, tracker=None)
    assert torch.equal(before, torch.get_rng_state()) and not (plain / "monitor.json").exists()
    assert (plain / "ema.safetensors").read_bytes() == (finished[0] / "ema.safetensors").read_bytes()


def test_what_cannot_be_measured_is_said_and_stops_nothing(tmp_path: Path) -> None:
    page, one = Seen(), fs.TrainingSet(np.ones((1, 3), np.float32))
    train_to(one, settings(steps=1), tmp_path, tracker=None, page=page)
    assert page.seen[-1].own is None and any("k is 2; expected at most 1" in note for note in page.seen[-1].notes)
    html = Page(str(TrainingPage()(page.seen[-1])["index.html"]))
    assert "Not measured" in html.text and not any(tag == "pre" for tag, _ in html.elements)


@pytest.mark.slow
def test_the_page_says_what_the_numbers_say(finished: Any) -> None:
    running, last = finished[1]
    page = TrainingPage(COMMAND, "runs/m")
    open_page, closed = Page(str(page(running)["index.html"])), Page(str(page(last)["index.html"]))
    refresh = [a for a in open_page.all("meta") if a.get("http-equiv") == "refresh"]
    assert len(refresh) == 1 and int(refresh[0]["content"]) > 0
    assert not [a for a in closed.all("meta") if a.get("http-equiv") == "refresh"]
    assert "The training runs. Measured after step 2 of 4" in open_page.text
    assert "flowscope train toy.npz --out runs/m --steps=4 --resume" in open_page.text
    total = last.measurement.total
    said = re.search(r"The loss is ([\d.]+)\s±.*of which ([\d.]+)\s± .* own error is ([\d.]+)\s±", closed.text)
    assert said is not None
    for text, name in zip(said.groups(), ("loss", "floor", "oracle_loss"), strict=True):
        assert float(text) == pytest.approx(total[name], abs=0.6 * 10 ** -len(text.partition(".")[2]))
    copies = round(last.own.memorised.share * 36)
    assert f"{copies} of 36 samples are copies of training images" in closed.text
    assert f"of {HELD_OUT} held-out images pass the same test" in closed.text
    assert len(closed.all("img")) == 2  # the figure and the gallery


def with_errors(*values: float) -> tuple[Any, ...]:
    return tuple(
        {"step": 100 * k, "total": {"oracle_loss": value, "oracle_loss_error": 0.01}}
        for k, value in enumerate(values, 1)
    )


def test_the_next_command_follows_from_whether_the_error_still_falls(finished: Any) -> None:
    last, words = finished[1][-1], ["train", "toy.npz", "--steps", "4", "--out", "/home/me/m", "--resume"]
    falling = last._replace(history=with_errors(0.9, 0.5))
    assert change(falling.history) == (100, pytest.approx(0.4), pytest.approx(math.sqrt(2) * 0.01))
    assert next_command(falling, words, "m")[1] == "flowscope train toy.npz --out m --steps 8 --resume"
    still = last._replace(history=with_errors(0.5, 0.49))
    assert next_command(still, words, "runs/m")[1] == "flowscope sample runs/m --n 64 --out runs/m-samples"
    assert next_command(last._replace(state="interrupted"), COMMAND, "runs/m")[1].endswith("--steps=4 --resume")
    assert next_command(last._replace(state="failed"), COMMAND, "runs/m") is None
    assert change(with_errors(0.5)) is None


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"schema": 1}', '{"schema": 7, "history": []}', '{"history": [{"step": 0}]}']
)
def test_a_damaged_history_is_said_and_begun_anew(text: str, tmp_path: Path) -> None:
    (tmp_path / "monitor.json").write_text(text)
    history, notes = read_history(tmp_path / "monitor.json", 9)
    assert history == () and "is lost" in notes[0]
    assert read_history(tmp_path / "none.json", 9) == ((), ())


def test_an_estimate_is_what_a_training_takes(tmp_path: Path) -> None:
    wide = settings(steps=2, snapshots=2, width=128)
    found, model = estimate(toy_set(), wide), train_to(toy_set(), wide, tmp_path, tracker=None)
    about = json.loads((model / "model.json").read_text())
    assert found.parameters == about["parameters"] and 0 < found.seconds < 600
    there = sum(path.stat().st_size for path in model.rglob("*.safetensors"))
    assert found.disk == pytest.approx(there, rel=0.02)  # but for headers, and the record of the loss
    assert found.disk_peak > found.disk

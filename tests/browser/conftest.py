"""A headless Chromium, and the pages that flowscope writes, each written once."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flowscope
from flowscope.curve.pictures import make_pictures, times_around
from flowscope.report import ModelPart, TrainingPage, write_finding, write_reproduction, write_stages, write_sweep
from flowscope.training import TrainSettings, train_to
from flowscope.training.watch import Watched
from tests.support.fakes import (
    class_curve,
    class_sweep,
    digits_curve,
    fake_finding,
    fake_pictures,
    fake_reproduction,
    size_sweep,
    undefined_curve,
)
from tests.support.toys import HELD_OUT, toy_set

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def measured(folder: Path) -> Path:
    """The digits themselves, as the command line writes them."""
    oracle = flowscope.Oracle(flowscope.load("digits"))
    curve = flowscope.stages(oracle, timesteps=16, probes=64)
    return write_stages(curve, folder, make_pictures(oracle, probes=2, times=times_around(curve.half.t)))


def beside_a_model(folder: Path) -> Path:
    """The stage page with a model on it."""
    finding = fake_finding()
    return write_stages(digits_curve(), folder, model=ModelPart("small", finding.galleries[0], finding, "switch/"))


def training(folder: Path) -> Path:
    """The page of a training that runs."""

    def page(watched: Watched) -> dict[str, str | bytes]:
        return TrainingPage(["train", "toy.npz", "--out", "runs/m"], "runs/m")(watched._replace(state="running"))

    settings = TrainSettings(model="mlp", width=8, steps=60, batch=8, checkpoint_every=20)
    return train_to(toy_set(), settings, folder, held_out=HELD_OUT, tracker=None, page=page) / "index.html"


PAGES: dict[str, Callable[[Path], Path]] = {
    "digits": measured,
    "pictures": lambda folder: write_stages(digits_curve(), folder, fake_pictures(channels=3, side=32)),
    "classes": lambda folder: write_stages(class_curve(), folder),
    "undefined": lambda folder: write_stages(undefined_curve(), folder),
    "sweep": lambda folder: write_sweep(size_sweep(), folder),
    "class sweep": lambda folder: write_sweep(class_sweep(), folder),
    "finding": lambda folder: write_finding(fake_finding(), folder),
    "model": beside_a_model,
    "training": training,
    "reproduction": lambda folder: write_reproduction(fake_reproduction(), folder),
}


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """name -> the path of that page."""
    folder, done = tmp_path_factory.mktemp("pages"), {}

    def write(name: str) -> Path:
        if name not in done:
            done[name] = PAGES[name](folder / name)
        return done[name]

    return write


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium; without one tests are skipped, but not where CI is set."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        missing = f"no browser: none of {', '.join(BROWSERS)} is on the PATH; on Debian: apt-get install chromium"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield running
        running.close()


class Opened:
    """A page in the browser, with everything that it complained about or asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.address = path.as_uri()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append("a dialog"), dialog.dismiss()))
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(self.address)

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).inner_text())


@pytest.fixture
def open_page(browser: Any, written: Callable[[str], Path]) -> Iterator[Callable[..., Opened]]:
    """Open a page by its name; options are those of a browser context, such as color_scheme or viewport."""
    opened: list[Opened] = []

    def go(name: str, **options: Any) -> Opened:
        opened.append(Opened(browser, written(name), **options))
        return opened[-1]

    yield go
    for one in opened:
        one.context.close()

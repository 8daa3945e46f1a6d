"""The page of a training: drawn again at each checkpoint, from what the monitor measures there."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from flowscope.figures import finding_figure
from flowscope.figures.style import STANDARD_ERRORS_95
from flowscope.report import training_prose
from flowscope.report.elements import ThemedImage, themed_svg
from flowscope.report.finding import GalleryPart, figure_alt, gallery_part, table_of
from flowscope.report.formatting import number
from flowscope.report.page import render
from flowscope.report.plain_text import without_paths
from flowscope.report.provenance import provenance
from flowscope.studies.bench.finding import Gallery, Panel, Series
from flowscope.training.watch import PAGE, Watched, change

REFRESH_SECONDS = 30  # between two looks of an open page at its file, while the training runs
SHOWN_SAMPLES = 12  # in the gallery, those nearest to copies
BY_PART = ("loss", "floor", "excess", "oracle_loss", "gap")
COST = "Versions and cost"


@dataclass
class Drawn:
    """A training in the form of a finding, which the figure and the last section of a page take."""

    watched: Watched
    tables: Mapping[str, Mapping[str, Any]]
    panels: tuple[Panel, ...]
    training_set: Mapping[str, Any]
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]
    study: str = "training"

    def to_files(self) -> dict[str, str]:
        """The numbers, for download."""
        return self.watched.to_files()


class Pictures(NamedTuple):
    """What is drawn of a measurement."""

    image: ThemedImage | None
    gallery: GalleryPart | None


@dataclass
class TrainingPage:
    """Makes index.html of a training, for :func:`flowscope.training.train_to`.

    Args:
        command: the words of the command that trains, without "flowscope"; none where it was no command.
        out: the folder of the training, as the next command names it.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import flowscope as fs
        >>> from flowscope.report import TrainingPage
        >>> from flowscope.training import TrainSettings, train_to
        >>> settings = TrainSettings(model="mlp", width=8, steps=2, batch=4)
        >>> with TemporaryDirectory() as folder:
        ...     model = train_to(fs.load("mixture:N=40,D=4"), settings, folder, tracker=None, page=TrainingPage())
        ...     (model / "index.html").exists(), (model / "monitor.json").exists()
        (True, True)
    """

    command: Sequence[str] = ()
    out: str = ""
    _last: tuple[Any, Pictures] | None = field(default=None, repr=False)  # the measurement that was drawn

    def __call__(self, watched: Watched) -> dict[str, str | bytes]:
        """index.html, which reloads itself while the training runs."""
        drawn, s = as_drawn(watched), watched.about["training_set"]
        if self._last is None or self._last[0] is not watched.measurement:
            self._last = watched.measurement, _pictures(drawn)
        pictures = self._last[1]
        name = without_paths(str(s["name"])) or "points"
        shape = " × ".join(map(str, watched.about["shape"]))
        html = render(
            "training.html.j2",
            title=f"flowscope train: {name}",
            subtitle=f"{s['points']:,} training points of shape {shape}; {watched.about['parameters']:,} parameters",
            refresh=REFRESH_SECONDS if watched.state == "running" else None,
            state=training_prose.state(watched),
            sentences=training_prose.sentences(watched),
            next=next_command(watched, self.command, self.out),
            image=pictures.image,
            gallery=pictures.gallery,
            tables=[table_of(key, columns) for key, columns in drawn.tables.items() if key == "log-snr" and columns],
            notes=[*watched.about["notes"], *watched.notes],
            provenance=provenance(drawn, COST),
        )
        return {PAGE: html}


def next_command(watched: Watched, command: Sequence[str], out: str) -> tuple[str, str] | None:
    """What to do next, in words and as a command; None where the training was started by none, or has failed."""
    if not command or watched.state == "failed":
        return None
    again, settings = [word for word in command if word not in ("--resume", "--overwrite")], watched.about["settings"]
    if watched.state != "finished":
        words = "Ctrl-C keeps the last step. This goes on from there:"
        return words, _line([*again, "--resume"])
    changed = change(watched.history)
    clear = changed is not None and changed[1] > STANDARD_ERRORS_95 * changed[2]
    if clear and settings["schedule"] == "constant":
        longer = [*_without(again, "--steps"), "--steps", str(2 * settings["steps"]), "--resume"]
        return "The error still falls. This trains on, to twice as many steps:", _line(longer)
    return "This draws more samples:", _line(["sample", out, "--n", "64", "--out", f"{out.rstrip('/')}-samples"])


def _without(words: Sequence[str], option: str) -> list[str]:
    """The words of a command without an option and its value."""
    kept = []
    skip = False
    for word in words:
        if not (skip or word == option or word.startswith(f"{option}=")):
            kept.append(word)
        skip = word == option
    return kept


def _line(words: Sequence[str]) -> str:
    return without_paths(f"flowscope {shlex.join(words)}")


def as_drawn(watched: Watched) -> Drawn:
    """The tables and panels of a training."""
    about, s = watched.about, watched.about["training_set"]
    tables = {"log-snr": _by_part(watched), "training": _by_step(watched), "history": _by_checkpoint(watched)}
    return Drawn(
        watched,
        tables,
        _panels(watched, tables),
        {"N": s["points"], "shape": about["shape"], **{k: v for k, v in s.items() if k != "points"}},
        about["settings"] | {"held out": about["held_out"]["count"]},
        {"seconds": round(about["seconds"], 3), "device": about["device"], "versions": about["versions"]},
    )


def _by_part(watched: Watched) -> dict[str, Any]:
    """The parts of time that were trained on, with what is measured in each and its error."""
    found = watched.measurement
    if found is None:
        return {}
    where, columns = training_prose.trained(watched), {"log_snr": found.log_snr, "t": found.t}
    for name in (name for name in BY_PART if getattr(found, name) is not None):
        columns |= {name: getattr(found, name), f"{name}_error": getattr(found, f"{name}_error")}
    if found.held_out is not None:
        columns |= {"held_out_loss": found.held_out.loss, "held_out_loss_error": found.held_out.loss_error}
    return {name: values[where] for name, values in columns.items()}


def _by_step(watched: Watched) -> dict[str, Any]:
    """The loss in training, with the floor where the two compare."""
    columns: dict[str, Any] = {"step": watched.losses[:, 0], "loss": watched.losses[:, 1]}
    settings, found = watched.about["settings"], watched.measurement
    alike = all(settings[key] == value for key, value in training_prose.COMPARABLE.items())
    if alike and training_prose.whole(watched) and found is not None:
        columns["floor"] = np.full(len(watched.losses), found.total["floor"])
    return columns


def _by_checkpoint(watched: Watched) -> dict[str, Any]:
    """The network's own error at each checkpoint."""
    if not training_prose.whole(watched):
        return {}
    columns: dict[str, Any] = {"step": np.array([float(entry["step"]) for entry in watched.history])}
    for name in ("oracle_loss", "oracle_loss_error"):
        columns[name] = np.array([entry["total"].get(name) for entry in watched.history], dtype=np.float64)
    return columns


def _panels(watched: Watched, tables: Mapping[str, Mapping[str, Any]]) -> tuple[Panel, ...]:
    found: list[Panel] = []
    at, mean = "log-snr (noise left, data right)", "mean over coordinates"
    if tables["log-snr"]:
        losses = [Series.with_error(words, "log-snr", "log_snr", name) for words, name in (
            ("loss", "loss"), ("floor", "floor"), ("loss on held-out points", "held_out_loss"),
        ) if name in tables["log-snr"]]  # fmt: skip
        found.append(Panel("Loss against the floor", at, mean, tuple(losses)))
        error = Series.with_error("oracle loss", "log-snr", "log_snr", "oracle_loss")
        excess = Series.with_error("excess", "log-snr", "log_snr", "excess")
        found.append(Panel("The network's own error", at, mean, (error, excess)))
    if "gap" in tables["log-snr"]:
        gap = Series.with_error("generalisation gap", "log-snr", "log_snr", "gap")
        found.append(Panel("Generalisation gap", at, "held-out less training", (gap,)))
    if tables["history"] and len(tables["history"]["step"]) > 1:
        fall = Series.with_error("oracle loss", "history", "step", "oracle_loss")
        found.append(Panel("Error at the checkpoints", "step", mean, (fall,)))
    lines = [Series(f"{name} in training" if name == "loss" else name, "training", "step", name)
             for name in ("loss", "floor") if name in tables["training"]]  # fmt: skip
    if len(watched.losses) > 1:
        found.append(Panel("Loss of the batches", "step", mean, tuple(lines), y_scale="log"))
    return tuple(found)


def _pictures(drawn: Drawn) -> Pictures:
    image = None
    if drawn.panels:
        image = themed_svg(lambda theme: finding_figure(drawn, theme), figure_alt(drawn))
    own = drawn.watched.own
    if own is None:
        return Pictures(image, None)
    count = min(SHOWN_SAMPLES, len(own.samples))
    columns = tuple(f"d1/d2 = {number(float(ratio), 2)}" for ratio in own.ratio[:count])
    images = np.stack([own.samples[:count], own.nearest[:count]])
    gallery = Gallery("Samples with their nearest training points", images, ("sample", "nearest"), columns)
    return Pictures(image, gallery_part(gallery))

"""Audit: how many of some samples are copies of training points, which ones, and how well copies would be found."""

import html
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowscope.auditing.rule import Share
from flowscope.core.files import write_files
from flowscope.core.frames import to_frame
from flowscope.core.serialize import SCHEMA, csv_text, json_text, to_jsonable

FILES = CSV_NAME, JSON_NAME = "copies.csv", "audit.json"
PAGE_FILES = ("index.html", "pairs.png", "ratios.png", "ratios.svg", *FILES)


class Pair(NamedTuple):
    """A sample and the training point nearest to it.

    Example:
        >>> from flowscope.auditing import Pair
        >>> Pair(sample=0, training="cat.png", distance=0.0, ratio=0.0, copy=True).training
        'cat.png'
    """

    sample: str | int  # its file, else its position
    training: str | int
    distance: float  # d1, in the space's units
    ratio: float  # d1/d2
    copy: bool  # whether the rule calls the sample a copy


class ShownPairs(NamedTuple):
    """The worst pairs as images, (R, C, H, W) float32 each."""

    samples: np.ndarray
    training: np.ndarray  # mirrored where that is the match
    span: tuple[float, float]  # the values of black and white


@dataclass(frozen=True, eq=False, repr=False)
class Audit:
    """What an audit found. Shares come with 95 % Clopper-Pearson intervals.

    Attributes:
        n: how many samples there are.
        share: the share of them that are copies by the rule, with its interval, low and high.
        null: the same share of held-out points, None where there are none: how often the rule is wrong.
        pairs: a Pair for each sample, worst first: by ratio, distance and position.
        planted: kind -> the share of planted copies of that kind that the rule finds.
        rule: the rule in words.
        threshold: of d1/d2.
        third: the share of samples, and of held-out points (or None), with d1/d2 < 1/3, the literature's rule.
        measures: other measures of the samples and of the held-out points, a mapping each, with their errors.
        space: where distances are taken, and how.
        ratios: d1/d2 of samples and of held-out points, ascending, for the figure.
        shown: the worst pairs as images; None where points are no images.
        notes: what a reader must know, in sentences.
        training_set, settings, provenance: what the numbers are of and how they came about.

    Example:
        >>> import flowscope as fs
        >>> points = fs.load("gaussian:N=60,D=8")
        >>> found = fs.audit(points.rows(slice(0, 20)), points)
        >>> found
        Audit: 20 of 20 samples are copies (share 1.000, 0.832 to 1.000)
        >>> sorted(found.to_files())
        ['audit.json', 'copies.csv']
    """

    n: int
    share: float
    low: float
    high: float
    null: Share | None
    pairs: tuple[Pair, ...]
    planted: Mapping[str, float]
    rule: str
    threshold: float
    third: tuple[Share, Share | None]
    measures: tuple[Mapping[str, Any], ...]
    space: Mapping[str, str]
    ratios: tuple[np.ndarray, np.ndarray]
    shown: ShownPairs | None = None
    notes: tuple[str, ...] = ()
    training_set: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Audit: {self.summary}"

    @property
    def copies(self) -> int:
        """How many samples are copies by the rule."""
        return sum(pair.copy for pair in self.pairs)

    @property
    def summary(self) -> str:
        """The answer in a line."""
        what = "training points are copies or near-copies of others" if self.of_training_set else "samples are copies"
        return f"{self.copies} of {self.n} {what} (share {self.share:.3f}, {self.low:.3f} to {self.high:.3f})"

    @property
    def of_training_set(self) -> bool:
        """Whether it is an audit of the training set alone."""
        return self.settings.get("generated") is None

    def to_dict(self) -> dict[str, Any]:
        """Everything but images as plain numbers, lists and dictionaries; NaN and infinity as None."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("ratios", "shown", "third")}
        named["pairs"] = [pair._asdict() for pair in self.pairs]
        named["null"] = None if self.null is None else self.null._asdict()
        third = [None if share is None else share._asdict() for share in self.third]
        return {"schema": SCHEMA, **to_jsonable(named), "third": to_jsonable(third)}

    def to_json(self) -> str:
        """`to_dict` as JSON."""
        return json_text(self.to_dict())

    def to_files(self) -> dict[str, str]:
        """copies.csv (a row for each sample) and audit.json (all but images), by name."""
        return {CSV_NAME: csv_text(self._columns()), JSON_NAME: self.to_json()}

    def save(self, directory: str | Path) -> None:
        """Write `to_files` into a folder, whole or not at all.

        Raises:
            OutputError: the folder cannot be written.
        """
        write_files(directory, self.to_files())

    def to_frame(self) -> Any:
        """The pairs as a pandas DataFrame.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return to_frame(self._columns())

    def _columns(self) -> dict[str, list[Any]]:
        return {name: [getattr(pair, name) for pair in self.pairs] for name in Pair._fields}

    def plot(self) -> Any:
        """The worst pairs side by side, or the ratios where points are no images, as a matplotlib Figure."""
        from flowscope.figures import pairs_figure, ratio_figure

        return ratio_figure(self) if self.shown is None else pairs_figure(self)

    def _repr_html_(self) -> str:
        """The answer and the figure, for notebooks."""
        from flowscope.figures import html_image

        return f"<div><p>{html.escape(self.summary)}</p>{html_image(self.plot(), self.summary)}</div>"

"""The ladder: references whose memory is known, measured beside a model, and where between them the model lies.

A study measures one statistic of every field: of the references without memory (Wiener, mixture), of those with some
(local, smoothed), of the oracle, which is pure memory, and of the model. It tells memory from denoising if the oracle
differs from every reference without memory. Then the model has a place,

    place = (s_model - s_base) / (s_oracle - s_base),

with s_base that of the reference without memory which is nearest to the oracle.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flowscope.curve.intervals import student
from flowscope.fields import VelocityField
from flowscope.oracle import Oracle
from flowscope.references import ladder
from flowscope.studies.bench.criteria import criterion
from flowscope.studies.bench.finding import TELLS_NOTHING, Panel, Series, Verdict
from flowscope.studies.bench.paired import Interval
from flowscope.studies.bench.variants import record_of
from flowscope.training.monitor.evaluate import label_count

MODEL, ORACLE, MORE = "model", "oracle", "oracle of more data"
TABLE = "references"
CHEAP_VALUES = 2**22  # of a set: a pass over as many costs less than most networks
Fields = dict[str, VelocityField]


class Statistic(NamedTuple):
    """A number measured of a field.

    Attributes:
        value: the number.
        deviations: (m,) what each independent draw adds to its error, of the same draws for every field: the standard
            error is the root of the sum of their squares, and that of a difference likewise of their differences.
        df: degrees of freedom of that error.
    """

    value: float
    deviations: np.ndarray
    df: float

    @property
    def error(self) -> float:
        return float(np.linalg.norm(self.deviations))

    @property
    def interval(self) -> Interval:
        """The value with its 95 % interval by Student's t."""
        reach = student(self.df) * self.error if self.error > 0 else self.error
        return Interval(self.value, self.value - reach, self.value + reach)

    def __sub__(self, other: "Statistic") -> "Statistic":
        return Statistic(self.value - other.value, self.deviations - other.deviations, min(self.df, other.df))

    @property
    def sign(self) -> int:
        """The sign of the value if its interval leaves out 0, else 0."""
        found = self.interval
        return int(found.low > 0) - int(found.high < 0)


def statistic(*groups: tuple[float, np.ndarray]) -> Statistic:
    """The sum of sign times the mean of independent groups of values: each (sign, (n,) values)."""
    value = sum(sign * float(np.mean(values)) for sign, values in groups)
    parts = [
        sign * (values - np.mean(values)) / math.sqrt(len(values) * max(1, len(values) - 1)) for sign, values in groups
    ]
    return Statistic(value, np.concatenate(parts), min(len(values) for _, values in groups) - 1)


class Standing(NamedTuple):
    """Where a model lies between the references without memory and the oracle.

    Attributes:
        base: the reference without memory that is nearest to the oracle; "" if none was measured.
        tells: whether the oracle differs from every reference without memory.
        places: (value, low, high) of each field, 0 at the base and 1 at the oracle; NaN if the study does not tell.
    """

    base: str
    tells: bool
    places: dict[str, Interval]

    @property
    def model(self) -> Interval:
        return self.places[MODEL]

    def verdict(self, beyond: Verdict, short: Verdict) -> Verdict:
        """The verdict on a claim, given what it is for a model beyond halfway to the oracle, and short of that."""
        if not self.base:
            return "cannot be tested"
        if not self.tells:
            return TELLS_NOTHING
        half = criterion("shared")["halfway"]
        if self.model.low > half:
            return beyond
        return short if self.model.high < half else "cannot be tested"

    def in_words(self, measured: str) -> str:
        """The sentence at the top of a page that says where the model lies."""
        if not self.base:
            return f"No reference without memory was measured, so what is memory in {measured} cannot be told."
        if not self.tells:
            return (
                f"In {measured} the oracle does not differ from every reference without memory by more than the error "
                f"(nearest: {self.base}), so it does not tell memory from denoising."
            )
        half = criterion("shared")["halfway"]
        nearer = "between a denoiser without memory and the oracle of its training points"
        if self.model.low > half:
            nearer = "nearer to the oracle of its training points than to a denoiser without memory"
        elif self.model.high < half:
            nearer = "nearer to a denoiser without memory than to the oracle of its training points"
        return (
            f"In {measured} the model is {nearer}: it lies at {self.model} of the way from the references without "
            f"memory (0, nearest: {self.base}) to the oracle (1)."
        )


def stand(statistics: Mapping[str, Statistic]) -> Standing:
    """Where the fields stand.

    Args:
        statistics: of MODEL, ORACLE and the references, by name.
    """
    oracle = statistics[ORACLE]
    bases = {name: statistics[name] for name in criterion("shared")["memoryless"] if name in statistics}
    if not bases:
        return Standing("", False, dict.fromkeys(statistics, Interval(math.nan, math.nan, math.nan)))
    base = min(bases, key=lambda name: abs(oracle.value - bases[name].value))
    signs = {(oracle - one).sign for one in bases.values()}
    tells = len(signs) == 1 and 0 not in signs
    places = {name: place(one, bases[base], oracle, tells) for name, one in statistics.items()}
    return Standing(base, tells, places)


def place(one: Statistic, base: Statistic, oracle: Statistic, tells: bool) -> Interval:
    """A statistic as a share of the way from the base to the oracle, with its 95 % interval by the delta method."""
    whole, part = oracle - base, one - base
    if not tells or whole.value == 0:
        return Interval(math.nan, math.nan, math.nan)
    share = part.value / whole.value
    deviations = (part.deviations - share * whole.deviations) / whole.value
    return Statistic(share, deviations, min(part.df, whole.df)).interval


def reference_fields(
    oracle: Oracle, wanted: bool | None, models: Sequence[VelocityField], more: Oracle | None = None
) -> tuple[Fields, list[str]]:
    """The references to measure beside models, by name, and notes on what they are and which were left out.

    Args:
        oracle: of the training set.
        wanted: True for all, False for none, None for those that cost less than a model.
        models: under study.
        more: the oracle of a larger set that contains the training points, or None.
    """
    if wanted is False:
        return {}, ["No references were measured (references=False), so memory cannot be told from denoising."]
    rows = ladder(oracle, conditional=any(label_count(m) > 0 for m in models), more=more)
    rows.pop(ORACLE)
    notes = [f"The reference {name} is {row.about}." for name, row in rows.items()]
    notes += [f"The reference {name} was left out. {why}" for name, why in rows.left_out.items() if name != MORE]
    parameters = max(int(record_of(m).get("parameters") or 0) for m in models)
    if wanted is None and oracle.training_set.dimension * len(oracle.training_set) > max(parameters, CHEAP_VALUES):
        costly = [name for name, row in rows.items() if not row.memoryless]
        notes = [note for note in notes if not any(f"reference {name} " in note for name in costly)]
        notes.append(f"References that cost more than the model were left out: {', '.join(costly)} (--references).")
        return {name: row.field for name, row in rows.items() if row.memoryless}, notes
    return {name: row.field for name, row in rows.items()}, notes


def reference_table(name: str, statistics: Mapping[str, Statistic], standing: Standing) -> dict[str, Any]:
    """The table of references: a row for each, for the oracle and for the model, with its statistic and its place."""
    table: dict[str, Any] = {"reference": list(statistics)}
    for column, rows in ((name, [s.interval for s in statistics.values()]), ("place", list(standing.places.values()))):
        for part, end in (("value", ""), ("low", "_low"), ("high", "_high")):
            table[f"{column}{end}"] = [getattr(row, part) for row in rows]
    return table


def column_name(field: str) -> str:
    """The name of a field as the beginning of names of columns."""
    return field.lower().replace(" ", "_").replace("-", "_")


def reference_panel(title: str, y_label: str, column: str) -> Panel:
    """A bar for each field of the table of references."""
    return Panel(title, "", y_label, (Series.with_interval(y_label, TABLE, "reference", column),), "bar")

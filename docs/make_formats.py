"""Regenerate docs/formats.md: `python docs/make_formats.py`.

Its rows are those of tests/support/format_table.py. How an example is normalised, and its law, are what `load` says of
it.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.format_table import ROWS, Example, Row  # noqa: E402

from flowscope.data import TrainingSet  # noqa: E402

PAGE = ROOT / "docs" / "formats.md"
HEAD = """# Formats

Every source that flowscope reads. `python docs/make_formats.py` makes this page; *normalised* and *law* are what `load`
said of a small example of each. [Getting started](getting-started.md#your-own-data) says what is asked of a source that
leaves its meaning open, and [the zoo](results/zoo.md) shows what is said of sources that go wrong.

| source | what is read | normalised | law | tested against |
| --- | --- | --- | --- | --- |
"""


def normalised(example: Example, data: TrainingSet) -> str:
    """How an example's values became points, in words."""
    said = data.normalisation.partition(", statistics ")[0]  # whose digest is that of the example
    said = "as stored" if said == "none" else said
    return f"asked; here {said}" if "normalise" in example.options else said


def law(example: Example, data: TrainingSet) -> str:
    """Which law the points of an example are."""
    if "posterior" in example.options:
        return "asked: the means, or one sample of each"
    return "both orientations: 2 N points" if data.origin.get("flips") else "N points"


def line(row: Row, folder: Path) -> str:
    """The row as a line of the table; its example is written into the folder."""
    cells = ["-", "-"]
    if row.make is not None:
        example = row.make(folder)
        data = example.load()
        cells = [normalised(example, data), law(example, data)]
    return f"| {' | '.join([row.format, row.holds, *cells, row.against])} |\n"


def page(folder: Path) -> str:
    """The page; examples are written into folders of an empty one."""
    lines = []
    for number, row in enumerate(ROWS):
        place = folder / str(number)
        place.mkdir()
        lines.append(line(row, place))
    return HEAD + "".join(lines)


if __name__ == "__main__":
    with TemporaryDirectory() as made:
        PAGE.write_text(page(Path(made)), encoding="utf-8")

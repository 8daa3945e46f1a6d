"""Regenerate docs/results/zoo.md: `python docs/make_zoo.py`, what `flowscope info` says of sources that go wrong."""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.animals import ANIMALS, visit_all  # noqa: E402
from tests.support.zoo import Animal, Said  # noqa: E402

PAGE = ROOT / "docs" / "results" / "zoo.md"
HEAD = """# The zoo

Sources that went wrong, or could, and what `flowscope info SOURCE` says of each: of a refusal the line, of a set that
is read what was understood. `python docs/make_zoo.py` makes this page. Exit code 0 is read, 2 is refused.
"""


def line(place: Path, animal: Animal, said: Said) -> str:
    """A row of the table."""
    words = said.in_short.replace(f"{place.parent}/", "").replace("|", "\\|").replace("*", "\\*")
    words = re.sub(r"and [\d,.]+ GiB of memory are free", "and ... GiB of memory are free", words)
    source = " ".join([animal.name, *animal.arguments])
    return f"| `{source}` | {animal.what} | {said.code} | {words} |\n"


def page(visits: Mapping[str, Sequence[tuple[Path, Said]]]) -> str:
    """The page of visits that were made: for each part of the zoo the places and what was said, in order."""
    parts = [HEAD]
    for title, animals in ANIMALS.items():
        parts.append(f"\n## {title}\n\n| source | what it is | exit | what is said |\n| --- | --- | --- | --- |\n")
        lines = (line(place, animal, said) for animal, (place, said) in zip(animals, visits[title], strict=True))
        parts += lines
    return "".join(parts)


if __name__ == "__main__":
    with TemporaryDirectory() as made:
        PAGE.write_text(page(visit_all(Path(made))), encoding="utf-8")

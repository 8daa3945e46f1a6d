"""Record goldens.json: `python -m tests.goldens.record`, from the root of the repository.

Only what has changed gets other digits, and it is printed: it belongs in the message of the commit, with the reason.
"""

import tempfile
from pathlib import Path

import torch

from tests.goldens.measure import Goldens, measure
from tests.goldens.sets import SETS
from tests.goldens.store import FILE, changes, from_text, merged, to_text


def main() -> None:
    measured: dict[str, Goldens] = {}
    recorded = from_text(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for name in SETS:
        for dtype in (torch.float32, torch.float64):  # the latter last: its answers are those that are recorded
            with tempfile.TemporaryDirectory() as folder:
                measured |= measure(name, Path(folder), dtype)
    for change in changes(recorded, measured):
        print(change)
    for name in sorted(set(recorded) - set(measured)):
        print(f"{name} is gone")
    FILE.write_text(to_text(merged(recorded, measured)), encoding="utf-8")


if __name__ == "__main__":
    main()

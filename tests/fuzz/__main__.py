"""`python -m tests.fuzz`: change files and read them, until the minutes are over."""

import argparse
import secrets
import sys
from pathlib import Path

from tests.fuzz.readers import READERS
from tests.fuzz.run import fuzz


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of all changes; drawn if not given")
    parser.add_argument("--cases", type=int, default=10**9, help="run no more cases than these")
    parser.add_argument("--case", type=int, help="run this case alone")
    parser.add_argument("--reader", action="append", default=[], choices=[r.name for r in READERS])
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"), help="folder for files that made a fault")
    asked = parser.parse_args()
    print(f"seed {asked.seed}, {asked.minutes:g} minutes")
    cases = range(asked.cases) if asked.case is None else [asked.case]
    faults, ends = fuzz(asked.seed, cases, 60 * asked.minutes, asked.reader, asked.keep)
    for name, count in sorted(ends.items()):
        print(f"{count:8,}  {name}")
    for fault in faults:
        where = f"--seed {asked.seed} --case {fault.case}; files: {asked.keep / str(fault.case)}"
        print(f"\n{fault.reader}, {fault.change}: {where}")
        print(fault.what)
    print(f"{sum(ends.values()):,} cases, {len(faults)} faults")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())

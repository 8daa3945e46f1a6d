"""flowscope beside every other implementation of the oracle at hand: time, error and memory on the same questions.

    python benchmarks/suite.py [--quick] [--only NAME ...] [--resume]

Each contender runs in a process of its own, those with requirements (rivals/requirements) in an environment of their
own under .envs, made on demand. In every round each is called in turn on the same points, queries and times; medians
are compared with flowscope's and with a floor measured in between: the larger of what the two products take at the best
rate at hand and of what it takes to read the points once. A contender that does not install, dies, or does not end in
time is a row with its reason.

After each case what was found is kept in results/suite.partial, from which --resume goes on.
A whole run writes results/suite.json, and from it the plot and the tables of docs/benchmarks.md; `python
benchmarks/_pages.py` writes those anew from the numbers that are there.
"""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

import _cases
import _pages
from _contenders import ENVIRONMENTS, NAMES
from _harness import RESULTS
from _measure import Suite


def best_floors(found: list[dict]) -> dict:
    """The best rates of all measurements, and what reached them."""
    best = {}
    for kind in ("products", "reads"):
        name, rate = max(((n, r) for floors in found for n, r in floors[kind].items()), key=lambda pair: pair[1])
        best[kind] = {"rate": rate, "by": name, "best of each time": [max(f[kind].values()) for f in found]}
    return {**best, "measurements": found}


def compare(rows: list[dict], floors: dict) -> None:
    """Add to each row its ratios to the floor and to flowscope."""
    products, reads = floors["products"]["rate"], floors["reads"]["rate"]
    ours = {case_of(row): row["seconds"] for row in rows if row["contender"] == "flowscope" and "reason" not in row}
    for row in rows:
        row["floor"] = max(4 * row["N"] * row["D"] * row["B"] / products, 4 * row["N"] * row["D"] / reads)
        if "reason" not in row:
            row["over_floor"] = row["seconds"] / row["floor"]
            if case_of(row) in ours:
                row["over_flowscope"] = row["seconds"] / ours[case_of(row)]


def case_of(row: dict) -> tuple:
    return tuple(row[key] for key in ("data", "N", "D", "B", "t", "timesteps"))


def measure_all(suite: Suite) -> dict:
    """Everything that was asked for, as it is written."""
    settings = suite.settings
    if settings.resume:
        suite.resume()
    suite.begin()
    rows = []
    cases = _cases.QUICK if settings.quick else _cases.FULL
    for data in dict.fromkeys(case.data for case in cases if settings.data is None or case.data in settings.data):
        rows += suite.run([case for case in cases if case.data == data])
    growth = {} if settings.no_growth else _cases.growth(settings.quick)
    grown = suite.run(list(dict.fromkeys(case for part in growth.values() for case in part))) if growth else []
    suite.measure_floors()
    floors = best_floors(suite.floors)
    compare(rows, floors)
    parts = {axis: {case_of(vars(case)) for case in part} for axis, part in growth.items()}
    about = {
        "processor": suite.kept["processor"],
        "threads": settings.threads,
        "python": platform.python_version(),
        "load average before": suite.load,
        "command": " ".join(["python", "benchmarks/suite.py", *sys.argv[1:]]),
        "seconds allowed": settings.limit,
        "contenders": suite.about,
        "left out": suite.out,
    }
    by_axis = {axis: [row for row in grown if case_of(row) in part] for axis, part in parts.items()}
    return {"about": about, "floors": floors, "rows": rows, "growth": by_axis}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, in a minute or two")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=NAMES, default=NAMES, help=", ".join(NAMES))
    names = list(dict.fromkeys(case.data for case in _cases.FULL))
    parser.add_argument("--data", nargs="+", metavar="SET", choices=names, help=", ".join(names))
    parser.add_argument("--out", type=Path, help="folder for suite.json, suite.md and the plot; docs are left alone")
    parser.add_argument("--resume", action="store_true", help="go on from what an interrupted run has measured")
    parser.add_argument("--no-growth", action="store_true", help="leave out the growth with N, D, B and timesteps")
    parser.add_argument("--no-install", action="store_true", help="make no environments; use those that are there")
    parser.add_argument("--environments", default=str(ENVIRONMENTS), metavar="FOLDER", help="where those lie")
    parser.add_argument("--limit", type=float, default=60.0, metavar="S", help="seconds that one call may take")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    settings = parser.parse_args()
    settings.only = [name for name in NAMES if name in settings.only]
    whole = settings.only == list(NAMES) and not (settings.quick or settings.no_growth or settings.data)
    settings.out_folder = settings.out or (RESULTS if whole else None)
    settings.partial = None if settings.out_folder is None else settings.out_folder / "suite.partial"
    if settings.resume and settings.partial is None:
        parser.error("--resume needs --out FOLDER where a part of the suite is run")
    settings.least = 0.02 if settings.quick else 0.2  # seconds of calls in a turn
    return settings


def main() -> None:
    settings = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: the workers are ended
    if settings.out_folder is not None:
        settings.out_folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(settings.threads)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="flowscope-suite-") as folder:
        suite = Suite(settings, Path(folder))
        try:
            result = measure_all(suite)
        except KeyboardInterrupt:
            kept = "--resume goes on from the last whole case" if settings.partial else "nothing was written"
            sys.exit(f"interrupted; {kept}")
        finally:
            suite.close()
    print(f"\n{_pages.markdown(result)}\n\n{time.monotonic() - began:.0f} s")
    if settings.out_folder is None:
        print("part of the suite: nothing was written (--out FOLDER keeps it)")
        return
    (settings.out_folder / "suite.json").write_text(json.dumps(result, indent=1) + "\n")
    _pages.write(result, settings.out)
    settings.partial.unlink(missing_ok=True)


if __name__ == "__main__":
    main()

"""The contenders at work: each case asked of all of them, in rounds in which every one is called in turn."""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import _cases
import _floors
from _cases import Case
from _contenders import OutOfRaceError, Worker, environment, interpreter
from _harness import processor
from flowscope.core.files import write_atomic

KEPT = ("only", "quick", "threads", "rounds", "limit")  # settings that numbers depend on
LOAD_LIMIT, INSTALL_LIMIT = 600.0, 3600.0  # seconds
SLOW = 10.0  # a call that takes longer is timed once, and its memory is not looked at apart
WRONG = 1e-3  # the error on the small check above which a contender does not compute what is asked


class Suite:
    """The contenders, and what was found of them so far."""

    def __init__(self, settings: argparse.Namespace, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.pythons: dict[str, str] = {}
        self.workers: dict[str, Worker] = {}
        self.loaded: dict[str, tuple] = {}
        self.out: dict[str, str] = {}  # contenders that take no part, and why
        self.too_much: dict[str, int] = {}  # the work of a case that did not end in time
        self.about: dict[str, dict] = {}
        self.mapped = False  # whether the workers share the points' file instead of holding a copy each
        self.floors: list[dict] = []
        self.load = os.getloadavg()[0]
        self.rows: dict[str, list[dict]] = {}  # what was found of each case
        self.kept = {name: getattr(settings, name) for name in KEPT} | {"processor": processor()}

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()

    def begin(self) -> None:
        """Environments, workers, and each contender's answer to a small question."""
        for name in self.settings.only:
            folder, install = Path(self.settings.environments), not self.settings.no_install
            try:
                self.pythons[name] = interpreter(name, folder, install, INSTALL_LIMIT)
            except OutOfRaceError as failed:
                self.out[name] = str(failed)
        case = _cases.CHECK
        file, points, apart = _cases.stored(self.folder, [case])
        for name in self.pythons:
            try:
                found = max(self.first(name, replaced, file, points, apart)["error"] for replaced in checks(case))
                self.about[name] = {**self.workers[name].ask("about", LOAD_LIMIT), "check": found}
                if found > WRONG:
                    raise OutOfRaceError(f"wrong: error {found:.2g} on a small set")
            except OutOfRaceError as failed:
                self.out[name] = str(failed)
        for name in self.settings.only:
            found = self.out[name] if name in self.out else f"error {self.about[name]['check']:.0e} on a small set"
            print(f"  {name}: {found}", flush=True)

    def worker(self, name: str, case: Case, file: Path) -> Worker:
        """A contender's worker with the points of a case, started or started anew where it died."""
        if name not in self.workers or not self.workers[name].alive:
            self.workers[name] = Worker(name, self.pythons[name], self.settings.threads, self.folder / f"{name}.log")
            self.loaded.pop(name, None)
        key = (str(file), case.N, case.D)
        if self.loaded.get(name, (None,))[0] != key:
            self.loaded.pop(name, None)
            asked = dict(file=str(file), rows=case.N, dimension=case.D, mapped=self.mapped)
            answer = self.workers[name].ask("load", LOAD_LIMIT, **asked)
            self.loaded[name] = (key, {"held": answer["held"], "mapped": self.mapped})
        return self.workers[name]

    def first(self, name: str, case: Case, file: Path, points: np.ndarray, apart: np.ndarray) -> dict:
        """A contender's first call on a case: its error, how long it took, and its memory."""
        if name in self.out:
            raise OutOfRaceError(self.out[name])
        if case.work >= self.too_much.get(name, sys.maxsize):
            raise OutOfRaceError(f"not tried: a case of no more work did not end in {self.settings.limit:g} s")
        asked = self.asked(case, points, apart)
        try:
            worker = self.worker(name, case, file)
            out = self.folder / f"{name}-answer.npy"
            found = worker.ask("run", self.settings.limit, **asked, out=str(out))
            found["error"] = _cases.error(np.load(out), *self.truth(case, points, apart))
            if found["seconds"] >= SLOW:  # perhaps something was compiled
                found |= worker.ask("time", self.settings.limit, **asked, least=0)
            if found["seconds"] < SLOW:
                found |= worker.ask("memory", self.settings.limit, **asked)
        except OutOfRaceError as failed:
            if "did not end" in str(failed):
                self.too_much[name] = case.work
            raise
        return {**found, **self.loaded[name][1]}

    def asked(self, case: Case, points: np.ndarray, apart: np.ndarray) -> dict:
        """The queries of a case as a file, with their time."""
        file = self.folder / f"x-{case.data}-{case.N}-{case.D}-{case.B}-{case.t}.npy"
        if not file.exists():
            np.save(file, _cases.queries(case, points, apart))
        return {"file": str(file), "t": case.t}

    def truth(self, case: Case, points: np.ndarray, apart: np.ndarray) -> tuple[Tensor, Tensor]:
        file = self.folder / f"u-{case.data}-{case.N}-{case.D}-{case.B}-{case.t}.pt"
        if not file.exists():
            x = np.load(self.asked(case, points, apart)["file"])[: _cases.CHECKED]
            torch.save(_cases.truth(case, points, x), file)
        return torch.load(file, weights_only=True)

    def measure(self, case: Case, file: Path, points: np.ndarray, apart: np.ndarray) -> list[dict]:
        """A row for every contender: first calls, then rounds in which each is timed in turn."""
        rows, taken = {}, {}
        for name in self.settings.only:
            rows[name] = {**vars(case), "contender": name}
            try:
                rows[name] |= self.first(name, case, file, points, apart)
                slow = rows[name]["seconds"] >= SLOW
                taken[name] = [rows[name]["seconds"]] if slow else []
            except OutOfRaceError as failed:
                rows[name]["reason"] = str(failed)
        asked = {**self.asked(case, points, apart), "least": self.settings.least}
        for _ in range(self.settings.rounds):
            for name in list(taken):
                if rows[name]["seconds"] >= SLOW:
                    continue
                try:
                    taken[name].append(self.workers[name].ask("time", 3 * self.settings.limit, **asked)["seconds"])
                except OutOfRaceError as failed:
                    rows[name]["reason"] = str(failed)
                    del taken[name]
        for name, seconds in taken.items():
            scaled = [value * case.B / rows[name]["queries"] for value in seconds]
            rows[name] |= {"seconds": statistics.median(scaled), "range": [min(scaled), max(scaled)]}
        return list(rows.values())

    def measure_curve(self, case: Case, file: Path, points: np.ndarray, apart: np.ndarray) -> list[dict]:
        """Rows for a loop over timesteps, and for those that can, for all of them in one pass."""
        x = self.folder / "timesteps.npy"
        np.save(x, _cases.queries(case, points, apart))
        ways = {name: ("curve", {"file": str(x), "times": case.times}) for name in self.settings.only}
        for name in [name for name in ways if self.about.get(name, {}).get("one_pass")]:
            ways[f"{name}, one pass"] = ("one_pass", {"timesteps": case.timesteps, "batch": case.B})
        rows = {way: {**vars(case), "contender": way} for way in ways}
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(self.settings.rounds):
            for way in [way for way in ways if "reason" not in rows[way]]:
                name, (op, asked) = way.partition(",")[0], ways[way]
                try:
                    if name in self.out:
                        raise OutOfRaceError(self.out[name])
                    found = self.worker(name, case, file).ask(op, self.settings.limit, **asked)
                    taken[way].append(found["seconds"] * case.B / found.get("queries", case.B))
                except OutOfRaceError as failed:
                    rows[way]["reason"] = str(failed)
        for way in [way for way in ways if "reason" not in rows[way]]:
            rows[way]["seconds"] = statistics.median(taken[way])
        return list(rows.values())

    def run(self, cases: list[Case]) -> list[dict]:
        """Rows of cases on one data set; those that are known already are not asked again."""
        if left := [case for case in cases if str(case) not in self.rows]:
            self.measure_cases(left, cases)
        return [row for case in cases for row in self.rows[str(case)]]

    def measure_cases(self, left: list[Case], cases: list[Case]) -> None:
        """Ask those that are left of the cases on one data set, whose points are stored for all of them."""
        self.measure_floors()
        file, points, apart = _cases.stored(self.folder, cases)
        # decided once for all, so that no contender reads from other memory than its neighbour
        self.mapped = points.nbytes * len(self.pythons) > memory_available() / 2
        for case in left:
            found = (self.measure if case.timesteps is None else self.measure_curve)(case, file, points, apart)
            self.rows[str(case)] = found
            self.save()
            print(f"{case}: " + ", ".join(f"{r['contender']} {brief(r)}" for r in found), flush=True)
        self.forget()
        file.unlink()

    def save(self) -> None:
        """What was found so far, for `resume`; nothing where no file was given."""
        if self.settings.partial is not None:
            state = {"settings": self.kept, "load": self.load, "floors": self.floors, "rows": self.rows}
            write_atomic(self.settings.partial, json.dumps(state))

    def resume(self) -> None:
        """Go on from what an earlier run with the same settings, on the same processor, has saved."""
        try:
            state = json.loads(self.settings.partial.read_text())
        except FileNotFoundError:
            return
        differ = [key for key, value in self.kept.items() if state["settings"][key] != value]
        if differ:
            sys.exit(f"{self.settings.partial} is of a run with other {', '.join(differ)}; begin anew without --resume")
        self.load, self.floors, self.rows = state["load"], state["floors"], state["rows"]
        print(f"  going on after {len(self.rows)} cases", flush=True)

    def forget(self) -> None:
        """Let the workers that live give their points back, before others are made."""
        self.loaded.clear()
        for worker in self.workers.values():
            if worker.alive:
                with contextlib.suppress(OutOfRaceError):  # then it is started anew
                    worker.ask("forget", LOAD_LIMIT)

    def measure_floors(self) -> None:
        asked = json.dumps(_floors.QUICK if self.settings.quick else _floors.WHOLE)
        command = [sys.executable, "-P", str(Path(__file__).parent / "_floors.py"), asked]
        done = subprocess.run(
            command, env=environment(self.settings.threads), check=True, capture_output=True, text=True
        )
        self.floors.append(json.loads(done.stdout))


def checks(case: Case) -> list[Case]:
    """The small question at three times."""
    return [Case(case.data, case.N, case.D, case.B, t) for t in (0.1, 0.5, 0.9)]


def brief(row: dict) -> str:
    return f"{row['seconds']:.3g} s" if "reason" not in row else f"({row['reason'][:60]})"


def memory_available() -> int:
    """Bytes that can be taken without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2

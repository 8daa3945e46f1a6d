"""One contender in a process of its own: reads a command a line from standard input (JSON), answers each by a line.

    load    {file, rows, dimension}   take points[:rows, :dimension]    -> {held: bytes beyond the points}
    run     {file, t, out}            one call, its answer to `out`     -> {seconds, queries}
    memory  {file, t}                 one call                          -> {transient: bytes beyond what `load` left}
    time    {file, t, least}          calls until `least` seconds       -> {seconds: median of a call, calls}
    curve   {file, times}             a call for each of x (T, B, D)    -> {seconds}
    one_pass {timesteps, batch}       all timesteps by `prepare_curve`  -> {seconds}
    forget  {}                        let go of the points
    about   {}                        -> {releases, python, one_pass: whether it can}

It runs under the contender's interpreter, which may hold nothing beside numpy and the contender: no other file of this
folder is imported. What a library prints goes to standard error.
"""

import contextlib
import ctypes
import gc
import importlib.metadata
import importlib.util
import json
import os
import statistics
import sys
import time

import numpy as np

REST = 0.25  # seconds before calls are timed: OpenBLAS's threads, of the contender before, look for work for 0.1 s


def status(key):
    """VmRSS or VmHWM of this process in bytes; None where there is no /proc."""
    try:
        with open("/proc/self/status") as lines:
            return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key + ":"))
    except (OSError, StopIteration):
        return None


def settle():
    """Give freed memory back, so that what is held can be read off."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # another C library than glibc: what is held reads a little high
        ctypes.CDLL(None).malloc_trim(0)


def load_module(path):
    spec = importlib.util.spec_from_file_location("contender", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Contender:
    def __init__(self, path):
        self.module = load_module(path)
        self.limit = getattr(self.module, "QUERIES", None)
        self.points = self.velocity = self.at_rest = None

    def forget(self):
        self.points = self.velocity = None
        settle()
        return {}

    def load(self, file, rows, dimension, mapped):
        self.forget()
        before = status("VmRSS")
        stored = np.load(file, mmap_mode="c")[:rows, :dimension]
        own = not mapped or not stored.flags.c_contiguous
        self.points = np.array(stored, order="C") if own else stored.view(np.ndarray)  # some ask for that very type
        self.points.max()  # touches every page, so that none counts as used by a call
        del stored
        self.velocity, size = self.module.prepare(self.points), self.points.nbytes
        if not hasattr(self.module, "prepare_curve"):
            self.points = None  # a contender that made a copy needs no second one
        settle()
        self.at_rest = status("VmRSS")
        return {"held": None if before is None else max(0, self.at_rest - before - size)}

    def queries(self, file):
        x = np.load(file)
        return x if self.limit is None else x[..., : self.limit, :]

    def call(self, x, t):
        began = time.perf_counter()
        answer = self.velocity(x, t)
        return time.perf_counter() - began, answer

    def run(self, file, t, out):
        x = self.queries(file)
        seconds, answer = self.call(x, t)
        np.save(out, np.asarray(answer))
        return {"seconds": seconds, "queries": len(x)}

    def memory(self, file, t):
        x = self.queries(file)
        settle()
        try:
            with open("/proc/self/clear_refs", "w") as control:
                control.write("5")  # the peak starts anew
        except OSError:
            return {"transient": None}
        self.call(x, t)
        return {"transient": max(0, status("VmHWM") - self.at_rest)}

    def time(self, file, t, least):
        x, taken = self.queries(file), []
        time.sleep(REST)
        while not taken or sum(taken) < least:
            taken.append(self.call(x, t)[0])
        return {"seconds": statistics.median(taken), "calls": len(taken)}

    def curve(self, file, times):
        x = self.queries(file)
        return {"seconds": sum(self.call(x[i], t)[0] for i, t in enumerate(times)), "queries": x.shape[1]}

    def one_pass(self, timesteps, batch):
        whole = self.module.prepare_curve(self.points)
        began = time.perf_counter()
        whole(timesteps, batch)
        return {"seconds": time.perf_counter() - began}

    def about(self):
        """Releases of what is loaded and matters."""
        found = {}
        for name in ("numpy", "torch", "jax", "faiss-cpu", "pykeops", "deepinv", "smalldiffusion", "rectified-flow"):
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return {"releases": found, "python": sys.version.split()[0], "one_pass": hasattr(self.module, "prepare_curve")}


def main():
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints does not come between the answers
    commands = ("load", "run", "memory", "time", "curve", "one_pass", "forget", "about")
    contender = None
    for line in sys.stdin:
        asked = json.loads(line)
        op = asked.pop("op")
        try:
            if contender is None:
                contender = Contender(sys.argv[1])
            if op not in commands:
                raise ValueError(f"unknown command {op!r}")
            answer = getattr(contender, op)(**asked)
        except Exception as error:  # noqa: BLE001 - whatever fails in a rival is its row's reason
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()

"""What the monitor costs: one call at its default interval of steps, as a share of the time that training takes.

The goal is under 5 %. A call evaluates the model once, without gradients, at every probe on the training law and again
on held-out points; the oracle answers only once, when the monitor is made. In accelerate and Lightning it also draws a
few samples for the memorised share at every tenth call: the last row is the mean of ten calls. Networks and batches are
those of `flowscope train` unless said otherwise; the loop is the same one, so that a step costs what it costs there.
Seconds are of the processor's time on the CPU, of the clock on a device.

    python benchmarks/monitor.py                     a small U-Net on the digits
    python benchmarks/monitor.py mnist5k unet 128    another set, network and batch
    python benchmarks/monitor.py digits unet 64 cuda
"""

import sys
import time

import torch

import flowscope as fs
from _harness import interleave, save, table
from flowscope.data.split import split
from flowscope.integrations.periodic import PeriodicMonitor
from flowscope.training import TrainSettings, train
from flowscope.training.monitor.monitor import Monitor

STEPS = 12  # timed; the first two are not


def seconds_a_step(points: fs.TrainingSet, settings: TrainSettings, device: str):
    """Mean seconds of a step after the first two, and the field that is trained."""
    began, last = 0.0, None
    for k, last in enumerate(train(points, settings, device=device)):  # noqa: B007
        if k == 1:
            wait(device)
            began = clock_of(device)()
    wait(device)
    return (clock_of(device)() - began) / (settings.steps - 2), last.field


def clock_of(device: str):
    return time.process_time if device == "cpu" else time.perf_counter


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main(source: str = "digits", model: str = "unet", batch: str = "64", device: str = "cpu") -> None:
    points, held_out = split(fs.load(source), 256)
    step, field = seconds_a_step(points, TrainSettings(model=model, batch=int(batch), steps=STEPS), device)
    oracle = fs.Oracle(points, device=device)
    clock, began = clock_of(device), time.perf_counter()
    monitors = {"on the training law": Monitor(oracle), "and on held-out points": Monitor(oracle, held_out)}
    calls = {name: lambda m=m: (m(field, 0), wait(device)) for name, m in monitors.items()}
    periodic, ten = PeriodicMonitor(oracle, held_out), "accelerate, Lightning"
    steps = [Monitor.interval * k for k in range(periodic.memorised_every)]
    calls[ten] = lambda: ([periodic(field, step) for step in steps], wait(device))
    first = {name: timed(call, clock) for name, call in calls.items()}
    made = time.perf_counter() - began
    found = interleave(calls, 5, clock)
    found[ten], first[ten] = found[ten] / periodic.memorised_every, first[ten] / periodic.memorised_every
    rows = [
        (name, first[name], seconds, step, seconds / (Monitor.interval * step), seconds / step)
        for name, seconds in found.items()
    ]
    columns = ("monitor", "first call, s", "a call, s", "a step, s", "share of training", "steps a call")
    title = f"The monitor, every {Monitor.interval} steps: {source}, {model}, batch {batch}, {device}"
    table(title, columns, rows)
    print(f"\nThe monitors were made, and called once, in {made:.2f} s.")
    save(
        "monitor",
        {"rows": [dict(zip(columns, row, strict=True)) for row in rows], "interval": Monitor.interval, "title": title},
    )


def timed(call, clock) -> float:
    began = clock()
    call()
    return clock() - began


if __name__ == "__main__":
    main(*sys.argv[1:])

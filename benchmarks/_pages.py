"""The suite's numbers as Markdown and as a plot.

`python benchmarks/_pages.py` writes docs anew from results/suite.json.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from _harness import RESULTS
from flowscope.figures.style import LIGHT, add_title, finish, new_figure, styled, to_png

DOCS = Path(__file__).resolve().parent.parent / "docs"
PLOT = "images/suite-growth.png"
BEGIN, END = "<!-- written by benchmarks/suite.py: begin -->", "<!-- end -->"


def write(result: dict, out: Path | None) -> None:
    """The plot and the tables: into a folder, or into docs between the marks that say so."""
    if out is not None:
        (out / "suite.md").write_text(markdown(result) + "\n")
        plot(result, out / "suite-growth.png")
        return
    page = DOCS / "benchmarks.md"
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{markdown(result, PLOT)}\n\n{END}{after}")
    plot(result, DOCS / PLOT)


def markdown(result: dict, image: str = "suite-growth.png") -> str:
    """Everything that was found; `image` is where the plot lies, seen from the page."""
    parts = [measured_on(result), times(result), errors(result), memory(result), growth(result, image), reasons(result)]
    return "\n\n".join(part for part in parts if part)


def measured_on(result: dict) -> str:
    about, floors = result["about"], result["floors"]
    load = about["load average before"]
    releases: dict[str, set[str]] = {}
    for contender in about["contenders"].values():
        for name, release in contender["releases"].items():
            releases.setdefault(name, set()).add(release)
    named = ", ".join(f"{name} {' and '.join(sorted(found))}" for name, found in sorted(releases.items()))
    products, reads = floors["products"], floors["reads"]
    several = {
        kind: ", ".join(f"{rate / 1e9:.0f}" for rate in floors[kind]["best of each time"])
        for kind in ("products", "reads")
    }
    return (
        f"Measured by `{about['command']}` on {about['processor']}, {about['threads']} threads; {named}. "
        f"Load of the machine before: {'not recorded' if load is None else f'{load:.1f}'}.\n\n"
        f"Floors: products {products['rate'] / 1e9:.0f} GFLOP/s ({products['by']}), reading "
        f"{reads['rate'] / 1e9:.0f} GB/s ({reads['by']}). The best of each time they were "
        f"measured: {several['products']} GFLOP/s and {several['reads']} GB/s."
    )


def contenders(result: dict) -> list[str]:
    return list(dict.fromkeys(row["contender"] for row in result["rows"]))


def grid(result: dict, cell: Callable[[dict], str], lead: dict[str, Callable[[dict], str]], names: list[str]) -> str:
    """A table with a line for each case: columns `lead` of flowscope's row, then one for each contender."""
    cases: dict[tuple, dict[str, dict]] = {}
    for row in result["rows"]:
        cases.setdefault(tuple(row[key] for key in ("data", "N", "D", "B", "t")), {})[row["contender"]] = row
    head = ["data", "N", "D", "B", "t", *lead, *names]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for (data, N, D, B, t), rows in cases.items():
        first = next(iter(rows.values()))
        cells = [data, f"{N:,}", f"{D:,}", str(B), f"{t:g}", *(make(first) for make in lead.values())]
        lines.append("| " + " | ".join(cells + [cell(rows[name]) for name in names]) + " |")
    return "\n".join(lines)


def number(value: float) -> str:
    """Two digits that count."""
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"


def times(result: dict) -> str:
    names = contenders(result)
    ours = "flowscope" in names
    key = "over_flowscope" if ours else "over_floor"
    lead = {"floor, ms": lambda row: number(1000 * row["floor"])}
    if ours:
        lead["flowscope over floor"] = lambda row: number(row["over_floor"]) if "over_floor" in row else "-"
    cell = lambda row: number(row[key]) if key in row else "-"  # noqa: E731
    table = grid(result, cell, lead, [name for name in names if name != "flowscope"])
    whose = "flowscope's" if ours else "the floor"
    return f"**Time** of one call, over {whose} (above 1: flowscope is faster).\n\n{table}"


def errors(result: dict) -> str:
    cell = lambda row: f"{row['error']:.0e}" if "error" in row else "-"  # noqa: E731
    intro = (
        "**Error** of the velocity against float64, relative to the size of a conditional velocity: the largest of 8."
    )
    return f"{intro}\n\n{grid(result, cell, {}, contenders(result))}"


def memory(result: dict) -> str:
    """Megabytes at the first time of each size; what a call takes, and what is held beyond the points."""

    def cell(row: dict) -> str:
        if "held" not in row:
            return "-"
        taken = (row.get("transient"), row["held"])
        return " + ".join("?" if value is None else f"{value / 1e6:.0f}" for value in taken)

    part = {"rows": [row for row in result["rows"] if row["t"] == 0.1]}
    intro = "**Memory** in MB beyond the points: what a call takes at its peak (?: too slow to look) + what is held."
    return f"{intro}\n\n{grid(part, cell, {}, contenders(result))}"


def series(rows: list[dict], axis: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What was measured of each contender: sizes and seconds."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if "reason" not in row:
            found.setdefault(row["contender"], []).append((row[axis], row["seconds"]))
    return {name: tuple(np.array(sorted(points)).T) for name, points in found.items()}


def slope(sizes: np.ndarray, seconds: np.ndarray) -> float:
    """The power of the size with which time grows, by least squares; NaN where fewer than three sizes ended."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]) if len(sizes) > 2 else math.nan


def growth(result: dict, image: str) -> str:
    axes = [axis for axis, rows in result["growth"].items() if rows]
    if not axes:
        return ""
    fitted = {axis: {k: slope(*v) for k, v in series(result["growth"][axis], axis).items()} for axis in axes}
    names = list(dict.fromkeys(name for found in fitted.values() for name in found))
    lines = ["| contender | " + " | ".join(axes) + " |", "|" + " --- |" * (len(axes) + 1)]
    for name in names:
        cells = (fitted[axis].get(name, math.nan) for axis in axes)
        lines.append(f"| {name} | " + " | ".join("-" if math.isnan(c) else f"{c:.2f}" for c in cells) + " |")
    about = "**Growth**: the power with which time grows with each quantity alone (1: in proportion), fitted over"
    sizes = "; ".join(
        f"{axis} {', '.join(map(str, sorted({row[axis] for row in result['growth'][axis]})))}" for axis in axes
    )
    picture = f"![Time against N, D, B and timesteps, each alone]({image})"
    return "\n\n".join([f"{about} {sizes}.", "\n".join(lines), picture])


def reasons(result: dict) -> str:
    """What has no number, and why; what was timed on some of the queries."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in [*result["rows"], *(row for rows in result["growth"].values() for row in rows)]:
        if "reason" in row:
            found.setdefault((row["contender"], row["reason"]), []).append(place(row))
    lines = [
        f"- {name}: {reason} ({places[0] if len(places) == 1 else f'{len(places)} settings, the first {places[0]}'})"
        for (name, reason), places in found.items()
    ]
    some = {(row["contender"], row["queries"]) for row in result["rows"] if row.get("queries", row["B"]) < row["B"]}
    lines += [
        f"- {name}: timed on {count} of the queries, and the time scaled to all of them."
        for name, count in sorted(some)
    ]
    shared = dict.fromkeys(row["data"] for row in result["rows"] if row.get("mapped"))
    lines += [
        f"- {data}: the points' file is mapped and shared; a copy for each contender would not fit." for data in shared
    ]
    return "**What has no number, and other remarks**\n\n" + "\n".join(lines) if lines else ""


def place(row: dict) -> str:
    return f"{row['data']} N={row['N']} D={row['D']} B={row['B']} t={row['t']}"


def plot(result: dict, file: Path) -> None:
    """Time against each size, a panel each, in the style of all figures."""
    axes = [axis for axis, rows in result["growth"].items() if rows]
    if not axes:
        return
    names: dict[str, int] = {}
    with styled(LIGHT):
        figure = new_figure(4.9 * min(2, len(axes)), 5.1 * -(-len(axes) // 2))
        panels = figure.subplots(-(-len(axes) // 2), min(2, len(axes)), squeeze=False).flat
        add_title(figure, "Time against each size alone; in brackets the fitted power", x=0.01)
        for panel, axis in zip(panels, axes, strict=False):
            for name, (sizes, seconds) in series(result["growth"][axis], axis).items():
                k = names.setdefault(name, len(names))
                mark = {"linewidth": 2.8, "zorder": 3} if name.startswith("flowscope") else {"linewidth": 1.2}
                dashes = ("-", "--", ":")[k // len(LIGHT.lines) % 3]
                colour, label = LIGHT.lines[k % len(LIGHT.lines)], f"{name} ({slope(sizes, seconds):.2f})"
                panel.loglog(sizes, seconds, "o", linestyle=dashes, color=colour, markersize=4, label=label, **mark)
            sizes = sorted({row[axis] for row in result["growth"][axis]})
            panel.set(xlabel=axis, ylabel="seconds", title=f"Against {axis}")
            panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
            panel.minorticks_off()
            panel.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.14))
            finish(panel, LIGHT)
        for panel in list(panels)[len(axes) :]:
            panel.set_axis_off()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(to_png(figure))


if __name__ == "__main__":
    write(json.loads((RESULTS / "suite.json").read_text()), None)

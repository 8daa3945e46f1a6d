"""Measure how the house is laid out: python docs/measure_architecture.py [CHECKOUT_OR_SRC]

Prints the tables of docs/architecture.md as Markdown: rooms with their files and lines, circles of imports, floors, and
the frames from a public call to the equation. A room is a package or module directly in flowscope. A circle is a set of
modules that import one another at module level; imports inside functions and those for type checkers are told apart.
Floors are the modules on the longest chain of imports. Frames are counted with both ends, the public call and the first
function of the module that evaluates equation (3); the deepest such stack of a call counts.
"""

import ast
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

LONG, LONGEST = 35, 80  # lines of a function that are counted
ROOMS_INSIDE = ("oracle", "curve", "data", "studies", "training")  # whose floors are told
EQUATION = ("oracle/equation/posterior.py", "oracle/posterior.py")  # where (3) is evaluated: now, and before
FACE = "the face"  # __init__.py and __main__.py of the package itself

Graph = dict[str, set[str]]  # a name -> the names that it imports


@dataclass(frozen=True)
class Module:
    """One file of the package.

    Attributes:
        name: dotted, without the package: "oracle.law"; "oracle" is oracle/__init__.py, "" the package's own.
        lines: all lines of the file. text: those of docstrings, and empty ones.
        functions: lines of each function and method, nested ones too.
        imports: modules of the package that are imported when this one is. later: those that only functions import.
        types: those that only type checkers import.
    """

    name: str
    lines: int
    text: int
    functions: list[int]
    imports: set[str]
    later: set[str]
    types: set[str]


def read_package(folder: Path) -> list[Module]:
    """All modules of the package in a folder, in the order of their names."""
    files = {dotted(file.relative_to(folder)): file for file in folder.rglob("*.py")}
    return [read_module(name, files[name], folder.name, set(files)) for name in sorted(files)]


def dotted(file: Path) -> str:
    """The name of a module from its path inside the package."""
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_module(name: str, file: Path, package: str, known: set[str]) -> Module:
    """One module, parsed and not run; `known` are the names of all modules of the package."""
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    kinds = ast.FunctionDef, ast.AsyncFunctionDef
    lengths = [(n.end_lineno or n.lineno) - n.lineno + 1 for n in ast.walk(tree) if isinstance(n, kinds)]
    found: dict[str, set[str]] = {"module": set(), "function": set(), "types": set()}
    for statement, kind in imports_of(tree):
        found[kind] |= targets(statement, package, known) - {name}
    now, later = found["module"], found["function"] - found["module"]
    lines = text.splitlines()
    return Module(name, len(lines), text_lines(tree, lines), lengths, now, later, found["types"] - now - later)


def text_lines(tree: ast.Module, lines: list[str]) -> int:
    """How many lines are part of a docstring, or empty."""
    kinds = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
    texts = [node.body[0] for node in ast.walk(tree) if isinstance(node, kinds) and ast.get_docstring(node)]
    inside = {line for text in texts for line in range(text.lineno, (text.end_lineno or text.lineno) + 1)}
    return len(inside | {k for k, line in enumerate(lines, 1) if not line.strip()})


def imports_of(node: ast.AST, kind: str = "module") -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """Every import statement, and what runs it: the "module", a "function", or type checkers alone, "types"."""
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            here = "types" if name == "body" and is_for_checkers(node) else kind
            if isinstance(child, (ast.Import, ast.ImportFrom)):
                yield child, here
            elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from imports_of(child, "function" if here == "module" else here)
            elif isinstance(child, ast.AST):
                yield from imports_of(child, here)


def is_for_checkers(node: ast.AST) -> bool:
    """Whether a statement is `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def targets(statement: ast.Import | ast.ImportFrom, package: str, known: set[str]) -> set[str]:
    """The modules of the package that a statement names: `from a import b` is of a.b where that is a module."""
    if isinstance(statement, ast.Import):
        named = [alias.name for alias in statement.names]
    else:
        named = [f"{statement.module}.{alias.name}" for alias in statement.names]
    within = [name.removeprefix(f"{package}.") for name in named if name.startswith(f"{package}.")]
    return {name if name in known else name.rpartition(".")[0] for name in within}


def grouped(modules: list[Module], key: Callable[[str], str | None]) -> Graph:
    """Imports among groups of modules; the key of a module's name is its group, None for no group."""
    graph: Graph = {}
    for module in modules:
        group = key(module.name)
        if group is not None:
            others = {key(name) for name in module.imports} - {None, group}
            graph.setdefault(group, set()).update(str(other) for other in others)
    return graph


def reached(graph: Mapping[str, set[str]]) -> Graph:
    """For each name, all that it imports, directly or not."""
    found: Graph = {}
    for start in graph:
        seen: set[str] = set()
        todo = list(graph[start])
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += graph.get(name, ())
        found[start] = seen
    return found


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one name, sorted."""
    reach = reached(graph)
    found = {tuple(sorted({a, *(b for b in reach[a] if a in reach.get(b, ()))})) for a in graph}
    return sorted(list(names) for names in found if len(names) > 1)


def floors(graph: Mapping[str, set[str]]) -> int:
    """How many names the longest chain of imports has; a circle counts with all its names."""
    joined = {name: (name,) for name in graph} | {name: tuple(c) for c in circles(graph) for name in c}
    height: dict[tuple[str, ...], int] = {}

    def climb(group: tuple[str, ...]) -> int:
        if group not in height:
            below = {joined[other] for name in group for other in graph[name] if other in joined} - {group}
            height[group] = len(group) + max(map(climb, below), default=0)
        return height[group]

    return max(map(climb, set(joined.values())), default=0)


def room_of(name: str) -> str | None:
    """The room of a module; None for the face, which stands before all rooms."""
    return None if name in ("", "__main__") else name.partition(".")[0]


def inside(room: str, depth: int | None = None) -> Callable[[str], str | None]:
    """A key for the modules of one room, by name, or by so many parts of it: 2 for what lies directly in the room."""
    return lambda name: ".".join(name.split(".")[:depth]) if name.startswith(f"{room}.") else None


def table(head: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table; all columns but the first to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def room_table(modules: list[Module]) -> str:
    """A row for each room, and one for all."""
    total = sum(module.lines for module in modules)

    def row(name: str, some: list[Module]) -> list[Any]:
        lengths = [n for module in some for n in module.functions]
        lines = sum(module.lines for module in some)
        long = [sum(n > most for n in lengths) for most in (LONG, LONGEST)]
        middle = median(module.lines for module in some)
        code = lines - sum(module.text for module in some)
        return [name, len(some), lines, code, f"{middle:.0f}", len(lengths), *long, f"{lines / total:.1%}"]

    rooms: dict[str | None, list[Module]] = {}
    for module in modules:
        rooms.setdefault(room_of(module.name), []).append(module)
    face = rooms.pop(None, [])
    rows = [row(f"`{name}`", some) for name, some in rooms.items()] + ([row(FACE, face)] if face else [])
    counted = ["room", "files", "lines", "without docstrings", "median of a file", "functions"]
    return table([*counted, f"over {LONG}", f"over {LONGEST}", "share"], [*rows, row("all", modules)])


def import_table(modules: list[Module]) -> str:
    """Boxes (what lies directly in a room), modules, circles and floors: among rooms, and inside some."""
    rooms = grouped(modules, room_of)
    rows: list[list[Any]] = [["among rooms", len(rooms), len(circles(rooms)), floors(rooms), "", "", ""]]
    for room in ROOMS_INSIDE:
        boxes, all_of = grouped(modules, inside(room, 2)), grouped(modules, inside(room))
        if all_of:
            counts = [f(graph) for graph in (boxes, all_of) for f in (len, lambda g: len(circles(g)), floors)]
            rows.append([f"inside `{room}`", *counts])
    head = ["imports", "boxes", "circles of boxes", "floors of boxes", "modules", "circles", "floors"]
    return table(head, rows)


def import_notes(modules: list[Module]) -> str:
    """Every circle by name, and what is imported inside functions or for type checkers alone."""
    at_import = circles({m.name: m.imports for m in modules})
    called = circles({m.name: m.imports | m.later for m in modules})
    checked = circles({m.name: m.imports | m.types for m in modules})
    boxes = [circle for room in ROOMS_INSIDE for circle in circles(grouped(modules, inside(room, 2)))]
    later, types = sum(len(m.later) for m in modules), sum(len(m.types) for m in modules)
    return "\n\n".join([
        f"Circles of imports at module level: {told(at_import)}. Among boxes: {told(boxes)}.",
        f"Imports inside functions alone: {later}. Circles with those: {told(called)}.",
        f"Imports for type checkers alone: {types}. Circles with those: {told(checked)}.",
    ])  # fmt: skip


def told(found: list[list[str]]) -> str:
    """How many circles, and of which modules."""
    return f"{len(found)}" + "".join(f" ({', '.join(f'`{name}`' for name in circle)})" for circle in found)


def way_to(call: Callable[[], object], start: Callable[..., object], ends: Callable[[str], bool]) -> list[str]:
    """The functions on the deepest stack from `start` to the first module-level function of certain files.

    Args:
        call: what is run. start: a Python function that it calls. ends: whether a file is one of those.
    """
    first = inspect.unwrap(start).__code__
    longest: list[str] = []

    def is_end(frame: Any) -> bool:
        return ends(frame.f_code.co_filename) and "." not in frame.f_code.co_qualname

    def look(frame: Any, event: str, _: Any) -> None:
        nonlocal longest
        if event != "call" or not is_end(frame):
            return
        way = [frame]
        while way[-1].f_code is not first:
            if way[-1].f_back is None or is_end(way[-1].f_back):
                return
            way.append(way[-1].f_back)
        if len(way) > len(longest):
            longest = [f"{Path(f.f_code.co_filename).stem}.{f.f_code.co_qualname}" for f in reversed(way)]

    sys.setprofile(look)
    try:
        call()
    finally:
        sys.setprofile(None)
    return longest


def measure_ways(folder: Path) -> dict[str, list[str]]:
    """The way to the equation for each engine that runs here, by public calls alone."""
    import torch

    import flowscope as fs

    generator = torch.Generator().manual_seed(0)
    centres = 30 * torch.randn(64, 1, 320, generator=generator)
    points = (centres + torch.randn(64, 64, 320, generator=generator)).flatten(0, 1)
    x = 0.9 * points[:8] + 0.1 * torch.randn(8, 320, generator=generator)
    plain, pruned = fs.Oracle(points), fs.Oracle(points, tolerance=1e-6)
    if not bool((pruned.certify(x, 0.9)[1].touched < len(points)).all()):
        raise RuntimeError("nothing was pruned; expected a set of far clusters to be")
    velocity, posterior = fs.Oracle.velocity, fs.Oracle.posterior
    calls: dict[str, tuple[Callable[..., object], Any, Any]] = {
        "`velocity`, float64": (velocity, plain, x.double()),
        "`velocity`, float32": (velocity, plain, x),
        "`posterior`, float64": (posterior, plain, x),
        "`velocity`, pruned": (velocity, pruned, x),
    }
    if importlib.util.find_spec("triton") is not None:
        calls["`velocity`, fused"] = (velocity, fs.Oracle(points, library="triton"), x[:1])
    with one_rank() as ranks:
        shared = share(plain, points, ranks)
        calls["`velocity`, over ranks, float32"] = (velocity, shared, x)
        calls["`posterior`, over ranks, float64"] = (posterior, shared, x)
        files = tuple(str(folder / part) for part in EQUATION)
        return {
            name: way_to(partial(method, oracle, states, 0.9), method, lambda file: file.startswith(files))
            for name, (method, oracle, states) in calls.items()
        }


@contextmanager
def one_rank() -> Iterator[Any]:
    """The ranks of a job of this process alone."""
    import torch.distributed as dist

    from flowscope.oracle import Ranks

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with Ranks() as ranks:
            yield ranks
    finally:
        dist.destroy_process_group()


def share(oracle: Any, points: Any, ranks: Any) -> Any:
    """An oracle over ranks: by its argument, or as it was made before there was one."""
    if "ranks" in inspect.signature(type(oracle)).parameters:
        return type(oracle)(points, ranks=ranks)
    return importlib.import_module("flowscope.oracle").SharedOracle(oracle, ranks)


def frame_table(ways: Mapping[str, list[str]]) -> str:
    """How many frames each way has, and which."""
    rows = [[name, len(way), f"`{' > '.join(way)}`"] for name, way in ways.items()]
    return table(["call, engine", "frames", "way"], rows)


def package_folder(given: Path) -> Path:
    """The package in a checkout, in its src, or in the folder that holds it.

    Raises:
        SystemExit: there is none.
    """
    for folder in (given / "src" / "flowscope", given / "flowscope", given):
        if folder.name == "flowscope" and (folder / "__init__.py").is_file():
            return folder
    raise SystemExit(f"{given} holds no package flowscope; expected a checkout, or its src")


def main(arguments: list[str]) -> None:
    folder = package_folder(Path(arguments[0] if arguments else Path(__file__).parents[1]).resolve())
    modules = read_package(folder)
    print(room_table(modules), import_table(modules), import_notes(modules), sep="\n\n")
    sys.path.insert(0, str(folder.parent))
    os.environ["TRITON_INTERPRET"] = "1"  # so that the fused engine runs without a GPU
    print("", frame_table(measure_ways(folder)), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])

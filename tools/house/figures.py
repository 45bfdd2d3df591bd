"""The figures of a package that are compared with the bars, each with the way it is counted."""

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.house.duplicates import duplicates
from tools.house.imports import between_routes, edges_of, in_cycles, upward, within
from tools.house.source import Function, Module, code_of

PRAGMA = re.compile(r"#\s*(type:|noqa|fmt:|ruff:|pragma:|nosec|mypy:|pyright:|!|-\*-)")
SHORT_FILE = 30
SHORT_DOCSTRING = 3
MAY_REPEAT = "client/"
"""The client has its own types for what the server answers, so that it can be used without the server."""


BARS = {
    "file, lines: median": "≤ 140",
    "file, lines: largest": "≤ 350",
    f"files under {SHORT_FILE} lines": "2",
    "function, lines: median": "≤ 7",
    "function, lines: p90": "≤ 18",
    "class names used more than once outside client/": "0",
    "lines with a comment, %": "≥ 3",
    'docstrings that begin with "Of"': "0",
    "modules in import cycles": "0",
    "imports that go up": "0",
    "imports that go up inside a room": "0",
    "imports between routes": "0",
    "blocks of 6 lines that repeat": "0",
    "README, lines": "about 130",
}
"""What a figure is held to; the layer test holds those of files, imports and class names."""


@dataclass(frozen=True)
class Figure:
    """A row of the table; `evidence` lists what was counted, where that is a short list."""

    name: str
    value: float
    how: str = ""
    evidence: tuple[str, ...] = ()

    @property
    def bar(self) -> str:
        return BARS.get(self.name, "")


Layers = Sequence[set[str]]


def figures(source: Path, modules: Sequence[Module], layers: Layers, inside: Mapping[str, Layers]) -> list[Figure]:
    """Returns all figures of a package in the order of the table; `inside` has the layers of single rooms."""
    return [
        *_files(modules),
        *_functions(modules),
        *_classes(modules),
        *_comments(modules),
        *_lua(sorted(source.rglob("*.lua"))),
        *_docstrings(modules),
        *_imports(modules, source.name, layers, inside),
        *_duplicates(modules),
        *_readme(source.parents[1] / "README.md"),
    ]


def _files(modules: Sequence[Module]) -> Iterator[Figure]:
    sizes = sorted(module.lines for module in modules)
    short = [m for m in modules if m.lines < SHORT_FILE and not m.is_package]
    yield Figure("files", len(sizes), "*.py below the package")
    yield Figure("file, lines: median", statistics.median(sizes), "all lines")
    yield Figure("file, lines: p90", percentile(sizes, 90))
    yield Figure("file, lines: largest", sizes[-1], max(modules, key=lambda m: m.lines).place)
    yield Figure(f"files under {SHORT_FILE} lines", len(short), "but __init__.py", tuple(m.place for m in short))


def _functions(modules: Sequence[Module]) -> Iterator[Figure]:
    yield Figure("functions", sum(1 for m in modules for _ in m.functions), "methods and nested functions too")
    yield from _lengths("function, lines", modules, whole_lines, "from `def` on, with the docstring")
    yield from _lengths("function body, lines", modules, body_lines, "without `def` and docstring")


def _lengths(name: str, modules: Sequence[Module], size: Callable[[Function], int], how: str) -> Iterator[Figure]:
    sizes = sorted((size(function), f"{function.name} of {m.place}") for m in modules for function in m.functions)
    sizes = sizes or [(0, "none")]
    lines = [count for count, _ in sizes]
    yield Figure(f"{name}: median", statistics.median(lines), how)
    yield Figure(f"{name}: p90", percentile(lines, 90))
    yield Figure(f"{name}: longest", lines[-1], sizes[-1][1])


def whole_lines(function: Function) -> int:
    """Counts the lines of a function without its decorators."""
    return (function.end_lineno or 0) - function.lineno + 1


def body_lines(function: Function) -> int:
    """Counts the lines of code in a function, with comments in between; 0 if it has only a docstring."""
    code = code_of(function)
    return (code[-1].end_lineno or 0) - code[0].lineno + 1 if code else 0


def _classes(modules: Sequence[Module]) -> Iterator[Figure]:
    outside = [m for m in modules if not m.place.startswith(MAY_REPEAT)]
    repeated = repeated_classes(outside)
    yield Figure("class names", len({node.name for m in modules for node in m.classes}))
    yield Figure("class names used more than once", len(repeated_classes(modules)))
    yield Figure("class names used more than once outside client/", len(repeated), "", tuple(repeated))


def repeated_classes(modules: Sequence[Module]) -> list[str]:
    """Returns the names that more than one class has, nested classes included."""
    counts = Counter(node.name for m in modules for node in m.classes)
    return sorted(name for name, count in counts.items() if count > 1)


def _comments(modules: Sequence[Module]) -> Iterator[Figure]:
    own = sum(1 for m in modules for comment in m.comments if not PRAGMA.match(comment))
    notes = sum(len(text.splitlines()) for m in modules for text in m.notes)
    lines = sum(bool(line.strip()) for m in modules for line in m.text.splitlines())
    yield Figure("lines that are not blank", lines)
    yield Figure("lines with a comment, %", share(own, lines), f"{own}; not type:, noqa, fmt: …")
    yield Figure("the same with strings below constants, %", share(own + notes, lines), "and below fields")


def _lua(paths: Sequence[Path]) -> Iterator[Figure]:
    lines = [line for path in paths for line in path.read_text().splitlines() if line.strip()]
    comments = sum("--" in line for line in lines)
    yield Figure("lines of Lua", len(lines), f"in {len(paths)} files, not blank")
    yield Figure("lines of Lua with a comment, %", share(comments, len(lines)), "heads of scripts too")


def share(part: int, whole: int) -> float:
    """Returns a percentage, which is 0 if the whole is 0."""
    return round(100 * part / whole, 2) if whole else 0.0


def _docstrings(modules: Sequence[Module]) -> Iterator[Figure]:
    texts = [text for m in modules for text in m.docstrings]
    short = [text for text in texts if len(text.split()) <= SHORT_DOCSTRING]
    yield Figure("docstrings", len(texts), "and strings below constants, fields")
    yield Figure('docstrings that begin with "Of"', sum(text.startswith("Of ") for text in texts))
    yield Figure(f"docstrings of {SHORT_DOCSTRING} words or fewer", len(short), "", tuple(short))


def _imports(modules: Sequence[Module], package: str, layers: Layers, inside: Mapping[str, Layers]) -> Iterator[Figure]:
    edges = edges_of(modules, package)
    in_rooms = [edge for room, own in inside.items() for edge in upward(within(edges, room), own)]
    yield _listed("modules in import cycles", in_cycles(edges), "imports in functions too")
    yield _listed("imports that go up", upward(edges, layers), "by LAYERS")
    yield _listed("imports that go up inside a room", in_rooms, "by INSIDE")
    yield _listed("imports between routes", between_routes(edges, modules), "modules of api/routes, or with handlers")


def _duplicates(modules: Sequence[Module]) -> Iterator[Figure]:
    groups = [", ".join(map(str, group)) for group in duplicates(modules)]
    yield _listed("blocks of 6 lines that repeat", groups, "see tools/house/duplicates.py")


def _readme(path: Path) -> Iterator[Figure]:
    text = path.read_text() if path.exists() else ""
    yield Figure("README, lines", len(text.splitlines()))
    yield Figure("README, words", len(text.split()), "split at white space")


def _listed(name: str, found: Iterable[object], how: str) -> Figure:
    evidence = tuple(map(str, found))
    return Figure(name, len(evidence), how, evidence)


def percentile(ordered: Sequence[int], share: int) -> int:
    """Returns the nearest-rank percentile of values in rising order."""
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]

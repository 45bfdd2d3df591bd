"""Imports between the modules of a package: cycles, imports that go up, routes that import routes."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tools.house.source import Module

ROUTE_DECORATORS = {"get", "post", "put", "patch", "delete", "head", "route"}


@dataclass(frozen=True)
class Import:
    """One name that a module imports, dotted and absolute."""

    line: int
    name: str


@dataclass(frozen=True)
class Edge:
    """A module that imports another of its package; both by their dotted names."""

    importer: str
    line: int
    imported: str

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def imports_of(module: Module) -> Iterator[Import]:
    """Returns all absolute imports, those inside functions and under TYPE_CHECKING too; `from a import b` is `a.b`."""
    for node in module.nodes:
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (Import(node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def edges_of(modules: Sequence[Module], package: str) -> list[Edge]:
    """Returns the imports inside the package; each leads to the most specific module that it names."""
    names = {module.name for module in modules}
    edges: dict[Edge, None] = {}
    for module in modules:
        for found in imports_of(module):
            root, _, path = found.name.partition(".")
            if root == package and (imported := _longest(path, names)) not in ("", module.name):
                edges[Edge(module.name, found.line, imported)] = None
    return list(edges)


def _longest(path: str, names: set[str]) -> str:
    while path and path not in names:
        path = path.rpartition(".")[0]
    return path


def in_cycles(edges: Sequence[Edge]) -> list[str]:
    """Returns the modules that import themselves by way of others."""
    imported: dict[str, set[str]] = {}
    for edge in edges:
        imported.setdefault(edge.importer, set()).add(edge.imported)
    return sorted(name for name in imported if name in _reached(name, imported))


def _reached(start: str, imported: dict[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    ahead = [start]
    while ahead:
        new = imported.get(ahead.pop(), set()) - reached
        reached |= new
        ahead.extend(new)
    return reached


def within(edges: Sequence[Edge], room: str) -> list[Edge]:
    """Returns the imports from one module of a folder to another of the same folder."""
    inside = f"{room}."
    return [edge for edge in edges if edge.importer.startswith(inside) and edge.imported.startswith(inside)]


def upward(edges: Sequence[Edge], layers: Sequence[set[str]]) -> list[Edge]:
    """Returns the imports of modules that do not stand in a layer below the importer. An entry may import itself.

    The package's own `__init__.py` is its public face and may import anything.
    """
    return [edge for edge in edges if edge.importer and not _goes_down(edge, layers)]


def _goes_down(edge: Edge, layers: Sequence[set[str]]) -> bool:
    own, other = entry_of(edge.importer, layers), entry_of(edge.imported, layers)
    return own == other or layer_of(other, layers) < layer_of(own, layers)


def entry_of(name: str, layers: Sequence[set[str]]) -> str:
    """Returns the longest entry of the layers that a module stands in; its own name if it stands in none."""
    return _longest(name, {entry for layer in layers for entry in layer}) or name


def layer_of(entry: str, layers: Sequence[set[str]]) -> int:
    """Returns the number of the layer, from 0 at the bottom; -1 for a module in none."""
    return next((number for number, layer in enumerate(layers) if entry in layer), -1)


def between_routes(edges: Sequence[Edge], modules: Sequence[Module]) -> list[Edge]:
    """Returns the imports from one route of the API to another: a module of `api/routes`, or any with HTTP handlers."""
    routes = {module.name for module in modules if module.place.startswith("api/") and _is_route(module)}
    return [edge for edge in edges if edge.importer in routes and edge.imported in routes]


def _is_route(module: Module) -> bool:
    decorators = (decorator for function in module.functions for decorator in function.decorator_list)
    calls = (decorator.func for decorator in decorators if isinstance(decorator, ast.Call))
    handles = any(isinstance(call, ast.Name) and call.id in ROUTE_DECORATORS for call in calls)
    return handles or (module.place.startswith("api/routes/") and not module.is_package)

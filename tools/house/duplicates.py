"""Blocks of six lines that are the same logic in more than one place.

A block is a run of statements in one function, the shortest from its first statement that takes six lines or more of
code. The head of a compound statement (`if …:`) counts as a statement, so a block may begin or end inside one. Two
blocks are the same logic if their statements are equal once every name (variable, attribute, function, argument) is
replaced by the order of its first appearance in the block, and every constant by a placeholder. A block that only
sets attributes is a table and does not count, nor do the heads of functions and their decorators.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tools.house.source import Function, Module, code_of

BLOCK_LINES = 6
PARTS = ("body", "handlers", "orelse", "finalbody", "cases")
"""Fields of compound statements that hold statements; `body` of a lambda or a conditional is an expression, no list."""


@dataclass(frozen=True)
class Place:
    """The lines of a block in a module, both ends included."""

    module: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.module}:{self.first}-{self.last}"


@dataclass(frozen=True)
class Statement:
    """A simple statement, or the head of a compound one."""

    node: ast.AST
    first: int
    last: int


def duplicates(modules: Sequence[Module]) -> list[list[Place]]:
    """Returns the places of each block that stands in several; blocks that overlap are counted once."""
    places: dict[str, list[Place]] = {}
    for module in modules:
        for function in _outer(module):
            for logic, place in _blocks(module, function):
                places.setdefault(logic, []).append(place)
    return _without_overlaps([group for group in places.values() if len(group) > 1])


def _outer(module: Module) -> Iterator[Function]:
    inner = {id(node) for function in module.functions for node in ast.walk(function) if node is not function}
    return (function for function in module.functions if id(function) not in inner)


def _blocks(module: Module, function: Function) -> Iterator[tuple[str, Place]]:
    statements = list(_flat(code_of(function)))
    for start in range(len(statements)):
        block = _shortest(statements[start:])
        if block and not all(_sets_attribute(statement.node) for statement in block):
            yield _logic(block), Place(module.name, block[0].first, block[-1].last)


def _sets_attribute(node: ast.AST) -> bool:
    if isinstance(node, ast.AnnAssign):
        return isinstance(node.target, ast.Attribute)
    return isinstance(node, ast.Assign) and all(isinstance(target, ast.Attribute) for target in node.targets)


def _shortest(statements: Sequence[Statement]) -> Sequence[Statement]:
    size = 0
    for count, statement in enumerate(statements, 1):
        size += statement.last - statement.first + 1
        if size >= BLOCK_LINES:
            return statements[:count]
    return []


def _flat(body: Sequence[ast.AST]) -> Iterator[Statement]:
    for node in body:
        parts = [part for name in PARTS for part in _list(node, name)]
        first = _first_line(node)
        last = min((_first_line(part) - 1 for part in parts), default=int(getattr(node, "end_lineno", first)))
        yield Statement(node, first, max(first, last))
        yield from _flat(parts)


def _list(node: ast.AST, name: str) -> list[ast.AST]:
    value = getattr(node, name, [])
    return value if isinstance(value, list) else []


def _first_line(node: ast.AST) -> int:
    if isinstance(node, ast.match_case):
        return node.pattern.lineno
    return int(getattr(node, "lineno", 0))


def _logic(block: Sequence[Statement]) -> str:
    numbers: dict[str, int] = {}
    return "\n".join(_text(statement.node, numbers) for statement in block)


def _text(node: Any, numbers: dict[str, int]) -> str:
    if isinstance(node, str):  # an identifier: the strings of the code are in ast.Constant
        return f"name{numbers.setdefault(node, len(numbers))}"
    if isinstance(node, list):
        return f"[{', '.join(_text(item, numbers) for item in node)}]"
    if isinstance(node, ast.Constant) or not isinstance(node, ast.AST):
        return "constant"
    values = (value for name, value in ast.iter_fields(node) if not (name in PARTS and isinstance(value, list)))
    return f"{type(node).__name__}({', '.join(_text(value, numbers) for value in values)})"


def _without_overlaps(groups: list[list[Place]]) -> list[list[Place]]:
    kept: list[list[Place]] = []
    covered: set[tuple[str, int]] = set()
    for group in sorted(groups, key=lambda group: (-len(group), str(group[0]))):
        lines = [{(place.module, line) for line in range(place.first, place.last + 1)} for place in group]
        if sum(1 for own in lines if not own & covered) > 1:
            kept.append([place for place, own in zip(group, lines, strict=True) if not own & covered])
            covered.update(*lines)
    return kept

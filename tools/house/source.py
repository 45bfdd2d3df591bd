"""The modules of a package, each read and parsed once."""

import ast
import io
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A file of the package; `place` is its path below the package's folder, with `/` and `.py`."""

    place: str
    text: str

    @property
    def is_package(self) -> bool:
        return self.place.endswith("__init__.py")

    @cached_property
    def name(self) -> str:
        """The dotted name without that of the package: `store.keys`; `store` for its `__init__.py`."""
        return self.place.removesuffix(".py").removesuffix("__init__").strip("/").replace("/", ".")

    @cached_property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(ast.parse(self.text)))

    @property
    def functions(self) -> Iterator[Function]:
        return (node for node in self.nodes if isinstance(node, Function))

    @property
    def classes(self) -> Iterator[ast.ClassDef]:
        return (node for node in self.nodes if isinstance(node, ast.ClassDef))

    @property
    def docstrings(self) -> Iterator[str]:
        """The docstrings of the module, its classes and its functions, and the strings below names that they
        describe."""
        return (text for node in self.nodes if isinstance(node, Documented) for text in _strings(node.body))

    @property
    def notes(self) -> Iterator[str]:
        """The strings below constants and fields, which say what a comment would."""
        bodies = (node.body for node in self.nodes if isinstance(node, Documented))
        return (text for body in bodies for text in _strings(body[1:]))

    @property
    def comments(self) -> Iterator[str]:
        """The text of every comment, `#` included."""
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type == tokenize.COMMENT:
                yield token.string


def modules_of(source: Path) -> list[Module]:
    """Returns all modules below the folder of a package, in the order of their paths."""
    paths = sorted(source.rglob("*.py"))
    return [Module(path.relative_to(source).as_posix(), path.read_text()) for path in paths]


def _strings(body: Sequence[ast.stmt]) -> Iterator[str]:
    """Returns the statements that consist of a string only."""
    for statement in body:
        match statement:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield text


def code_of(function: Function) -> list[ast.stmt]:
    """Returns the statements of a function after its docstring."""
    return function.body[1:] if ast.get_docstring(function) is not None else function.body

"""`model.toml` as text: it is read within limits, checked with messages for people, and written in a stable order."""

import difflib
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from penstock.errors import ConfigurationError
from penstock.models.declared import FILE
from penstock.models.declared.definition import Definition, DefinitionSection
from penstock.models.declared.plain_file import read_plain
from penstock.models.declared.rules import disagreements

LARGEST_BYTES = 256 * 1024
"""Labels by the thousand belong in a text file beside it."""
MOST_DOTS = 4096
"""Python's parser takes time and memory by the square of the parts of a dotted key: 43 s for 50,000 of them."""

SECTIONS: dict[str, type[DefinitionSection]] = {
    name: hint
    for name, hint in get_type_hints(Definition).items()
    if isinstance(hint, type) and issubclass(hint, DefinitionSection)
}
DEEPEST_PARAMS = 32
TABLES = ("data", "params", "guessed")
"""Sections whose members have names of their own."""
CHANNELS = {"grey": 1, "RGB": 3, "BGR": 3, "RGBA": 4, "BGRA": 4}


class InvalidModel(ConfigurationError):
    """A model's file or its `model.toml` is not usable. The message is one line that says where and why."""


def read_definition(folder: Path) -> Definition:
    """Read the `model.toml` of a model's folder. Raises InvalidModel."""
    path = folder / FILE
    try:
        data = read_plain(path, LARGEST_BYTES + 1)
    except OSError as error:
        raise InvalidModel(f"{path} cannot be read: {error.strerror}") from error
    return parse_definition(data, where=str(path))


def parse_definition(data: bytes, *, where: str = FILE) -> Definition:
    """Check the bytes of a `model.toml`. Raises InvalidModel with one line that begins with `where`."""
    try:
        return checked(converted(_tree(data)))
    except InvalidModel as error:
        raise InvalidModel(f"{where}: {error}") from error


def checked(definition: Definition) -> Definition:
    """Return the definition when its members fit together. Raises InvalidModel."""
    for complaint in _complaints(definition):
        raise InvalidModel(complaint)
    return definition


def paths() -> dict[str, Any]:
    """The type of every member by its path, such as `input.range`; members of no section have their plain name."""
    plain = {n: t for n, t in get_type_hints(Definition, include_extras=True).items() if n not in SECTIONS}
    return plain | {
        f"{section}.{name}": hint
        for section, cls in SECTIONS.items()
        for name, hint in get_type_hints(cls, include_extras=True).items()
    }


def value_at(definition: Definition, path: str) -> Any:
    """The value of the member with this path."""
    found: Any = definition
    for name in path.split("."):
        found = getattr(found, name)
    return found


def values_of(hint: Any) -> tuple[str, ...]:
    """The words that a member may be; empty where it may be anything of its type."""
    if get_origin(hint) is not None and str(get_origin(hint)).endswith("Literal"):
        return tuple(map(str, get_args(hint)))
    return ()


def _tree(data: bytes) -> dict[str, Any]:
    if len(data) > LARGEST_BYTES:
        raise InvalidModel(f"it has more than {LARGEST_BYTES // 1024} KiB; long labels belong in a text file beside it")
    if data.count(b".") > MOST_DOTS:
        raise InvalidModel(f"it has more than {MOST_DOTS} dots; long texts belong in a text file beside it")
    try:
        tree = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise InvalidModel("it is not UTF-8") from error
    except RecursionError as error:
        raise InvalidModel("it is nested too deeply") from error
    except ValueError as error:  # also of a number with thousands of digits
        raise InvalidModel(f"it is not TOML: {_one_line(error)}") from error
    if any(isinstance(leaf, int) and not -(2**63) <= leaf < 2**63 for leaf in _leaves(tree)):
        raise InvalidModel("it has an integer of more than 64 bits")  # Python does not write one of many digits
    return tree


def converted(tree: dict[str, Any]) -> Definition:
    """The definition of a tree of plain values. Raises InvalidModel with the member's path first."""
    if tree.get("schema", 1) != 1:
        raise InvalidModel(f"schema {tree['schema']!r:.40} is not known; this version reads schema = 1")
    try:
        return msgspec.convert(tree, Definition)
    except msgspec.ValidationError as error:
        raise InvalidModel(_readable(str(error), tree)) from error
    except RecursionError as error:
        raise InvalidModel("it is nested too deeply") from error


UNKNOWN = re.compile(r"unknown field `(?P<name>[^`]*)`")
BESIDE = f"the name of a file beside {FILE}"
PATTERNS = {
    "sha256": "64 hexadecimal digits",
    "version": "at most 32 letters, digits, dots, dashes or underscores",
    "output.labels": f"names, or {BESIDE}",
} | dict.fromkeys(("file", "half.file", "check.input", "check.answer"), BESIDE)
"""What members with a pattern must be."""
MISSING = re.compile(r"missing required field `(?P<name>[^`]*)`")


def _readable(message: str, tree: Mapping[str, Any]) -> str:
    """msgspec's message with the member's path first, and the words that it may be."""
    what, _, at = message.rpartition(" - at `$") if " - at `$" in message else (message, "", "")
    path = at.rstrip("`").removeprefix(".")
    if unknown := UNKNOWN.search(what):
        return _no_such_member(path, unknown["name"])
    if missing := MISSING.search(what):
        return f"{missing['name']} is missing"
    words = values_of(paths().get(path))
    if words:
        return f"{path} cannot be {_shown(tree, path)}; it is one of {', '.join(words)}"
    if path in PATTERNS:
        return f"{path} must be {PATTERNS[path]}, not {_shown(tree, path)}"
    return f"{path or 'it'}: {_one_line(what[:1].lower() + what[1:])}"


def _no_such_member(section: str, name: str) -> str:
    path = f"{section}.{name}" if section else name
    known = [p for p in (*paths(), *SECTIONS) if p.rpartition(".")[0] == section]
    near = difflib.get_close_matches(path, known, n=1) or difflib.get_close_matches(path, [*paths()], n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(known))}"
    return f"{_one_line(path)} is not a member{hint}"


def _shown(tree: Mapping[str, Any], path: str) -> str:
    found: Any = tree
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return _one_line(repr(found))


def _one_line(text: object) -> str:
    plain = " ".join(str(text).split())
    return plain if len(plain) <= 200 else plain[:199] + "…"


def _complaints(definition: Definition) -> Iterator[str]:
    image = definition.input
    yield from (f"{path} must be a finite number" for path, number in _numbers(definition) if not math.isfinite(number))
    if definition.kind != "tensors" and CHANNELS[image.colour] != image.channels:
        fitting = ", ".join(word for word, n in CHANNELS.items() if n == image.channels)
        yield f"input.colour {image.colour} has {CHANNELS[image.colour]} channels, not {image.channels}: say {fitting}"
    for path, numbers in (("input.mean", image.mean), ("input.std", image.std)):
        if len(numbers) not in (0, 1, image.channels):
            yield f"{path} takes one number, or {image.channels}: one for each channel"
    if 0 in image.std:
        yield "input.std must not be 0: it divides"
    if image.resize in ("pad", "multiple") and image.multiple_of is None and definition.kind != "tensors":
        yield f"input.multiple_of is missing: input.resize = {image.resize} needs it"
    if _depth(definition.params) > DEEPEST_PARAMS:
        yield f"[params] is nested more than {DEEPEST_PARAMS} levels deep"
    for section, params in (("params", definition.params), ("check.params", definition.check.params)):
        yield from (
            f"[{section}] has {leaf}, which is no value of JSON" for leaf in _leaves(params) if not _is_json(leaf)
        )
    for path in definition.guessed:
        if path not in paths():
            yield f"[guessed] has {_one_line(repr(path))}, which is not a member"
    yield from disagreements(definition)


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level and depth <= DEEPEST_PARAMS:
        depth += 1
        level = [
            child
            for one in level
            if isinstance(one, dict | list)
            for child in (one.values() if isinstance(one, dict) else one)
        ]
    return depth


def _leaves(value: Any) -> Iterator[Any]:
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict | list):
            left += one.values() if isinstance(one, dict) else one
        else:
            yield one


def _is_json(leaf: Any) -> bool:
    """Whether JSON has this value: it has no dates and no NaN."""
    return isinstance(leaf, str | int) or (isinstance(leaf, float) and math.isfinite(leaf))


def _numbers(definition: Definition) -> Iterator[tuple[str, float]]:
    """Every fraction, by its path."""
    for path in paths():
        value = value_at(definition, path)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float):
                yield path, number


def is_plain_name(name: str) -> bool:
    """Whether this is the name of a file in the same folder: no path, not hidden, without control characters."""
    return 0 < len(name) <= 200 and name.isprintable() and not name.startswith(".") and not {"/", "\\"} & set(name)


def document(definition: Definition, notes: Mapping[str, str] | None = None) -> str:
    """Write a definition as `model.toml`: members in the order of the schema, those that have a default value only
    where `notes` or `[guessed]` name them. A note stands as a comment after its member."""
    notes = notes or {}
    tree = msgspec.to_builtins(definition)
    shown = {*notes, *definition.guessed}
    blocks = [_block("", tree | {"schema": 1}, definition, shown, notes)]
    for section in SECTIONS:
        block = _block(section, tree.get(section, {}), definition, shown, notes)
        blocks += [[f"[{section}]", *block]] if block else []
    blocks += [["[[tensors]]", *_lines(tensor)] for tensor in tree.get("tensors", ())]
    blocks += [[f"[{section}]", *_lines(tree[section])] for section in TABLES if tree.get(section) is not None]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(name)} = {to_toml(value)}" for name, value in table.items()]


def _block(
    section: str, values: Mapping[str, Any], definition: Definition, shown: set[str], notes: Mapping[str, str]
) -> list[str]:
    lines = []
    for path in paths():
        owner, _, name = path.rpartition(".")
        if owner != section or path in (*TABLES, "tensors"):
            continue
        value = values.get(name, value_at(definition, path) if path in shown else None)
        if value is not None:
            note = f"  # {_one_line(notes[path])}" if path in notes else ""
            lines.append(f"{name} = {to_toml(value)}{note}")
    return lines


BARE = re.compile(r"^[A-Za-z0-9_-]+$")


def _key(name: str) -> str:
    return name if BARE.match(name) else to_toml(name)


def to_toml(value: Any) -> str:
    """A value of JSON in TOML's notation, on one line. None is left out: TOML has no null."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {to_toml(v)}" for k, v in value.items() if v is not None) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(to_toml(item) for item in value if item is not None) + "]"
    if isinstance(value, str):
        return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
    return repr(value)

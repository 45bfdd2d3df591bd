"""What was found out about a model, member by member, with the reason for each, and whether it is certain."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from penstock.models.declared.definition import Definition
from penstock.models.declared.document import SECTIONS, InvalidModel, converted, paths, values_of

Certainty = Literal["said", "known", "guessed"]
RANK: tuple[Certainty, ...] = ("guessed", "known", "said")


class MemberFinding(Struct, frozen=True, kw_only=True):
    """The value of one member of `model.toml`, and where it comes from."""

    path: str
    value: Any
    why: str
    certainty: Certainty


class Findings:
    """Findings by the path of their member. What was said beats what is known, which beats what is guessed; of equals
    the first counts."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        """`said` has the values that an operator gives, by path."""
        self._found: dict[str, MemberFinding] = {}
        for path, value in said.items():
            self._add(path, value, "you said so", "said")

    def know(self, path: str, value: Any, why: str) -> None:
        """Note what the file itself says."""
        self._add(path, value, why, "known")

    def guess(self, path: str, value: Any, why: str) -> None:
        """Note what is usual, and what makes it likely here."""
        self._add(path, value, why, "guessed")

    def guess_all(self, values: Mapping[str, Any], why: str) -> None:
        """Note several guesses that have one reason."""
        for path, value in values.items():
            self.guess(path, value, why)

    def get(self, path: str, default: Any = None) -> Any:
        """The value of a member, or the default where nothing was found."""
        return self._found[path].value if path in self._found else default

    def __contains__(self, path: str) -> bool:
        return path in self._found

    def __iter__(self) -> Iterator[MemberFinding]:
        return iter(self._found.values())

    def of(self, certainty: Certainty) -> list[MemberFinding]:
        """The findings of this certainty, in the order of the schema."""
        order = {path: n for n, path in enumerate(paths())}
        return sorted((f for f in self._found.values() if f.certainty == certainty), key=lambda f: order[f.path])

    def drop(self, *sections: str) -> None:
        """Forget what was found, but not said, about these sections."""
        self._found = {
            path: finding
            for path, finding in self._found.items()
            if finding.certainty == "said" or path.partition(".")[0] not in sections
        }

    def definition(self, **rest: Any) -> Definition:
        """A definition with all that was found. Raises InvalidModel when the values do not fit together."""
        tree: dict[str, Any] = dict(rest)
        for path, finding in self._found.items():
            section, dot, name = path.rpartition(".")
            (tree.setdefault(section, {}) if dot else tree)[name] = finding.value
        tree["guessed"] = {finding.path: finding.why for finding in self.of("guessed")}
        return converted(msgspec.to_builtins(tree))

    def _add(self, path: str, value: Any, why: str, certainty: Certainty) -> None:
        before = self._found.get(path)
        if before is None or RANK.index(before.certainty) < RANK.index(certainty):
            self._found[path] = MemberFinding(path=path, value=value, why=why, certainty=certainty)


def parse_said(texts: Iterable[str]) -> dict[str, Any]:
    """The values of `--set input.range=0-255` and the like, by path. Raises InvalidModel with one line."""
    return dict(_parsed(text) for text in texts)


def _parsed(text: str) -> tuple[str, Any]:
    path, equals, value = text.partition("=")
    path = path.strip()
    hint = paths().get(path)
    if not equals or hint is None or path in NOT_SAID:
        raise InvalidModel(f"--set {text[:80]}: say MEMBER=VALUE, such as input.range=0-255{_near(path)}")
    try:
        return path, _member(path, _plain(path, value.strip(), hint))
    except msgspec.ValidationError as error:
        words = values_of(hint)
        what = f"it is one of {', '.join(words)}" if words else str(error).partition(" - at ")[0]
        raise InvalidModel(f"--set {text[:80]}: {what[:1].lower()}{what[1:]}") from error


def _member(path: str, value: Any) -> Any:
    """The value as the member has it, by its struct: msgspec 0.22 crashes on a bare type that is a union."""
    section, _, name = path.rpartition(".")
    if section:
        return getattr(msgspec.convert({name: value}, SECTIONS[section], strict=False), name)
    tree = {"schema": 1, "kind": "tensors", "file": "x", "sha256": "0" * 64, name: value}
    return getattr(msgspec.convert(tree, Definition, strict=False), name)


NOT_SAID = frozenset({"schema", "file", "sha256", "half.sha256", "data", "tensors", "guessed", "params"})
"""Members that the command fills in itself, or that are too large for a command line."""


def _near(path: str) -> str:
    near = difflib.get_close_matches(path, sorted(paths().keys() - NOT_SAID), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _plain(path: str, value: str, hint: Any) -> Any:
    if "tuple" in str(hint) and not (path == "output.labels" and value.endswith(".txt")):
        return [part.strip() for part in re.split("[x,]" if path == "input.size" else ",", value) if part.strip()]
    return value.lower() if value.lower() in ("true", "false") else value

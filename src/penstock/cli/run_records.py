"""What was asked for each result of earlier runs of `penstock submit`: a run that asks for something else is another
run."""

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from penstock.cli.sources import SourceFile, request_id
from penstock.settings import state_home

NOT_IN_RESULTS = ("priority",)
"""Options that make no difference to a result."""


class Made(Struct, frozen=True):
    """Of a result: its path, what was asked for, the size and the time of change of each file that was sent, and the
    request id, which depends on their bytes."""

    target: str
    asked: str
    stamps: list[tuple[int, int]]
    request: str


class RunRecord:
    """What is known of the results in one output directory, kept in the state directory of the user, not among the
    results; where that cannot be written, nothing is known."""

    def __init__(self, output: Path, asked: Mapping[str, Any]) -> None:
        """`asked` is what the model and the options of the run are."""
        self.asked, self._output = asked, output
        self._path = _place_of(output)
        self._made = {made.target: made for made in _read(self._path)}

    def is_same(self, file: SourceFile) -> bool:
        """Whether a result of the file that exists is what this run would make. One that is not known counts as such.
        Raises OSError if the file cannot be read."""
        known = [self._made.get(self._name(result)) for result in file.results]
        return any(made is None or self._is_made_so(made, file) for made in known)

    def _is_made_so(self, made: Made, file: SourceFile) -> bool:
        if made.asked != self._digest(file):
            return False
        return made.stamps == _stamps(file) or made.request == request_id(file.sent, self.asked)

    def note(self, file: SourceFile, result: Path, request: str) -> None:
        """Keeps what was asked for a result of the file that has just been written."""
        with suppress(OSError):
            made = Made(self._name(result), self._digest(file), _stamps(file), request)
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("ab") as lines:
                    lines.write(msgspec.json.encode(made) + b"\n")

    def _name(self, result: Path) -> str:
        return hashlib.sha256(os.fsencode(os.path.relpath(result, self._output))).hexdigest()[:32]

    def _digest(self, file: SourceFile) -> str:
        asked = {name: value for name, value in self.asked.items() if name not in NOT_IN_RESULTS}
        values = {name: value for name, value in (file.inputs or {}).items() if not isinstance(value, Path)}
        return request_id({}, {**asked, "values": values})


def _place_of(output: Path) -> Path | None:
    try:
        home = state_home()
    except RuntimeError:
        return None
    return home / "submits" / f"{hashlib.sha256(os.fsencode(output.resolve())).hexdigest()[:32]}.jsonl"


def _read(path: Path | None) -> list[Made]:
    try:
        lines = path.read_bytes().splitlines() if path else []
    except OSError:
        return []
    found = []
    for line in lines:
        with suppress(msgspec.MsgspecError):  # such as one that a full disk has cut
            found.append(msgspec.json.decode(line, type=Made))
    return found


def _stamps(file: SourceFile) -> list[tuple[int, int]]:
    sent = [file.sent] if isinstance(file.sent, Path) else [v for v in file.sent.values() if isinstance(v, Path)]
    return [(found.st_size, found.st_mtime_ns) for found in map(os.stat, sent)]

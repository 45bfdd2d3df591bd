"""The files of a declared model: names, digests, and the ONNX file as a session opens it."""

from __future__ import annotations

import hashlib
from mmap import ACCESS_READ, mmap
from pathlib import Path

import msgspec
from msgspec import Struct

from penstock.errors import ConfigurationError
from penstock.models.declared.definition import Definition
from penstock.models.declared.plain_file import open_plain, read_plain
from penstock.models.onnxruntime.runtime import External

MOST_BYTES = 1024 * 1024
"""The largest file of labels."""

CODE = "1"
"""Raised when the code of the kinds gives other results for the same definition."""

DESCRIPTIVE = ("title", "licence", "source", "check", "run", "guessed")
"""Members of a definition that change no result. What is guessed does: a result says so."""

Contents = bytes


class DamagedFile(ConfigurationError):
    """A file beside `model.toml` is not the one of its digest."""


class DeclaredFile(Struct, frozen=True, kw_only=True):
    """The ONNX file of a declared model, with the digests of the definition."""

    folder: Path
    file: str
    sha256: str
    data: dict[str, str]
    weights_bytes: int
    precision: str = "fp32"
    cpu_nodes: bool | None = None

    def external(self) -> External:
        """The files that the definition names as its external data, each once it is verified. Raises
        ConfigurationError, DamagedFile."""
        return {name: _mapped(self.folder / name, sha256) for name, sha256 in self.data.items()}

    def read(self) -> Contents:
        """Its contents, once they are verified. Raises ConfigurationError, DamagedFile."""
        content = _read(self.folder / self.file)
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise _damaged(self.folder / self.file)
        return content


def files_of(definition: Definition) -> dict[str, str]:
    """The digest of every file beside `model.toml` by its name; empty for those that have none there: the labels and
    the check."""
    found = {definition.file: str(definition.sha256), **definition.data}
    if definition.half.file:
        found[definition.half.file] = definition.half.sha256
    others = (definition.output.labels, definition.check.input, definition.check.answer)
    return found | {name: "" for name in others if name and isinstance(name, str)}


def exact_file(definition: Definition, folder: Path) -> DeclaredFile:
    """The file of the definition. Raises ConfigurationError where it, or its data, is not there."""
    half = definition.input.dtype == "float16" and definition.kind != "tensors"
    return DeclaredFile(
        folder=folder,
        file=definition.file,
        sha256=definition.sha256,
        data=dict(definition.data),
        weights_bytes=sum(_size(folder / name) for name in (definition.file, *definition.data)),
        precision="fp16" if half else "fp32",
        cpu_nodes=definition.run.cpu_nodes or None,
    )


def half_file(definition: Definition, folder: Path) -> DeclaredFile | None:
    """Its twin with fp16 arithmetic; None where there is none."""
    half = definition.half
    if not half.file:
        return None
    return DeclaredFile(
        folder=folder,
        file=half.file,
        sha256=half.sha256,
        data={},
        weights_bytes=_size(folder / half.file),
        precision="fp16",
        cpu_nodes=definition.run.cpu_nodes or None,
    )


def labels_of(definition: Definition, folder: Path) -> tuple[str, ...]:
    """The names of the classes; a blank line of their file numbers a class without one. Raises ConfigurationError where
    the file cannot be read."""
    labels = definition.output.labels
    return labels if isinstance(labels, tuple) else tuple(map(str.strip, _text(folder / labels).splitlines()))


def digest_of(definition: Definition, folder: Path) -> str:
    """A digest that changes whenever the model may give other results: of what the definition says, the digests of its
    files, and the labels."""
    said = msgspec.to_builtins(definition)
    meaning = {name: value for name, value in said.items() if name not in DESCRIPTIVE}
    parts = (CODE, meaning, labels_of(definition, folder), sorted(definition.guessed), definition.run.precision)
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def _text(path: Path) -> str:
    try:
        return bounded(path, MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path.name} is not UTF-8") from error


def bounded(path: Path, most: int) -> bytes:
    """The contents of a file. Raises ConfigurationError where it cannot be read, or has more than so many bytes."""
    try:
        content = read_plain(path, most + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(content) > most:
        raise ConfigurationError(f"{path.name} is larger than {most} bytes")
    return content


def _read(path: Path) -> bytes:
    try:
        return read_plain(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _mapped(path: Path, sha256: str) -> bytes | mmap:
    try:
        with open_plain(path) as file:
            empty = not path.stat().st_size  # nothing that can be mapped
            content = b"" if empty else mmap(file.fileno(), 0, access=ACCESS_READ)
    except OSError as error:
        raise _unreadable(path, error) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise _damaged(path)
    return content


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from error


# Clients read these too: they name the file in the folder of the version, and not where that is on this machine.


def _unreadable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"{path.name} cannot be read ({error.strerror})")


def _damaged(path: Path) -> DamagedFile:
    return DamagedFile(f"{path.name} is another file than model.toml says: its sha256 differs")

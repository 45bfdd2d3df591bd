"""Adds a model to the directory: a process of its own drafts the folder, which then appears there whole."""

import re
import tempfile
import time
from pathlib import Path

from msgspec import Struct

from penstock.errors import ConfigurationError
from penstock.models.declared.document import InvalidModel, read_definition
from penstock.models.inspection.child import in_child
from penstock.models.inspection.draft import DraftRequest, ModelDraft
from penstock.models.inspection.inspection import digest
from penstock.models.repository.tree import NAME, check_id, scan, write_version


class Adding(Struct, frozen=True, kw_only=True):
    """What an operator asks for."""

    file: Path
    name: str | None = None
    version: str | None = None
    said: tuple[str, ...] = ()
    example: Path | None = None


class Added(Struct, frozen=True, kw_only=True):
    """A model that was added, and how."""

    name: str
    version: str
    folder: Path
    draft: ModelDraft
    replaced: bool
    took_s: float


def add_model(asked: Adding, directory: Path) -> Added:
    """ModelDraft a model, and put it into the directory. Raises ConfigurationError with one line."""
    started = time.monotonic()
    name = asked.name or name_of(asked.file)
    check_id(name, asked.version or "1")
    version, replaces = (asked.version, True) if asked.version else version_for(directory, name, asked.file)
    with tempfile.TemporaryDirectory(prefix="penstock-model-") as folder:
        request = DraftRequest(
            file=str(asked.file.absolute()),
            folder=folder,
            name=name,
            said=asked.said,
            version=version,
            example=str(asked.example.absolute()) if asked.example else "",
        )
        draft = in_child("draft", request, ModelDraft, folder=asked.file.absolute().parent)
        files = {path.name: path for path in Path(folder).iterdir()}
        folder_of_version = write_version(directory, name, version, files, replace=replaces)
    took_s = time.monotonic() - started
    return Added(name=name, version=version, folder=folder_of_version, draft=draft, replaced=replaces, took_s=took_s)


def name_of(file: Path) -> str:
    """The name of a file as a model may have it. Raises InvalidModel where nothing of it is left."""
    name = re.sub(r"[^a-z0-9._-]+", "-", file.stem.lower()).strip("-._")[:64]
    if not NAME.fullmatch(name):
        raise InvalidModel(f"{file.name!r} is no name for a model; give one with --name")
    return name


def version_for(directory: Path, name: str, file: Path) -> tuple[str, bool]:
    """The newest version where that has the same file, which is then described anew; else the next number."""
    numbered = {v.version: v.folder for v in scan(directory).versions.values() if v.name == name}
    numbers = sorted((int(version) for version in numbered if version.isdecimal()), reverse=True)
    if numbers and _is_of(numbered[str(numbers[0])], file):
        return str(numbers[0]), True
    return str(numbers[0] + 1 if numbers else 1), False


def _is_of(folder: Path, file: Path) -> bool:
    try:
        return read_definition(folder).sha256 == digest(file)
    except (ConfigurationError, OSError):
        return False

"""Adds a model to the directory: a process of its own drafts the folder, which then appears there whole."""

import re
import shutil
import tempfile
import time
from pathlib import Path

from msgspec import Struct

from penstock.errors import ConfigurationError
from penstock.models.declared.document import InvalidModel, read_definition
from penstock.models.inspection.child import in_child
from penstock.models.inspection.draft import LABELS_FILE, DraftRequest, ModelDraft
from penstock.models.inspection.inspection import digest
from penstock.models.repository.tree import NAME, check_id, scan, write_version


class Adding(Struct, frozen=True, kw_only=True):
    """What an operator asks for."""

    file: Path
    name: str | None = None
    version: str | None = None
    said: tuple[str, ...] = ()
    example: Path | None = None
    replace: bool = False


class Added(Struct, frozen=True, kw_only=True):
    """A model that was added, and how. Where it `is_only`, the directory has no other version of its name."""

    name: str
    version: str
    folder: Path
    draft: ModelDraft
    replaced: bool
    is_only: bool
    took_s: float


def add_model(asked: Adding, directory: Path) -> Added:
    """ModelDraft a model, and put it into the directory. Raises ConfigurationError with one line."""
    started = time.monotonic()
    name = asked.name or name_of(asked.file)
    check_id(name, asked.version or "1")
    version = asked.version or version_for(directory, name, asked.file)
    replaces = (directory / name / version).exists()
    if replaces and not asked.replace and not _is_of(directory / name / version, asked.file):
        raise ConfigurationError(f"{name}@{version} is there with another file: give another --version, or --replace")
    with tempfile.TemporaryDirectory(prefix="penstock-model-") as folder:
        request = DraftRequest(
            file=str(asked.file.absolute()),
            folder=folder,
            name=name,
            said=tuple(_with_labels_in(Path(folder), text, asked.file.parent) for text in asked.said),
            version=version,
            example=str(asked.example.absolute()) if asked.example else "",
        )
        draft = in_child("draft", request, ModelDraft, folder=asked.file.absolute().parent)
        files = {path.name: path for path in Path(folder).iterdir()}
        folder_of_version = write_version(directory, name, version, files, replace=replaces)
    return Added(
        name=name,
        version=version,
        folder=folder_of_version,
        draft=draft,
        replaced=replaces,
        is_only=list(_versions(directory, name)) == [version],
        took_s=time.monotonic() - started,
    )


def _with_labels_in(folder: Path, text: str, beside: Path) -> str:
    """What was said; a file of labels that it names is looked for here and beside the ONNX file, and copied into the
    folder. Raises InvalidModel where it is at neither place."""
    member, _, value = (part.strip() for part in text.partition("="))
    if member != "output.labels" or not value.endswith(".txt"):
        return text
    for file in (Path(value), beside / value):
        if file.is_file():
            shutil.copyfile(file, folder / LABELS_FILE)
            return f"{member}={LABELS_FILE}"
    raise InvalidModel(f"--set {text[:80]}: there is no such file, neither here nor beside the ONNX file")


def name_of(file: Path) -> str:
    """The name of a file as a model may have it. Raises InvalidModel where nothing of it is left."""
    name = re.sub(r"[^a-z0-9._-]+", "-", file.stem.lower()).strip("-._")[:64]
    if not NAME.fullmatch(name):
        raise InvalidModel(f"{file.name!r} is no name for a model; give one with --name")
    return name


def version_for(directory: Path, name: str, file: Path) -> str:
    """The newest version where that has the same file, which is then described anew; else the next number."""
    folders = _versions(directory, name)
    newest = max((int(version) for version in folders if version.isdecimal()), default=0)
    if newest and _is_of(folders[str(newest)], file):
        return str(newest)
    return str(newest + 1)


def _versions(directory: Path, name: str) -> dict[str, Path]:
    return {one.version: one.folder for one in scan(directory).versions.values() if one.name == name}


def _is_of(folder: Path, file: Path) -> bool:
    try:
        return read_definition(folder).sha256 == digest(file)
    except (ConfigurationError, OSError):
        return False

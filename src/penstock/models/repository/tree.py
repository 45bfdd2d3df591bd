"""The directory of models: what is in it, and how a version comes into it and goes.

A version is a folder `<name>/<version>` with a `model.toml`. A folder whose name begins with a dot is being written or
removed, and is no version.
"""

import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from penstock.errors import ConfigurationError
from penstock.models.declared import FILE
from penstock.models.declared.plain_file import open_plain

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")

CHUNK_BYTES = 1024 * 1024

MARK = ".penstock-models"
"""A file in the directory that says that it is one of models. A place without it and without versions is not known to
be the directory with nothing in it: the volume may not be mounted there."""

UNREADABLE = "it cannot be read"
"""The reason why a folder is refused that may hold a version, and does not show it now."""

Stamp = tuple[tuple[str, int, int, int], ...]
"""The names of the files of a version with their sizes, times and numbers: it changes when one of them does."""


class VersionFolder(NamedTuple):
    """A version in the directory."""

    name: str
    version: str
    folder: Path
    stamp: Stamp

    @property
    def id(self) -> str:
        """The id of the version."""
        return f"{self.name}@{self.version}"


class Scan(NamedTuple):
    """What is in a directory: the versions by their ids, and for each folder that cannot be one the reason, by its path
    in the directory."""

    versions: dict[str, VersionFolder]
    refused: dict[str, str]


def scan(directory: Path) -> Scan:
    """Look at the directory, which need not exist. No file is read. A link that leads out of the directory is not
    followed. Raises ConfigurationError when the directory itself cannot be read."""
    found = Scan({}, {})
    root = os.path.realpath(directory)
    try:
        entries = _entries(root)
    except OSError as error:
        raise ConfigurationError(f"{directory} cannot be read: {error.strerror}") from error
    for name in _folders(entries, root, NAME, found.refused):
        for version in _folders(_readable(name, root, found.refused), root, VERSION, found.refused):
            _look(version, root, found)
    return found


def is_marked(directory: Path) -> bool:
    """Whether this is known to be a directory of models, also when nothing is in it."""
    return (directory / MARK).exists()


def mark(directory: Path) -> None:
    """Say that this is a directory of models, where it can be written and is there."""
    with suppress(OSError):
        (directory / MARK).touch()


def write_version(
    directory: Path, name: str, version: str, files: Mapping[str, bytes | Path], *, replace: bool = False
) -> Path:
    """Put a version into the directory: `files` are contents, or files to copy, by their names in its folder, which is
    returned. It appears whole or not at all.

    Raises ConfigurationError when the name or the version is none, when the version is there and `replace` is not set,
    or when the directory cannot be written.
    """
    check_id(name, version)
    target = directory / name / version
    if target.exists() and not replace:
        raise ConfigurationError(f"{target} exists: give another version, or replace it")
    try:
        draft = _hidden(target)
        try:
            _write(draft, files)
            mark(directory)
            _exchange(draft, target, replace=replace)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise ConfigurationError(f"{target} cannot be written: {error.strerror}") from error
    return target


def remove_version(directory: Path, name: str, version: str | None = None) -> list[str]:
    """Remove a version from the directory, or all versions of a name. Returns their ids, none where nothing is there.

    Raises ConfigurationError when one cannot be removed.
    """
    check_id(name, version or "1")
    mark(directory)
    folder = directory / name
    try:
        gone = [one for one in _entries(str(folder)) if VERSION.fullmatch(one.name) and version in (None, one.name)]
        for one in gone:
            _remove(Path(one.path))
        with suppress(OSError):  # another version is there
            folder.rmdir()
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be removed: {error.strerror}") from error
    return [f"{name}@{one.name}" for one in gone]


# --- look -----------------------------------------------------------------------------------------------------------

# With paths as text: pathlib would take longer than the system calls do, and a worker looks twice a second.


def _folders(
    entries: Iterable[os.DirEntry[str]], root: str, pattern: re.Pattern[str], refused: dict[str, str]
) -> Iterator[str]:
    """The folders whose names have this form; others are refused, but for hidden ones and files."""
    for entry in entries:
        if entry.name.startswith(".") or not _is_folder(entry, root, refused):
            continue
        if entry.is_symlink() and not _is_inside(entry.path, root):
            refused[_place(entry.path, root)] = "it is a link out of the directory"
        elif not pattern.fullmatch(entry.name):
            refused[_place(entry.path, root)] = f"its name must look like {pattern.pattern}"
        else:
            yield entry.path


def _is_folder(entry: os.DirEntry[str], root: str, refused: dict[str, str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or to where nobody may look
        refused[_place(entry.path, root)] = UNREADABLE
        return False


def _look(folder: str, root: str, found: Scan) -> None:
    files = [entry for entry in _readable(folder, root, found.refused) if not entry.name.startswith(".")]
    if not any(entry.name == FILE for entry in files):
        return  # it is being copied, or is something else
    try:
        outside = [entry.name for entry in files if entry.is_symlink() and not _is_inside(entry.path, root)]
        if outside:
            found.refused[_place(folder, root)] = f"{outside[0]} is a link out of the directory"
            return
        status = [(entry.name, entry.stat()) for entry in files]
    except FileNotFoundError:
        return  # it is being removed
    except OSError:
        found.refused[_place(folder, root)] = UNREADABLE
        return
    stamp = tuple((name, one.st_size, one.st_mtime_ns, one.st_ino) for name, one in status)
    name, version = folder.rsplit("/", 2)[1:]
    found.versions[f"{name}@{version}"] = VersionFolder(name, version, Path(folder), stamp)


def _readable(folder: str, root: str, refused: dict[str, str]) -> list[os.DirEntry[str]]:
    try:
        return _entries(folder)
    except OSError:
        refused[_place(folder, root)] = UNREADABLE
        return []


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What is in a folder, nothing where there is none. Raises OSError when it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=attrgetter("name"))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_inside(path: str, root: str) -> bool:
    return os.path.commonpath((os.path.realpath(path), root)) == root


def _place(path: str, root: str) -> str:
    return os.path.relpath(path, root)


# --- change ---------------------------------------------------------------------------------------------------------


def check_id(name: str, version: str) -> None:
    """Raise ConfigurationError where a model cannot have this name or this version."""
    if not NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} is no name of a model: it must look like {NAME.pattern}")
    if not VERSION.fullmatch(version):
        raise ConfigurationError(f"{version!r} is no version of a model: it must look like {VERSION.pattern}")


def _write(draft: Path, files: Mapping[str, bytes | Path]) -> None:
    # Whoever may read the directory may read what is in it: the worker need not be the user that adds models.
    draft.mkdir(parents=True)
    for name, content in files.items():
        with (draft / name).open("xb") as file:
            if isinstance(content, Path):
                with open_plain(content) as source:
                    shutil.copyfileobj(source, file, CHUNK_BYTES)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())


def _exchange(draft: Path, target: Path, *, replace: bool) -> None:
    """Move a folder to its name, with `replace` what is there out of the way. Raises OSError where something is there
    that was not a moment ago."""
    former = _hidden(target)
    if replace:
        with suppress(FileNotFoundError):
            target.rename(former)
    draft.rename(target)
    _sync(target.parent)
    shutil.rmtree(former, ignore_errors=True)


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
        return
    former = _hidden(folder)
    folder.rename(former)  # at once: what is half removed is no version
    shutil.rmtree(former)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hidden(target: Path) -> Path:
    return target.parent / f".{target.name}-{secrets.token_hex(4)}"

"""The files of a `penstock submit`: where the result of each goes, and the request id by which its task is found
again."""

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from penstock.client.inputs import Inputs
from penstock.client.media_types import media_type_of, suffix_of
from penstock.errors import ConfigurationError

IMAGES = ("image/png", "image/jpeg", "image/webp", "image/avif", "image/tiff", "image/gif", "image/bmp")
"""Types of the images that a folder is searched for. A file that is named itself may have any."""

NAME_BYTES = 255
"""Longest file name that common file systems allow."""


LONGEST_SUFFIX = "." + 16 * "x"
"""Bytes kept free for the suffix of a result whose type is not known before it is there."""


class SourceFile(Struct, frozen=True, kw_only=True):
    """One file and the path of its result. If the model may give any type of result, the `target` has no suffix until
    the result is there, and `is_named` is False. With `inputs`, these are sent, and the `source` is one of them or a
    name for them."""

    source: Path
    target: Path
    is_named: bool = True
    inputs: Inputs | None = None

    @property
    def sent(self) -> Path | Inputs:
        """What is sent as the input of the task."""
        return self.source if self.inputs is None else self.inputs

    @property
    def stem(self) -> str:
        """The name of the result without a suffix."""
        return self.target.with_suffix("").name if self.is_named else self.target.name

    @property
    def results(self) -> list[Path]:
        """The results that exist. They appear whole, but a machine that loses power may leave an empty file, which is
        none."""
        found = self.target.parent.glob(f"{glob.escape(self.target.name)}.*")
        own = [self.target] if self.is_named else [path for path in found if path.stem == self.target.name]
        return [path for path in own if path.exists() and path.stat().st_size > 0]

    @property
    def is_done(self) -> bool:
        """Whether there is a result."""
        return bool(self.results)

    def of_type(self, content_type: str) -> "SourceFile":
        """Returns a copy whose target has a suffix of this content type, which is no other than that of a result that
        keeps what the card of its model says."""
        media_type = content_type.partition(";")[0].strip()
        if self.is_named and media_type in ("", media_type_of(self.target.name)):
            return self
        return replace(self, target=self.target.with_name(self.stem + suffix_of(media_type)), is_named=True)


def files_of(
    paths: Sequence[Path],
    output: Path,
    suffix: str | None,
    *,
    media_types: Sequence[str] = IMAGES,
    passed_over: Counter[str] | None = None,
) -> list[SourceFile]:
    """Lists the files in `paths`, in order. Without a `suffix`, each result gets that of its content type.

    Folders are searched for files of the `media_types`; without any, for all files. A file keeps its place relative to
    the folder that was named. Files among the results, and files whose name begins with a dot, are left out. What is
    left out, but for results, is counted in `passed_over` by its kind, such as `.txt` or `hidden`. If two
    files differ only in their suffix, the suffix stays in the names of their results; a name that is too long is cut,
    and a digest tells it from others.

    Raises ConfigurationError when results would lie among their sources, or two would have one name.
    """
    places = dict(places_of(paths, output, media_types, passed_over=Counter() if passed_over is None else passed_over))
    stems = Counter(place.with_suffix("") for place in places.values())

    def target(place: Path) -> Path:
        name = place.stem if stems[place.with_suffix("")] == 1 else place.name
        if suffix is None:
            return output / place.with_name(_fitting(name, LONGEST_SUFFIX).removesuffix(LONGEST_SUFFIX))
        return output / place.with_name(_fitting(name, f".{suffix}"))

    files = [
        SourceFile(source=source, target=target(place), is_named=suffix is not None) for source, place in places.items()
    ]
    _check(files)
    return files


def alone(inputs: Inputs, output: Path, suffix: str | None, *, name: str) -> SourceFile:
    """Returns the one task of `inputs`, whose result is called after the first file among them, else `name` and a
    digest. Raises OSError if a file cannot be read."""
    source = next((value for value in inputs.values() if isinstance(value, Path)), None)
    if source is None:
        source = Path(f"{name.replace('@', '-')}-{request_id(inputs, {})[-8:]}.json")
    (file,) = files_of([source], output, suffix)
    return replace(file, inputs=inputs)


def request_id(sent: Path | Inputs, said: Mapping[str, Any]) -> str:
    """Returns a `client_request_id` that depends on the bytes of the files and on the members of the request only, so
    that a second submit finds the task of the first. Raises OSError if a file cannot be read."""
    digest = b""
    if isinstance(sent, Path):
        digest = _digest(sent)
    else:
        inputs = {
            name: {"sha256": _digest(value)} if isinstance(value, Path) else value for name, value in sent.items()
        }
        said = {**said, "inputs": inputs}
    return "submit-" + hashlib.sha256(digest + msgspec.json.encode(said, order="deterministic")).hexdigest()[:48]


def _digest(source: Path) -> bytes:
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _is_of(file: Path, media_types: Sequence[str]) -> bool:
    media_type = media_type_of(file.name.lower())
    return not media_types or any(fnmatch(media_type, pattern) for pattern in media_types)


def _fitting(name: str, suffix: str) -> str:
    whole = f"{name}{suffix}"
    if len(os.fsencode(whole)) <= NAME_BYTES:
        return whole
    end = f"-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}{suffix}"
    while len(os.fsencode(name + end)) > NAME_BYTES:
        name = name[:-1]
    return name + end


def places_of(
    paths: Iterable[Path], output: Path | None = None, media_types: Sequence[str] = IMAGES, *, passed_over: Counter[str]
) -> Iterable[tuple[Path, Path]]:
    """Yields each file with its path relative to the folder that was named, as `files_of` lists them."""
    for path in paths:
        if not path.is_dir():
            if path.exists() and not path.is_file():
                raise ConfigurationError(f"{path} is no regular file: a pipe, say, may never end; give a file")
            yield path, Path(path.name)
            continue
        results = None if output is None else _below(path, output)
        for file in sorted(path.rglob("*")):
            place = file.relative_to(path)
            if results is not None and place.is_relative_to(results):
                continue
            if kind := _why_not(file, place, media_types):
                passed_over[kind] += 1
            elif not file.is_dir():
                yield file, place


def _why_not(file: Path, place: Path, media_types: Sequence[str]) -> str:
    """Returns the kind of what is no source; empty for a source, and for a folder that is searched."""
    if any(part.startswith(".") for part in place.parts):
        return "" if file.is_dir() else "hidden"
    if file.is_dir():
        if file.is_symlink():
            return "link to a folder"
        return "" if os.access(file, os.R_OK | os.X_OK) else "folder that cannot be read"
    if not _is_of(file, media_types):
        return file.suffix.lower() or "without a suffix"
    if not file.is_file():
        return "broken link" if file.is_symlink() else "no regular file"
    return ""


def _below(path: Path, output: Path) -> Path | None:
    """Returns the path of the results relative to a folder of sources, None if they are outside of it."""
    folder, results = path.resolve(), output.resolve()
    if folder == results:
        raise ConfigurationError(f"-o: the results would lie among their sources in {path}; give another directory")
    return results.relative_to(folder) if results.is_relative_to(folder) else None


def _check(files: Iterable[SourceFile]) -> None:
    sources: dict[Path, Path] = {}
    for file in files:
        if file.target.resolve() == file.source.resolve():
            raise ConfigurationError(f"-o: the result of {file.source} would take its place; give another directory")
        if file.target in sources:
            first = sources[file.target]
            raise ConfigurationError(f"{first} and {file.source} would both be {file.target}; name a folder above both")
        sources[file.target] = file.source

"""Which files a submit is about: where each result goes, and the name by which a task is found again."""

import glob
import hashlib
import mimetypes
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from penstock.errors import ConfigurationError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
"""Of the files that a folder is searched for; a file that is named itself may be called anything."""

NAME_BYTES = 255
"""What file systems take as a name."""


LONGEST_SUFFIX = "." + 16 * "x"
"""Room that is left for the suffix of a result whose type nobody knows yet."""


class Job(Struct, frozen=True, kw_only=True):
    """One file and where its result goes. The `target` of a model that may give anything has no suffix before the
    result is there: `is_named` says whether it has."""

    source: Path
    target: Path
    is_named: bool = True

    @property
    def is_done(self) -> bool:
        """The result is there; only whole ones ever are, but a machine that loses its power may leave an empty file."""
        named = [self.target] if self.is_named else self.target.parent.glob(f"{glob.escape(self.target.name)}.*")
        return any(path.exists() and path.stat().st_size > 0 for path in named)

    def of_type(self, content_type: str) -> "Job":
        """The same with a target that is named by the type of its result, if it was not named before."""
        if self.is_named:
            return self
        media_type = content_type.partition(";")[0].strip()
        suffix = mimetypes.guess_extension(media_type, strict=False) or ".bin"
        return Job(source=self.source, target=self.target.with_name(self.target.name + suffix))


def jobs_of(paths: Sequence[Path], output: Path, suffix: str | None) -> list[Job]:
    """A job for each file, in order; without a `suffix`, the results will have that of their type. What lies below a
    folder keeps its place below `output`; the results themselves, and what begins with a dot, are passed over. Two
    files that differ in their suffix only keep it in their result's name; one that is too long for a name of a file is
    cut, and told from others by a digest.

    Raises ConfigurationError when results would lie among their sources, or two would have one name.
    """
    places = dict(_places(paths, output))
    stems = Counter(place.with_suffix("") for place in places.values())

    def target(place: Path) -> Path:
        name = place.stem if stems[place.with_suffix("")] == 1 else place.name
        if suffix is None:
            return output / place.with_name(_fitting(name, LONGEST_SUFFIX).removesuffix(LONGEST_SUFFIX))
        return output / place.with_name(_fitting(name, f".{suffix}"))

    jobs = [Job(source=source, target=target(place), is_named=suffix is not None) for source, place in places.items()]
    _check(jobs)
    return jobs


def request_id(source: Path, said: Mapping[str, Any]) -> str:
    """The `client_request_id` of this file with these members of the request: the same whenever they are the same, so
    that a second submit finds the task of the first. Raises OSError when the file cannot be read."""
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    return "submit-" + hashlib.sha256(digest + msgspec.json.encode(said, order="deterministic")).hexdigest()[:48]


def _fitting(name: str, suffix: str) -> str:
    whole = f"{name}{suffix}"
    if len(os.fsencode(whole)) <= NAME_BYTES:
        return whole
    end = f"-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}{suffix}"
    while len(os.fsencode(name + end)) > NAME_BYTES:
        name = name[:-1]
    return name + end


def _places(paths: Iterable[Path], output: Path) -> Iterable[tuple[Path, Path]]:
    """(file, where it lies below what was named)."""
    for path in paths:
        if not path.is_dir():
            yield path, Path(path.name)
            continue
        results = _below(path, output)
        for file in sorted(path.rglob("*")):
            place = file.relative_to(path)
            hidden = any(part.startswith(".") for part in place.parts)
            is_result = results is not None and place.is_relative_to(results)
            if file.suffix.lower() in SUFFIXES and not hidden and not is_result and file.is_file():
                yield file, place


def _below(path: Path, output: Path) -> Path | None:
    """Where the results lie inside of a folder of sources, if they do."""
    folder, results = path.resolve(), output.resolve()
    if folder == results:
        raise ConfigurationError(f"-o: the results would lie among their sources in {path}; give another directory")
    return results.relative_to(folder) if results.is_relative_to(folder) else None


def _check(jobs: Iterable[Job]) -> None:
    sources: dict[Path, Path] = {}
    for job in jobs:
        if job.target.resolve() == job.source.resolve():
            raise ConfigurationError(f"-o: the result of {job.source} would take its place; give another directory")
        if job.target in sources:
            first = sources[job.target]
            raise ConfigurationError(f"{first} and {job.source} would both be {job.target}; name a folder above both")
        sources[job.target] = job.source

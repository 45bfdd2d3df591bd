"""`penstock up --reload`: starts the workers anew when a file of the operator's own models has changed."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from loguru import logger

from penstock.local.supervisor import Supervisor

POLL_S = 0.3
"""How often the files are looked at. Editors write a file in several steps: an edit counts when nothing has changed
since the last look."""

KNOWN_AFTER_S = 0.6
"""The API knows what the new workers have published after half a second. Whoever reads that they serve and sends the
next task gets the answer of the new code."""

SUFFIXES = frozenset({".py", ".onnx"})
"""Files whose change counts. Others in the same folder may be results."""

Snapshot = dict[Path, tuple[int, int]]
"""The time of the last change and the size of each file."""


@asynccontextmanager
async def reloading(supervisor: Supervisor, references: Iterable[str]) -> AsyncIterator[None]:
    """Inside of this block the workers are replaced after each edit of the models of these references."""
    task = asyncio.create_task(reload_on_change(supervisor, references))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def reload_on_change(supervisor: Supervisor, references: Iterable[str]) -> None:
    """Replace the workers after each edit, until canceled. An edit that cannot be served is logged with its reason, and
    the workers of before go on."""
    watched = tuple(references)
    before = await asyncio.to_thread(look, watched)
    while True:
        await asyncio.sleep(POLL_S)
        now = await asyncio.to_thread(look, watched)
        if now == before:
            continue
        now = await _settled(watched, now)
        changed = ", ".join(sorted({path.name for path, _ in before.items() ^ now.items()}))
        before = now
        try:
            await _replace(supervisor, changed)
        except Exception:  # noqa: BLE001  a fault of ours ends no server
            logger.bind(changed=changed).exception("the models could not be reloaded")


def folders_of(reference: str) -> list[Path]:
    """The folders whose files a reference of `models.modules` may import: that of a file, a folder itself, or that of a
    module, with all below it where it is a package. Nothing is imported."""
    if reference.endswith(".py") or "/" in reference:
        path = Path(reference).expanduser().absolute()
        return [path if path.is_dir() else path.parent]
    source = _source_of(reference.partition(".")[0])
    if source is None:
        return []
    if source.name != "__init__.py":
        return [source.parent]
    return [Path(folder) for folder, _, _ in os.walk(source.parent)]  # leaves out what is removed meanwhile


def _source_of(module: str) -> Path | None:
    """The file of a module, as the workers find it: `python -m` also looks into the working directory."""
    spec = find_spec(module)
    here = [Path(f"{module}.py").absolute(), Path(module, "__init__.py").absolute()]
    found = [Path(spec.origin)] if spec is not None and spec.origin else here
    return next((path for path in found if path.is_file()), None)


def look(references: Iterable[str]) -> Snapshot:
    """What the files that these references may import look like now, those in new folders too."""
    return snapshot([folder for reference in references for folder in folders_of(reference)])


def snapshot(folders: Iterable[Path]) -> Snapshot:
    """What the files of these folders look like now. What is removed meanwhile is left out, a folder too."""
    found: Snapshot = {}
    for folder in folders:
        with suppress(OSError):
            found |= _files_in(folder)
    return found


def _files_in(folder: Path) -> Snapshot:
    found: Snapshot = {}
    for path in folder.iterdir():
        if path.suffix in SUFFIXES:
            with suppress(OSError):
                stat = path.stat()
                found[path] = (stat.st_mtime_ns, stat.st_size)
    return found


async def _settled(watched: tuple[str, ...], now: Snapshot) -> Snapshot:
    while True:
        await asyncio.sleep(POLL_S)
        later = await asyncio.to_thread(look, watched)
        if later == now:
            return now
        now = later


async def _replace(supervisor: Supervisor, changed: str) -> None:
    began = time.monotonic()
    if reason := await supervisor.replace_workers():
        logger.bind(changed=changed, reason=reason).error("the edit cannot be served, the models of before go on")
        return
    took_s = round(time.monotonic() - began, 1)
    await asyncio.sleep(KNOWN_AFTER_S)
    logger.bind(changed=changed, seconds=took_s).info("models reloaded")

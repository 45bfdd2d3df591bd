"""Objects without a record: what a crash, a lost Redis or an earlier version has left in the storage.

They are looked for only where it is certain that the records are those of the objects. The storage carries a marker
with the id that Redis holds too: a Redis that was emptied has another, and so has another installation. The marker is
put only where nothing is older than the Redis.
"""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from loguru import logger
from msgspec import Struct

from penstock import telemetry
from penstock.errors import ResultExpired
from penstock.storage import MARKER, Storage, Stored
from penstock.store import Identity, Installation, owner_of

PREFIXES = ("inputs/", "results/", "uploads/", "batches/")
"""Nothing else in the storage is ever looked at."""

OLD_MS = 24 * 3600 * 1000
"""Younger objects may be on their way to their record."""

CLOCKS_APART_MS = 15 * 60 * 1000
"""The clocks of storage and Redis; S3 bears no more itself."""

MOST = 10_000
"""Orphans taken by one round."""

PAGE = 500
EXAMPLES = 10

COUNT_PAUSE_S = 3600
CONFIRM_PAUSE_S = 60.0


class NotCertain(Exception):
    """These records and these objects may not belong together; the text is the reason. Nothing is deleted."""


class Orphans(Struct, frozen=True, kw_only=True):
    """What was found: no more than MOST."""

    count: int
    bytes: int
    examples: tuple[str, ...]


async def mark(installation: Installation, storage: Storage) -> None:
    """Put the marker into the storage where there is none, unless some object is older than this Redis: then nobody can
    say whose the objects are."""
    identity = await installation.found()
    if await _marker(storage) is not None:
        return
    async for stored in _objects(storage):
        if stored.modified < identity.created - CLOCKS_APART_MS:
            logger.bind(example=stored.key).info("the storage has objects from before this Redis: it is not marked")
            return
    await storage.put(MARKER, msgspec.json.encode(identity), "application/json")


async def find_orphans(installation: Installation, storage: Storage) -> list[Stored]:
    """Objects older than a day of which no record is known. Raises NotCertain."""
    identity = await _certain(installation, storage)
    old = await installation.now_ms() - OLD_MS
    found: list[Stored] = []
    async for page in _pages(storage):
        first = min(page, key=lambda stored: stored.modified)
        if first.modified < identity.created - CLOCKS_APART_MS:
            raise NotCertain(f"{first.key} is older than what Redis holds: is it another Redis, or was it emptied?")
        found += await _unknown(installation, [stored for stored in page if stored.modified < old])
        if len(found) >= MOST:
            break
    return await _not_shown(installation, found[:MOST])


async def delete_orphans(installation: Installation, storage: Storage, found: list[Stored]) -> list[Stored]:
    """Delete those of them that are orphans still; which. Raises NotCertain."""
    await _certain(installation, storage)
    found = await _not_shown(installation, found)
    deleted = []
    for at in range(0, len(found), PAGE):
        still = await _unknown(installation, found[at : at + PAGE])
        await storage.delete(*(stored.key for stored in still))
        deleted += still
    return deleted


def summary(found: list[Stored]) -> Orphans:
    """How many and how large they are, and some of them."""
    return Orphans(
        count=len(found),
        bytes=sum(stored.size for stored in found),
        examples=tuple(stored.key for stored in found[:EXAMPLES]),
    )


async def sweep_orphans(installation: Installation, storage: Storage, *, delete: bool) -> None:
    """Mark the storage; then, in one process an hour, count the orphans, and delete them if that is wanted."""
    await mark(installation, storage)
    if not await installation.take_turn(COUNT_PAUSE_S):
        return
    try:
        found = await find_orphans(installation, storage)
        telemetry.report("storage.orphans", len(found))
        if found and delete:
            await asyncio.sleep(CONFIRM_PAUSE_S)
            gone = summary(await delete_orphans(installation, storage, found))
            logger.bind(count=gone.count, bytes=gone.bytes, examples=gone.examples).warning("orphans deleted")
            telemetry.report("storage.orphans", len(found) - gone.count)
    except NotCertain as error:
        logger.bind(reason=str(error)).info("orphans are not looked for")


async def _certain(installation: Installation, storage: Storage) -> Identity:
    identity = await installation.identity()
    if identity is None:
        raise NotCertain("Redis knows of no installation: it was emptied, or no server has run with it yet")
    marker = await _marker(storage)
    if marker is None:
        raise NotCertain("the storage has no marker: it had objects before this Redis, or no server has run with both")
    if marker != identity.id:
        raise NotCertain("the marker in the storage is of another installation, or of a Redis that was emptied since")
    return identity


async def _marker(storage: Storage) -> str | None:
    """The id in it; a marker that cannot be read is nobody's."""
    try:
        return msgspec.json.decode(await storage.get(MARKER, limit=4096), type=Identity).id
    except ResultExpired:
        return None
    except msgspec.DecodeError:
        return ""


async def _objects(storage: Storage) -> AsyncIterator[Stored]:
    """All that are named as ours are."""
    for prefix in PREFIXES:
        async for stored in storage.list(prefix):
            if stored.key.count("/") >= 2:
                yield stored


async def _pages(storage: Storage) -> AsyncIterator[list[Stored]]:
    page: list[Stored] = []
    async for stored in _objects(storage):
        page.append(stored)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


async def _unknown(installation: Installation, page: list[Stored]) -> list[Stored]:
    unknown = set(await installation.unknown([stored.key for stored in page]))
    return [stored for stored in page if stored.key in unknown]


async def _not_shown(installation: Installation, found: list[Stored]) -> list[Stored]:
    """But for the results that records of other tasks show."""
    if not any(stored.key.startswith("results/") for stored in found):
        return found
    shown = await installation.shown()
    return [stored for stored in found if not (stored.key.startswith("results/") and owner_of(stored.key)[2] in shown)]

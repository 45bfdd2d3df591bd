"""Objects without a record: what a crash, a lost Redis or an earlier version has left in the storage.

They are looked for only where it is certain that the records are those of the objects. The storage carries a marker
with the id that Redis holds too: a Redis that was emptied has another, and so has another installation. The marker is
put only where nothing is older than the Redis. Marker and Redis share the beat as well, a word that is replaced every
hour: a Redis that was restored from an older save has an earlier one, and of two copies of a Redis each replaces what
the other has written.
"""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from loguru import logger
from msgspec import Struct

from penstock.errors import InputTooLarge, ResultExpired
from penstock.storage import MARKER, Storage, Stored
from penstock.store import Identity, Installation, owner_of
from penstock.telemetry import metrics

PREFIXES = ("inputs/", "results/", "uploads/", "batches/")
"""Nothing else in the storage is ever looked at."""

OLD_MS = 24 * 3600 * 1000
"""Younger objects may be on their way to their record. The beat has been replaced since the older ones were stored, so
that no Redis that was saved before them passes."""

CLOCKS_APART_MS = 15 * 60 * 1000
"""The clocks of storage and Redis; S3 bears no more itself."""

MOST = 10_000
"""Orphans taken by one round."""

PAGE = 500
EXAMPLES = 10

COUNT_PAUSE_S = 3600
CONFIRM_PAUSE_S = 60.0

SETTLE_PAUSE_S = 2.0
"""A Redis that crashes may lose its last second. The next beat is older than that before the storage has it."""

CONFLICT = "conflict"
"""The beat of a marker that two Redis have moved: nobody's."""


class NotCertain(Exception):
    """These records and these objects may not belong together; the text is the reason. Nothing is deleted."""


class Orphans(Struct, frozen=True, kw_only=True):
    """What was found: no more than MOST."""

    count: int
    bytes: int
    examples: tuple[str, ...]


class Marker(Struct, frozen=True, kw_only=True):
    """What the storage holds of an installation."""

    id: str
    beat: str


async def move_beat(installation: Installation, storage: Storage) -> None:
    """Replace the beat in the marker and in Redis, and put the marker where there is none. The process whose turn it is
    does so; it may end at any point of this. Raises NotCertain where nothing is to be looked for.

    Where the marker has moved without this Redis, another one has moved it. The marker gets no one's beat then, so that
    the other stops as well."""
    identity = await installation.found()
    marker = await _marker(storage)
    if marker is None:
        await _refuse_older(identity, storage)
    else:
        if marker.id == identity.id and marker.beat not in (*identity.beats, CONFLICT):
            await _mark(storage, Marker(id=identity.id, beat=CONFLICT))
        _compare(identity, marker, storage)
    word = await installation.next_beat()
    await asyncio.sleep(SETTLE_PAUSE_S)
    await _mark(storage, Marker(id=identity.id, beat=word))
    await installation.beat_moved(word)


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
    """In one process an hour, move the beat and count the orphans, and delete them if that is wanted."""
    if not await installation.take_turn(COUNT_PAUSE_S):
        return
    try:
        with metrics.meters().measuring("storage.orphans"):
            await move_beat(installation, storage)
            found = await find_orphans(installation, storage)
        metrics.report("storage.orphans", len(found))
        if found and delete:
            await asyncio.sleep(CONFIRM_PAUSE_S)
            gone = summary(await delete_orphans(installation, storage, found))
            logger.bind(count=gone.count, bytes=gone.bytes, examples=gone.examples).warning("orphans deleted")
            metrics.report("storage.orphans", len(found) - gone.count)
    except NotCertain as error:
        logger.bind(reason=str(error)).warning("orphans are not looked for")


async def _certain(installation: Installation, storage: Storage) -> Identity:
    identity = await installation.identity()
    if identity is None:
        raise NotCertain("Redis knows of no installation: it was emptied, or no server has run with it yet")
    marker = await _marker(storage)
    if marker is None:
        raise NotCertain("the storage has no marker: it had objects before this Redis, or no server has run with both")
    _compare(identity, marker, storage)
    return identity


def _compare(identity: Identity, marker: Marker, storage: Storage) -> None:
    if marker.id != identity.id:
        raise NotCertain("the marker in the storage is of another installation, or of a Redis that was emptied since")
    if marker.beat not in identity.beats:
        raise NotCertain(
            "this Redis is older than the marker in the storage, or there is a copy of it that uses the same storage: "
            f"let one Redis alone use it, and if the objects belong to that one, delete {storage.full_key(MARKER)}"
        )


async def _refuse_older(identity: Identity, storage: Storage) -> None:
    """Raises NotCertain when an object is older than this Redis: then nobody can say whose the objects are."""
    async for stored in _objects(storage):
        if stored.modified < identity.created - CLOCKS_APART_MS:
            raise NotCertain(f"the storage is not marked: {stored.key} is older than this Redis")


async def _marker(storage: Storage) -> Marker | None:
    """A marker that cannot be read is nobody's."""
    try:
        return msgspec.json.decode(await storage.get(MARKER, limit=4096), type=Marker)
    except ResultExpired:
        return None
    except (InputTooLarge, msgspec.DecodeError):
        return Marker(id="", beat="")


async def _mark(storage: Storage, marker: Marker) -> None:
    await storage.put(MARKER, msgspec.json.encode(marker), "application/json")


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

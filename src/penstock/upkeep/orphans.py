"""Orphans: objects without a record, left in the storage by a crash, a lost Redis or an earlier version. Results that
were begun in parts, and never finished, are among them.

They are looked for only where it is certain that these records and these objects belong together. Two words prove it,
which both Redis and a marker in the storage hold:

- the id of the installation. A Redis that was emptied has another one, and so has another installation. The marker is
  written only into a storage where no object is older than the Redis.
- the beat, which is replaced every hour. A Redis that was restored from an older save has an earlier beat, and of two
  copies of a Redis each replaces what the other has written.
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
"""Objects with any other prefix are never looked at."""

STREAMED = "results/"
"""The prefix of the objects that are written in parts."""

OLD_MS = 24 * 3600 * 1000
"""Objects younger than a day are left alone: their record may not have been written yet. Older ones were stored before
the latest beat, so that a Redis which was restored from a save without their records has another beat, and nothing is
deleted."""

CLOCKS_APART_MS = 15 * 60 * 1000
"""How far the clocks of the storage and of Redis may differ; S3 itself accepts no more."""

MOST = 10_000
"""Orphans that one round looks for."""

PAGE = 500
EXAMPLES = 10

COUNT_PAUSE_S = 3600
CONFIRM_PAUSE_S = 60.0

SETTLE_PAUSE_S = 2.0
"""A Redis that crashes may lose its last second. The new beat is written to the storage only when it is older."""

CONFLICT = "conflict"
"""The beat of a marker that two Redis have moved; it matches neither."""


class NotCertain(Exception):
    """The records and the objects may not belong together; the text says why. Nothing is deleted then."""


class Orphans(Struct, frozen=True, kw_only=True):
    """The orphans of one round, at most MOST: their number and bytes, and some keys."""

    count: int
    bytes: int
    examples: tuple[str, ...]


class Marker(Struct, frozen=True, kw_only=True):
    """The marker in the storage: the id of the installation and its beat."""

    id: str
    beat: str


async def move_beat(installation: Installation, storage: Storage) -> None:
    """Replace the beat in the marker and in Redis, and write the marker where there is none.

    Only the process that `take_turn` chose does so, and it may die at any point. Raises NotCertain.
    """
    identity = await installation.ensure_identity()
    key = _marker_key(installation)
    marker = await _marker(storage, key)
    if marker is None:
        await _refuse_older(installation, identity, storage)
    else:
        if marker.id == identity.id and marker.beat not in (*identity.beats, CONFLICT):
            # Another Redis has moved the marker. With a beat that matches neither, the other one stops as well.
            await _mark(storage, key, Marker(id=identity.id, beat=CONFLICT))
        _compare(identity, marker, storage.full_key(key))
    beat = await installation.next_beat()
    await asyncio.sleep(SETTLE_PAUSE_S)
    await _mark(storage, key, Marker(id=identity.id, beat=beat))
    await installation.beat_moved(beat)


async def find_orphans(installation: Installation, storage: Storage) -> list[Stored]:
    """Objects older than a day that no record knows of. Raises NotCertain."""
    identity = await _certain(installation, storage)
    old = await installation.now_ms() - OLD_MS
    orphans: list[Stored] = []
    async for page in _pages(installation, storage):
        first = min(page, key=lambda stored: stored.modified)
        if first.modified < identity.created - CLOCKS_APART_MS:
            raise NotCertain(f"{first.key} is older than what Redis holds: is it another Redis, or was it emptied?")
        orphans += await _unknown(installation, [stored for stored in page if stored.modified < old])
        if len(orphans) >= MOST:
            break
    return await _not_shown(installation, orphans[:MOST])


async def delete_orphans(installation: Installation, storage: Storage, orphans: list[Stored]) -> list[Stored]:
    """Delete the objects that are still orphans. Returns those that were deleted. Raises NotCertain."""
    await _certain(installation, storage)
    orphans = await _not_shown(installation, orphans)
    deleted = []
    for at in range(0, len(orphans), PAGE):
        still = await _unknown(installation, orphans[at : at + PAGE])
        await storage.delete(*(stored.key for stored in still if not stored.unfinished))
        await storage.give_up(*(stored for stored in still if stored.unfinished))
        deleted += still
    return deleted


def summary(objects: list[Stored]) -> Orphans:
    """The number and the bytes of the objects, and the keys of the first ones."""
    return Orphans(
        count=len(objects),
        bytes=sum(stored.size for stored in objects),
        examples=tuple(stored.key for stored in objects[:EXAMPLES]),
    )


async def sweep_orphans(installation: Installation, storage: Storage, *, delete: bool) -> None:
    """Once an hour, in one of all processes: move the beat, count the orphans, and delete them if `delete` is set."""
    if not await installation.take_turn(COUNT_PAUSE_S):
        return
    try:
        with metrics.meters().measuring("storage.orphans"):
            await move_beat(installation, storage)
            orphans = await find_orphans(installation, storage)
        metrics.report("storage.orphans", len(orphans))
        if orphans and delete:
            # A record that was being written while the orphans were counted is complete after this pause.
            await asyncio.sleep(CONFIRM_PAUSE_S)
            deleted = summary(await delete_orphans(installation, storage, orphans))
            logger.bind(count=deleted.count, bytes=deleted.bytes, examples=deleted.examples).warning("orphans deleted")
            metrics.report("storage.orphans", len(orphans) - deleted.count)
    except NotCertain as error:
        logger.bind(reason=str(error)).warning("no search for orphans")


async def _certain(installation: Installation, storage: Storage) -> Identity:
    identity = await installation.identity()
    if identity is None:
        raise NotCertain("Redis knows of no installation: it was emptied, or no server has run with it yet")
    key = _marker_key(installation)
    marker = await _marker(storage, key)
    if marker is None:
        raise NotCertain("the storage has no marker: it had objects before this Redis, or no server has run with both")
    _compare(identity, marker, storage.full_key(key))
    return identity


def _marker_key(installation: Installation) -> str:
    """The marker of a shard: each may be restored from an older save, alone."""
    return f"{MARKER}-{installation.shard}" if installation.shard else MARKER


def _compare(identity: Identity, marker: Marker, full_key: str) -> None:
    if marker.id != identity.id:
        raise NotCertain("the marker in the storage is of another installation, or of a Redis that was emptied since")
    if marker.beat not in identity.beats:
        raise NotCertain(
            "this Redis is older than the marker in the storage, or there is a copy of it that uses the same storage: "
            f"let one Redis alone use it, and if the objects belong to that one, delete {full_key}"
        )


async def _refuse_older(installation: Installation, identity: Identity, storage: Storage) -> None:
    """Raises NotCertain when an object is older than this Redis: nobody can say then to whom the objects belong."""
    async for stored in _objects(installation, storage):
        if stored.modified < identity.created - CLOCKS_APART_MS:
            raise NotCertain(f"the storage is not marked: {stored.key} is older than this Redis")


async def _marker(storage: Storage, key: str) -> Marker | None:
    """The marker, None where there is none. A marker that cannot be read has no id, and matches no installation."""
    try:
        return msgspec.json.decode(await storage.get(key, limit=4096), type=Marker)
    except ResultExpired:
        return None
    except (InputTooLarge, msgspec.DecodeError):
        return Marker(id="", beat="")


async def _mark(storage: Storage, key: str, marker: Marker) -> None:
    await storage.put(key, msgspec.json.encode(marker), "application/json")


async def _objects(installation: Installation, storage: Storage) -> AsyncIterator[Stored]:
    """Yields all objects of this shard whose keys have the form of Penstock's keys, and last the unfinished ones."""
    for listed in (*map(storage.list, PREFIXES), storage.list_unfinished(STREAMED)):
        async for stored in listed:
            if stored.key.count("/") >= 2 and installation.owns(stored.key):
                yield stored


async def _pages(installation: Installation, storage: Storage) -> AsyncIterator[list[Stored]]:
    page: list[Stored] = []
    async for stored in _objects(installation, storage):
        page.append(stored)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


async def _unknown(installation: Installation, page: list[Stored]) -> list[Stored]:
    unknown = set(await installation.unknown([stored.key for stored in page]))
    return [stored for stored in page if stored.key in unknown]


async def _not_shown(installation: Installation, orphans: list[Stored]) -> list[Stored]:
    """The objects without those results that records of other tasks show, since they reuse them."""
    if not any(stored.key.startswith("results/") for stored in orphans):
        return orphans
    shown = await installation.shown()
    return [one for one in orphans if not (one.key.startswith("results/") and owner_of(one.key)[2] in shown)]

"""AuditStore: who did what to the work or the keys of others, as a bounded stream."""

from collections.abc import Sequence
from typing import Any

import msgspec
from loguru import logger
from msgspec import Struct

from penstock.store.engine import Engine

MAX_ENTRIES = 50_000
"""About 15 MB of Redis; the oldest ones beyond make room, about a hundred at a time."""


class AuditRecord(Struct, frozen=True, kw_only=True):
    """One act: the caller and the tenant of the key that did it, what it did, on what, and from which address."""

    by: str
    tenant: str
    act: str
    subject: str
    address: str
    request_id: str
    details: dict[str, Any] = {}


class AuditEntry(Struct, frozen=True):
    """A record with its place in the stream, which begins with the ms by the clock of Redis."""

    place: str
    record: AuditRecord

    @property
    def at(self) -> int:
        """When the act was done, in ms since 1970."""
        return int(self.place.partition("-")[0])


class AuditStore:
    """The audit stream. Every method raises StoreUnavailable when Redis cannot be reached or refuses writes; a record
    that is added again after a broken connection may be there twice."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._key = engine.keys.audit

    async def add(self, record: AuditRecord) -> None:
        """Add a record at the end."""
        row = msgspec.json.encode(record)
        await self._engine.write([("XADD", self._key, "MAXLEN", "~", MAX_ENTRIES, "*", "record", row)])

    async def newest(self, limit: int, *, before: str | None = None) -> Sequence[AuditEntry]:
        """Return the newest `limit` entries, the newest first; with `before`, those that came before that place."""
        if before is not None and set(before) <= {"0", "-"}:
            return ()  # nothing comes before the first place, and Redis refuses to look there
        last = f"({before}" if before else "+"
        (rows,) = await self._engine.pipelined([("XREVRANGE", self._key, last, "-", "COUNT", limit)])
        return [entry for place, fields in rows if (entry := _entry(place.decode(), fields)) is not None]


def _entry(place: str, fields: Any) -> AuditEntry | None:
    named = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
    try:
        return AuditEntry(place, msgspec.json.decode(named.get(b"record", b""), type=AuditRecord))
    except msgspec.MsgspecError as error:
        logger.bind(place=place, reason=str(error)).error("an entry of the audit cannot be read")
        return None

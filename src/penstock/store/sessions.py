"""SessionStore: the sessions of the console, so that every API process knows them."""

import math
import time

import msgspec
from loguru import logger

from penstock.core.sessions import SessionRecord
from penstock.store.engine import Engine


class SessionStore:
    """Sessions by the digest of their token. Every method raises StoreUnavailable when Redis cannot be reached or
    refuses writes; each may be repeated."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keys = engine.keys

    async def open(self, digest: str, record: SessionRecord) -> None:
        """Keep a session until it expires."""
        ttl_s = max(1, math.ceil(record.expires - time.time()))
        await self._engine.write([("SET", self._keys.session(digest), msgspec.json.encode(record), "EX", ttl_s)])

    async def find(self, digest: str) -> SessionRecord | None:
        """Return the session of this digest; None where there is none, and for one that cannot be read."""
        (row,) = await self._engine.pipelined([("GET", self._keys.session(digest))])
        try:
            return msgspec.json.decode(row, type=SessionRecord) if row else None
        except msgspec.MsgspecError as error:
            logger.bind(reason=str(error)).error("a session cannot be read")
            return None

    async def end(self, digest: str) -> None:
        """Forget a session, where there is one."""
        await self._engine.write([("DEL", self._keys.session(digest))])

"""HistoryStore: samples of the last hour, one a minute, which one of the API processes writes."""

import msgspec
from loguru import logger

from penstock.core.history import MINUTES, MinuteSample
from penstock.store.engine import Engine


class HistoryStore:
    """The samples of an installation. Every method raises StoreUnavailable when Redis cannot be reached or refuses
    writes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._key = engine.keys.history

    async def minute(self) -> int:
        """Return the number of this minute since 1970, by the clock of Redis."""
        ((seconds, _),) = await self._engine.pipelined([("TIME",)])
        return int(seconds) // 60

    async def begin(self, minute: int) -> bool:
        """Return whether it is for the caller to write the sample of this minute: of many processes one is told so."""
        (is_first,) = await self._engine.write([("HSETNX", self._key, minute, b"")])
        return bool(is_first)

    async def put(self, sample: MinuteSample) -> None:
        """Write a sample, and forget those that are older than an hour. It may be repeated."""
        (minutes,) = await self._engine.pipelined([("HKEYS", self._key)])
        old = [field for field in minutes if not field.isdigit() or int(field) <= sample.minute - MINUTES]
        forget = [("HDEL", self._key, *old)] if old else []
        await self._engine.write([("HSET", self._key, sample.minute, msgspec.json.encode(sample)), *forget])

    async def last_hour(self) -> list[MinuteSample]:
        """Return the samples that there are, the oldest first."""
        (rows,) = await self._engine.pipelined([("HVALS", self._key)])
        found: list[MinuteSample] = []
        for row in filter(None, rows):
            try:
                found.append(msgspec.json.decode(row, type=MinuteSample))
            except msgspec.MsgspecError as error:
                logger.bind(reason=str(error)).error("a sample of the history cannot be read")
        return sorted(found, key=lambda sample: sample.minute)

"""Subscription: one connection on which a process hears the messages of one channel.

A message that comes is there for its listener in the same turn of the event loop: with redis-py's own it takes 60
Python calls and two timers, which an idle worker and a request that waits for its task would wait for. It relies on the
internals of redis-py that `multiplexed` names.
"""

import asyncio
from collections import deque
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, InvalidResponse, RedisError  # noqa: A004  the vendor's name

from penstock.store.channels import OF_ALL_NODES, Channels
from penstock.store.multiplexed import transport_of

PING_EVERY_S = 15.0
"""How often Redis is asked whether it is still there; of a connection that has died silently nothing else tells."""

HELD = 1000
"""Messages that may wait for a slow listener before no more are read: Redis then holds them, within its own limits."""


class Subscription(asyncio.Protocol):
    """Messages of one channel, from `open` until the connection breaks or `leave` is called."""

    def __init__(
        self, connection: AbstractConnection, channel: str, timeout_s: float, channels: Channels = OF_ALL_NODES
    ) -> None:
        """`connection` must set no time-out for reading: it is read from all the time."""
        self._connection = connection
        self._channel = channel
        self._timeout_s = timeout_s
        self._channels = channels
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=connection._parser.parse_error)
        self._transport: Any = None
        self._came: deque[str] = deque()
        self._awaited: asyncio.Future[None] | None = None
        self._broken: Exception | None = None
        self._is_open = self._is_left = self._is_paused = False
        self._is_heard = True
        self._pings: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Connect and subscribe; from the return on no message is missed. Raises what redis-py raises."""
        self._transport = await transport_of(self._connection, self._timeout_s, self)
        subscribe = (self._channels.subscribe, self._channel)
        self._transport.write(hiredis.pack_command(subscribe))  # type: ignore[arg-type]  # as in `multiplexed`
        try:
            async with asyncio.timeout(self._timeout_s):
                while not self._is_open:
                    await self._until_news()
        except TimeoutError as error:
            raise ConnectionError("timeout subscribing") from error
        self._pings = self._loop.call_later(PING_EVERY_S, self._ping)

    async def next(self) -> str | None:
        """Wait for the next message; None when the connection is to be left. Raises what has broken it."""
        while not self._came:
            if self._is_left:
                return None
            await self._until_news()
        if self._is_paused and len(self._came) == 1:
            self._is_paused = False
            self._transport.resume_reading()
        return self._came.popleft()

    def leave(self) -> None:
        """Let `next` return None once what has come is read."""
        self._is_left = True
        self._wake()

    async def aclose(self) -> None:
        """Close the connection."""
        if self._pings is not None:
            self._pings.cancel()
        await self._connection.disconnect(nowait=True)

    def data_received(self, data: bytes) -> None:
        """Take the messages in these bytes, which Redis has sent."""
        self._is_heard = True
        self._reader.feed(data)
        try:
            while (received := self._reader.gets()) is not False:  # that is what it says when no answer is complete
                self._take(received)
        except RedisError as error:
            self.connection_lost(error)
        if len(self._came) > HELD and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits."""
        self._broken = exc if isinstance(exc, RedisError) else ConnectionError(str(exc or "it was closed"))
        self._wake()

    def _take(self, received: Any) -> None:
        if isinstance(received, Exception):
            raise received
        kind, *rest = received
        if kind in (b"message", b"smessage"):
            self._came.append(rest[1].decode())
        elif kind == self._channels.begun:
            self._is_open = True
        elif kind == self._channels.ended:  # the slot of the channel has moved to another node
            raise ConnectionError("the channel is on another node")
        else:  # the answer to a ping
            return
        self._wake()

    async def _until_news(self) -> None:
        if self._broken is not None:
            raise self._broken
        self._awaited = self._loop.create_future()
        await self._awaited

    def _wake(self) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)

    def _ping(self) -> None:
        if self._broken is not None:
            return
        if not self._is_heard and not self._is_paused:
            self.connection_lost(ConnectionError("no answer to a ping"))
            return
        self._is_heard = False
        self._transport.write(hiredis.pack_command(("PING",)))
        self._pings = self._loop.call_later(PING_EVERY_S, self._ping)

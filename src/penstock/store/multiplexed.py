"""Multiplexer: one connection for all callers of a process.

Commands that are called in one turn of the event loop go out in one write, and answers come back in the order of the
commands. A connection for each caller, which is how redis-py works, takes three times the CPU.

It relies on these internals of redis-py (5.x), which a newer release may change: `connect` opens `_writer`, sends AUTH
and SELECT, and has read their answers; `_parser.parse_error` makes an exception of a refusal; and `disconnect` closes,
without waiting if it has `nowait=True`. test_multiplexed.py holds them. Between connect and disconnect, redis-py would
take two tasks and thirty Python calls for a command; here one callback writes and one reads.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, InvalidResponse, RedisError  # noqa: A004  the vendor's name

Answer = asyncio.Future[Any]

FOR_EVER_S = 1e6


class Multiplexer:
    """Sends commands that do not block over one connection, which is opened when one is needed. Nothing is ever sent
    twice."""

    def __init__(self, new_connection: Callable[[], AbstractConnection], timeout_s: float) -> None:
        """`new_connection` must set no time-out for reading: the connection is read from all the time."""
        self._new_connection = new_connection
        self._timeout_s = timeout_s
        self._shared: SharedConnection | None = None

    async def ask(self, *command: str | bytes | float, within_s: float = FOR_EVER_S) -> Any:
        """Send a command and return the answer of Redis.

        Raises ResponseError when Redis refuses, TimeoutError when it does not answer in time, and what redis-py raises
        as soon as the connection breaks: the command may then have been done or not. A caller that is cancelled, or has
        waited in vain, disturbs no other: commands of others are still answered, and the next command goes over a new
        connection, since this one may be dead.
        """
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub knows tuples of one only
        if self._shared is None or self._shared.is_left:
            self._shared = SharedConnection(self._new_connection(), self._timeout_s)
        shared, answer = self._shared, self._shared.send(packed)
        timer = shared.loop.call_later(within_s / 2, _wait_on, answer, within_s / 2)
        shared.callers += 1
        try:
            return await answer
        except (asyncio.CancelledError, TimeoutError):
            shared.is_left = True
            raise
        finally:
            timer.cancel()
            shared.callers -= 1
            if shared.is_left:
                shared.end_if_unused()

    def leave(self) -> None:
        """Send all further commands over a new connection; those that wait are still answered over this one."""
        if self._shared is not None:
            self._shared.leave()

    async def aclose(self) -> None:
        """Close the connection. Callers that still wait get a ConnectionError."""
        if self._shared is not None:
            await self._shared.aclose()


class SharedConnection(asyncio.Protocol):
    """One connection, from before it is open until nobody waits for an answer of it any more."""

    def __init__(self, connection: AbstractConnection, timeout_s: float) -> None:
        self.is_left = False
        """Whether no further command may be sent here."""
        self._connection = connection
        self._timeout_s = timeout_s
        self.loop = asyncio.get_running_loop()
        self.callers = 0
        """How many wait for an answer."""
        self._transport: asyncio.WriteTransport | None = None  # None until it is open
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=connection._parser.parse_error)
        self._unsent: list[tuple[bytes, Answer]] = []
        self._unanswered: deque[Answer] = deque()
        self._broken: asyncio.Future[Exception] = self.loop.create_future()
        self._life = asyncio.create_task(self._live(), name="redis")

    def send(self, packed: bytes) -> Answer:
        """Send a packed command in this turn of the loop, and return where its answer will be."""
        answer: Answer = self.loop.create_future()
        if self._transport is not None and not self._unsent:
            self.loop.call_soon(self._send)
        self._unsent.append((packed, answer))
        return answer

    def leave(self) -> None:
        """Accept no further command."""
        self.is_left = True
        self.end_if_unused()

    def end_if_unused(self) -> None:
        """Close the connection if nobody waits."""
        if not self.callers:
            self._life.cancel()

    async def aclose(self) -> None:
        """Close the connection now."""
        self._life.cancel()
        await asyncio.gather(self._life, return_exceptions=True)

    def data_received(self, data: bytes) -> None:
        """Give the answers in these bytes, which Redis has sent, to those who wait."""
        self._reader.feed(data)
        try:
            while (received := self._reader.gets()) is not False:  # that is what it says when no answer is complete
                if isinstance(received, ConnectionError):  # Redis is not ready, or does not know us: it refuses all
                    raise received
                answer = self._unanswered.popleft()
                if answer.done():
                    continue
                if isinstance(received, Exception):
                    answer.set_exception(received)
                else:
                    answer.set_result(received)
        except RedisError as error:
            self.connection_lost(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell those who wait."""
        self.is_left = True
        if not self._broken.done():
            self._broken.set_result(
                exc if isinstance(exc, RedisError) else ConnectionError(str(exc or "it was closed"))
            )

    async def _live(self) -> None:
        broken: Exception = ConnectionError("the connection was closed")
        try:
            self._transport = await transport_of(self._connection, self._timeout_s, self)
            self._send()
            broken = await self._broken
        except (RedisError, OSError, RuntimeError) as error:
            broken = error
        finally:
            self.is_left = True
            for answer in (*self._unanswered, *(answer for _, answer in self._unsent)):
                if not answer.done():
                    answer.set_exception(broken)
            await self._connection.disconnect(nowait=True)

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        pieces = []
        for packed, answer in unsent:
            if not answer.done():
                pieces.append(packed)
                self._unanswered.append(answer)
        try:
            if pieces and self._transport is not None:
                self._transport.writelines(pieces)
        except (OSError, RuntimeError) as error:
            self.connection_lost(error)


def _wait_on(answer: Answer, rest_s: float) -> None:
    # The second half of the time counts from here: a loop that was held up may not have sent the command before.
    if not answer.done():
        answer.get_loop().call_later(rest_s, _give_up, answer)


async def transport_of(
    connection: AbstractConnection, timeout_s: float, protocol: asyncio.Protocol
) -> asyncio.WriteTransport:
    """Open a connection of redis-py, and have the protocol read from it. Raises ConnectionError when that takes too
    long, and what redis-py raises."""
    try:
        async with asyncio.timeout(timeout_s):
            await connection.connect()  # type: ignore[no-untyped-call]
    except TimeoutError as error:
        raise ConnectionError("timeout connecting") from error
    writer = connection._writer
    assert writer is not None  # noqa: S101  it is open
    writer.transport.set_protocol(protocol)
    return writer.transport


def _give_up(answer: Answer) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())

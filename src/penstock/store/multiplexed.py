"""Multiplexer: one connection for all callers of a process.

Commands that are called in one turn of the event loop go out in one write, and answers come back in the order of the
commands. A connection for each caller, which is how redis-py works, takes three times the CPU.

It relies on these internals of redis-py (5.x), which a newer release may change: `send_packed_command` takes a list of
packed commands and writes them at once; `read_response` reads one answer and may run in another task than the writes;
`connect` also sends AUTH and SELECT; and `disconnect(nowait=True)` closes without waiting. test_multiplexed.py holds
all four.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, RedisError, ResponseError  # noqa: A004  the vendor's name

Answer = asyncio.Future[Any]


class Multiplexer:
    """Sends commands that do not block over one connection, which is opened when one is needed. Nothing is ever sent
    twice."""

    def __init__(self, new_connection: Callable[[], AbstractConnection], timeout_s: float) -> None:
        """`new_connection` must set no time-out for reading: the connection is read from all the time."""
        self._new_connection = new_connection
        self._timeout_s = timeout_s
        self._shared: SharedConnection | None = None

    async def ask(self, *command: str | bytes | float) -> Any:
        """Send a command and return the answer of Redis.

        Raises ResponseError when Redis refuses, and what redis-py raises as soon as the connection breaks: the command
        may then have been done or not. A caller that is cancelled disturbs no other: commands of others are still
        answered, and the next command goes over a new connection, since this one may be dead.
        """
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub knows tuples of one only
        if self._shared is None or self._shared.is_left:
            self._shared = SharedConnection(self._new_connection(), self._timeout_s)
        return await self._shared.ask(packed)

    def leave(self) -> None:
        """Send all further commands over a new connection; those that wait are still answered over this one."""
        if self._shared is not None:
            self._shared.leave()

    async def aclose(self) -> None:
        """Close the connection. Callers that still wait get a ConnectionError."""
        if self._shared is not None:
            await self._shared.aclose()


class SharedConnection:
    """One connection, from before it is open until nobody waits for an answer of it any more."""

    def __init__(self, connection: AbstractConnection, timeout_s: float) -> None:
        self.is_left = False
        """Whether no further command may be sent here."""
        self._connection = connection
        self._timeout_s = timeout_s
        self._is_open = False
        self._callers = 0
        self._unsent: list[tuple[bytes, Answer]] = []
        self._unanswered: deque[Answer] = deque()
        self._sending: asyncio.Task[None] | None = None
        """The last write: asyncio may collect a task that nobody refers to."""
        self._life = asyncio.create_task(self._live(), name="redis")

    async def ask(self, packed: bytes) -> Any:
        """Send a packed command: see `Multiplexer.ask`."""
        answer: Answer = self._life.get_loop().create_future()
        self._unsent.append((packed, answer))
        if self._is_open and len(self._unsent) == 1:
            self._sending = asyncio.create_task(self._send(), name="redis-send")
        self._callers += 1
        try:
            return await answer
        except asyncio.CancelledError:
            self.is_left = True
            raise
        finally:
            self._callers -= 1
            self._end_if_unused()

    def leave(self) -> None:
        """Accept no further command."""
        self.is_left = True
        self._end_if_unused()

    async def aclose(self) -> None:
        """Close the connection now."""
        self._life.cancel()
        await asyncio.gather(self._life, return_exceptions=True)

    def _end_if_unused(self) -> None:
        if self.is_left and not self._callers:
            self._life.cancel()

    async def _live(self) -> None:
        broken: Exception = ConnectionError("the connection was closed")
        try:
            await self._connect()
            self._is_open = True
            await self._send()
            await self._receive()
        except (RedisError, OSError, RuntimeError) as error:
            broken = error
        finally:
            self.is_left = True
            for answer in (*self._unanswered, *(answer for _, answer in self._unsent)):
                if not answer.done():
                    answer.set_exception(broken)
            await self._connection.disconnect(nowait=True)

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._connection.connect()  # type: ignore[no-untyped-call]
        except TimeoutError as error:
            raise ConnectionError("timeout connecting") from error

    async def _send(self) -> None:
        wanted, self._unsent = [entry for entry in self._unsent if not entry[1].done()], []
        if not wanted:
            return  # send_packed_command would open a connection that is closed by now
        self._unanswered.extend(answer for _, answer in wanted)
        try:
            await self._connection.send_packed_command([packed for packed, _ in wanted], check_health=False)
        except (RedisError, OSError, RuntimeError):
            self._life.cancel()

    async def _receive(self) -> None:
        while True:
            try:
                received = await self._connection.read_response()
            except ResponseError as refusal:
                answer = self._unanswered.popleft()
                if not answer.done():
                    answer.set_exception(refusal)
            else:
                answer = self._unanswered.popleft()
                if not answer.done():
                    answer.set_result(received)

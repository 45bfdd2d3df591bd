"""One connection for all who ask: what they ask in one turn of the loop goes out in one write, and the answers come
back in the order of the questions. Redis-py's way, a connection for each caller, takes three times the CPU."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, RedisError, ResponseError  # noqa: A004  the vendor's name

Answer = asyncio.Future[Any]


class Wire:
    """For commands that do not block. A connection is made when one is needed; nothing is ever sent twice."""

    def __init__(self, new_connection: Callable[[], AbstractConnection], timeout_s: float) -> None:
        """`new_connection` must have no time-out of its own for reading: it is read from all the time."""
        self._new_connection = new_connection
        self._timeout_s = timeout_s
        self._line: Line | None = None

    async def ask(self, *command: str | bytes | float) -> Any:
        """What Redis answers. Raises ResponseError if it refuses, and what redis-py raises when the connection breaks,
        which says so at once: then it may have been done or not.

        Who gives up disturbs nobody: what others have asked is still answered, and the next question goes over a new
        connection, since this one may be dead.
        """
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub knows tuples of one only
        if self._line is None or self._line.is_left:
            self._line = Line(self._new_connection(), self._timeout_s)
        return await self._line.ask(packed)

    def leave(self) -> None:
        """Who asks from now on does so over a new connection; who waits is still answered over this one."""
        if self._line is not None:
            self._line.leave()

    async def aclose(self) -> None:
        """Who still waits is told that the connection broke."""
        if self._line is not None:
            await self._line.aclose()


class Line:
    """One connection, from before it is open until nobody waits for an answer of it any more."""

    def __init__(self, connection: AbstractConnection, timeout_s: float) -> None:
        self.is_left = False
        """Nothing more must be asked here."""
        self._connection = connection
        self._timeout_s = timeout_s
        self._is_open = False
        self._askers = 0
        self._unsent: list[tuple[bytes, Answer]] = []
        self._unanswered: deque[Answer] = deque()
        self._sending: asyncio.Task[None] | None = None
        """The last one: a task that nobody holds may be collected."""
        self._life = asyncio.create_task(self._live(), name="redis")

    async def ask(self, packed: bytes) -> Any:
        """See Wire."""
        answer: Answer = self._life.get_loop().create_future()
        self._unsent.append((packed, answer))
        if self._is_open and len(self._unsent) == 1:
            self._sending = asyncio.create_task(self._send(), name="redis-send")
        self._askers += 1
        try:
            return await answer
        except asyncio.CancelledError:
            self.is_left = True
            raise
        finally:
            self._askers -= 1
            self._end_if_useless()

    def leave(self) -> None:
        """Nothing more is asked here."""
        self.is_left = True
        self._end_if_useless()

    def _end_if_useless(self) -> None:
        if self.is_left and not self._askers:
            self._life.cancel()

    async def aclose(self) -> None:
        """End it now."""
        self._life.cancel()
        await asyncio.gather(self._life, return_exceptions=True)

    async def _live(self) -> None:
        broken: Exception = ConnectionError("the connection was closed")
        try:
            await self._connect()
            self._is_open = True
            await self._send()
            await self._hear()
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
        """All that was asked since the last time, but for what nobody wants to know any more."""
        asked, self._unsent = [entry for entry in self._unsent if not entry[1].done()], []
        if not asked:
            return  # or redis-py would open a connection that is closed by now
        self._unanswered.extend(answer for _, answer in asked)
        try:
            await self._connection.send_packed_command([packed for packed, _ in asked], check_health=False)
        except (RedisError, OSError, RuntimeError):
            self._life.cancel()

    async def _hear(self) -> None:
        """The answers, for ever."""
        while True:
            try:
                said = await self._connection.read_response()
            except ResponseError as refusal:
                answer = self._unanswered.popleft()
                if not answer.done():
                    answer.set_exception(refusal)
            else:
                answer = self._unanswered.popleft()
                if not answer.done():
                    answer.set_result(said)

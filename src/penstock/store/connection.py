"""One impatient client per process, with a bounded pool of connections, and vendor errors turned into ours."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import redis.asyncio as redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ConnectionError,  # noqa: A004  the vendor's name
    InvalidResponse,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from penstock.errors import ConfigurationError
from penstock.settings import RedisSettings
from penstock.store.failures import failure_of, refusal_of, unavailable
from penstock.store.scripts import Scripts
from penstock.store.wire import Wire

POOL_SIZE = 32
"""Connections of one process besides the wire; further callers wait for one instead of opening more."""

RENEW_EVERY_S = 1.0
"""A server that refuses is left this often at most: until the address leads to another one, that helps nobody."""

OUR_PROTOCOL = 2
"""Of Redis: in the other one, some answers have another shape."""

LISTENED_S = 1.0
"""A listener that hears nothing looks this often whether its connection is to be left."""


class Pool(redis.BlockingConnectionPool):
    """A bounded pool whose connections can be left: none is cut while it is used, and none is used again."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._left: set[AbstractConnection] = set()

    def leave(self) -> None:
        """Whoever takes one from now on gets it newly made."""
        self._left |= {*self._available_connections, *self._in_use_connections}

    async def ensure_connection(self, connection: Any) -> None:
        """The vendor's, called whenever a connection is taken."""
        if connection in self._left:
            self._left.discard(connection)
            await connection.disconnect(nowait=True)
        await super().ensure_connection(connection)


class Redis(redis.Redis):
    """A client whose scripts run over one wire, and everything else over connections of a pool.

    The address may lead to another server than it did. An answer which says that this one is not, or no longer, what it
    should be ends the connection of the wire; and whenever that one is made anew, all others are too: also those that
    would read old values from the old server for ever. Every process runs a script each second or two.
    """

    def __init__(self, pool: Pool, timeout_s: float) -> None:
        super().__init__(connection_pool=pool)
        self.scripts = Scripts(self)
        self.generation = 0
        """Which connection of the wire this is; who holds another for long compares it."""
        self._pool = pool
        self._wire = Wire(self._connection_of_wire, timeout_s)
        self._is_begun = False
        self._left_at = -RENEW_EVERY_S

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any:
        """See Wire.ask."""
        try:
            return await self._wire.ask("EVALSHA", sha, numkeys, *keys_and_args)
        except RedisError as error:
            refusal = refusal_of(error)
            if refusal is not None and refusal.ends_connection:
                self._leave_wire()
            raise

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the wire too."""
        await self._wire.aclose()
        await super().aclose(close_connection_pool)

    def _leave_wire(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._left_at >= RENEW_EVERY_S:
            self._left_at = now
            self._wire.leave()

    def _connection_of_wire(self) -> AbstractConnection:
        if self._is_begun:
            self.generation += 1
            self._pool.leave()
        self._is_begun = True
        options = self._pool.connection_kwargs | {"socket_timeout": None, "health_check_interval": 0}
        connection: AbstractConnection = self._pool.connection_class(**options)
        return connection


T = TypeVar("T")

_UNREACHABLE = (ConnectionError, RedisTimeoutError, TimeoutError, InvalidResponse)


@asynccontextmanager
async def connect(settings: RedisSettings) -> AsyncIterator[Redis]:
    """A client with a bounded pool; closed on leaving. It never sends anything twice: `ask` decides that.

    Raises ConfigurationError when the URL is none, or has an option that we cannot live with.
    """
    try:
        pool = Pool.from_url(
            settings.url,
            max_connections=POOL_SIZE,
            timeout=settings.timeout_s,
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.timeout_s,
            health_check_interval=15,
            retry=Retry(NoBackoff(), 0),
        )
        client = Redis(_checked(pool), settings.timeout_s)
    except (ValueError, TypeError) as error:  # TypeError: an option that nobody knows
        raise ConfigurationError(f"redis.url: {_without_secrets(error)}") from error
    try:
        yield client
    finally:
        await client.aclose()
        await pool.aclose()


def _without_secrets(error: Exception) -> str:
    """What is wrong with the URL. A password with a slash in it is taken for the port, and shown."""
    if "Port" in str(error):
        return "the port is no number; characters such as / # ? @ in a password have to be percent-encoded"
    return str(error)


def _checked(pool: Pool) -> Pool:
    """The pool, if answers will come in the shape that the store knows. Raises ValueError, TypeError."""
    options = pool.connection_kwargs
    if str(options.get("protocol", OUR_PROTOCOL)) != str(OUR_PROTOCOL):
        raise ValueError(f"Penstock speaks protocol {OUR_PROTOCOL} with Redis; leave `protocol` out")
    if "decode_responses" in options:
        raise ValueError("Penstock takes bytes from Redis; leave `decode_responses` out")
    pool.make_connection()  # type: ignore[no-untyped-call]
    return pool


async def ask(call: Callable[[], Awaitable[T]], *, patience_s: float, again: bool = True) -> T:
    """The answer of Redis within `patience_s`, else StoreUnavailable, and then it may have been done or not.

    A broken connection is tried a second time, since the server may have closed an idle one or been restarted;
    `again=False` is for what must not happen twice.
    """
    with translated(), cancellation_kept():
        async with asyncio.timeout(patience_s):
            try:
                return await call()
            except (ConnectionError, RuntimeError) as error:
                if not again or not _is_broken(error):
                    raise
                return await call()


@contextmanager
def cancellation_kept() -> Iterator[None]:
    """A task that was canceled inside ends here at the latest.

    redis-py writes under `asyncio.wait_for`, which in Python 3.11 drops a cancel that comes in the turn of the loop in
    which the write ends (python/cpython#86296): a worker went on after its SIGTERM.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    yield
    if task and task.cancelling() > before:
        raise asyncio.CancelledError


@contextmanager
def translated() -> Iterator[None]:
    """Vendor errors inside become StoreUnavailable, or WrongSetting; scripts that are wrong stay loud."""
    try:
        yield
    except (*_UNREACHABLE, ResponseError, RuntimeError) as error:
        refusal = refusal_of(error)
        if refusal is None and not isinstance(error, _UNREACHABLE) and not _is_broken(error):
            raise
        raise unavailable(refusal or failure_of(error)) from error


def _is_broken(error: Exception) -> bool:
    """Whether a connection is gone. uvloop says so by a RuntimeError when the server has closed it just before a
    write, which neither it nor redis-py turns into a ConnectionError."""
    return isinstance(error, ConnectionError) or "handler is closed" in str(error)


async def listen(client: Redis, channel: str) -> AsyncGenerator[str, None]:
    """Messages of a channel for ever, reconnecting by itself, also when connections are left; an empty one after each
    (re)connect, since what was published meanwhile is gone and the listener should look for itself."""
    wait_s = 0.05
    while True:
        pubsub, generation = client.pubsub(), client.generation
        try:
            with cancellation_kept():
                await pubsub.subscribe(channel)
            while client.generation == generation:
                message = await pubsub.get_message(timeout=LISTENED_S)
                if message is None:
                    continue
                if message["type"] == "subscribe":  # Redis says so: from here on nothing is missed
                    wait_s = 0.05
                    yield ""
                else:
                    yield message["data"].decode()
        except (RedisError, OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not _is_broken(error):
                raise
            await asyncio.sleep(wait_s)
            wait_s = min(1.0, wait_s * 2)
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]

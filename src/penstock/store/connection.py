"""One impatient client per process, with a bounded pool of connections, and vendor errors turned into ours."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,  # noqa: A004  the vendor's name
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from penstock.errors import ConfigurationError, StoreUnavailable
from penstock.settings import RedisSettings
from penstock.store.wire import Wire

POOL_SIZE = 32
"""Connections of one process besides the wire; further callers wait for one instead of opening more."""


class Redis(redis.Redis):
    """A client whose scripts run over one wire, and everything else over connections of a pool."""

    def __init__(self, pool: redis.ConnectionPool, timeout_s: float) -> None:
        super().__init__(connection_pool=pool)
        options = pool.connection_kwargs | {"socket_timeout": None, "health_check_interval": 0}
        self._wire = Wire(lambda: pool.connection_class(**options), timeout_s)

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any:
        """See Wire.ask."""
        return await self._wire.ask("EVALSHA", sha, numkeys, *keys_and_args)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the wire too."""
        await self._wire.aclose()
        await super().aclose(close_connection_pool)


T = TypeVar("T")

_UNAVAILABLE = (
    ConnectionError,
    RedisTimeoutError,
    TimeoutError,
    BusyLoadingError,
    ReadOnlyError,
    OutOfMemoryError,
)
_REFUSALS = (
    "MISCONF",
    "OOM",
    "LOADING",
    "READONLY",
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
    "CLUSTERDOWN",
    "MASTERDOWN",
)


@asynccontextmanager
async def connect(settings: RedisSettings) -> AsyncIterator[Redis]:
    """A client with a bounded pool; closed on leaving. It never sends anything twice: `ask` decides that.

    Raises ConfigurationError when the URL is none.
    """
    try:
        pool = redis.BlockingConnectionPool.from_url(
            settings.url,
            max_connections=POOL_SIZE,
            timeout=settings.timeout_s,
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.timeout_s,
            health_check_interval=15,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        raise ConfigurationError(f"redis.url: {error}") from error
    client = Redis(pool, settings.timeout_s)
    try:
        yield client
    finally:
        await client.aclose()
        await pool.aclose()


async def ask(call: Callable[[], Awaitable[T]], *, patience_s: float, again: bool = True) -> T:
    """The answer of Redis within `patience_s`, else StoreUnavailable, and then it may have been done or not.

    A broken connection is tried a second time, since the server may have closed an idle one or been restarted;
    `again=False` is for what must not happen twice.
    """
    with translated():
        async with asyncio.timeout(patience_s):
            try:
                return await call()
            except (ConnectionError, RuntimeError) as error:
                if not again or not _is_broken(error):
                    raise
                return await call()


async def check_server(client: Redis) -> list[str]:
    """Warnings about the server's set-up, each with what to change.

    Raises ConfigurationError for an evicting server, StoreUnavailable when it cannot be reached.
    """
    with translated():
        try:
            policy = (await client.config_get("maxmemory-policy")).get("maxmemory-policy", "noeviction")
            aof = (await client.config_get("appendonly")).get("appendonly", "yes")
        except ResponseError as error:
            if "unknown command" in str(error) or "NOPERM" in str(error):
                return ["Redis does not let CONFIG be read; make sure that maxmemory-policy is noeviction"]
            raise
    if policy != "noeviction":
        raise ConfigurationError(f"Redis has maxmemory-policy {policy}; set it to noeviction, or tasks are lost")
    if aof != "yes":
        return ["Redis has no append-only file: tasks are lost when it restarts (set appendonly yes)"]
    return []


@contextmanager
def translated() -> Iterator[None]:
    """Vendor errors inside become StoreUnavailable; scripts that are wrong stay loud."""
    try:
        yield
    except _UNAVAILABLE as error:
        raise StoreUnavailable("the task store cannot be reached", retry_after_s=1) from error
    except RuntimeError as error:
        if not _is_broken(error):
            raise
        raise StoreUnavailable("the task store cannot be reached", retry_after_s=1) from error
    except ResponseError as error:
        if any(word in str(error) for word in _REFUSALS):
            raise StoreUnavailable("the task store refuses writes", retry_after_s=5) from error
        raise


def _is_broken(error: Exception) -> bool:
    """Whether a connection is gone. uvloop says so by a RuntimeError when the server has closed it just before a
    write, which neither it nor redis-py turns into a ConnectionError."""
    return isinstance(error, ConnectionError) or "handler is closed" in str(error)


async def listen(client: Redis, channel: str) -> AsyncGenerator[str, None]:
    """Messages of a channel for ever, reconnecting by itself; an empty one after each (re)connect, since what was
    published meanwhile is gone and the listener should look for itself."""
    wait_s = 0.05
    while True:
        pubsub = client.pubsub()
        try:
            await pubsub.subscribe(channel)
            while True:
                message = await pubsub.get_message(timeout=5.0)
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

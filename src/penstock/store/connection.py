"""Redis client of one process: bounded pool, a timeout on every call, redis-py errors translated."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import redis.asyncio as redis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ConnectionError,  # noqa: A004  the vendor's name
    InvalidResponse,
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from penstock.errors import ConfigurationError
from penstock.lazy_import import lazy_import
from penstock.settings import RedisSettings
from penstock.store.address import address_of
from penstock.store.channels import OF_ALL_NODES, OF_ONE_NODE, Channels
from penstock.store.copies import Copies
from penstock.store.failures import failure_of, refusal_of, unavailable
from penstock.store.finders import Finder, Led, LedWithTls, finder_of
from penstock.store.multiplexed import Multiplexer
from penstock.store.scripts import Scripts
from penstock.store.subscription import Subscription
from penstock.store.tls import TlsConnection

metrics = lazy_import("penstock.telemetry.metrics")

POOL_SIZE = 32
"""Most connections of one process, beside the shared one; further callers wait for one instead of opening more."""

RENEW_EVERY_S = 1.0
"""Shortest time between two departures from a server that refuses: a new connection helps once the address leads to
another server only."""

OUR_PROTOCOL = 2
"""Version of the Redis protocol: in version 3 some answers have another shape."""

LISTENED_S = 1.0
"""How long `Changes` wait for a message before they look whether their connection is to be left."""

T = TypeVar("T")

_UNREACHABLE = (ConnectionError, RedisTimeoutError, TimeoutError, InvalidResponse)
FAILURES = (*_UNREACHABLE, ResponseError, RuntimeError)
"""What a call of redis-py may raise, a fault of ours among it."""


class Pool(redis.BlockingConnectionPool):
    """A bounded pool that can be renewed: connections in use are not cut, and none of the old ones is used again."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._left: set[AbstractConnection] = set()

    def leave(self) -> None:
        """Make every connection anew before it is used the next time."""
        self._left |= {*self._available_connections, *self._in_use_connections}

    async def ensure_connection(self, connection: Any) -> None:
        """Called by redis-py whenever a connection is taken from the pool."""
        if connection in self._left:
            self._left.discard(connection)
            await connection.disconnect(nowait=True)
        await super().ensure_connection(connection)


class Redis(redis.Redis):
    """A client whose scripts share one connection, while all else uses the connections of a pool.

    After a failover the address leads to another server, or the `finder` names another one. An answer which says that
    this server is not the master ends the shared connection; and whenever that one is opened again, all others are
    renewed too, since they might read old values from the old server for ever. Every process runs a script each second
    or two, so that it notices soon.
    """

    def __init__(self, pool: Pool, timeout_s: float, wait_replicas: int = 0, channels: Channels = OF_ALL_NODES) -> None:
        super().__init__(connection_pool=pool)
        self.channels = channels
        self.finder: Finder | None = pool.connection_kwargs.get("finder")
        self.copies = Copies(Multiplexer(self._unpooled, timeout_s), wait_replicas) if wait_replicas else None
        self.scripts = Scripts(self, channels)
        self.generation = 0
        """Counts the shared connections; a caller that holds another connection for long compares it."""
        self._pool = pool
        self._timeout_s = timeout_s
        self._subscriptions: set[Subscription] = set()
        self._multiplexer = Multiplexer(self._shared_connection, timeout_s)
        self._shared: AbstractConnection | None = None
        self._left_at = -RENEW_EVERY_S

    async def run(self, script: str, *key_and_args: Any, patience_s: float, again: bool = True) -> Any:
        """Run a script over the shared connection, and return what it answers within `patience_s`.

        Raises StoreUnavailable and tries a broken connection a second time, as `ask` does; the error of a faulty script
        passes unchanged. The metric `store.calls` counts how long it took.
        """
        clock, started = asyncio.get_running_loop().time, time.monotonic()  # that of uvloop has whole milliseconds
        ends = clock() + patience_s
        try:
            while True:
                if not self.scripts.loaded:
                    await ask(self.scripts.load, patience_s=ends - clock())
                sha = self.scripts.loaded[script].sha
                try:
                    return await self._multiplexer.ask("EVALSHA", sha, 1, *key_and_args, within_s=ends - clock())
                except NoScriptError:  # another server, or one that has restarted
                    load = partial(self.script_load, self.scripts.loaded[script].script)
                    await ask(load, patience_s=ends - clock())
                except (ConnectionError, RuntimeError) as error:
                    if not again or not _is_broken(error):
                        raise
                    again = False
        except FAILURES as error:
            self._leave_wrong_server(error)
            raise_unavailable(error)
            raise
        finally:
            metrics.report("store.calls", time.monotonic() - started)

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any:
        """Run a script over the shared connection: see `Multiplexer.ask`. Scripts of redis-py call this."""
        try:
            return await self._multiplexer.ask("EVALSHA", sha, numkeys, *keys_and_args)
        except RedisError as error:
            self._leave_wrong_server(error)
            raise

    @asynccontextmanager
    async def subscribed(self, channel: str) -> AsyncIterator[Subscription]:
        """Hear a channel inside of this block, over a connection of its own. Raises what redis-py raises."""
        subscription = Subscription(self._unpooled(), channel, self._timeout_s, self.channels)
        self._subscriptions.add(subscription)
        try:
            with cancellation_kept():
                await subscription.open()
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            await subscription.aclose()

    async def stay_with_master(self, finder: Finder) -> None:
        """Leave the server when the finder names another one, for ever: the old one may not know it yet."""
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            with suppress(*FAILURES, OSError):
                place, shared = await finder.find(), self._shared
                if isinstance(shared, Led) and shared.is_connected and (shared.host, shared.port) != place:
                    self._multiplexer.leave()

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close all connections."""
        await self._multiplexer.aclose()
        if self.copies is not None:
            await self.copies.aclose()
        await super().aclose(close_connection_pool)
        if self.finder is not None:
            await self.finder.aclose()

    def _leave_wrong_server(self, error: Exception) -> None:
        refusal = refusal_of(error)
        if refusal is None or not refusal.ends_connection:
            return
        now = asyncio.get_running_loop().time()
        if now - self._left_at >= RENEW_EVERY_S:
            self._left_at = now
            self._multiplexer.leave()

    def _shared_connection(self) -> AbstractConnection:
        if self._shared is not None:
            self.generation += 1
            self._pool.leave()
            if self.copies is not None:
                self.copies.leave()
            for subscription in self._subscriptions:
                subscription.leave()
        self._shared = self._unpooled()
        return self._shared

    def _unpooled(self) -> AbstractConnection:
        """A connection that is read from all the time."""
        options = self._pool.connection_kwargs | {"socket_timeout": None, "health_check_interval": 0}
        connection: AbstractConnection = self._pool.connection_class(**options)
        return connection


@asynccontextmanager
async def connect(settings: RedisSettings) -> AsyncIterator[Redis]:
    """Open a client, and close it on leaving. It never sends a command twice by itself: `ask` decides that.

    Raises ConfigurationError for a malformed URL, and for one with an option that the store cannot work with.
    """
    try:
        pool = _checked(Pool(**_options_of(settings)))
        channels = OF_ALL_NODES if settings.shards == 1 else OF_ONE_NODE
        client = Redis(pool, settings.timeout_s, settings.wait_replicas, channels)
    except (ValueError, TypeError) as error:  # TypeError: an unknown option
        raise ConfigurationError(f"redis.url: {_without_secrets(error)}") from error
    finder, watching = client.finder, None
    if finder is not None and finder.is_watched:
        watching = asyncio.create_task(client.stay_with_master(finder), name="redis master")
    try:
        yield client
    finally:
        if watching is not None:
            watching.cancel()
        await client.aclose()
        await pool.aclose()


def _options_of(settings: RedisSettings) -> dict[str, Any]:
    """The options of the pool and of its connections."""
    address = address_of(settings.url)
    options: dict[str, Any] = {
        "connection_class": Connection,
        "password": settings.password or None,
        "max_connections": POOL_SIZE,
        "timeout": settings.timeout_s,
        "socket_timeout": settings.timeout_s,
        "socket_connect_timeout": settings.timeout_s,
        "health_check_interval": 15,
        "retry": Retry(NoBackoff(), 0),
    }
    given = parse_url(address.url)  # what it says has precedence: a password, say
    has_tls = given.get("connection_class") is SSLConnection
    options |= {**(_tls_of(settings) if has_tls else {}), **given}
    if has_tls:
        options["connection_class"] = TlsConnection
    sentinel = {"username": settings.sentinel_username or None, "password": settings.sentinel_password or None}
    finder = finder_of(address, settings.namespace, options, sentinel=sentinel)
    return options | ({"connection_class": LedWithTls if has_tls else Led, "finder": finder} if finder else {})


def _tls_of(settings: RedisSettings) -> dict[str, Any]:
    files = {"ca_certs": settings.tls_ca, "certfile": settings.tls_certificate, "keyfile": settings.tls_key}
    return {"ssl_check_hostname": True, **{f"ssl_{name}": path for name, path in files.items() if path}}


def _without_secrets(error: Exception) -> str:
    if "Port" in str(error):  # redis-py takes a password with a slash for the port, and shows it
        return "the port is no number; characters such as / # ? @ in a password have to be percent-encoded"
    return str(error)


def _checked(pool: Pool) -> Pool:
    """Return the pool if answers will have the shape that the store knows. Raises ValueError or TypeError."""
    options = pool.connection_kwargs
    if str(options.get("protocol", OUR_PROTOCOL)) != str(OUR_PROTOCOL):
        raise ValueError(f"Penstock speaks protocol {OUR_PROTOCOL} with Redis; leave `protocol` out")
    if "decode_responses" in options:
        raise ValueError("Penstock takes bytes from Redis; leave `decode_responses` out")
    pool.make_connection()  # type: ignore[no-untyped-call]
    return pool


async def ask(call: Callable[[], Awaitable[T]], *, patience_s: float, again: bool = True) -> T:
    """Return what `call` answers within `patience_s`. Raises StoreUnavailable otherwise; the call may have been done.

    A broken connection is tried a second time, since the server may have closed an idle one or been restarted;
    `again=False` is for calls that must not be made twice. The metric `store.calls` counts how long it took.
    """
    started = time.monotonic()
    try:
        with translated(), cancellation_kept():
            async with asyncio.timeout(patience_s):
                try:
                    return await call()
                except (ConnectionError, RuntimeError) as error:
                    if not again or not _is_broken(error):
                        raise
                    return await call()
    finally:
        metrics.report("store.calls", time.monotonic() - started)


@contextmanager
def cancellation_kept() -> Iterator[None]:
    """End a task that was cancelled inside at the latest here.

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
    """Turn errors of redis-py into StoreUnavailable or WrongSetting; the error of a faulty script passes unchanged."""
    try:
        yield
    except FAILURES as error:
        raise_unavailable(error)
        raise


def raise_unavailable(error: Exception) -> None:
    """Raise StoreUnavailable or WrongSetting for one of the FAILURES, unless it is the error of a faulty script."""
    refusal = refusal_of(error)
    if refusal is not None or isinstance(error, _UNREACHABLE) or _is_broken(error):
        raise unavailable(refusal or failure_of(error)) from error


def _is_broken(error: Exception) -> bool:
    # When the server has closed a connection just before a write, uvloop raises a RuntimeError, which neither it nor
    # redis-py turns into a ConnectionError.
    return isinstance(error, ConnectionError) or "handler is closed" in str(error)


async def listen(client: Redis, channel: str) -> AsyncGenerator[str, None]:
    """Yields the messages of a channel for ever, over new connections where one breaks or is to be left. After each
    connect it yields an empty message: what was published before is lost, and the listener should look for itself."""
    wait_s = 0.05
    while True:
        try:
            async with client.subscribed(channel) as subscription:
                wait_s = 0.05
                yield ""  # from here on nothing is missed
                while (message := await subscription.next()) is not None:
                    yield message
        except (RedisError, OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not _is_broken(error):
                raise
            await asyncio.sleep(wait_s)
            wait_s = min(1.0, wait_s * 2)

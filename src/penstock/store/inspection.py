"""Inspection: what the server behind the store is, and what is wrong with its set-up."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import Struct
from redis.asyncio.connection import SSLConnection
from redis.exceptions import NoPermissionError, ResponseError

from penstock.errors import ConfigurationError, StoreUnavailable
from penstock.settings import QueueSettings
from penstock.store import exposure
from penstock.store.channels import OF_ONE_NODE
from penstock.store.connection import Redis, translated
from penstock.store.conversion import convert, is_older
from penstock.store.engine import Engine
from penstock.store.failures import WrongSetting
from penstock.store.finders import Cluster

HERE = (None, "localhost", "127.0.0.1", "::1")
"""Hosts that are this machine; None stands for a Unix socket."""


class ServerInfo(Struct, frozen=True, kw_only=True):
    """The server: `version` is its own, `major` that of the Redis with which it is compatible, 0 when it does not say;
    `ahead_s` is how far its clock is ahead of this machine's."""

    product: str
    version: str
    major: int
    ahead_s: float


async def look_at(client: Redis) -> ServerInfo:
    """Ask the server what it is. Raises StoreUnavailable. Its clock is compared with the middle of a round trip."""
    with translated():
        info = await client.info("server")
        asked = time.time()
        seconds, microseconds = await client.time()
        answered = time.time()
    product, spoken = str(info.get("server_name", "redis")), str(info.get("redis_version", "0"))
    number = spoken.partition(".")[0]
    return ServerInfo(
        product=product,
        version=str(info.get(f"{product}_version", spoken)),
        major=int(number) if number.isdigit() else 0,
        ahead_s=seconds + microseconds / 1e6 - (asked + answered) / 2,
    )


async def open_server(client: Redis, namespace: str) -> list[str]:
    """Like `check_server`, for a process that is about to use the server: what the release before has left there is
    converted first. Raises ConfigurationError while a process of that release runs, too."""
    with _wrong_settings():
        await convert(_engine(client, namespace))
    return await check_server(client, namespace)


async def check_server(client: Redis, namespace: str) -> list[str]:
    """Warnings about the set-up of the server, each with what to change.

    Raises ConfigurationError for a server that evicts, for records of another version, and for what only another
    setting can mend, such as a wrong password; StoreUnavailable when the server cannot be reached.
    """
    with _wrong_settings():
        return await _warnings(client, namespace)


async def takes_writes(client: Redis, namespace: str) -> None:
    """Raises StoreUnavailable, saying why, when the server refuses them."""
    await _engine(client, namespace).ping()


def _engine(client: Redis, namespace: str) -> Engine:
    return Engine(client, namespace, QueueSettings())


@contextmanager
def _wrong_settings() -> Iterator[None]:
    try:
        yield
    except WrongSetting as error:
        raise ConfigurationError(error.detail) from error


async def _warnings(client: Redis, namespace: str) -> list[str]:
    patterns = (*_PATTERNS, _COVERAGE) if isinstance(client.finder, Cluster) else _PATTERNS
    with translated():
        try:
            said = {name: value for pattern in patterns for name, value in (await client.config_get(pattern)).items()}
        except ResponseError as error:
            if "unknown command" in str(error) or isinstance(error, NoPermissionError):
                return ["Redis does not let CONFIG be read; make sure that maxmemory-policy is noeviction"]
            raise
        replication = await client.info("replication")
    policy = said.get("maxmemory-policy", "noeviction")
    if policy != "noeviction":
        raise ConfigurationError(f"Redis has maxmemory-policy {policy}; set it to noeviction, or tasks are lost")
    if replication.get("role") == "slave":
        return ["Redis is a replica, which takes no writes: name its master in redis.url"]
    return [
        *([_OF_BEFORE] if await is_older(_engine(client, namespace)) else []),
        *_of_persistence(said, is_here=_is_here(client)),
        *await _of_exposure(client),
        *_of_replicas(said, replication),
        *_of_copies(client, replication),
        *([_ALL_OR_NOTHING] if said.get(_COVERAGE) == "yes" and client.channels is OF_ONE_NODE else []),
        *await _of_writes(client, namespace),
    ]


_OF_BEFORE = "Redis holds tasks of the release before: stop that Penstock, and the next start of this one converts them"
_PATTERNS = ("maxmemory-policy", "append*", "min-*-to-write")
_COVERAGE = "cluster-require-full-coverage"
_ALL_OR_NOTHING = (
    f"Redis has {_COVERAGE} yes: without one of its nodes the others refuse the tenants of all shards (set it to no)"
)


def _of_persistence(said: dict[str, str], *, is_here: bool) -> list[str]:
    # On this machine the last second may be lost: when it goes down with its Redis, nobody is left who relies on that.
    if said.get("appendonly", "yes") != "yes":
        return ["Redis has no append-only file: tasks are lost when it restarts (set appendonly yes)"]
    fsync = said.get("appendfsync", "always")
    if fsync != "always" and not is_here:
        return [
            f"Redis has appendfsync {fsync}: a crash of its machine loses its last second, and tasks submitted in "
            "it (set appendfsync always, if its disk is quick)"
        ]
    return []


def _is_here(client: Redis) -> bool:
    return client.connection_pool.connection_kwargs.get("host") in HERE


async def _of_exposure(client: Redis) -> list[str]:
    if _is_here(client):
        return []
    pool, server = client.connection_pool, await look_at(client)
    is_encrypted = issubclass(pool.connection_class, SSLConnection)
    given = pool.connection_kwargs
    return exposure.warnings_of(given, is_encrypted=is_encrypted, product=server.product, version=server.version)


async def _of_writes(client: Redis, namespace: str) -> list[str]:
    # Only a warning: a worker starts all the same, since only deleting what it finishes frees memory.
    try:
        await takes_writes(client, namespace)
    except WrongSetting:
        raise
    except StoreUnavailable as error:
        return [error.detail]
    return []


def _of_copies(client: Redis, replication: dict[str, Any]) -> list[str]:
    there, wanted = int(replication.get("connected_slaves", 0)), client.copies.replicas if client.copies else 0
    if there < wanted:
        return [
            f"redis.wait_replicas is {wanted}, and Redis has {there} replicas: submits are answered 503 (add some, or "
            "lower it)"
        ]
    return []


def _of_replicas(said: dict[str, str], replication: dict[str, Any]) -> list[str]:
    wanted = said.get("min-replicas-to-write") or said.get("min-slaves-to-write") or "0"
    if int(replication.get("connected_slaves", 0)) and wanted == "0":
        return [
            "Redis has replicas, but answers before any of them has a write: a failover loses the last writes (set "
            "min-replicas-to-write 1)"
        ]
    return []

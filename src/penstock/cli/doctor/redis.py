"""Checks of Redis: what it keeps, its clock, and records that could not be read."""

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from msgspec.structs import replace

from penstock.cli.doctor.findings import CheckResult, fail, ok, warn
from penstock.errors import ConfigurationError, StoreUnavailable
from penstock.local.redis_server import find_server, socket_of
from penstock.settings import RedisSettings, Settings
from penstock.store import (
    Clients,
    Engine,
    SetAside,
    Store,
    Topology,
    check_count,
    check_server,
    connect_each,
    look_at,
    takes_writes,
    topology_of,
)

OLDEST_REDIS = 7
"""An older Redis with full memory stops a script halfway, where a newer one refuses to start it."""

CLOCKS_APART_S = 2.0
"""Times in tasks come from the clock of Redis, times in logs and signed links from ours; S3 itself tolerates 15
minutes."""

SHOWN_RECORDS = 20
"""How many of the latest unreadable records are shown."""


async def check_redis(settings: Settings) -> AsyncIterator[CheckResult]:
    try:
        async with connect_each(settings.redis):  # nothing is asked yet
            pass
    except ConfigurationError as error:
        yield fail("redis", str(error), "change it; every process refuses to start with it")
        return
    own = RedisSettings().url == settings.redis.url
    for redis in servers(settings, own):
        async with connect_each(redis) as clients:
            lost: list[CheckResult] = []
            for number, tag in enumerate(clients):
                place = f"{_without_password(redis.url)}{f', shard {number}' if len(clients) > 1 else ''}"
                try:
                    async for found in _of_shard(clients, tag, place, settings):
                        yield found
                except StoreUnavailable as error:
                    problem, _, advice = error.detail.partition("; ")
                    lost.append(fail("redis", f"{place}: {problem}", advice or "see the log of Redis"))
        if not own or len(lost) < len(clients):
            for one in lost:
                yield one
            return
    try:
        yield ok("redis", f"none at {settings.redis.url}, which `api` and `worker` need; `up` starts {find_server()}")
    except ConfigurationError as error:
        yield fail("redis", str(error), "without REDIS_URL, `penstock up` needs a server program")


async def _of_shard(clients: Clients, tag: str, place: str, settings: Settings) -> AsyncIterator[CheckResult]:
    client = clients[tag]
    server = await look_at(client)
    await takes_writes(client, tag)
    name = f"{server.product.capitalize()} {server.version} at {place}"
    yield await _set_up(clients, name, server.major, tag)
    yield _clock(server.ahead_s)
    if topology := await topology_of(client):
        yield _failover(topology)
    if aside := await Store(Engine(client, tag, settings.queue)).unreadable():
        yield _records(aside)


def servers(settings: Settings, own: bool) -> Iterator[RedisSettings]:
    """Yields the Redis that `penstock up` runs in this directory, if it does, and then the one of the settings."""
    socket = socket_of(Path(settings.up.data_dir).absolute())
    if own and socket.exists():
        yield replace(settings.redis, url=f"unix://{socket}")
    yield settings.redis


async def _set_up(clients: Clients, name: str, major: int, tag: str) -> CheckResult:
    try:
        warnings = await check_server(clients[tag], tag)
        await check_count(clients, tag)
    except ConfigurationError as error:
        found, _, advice = str(error).partition("; ")
        return fail("redis", f"{name}: {found}", advice)
    if warnings:
        return warn("redis", name, "; ".join(warnings))
    if major < OLDEST_REDIS:
        return warn("redis", name, f"use {OLDEST_REDIS} or later: an older one may stop a script in its midst")
    return ok("redis", f"{name}, with an append-only file, evicts nothing")


def _failover(found: Topology) -> CheckResult:
    """Whether another server takes over when this one fails."""
    by = f"is the master for {found.agree} of {found.sentinels} sentinels, of which {found.quorum} must find it down"
    if found.slot is not None:
        by = f"has slot {found.slot} of the cluster, that of our keys"
    said = f"{found.server} {by}; replicas: {found.replicas}, of which a write needs {found.min_replicas}"
    if not found.replicas:
        return warn("failover", said, "give it a replica: nobody can take over")
    if found.agree <= found.sentinels // 2 and found.slot is None:
        return warn("failover", said, "see the other sentinels: without most of them there is no failover")
    if found.agree < found.sentinels:
        return warn("failover", said, "see the other sentinels: they are away, or name another server")
    return ok("failover", said)


def _clock(ahead_s: float) -> CheckResult:
    where = "ahead of" if ahead_s > 0 else "behind"
    found = f"the clock of Redis is {abs(ahead_s):.3f} s {where} ours"
    if abs(ahead_s) > CLOCKS_APART_S:
        return warn("clock", found, "run a time service (chrony, systemd-timesyncd) on both hosts")
    return ok("clock", found)


def _records(aside: Sequence[SetAside]) -> CheckResult:
    some = "; ".join(f"{one.id} ({one.reason})" for one in aside[:SHOWN_RECORDS])
    found = f"{len(aside)} records could not be read within a week, and were set aside: {some}"
    return warn("records", found, "look for a faulty disk, a restore, or another program that writes to this Redis")


def _without_password(url: str) -> str:
    """The URL without what may hold one: what is before the host, and the query."""
    scheme, _, rest = url.partition("?")[0].partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"

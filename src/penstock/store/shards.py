"""Shards: the stores over which the tenants of an installation are spread.

A `Store` holds what belongs to the tenants of one hash tag, and no script of it ever looks beyond. With `redis.shards`
above 1 there are several, each with a tag, a client and scripts of its own: a cluster spreads the tags over its nodes,
moves them, and fails over, and the finder of each client finds the node of its tag. We route nothing but tenants.

- *A tenant lives in one shard*, which its name says (`shard_of`), with its tasks, queues, batches, uploads, webhooks,
  rates, accounts and everything else that a script reads or writes for it.
- *What scripts of tenants read of the installation is in every shard*: workers and their pools, pauses, drains, caps.
  Whoever writes one of these writes it to each shard, and may repeat that; a worker lists itself in each by renewing
  its leases there.
- *What no script of a tenant reads is at home*, in the first shard: access keys, sessions, models, quotas, the audit
  and the history. Processes keep in memory what requests need of it, so that tenants of other shards go on without it.
- *The storage is one*: each shard looks after the objects of its own tenants, by the tenant in their keys.

The number of shards is settled with the first start, since the name of a tenant must lead to the same shard for ever.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Self, TypeVar

from msgspec.structs import replace
from redis.crc import key_slot

from penstock.errors import ConfigurationError, StoreUnavailable
from penstock.settings import QueueSettings, RedisSettings
from penstock.store.connection import Redis, connect
from penstock.store.engine import PATIENCE_S, Engine
from penstock.store.inspection import look_at, open_server
from penstock.store.keys import shard_of
from penstock.store.store import Store
from penstock.store.totals import Totals

T = TypeVar("T")

SLOTS = 16_384
"""Hash slots of a cluster."""

OLDEST_REDIS = 7
"""Its channels can stay on one node."""

Clients = Mapping[str, Redis]
"""The clients of an installation by the hash tags of their keys; the first is that of the home."""


def tags_of(namespace: str, count: int) -> list[str]:
    """The hash tags of an installation. The first is the namespace itself. The slots of the others lie one part of all
    slots further each, so that masters with equal ranges have equally many tags."""
    home = key_slot(namespace.encode())
    tags = [namespace]
    for number in range(1, count):
        part = (home * count // SLOTS + number) % count
        candidates = (f"{namespace}/{number}-{salt}" for salt in range(SLOTS))
        tags.append(next(tag for tag in candidates if key_slot(tag.encode()) * count // SLOTS == part))
    return tags


class Shards:
    """The stores of one installation, of which each tenant has one."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self._stores = stores
        self.home = stores[0]
        """The store with what belongs to no tenant."""
        self.totals = Totals(stores)

    @classmethod
    def over(cls, clients: Clients, settings: QueueSettings, *, patience_s: float = PATIENCE_S) -> Self:
        """The stores behind these clients, which share what inputs may take of Redis. `patience_s` is the longest wait
        for one answer of Redis."""
        count = len(clients)
        own = replace(settings, inline_budget_bytes=settings.inline_budget_bytes // count)
        return cls(
            [
                Store(Engine(client, tag, own, patience_s=patience_s), shard=number, of=count)
                for number, (tag, client) in enumerate(clients.items())
            ]
        )

    def __iter__(self) -> Iterator[Store]:
        return iter(self._stores)

    def __len__(self) -> int:
        return len(self._stores)

    def of(self, name: str) -> Store:
        """The store of a tenant or an upload."""
        return self.home if len(self._stores) == 1 else self._stores[shard_of(name, len(self._stores))]

    async def each(self, act: Callable[[Store], Awaitable[T]]) -> list[T]:
        """Act on every shard, one after the other, and return the answers in their order. Raises the first error, with
        the shards after it untouched: what acts on all may be repeated."""
        return [await store.part(act) for store in self._stores]

    async def of_tenants(
        self, tenants: Sequence[str], ask: Callable[[Store, Sequence[str]], Awaitable[Sequence[T]]]
    ) -> list[T]:
        """Ask each shard about its own of these tenants, and return the answers in the order of the tenants."""

        async def part(store: Store) -> list[tuple[str, T]]:
            some = [name for name in tenants if self.of(name) is store]
            return list(zip(some, await ask(store, some), strict=True))

        found = dict(pair for pairs in await self.each(part) for pair in pairs)
        return [found[name] for name in tenants]

    async def ping(self) -> None:
        """Raises StoreUnavailable, with the name of the shard, unless all answer and take writes."""
        await self.each(lambda store: store.ping())

    async def reach(self, act: Callable[[Store], Awaitable[object]]) -> bool:
        """Act on every shard at the same time, whichever of them answers. Returns whether all have."""
        answers = await asyncio.gather(*map(act, self._stores), return_exceptions=True)
        failures = [one for one in answers if isinstance(one, BaseException)]
        for failure in failures:
            if not isinstance(failure, StoreUnavailable):
                raise failure
        return not failures


@asynccontextmanager
async def connect_each(settings: RedisSettings) -> AsyncIterator[Clients]:
    """Open a client for each hash tag, and close them on leaving. Raises as `connect` does."""
    async with AsyncExitStack() as stack:
        yield {
            tag: await stack.enter_async_context(connect(replace(settings, namespace=tag)))
            for tag in tags_of(settings.namespace, settings.shards)
        }


async def open_shard(clients: Clients, tag: str) -> list[str]:
    """Open the server of one hash tag for a process that is about to use it, and return the warnings about it. With
    that of the home the number of shards is settled.

    Raises as `open_server` and `settle_count` do.
    """
    warnings = await open_server(clients[tag], tag)
    if tag == next(iter(clients)):
        await settle_count(clients)
    return warnings


async def settle_count(clients: Clients) -> None:
    """Note how many shards the installation has, with its first start.

    Raises ConfigurationError when it has been made with another number, or when a server is too old for several;
    StoreUnavailable when the home cannot be reached.
    """
    count, (tag, client) = len(clients), next(iter(clients.items()))
    engine = Engine(client, tag, QueueSettings())
    if count > 1 and (await look_at(client)).major < OLDEST_REDIS:
        raise ConfigurationError(f"redis.shards: more than one needs Redis {OLDEST_REDIS} or later")
    kept = engine.keys.installation
    noted, tenants = await engine.pipelined([("HGET", kept, "shards"), ("SMEMBERS", engine.keys.tenants)])
    if noted is None:  # where a release before shards has left tenants of all of them at home, there is one
        fits = not any(shard_of(name.decode(), count) for name in tenants)
        _, noted = await engine.write(
            [("HSETNX", kept, "shards", count if fits else 1), ("HGET", kept, "shards")],
        )
    _refuse_another(count, int(noted))


async def check_count(clients: Clients, tag: str) -> None:
    """Raises ConfigurationError when the server of this tag is the home of an installation with another number of
    shards. Nothing is noted."""
    if tag == next(iter(clients)):
        engine = Engine(clients[tag], tag, QueueSettings())
        (noted,) = await engine.pipelined([("HGET", engine.keys.installation, "shards")])
        _refuse_another(len(clients), int(noted or len(clients)))


def _refuse_another(count: int, before: int) -> None:
    if before != count:
        raise ConfigurationError(
            f"redis.shards is {count}, and this installation was made with {before}; set {before}, or take another "
            "redis.namespace: the tenants stay where they are"
        )

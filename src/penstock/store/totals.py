"""Totals: what lists and gauges of all tenants say: the answers of all shards, put together."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import date
from typing import TypeVar

from msgspec.structs import replace

from penstock.core.task import Priority, State
from penstock.store.accounts import UsageDay
from penstock.store.answers import Pace, QueueDepth, Running, SetAside, UnderWay
from penstock.store.owed import OwedEndpoint
from penstock.store.store import Store

T = TypeVar("T")


class Totals:
    """The answers of all shards. Every method raises StoreUnavailable when one of them cannot be reached: a sum without
    its part would be taken for the whole."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self._stores = stores

    async def each(self, ask: Callable[[Store], Awaitable[T]]) -> list[T]:
        """Ask every shard at the same time, and return the answers in their order."""
        return await asyncio.gather(*(store.part(ask) for store in self._stores))

    async def depths(self, models: Iterable[str]) -> list[QueueDepth]:
        """The depth of every queue of these models. One counts as paused when it is so for the tenants of a shard."""
        names = tuple(models)
        of_each = await self.each(lambda store: store.queues.depths(names))
        return [_together(queues) for queues in zip(*of_each, strict=True)]

    async def shares(self, queues: Sequence[tuple[str, Priority]], tenant: str | None) -> list[dict[str, int]]:
        """How many tasks wait in each of these queues by `tenant/caller`: see `QueueStore.shares`."""
        of_each = await self.each(lambda store: store.queues.shares(queues, tenant))
        return [{flow: count for part in parts for flow, count in part.items()} for parts in zip(*of_each, strict=True)]

    async def paces(self) -> dict[str, Pace]:
        """The pace of every model: the mean of what the shards have measured."""
        known: defaultdict[str, list[Pace]] = defaultdict(list)
        for paces in await self.each(lambda store: store.queues.paces()):
            for model, pace in paces.items():
                known[model].append(pace)
        return {model: _mean(paces) for model, paces in known.items()}

    async def under_way(self) -> list[UnderWay]:
        """The tasks that run, and those that wait for the moment of their retry."""
        return [one for found in await self.each(lambda store: store.queues.under_way()) for one in found]

    async def waiting_lines(self) -> tuple[int, dict[str, float]]:
        """How many batches have lines that are no tasks yet, and how many such lines there are of each model."""
        lines: defaultdict[str, float] = defaultdict(float)
        feeding = 0
        for count, of_models in await self.each(lambda store: store.batches.waiting_lines()):
            feeding += count
            for model, number in of_models.items():
                lines[model] += number
        return feeding, dict(lines)

    async def count_tasks(self) -> dict[State, int]:
        """How many tasks of all tenants are in each state."""
        total = Counter(dict.fromkeys(State, 0))
        for counts in await self.each(lambda store: store.tenants.count_tasks()):
            total.update(counts)
        return dict(total)

    async def known_tenants(self) -> list[str]:
        """The names of all tenants with tasks or batches, and the default one, sorted."""
        return sorted({name for names in await self.each(lambda store: store.tenants.known()) for name in names})

    async def usage(self, first: date, last: date, *, most: int) -> list[UsageDay] | None:
        """What every tenant has used on each of these days; None when these are more than `most` rows."""
        found: list[UsageDay] = []
        for days in await self.each(lambda store: store.accounts.usage_of_all(first, last, most=most)):
            if days is None:
                return None
            found += days
        return None if len(found) > most else sorted(found, key=lambda one: one.day)

    async def running(self) -> list[Running]:
        """The running tasks of all tenants."""
        return [one for found in await self.each(lambda store: store.workers.running(None)) for one in found]

    async def unreadable(self) -> list[SetAside]:
        """The records that were set aside within a week, the latest first."""
        found = [one for some in await self.each(lambda store: store.unreadable()) for one in some]
        return sorted(found, key=lambda one: one.at, reverse=True)

    async def count_endpoints(self) -> tuple[int, int]:
        """How many endpoints are owed events, and how many of them rest."""
        counts = await self.each(lambda store: store.outbox.count())
        return sum(owed for owed, _ in counts), sum(resting for _, resting in counts)

    async def owed(self) -> list[OwedEndpoint]:
        """The endpoints that are owed events, of every tenant."""
        return [one for found in await self.each(lambda store: store.outbox.owed()) for one in found]

    async def tenant_of(self, task_id: str) -> str | None:
        """The tenant whose task this is; None where there is no such task."""
        found = await self.each(lambda store: store.listing.tenant_of(task_id))
        return next((tenant for tenant in found if tenant is not None), None)

    async def recent_errors(self, tenants: Sequence[str], *, after: int, limit: int) -> list[str]:
        """The codes of tasks of these tenants that have failed or expired: see `TaskListing.recent_errors`."""
        found = await self.each(lambda store: store.listing.recent_errors(tenants, after=after, limit=limit))
        return [code for codes in found for code in codes]

    async def inline_bytes(self) -> tuple[int, int]:
        """The bytes of inputs that are in Redis, and the most of them that may be there."""
        used = await self.each(lambda store: store.inline.total_bytes())
        return sum(used), sum(store.engine.settings.inline_budget_bytes for store in self._stores)

    async def unused_uploads(self) -> int:
        """How many uploads no task uses."""
        return sum(await self.each(lambda store: store.uploads.unused()))

    async def condemned(self) -> int:
        """How many keys and prefixes of the storage wait to be deleted."""
        return sum(await self.each(lambda store: store.condemned.waiting()))


def _together(queues: Sequence[QueueDepth]) -> QueueDepth:
    """One queue, of which each shard has a part."""
    first, *others = queues
    if not others:
        return first
    device = [queue.device_s for queue in queues if queue.device_s is not None]
    return replace(
        first,
        depth=sum(queue.depth for queue in queues),
        oldest_s=max(queue.oldest_s for queue in queues),
        device_s=sum(device) if device else None,
        pause=next((queue.pause for queue in queues if queue.pause is not None), None),
    )


def _mean(paces: Sequence[Pace]) -> Pace:
    if len(paces) == 1:
        return paces[0]
    costs = [pace.cost for pace in paces if pace.cost]
    mean_s = sum(pace.device_s for pace in paces) / len(paces)
    return Pace(device_s=mean_s, cost=sum(costs) / len(costs) if costs else 0.0)

"""Batches that still have lines to enqueue are fed, a window of lines at a time.

A feeder runs in every API process, which has all that a submit takes, and of which every deployment has at least one;
any number of them may feed. A batch is leased, and the script that enqueues a line accepts it in its order only: a
feeder that dies, or comes back from the dead, neither loses a line nor queues one twice. Another goes on where it was
when its lease has ended. While a feeder lives it keeps its leases, however slow the storage is.
"""

import asyncio
from contextlib import suppress

from loguru import logger

from penstock.core.batch import Batch, BatchState, FeedLease, part_key, task_id_of
from penstock.core.task import State
from penstock.errors import (
    BatchNotFound,
    NotReady,
    QueueFull,
    QuotaExceeded,
    ResultExpired,
    StorageUnavailable,
    StoreUnavailable,
    TaskAlreadyFinal,
    TaskNotFound,
)
from penstock.intake.batch_enqueue import BatchEnqueuer
from penstock.intake.batch_lines import rows_of
from penstock.intake.deps import Deps
from penstock.store import NotItsTurn
from penstock.store.wakeups import act_when_woken, wake_on
from penstock.telemetry import endings, metrics
from penstock.telemetry.outages import Outage

AT_ONCE = 4
"""Batches that one process feeds at a time."""
LEASE_S = 5.0
"""How long after the last sign of life of its feeder another feeds a batch."""
LOOK_S = 10.0
"""Longest sleep; a batch whose message was lost waits no longer than this."""
PAUSE_S = 2.0
"""How long a batch is left alone when the queue is full, its tenant at a quota, or the storage away."""
CANCELED_AT_ONCE, SKIPPED_AT_ONCE = 100, 500
"""Tasks and lines of a canceled batch that end in one round: each hundred takes Redis a few milliseconds."""


class Feeder:
    """Feeds the batches of one process."""

    def __init__(self, deps: Deps, *, lease_s: float = LEASE_S) -> None:
        self._deps = deps
        self._batches = deps.store.batches
        self._window = deps.settings.queue.batch_window
        self._lease_s = lease_s
        self._under_way: dict[asyncio.Task[None], FeedLease] = {}
        self._kept: dict[str, FeedLease] = {}
        """Leases that are renewed, by the id of the batch, until they are given back."""
        self._wake = asyncio.Event()
        self._outage = Outage("feeding postponed", job="feeder", **deps.store.label)

    async def run(self) -> None:
        """Feed batches until it is canceled; then hand back the leases."""
        listening = asyncio.create_task(wake_on(self._batches.rooms(), self._wake), name="feeder-listening")
        keeping = asyncio.create_task(self._keep_leases(), name="feeder-leases")
        try:
            await act_when_woken(self._wake, self._begin_rounds)
        finally:
            listening.cancel()
            keeping.cancel()
            await self._hand_back()

    async def _keep_leases(self) -> None:
        """Renew the leases four times as often as they end."""
        while True:
            try:
                for batch_id in await self._batches.keep(*self._kept.values()):
                    self._kept.pop(batch_id, None)  # its round hears of it when it stores or enqueues the next line
                    logger.bind(batch_id=batch_id).info("another looks after a batch that was fed here")
            except StoreUnavailable:
                await asyncio.sleep(self._lease_s / 16)
                continue
            await asyncio.sleep(self._lease_s / 4)

    async def _begin_rounds(self) -> float:
        """Begin a round for each batch that can be leased, and return how long there is nothing else to do."""
        free = AT_ONCE - len(self._under_way)
        if not free:
            return LOOK_S
        try:
            under_way = [lease.id for lease in self._under_way.values()]
            leases, next_due_s = await self._batches.lease(lease_s=self._lease_s, most=free, under_way=under_way)
        except StoreUnavailable as error:
            self._outage.note(error.detail)
            return 1.0
        self._outage.over()
        for lease in leases:
            a_round = asyncio.create_task(self._round(lease), name=f"feed-{lease.id}")
            self._under_way[a_round] = self._kept[lease.id] = lease
            a_round.add_done_callback(self._ended)
        return LOOK_S if next_due_s is None else min(LOOK_S, next_due_s)

    def _ended(self, a_round: asyncio.Task[None]) -> None:
        lease = self._under_way.pop(a_round)
        self._kept.pop(lease.id, None)
        if not a_round.cancelled() and (error := a_round.exception()):
            logger.opt(exception=error).error("a batch is not fed by a fault of ours; its lease ends by itself")
        self._wake.set()

    async def _hand_back(self) -> None:
        """End all rounds and give up their leases, so that another need not wait for the leases to end."""
        under_way = dict(self._under_way)
        for a_round in under_way:
            a_round.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        for lease in under_way.values():
            with suppress(StoreUnavailable):
                await self._rest(lease, wait_s=0)

    async def _rest(self, lease: FeedLease, *, wait_s: float | None, refill: int = -1) -> None:
        """Hand a lease back. It is no longer kept from here on, or the batch would wait for a lease nobody holds."""
        self._kept.pop(lease.id, None)
        await self._batches.rest(lease, wait_s=wait_s, refill=refill)

    async def _round(self, lease: FeedLease) -> None:
        """Enqueue as many lines of one batch as its window has room for."""
        try:
            batch = await self._batches.batch(lease.id, lease.tenant)
            if batch.state is BatchState.CANCELING:
                await self._cancel(batch, lease)
            else:
                await self._feed(batch, lease)
        except (NotReady, QueueFull, QuotaExceeded, StorageUnavailable) as error:
            logger.bind(batch_id=lease.id, reason=error.detail).info("a batch is not fed for now")
            await self._rest(lease, wait_s=PAUSE_S)
        except StoreUnavailable as error:
            logger.bind(batch_id=lease.id, reason=error.detail).warning("a batch is not fed until its lease has ended")
        except NotItsTurn:  # retried tasks have taken its room, or another feeds it by now
            await self._rest(lease, wait_s=LOOK_S, refill=self._window // 2)
        except (BatchNotFound, ResultExpired):
            return  # deleted just now

    async def _feed(self, batch: Batch, lease: FeedLease) -> None:
        enqueuer = BatchEnqueuer(batch, lease, self._deps)
        place, stop = batch.fed, min(batch.total, batch.fed + max(0, self._window - batch.unfinished))
        starts = (*batch.plan.starts, batch.total)
        while place < stop:
            part = batch.part_of(place)
            first, end = starts[part], min(starts[part + 1], stop)
            try:
                rows = rows_of(await self._deps.storage.get(part_key(batch.tenant, batch.id, part)))
            except ResultExpired as error:
                await enqueuer.fail(place, end - place, error.code)
            else:
                await enqueuer.enqueue(rows[place - first : end - first], place)
            place = end
        if place >= batch.total:
            await self._rest(lease, wait_s=None)
        else:
            await self._rest(lease, wait_s=LOOK_S, refill=self._window // 2)

    async def _cancel(self, batch: Batch, lease: FeedLease) -> None:
        """End some of what is left: the tasks that wait or run first, then the lines that are no tasks yet."""
        places = await self._batches.open_places(batch.id, CANCELED_AT_ONCE)
        for place in places:
            await self._cancel_task(task_id_of(batch.id, place), batch.tenant)
        count = min(SKIPPED_AT_ONCE, batch.total - batch.fed)
        if count and await self._batches.skip(lease, batch.fed, count, State.CANCELED):
            metrics.report("batches.lines", count, outcome="canceled")
        await self._rest(lease, wait_s=0 if count or places else None)

    async def _cancel_task(self, task_id: str, tenant: str) -> None:
        with suppress(ResultExpired, TaskAlreadyFinal, TaskNotFound):
            if await self._deps.store.tasks.cancel(task_id, tenant):
                task = await self._deps.store.tasks.get(task_id, tenant)
                endings.count_end(task.request.model, task.state)

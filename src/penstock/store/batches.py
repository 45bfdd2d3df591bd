"""BatchStore: records of batches, and the leases under which feeders enqueue their lines."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from penstock.core.batch import ENDS, Batch, BatchPlan, BatchState, End, FeedLease, Started
from penstock.core.quotas import NO_QUOTAS, Quotas, text_of
from penstock.core.task import Outcome, State
from penstock.store.connection import listen
from penstock.store.encoding import hook_of
from penstock.store.engine import Engine
from penstock.store.keys import idempotency_digest
from penstock.store.records import GONE, UnreadableRecord, batch_of, end_of
from penstock.store.verdicts import (
    BATCH_CANCEL,
    BATCH_DELETE,
    BATCH_GROW,
    BATCH_OPEN,
    BATCH_START,
    batch_gone,
    no_batch,
    verdict,
)

RECEIVED_WITHIN_MS = 3_600_000
"""A batch is deleted when none of its parts has come for this long."""

PRUNED_TOGETHER = 20
"""Batches that one call of a script is asked to forget; it answers for as many as it had time for."""

CANCELS = f"{BatchState.RUNNING}>{BatchState.CANCELING} {BatchState.CANCELING}>{BatchState.CANCELING}"


class BatchPage(Struct, frozen=True):
    """Batches newest first; `next_before` continues the list, None at its end."""

    batches: tuple[Batch, ...]
    next_before: int | None


class Allowance(Struct, frozen=True):
    """What is left of the caller's submit limit, and of its tenant's (`quota_left` is -1 where it has none)."""

    rate_left: int
    rate_reset_s: int
    quota_left: int
    quota_reset_s: int


class BatchStore:
    """Batches. Every method raises StoreUnavailable when Redis cannot be reached or refuses writes.

    Each call may be repeated when its answer was lost; a repeated lease leaves one behind that ends by itself.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keys = engine.keys

    async def batch(self, batch_id: str, tenant: str) -> Batch:
        """The record. Raises BatchNotFound, also for a batch of another tenant, and ResultExpired for one that was
        pruned within a week."""
        answer = await self._engine.run("batch_read", id=batch_id, tenant=tenant)
        if answer == GONE:
            raise batch_gone(batch_id)
        found = _batch_or_none(batch_id, answer)
        if found is None:
            raise batch_gone(batch_id) if await self._engine.salvage.examine([batch_id]) else no_batch(batch_id)
        return found

    async def batches(self, tenant: str, *, before: int | None = None, limit: int = 50) -> BatchPage:
        """Batches newest first, created before this moment (µs)."""
        top = "+inf" if before is None else f"({before}"
        key = self._keys.batches(tenant)
        (row,) = await self._engine.pipelined(
            [("ZREVRANGEBYSCORE", key, top, "-inf", "WITHSCORES", "LIMIT", 0, limit + 1)]
        )
        ids = [batch_id.decode() for batch_id in row[::2]]
        found: list[Batch] = []
        for some in await self._engine.pieces(ids[:limit], self._keys.plan):
            answers = await self._engine.run_apart("batch_read", [{"id": one, "tenant": tenant} for one in some])
            read = map(_batch_or_none, some, answers)
            found += [batch for batch in read if batch]
        await self._engine.salvage.examine(set(ids[:limit]) - {batch.id for batch in found})
        more = int(row[2 * limit - 1]) if len(ids) > limit else None
        return BatchPage(tuple(found), more)

    async def ends(self, batch_id: str, start: int, count: int) -> list[End]:
        """`count` rows of the manifest from the row `start` on, in the order in which the lines ended; the first is
        0."""
        (rows,) = await self._engine.pipelined([("LRANGE", self._keys.ends(batch_id), start, start + count - 1)])
        return [end for row in rows if (end := _end_or_none(row))]

    async def outcomes(self, task_ids: Sequence[str]) -> list[Outcome | None]:
        """The outcomes of these tasks; None for a task without one, or whose record is gone or damaged."""
        rows = []
        for some in await self._engine.pieces(task_ids, self._keys.outcome):
            rows += await self._engine.pipelined([("GET", self._keys.outcome(task_id)) for task_id in some])
        return [_outcome_or_none(row) for row in rows]

    async def open_places(self, batch_id: str, most: int) -> list[int]:
        """At most `most` places of lines whose tasks wait or run."""
        (places,) = await self._engine.pipelined([("SRANDMEMBER", self._keys.open(batch_id), most)])
        return sorted(int(place) for place in places)

    async def waiting_lines(self) -> tuple[int, int]:
        """How many batches still have lines to enqueue or tasks to watch, and how many of their lines are no tasks
        yet."""
        (ids,) = await self._engine.pipelined([("ZRANGE", self._keys.feeding, 0, -1)])
        keys = [self._keys.batch(batch_id.decode()) for batch_id in ids]
        rows = await self._engine.pipelined([("HMGET", key, "total", "fed") for key in keys])
        return len(ids), sum(int(total) - int(fed) for total, fed in rows if _are_numbers(total, fed))

    async def open(
        self,
        batch_id: str,
        tenant: str,
        caller: str,
        *,
        rate_limit: int,
        most: int,
        client_request_id: str | None,
        quotas: Quotas = NO_QUOTAS,
    ) -> Allowance:
        """Begin to receive a batch, which counts as one submit. Raises RateLimited, QuotaExceeded, and TooManyBatches
        when `most` batches of the caller are unfinished; none of them for a client_request_id that is known."""
        answer = await self._engine.run(
            "batch_open",
            id=batch_id,
            tenant=tenant,
            caller=caller,
            rate_limit=rate_limit,
            quotas=text_of(quotas),
            most_unfinished=most,
            wait_ms=RECEIVED_WITHIN_MS,
            digest=_digest(tenant, caller, client_request_id),
        )
        return Allowance(*verdict(BATCH_OPEN, batch_id, answer))

    async def grow(self, batch_id: str, parts: int, stored_bytes: int, *, quotas: Quotas = NO_QUOTAS) -> None:
        """Note that so many parts of a batch, which have so many bytes together, are stored or about to be. Raises
        QuotaExceeded, and MalformedRequest when it came too slowly."""
        answer = await self._engine.run(
            "batch_grow",
            id=batch_id,
            parts=parts,
            stored_bytes=stored_bytes,
            wait_ms=RECEIVED_WITHIN_MS,
            quotas=text_of(quotas),
        )
        verdict(BATCH_GROW, batch_id, answer)

    async def start(
        self,
        batch_id: str,
        tenant: str,
        caller: str,
        plan: BatchPlan,
        *,
        total: int,
        ttl_s: int,
        fingerprint: str,
        quotas: Quotas = NO_QUOTAS,
    ) -> Started:
        """Start a batch, unless the caller has started one under the same client_request_id before.

        Raises IdempotencyMismatch, QuotaExceeded, and MalformedRequest when it came too slowly.
        """
        answer = await self._engine.run(
            "batch_start",
            id=batch_id,
            plan=msgspec.json.encode(plan),
            lines=total,
            ttl_s=ttl_s,
            state=BatchState.RUNNING,
            next_state=ENDS[BatchState.RUNNING],
            digest=_digest(tenant, caller, plan.client_request_id),
            fingerprint=fingerprint,
            hook=hook_of(plan.webhook, tenant),
            quotas=text_of(quotas),
        )
        started: Started = verdict(BATCH_START, batch_id, answer)
        await self._engine.copied(self._keys.batch(started.id))
        return started

    async def cancel(self, batch_id: str, tenant: str) -> None:
        """Enqueue no further line of a batch, and let its feeder cancel the tasks that are left. Repeating it is fine.

        Raises BatchNotFound, ResultExpired, BatchAlreadyFinal.
        """
        answer = await self._engine.run(
            "batch_cancel", moves=CANCELS, next_state=ENDS[BatchState.CANCELING], id=batch_id, tenant=tenant
        )
        verdict(BATCH_CANCEL, batch_id, answer)

    async def lease(
        self, *, lease_s: float, most: int, under_way: Iterable[str] = ()
    ) -> tuple[list[FeedLease], float | None]:
        """Lease batches that are due to be fed for `lease_s`. Returns the leases, and how long until the next batch is
        due, None when none is. Batches that are `under_way` in this process are left out."""
        answer = await self._engine.run_once(
            "batch_lease", lease_ms=int(lease_s * 1000), most=most, left_out=[*under_way]
        )
        fields = iter(answer[1:])
        leases = [
            FeedLease(id=batch_id.decode(), tenant=tenant.decode(), epoch=epoch, lasts_s=lease_s)
            for batch_id, tenant, epoch in zip(fields, fields, fields, strict=True)
        ]
        return leases, answer[0] / 1000 if answer[0] >= 0 else None

    async def keep(self, *leases: FeedLease) -> set[str]:
        """Extend leases, all of which last equally long. Returns the ids of the batches whose lease is lost."""
        pairs = [part for lease in leases for part in (lease.id, lease.epoch)]
        if not leases:
            return set()
        lease_ms = int(leases[0].lasts_s * 1000)
        lost = await self._engine.run("batch_keep", lease_ms=lease_ms, leases=pairs)
        return {batch_id.decode() for batch_id in lost}

    async def rest(self, lease: FeedLease, *, wait_s: float | None, refill: int = -1) -> bool:
        """Hand back a lease. The batch is due again in `wait_s` (None for never), or as soon as no more than `refill`
        of its tasks are unfinished. Returns False when the lease is lost."""
        wait_ms = -1 if wait_s is None else int(wait_s * 1000)
        return bool(
            await self._engine.run("batch_rest", id=lease.id, epoch=lease.epoch, wait_ms=wait_ms, refill=refill)
        )

    async def skip(self, lease: FeedLease, place: int, count: int, state: State, code: str = "") -> bool:
        """End the next lines, from this place on, without tasks. Returns False when the lease is lost."""
        return bool(
            await self._engine.run(
                "batch_skip", id=lease.id, epoch=lease.epoch, first=place, count=count, state=state, code=code
            )
        )

    async def delete(self, batch_id: str, tenant: str) -> str | None:
        """Forget a batch before its retention is over; its tasks stay. Returns the prefix of its lines, which are to be
        deleted from the storage and are `Condemned` too; None when it was deleted before.

        Raises BatchNotFound, and BatchNotFinal for one that has not ended.
        """
        answer = await self._engine.run("batch_delete", id=batch_id, tenant=tenant)
        prefix: str | None = verdict(BATCH_DELETE, batch_id, answer)
        return prefix

    async def prune(self) -> int:
        """Forget all batches whose retention is over, as `delete` does. Returns how many."""
        return sum(await self._engine.run_to_end("batch_prune", most=PRUNED_TOGETHER))

    def rooms(self) -> AsyncIterator[str]:
        """Yields a text whenever the window of a batch may have room for more lines, and an empty one when such a
        message may have been missed."""
        return listen(self._engine.client, self._keys.room)


def _batch_or_none(batch_id: str, answer: list[Any]) -> Batch | None:
    try:
        return batch_of(batch_id, answer)
    except UnreadableRecord:
        return None


def _end_or_none(row: bytes) -> End | None:
    try:
        return end_of(row)
    except UnreadableRecord:
        return None


def _outcome_or_none(row: bytes | None) -> Outcome | None:
    try:
        return msgspec.json.decode(row, type=Outcome) if row else None
    except msgspec.MsgspecError:
        return None


def _are_numbers(*values: bytes | None) -> bool:
    return all(value is not None and value.isdigit() for value in values)


def _digest(tenant: str, caller: str, client_request_id: str | None) -> str:
    return idempotency_digest(tenant, f"{caller}\0batch", client_request_id) if client_request_id else ""

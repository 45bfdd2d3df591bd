"""The actors. Each one acts as a process, with its own connections and random numbers; when it has died, another
takes its place."""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from random import Random

from penstock.api.routes import batches, removal, uploads
from penstock.core.access import TENANT, Caller
from penstock.core.batch import BatchPlan, new_batch_id, part_key, task_id_of
from penstock.core.events import Delivery, Webhook
from penstock.core.lease import Lease
from penstock.core.task import PRIORITIES, new_task_id
from penstock.core.upload import new_upload_id, upload_key
from penstock.errors import PenstockError, StoreUnavailable
from penstock.intake.batch_feeder import Feeder
from penstock.intake.call import SubmitCall
from penstock.intake.enqueue import enqueue
from penstock.intake.examine import Examined
from penstock.intake.found import Found
from penstock.intake.given import given_of
from penstock.intake.requests import TaskRequest
from penstock.intake.uploads import ready_upload
from penstock.store import NotItsTurn, WorkerInfo
from penstock.store.outbox import Quota
from penstock.upkeep.retention import prune
from penstock.upkeep.sweep import sweep, sweep_inline, sweep_uploads
from tests.interleave.acts import IMAGE, INLINE, PAIR, lines_of
from tests.interleave.world import DESCRIBED, MODEL, World
from tests.stress.mishaps import Luck

CALLERS = (Caller("alice", TENANT), Caller("bob", TENANT))
HOOKS = ("succeeded", "failed", "canceled", "expired", "progress")
LEASE_S = 0.6
"""The lease of a batch; that of a task is in the settings."""
ENDS = ("complete",) * 7 + ("fail", "retry", "retry", "release")


class Seen:
    """The answers that the actors have received, all together."""

    def __init__(self) -> None:
        self.acknowledged: set[str] = set()
        self.batches: dict[str, int] = {}
        self.uploads: dict[str, Caller] = {}
        self.happened: Counter[str] = Counter()
        self.worker_ids = 0
        self.workers: set[World] = set()


class Actor:
    """Does one act after the other until it is told to stop."""

    pause_s = (0.0, 0.03)

    def __init__(self, world: World, seen: Seen, luck: Luck) -> None:
        self.world, self.seen, self.luck = world, seen, luck
        self.chance: Random = luck.chance

    async def live(self, *, until: Callable[[], bool]) -> None:
        """Acts until the end and counts refusals."""
        while not until():
            await asyncio.sleep(self.chance.uniform(*self.pause_s))
            try:
                await self.act()
            except (PenstockError, NotItsTurn) as error:
                self.seen.happened[f"{type(self).__name__}: {type(error).__name__}"] += 1

    async def act(self) -> None:
        """Does one thing."""
        raise NotImplementedError

    async def is_missed(self) -> None:
        """Does what others do after its death."""


class Client(Actor):
    """Submits tasks, and does everything that a client may do with the id of a task."""

    def __init__(self, world: World, seen: Seen, luck: Luck) -> None:
        super().__init__(world, seen, luck)
        self._mine: deque[str] = deque(maxlen=300)

    async def act(self) -> None:
        acts: dict[Callable[[], Awaitable[object]], float] = {
            self.submit: 11, self.cancel: 2, self.retry: 3, self.delete: 2, self.look: 1, self.ask_why: 1,
        }  # fmt: skip
        (act,) = self.chance.choices(list(acts), list(acts.values()))
        await act()

    async def submit(self) -> None:
        caller, name = self.chance.choice(CALLERS), self.chance.choice((None, None, f"key-{self.chance.random()}"))
        request, examined = await self._task(caller, name)
        call = SubmitCall(
            caller=caller, task=request, model=DESCRIBED, params={}, given=given_of(request.input, DESCRIBED),
            base_url="", traceparent="",
        )  # fmt: skip
        for _ in range(2 if name else 1):  # a submit with a client_request_id is repeated until it is answered
            with suppress(StoreUnavailable):
                answer = await enqueue(new_task_id(), call, examined, self.world.services)
                self.seen.acknowledged.add(answer.id)
                self.seen.happened[f"submits: {answer.reuse}"] += 1
                self._mine.append(answer.id)

    async def cancel(self) -> None:
        task_id = self._one()
        running = [
            attempt for world in self.seen.workers for key, attempt in world.attempts.items() if key.startswith(task_id)
        ]
        await self.world.store.tasks.cancel(task_id, TENANT)
        for attempt in running:  # the attempts that ran at the cancel, not one that begins after a retry
            attempt.abort()

    async def retry(self) -> None:
        await self.world.store.tasks.resubmit(self._one(), TENANT)

    async def delete(self) -> None:
        await removal.delete_task.fn(self.world.request, self.world.services, self._one())

    async def look(self) -> None:
        await self.world.store.tasks.get(self._one(), TENANT)

    async def ask_why(self) -> None:
        await self.world.store.tasks.explain(self._one(), TENANT)

    def _one(self) -> str:
        return self.chance.choice(self._mine) if self._mine else "tsk_none"

    async def _found(self, upload: str | None, caller: Caller) -> tuple[Found, ...]:
        if upload is None:
            return PAIR if self.chance.random() < 0.3 else INLINE
        (photo,) = given_of({"upload_id": upload}, DESCRIBED)
        return (Found(given=photo, upload=await ready_upload(upload, caller, self.world.services)),)

    async def _task(self, caller: Caller, name: str | None) -> tuple[TaskRequest, Examined]:
        chance = self.chance
        used = [upload_id for upload_id, owner in self.seen.uploads.items() if owner == caller]
        upload = chance.choice(used) if used and chance.random() < 0.2 else None
        request = TaskRequest(
            model=MODEL,
            input={"image_url": "data:,"},
            priority=chance.choice(PRIORITIES),
            client_request_id=name,
            start_within_s=chance.choice((None, None, None, 1)),
            finish_within_s=chance.choice((None, None, None, 2)),
            result_ttl_s=chance.choice((1, 2, 4)),
            reuse=chance.random() > 0.15,
        )
        hook = Webhook(url=f"https://h{chance.randrange(4)}.example/", events=HOOKS, base_url="")
        return request, Examined(
            cost=chance.randrange(1, 50),
            fingerprint="f",
            found=await self._found(upload, caller),
            reuse_digest=f"{caller.id}-{chance.randrange(6)}" if chance.random() < 0.6 else None,
            webhook=hook if chance.random() < 0.4 else None,
        )


class Uploader(Actor):
    """Uploads files and deletes some."""

    pause_s = (0.1, 0.4)

    async def act(self) -> None:
        upload_id, caller = new_upload_id(), self.chance.choice(CALLERS)
        await self.world.uploads.open(
            upload_id, tenant=TENANT, caller=caller.id, size=len(IMAGE), content_type="image/png", sha256=None,
            token=None, url_ttl_s=60, late_s=60, unused_ttl_s=self.chance.choice((1, 3)), rate_limit=0,
        )  # fmt: skip
        if self.chance.random() < 0.9:
            await self.world.storage.put(upload_key(TENANT, upload_id), IMAGE, "image/png")
            await ready_upload(upload_id, caller, self.world.services)
            self.seen.uploads[upload_id] = caller
        if len(self.seen.uploads) > 6:
            old = self.chance.choice(list(self.seen.uploads))
            self.world.request.auth = self.seen.uploads.pop(old)
            await uploads.delete_upload.fn(self.world.request, self.world.services, old)


class Batcher(Actor):
    """Starts batches, abandons, cancels and deletes some, and runs some lines again."""

    pause_s = (0.3, 0.9)

    async def act(self) -> None:
        batch_id, caller = new_batch_id(), self.chance.choice(CALLERS)
        total = self.chance.randrange(1, 25)
        await self.world.batches.open(batch_id, TENANT, caller.id, rate_limit=0, most=50, client_request_id=None)
        lines = self._lines(total)
        await self.world.batches.grow(batch_id, 1, len(lines))
        await self.world.storage.put(part_key(TENANT, batch_id, 0), lines, "application/jsonl")
        if self.chance.random() < 0.1:
            await self._delete(batch_id)
            return
        hook = Webhook(url="https://hb.example/", events=("completed", "canceled"), base_url="")
        plan = BatchPlan(defaults={"model": MODEL}, starts=(0,), base_url="", traceparent="", webhook=hook)
        ttl_s = self.chance.choice((2, 4))
        self.seen.batches[batch_id] = total
        await self.world.batches.start(
            batch_id, caller.tenant, caller.id, plan, total=total, ttl_s=ttl_s, fingerprint="f"
        )
        self.seen.happened["batches"] += 1
        if self.chance.random() < 0.3:
            await asyncio.sleep(self.chance.uniform(0, 0.5))
            await self.world.batches.cancel(batch_id, TENANT)
        await self._disturb_another()

    async def _disturb_another(self) -> None:
        some = self.chance.choice(list(self.seen.batches)[-6:])
        line = task_id_of(some, self.chance.randrange(self.seen.batches[some]))
        match self.chance.randrange(4):
            case 0:
                await self.world.store.tasks.resubmit(line, TENANT)
            case 1:
                await self.world.store.tasks.cancel(line, TENANT)
            case 2:
                await self._delete(some)

    async def _delete(self, batch_id: str) -> None:
        await batches.delete_batch.fn(self.world.request, self.world.services, batch_id)

    def _lines(self, total: int) -> bytes:
        return lines_of([IMAGE + bytes([self.chance.randrange(6)]) for _ in range(total)])


class Feeding(Actor):
    """Feeds batches, as an API process does beside all else."""

    async def live(self, *, until: Callable[[], bool]) -> None:
        feeding = asyncio.create_task(Feeder(self.world.services, lease_s=LEASE_S).run())
        while not (until() or feeding.done()):
            await asyncio.sleep(0.1)
        feeding.cancel()
        with suppress(asyncio.CancelledError):
            await feeding


class Worker(Actor):
    """Has four slots and renews its leases. When it is slow, it releases one task or all."""

    pause_s = (0.005, 0.05)
    slots = 4

    def __init__(self, world: World, seen: Seen, luck: Luck) -> None:
        super().__init__(world, seen, luck)
        seen.worker_ids += 1
        self.id = f"w{seen.worker_ids}"
        self._held: dict[str, Lease] = {}
        self._round = 0

    async def live(self, *, until: Callable[[], bool]) -> None:
        async with asyncio.TaskGroup() as self._running:
            renewing = self._running.create_task(self._renew())
            self.seen.workers.add(self.world)
            await super().live(until=until)
            renewing.cancel()

    async def act(self) -> None:
        if len(self._held) >= self.slots:
            return
        try:
            claim = await self.world.store.leases.claim(worker=self.id, device="cpu", models=[MODEL], round=self._round)
        except StoreUnavailable:
            self._round += 1
            await self.world.store.leases.release_unknown(self.id, self._held.values(), before=self._round)
            raise
        lease = claim.lease
        if lease is not None:
            self._held[lease.token] = lease
            self._running.create_task(self._attempt(lease))

    async def is_missed(self) -> None:
        """Its supervisor notices at once, or dies with it."""
        self.seen.workers.discard(self.world)
        if self.chance.random() < 0.5:
            await self.world.store.overdue.reclaim(self.id)

    async def _attempt(self, lease: Lease) -> None:
        await asyncio.sleep(self.chance.uniform(0, 0.15))
        end = "complete" if self.luck.is_calm else self.chance.choice(ENDS)
        try:
            await self.world.run(lease, end)
            self.seen.happened[f"attempts: {end}"] += 1
        finally:
            self._held.pop(lease.token, None)

    async def _renew(self) -> None:
        info = WorkerInfo(
            id=self.id, device="cpu", host="h", models=(MODEL,), slots=4, running=1, state="READY", started=1
        )
        while True:
            await asyncio.sleep(0.25)
            with suppress(StoreUnavailable):
                lost = await self.world.store.leases.renew(info, list(self._held.values()))
                self.seen.happened["leases lost"] += len(lost)


class Maintainer(Actor):
    """Runs upkeep, more often than a server does."""

    pause_s = (0.1, 0.4)

    async def act(self) -> None:
        await sweep(self.world.store)
        await prune(self.world.store, self.world.storage)
        await sweep_uploads(self.world.uploads, self.world.storage)
        await sweep_inline(self.world.store.inline, self.world.storage)


class Dispatcher(Actor):
    """Delivers events to endpoints that often fail."""

    pause_s = (0.02, 0.1)

    async def act(self) -> None:
        due = await self.world.outbox.lease(lease_s=0.5, prompt=Quota(8, 4), others=Quota(8, 2), under_way={})
        for leased in due.events:
            is_told = self.luck.is_calm or self.chance.random() < 0.7
            is_last = is_told or leased.event.tries > 3
            await self.world.outbox.settle(
                leased,
                Delivery(at=1, ms=1, outcome="delivered" if is_told else "broken"),
                status="delivered" if is_told else "failed" if is_last else "waiting",
                wait_s=None if is_last else 0.2,
                rest_s=0 if is_told else self.chance.choice((0, 0.3)),
                is_prompt=is_told and self.chance.random() < 0.7,
            )
            self.seen.happened["events delivered"] += is_told


class OperatorActor(Actor):
    """Pauses, resumes and purges queues."""

    pause_s = (0.5, 1.5)

    async def act(self) -> None:
        some = [self.chance.choice(PRIORITIES)]
        match self.chance.randrange(8):
            case 0:
                await self.world.store.queues.purge(TENANT, MODEL, some, limit=50)
            case 1 | 2 | 3:
                await self.world.store.queues.pause(MODEL, some, by="operator")
            case _:
                await self.world.store.queues.resume(MODEL, PRIORITIES)


class Clock(Actor):
    """Sets the clock of Redis, ahead and back."""

    pause_s = (2.0, 6.0)

    async def act(self) -> None:
        await self.world.advance(self.chance.choice((-4, -2, -0.3, 0.3, 2, 5)))
        self.seen.happened["jumps of the clock"] += 1


CAST: Sequence[type[Actor]] = (
    *[Client] * 3, Uploader, Batcher, *[Feeding] * 2, *[Worker] * 4, *[Maintainer] * 2, *[Dispatcher] * 2,
    OperatorActor, Clock,
)  # fmt: skip
STAY_WHEN_CALM = (Feeding, Worker, Maintainer, Dispatcher)
"""The actors that end all tasks when no more are submitted."""

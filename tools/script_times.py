"""How long does each script of the store block Redis in its worst case, and how many commands does it run?

    python -m tools.script_times [--only settle,claim] [--rounds 3] [--server PATH]

For each script, a function below builds the state in which the script has most to do: full groups of equal tasks, where
each task is a line of a batch with a webhook, limits of time and an upload. Then the method of the store that runs the
script is called; if the method repeats the script, each call counts by itself. Times are by the clock of Redis
(SLOWLOG), and the table shows the slowest of all rounds: nothing else runs in Redis meanwhile.
`tests/store/test_script_bounds.py` holds the number of commands to its limit.
"""

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import uvloop
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from penstock.core.access import SCOPES, TENANT
from penstock.core.access_keys import AccessKey, new_access_key
from penstock.core.batch import BatchPlan, FeedLease, new_batch_id, task_id_of
from penstock.core.events import Delivery, EventType, Webhook
from penstock.core.lease import Lease
from penstock.core.model import Model
from penstock.core.quotas import QUOTAS
from penstock.core.request import Line, OutputOptions, Request, Source
from penstock.core.submission import EnqueuePermit, Submission
from penstock.core.task import PRIORITIES, ErrorRecord, Outcome, Priority, Progress, State, new_task_id
from penstock.core.upload import FileFacts, new_upload_id, upload_key
from penstock.settings import QueueSettings, RedisSettings
from penstock.store import Engine, Redis, Store, WorkerInfo, connect, conversion, inline
from penstock.store.access_keys import MAX_KEYS
from penstock.store.accounts import EPOCH
from penstock.store.caps import EVERYBODY
from penstock.store.keys import Keys
from penstock.store.outbox import Quota
from penstock.store.submits import MAX_FOLLOWERS
from penstock.store.tasks import WATCHED_TOGETHER
from penstock.worker.claims import MOST_AT_ONCE
from tests.support import redis_server
from tests.support.monitor import Command, monitoring

NAMESPACE, MODEL, CALLER, WORKER = "worst", "m", "alice", "w"
GROUPS = 12
"""Groups of equal tasks, each of the largest size: more than one call can end."""
ALL_EVENTS: tuple[EventType, ...] = ("succeeded", "failed", "canceled", "expired", "progress")
PROBLEM = ErrorRecord(code="internal", message="a problem", retryable=False)
INFO = WorkerInfo(id=WORKER, device="cpu", host="h", models=(MODEL,), slots=64, running=64, state="READY", started=0)
LONG_LOG = b"a line of a model\n" * 3600
MANY_EVENTS = 7200
"""Two progress events a second for an hour."""

Call = Callable[[], Awaitable[object]]


@dataclass
class Cost:
    """The largest cost of one call of a script."""

    script: str
    commands: int
    ms: float


class Place:
    """An empty namespace, with stores that have no limits."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        queue = QueueSettings(
            max_depth=10**6,
            batch_window=10**6,
            max_batches=10**6,
            lease_s=0.001,
            max_crashes=1,
            inline_budget_bytes=2 * inline.TOGETHER_BYTES,
        )
        self.store = Store(Engine(client, NAMESPACE, queue, patience_s=60))
        self.batches, self.uploads = self.store.batches, self.store.uploads
        self.outbox, self.condemned = self.store.outbox, self.store.condemned
        self.keys = Keys(NAMESPACE)
        self._lines = 0

    async def script(self, name: str) -> Any:
        """Returns the script as the server knows it, with its `sha`."""
        await self.client.scripts.load()
        return self.client.scripts[name]

    async def write(self, key: str, *fields: object) -> None:
        """Sets fields of a hash without the store: name, value, name, …"""
        await self.client.execute_command("HSET", f"{self.keys.root}{key}", *fields)  # type: ignore[no-untyped-call]

    async def batch(self, lines: int = 10**5) -> FeedLease:
        """Opens a batch and leases it to a feeder of this process."""
        batch_id = new_batch_id()
        await self.batches.open(batch_id, TENANT, CALLER, rate_limit=0, most=10**6, client_request_id=batch_id)
        await self.batches.grow(batch_id, 20, 20_000)
        hook = Webhook(url="https://hooks.example.com/", events=("completed", "canceled"), base_url="")
        plan = BatchPlan(
            defaults={}, starts=(0,), base_url="", traceparent="", webhook=hook, client_request_id=batch_id
        )
        await self.batches.start(batch_id, TENANT, CALLER, plan, total=lines, ttl_s=0, fingerprint="f")
        leases, _ = await self.batches.lease(lease_s=3600, most=100)
        return next(lease for lease in leases if lease.id == batch_id)

    async def upload(self) -> str:
        """Makes an upload whose bytes are stored and which its caller's list shows."""
        upload_id = new_upload_id()
        await self.uploads.open(
            upload_id, tenant=TENANT, caller=CALLER, size=1, content_type="image/png", sha256=None, token=None,
            url_ttl_s=0, late_s=0, unused_ttl_s=0, rate_limit=0, file=FileFacts(name="photo.png"),
        )  # fmt: skip
        await self.uploads.arrive(upload_id)
        return upload_id

    async def tasks(
        self, count: int, *, digest: str | None = None, priority: Priority = Priority.NORMAL, late: bool = False
    ) -> list[str]:
        """Makes this many tasks with everything that a task can have. `late` ones are past both limits of time.
        Equal ones follow the first of them."""
        upload = await self.upload()
        feeding = await self.batch(lines=count + 1)
        made = [self._task(feeding, place, upload, digest, priority, late) for place in range(count)]
        for start in range(0, count, 100):
            for answer in await self.store.tasks.submit_each([(task, True) for task in made[start : start + 100]]):
                assert not isinstance(answer, Exception), answer
        return [task.id for task in made]

    async def groups(self, count: int = GROUPS, *, late: bool = False, size: int = MAX_FOLLOWERS) -> list[list[str]]:
        """Makes full groups of equal tasks, each led by its first one."""
        return [await self.tasks(size + 1, digest=f"digest-{n:022d}", late=late) for n in range(count)]

    async def of_callers(
        self, count: int, priority: Priority = Priority.NORMAL, *, model: str = MODEL, size: int = 0
    ) -> list[str]:
        """Makes a plain task for each of this many callers, with an input of this size in Redis."""
        ids = [new_task_id() for _ in range(count)]
        for n, task_id in enumerate(ids):
            key = f"inputs/{TENANT}/{task_id}" if size else None
            source = Source(key=key) if key else Source(data=b"")
            plain = Submission(
                id=task_id,
                tenant=TENANT,
                caller=f"caller-{n}",
                priority=priority,
                cost=1,
                request=Request(model=model, inputs={"image": source}, params={}, output=OutputOptions()),
                fingerprint="f",
                max_retries=0,
                timeout_s=60,
                start_within_s=None,
                finish_within_s=None,
                result_ttl_s=0,
                input_bytes=size,
                inline={key: bytes(size)} if key else {},
            )
            await self.store.tasks.submit_unstored(plain, rate_limit=0)
        return ids

    async def pools(self, count: int) -> None:
        """Registers this many worker pools, each with the model and another one."""
        for n in range(count):
            await self.store.leases.renew(replace(INFO, id=f"{WORKER}-{n}", models=(MODEL, f"model-{n}")), [])

    async def pool_names(self) -> list[str]:
        """Returns the names of all pools."""
        return [name.decode() for name in await cast("Awaitable[list[bytes]]", self.client.hkeys(self.keys.pools))]

    async def claim(self) -> Lease:
        """Claims the next task."""
        lease = (await self.store.leases.claim(worker=WORKER, device="cpu", models=[MODEL])).lease
        assert lease is not None
        return lease

    async def claims(self, count: int) -> list[Lease]:
        """Claims the next tasks."""
        return [await self.claim() for _ in range(count)]

    async def ended(self, count: int) -> list[str]:
        """Makes tasks that are canceled and past their retention, and that count many events."""
        ids = await self.tasks(count)
        for task_id in ids:
            await self.store.tasks.cancel(task_id, TENANT)
            await self.write(f"events:{task_id}", "n", MANY_EVENTS)
        return ids

    def _task(
        self, feeding: FeedLease, place: int, upload: str, digest: str | None, priority: Priority, late: bool
    ) -> Submission:
        self._lines += 1
        return Submission(
            id=task_id_of(feeding.id, place),
            tenant=TENANT,
            caller=CALLER,
            priority=priority,
            cost=1,
            request=Request(
                model=MODEL,
                inputs={"image": Source(key=upload_key(TENANT, upload), upload=upload)},
                params={},
                output=OutputOptions(),
                client_request_id=f"task-{self._lines}",
                webhook=Webhook(url=f"https://h{self._lines}.example.com/", events=ALL_EVENTS, base_url=""),
                line=Line(batch=feeding.id, custom_id=str(place), number=place + 1),
            ),
            fingerprint="f",
            max_retries=9,
            timeout_s=60,
            start_within_s=0.0 if late else 3600.0,
            finish_within_s=0.0 if late else 3600.0,
            result_ttl_s=0,
            reuse_digest=digest,
            permit=EnqueuePermit(batch=feeding.id, epoch=feeding.epoch, place=place, window=10**6, lease_ms=3_600_000),
        )


# --- the worst case of each script: builds its state and returns the call to make ---------------------------------


async def ahead(p: Place) -> Call:
    """Few others are ahead, who are counted one by one."""
    await p.store.leases.renew(INFO, [])
    await p.of_callers(3)
    return lambda: p.store.queues.ahead(TENANT, CALLER, MODEL, Priority.LOW)


async def answer(p: Place) -> Call:
    """The groups are those that a settle has answered only in part."""
    await _settled_groups(p)
    return p.store.overdue.answer_waiting


async def await_(p: Place) -> Call:
    """The inputs belong to a group of lines."""
    return lambda: p.store.tasks.await_inputs([f"inputs/{TENANT}/{n}" for n in range(8)])


async def batch_cancel(p: Place) -> Call:
    feeding = await p.batch()
    return lambda: p.batches.cancel(feeding.id, TENANT)


async def batch_delete(p: Place) -> Call:
    feeding = await _ended_batch(p)
    return lambda: p.batches.delete(feeding.id, TENANT)


async def batch_grow(p: Place) -> Call:
    feeding = await p.batch()
    return lambda: p.batches.grow(feeding.id, 21, 21_000)


async def batch_keep(p: Place) -> Call:
    """The caller has many more batches than a process feeds at once."""
    leases = [await p.batch() for _ in range(100)]
    return lambda: p.batches.keep(*leases)


async def batch_lease(p: Place) -> Call:
    for _ in range(100):
        await p.batches.rest(await p.batch(), wait_s=0)
    return lambda: p.batches.lease(lease_s=5, most=100)


async def batch_open(p: Place) -> Call:
    return lambda: p.batches.open(new_batch_id(), TENANT, CALLER, rate_limit=100, most=100, client_request_id="another")


async def batch_prune(p: Place) -> Call:
    for _ in range(40):
        await _ended_batch(p)
    return p.batches.prune


async def batch_read(p: Place) -> Call:
    feeding = await p.batch()
    return lambda: p.batches.batch(feeding.id, TENANT)


async def batch_rest(p: Place) -> Call:
    feeding = await p.batch()
    return lambda: p.batches.rest(feeding, wait_s=10, refill=250)


async def batch_skip(p: Place) -> Call:
    """A feeder skips as many lines as it may at once."""
    feeding = await p.batch(lines=500)
    return lambda: p.batches.skip(feeding, 0, 500, State.FAILED, "internal")


async def batch_start(p: Place) -> Call:
    return p.batch


async def buried(p: Place) -> Call:
    return lambda: p.condemned.bury([f"inputs/{TENANT}/{n}" for n in range(2000)])


async def cancel(p: Place) -> Call:
    """The task leads a full group and runs: another task of the group has to lead."""
    await p.groups(1)
    lease = await p.claim()
    await _with_progress(p, lease)
    return lambda: p.store.tasks.cancel(lease.id, TENANT)


async def claim(p: Place) -> Call:
    """Retries are due and have missed their deadlines; behind them wait leaders of full groups that are late."""
    for task_id in await p.tasks(60):
        await p.store.leases.retry(await p.claim(), PROBLEM, delay_ms=1)
        await p.write(f"task:{task_id}", "deadline", 1)
    await p.groups(late=True)
    await asyncio.sleep(0.01)
    return lambda: p.store.leases.claim_several(
        MOST_AT_ONCE, worker=WORKER, device="cpu", models=[MODEL, "another", "third"]
    )


async def caps(p: Place) -> Call:
    """Many tenants have caps, and all of them change."""
    await p.store.caps.set({f"tenant-{n}": 1 for n in range(5000)})
    return lambda: p.store.caps.set({f"tenant-{n}": 2 for n in range(5000)})


async def claim_at_caps(p: Place) -> Call:
    """In every class, more tenants are at their caps than one claim looks at."""
    await p.store.caps.set({EVERYBODY: 1})
    await p.store.leases.renew(INFO, [])
    for priority in PRIORITIES:
        await p.of_callers(1, priority)
    pool = (await p.pool_names())[0]
    for n in range(200):
        await p.client.zadd(p.keys.state(f"tenant-{n}", State.RUNNING), {"t": 1.0})
        for priority in PRIORITIES:
            await p.client.zadd(f"{p.keys.root}flows:{pool}:{priority}", {f"tenant-{n}": -1.0})
            await p.client.zadd(f"{p.keys.root}flows:{pool}:{priority}:tenant-{n}", {CALLER: 1.0})
    return lambda: p.store.leases.claim_several(MOST_AT_ONCE, worker=WORKER, device="cpu", models=[MODEL])


async def claim_of_nobodys(p: Place) -> Call:
    """A new pool has many models. In every class, some callers have canceled all their tasks, and the queues of
    others, which no claim has visited yet, are paused."""
    models = (MODEL, *(f"model-{n}" for n in range(15)))
    for priority in PRIORITIES:
        await p.of_callers(100, priority, model=models[1])
    await p.store.queues.pause(models[1], PRIORITIES, by="x")
    await p.store.leases.renew(replace(INFO, models=models), [])
    for priority in PRIORITIES:
        for task_id in await p.of_callers(100, priority):
            await p.store.tasks.cancel(task_id, TENANT)
    return lambda: p.store.leases.claim_several(MOST_AT_ONCE, worker=WORKER, device="cpu", models=models)


async def condemned(p: Place) -> Call:
    """As many inputs are given up as one call takes, and as many objects wait already."""
    ids = await p.tasks(300)
    for task_id in ids:
        await p.store.tasks.cancel(task_id, TENANT)
    now_ms = await p.client.time()
    given_up = {f"inputs/{TENANT}/{n}": now_ms[0] * 1000 - 1 for n in range(300)}
    await p.client.zadd(p.keys.awaited, given_up)
    return p.condemned.take


async def delete(p: Place) -> Call:
    ids = await p.ended(200)
    return lambda: p.store.tasks.delete_each(ids, TENANT)


async def convert_board(p: Place) -> Call:
    """All pools are of the release before, and many workers are drained and models measured."""
    await p.pools(100)
    await p.client.delete(p.keys.board)
    await p.client.zadd(p.keys.drained, {f"worker-{n}": 1.0 for n in range(1000)})
    await p.write("pace", *(part for n in range(1000) for part in (f"ms:m{n}", 1.0)))
    return partial(conversion.convert, p.store.engine)


async def convert_tasks(p: Place) -> Call:
    """All tasks of a full page had attempts."""
    await p.groups(2)
    (ids,) = await p.store.engine.pipelined([("ZRANGE", p.keys.state(TENANT, State.PENDING), 0, -1)])
    for task_id in ids:
        await p.write(f"task:{task_id.decode()}", "version", conversion.CONVERTED)
        await p.client.rpush(p.keys.attempts(task_id.decode()), *[b"{}"] * 10)  # type: ignore[misc]
    return partial(conversion.convert, p.store.engine)


async def deliver(p: Place) -> Call:
    """A thousand endpoints are owed an event, and as many prompt ones."""
    await _owe(p, 1000)
    return lambda: p.outbox.lease(lease_s=60, prompt=Quota(256, 4), others=Quota(768, 2), under_way={})


async def delivered(p: Place) -> Call:
    """Other endpoints, which were prompt a day ago, are no longer so."""
    await _owe(p, 30)
    due = await p.outbox.lease(lease_s=60, prompt=Quota(256, 4), others=Quota(768, 2), under_way={})
    await p.client.zadd(f"{p.keys.root}prompt", {event.endpoint: 1.0 for event in due.events[1:]})
    delivery = Delivery(at=1, ms=1, outcome="delivered")
    return lambda: p.outbox.settle(due.events[0], delivery, status="waiting", wait_s=1, rest_s=1, is_prompt=False)


async def depth(p: Place) -> Call:
    """Many callers have tasks."""
    await p.of_callers(100)
    return lambda: p.store.queues.depths([MODEL])


async def shares(p: Place) -> Call:
    """Many callers have tasks."""
    await p.of_callers(100)
    return lambda: p.store.queues.shares([(MODEL, Priority.NORMAL)], None)


async def release_unknown(p: Place) -> Call:
    """The tasks are leaders of full groups."""
    await p.groups()
    await p.claims(GROUPS)
    return lambda: p.store.leases.release_unknown(WORKER, [], before=1)


async def doubt(p: Place) -> Call:
    await _owe(p, 1)
    return lambda: p.outbox.doubt("h1.example.com")


async def drain(p: Place) -> Call:
    await p.store.leases.renew(INFO, [])
    return lambda: p.store.workers.drain(WORKER)


async def expire(p: Place) -> Call:
    """The tasks are leaders of full groups."""
    await p.groups(late=True)
    await asyncio.sleep(0.01)
    return p.store.overdue.expire


async def explain(p: Place) -> Call:
    await p.of_callers(100)
    (ids,) = await p.groups(1)
    return lambda: p.store.tasks.explain(ids[-1], TENANT)


async def log(p: Place) -> Call:
    await p.groups(1)
    lease = await p.claim()
    await p.client.set(p.keys.of_root(f"log:{lease.id}"), LONG_LOG)
    return lambda: p.store.tasks.log(lease.id, TENANT)


async def overrun(p: Place) -> Call:
    """The tasks are leaders of full groups."""
    await p.groups(late=True)
    await asyncio.sleep(0.01)
    return p.store.overdue.overrun


async def pause(p: Place) -> Call:
    """The queues go on in as many pools as there may be."""
    await p.pools(100)
    await p.store.queues.pause(MODEL, PRIORITIES, by="x")
    return lambda: p.store.queues.resume(MODEL, PRIORITIES)


async def ping(p: Place) -> Call:
    return p.store.ping


async def progress(p: Place) -> Call:
    await p.tasks(1)
    lease = await p.claim()
    return lambda: p.store.leases.progress(lease, "infer", Progress(done=1, total=2), took_ms=1.0)


async def inline_due(p: Place) -> Call:
    """As many inputs as one call may take, and together as large."""
    await _ended_inputs(p)
    return p.store.inline.due


async def inline_moved(p: Place) -> Call:
    await _ended_inputs(p)
    taken = list(await p.store.inline.due())
    return lambda: p.store.inline.moved(taken)


async def _ended_inputs(p: Place) -> None:
    ids = await p.of_callers(inline.TOGETHER + 8, size=inline.TOGETHER_BYTES // inline.TOGETHER)
    for task_id in ids:
        await p.store.tasks.cancel(task_id, TENANT)


async def claim_inline(p: Place) -> Call:
    """The answer has the largest input that Redis keeps."""
    await p.of_callers(1, size=QueueSettings().inline_input_bytes)
    return lambda: p.store.leases.claim(worker=WORKER, device="cpu", models=[MODEL])


async def submit_inline(p: Place) -> Call:
    """The same input comes."""
    return lambda: p.of_callers(1, size=QueueSettings().inline_input_bytes)


async def prune(p: Place) -> Call:
    await p.ended(200)
    return p.store.overdue.prune


async def purge(p: Place) -> Call:
    """The tasks are leaders and followers of full groups."""
    await p.groups()
    return lambda: p.store.queues.purge(TENANT, MODEL, PRIORITIES, limit=10**6)


async def read(p: Place) -> Call:
    await p.of_callers(100)
    ids = await p.tasks(1)
    return lambda: p.store.tasks.get(ids[0], TENANT)


async def reclaim(p: Place) -> Call:
    """The tasks are leaders of full groups, and their worker has died once too often."""
    await p.groups()
    for lease in await p.claims(GROUPS):
        await _with_progress(p, lease)
    await p.store.overdue.reclaim("nobody")
    await asyncio.sleep(0.01)
    return lambda: p.store.overdue.reclaim(WORKER)


async def reclaim_after_the_clock(p: Place) -> Call:
    """The clock was set back while many endpoints are owed events."""
    await _owe(p, 1000)
    seconds, _ = await p.client.time()
    await p.client.set(f"{p.keys.root}reaper", (seconds + 3600) * 1000)
    return p.store.overdue.reclaim


async def redeliver(p: Place) -> Call:
    (task_id,) = await p.ended(1)
    return lambda: p.outbox.redeliver(task_id, TENANT)


async def regroup(p: Place) -> Call:
    """All groups wait for leaders that are paused."""
    for n in range(4):
        digest = f"digest-{n:022d}"
        await p.tasks(1, digest=digest, priority=Priority.HIGH)
        await p.tasks(MAX_FOLLOWERS, digest=digest)
    return lambda: p.store.queues.pause(MODEL, [Priority.HIGH], by="x")


async def renew(p: Place) -> Call:
    """The worker has as many slots as a worker may have."""
    await p.tasks(256)
    leases = await p.claims(256)
    return lambda: p.store.leases.renew(INFO, leases)


async def result_lost(p: Place) -> Call:
    await p.groups()
    (lease,) = await p.claims(1)
    await p.store.leases.complete(lease, Outcome())
    return lambda: p.store.tasks.result_lost(lease.id)


async def resubmit(p: Place) -> Call:
    (task_id,) = await p.ended(1)
    return lambda: p.store.tasks.resubmit(task_id, TENANT)


async def put_away(p: Place) -> Call:
    """The batch has everything that a batch can have."""
    lease = await p.batch()
    await p.write(f"batch:{lease.id}", "total", "damaged")
    return lambda: p.batches.batches(TENANT)


async def retract(p: Place) -> Call:
    version = Model(name="many", version="1", digest="d", versioned=True)
    await p.store.models.publish([version], worker=WORKER)
    await p.store.models.set_default("many", "1")
    return lambda: p.store.models.retract([version.id])


async def key_put(p: Place) -> Call:
    """The key is replaced by another one."""
    (_, old), (_, new) = new_access_key(), new_access_key()
    key = AccessKey(
        id=old.id, digest=old.digest.hex(), tenant=TENANT, name=CALLER, scopes=SCOPES, created=0, created_by=CALLER
    )
    await p.store.access_keys.create(key)
    return lambda: p.store.access_keys.rotate(old.id, new, by=CALLER, at=1, overlap_ms=1)


async def quotas_put(p: Place) -> Call:
    return lambda: p.store.quotas.put(TENANT, dict.fromkeys(QUOTAS, 1))


async def request(p: Place) -> Call:
    """None of the requests of a full minute counts any longer."""
    quota = 10_000
    await p.client.zadd(p.keys.of_root(f"requests:{TENANT}"), {f"{n:08}": n for n in range(quota)})
    return lambda: p.store.quotas.count_request(TENANT, quota=quota)


async def write(p: Place) -> Call:
    """Every managed key was used since the last look."""
    times = {f"{number:012}": number for number in range(MAX_KEYS)}
    return lambda: p.store.access_keys.used(times)


async def set_aside(p: Place) -> Call:
    """The task leads a full group and runs: another task of the group has to lead."""
    await p.groups(1)
    lease = await p.claim()
    await p.write(f"task:{lease.id}", "ttl_s", "damaged")
    return lambda: p.store.tasks.get(lease.id, TENANT)


async def settle(p: Place) -> Call:
    """The result answers a full group."""
    await p.groups(1)
    lease = await p.claim()
    await _with_progress(p, lease)
    return lambda: p.store.leases.complete(lease, Outcome(execution={"device_ms": 1.0}))


async def settle_at_cap(p: Place) -> Call:
    """A full group needs another leader, and its tenant waits at its cap wherever it can."""
    await p.store.caps.set({TENANT: 1})
    await p.groups(1)
    lease = await p.claim()
    await _with_progress(p, lease)
    await _park(p, TENANT)
    return lambda: p.store.leases.fail(lease, Outcome(error=PROBLEM))


async def settle_with_log(p: Place) -> Call:
    """The log of the attempt and that of the earlier ones are as long as they may be."""
    await p.groups(1)
    lease = await p.claim()
    await p.client.set(p.keys.of_root(f"log:{lease.id}"), LONG_LOG)
    return lambda: p.store.leases.complete(lease, Outcome(execution={"device_ms": 1.0}), log=LONG_LOG)


async def settle_without_result(p: Place) -> Call:
    """A full group needs another leader."""
    await p.groups(1)
    lease = await p.claim()
    await _with_progress(p, lease)
    return lambda: p.store.leases.fail(lease, Outcome(error=PROBLEM))


async def submit(p: Place) -> Call:
    """The task has a higher priority and takes the lead of a full group; many pools have its model, and many callers
    wait."""
    await p.pools(100)
    await p.of_callers(100, Priority.HIGH)
    await p.groups(1, size=MAX_FOLLOWERS - 1)
    return lambda: p.tasks(1, digest=f"digest-{0:022d}", priority=Priority.HIGH)


async def tenants_tidy(p: Place) -> Call:
    """Looks at many tenants of which nothing is left."""
    await p.store.engine.pipelined([("SADD", p.keys.tenants, *(f"tenant-{n}" for n in range(1000)))])
    return p.store.tenants.tidy


async def tidy(p: Place) -> Call:
    """Many drained workers are gone, half of all pools have no worker, and the others have served many callers long
    ago."""
    await p.client.zadd(p.keys.drained, {f"gone-{n}": 1.0 for n in range(1000)})
    await p.pools(100)
    pools = await p.pool_names()
    await p.client.zadd(f"{p.keys.root}pools:seen", dict.fromkeys(pools[::2], 1.0))
    for pool in pools:
        for priority in PRIORITIES:
            callers = [part for n in range(200) for part in (f"f:{priority}:caller-{n}", 0)]
            await p.write(f"pool:{pool}", f"v:{priority}", 10**9, *callers)
    rounds = [part for n in range(1000) for part in (f"round:gone-{n}", "1 0")]
    await p.write("board", *rounds)
    return p.store.overdue.prune


async def unpark(p: Place) -> Call:
    """Many tenants wait at caps that are no more, wherever they can."""
    await p.pools(100)
    for n in range(20):
        await _park(p, f"tenant-{n}")
    return p.store.caps.review


async def upload_arrive(p: Place) -> Call:
    return p.upload


async def upload_due(p: Place) -> Call:
    for _ in range(300):
        await p.upload()
    await asyncio.sleep(0.01)
    return p.uploads.due


async def upload_forget(p: Place) -> Call:
    for _ in range(300):
        await p.upload()
    await asyncio.sleep(0.01)
    due = await p.uploads.due()
    return lambda: p.uploads.forget(due)


async def upload_hold(p: Place) -> Call:
    upload_id = await p.upload()
    return lambda: p.uploads.hold(upload_id, 60, sha256="0" * 64)


async def upload_open(p: Place) -> Call:
    return p.upload


async def upload_retire(p: Place) -> Call:
    upload_id = await p.upload()
    return lambda: p.uploads.retire(upload_id, tenant=TENANT, caller=CALLER)


async def watch(p: Place) -> Call:
    """A server connects again that has all event streams it may."""
    ids = await p.tasks(WATCHED_TOGETHER)
    return lambda: p.store.tasks.watch(ids)


async def account_read(p: Place) -> Call:
    await _used_long_ago(p, 300)
    return lambda: p.store.accounts.held([f"t{number}" for number in range(300)])


async def usage_prune(p: Place) -> Call:
    """Many tenants have used something long ago, and nothing since."""
    await _used_long_ago(p, 300)
    return p.store.accounts.prune


async def usage_read(p: Place) -> Call:
    await _used_long_ago(p, 300)
    return lambda: p.store.accounts.usage_of_all(EPOCH, EPOCH, most=1000)


async def _used_long_ago(p: Place, tenants: int) -> None:
    for number in range(tenants):
        account = p.client.hset(p.keys.account(f"t{number}"), mapping={"day": 0, "submitted": 1})
        await cast(Awaitable[int], account)
        await p.client.zadd(p.keys.usage, {f"0 t{number}": 0})


async def _settled_groups(p: Place) -> None:
    """Makes groups whose leaders have results, and in which as many tasks as possible still wait for theirs."""
    await p.groups()
    for lease in await p.claims(GROUPS):
        await p.store.leases.complete(lease, Outcome())


async def _with_progress(p: Place, lease: Lease) -> None:
    """Adds a stream of events that follows the task."""
    await p.store.leases.progress(lease, "infer", Progress(done=1, total=2))


async def _park(p: Place, tenant: str) -> None:
    """Makes as many pools as there may be, in each class of which this tenant waits at its cap."""
    await p.pools(100)
    for pool in await p.pool_names():
        for priority in PRIORITIES:
            await p.client.zadd(f"{p.keys.root}flows:{pool}:{priority}", {tenant: float("inf")})
            await p.client.zadd(f"{p.keys.root}parked", {f"{tenant} {pool}:{priority}": 0.0})


async def _owe(p: Place, endpoints: int) -> None:
    """Owes each of this many endpoints two events; half of the endpoints are prompt."""
    ids = await p.tasks(2 * endpoints)
    for task_id in ids[::2]:
        await p.store.tasks.cancel(task_id, TENANT)
    await _all_are_prompt(p)
    for task_id in ids[1::2]:
        await p.store.tasks.cancel(task_id, TENANT)


async def _all_are_prompt(p: Place) -> None:
    lane = await p.client.zrange(f"{p.keys.root}outbox", 0, -1, withscores=True)
    if lane:
        await p.client.zadd(f"{p.keys.root}outbox-prompt", dict(lane))
        await p.client.zadd(f"{p.keys.root}prompt", dict.fromkeys((name for name, _ in lane), 9e12))
        await p.client.delete(f"{p.keys.root}outbox")


async def _ended_batch(p: Place) -> FeedLease:
    feeding = await p.batch(lines=3)
    await p.batches.skip(feeding, 0, 3, State.FAILED, "internal")
    await p.write(f"events:{feeding.id}", "n", MANY_EVENTS)
    return feeding


CASES: dict[str, Sequence[Callable[[Place], Awaitable[Call]]]] = {
    "account_read": [account_read],
    "ahead": [ahead],
    "answer": [answer],
    "await": [await_],
    "batch_cancel": [batch_cancel],
    "batch_delete": [batch_delete],
    "batch_grow": [batch_grow],
    "batch_keep": [batch_keep],
    "batch_lease": [batch_lease],
    "batch_open": [batch_open],
    "batch_prune": [batch_prune],
    "batch_read": [batch_read],
    "batch_rest": [batch_rest],
    "batch_skip": [batch_skip],
    "batch_start": [batch_start],
    "buried": [buried],
    "cancel": [cancel],
    "caps": [caps],
    "claim": [claim, claim_at_caps, claim_of_nobodys, claim_inline],
    "claim_late": [claim],
    "condemned": [condemned],
    "convert_board": [convert_board],
    "convert_tasks": [convert_tasks],
    "delete": [delete],
    "deliver": [deliver],
    "delivered": [delivered],
    "depth": [depth],
    "shares": [shares],
    "release_unknown": [release_unknown],
    "doubt": [doubt],
    "drain": [drain],
    "expire": [expire],
    "explain": [explain],
    "inline_due": [inline_due],
    "inline_moved": [inline_moved],
    "key_put": [key_put],
    "log": [log],
    "overrun": [overrun],
    "pause": [pause],
    "ping": [ping],
    "progress": [progress],
    "prune": [prune],
    "purge": [purge],
    "put_away": [put_away],
    "read": [read],
    "reclaim": [reclaim, reclaim_after_the_clock],
    "redeliver": [redeliver],
    "regroup": [regroup],
    "renew": [renew],
    "quotas_put": [quotas_put],
    "request": [request],
    "result_lost": [result_lost],
    "resubmit": [resubmit],
    "retract": [retract],
    "set_aside": [set_aside],
    "settle": [settle, settle_at_cap, settle_with_log, settle_without_result],
    "submit": [submit, submit_inline],
    "tenants_tidy": [tenants_tidy],
    "tidy": [tidy],
    "unpark": [unpark],
    "upload_arrive": [upload_arrive],
    "upload_due": [upload_due],
    "upload_forget": [upload_forget],
    "upload_hold": [upload_hold],
    "upload_open": [upload_open],
    "usage_prune": [usage_prune],
    "usage_read": [usage_read],
    "upload_retire": [upload_retire],
    "watch": [watch],
    "write": [write],
}
"""A test compares them with the scripts that there are."""


# --- measuring ------------------------------------------------------------------------------------------------


async def commands_of(place: Place, socket: str, script: str) -> int:
    """Returns the most commands that one call of this script runs in its worst cases."""
    counts: list[int] = []
    for case in CASES[script]:
        await place.client.flushdb()
        call = await case(place)
        with monitoring(socket) as monitor:
            await call()
            counts += calls_of((await place.script(script)).sha, monitor.since())
    assert counts, f"the case of {script} does not run it"
    return max(counts)


async def ms_of(place: Place, script: str) -> float:
    """Returns the longest time of one call of this script in its worst cases, in ms by the clock of Redis."""
    times: list[int] = []
    for case in CASES[script]:
        await place.client.flushdb()
        call = await case(place)
        await place.client.config_set("slowlog-max-len", 100_000)
        await place.client.config_set("slowlog-log-slower-than", 0)
        await place.client.slowlog_reset()
        await call()
        await place.client.config_set("slowlog-log-slower-than", -1)
        known = b"EVALSHA " + (await place.script(script)).sha.encode()
        times += [
            row["duration"] for row in await place.client.slowlog_get(100_000) if row["command"].startswith(known)
        ]
    return max(times) / 1000


def calls_of(sha: str, commands: Sequence[Command]) -> list[int]:
    """Returns the number of commands of each call of this script."""
    counts: list[int] = []
    is_it = False
    for command in commands:
        if not command.is_of_script:
            is_it = command.name == "evalsha" and command.words[0] == sha.encode()
            counts += [0] * is_it
        elif is_it:
            counts[-1] += 1
    return counts


@asynccontextmanager
async def open_place(socket: str) -> AsyncIterator[Place]:
    """Opens a place on a server that nothing else uses."""
    async with connect(RedisSettings(url=f"unix://{socket}", timeout_s=60)) as client:
        place = Place(client)
        for script in CASES:
            await client.script_load((await place.script(script)).script)
        yield place


def main() -> None:
    """Runs the measurements and prints the table."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="script-times-") as directory:
        costs = uvloop.run(_measure(Path(directory), options))
    table = Table(title="The worst case of each script", title_justify="left", box=None, pad_edge=False)
    for name in ("script", "commands", "ms"):
        table.add_column(name, justify="left" if name == "script" else "right")
    for cost in sorted(costs, key=lambda cost: -cost.ms):
        table.add_row(cost.script, str(cost.commands), f"{cost.ms:.2f}")
    Console(width=100).print(table)


async def _measure(directory: Path, options: argparse.Namespace) -> list[Cost]:
    with redis_server.on_socket(directory, options.server) as socket:
        async with open_place(socket) as place:
            return [
                Cost(
                    script,
                    await commands_of(place, socket, script),
                    max([await ms_of(place, script) for _ in range(options.rounds)]),
                )
                for script in options.only or CASES
            ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), help="scripts, separated by commas [all]")
    parser.add_argument("--rounds", type=int, default=3, help="the table shows the slowest of this many rounds [3]")
    parser.add_argument("--server", type=Path, help="binary of another Redis or Valkey")
    return parser.parse_args()


if __name__ == "__main__":
    main()

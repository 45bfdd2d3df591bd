"""What a tenant holds and uses is counted exactly, whatever happens to its tasks, batches and uploads."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from msgspec.structs import replace

from penstock.core.batch import FeedLease, task_id_of
from penstock.core.lease import Lease
from penstock.core.submission import EnqueuePermit, Forecast, Submission
from penstock.core.task import Artifact, ErrorRecord, Outcome, Progress, Result, Stage, State
from penstock.settings import QueueSettings, RedisSettings
from penstock.store import Engine, Holdings, Redis, Store, Usage, connect
from penstock.store.keys import Keys
from tests.support.accounts import TASK_BYTES, check_accounts
from tests.support.moved_clock import AHEAD, KEY, ByMovedClock, moved_clock
from tests.support.queue_snapshot import take_snapshot
from tests.support.stores import lease_of, open_batch, open_upload, own_input, submission

NOTHING = Holdings(tasks_waiting=0, tasks_running=0, redis_bytes=0, storage_bytes=0, reserved_ms=0, used_ms_today=0)
FILE = Artifact(name="result.png", s3_key="k", size=1000, sha256="", content_type="image/png")
DONE = Outcome(result=Result(artifacts=(FILE,)), execution={"device_ms": 12.5})
BROKEN = ErrorRecord(code="image_decode_failed", message="the image is damaged", retryable=False)
DAY_US = 86_400_000_000


@dataclass
class Place:
    """A store with the connection that it uses."""

    store: Store
    redis: Redis
    keys: Keys

    async def check(self) -> Holdings:
        """Checks the accounts against everything there is, and returns what the one tenant holds."""
        check_accounts(await take_snapshot(self.redis, self.store.namespace))
        return (await self.store.accounts.held(["default"]))[0]

    async def holds(self) -> Holdings:
        """Returns what is held, without the device time of today."""
        return replace(await self.check(), used_ms_today=0)

    async def used(self) -> Usage:
        """Returns what the one tenant has used today."""
        today = await self.store.accounts.today()
        rows = await self.store.accounts.usage_of("default", today, today)
        return rows[0].usage if rows else Usage()

    async def submit(self, made: Submission) -> str:
        tasks = self.store.tasks
        submitted = await tasks.submit_unstored(made, rate_limit=0)
        return (submitted or await tasks.submit(made, rate_limit=0)).id

    async def run(self, outcome: Outcome = DONE) -> Lease:
        """Runs the next task to a success."""
        lease = await lease_of(self.store)
        assert await self.store.leases.complete(lease, outcome)
        return lease

    async def delete_all(self) -> None:
        """Cancels what waits or runs, and forgets every task."""
        for task_id in (await take_snapshot(self.redis, self.store.namespace)).records:
            task = await self.store.tasks.get(task_id, "default")
            if not task.state.is_final:
                await self.store.tasks.cancel(task_id, "default")
            await self.store.tasks.delete(task_id, "default")


@pytest.fixture
async def place(redis_url: str, namespace: str) -> AsyncIterator[Place]:
    async with connect(RedisSettings(url=redis_url, namespace=namespace)) as client:
        store = Store(Engine(client, namespace, QueueSettings(max_crashes=2)))
        yield Place(store, client, Keys(namespace))


def stored(**options: object) -> Submission:
    """Returns a submission with an input of 100 bytes in the storage, and the forecast of a second."""
    made = own_input(submission(**options))  # type: ignore[arg-type]
    return replace(made, forecast=Forecast(ahead_ms=10.0, own_ms=999.5))


async def test_a_waiting_task_holds_its_record_its_input_and_its_expected_time(place: Place) -> None:
    task_id = await place.submit(stored())

    held = await place.check()

    body = await place.redis.get(place.keys.body(task_id))
    assert held == Holdings(
        tasks_waiting=1,
        tasks_running=0,
        redis_bytes=TASK_BYTES + len(body),
        storage_bytes=100,
        reserved_ms=1000,
        used_ms_today=0,
    )
    assert (await place.used()).bytes_in == len(body) + 100


async def test_a_task_that_has_ended_holds_its_result_and_no_time(place: Place) -> None:
    await place.submit(stored())
    await place.run()

    held = await place.check()

    assert (held.tasks_waiting, held.storage_bytes, held.reserved_ms) == (0, 1100, 0)


async def test_nothing_is_held_when_every_task_was_deleted(place: Place) -> None:
    upload = await open_upload(place.store.uploads, size=77)
    await place.store.uploads.arrive(upload)
    for made in (stored(), stored(reuse_digest="cat"), stored(reuse_digest="cat"), submission(uploads=[upload])):
        await place.submit(made)
    for _ in range(2):
        await place.run()
    assert (await place.check()).storage_bytes == 100 + 100 + 100 + 77 + 2 * 1000
    await place.submit(stored(reuse_digest="cat"))

    await place.delete_all()

    held = await place.holds()
    assert replace(held, redis_bytes=0) == replace(NOTHING, storage_bytes=77), "but for the upload"


async def test_the_files_of_a_result_are_held_once_until_the_last_task_that_shows_them_is_deleted(
    place: Place,
) -> None:
    ran = await place.submit(submission(reuse_digest="cat"))
    follower = await place.submit(submission(reuse_digest="cat"))
    await place.run()
    hit = await place.submit(submission(reuse_digest="cat"))
    assert (await place.check()).storage_bytes == 1000

    await place.store.tasks.delete(ran, "default")
    await place.store.tasks.delete(hit, "default")

    assert (await place.check()).storage_bytes == 1000
    await place.store.tasks.delete(follower, "default")
    assert await place.holds() == NOTHING


async def test_a_task_that_was_tried_again_and_run_again_is_counted_right(place: Place) -> None:
    task_id = await place.submit(stored())
    lease = await lease_of(place.store)
    await place.store.leases.retry(lease, BROKEN, delay_ms=1, device_ms=2.25, log=b"a line\n")
    await place.store.tasks.cancel(task_id, "default")
    await place.store.tasks.resubmit(task_id, "default")
    lease = await lease_of(place.store)
    await place.store.leases.fail(lease, Outcome(error=BROKEN, execution={"device_ms": 0.5}), log=b"another\n")
    await place.check()
    await place.store.tasks.resubmit(task_id, "default")
    assert (await place.check()).reserved_ms == 1000
    await place.run()

    used = await place.used()

    assert (used.submitted, used.success, used.failed, used.canceled) == (3, 1, 1, 1)
    assert used.device_ms == pytest.approx(2.25 + 0.5 + 12.5)
    await place.store.tasks.delete(task_id, "default")
    assert await place.holds() == NOTHING


async def test_the_tasks_of_a_dead_worker_are_counted_right(place: Place) -> None:
    await place.submit(stored())
    for _ in range(2):
        await lease_of(place.store)
        await place.store.overdue.reclaim("w1")
        await place.check()

    assert (await place.used()).failed == 1
    await place.delete_all()
    assert await place.holds() == NOTHING


@pytest.mark.parametrize("end", ["cancel", "reclaim"])
@pytest.mark.parametrize(
    ("stage", "progress", "took_ms", "billed_ms"),
    [
        ("load", None, None, 0.0),
        ("infer", None, None, 0.0),
        ("infer", None, 0.0, 1000.0),
        ("infer", Progress(done=4, total=20), 8000.0, 10_000.0),
        ("infer", Progress(done=20, total=20), 40_000.0, 40_000.0),
        ("postprocess", None, 40_000.0, 40_000.0),
    ],
)
async def test_an_attempt_that_is_ended_without_its_worker_is_billed_what_its_tiles_had_taken(
    place: Place, end: str, stage: Stage, progress: Progress | None, took_ms: float | None, billed_ms: float
) -> None:
    task_id = await place.submit(stored())
    lease = await lease_of(place.store)
    assert await place.store.leases.progress(lease, stage, progress, took_ms=took_ms)

    if end == "cancel":
        await place.store.tasks.cancel(task_id, "default")
    else:
        await place.store.overdue.reclaim("w1")

    assert (await place.used()).device_ms == pytest.approx(billed_ms)


async def test_what_an_earlier_attempt_took_is_not_billed_again(place: Place) -> None:
    task_id = await place.submit(stored())
    first = await lease_of(place.store)
    await place.store.leases.progress(first, "infer", Progress(done=4, total=4), took_ms=500.0)
    await place.store.leases.release(first, device_ms=500.0)
    second = await lease_of(place.store)
    await place.store.leases.progress(second, "prepare")
    await place.store.tasks.cancel(task_id, "default")

    assert (await place.used()).device_ms == pytest.approx(500)


async def test_a_task_whose_record_was_damaged_is_taken_off_as_it_was_counted(place: Place) -> None:
    task_id = await place.submit(stored())
    await place.redis.hset(place.keys.task(task_id), "cost", b"garbage")

    assert (await place.store.tasks.get(task_id, "default")).state is State.FAILED

    assert (await place.used()).failed == 1
    await place.store.tasks.delete(task_id, "default")
    assert await place.holds() == NOTHING


@pytest.mark.parametrize("damage", ["no held", "another held", "a string", "nothing"])
async def test_what_is_counted_for_a_record_that_does_not_say_it_is_found_again(place: Place, damage: str) -> None:
    task_id = await place.submit(replace(submission(), forecast=Forecast(ahead_ms=1, own_ms=999)))
    await lease_of(place.store)
    await place.store.overdue.reclaim("w1")
    key = place.keys.task(task_id)
    match damage:
        case "no held":
            await place.redis.hdel(key, "held", "cost")
        case "another held":
            await place.redis.hset(key, "held", b"much")
        case _:
            await place.redis.delete(key)
    if damage == "a string":
        await place.redis.set(key, b"text")

    assert await place.store.engine.salvage.examine([task_id]) == [task_id]

    await place.store.tasks.delete(task_id, "default")
    (held,) = await place.store.accounts.held(["default"])
    assert replace(held, reserved_ms=0, used_ms_today=0) == NOTHING
    await place.store.tenants.tidy()
    assert await place.holds() == NOTHING


async def test_device_time_stays_reserved_while_a_task_has_not_ended(place: Place) -> None:
    await place.submit(stored())

    await place.store.tenants.tidy()

    assert (await place.check()).reserved_ms == 1000


async def test_the_lines_of_a_batch_are_counted_as_tasks_beside_the_batch(place: Place) -> None:
    batches = place.store.batches
    batch_id = await open_batch(batches, lines=2, is_started=False)
    await batches.grow(batch_id, 1, 300)
    await batches.grow(batch_id, 1, 300)
    await batches.grow(batch_id, 2, 500)
    assert (await place.check()).storage_bytes == 500
    await place.store.batches.delete(batch_id, "default")
    assert await place.holds() == NOTHING
    batch_id = await open_batch(batches, lines=2)
    (lease,), _ = await batches.lease(lease_s=60, most=1)
    await _feed(place, lease)
    assert (await place.check()).tasks_waiting == 2

    await place.delete_all()
    await batches.delete(batch_id, "default")

    assert await place.holds() == NOTHING


async def _feed(place: Place, lease: FeedLease) -> None:
    for line in range(2):
        permit = EnqueuePermit(batch=lease.id, epoch=lease.epoch, place=line, window=9, lease_ms=60_000)
        await place.submit(replace(submission(), id=task_id_of(lease.id, line), permit=permit))


async def test_an_upload_is_held_until_its_record_is_deleted(place: Place) -> None:
    upload = await open_upload(place.store.uploads, size=77, url_ttl_s=0)
    await place.store.uploads.arrive(upload)
    await place.store.uploads.arrive(upload)
    assert ((await place.check()).storage_bytes, (await place.used()).bytes_in) == (77, 77)

    await place.store.uploads.retire(upload, tenant="default", caller="alice")
    await place.store.uploads.forget(await place.store.uploads.due())

    assert await place.holds() == NOTHING


@pytest.mark.parametrize("kind", ["batch", "upload"])
async def test_a_batch_or_an_upload_whose_record_was_damaged_is_taken_off(place: Place, kind: str) -> None:
    batch, upload = await open_batch(place.store.batches, lines=3), await open_upload(place.store.uploads)
    damaged, left = (batch, upload) if kind == "batch" else (upload, batch)
    key, field = (place.keys.batch(batch), "fed") if kind == "batch" else (place.keys.upload(upload), "created")
    await place.redis.hset(key, field, b"garbage")

    assert await place.store.engine.salvage.examine([damaged, left]) == [damaged]

    await place.check()


async def test_a_damaged_account_stops_no_task(place: Place) -> None:
    await place.redis.set(place.keys.account("default"), b"text")

    await place.submit(stored())

    assert (await place.check()).storage_bytes == 100


@pytest.mark.parametrize("damage", [b"\xff\x00", b"inf", b"nan", b"1e300", b""])
async def test_a_damaged_number_of_an_account_stops_nobody(place: Place, damage: bytes) -> None:
    for name in ("storage", "device_ms", "submitted", "day"):
        await place.redis.hset(place.keys.account("default"), name, damage)
    assert (await place.store.accounts.held(["default"]))[0].storage_bytes == 0

    await place.submit(stored())

    assert await place.holds() == replace(await place.holds(), tasks_waiting=1, storage_bytes=100)
    assert (await place.used()).submitted == 1


async def test_a_repeated_submit_is_counted_once(place: Place) -> None:
    made = stored(client_request_id="one")
    for one in (made, made, replace(made, id=made.id[:-1] + "f")):
        await place.submit(one)

    assert (await place.used()).submitted == 1
    await place.check()


async def test_what_was_used_is_kept_by_day_and_forgotten_after_its_time(redis_url: str, namespace: str) -> None:
    with moved_clock(AHEAD):
        async with connect(RedisSettings(url=redis_url, namespace=namespace)) as client:
            store = Store(ByMovedClock(client, namespace, QueueSettings(usage_days=10)))
            place = Place(store, client, Keys(namespace))
            try:
                await _use_days(place)
            finally:
                await client.delete(KEY)


async def _use_days(place: Place) -> None:
    accounts = place.store.accounts
    first = await accounts.today()
    await place.store.overdue.reclaim()
    await place.submit(submission())
    await place.submit(submission(caller="bob"))
    await place.redis.set(KEY, DAY_US)
    await place.submit(submission())
    await place.redis.set(KEY, 0)  # the clock was wrong, and is set right
    await place.submit(submission())
    await place.redis.set(KEY, 2 * DAY_US)
    await place.submit(submission())

    last = await accounts.today()
    rows = await accounts.usage_of("default", first, last)
    assert [(row.day - first, row.usage.submitted) for row in rows] == [
        (timedelta(0), 3), (timedelta(1), 1), (timedelta(2), 1),
    ]  # fmt: skip
    assert await accounts.usage_of_all(first, last, most=3) == rows
    assert await accounts.usage_of_all(first, last, most=2) is None
    await place.check()

    await place.redis.set(KEY, 12 * DAY_US)
    await place.store.overdue.reclaim()
    assert await accounts.prune() == 0, "the clock has jumped"
    await place.redis.delete(place.keys.of_root("grace"))
    assert await accounts.prune() == 2
    assert [row.day for row in await accounts.usage_of("default", first, last)] == [last]


async def test_an_account_is_deleted_when_nothing_is_held_and_its_use_is_forgotten(
    redis_url: str, namespace: str
) -> None:
    with moved_clock(AHEAD):
        async with connect(RedisSettings(url=redis_url, namespace=namespace)) as client:
            place = Place(Store(ByMovedClock(client, namespace, QueueSettings(usage_days=1))), client, Keys(namespace))
            try:
                await place.submit(submission())
                await place.delete_all()
                await client.set(KEY, 3 * DAY_US)
                assert await place.store.accounts.prune() == 1
                assert not await client.exists(place.keys.account("default"), place.keys.usage)
            finally:
                await client.delete(KEY)

"""One attempt around a real pipeline: how what a runner returns ends a task, and what becomes of its file."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loguru import logger
from msgspec.structs import replace

import penstock.models.superres  # noqa: F401  registers its model
from penstock.core.lease import Lease, RetryPolicy
from penstock.core.request import OutputOptions, Source
from penstock.core.task import Outcome, State, Task
from penstock.models.digests import results_digest
from penstock.models.registry import registry
from penstock.pixels.decoding import UNBOUNDED, decode
from penstock.pixels.picture import PixelForm
from penstock.settings import QueueSettings, Settings, StorageSettings
from penstock.storage import LocalStorage, Storage, open_storage
from penstock.store import Engine, LeaseStore, Shards, Store, connect
from penstock.worker.attempt import Attempts
from penstock.worker.pipeline import Watcher
from tests.chaos.models import MODEL, result_of
from tests.pixels.pngs import png
from tests.support.drive import image
from tests.support.memory_storage import MemoryStorage
from tests.support.slow_model import MODEL as SLOW
from tests.support.slow_model import WRONG
from tests.support.stores import submission
from tests.support.workers import pipeline


class Unheard(LeaseStore):
    """Settles, and the answer never comes."""

    async def complete(self, lease: Lease, outcome: Outcome, *, log: bytes = b"") -> int | None:
        await super().complete(lease, outcome)
        await asyncio.Event().wait()
        raise AssertionError("nobody answers")


class HeardLate(LeaseStore):
    """Settles, and loses the answer; before it asks again, other callers do something."""

    async def meanwhile(self, lease: Lease) -> None:
        """What they do."""
        raise NotImplementedError

    async def complete(self, lease: Lease, outcome: Outcome, *, log: bytes = b"") -> int | None:
        assert await super().complete(lease, outcome)
        await self.meanwhile(lease)
        return await super().complete(lease, outcome)


class Refused(LeaseStore):
    """Settles too late: the lease is another's by then."""

    async def complete(self, lease: Lease, outcome: Outcome, *, log: bytes = b"") -> int | None:
        return await super().complete(replace(lease, fence="another"), outcome)


@asynccontextmanager
async def attempts(store: Store, storage: Storage, model: str = MODEL) -> AsyncIterator[Attempts]:
    async with pipeline(storage, model) as running:
        yield Attempts(Shards([store]), running, RetryPolicy(base_s=1, cap_s=1))


def stored_in(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


async def lease_in(store: Store, model: str = MODEL, *, digest: str | None = None, **members: Any) -> Lease:
    asked = submission(model=model, reuse_digest=digest)
    request = replace(
        asked.request, **{"inputs": {"image": Source(data=image())}, "params": {"ms": 1, "nonce": "n"}} | members
    )
    sent = replace(asked, request=request)
    if sent.own_input:
        await store.tasks.await_inputs([sent.own_input])
    await store.tasks.submit(sent, rate_limit=0)
    lease = (await store.leases.claim(worker="w1", device="cpu", models=[model])).lease
    assert lease is not None
    return lease


def run(to: Attempts, lease: Lease, watch: Watcher = lambda stage, progress: None) -> asyncio.Task[None]:
    async def at_once() -> None:
        """Nothing else runs here."""

    return asyncio.create_task(to.run(lease, watch, until_free=at_once, is_stopped=lambda: False))


async def test_a_file_stays_when_its_worker_has_to_stop_without_an_answer(
    settings: Settings, redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task is settled, but the worker cannot know."""
    monkeypatch.setattr("penstock.worker.attempt.FINAL_WRITE_S", 0.1)
    storage = LocalStorage(tmp_path)
    async with connect(settings.redis) as client:
        store = Store(Engine(client, namespace, QueueSettings()))
        store.leases = Unheard(store.engine)
        async with attempts(store, storage) as running:
            lease = await lease_in(store)
            attempt = run(running, lease)
            while (await store.tasks.get(lease.id, lease.tenant)).state is not State.SUCCESS:
                await asyncio.sleep(0.01)
            attempt.cancel()
            await attempt
        task = await store.tasks.get(lease.id, lease.tenant)

    [path] = stored_in(tmp_path)
    assert task.state is State.SUCCESS
    assert path.read_bytes() == result_of("n")


async def test_a_file_goes_when_its_settling_is_refused(
    settings: Settings, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    async with connect(settings.redis) as client:
        store = Store(Engine(client, namespace, QueueSettings()))
        store.leases = Refused(store.engine)
        async with attempts(store, LocalStorage(tmp_path)) as running:
            lease = await lease_in(store)
            await run(running, lease)
        task = await store.tasks.get(lease.id, lease.tenant)

    assert task.state is State.RUNNING, "its lease will be reclaimed"
    assert not stored_in(tmp_path)


async def test_a_file_stays_for_equal_tasks_when_its_own_is_deleted_before_the_lost_answer_comes_again(
    store: Store, tmp_path: Path
) -> None:
    equal = submission(reuse_digest="same")

    class HeardAfterDelete(HeardLate):
        async def meanwhile(self, lease: Lease) -> None:
            assert (await store.tasks.submit(equal, rate_limit=0)).reuse == "hit"
            await store.tasks.delete(lease.id, lease.tenant)

    store.leases = HeardAfterDelete(store.engine)
    async with attempts(store, LocalStorage(tmp_path)) as running:
        await run(running, await lease_in(store, digest="same"))
    task = await store.tasks.get(equal.id, equal.tenant)

    assert task.outcome.result is not None
    [file] = task.outcome.result.artifacts
    assert (tmp_path / file.s3_key).read_bytes() == result_of("n")


async def test_st3_two_attempts_at_one_task_leave_the_files_of_the_one_that_counts(
    store: Store, s3_server: StorageSettings
) -> None:
    """The first worker comes back from the dead while the second one runs; both store in one bucket."""
    async with open_storage(s3_server, store.namespace) as storage, attempts(store, storage) as running:
        late = await lease_in(store)
        await store.overdue.reclaim("w1")
        current = (await store.leases.claim(worker="w2", device="cpu", models=[MODEL])).lease
        assert current is not None
        await asyncio.gather(run(running, late), run(running, current))
        await run(running, late)  # and once more, when all is over
        task = await store.tasks.get(current.id, current.tenant)
        stored = {one.key: await storage.get(one.key) async for one in storage.list("results/")}
        await storage.clear("results/")

    assert task.outcome.result is not None
    (file,) = task.outcome.result.artifacts
    assert current.token in file.s3_key
    assert late.token not in file.s3_key
    assert stored == {file.s3_key: result_of("n")}


class Broken(LeaseStore):
    """Has a fault in its way to write a success."""

    async def complete(self, lease: Lease, outcome: Outcome, *, log: bytes = b"") -> int | None:
        raise TypeError("a fault of ours")


async def settled(store: Store, storage: LocalStorage, product: str) -> Task:
    """The task after its one attempt."""
    async with attempts(store, storage, SLOW) as running:
        lease = await lease_in(store, SLOW, params={"product": product})
        await run(running, lease)
    return await store.tasks.get(lease.id, lease.tenant)


@pytest.mark.parametrize("product", WRONG)
async def test_a_result_that_no_record_can_hold_ends_its_task_at_once_and_says_so(
    store: Store, tmp_path: Path, product: str
) -> None:
    task = await settled(store, LocalStorage(tmp_path), product)

    assert (task.state, task.outcome.error and task.outcome.error.code) == (State.FAILED, "model_result_invalid")
    assert [attempt.outcome for attempt in task.attempts] == ["fail"]
    assert not stored_in(tmp_path)


async def test_a_failed_attempt_is_one_line_of_the_log(store: Store, tmp_path: Path) -> None:
    told: list[Any] = []
    sink = logger.add(lambda message: told.append(message.record), level="INFO")
    try:
        await settled(store, LocalStorage(tmp_path), WRONG[0])
    finally:
        logger.remove(sink)

    (line,) = [line for line in told if "task_id" in line["extra"]]
    assert (line["level"].name, line["message"]) == ("WARNING", "attempt ended")
    assert (line["extra"]["outcome"], line["extra"]["code"]) == ("fail", "model_result_invalid")
    assert line["extra"]["detail"]


async def test_numbers_and_arrays_of_numpy_are_results(store: Store, tmp_path: Path) -> None:
    data = await settled(store, LocalStorage(tmp_path), "numpy")
    file = await settled(store, LocalStorage(tmp_path), "pixels of numpy")

    assert data.outcome.result is not None
    assert data.outcome.result.data == {"score": 0.5, "best": 3, "is_sure": True, "distribution": [0.25, 0.75]}
    assert file.outcome.result is not None
    assert file.outcome.result.first is not None
    assert (file.outcome.result.first.width, file.outcome.result.first.height) == (2, 1)
    assert [path.read_bytes() for path in stored_in(tmp_path)] == [b"x"]


async def test_all_files_of_a_result_are_stored_and_named_in_the_record(store: Store, tmp_path: Path) -> None:
    task = await settled(store, LocalStorage(tmp_path), "several files")

    result = task.outcome.result
    assert result is not None
    assert result.data == {"masks": 1}
    assert [(file.name, file.content_type, file.width) for file in result.artifacts] == [
        ("result.png", "image/png", None),
        ("mask.png", "image/png", 4),
        ("notes.txt", "text/plain", None),
    ]
    assert {(tmp_path / file.s3_key).read_bytes() for file in result.artifacts} == {b"picture", b"mask", b"a,b"}
    assert {file.sha256 for file in result.artifacts} == {
        hashlib.sha256(path.read_bytes()).hexdigest() for path in stored_in(tmp_path)
    }


async def test_the_first_of_named_files_stands_for_the_result(store: Store, tmp_path: Path) -> None:
    task = await settled(store, LocalStorage(tmp_path), "named files alone")

    result = task.outcome.result
    assert result is not None
    assert result.first is not None
    assert (result.first.name, len(stored_in(tmp_path))) == ("left.wav", 2)


async def test_all_files_go_when_their_settling_is_refused(
    settings: Settings, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    async with connect(settings.redis) as client:
        store = Store(Engine(client, namespace, QueueSettings()))
        store.leases = Refused(store.engine)
        await settled(store, LocalStorage(tmp_path), "several files")

    assert not stored_in(tmp_path)


async def test_the_files_that_a_dead_worker_left_behind_go_with_the_next_end(store: Store, tmp_path: Path) -> None:
    """It was killed between two of them: they have the token of its claim."""
    storage = LocalStorage(tmp_path)
    async with attempts(store, storage, SLOW) as running:
        lost = await lease_in(store, SLOW, params={"product": "several files"})
        await storage.put(f"results/default/{lost.id}/{lost.token}-mask.png", b"half", "image/png")
        await store.leases.release(lost)
        lease = (await store.leases.claim(worker="w1", device="cpu", models=[SLOW])).lease
        assert lease is not None
        await run(running, lease)
    task = await store.tasks.get(lease.id, lease.tenant)

    assert task.outcome.result is not None
    assert {str(path.relative_to(tmp_path)) for path in stored_in(tmp_path)} == {
        file.s3_key for file in task.outcome.result.artifacts
    }


async def test_the_parts_that_a_dead_worker_has_sent_go_with_the_next_end(store: Store) -> None:
    storage = MemoryStorage()
    async with attempts(store, storage, SLOW) as running:
        lost = await lease_in(store, SLOW, params={"product": "file"})
        writer = storage.writer(f"results/default/{lost.id}/{lost.token}.png", "image/png")
        await writer.write(b"x" * writer.part_bytes)
        await store.leases.release(lost)
        lease = (await store.leases.claim(worker="w1", device="cpu", models=[SLOW])).lease
        assert lease is not None
        await run(running, lease)

    assert storage.writers == []


async def test_an_end_that_cannot_be_written_by_a_fault_of_ours_fails_the_task_at_once(
    settings: Settings, namespace: str, tmp_path: Path
) -> None:
    async with connect(settings.redis) as client:
        store = Store(Engine(client, namespace, QueueSettings()))
        store.leases = Broken(store.engine)
        task = await settled(store, LocalStorage(tmp_path), "file")

    assert (task.state, task.outcome.error and task.outcome.error.code) == (State.FAILED, "internal")
    assert [attempt.outcome for attempt in task.attempts] == ["fail"]
    assert not stored_in(tmp_path)


async def test_a_format_that_cannot_hold_the_result_is_refused_before_the_device_is_used(
    settings: Settings, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """What is behind a URL is seen by a worker first."""
    stages: list[str] = []
    model = "superres-x4"
    async with connect(settings.redis) as client:
        store = Store(Engine(client, namespace, QueueSettings()))
        async with attempts(store, LocalStorage(tmp_path), model) as running:
            wide = Source(data=image(4096, 1))
            lease = await lease_in(store, model, inputs={"image": wide}, params={}, output=OutputOptions(format="webp"))
            await run(running, lease, lambda stage, progress: stages.append(stage))
        task = await store.tasks.get(lease.id, lease.tenant)

    assert (task.state, task.outcome.error and task.outcome.error.code) == (State.FAILED, "image_too_large")
    assert stages == ["fetch", "prepare"]


async def test_bytes_with_another_sha256_than_announced_are_not_run_and_answer_nobody(
    settings: Settings, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """Who waited for the result of such a task, having the right bytes, runs by himself."""
    storage = LocalStorage(tmp_path)
    right, wrong = image(8, 8), image(9, 9)
    await storage.put("uploads/default/upl_1", wrong, "image/png")
    announced = Source(key="uploads/default/upl_1", sha256=hashlib.sha256(right).hexdigest())
    stages: list[str] = []
    async with connect(settings.redis) as client:
        store = Store(Engine(client, namespace, QueueSettings()))
        async with attempts(store, storage) as running:
            lease = await lease_in(store, digest="same", inputs={"image": announced})
            follower = await store.tasks.submit(submission(model=MODEL, reuse_digest="same"), rate_limit=0)
            await run(running, lease, lambda stage, progress: stages.append(stage))
        failed = await store.tasks.get(lease.id, lease.tenant)
        own = (await store.leases.claim(worker="w1", device="cpu", models=[MODEL])).lease

    assert (failed.state, failed.outcome.error and failed.outcome.error.code) == (State.FAILED, "upload_mismatch")
    assert ([attempt.outcome for attempt in failed.attempts], stages) == (["fail"], ["fetch"])
    assert follower.reuse == "coalesced"
    assert own is not None
    assert own.id == follower.id


async def test_bytes_with_the_sha256_that_was_announced_are_run(
    settings: Settings, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    storage = LocalStorage(tmp_path)
    await storage.put("uploads/default/upl_1", image(), "image/png")
    announced = Source(key="uploads/default/upl_1", sha256=hashlib.sha256(image()).hexdigest())
    async with connect(settings.redis) as client:
        store = Store(Engine(client, namespace, QueueSettings()))
        async with attempts(store, storage) as running:
            lease = await lease_in(store, inputs={"image": announced})
            await run(running, lease)
        task = await store.tasks.get(lease.id, lease.tenant)

    assert task.state is State.SUCCESS


async def test_a_task_says_when_its_worker_had_other_files_than_it_was_submitted_for(
    settings: Settings, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    own = results_digest(registry()[MODEL])
    async with connect(settings.redis) as client:
        store = Store(Engine(client, namespace, QueueSettings()))
        async with attempts(store, LocalStorage(tmp_path)) as running:
            executions = []
            for digest in (own, "of an edited model"):
                sent = submission(model=MODEL)
                sources = {"image": Source(data=image())}
                request = replace(sent.request, inputs=sources, params={"ms": 1, "nonce": digest}, digest=digest)
                await store.tasks.submit(replace(sent, request=request), rate_limit=0)
                lease = (await store.leases.claim(worker="w1", device="cpu", models=[MODEL])).lease
                assert lease is not None
                await run(running, lease)
                executions.append((await store.tasks.get(lease.id, lease.tenant)).outcome.execution)

    assert [execution.get("model_digest") for execution in executions] == [None, own]


async def test_a_task_that_asks_for_sixteen_bits_gets_a_file_with_sixteen(
    settings: Settings, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    ramp = np.linspace(20_000, 24_000, 64).astype(np.uint16)[None, :, None].repeat(16, 0)
    deep = Source(data=png(ramp, 16))
    async with connect(settings.redis) as client:
        store = Store(Engine(client, namespace, QueueSettings()))
        async with attempts(store, LocalStorage(tmp_path), "superres-x4") as running:
            lease = await lease_in(
                store,
                "superres-x4",
                inputs={"image": deep},
                params={"variant": "clean"},
                output=OutputOptions(bits=16),
            )
            await run(running, lease)

    [path] = stored_in(tmp_path)
    made = decode(path.read_bytes(), UNBOUNDED, PixelForm(is_deep=True))
    assert made.grey
    assert len(np.unique(made.rgb)) > 256

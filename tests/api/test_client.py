"""The Python client against a real server; the part of a worker is played through the store."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import IO

import click
import pytest
from msgspec.structs import replace

from penstock import AsyncClient, Client, PenstockApiError
from penstock.cli.models.switching import loaded
from penstock.cli.top import overview
from penstock.cli.top.overview import Observer
from penstock.client import Mapped, Task
from penstock.client.transport import Transport
from penstock.core.model import Member, Model, Residence
from penstock.core.task import Outcome, Progress, State
from penstock.settings import RedisSettings, Settings, StorageSettings
from penstock.storage import Storage, open_storage
from penstock.store import Store, connect
from tests.support import api_server
from tests.support.drive import (
    MODEL,
    URL,
    WORKER,
    claim,
    complete,
    complete_with,
    data_uri,
    fail,
    image,
    stored_objects,
)
from tests.support.redis_server import RedisProcess

pytestmark = pytest.mark.shared_server


@pytest.fixture
async def penstock(server: str, api_key: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server, api_key, patience_s=20) as client:
        yield client


async def all_of(client: AsyncClient, status: Sequence[str] = ()) -> list[Task]:
    return [task async for task in client.list(status=status)]


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "url", "data"])
async def test_a_source_may_be(penstock: AsyncClient, store: Store, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "photo.png"
    file.write_bytes(image())
    sources = {"path": file, "text": str(file), "bytes": image(), "url": URL, "data": data_uri(image())}

    submitted = await penstock.submit(sources[kind], MODEL)

    source = (await store.tasks.get(submitted.task_id, "default")).request.inputs["image"]
    assert (source.url, source.data) == ((URL, None) if kind == "url" else (None, image()))


async def test_everything_that_may_be_said_of_a_task_arrives(penstock: AsyncClient) -> None:
    submitted = await penstock.submit(
        URL,
        MODEL,
        params={"variant": "clean"},
        output={"format": "webp", "lossless": True},
        priority="high",
        client_request_id="order-991",
        metadata={"order": "991"},
        start_within_s=60,
        finish_within_s=90,
        timeout_s=30,
        result_ttl_s=600,
        max_attempts=2,
        reuse=False,
    )
    again = await penstock.submit(URL, MODEL, client_request_id="order-992")
    task = await penstock.get(submitted.task_id)

    assert (task.priority, task.client_request_id, task.metadata) == ("high", "order-991", {"order": "991"})
    assert task.start_by is not None
    assert task.deadline is not None
    assert again.task_id != submitted.task_id


async def test_the_same_id_is_the_same_task(penstock: AsyncClient) -> None:
    first = await penstock.submit(URL, MODEL, client_request_id="order-991")
    second = await penstock.submit(URL, MODEL, client_request_id="order-991")

    assert (first.replayed, second.replayed) == (False, True)
    assert first.task_id == second.task_id


async def test_a_refusal_has_the_members_of_the_problem(penstock: AsyncClient) -> None:
    with pytest.raises(PenstockApiError) as refused:
        await penstock.submit(URL, MODEL, output={"format": "png", "quality": 0})

    error = refused.value
    assert (error.code, error.status, error.param) == ("invalid_request", 422, "output.quality")
    assert (error.retryable, bool(error.request_id)) == (False, True)


@pytest.mark.parametrize("task_id", ["tsk_nobody", "../models", "a/b?c#d"])
async def test_whatever_is_taken_for_an_id_stays_one(penstock: AsyncClient, task_id: str) -> None:
    with pytest.raises(PenstockApiError) as refused:
        await penstock.cancel(task_id)

    assert refused.value.status in (404, 405)


async def test_an_empty_id_never_stands_for_all_tasks(penstock: AsyncClient) -> None:
    with pytest.raises(ValueError, match="empty"):
        await penstock.cancel("")
    with pytest.raises(ValueError, match="empty"):
        await penstock.load_model("")


async def test_run_waits_for_the_end_and_the_result_becomes_a_file(
    penstock: AsyncClient, store: Store, storage: Storage, tmp_path: Path
) -> None:
    running = asyncio.create_task(penstock.run(image(), MODEL))
    while not await all_of(penstock):
        await asyncio.sleep(0.01)
    data = image(32, 24) * 1000
    await complete(store, storage, data)

    task = await asyncio.wait_for(running, 60)
    target = await penstock.download(task.task_id, tmp_path / "out.png")

    assert (task.succeeded, task.result and task.result.width) == (True, 32)
    assert target.read_bytes() == await penstock.result(task.task_id) == data
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["out.png"]


async def test_files_of_a_result_are_downloaded_alone_or_together(
    penstock: AsyncClient, store: Store, storage: Storage, tmp_path: Path
) -> None:
    submitted = await penstock.submit(URL, MODEL)
    with pytest.raises(PenstockApiError, match="result_not_ready"):
        await penstock.download_all(submitted.task_id, tmp_path)
    files = {"left.png": image(9), "Right-side.png": image(10), "mask.png": image(11)}
    await complete_with(store, storage, files)

    together = await penstock.download_all(submitted.task_id, tmp_path, prefix="photo.")
    alone = await penstock.download(submitted.task_id, tmp_path / "own.png", name="mask.png")

    assert {path.name: path.read_bytes() for path in together} == {f"photo.{n}": data for n, data in files.items()}
    assert alone.read_bytes() == await penstock.result(submitted.task_id, "mask.png") == files["mask.png"]
    assert await penstock.result(submitted.task_id) == files["left.png"]
    with pytest.raises(PenstockApiError, match="not_found"):
        await penstock.download(submitted.task_id, tmp_path / "none.png", name="no such.png")
    assert not (tmp_path / "none.png").exists()


async def test_a_file_of_a_result_is_closed_before_the_next_is_received(
    penstock: AsyncClient, store: Store, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = await penstock.submit(URL, MODEL)
    await complete_with(store, storage, {f"{name}.png": image(9) for name in "abcd"})
    taken, receive = [], Transport.receive

    async def observed(self: Transport, path: str, sink: IO[bytes], *, sha256: str | None) -> None:
        taken.append(sink)
        assert [file.closed for file in taken] == [*[True] * (len(taken) - 1), False]
        await receive(self, path, sink, sha256=sha256)

    monkeypatch.setattr(Transport, "receive", observed)
    await penstock.download_all(submitted.task_id, tmp_path)

    assert len(taken) == 4


async def test_files_of_a_result_appear_all_or_none(
    server: str, api_key: str, store: Store, storage: Storage, settings: Settings, tmp_path: Path
) -> None:
    async with AsyncClient(server, api_key, patience_s=0.5) as penstock:
        submitted = await penstock.submit(URL, MODEL)
        await complete_with(store, storage, {"a.png": image(9), "b.png": image(10)})
        (key,) = (key for key in stored_objects(settings) if key.endswith("b.png"))
        (Path(settings.storage.directory) / settings.redis.namespace / key).write_bytes(bytes(len(image(10))))
        with pytest.raises(PenstockApiError) as refused:
            await penstock.download_all(submitted.task_id, tmp_path)

    assert refused.value.code == "damaged_download"
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []


async def test_a_task_that_fails_is_an_error_of_run_and_an_answer_of_wait(penstock: AsyncClient, store: Store) -> None:
    running = asyncio.create_task(penstock.run(image(), MODEL, client_request_id="order-991"))
    while not await all_of(penstock):
        await asyncio.sleep(0.01)
    await fail(store)

    with pytest.raises(PenstockApiError, match="image_decode_failed: the image is damaged"):
        await asyncio.wait_for(running, 60)
    (task,) = await all_of(penstock, status=["FAILED"])
    assert (await penstock.wait(task.task_id)).error == task.error
    with pytest.raises(PenstockApiError, match="result_not_ready"):
        await penstock.result(task.task_id)


async def test_failures_that_top_shows_are_no_older_than_an_hour(
    penstock: AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await penstock.submit(image(), MODEL)
    await fail(store)
    observer = Observer(penstock)
    told = [(await observer.look()).failures for _ in range(2)]

    monkeypatch.setattr(overview, "HOUR", timedelta(0))
    monkeypatch.setattr(overview, "COUNT_EVERY_S", 0.0)

    assert told == [{"image_decode_failed": 1}] * 2
    assert (await observer.look()).failures == {}


async def test_a_wait_that_is_over_says_so(penstock: AsyncClient) -> None:
    submitted = await penstock.submit(URL, MODEL)

    with pytest.raises(TimeoutError, match=submitted.task_id):
        await penstock.wait(submitted.task_id, timeout_s=0.1)


async def test_damaged_bytes_never_become_a_file(
    server: str, api_key: str, store: Store, storage: Storage, settings: Settings, tmp_path: Path
) -> None:
    async with AsyncClient(server, api_key, patience_s=0.5) as penstock:
        submitted = await penstock.submit(URL, MODEL)
        await complete(store, storage, b"x" * 1000)
        (key,) = stored_objects(settings)
        (Path(settings.storage.directory) / settings.redis.namespace / key).write_bytes(b"y" * 1000)
        old = tmp_path / "files" / "out.png"
        old.parent.mkdir()
        old.write_bytes(b"the old one")

        with pytest.raises(PenstockApiError) as refused:
            await penstock.download(submitted.task_id, old)

    assert refused.value.code == "damaged_download"
    assert [(path.name, path.read_bytes()) for path in old.parent.iterdir()] == [("out.png", b"the old one")]


async def test_progress_is_seen_as_it_changes(penstock: AsyncClient, store: Store) -> None:
    submitted = await penstock.submit(URL, MODEL)
    seen: list[tuple[str, int]] = []
    async for task in penstock.watch(submitted.task_id, every_s=0.01):
        seen.append((task.status, task.progress.done if task.progress else 0))
        if len(seen) == 1:
            lease = await claim(store)
        elif len(seen) < 5:
            await store.leases.progress(lease, "infer", Progress(done=len(seen), total=4))
        else:
            assert await store.leases.complete(lease, Outcome())

    assert seen == [("PENDING", 0), ("RUNNING", 0), ("RUNNING", 2), ("RUNNING", 3), ("RUNNING", 4), ("SUCCESS", 4)]


async def test_many_are_mapped_a_few_at_a_time_with_errors_as_values(
    penstock: AsyncClient, store: Store, storage: Storage, tmp_path: Path
) -> None:
    taken = 0

    def sources() -> list[Path | bytes]:
        return [tmp_path / "nowhere.png", *(image(8 + n) for n in range(5)), b"no image"]

    async def work() -> None:
        """Two at a time: the second waits while one ends."""
        nonlocal taken
        while taken < 5:
            waiting = await all_of(penstock)
            pending = [task for task in waiting if not task.is_final]
            assert len(pending) <= 2
            if pending:
                taken += 1
                await (fail(store) if taken == 3 else complete(store, storage, image()))
            await asyncio.sleep(0.01)

    working = asyncio.create_task(work())
    mapped = [one async for one in penstock.map(sources(), MODEL, concurrency=2, reuse=False)]
    await working

    def names(one: Mapped) -> str:
        return one.error.code if isinstance(one.error, PenstockApiError) else type(one.error).__name__

    assert sorted(names(one) for one in mapped) == sorted(
        ["NoneType"] * 4 + ["FileNotFoundError", "image_decode_failed", "unsupported_image_format"]
    )
    assert all(one.task and one.task.succeeded for one in mapped if one.error is None)


@pytest.mark.shared_server(False)  # it has pages, whose cursors the next namespace of a shared one does not know
async def test_a_list_goes_on_over_all_pages(penstock: AsyncClient) -> None:
    ids = [(await penstock.submit(f"{URL}?{n}", MODEL, priority="low")).task_id for n in range(103)]

    assert [task.task_id async for task in penstock.list(priority="low")] == ids[::-1]
    assert [task async for task in penstock.list(status=["FAILED", "SUCCESS"])] == []


async def test_cancel_and_retry(penstock: AsyncClient) -> None:
    submitted = await penstock.submit(URL, MODEL)

    assert (await penstock.cancel(submitted.task_id)).status == "CANCELED"
    assert (await penstock.retry(submitted.task_id)).status == "PENDING"


async def test_models_workers_and_stats(penstock: AsyncClient, store: Store) -> None:
    await store.leases.renew(WORKER, [])
    await penstock.submit(URL, MODEL)

    assert (await penstock.model(MODEL)).produces == "image"
    assert MODEL in [model.name for model in await penstock.models()]
    assert [worker.id for worker in await penstock.workers()] == [WORKER.id]
    assert (await penstock.stats()).tasks["PENDING"] == 1


@pytest.mark.shared_server(False)  # it publishes models, which a server remembers
async def test_versions_of_a_model_are_shown_switched_loaded_and_unloaded(penstock: AsyncClient, store: Store) -> None:
    one = Model(name="many", version="1", digest="d1", versioned=True, inputs={"image": Member()})
    two = replace(one, version="2", digest="d2", guessed={"input.range": "usual"})
    bad = Residence(state="failed", since=1_800_000_000_000, reason="line 3")
    residence = {"many@1": Residence(state="cold"), "many@2": Residence(state="ready", memory_bytes=7), "broken": bad}
    await store.models.publish([one, two], worker="w1")
    await store.leases.renew(replace(WORKER, id="w1", models=("many@1", "many@2"), residence=residence), [])
    signals = store.workers.signals()
    assert await anext(signals) == ("look", "")

    switched = await penstock.set_default_model("many", "2")
    loading, unloading = await penstock.load_model("many@1"), await penstock.unload_model("many")

    assert (switched.version, switched.state, switched.guessed) == ("2", "ready", {"input.range": "usual"})
    assert [(version.is_default, version.state) for version in switched.versions] == [(False, "cold"), (True, "ready")]
    assert switched.versions[1].workers[0].memory_bytes == 7
    assert [loading.version, unloading.version, (await penstock.model("many@1")).version] == ["1", "2", "1"]
    assert [await anext(signals), await anext(signals)] == [("model", "load many@1"), ("model", "unload many@2")]
    assert [(faulty.name, faulty.reason) for faulty in await penstock.faulty_models()] == [("broken", "line 3")]
    task = await penstock.get((await penstock.submit(URL, "many")).task_id)
    assert (task.model, task.model_version, task.model_guessed) == ("many", "2", ("input.range",))
    with pytest.raises(PenstockApiError, match="model_not_found"):
        await penstock.set_default_model("many", "3")
    await signals.aclose()  # type: ignore[attr-defined]


@pytest.mark.shared_server(False)  # it publishes models, which a server remembers
async def test_a_load_that_is_waited_for_ends_by_what_comes_after_the_call(penstock: AsyncClient, store: Store) -> None:
    one = Model(name="heavy", version="1", digest="d1", versioned=True, inputs={"image": Member()})
    before = Residence(state="failed", since=1_800_000_000_000, reason="no memory")

    async def say(where: Residence) -> None:
        worker = replace(WORKER, id="w7", models=("heavy@1",), residence={"heavy@1": where})
        await store.leases.renew(worker, [])

    async def loading(then: Residence | None) -> str | None:
        await say(before)
        signals = store.workers.signals()
        await anext(signals)
        waiting = asyncio.create_task(loaded(penstock, "heavy"))
        assert await anext(signals) == ("model", "load heavy@1")
        await (say(then) if then else store.workers.sign_off("w7"))
        await signals.aclose()  # type: ignore[attr-defined]
        return (await waiting).state

    await store.models.publish([one], worker="w7")
    assert await loading(Residence(state="ready", since=1_800_000_001_000)) == "ready"
    assert await loading(replace(before, since=1_800_000_002_000)) == "failed"

    with pytest.raises(click.ClickException, match="no worker has heavy@1 any more"):
        await loading(None)


async def test_queues_and_workers_are_acted_on(penstock: AsyncClient, store: Store) -> None:
    await store.leases.renew(WORKER, [])
    submitted = [await penstock.submit(f"{URL}?{n}", MODEL) for n in range(3)]

    (_, normal, _) = await penstock.pause_queue(MODEL, priority="normal")
    paused = [queue.paused is not None for queue in await penstock.queues() if queue.model == MODEL]
    resumed = [queue.paused for queue in await penstock.resume_queue(MODEL)]
    canceled = await penstock.purge_queue(MODEL)
    states = [(await penstock.drain_worker(WORKER.id)).state, (await penstock.resume_worker(WORKER.id)).state]

    assert (normal.depth, paused, resumed) == (3, [False, True, False], [None] * 3)
    assert (canceled, (await penstock.get(submitted[0].task_id)).status) == (3, "CANCELED")
    assert states == ["DRAINING", "READY"]
    with pytest.raises(PenstockApiError, match="worker_not_found"):
        await penstock.drain_worker("nobody")


@pytest.mark.shared_server(False)
async def test_a_submit_outlives_a_redis_that_is_away_and_makes_one_task(
    settings: Settings, api_key: str, own_redis: RedisProcess
) -> None:
    apart = replace(settings, redis=RedisSettings(url=own_redis.url))
    async with connect(apart.redis) as _:
        with api_server.in_thread(apart) as url:
            async with AsyncClient(url, api_key, patience_s=60) as penstock:
                await penstock.submit(URL, MODEL, client_request_id="first")
                own_redis.kill()
                submitting = asyncio.create_task(penstock.submit(image(), MODEL))
                await asyncio.sleep(1.5)
                assert not submitting.done()
                await asyncio.to_thread(own_redis.start)
                submitted = await asyncio.wait_for(submitting, 30)
                tasks = await all_of(penstock)

    assert [task.task_id for task in tasks].count(submitted.task_id) == 1
    assert len(tasks) == 2


async def test_who_cannot_be_reached_is_one_error(api_key: str) -> None:
    async with AsyncClient("http://127.0.0.1:9", api_key, patience_s=0.3) as penstock:
        with pytest.raises(PenstockApiError) as raised:
            await penstock.models()

    assert (raised.value.code, raised.value.status, raised.value.retryable) == ("unreachable", 0, True)


async def test_a_batch_is_submitted_followed_and_collected(penstock: AsyncClient, store: Store) -> None:
    sources = {"cat": image(), "dog": image(9), "from afar": URL}

    batch = await penstock.submit_batch(sources, MODEL, client_request_id="pets", params={"variant": "clean"})
    again = await penstock.submit_batch(sources, MODEL, client_request_id="pets", params={"variant": "clean"})
    with pytest.raises(TimeoutError):
        await penstock.wait_batch(batch.batch_id, timeout_s=0.2, every_s=0.01)
    for ending in (State.SUCCESS, State.FAILED):
        lease = await claim(store)
        assert (lease.request.params, lease.priority) == ({"variant": "clean"}, "low")
        await (
            store.leases.complete(lease, Outcome()) if ending is State.SUCCESS else store.leases.fail(lease, Outcome())
        )
    early = await penstock.batch_lines(batch.batch_id)
    await penstock.cancel_batch(batch.batch_id)
    ended = await penstock.wait_batch(batch.batch_id, every_s=0.01)

    assert (again.batch_id, batch.counts.total) == (batch.batch_id, 3)
    assert [(line.custom_id, line.status) for line in early] == [("cat", "SUCCESS"), ("dog", "FAILED")]
    assert [line.custom_id for line in await penstock.batch_lines(batch.batch_id, start=2)] == ["from afar"]
    assert (ended.status, ended.counts.canceled) == ("CANCELED", 1)


async def test_the_blocking_client_does_the_same(
    server: str, api_key: str, store: Store, storage: Storage, tmp_path: Path
) -> None:
    def script() -> tuple[list[Mapped], list[str], bytes, list[str]]:
        with Client(server, api_key) as penstock:
            mapped = list(penstock.map([image(9), image(10)], MODEL, concurrency=1))
            task = mapped[0].task
            assert task is not None
            target = penstock.download(task.task_id, tmp_path / "out.png")
            watched = [seen.status for seen in penstock.watch(task.task_id)]
            listed = penstock.list()
            newest = next(listed).task_id  # and never asked again: closing the client must not hang
            return mapped, watched, target.read_bytes(), [newest]

    running = asyncio.create_task(asyncio.to_thread(script))
    done = 0
    while done < 2:
        if (await store.listing.count("default"))[State.PENDING]:
            await complete(store, storage, image(done + 20))
            done += 1
        await asyncio.sleep(0.01)
    mapped, watched, data, newest = await asyncio.wait_for(running, 60)

    assert [one.error for one in mapped] == [None, None]
    assert watched == ["SUCCESS"]
    assert data == image(20)
    assert mapped[1].task is not None
    assert newest == [mapped[1].task.task_id]


async def test_a_closed_client_may_be_closed_again(server: str, api_key: str) -> None:
    def script() -> int:
        penstock = Client(server, api_key)
        served = len(penstock.models())
        penstock.close()
        penstock.close()
        return served

    assert await asyncio.to_thread(script) > 0


@pytest.mark.shared_server(False)
async def test_a_result_in_a_bucket_is_downloaded_from_there(
    settings: Settings, s3_server: StorageSettings, store: Store, api_key: str, tmp_path: Path
) -> None:
    with api_server.in_thread(replace(settings, storage=s3_server)) as url:
        async with open_storage(s3_server, settings.redis.namespace) as storage, AsyncClient(url, api_key) as penstock:
            submitted = await penstock.submit(URL, MODEL)
            await complete(store, storage, b"bytes of a result")
            target = await penstock.download(submitted.task_id, tmp_path / "out.png")

    assert target.read_bytes() == b"bytes of a result"

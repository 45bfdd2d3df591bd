"""What operators see of queues and workers, and what they do to them: pause, purge, drain."""

import asyncio
from typing import Any

import httpx
import msgspec
import pytest

from penstock.core.access import TENANT
from penstock.core.task import PRIORITIES, ErrorRecord, Outcome, Priority, Result, State
from penstock.settings import Settings
from penstock.store import Engine, Shards, Store, connect
from penstock.store.engine import Arguments
from penstock.store.queues import PURGED_TOGETHER
from penstock.telemetry import exposition
from penstock.upkeep.gauges import measure
from tests.support.drive import MODEL, WORKER, body, claim, data_uri, photo
from tests.support.stores import submission, submit

pytestmark = pytest.mark.shared_server

SCORING = "image-scoring-v1"
HURT = ErrorRecord(code="storage_unavailable", message="away", retryable=True)
PHOTO_KILOPIXELS = 160 * 120 // 1000

EQUAL = {"image_url": data_uri(photo()), "reuse": True}


async def submitted(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    """A task of its own."""
    changes = {"image_url": data_uri(photo()), "reuse": False} | changes
    return dict((await client.post("/v1/tasks", json=body(**changes))).raise_for_status().json())


async def measured(store: Store) -> None:
    """A task of the size of a photo has taken half a second, and a worker is there: times can be estimated, by an
    API that has not yet been asked: for some seconds it knows what it knew."""
    await submit(store, cost=PHOTO_KILOPIXELS)
    outcome = Outcome(result=Result(data={"score": 1.0}), execution={"device_ms": 500.0})
    assert await store.leases.complete(await claim(store), outcome)
    await store.leases.renew(WORKER, [])


async def queues(client: httpx.AsyncClient, model: str = MODEL) -> dict[str, dict[str, Any]]:
    """Of a model, by priority."""
    rows = (await client.get("/v1/queues")).raise_for_status().json()["data"]
    return {row["priority"]: row for row in rows if row["model"] == model}


async def test_queues_show_depth_age_and_the_device_time_that_waits(client: httpx.AsyncClient, store: Store) -> None:
    before = await queues(client)
    await measured(store)
    for priority in ("high", "low", "low"):
        await submitted(client, priority=priority)

    after = await queues(client)

    assert list(before) == ["high", "normal", "low"]
    assert before["low"] == {
        "model": MODEL, "priority": "low", "depth": 0, "oldest_s": 0.0, "device_s": None, "paused": None,
    }  # fmt: skip
    assert [(row["depth"], row["device_s"]) for row in after.values()] == [(1, 0.5), (0, 0.0), (2, 1.0)]
    assert after["low"]["oldest_s"] > 0
    assert (await client.get("/v1/stats")).json()["queues"][-1]["device_s"] is not None


async def test_nothing_of_a_paused_queue_starts_and_all_else_goes_on(client: httpx.AsyncClient, store: Store) -> None:
    running = await submitted(client)
    lease = await claim(store)

    paused = (await client.post(f"/v1/queues/{MODEL}/pause")).json()["data"]

    waiting = await submitted(client)
    other = await submitted(client, model=SCORING)
    assert [row["paused"]["by"] for row in paused] == ["default"] * 3
    assert waiting["status"] == "PENDING"
    assert (await claim(store)).id == other["task_id"], "another model's queue is not paused"
    assert (await store.leases.claim(worker="w0", device="cpu", models=[MODEL, SCORING])).lease is None
    assert await store.leases.complete(lease, Outcome())
    assert (await client.get(running["links"]["self"])).json()["status"] == "SUCCESS"

    resumed = (await client.post(f"/v1/queues/{MODEL}/resume")).json()["data"]

    assert [row["paused"] for row in resumed] == [None] * 3
    assert (await claim(store)).id == waiting["task_id"]


@pytest.mark.shared_server(False)
async def test_one_priority_is_paused_by_itself_and_counts_for_nobody_behind_it(
    client: httpx.AsyncClient, store: Store
) -> None:
    await measured(store)
    await submitted(client, priority="high")
    await client.post(f"/v1/queues/{MODEL}/pause?priority=high")

    normal = await submitted(client)
    high = await submitted(client, priority="high")
    quoted = (await client.post("/v1/tasks/quote", json=body(image_url=data_uri(photo())))).json()

    assert [row["paused"] is not None for row in (await queues(client)).values()] == [True, False, False]
    assert (normal["queue_position"], normal["eta_s"]) == (0, 0.5)
    assert (quoted["queue_position"], quoted["eta_s"]) == (1, 1.0)
    assert (high["queue_position"], high["eta_s"]) == (1, None)
    assert (await claim(store)).id == normal["task_id"]


@pytest.mark.shared_server(False)
async def test_a_pause_is_what_a_waiting_task_is_said_to_wait_for(client: httpx.AsyncClient, store: Store) -> None:
    await measured(store)
    waiting = await submitted(client)
    leader, follower = [await submitted(client, **EQUAL, metadata={"n": n}) for n in "12"]
    since = (await client.post(f"/v1/queues/{MODEL}/pause")).json()["data"][1]["paused"]["since"]
    quoted = (await client.post("/v1/tasks/quote", json=body(image_url=data_uri(photo())))).json()

    for task in (waiting, leader, follower):
        found = (await client.get(f"{task['links']['self']}/explain")).json()
        blocker = found["blockers"][-1]
        assert (found["eta_s"], blocker["code"]) == (None, "queue_paused")
        assert "normal" in blocker["detail"]
        assert since in blocker["detail"]
        assert "default" in blocker["detail"]
    assert quoted["eta_s"] is None
    await client.post(f"/v1/queues/{MODEL}/resume")
    found = (await client.get(f"{waiting['links']['self']}/explain")).json()
    assert (found["eta_s"], found["blockers"]) == (0.5, [])


async def test_start_limits_and_deadlines_go_on_during_a_pause(client: httpx.AsyncClient, store: Store) -> None:
    await client.post(f"/v1/queues/{MODEL}/pause")
    task = await submitted(client, start_within_s=1)

    async with asyncio.timeout(60):
        while (await client.get(task["links"]["self"])).json()["status"] == "PENDING":
            await asyncio.sleep(0.05)

    assert (await client.get(task["links"]["self"])).json()["status"] == "EXPIRED"


async def test_an_equal_task_does_not_wait_for_one_that_is_paused(redis_url: str, store: Store) -> None:
    await store.queues.pause(MODEL, [Priority.HIGH], by="alice")
    await submit(store, priority=Priority.HIGH, reuse_digest="same")

    answer = await store.tasks.submit(submission(reuse_digest="same"), rate_limit=0)

    assert answer.reuse == "miss"
    assert (await claim(store)).id == answer.id


async def test_pausing_again_changes_nothing(client: httpx.AsyncClient) -> None:
    first = (await client.post(f"/v1/queues/{MODEL}/pause")).json()

    assert (await client.post(f"/v1/queues/{MODEL}/pause")).json() == first
    for _ in range(2):
        assert (await client.post(f"/v1/queues/{MODEL}/resume")).status_code == 200


@pytest.mark.parametrize("act", ["pause", "resume", "purge"])
async def test_only_queues_of_models_that_are_served_can_be_acted_on(client: httpx.AsyncClient, act: str) -> None:
    unknown = await client.post(f"/v1/queues/nothing/{act}")
    wrong = await client.post(f"/v1/queues/{MODEL}/{act}?priority=urgent")

    assert (unknown.status_code, unknown.json()["code"]) == (404, "model_not_found")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_request")


async def test_a_purge_cancels_all_that_waits_and_nothing_that_runs(client: httpx.AsyncClient, store: Store) -> None:
    running = await submitted(client)
    lease = await claim(store)
    retrying = await submitted(client)
    assert await store.leases.retry(await claim(store), HURT, delay_ms=60_000)
    waits = [await submitted(client, priority=priority) for priority in PRIORITIES]
    waits += [await submitted(client, **EQUAL, metadata={"n": n}) for n in "123"]  # two follow the first
    other = await submitted(client, model=SCORING)

    purged = (await client.post(f"/v1/queues/{MODEL}/purge")).json()
    again = (await client.post(f"/v1/queues/{MODEL}/purge")).json()

    statuses = [(await client.get(task["links"]["self"])).json()["status"] for task in (*waits, retrying)]
    assert (purged["canceled"], purged["has_more"]) == (7, False)
    assert (again["canceled"], again["has_more"]) == (0, False)
    assert statuses == ["CANCELED"] * 7
    assert (await client.get(other["links"]["self"])).json()["status"] == "PENDING"
    assert (await client.get(running["links"]["self"])).json()["status"] == "RUNNING"
    assert await store.leases.complete(lease, Outcome())


@pytest.mark.parametrize("act", ["pause", "resume", "purge"])
async def test_a_priority_that_is_null_is_not_a_missing_one(client: httpx.AsyncClient, act: str) -> None:
    task = await submitted(client)

    answer = await client.post(f"/v1/queues/{MODEL}/{act}", params={"priority": "null"})

    assert (answer.status_code, answer.json()["param"]) == (422, "priority")
    assert (await client.get(task["links"]["self"])).json()["status"] == "PENDING"


async def test_a_purge_of_one_priority_leaves_the_others(client: httpx.AsyncClient) -> None:
    tasks = {priority: await submitted(client, priority=priority) for priority in PRIORITIES}

    purged = (await client.post(f"/v1/queues/{MODEL}/purge?priority=low")).json()

    statuses = [(await client.get(task["links"]["self"])).json()["status"] for task in tasks.values()]
    assert (purged["canceled"], statuses) == (1, ["PENDING", "PENDING", "CANCELED"])


async def test_a_purge_stops_at_its_limit_and_says_that_there_is_more(redis_url: str, store: Store) -> None:
    count = PURGED_TOGETHER * 2 + 5
    for _ in range(count):
        await submit(store)

    first = await store.queues.purge(TENANT, MODEL, PRIORITIES, limit=PURGED_TOGETHER)
    second = await store.queues.purge(TENANT, MODEL, PRIORITIES, limit=count)

    assert (first.canceled, first.has_more) == (PURGED_TOGETHER, True)
    assert (second.canceled, second.has_more) == (count - PURGED_TOGETHER, False)
    assert (await store.listing.count(TENANT))[State.CANCELED] == count


async def test_a_purge_leaves_what_is_submitted_after_it_began(settings: Settings, store: Store) -> None:
    for _ in range(PURGED_TOGETHER + 1):
        await submit(store)

    late: list[str] = []

    class Interrupted(Engine):
        """Somebody submits between its steps."""

        async def call(self, script: str, values: Arguments, *, again: bool = True) -> Any:
            answer = await super().call(script, values, again=again)
            late.append(await submit(store))
            return answer

    async with connect(settings.redis) as redis:
        interrupted = Store(Interrupted(redis, settings.redis.namespace, settings.queue))
        purged = await interrupted.queues.purge(TENANT, MODEL, PRIORITIES, limit=10_000)

    assert purged.canceled == PURGED_TOGETHER + 1
    assert [(await store.tasks.get(task_id, TENANT)).state for task_id in late] == [State.PENDING] * len(late)


async def test_a_drained_worker_is_given_nothing_until_it_is_resumed(client: httpx.AsyncClient, store: Store) -> None:
    await store.leases.renew(WORKER, [])
    task = await submitted(client)

    drained = (await client.post(f"/v1/workers/{WORKER.id}/drain")).json()

    refused = await store.leases.claim(worker=WORKER.id, device="cpu", models=[MODEL])
    shown = (await client.get("/v1/workers")).json()["data"]
    explained = (await client.get(f"{task['links']['self']}/explain")).json()
    assert drained["state"] == "DRAINING"
    assert (refused.lease, refused.is_drained) == (None, True)
    assert [worker["state"] for worker in shown] == ["DRAINING"]
    assert (await client.get("/readyz")).json()["workers"] == 0
    assert (await client.get("/v1/stats")).json()["workers"] == {"DRAINING": 1}
    assert [blocker["code"] for blocker in explained["blockers"]] == ["no_worker"]

    resumed = (await client.post(f"/v1/workers/{WORKER.id}/resume")).json()

    assert resumed["state"] == "READY"
    assert (await claim(store)).id == task["task_id"]


async def test_a_worker_that_is_silent_for_a_while_is_still_drained_when_it_is_back(
    client: httpx.AsyncClient, settings: Settings, store: Store
) -> None:
    async with connect(settings.redis) as redis:
        hasty = Store(Engine(redis, settings.redis.namespace, msgspec.structs.replace(settings.queue, lease_s=0.05)))
        await hasty.leases.renew(WORKER, [])
        await client.post(f"/v1/workers/{WORKER.id}/drain")
        async with asyncio.timeout(60):
            while await store.workers.listed():
                await store.overdue.reclaim()
                await asyncio.sleep(0.05)
        assert (await client.post(f"/v1/workers/{WORKER.id}/drain")).json()["code"] == "worker_not_found"

        await store.leases.renew(WORKER, [])

        assert [worker.state for worker in await store.workers.listed()] == ["DRAINING"]
        assert (await store.leases.claim(worker=WORKER.id, device="cpu", models=[MODEL])).is_drained


@pytest.mark.parametrize("how", ["signs off", "is dead"])
async def test_a_worker_that_has_ended_leaves_no_mark(client: httpx.AsyncClient, store: Store, how: str) -> None:
    await store.leases.renew(WORKER, [])
    await client.post(f"/v1/workers/{WORKER.id}/drain")

    await (store.workers.sign_off(WORKER.id) if how == "signs off" else store.overdue.reclaim(WORKER.id))

    await store.leases.renew(WORKER, [])
    assert [worker.state for worker in await store.workers.listed()] == ["READY"]


@pytest.mark.parametrize("act", ["drain", "resume"])
async def test_a_worker_that_is_not_there_cannot_be_acted_on(client: httpx.AsyncClient, act: str) -> None:
    answer = await client.post(f"/v1/workers/nobody/{act}")

    assert (answer.status_code, answer.json()["code"]) == (404, "worker_not_found")


async def test_a_worker_is_told_at_once(redis_url: str, store: Store) -> None:
    await store.leases.renew(WORKER, [])
    signals = store.workers.signals()
    await anext(signals)

    async with asyncio.timeout(2):
        await store.workers.drain(WORKER.id)
        await store.workers.resume(WORKER.id)
        await store.queues.resume(MODEL, PRIORITIES)
        told = [await anext(signals) for _ in range(3)]

    assert told == [("drain", WORKER.id), ("resume", WORKER.id), ("queued", MODEL)]
    await signals.aclose()


async def test_workers_show_what_they_run(client: httpx.AsyncClient, store: Store) -> None:
    await store.leases.renew(WORKER, [])
    task = await submitted(client, priority="high")
    await submitted(client)
    lease = await claim(store)
    await store.leases.progress(lease, "infer")

    (worker,) = (await client.get("/v1/workers")).json()["data"]

    (runs,) = worker["tasks"]
    assert (runs["task_id"], runs["model"], runs["priority"], runs["stage"]) == (
        task["task_id"], MODEL, "high", "infer",
    )  # fmt: skip
    assert await store.workers.running("another") == []
    await store.leases.complete(lease, Outcome())
    assert (await client.get("/v1/workers")).json()["data"][0]["tasks"] == []


async def test_the_gauges_of_queues_have_device_time_and_pauses(
    client: httpx.AsyncClient, store: Store, settings: Settings
) -> None:
    await measured(store)
    await submitted(client, priority="low")
    await client.post(f"/v1/queues/{MODEL}/pause?priority=low")

    await measure(Shards([store]), [MODEL])

    text = exposition.scrape().decode()
    assert f'penstock_queue_device_seconds{{model="{MODEL}",priority="low"}} 0.5' in text
    assert f'penstock_queue_paused{{model="{MODEL}",priority="low"}} 1.0' in text
    assert f'penstock_queue_paused{{model="{MODEL}",priority="high"}} 0.0' in text


@pytest.mark.shared_server(False)
async def test_what_was_promised_at_submit_is_kept_with_the_task(client: httpx.AsyncClient, store: Store) -> None:
    await measured(store)
    promised = [await submitted(client) for _ in range(2)]
    leases = [await claim(store) for _ in promised]

    assert [lease.promised_ms for lease in leases] == [round(1000 * task["eta_s"]) for task in promised] == [500, 1000]
    assert await store.tasks.cancel(leases[0].id, TENANT)
    assert await store.tasks.resubmit(leases[0].id, TENANT)
    assert (await claim(store)).promised_ms is None, "a task that is run again was promised nothing"

"""Why a task is not done yet, and when it should be."""

import asyncio
import io
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from PIL import Image

from penstock.core.task import ErrorRecord, Outcome, Priority, Progress, Result
from penstock.settings import Settings
from penstock.store import Store
from tests.support import api_server
from tests.support.drive import MODEL, WORKER, body, claim, data_uri, image, photo, stored_objects
from tests.support.stores import submission

pytestmark = pytest.mark.shared_server

MS = 500.0
"""On the device, of every task here that ends; its image counts 19 kilopixels (`photo`)."""

HURT = ErrorRecord(code="storage_unavailable", message="away", retryable=True)


async def submitted(client: httpx.AsyncClient, **changes: Any) -> str:
    """Path of a new task."""
    changes = {"image_url": data_uri(photo())} | changes
    return str((await client.post("/v1/tasks", json=body(**changes))).headers["Location"])


async def finish(store: Store, device_ms: float = MS) -> None:
    """Claim the next task and end it, as a worker does."""
    outcome = Outcome(result=Result(data={"score": 1.0}), execution={"device_ms": device_ms})
    assert await store.leases.complete(await claim(store), outcome)


async def explained(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    """What is said of it."""
    answer = await client.get(f"{path}/explain")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def codes(explanation: dict[str, Any]) -> list[str]:
    return [blocker["code"] for blocker in explanation["blockers"]]


async def test_a_task_that_nobody_serves_says_so(client: httpx.AsyncClient, store: Store) -> None:
    path = await submitted(client)
    other = msgspec.structs.replace(WORKER, id="w1", models=("image-scoring-v1",))
    draining = msgspec.structs.replace(WORKER, id="w2", state="DRAINING")
    for worker in (other, draining):
        await store.leases.renew(worker, [])

    found = await explained(client, path)

    assert (found["status"], found["stage"], found["queue_position"]) == ("PENDING", "queued", 0)
    assert (found["ahead"], found["workers"], found["eta_s"]) == ({"tasks": 0, "device_s": None}, [], None)
    assert codes(found) == ["no_worker"]


async def test_the_time_ahead_is_that_of_the_tasks_before_it_shared_by_the_workers(
    client: httpx.AsyncClient, store: Store
) -> None:
    await submitted(client)
    await finish(store)
    for name in ("w0", "w1"):
        await store.leases.renew(msgspec.structs.replace(WORKER, id=name), [])
    for priority in ("high", "normal", "low"):
        await submitted(client, priority=priority, reuse=False)
    path = await submitted(client, reuse=False)

    found = await explained(client, path)

    assert (found["queue_position"], found["ahead"]) == (2, {"tasks": 2, "device_s": 1.0})
    assert found["eta_s"] == pytest.approx(2 * 0.5 / 2 + 0.5)
    assert [worker["id"] for worker in found["workers"]] == ["w0", "w1"]
    assert codes(found) == []


async def test_a_larger_image_takes_longer_in_proportion(client: httpx.AsyncClient, store: Store) -> None:
    await submitted(client, image_url=data_uri(image(96, 96)))
    await finish(store)
    await store.leases.renew(WORKER, [])
    path = await submitted(client, image_url=data_uri(image(288, 192)))

    assert (await explained(client, path))["eta_s"] == pytest.approx(6 * 0.5, rel=0.05), "whole kilopixels are counted"


@pytest.mark.parametrize(("alpha", "times"), [("network", 2), ("bicubic", 1)])
async def test_transparency_that_goes_through_the_network_takes_as_long_again(
    client: httpx.AsyncClient, store: Store, alpha: str, times: int
) -> None:
    await submitted(client, image_url=data_uri(image(192, 96)))
    await finish(store)
    await store.leases.renew(WORKER, [])
    see_through = io.BytesIO()
    Image.new("RGBA", (192, 96), (200, 100, 0, 90)).save(see_through, "PNG")

    path = await submitted(client, image_url=data_uri(see_through.getvalue()), params={"alpha": alpha})

    assert (await explained(client, path))["eta_s"] == pytest.approx(times * 0.5, rel=0.05)


async def test_the_pace_follows_the_last_tasks(client: httpx.AsyncClient, store: Store) -> None:
    for device_ms in (100.0, 200.0):
        await submitted(client, reuse=False)
        await finish(store, device_ms)

    pace = (await store.queues.paces())["superres-x4"]

    assert (pace.device_s, pace.cost) == (pytest.approx(0.11), 19), "the pixels of a photo"


async def test_a_running_task_has_what_is_left_of_it(client: httpx.AsyncClient, store: Store) -> None:
    await submitted(client)
    await finish(store)
    await store.leases.renew(WORKER, [])
    path = await submitted(client, reuse=False)
    await store.leases.progress(await claim(store), "infer", Progress(done=3, total=4))

    found = await explained(client, path)

    assert (found["status"], found["stage"], found["queue_position"]) == ("RUNNING", "infer", None)
    assert (found["eta_s"], codes(found)) == (pytest.approx(0.125), [])


async def test_a_task_behind_full_workers_says_so(client: httpx.AsyncClient, store: Store) -> None:
    path = await submitted(client)
    await store.leases.renew(msgspec.structs.replace(WORKER, running=WORKER.slots), [])

    assert codes(await explained(client, path)) == ["workers_busy"]


async def test_a_task_says_that_the_workers_wait_for_the_storage(client: httpx.AsyncClient, store: Store) -> None:
    path = await submitted(client)
    await store.leases.renew(msgspec.structs.replace(WORKER, spool_full=True), [])
    assert codes(await explained(client, path)) == ["spool_full"]

    await store.leases.renew(msgspec.structs.replace(WORKER, id="w1", running=WORKER.slots), [])
    assert codes(await explained(client, path)) == ["workers_busy"]

    await store.leases.renew(msgspec.structs.replace(WORKER, id="w2"), [])
    assert codes(await explained(client, path)) == []


async def test_a_task_that_waits_for_a_retry_says_until_when(client: httpx.AsyncClient, store: Store) -> None:
    await submitted(client)
    await finish(store)
    await store.leases.renew(WORKER, [])
    path = await submitted(client, reuse=False)
    await store.leases.retry(await claim(store), HURT, delay_ms=60_000)

    found = await explained(client, path)

    (blocker,) = found["blockers"]
    assert (found["stage"], blocker["code"]) == ("retry", "retry_delay")
    assert blocker["until"] > (await client.get(path)).json()["created_at"]
    assert 50 < found["eta_s"] < 61


async def test_a_task_that_follows_an_equal_one_takes_as_long_as_that(client: httpx.AsyncClient, store: Store) -> None:
    await submitted(client)
    await finish(store)
    await store.leases.renew(WORKER, [])
    await submitted(client, reuse=False)
    same = {"image_url": data_uri(image(160, 120))}
    leader = await submitted(client, **same)
    follower = await submitted(client, **same)

    found = await explained(client, follower)

    (blocker,) = found["blockers"]
    assert (blocker["code"], blocker["task_id"]) == ("follows_equal_task", leader.rpartition("/")[2])
    assert found["eta_s"] == (await explained(client, leader))["eta_s"] == pytest.approx(1.0)


async def test_an_ended_task_waits_for_nothing(client: httpx.AsyncClient, store: Store) -> None:
    path = await submitted(client)
    await finish(store)

    found = await explained(client, path)

    assert (found["status"], found["blockers"], found["eta_s"]) == ("SUCCESS", [], None)


@pytest.mark.shared_server(False)
async def test_a_storage_that_is_away_is_in_the_way(client: httpx.AsyncClient, store: Store, tmp_path: Path) -> None:
    path = await submitted(client, image_url="https://images.example.com/photo.png")
    await store.leases.renew(WORKER, [])
    (tmp_path / "objects").rename(tmp_path / "gone")
    (tmp_path / "objects").write_text("a file in the place of the directory")

    async with asyncio.timeout(60):
        while not (blockers := codes(await explained(client, path))):
            await asyncio.sleep(0.1)
    assert blockers == ["storage_unavailable"]


async def test_there_is_nothing_to_say_of_a_task_that_is_not_there(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/tasks/tsk_0/explain")

    assert (answer.status_code, answer.json()["code"]) == (404, "task_not_found")


@pytest.mark.shared_server(False)
async def test_a_submit_says_when_it_should_be_done(client: httpx.AsyncClient, store: Store) -> None:
    """What is known of paces is looked up at most every five seconds, so it is there before the first submit."""
    outcome = Outcome(result=Result(data={"score": 1.0}), execution={"device_ms": MS})
    await store.tasks.submit(submission(cost=16), rate_limit=0)
    await store.leases.complete(await claim(store), outcome)
    await store.leases.renew(WORKER, [])

    first = await client.post("/v1/tasks", json=body(image_url=data_uri(image(128, 128))))
    second = await client.post("/v1/tasks", json=body(image_url=data_uri(image(128, 256))))

    assert first.json()["eta_s"] == pytest.approx(0.5)
    assert second.json()["eta_s"] == pytest.approx(1.5)
    explanation = await explained(client, second.headers["Location"])
    assert second.json()["eta_s"] == explanation["eta_s"]


# --- a quote --------------------------------------------------------------------------------------------------


async def quoted(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    """Answer to a submit that is none."""
    return await client.post("/v1/tasks/quote", json=body(**changes))


@pytest.mark.shared_server(False)
async def test_a_quote_counts_what_is_ahead_and_queues_nothing(
    client: httpx.AsyncClient, store: Store, settings: Settings
) -> None:
    for priority in (Priority.HIGH, Priority.NORMAL, Priority.LOW):
        await store.tasks.submit(submission(cost=10, priority=priority), rate_limit=0)
    await store.leases.complete(
        await claim(store), Outcome(result=Result(data={"score": 1.0}), execution={"device_ms": MS})
    )
    await store.leases.renew(WORKER, [])

    answer = await quoted(client, image_url=data_uri(image(200, 100)))

    assert answer.status_code == 200
    assert answer.json() == {
        "model": MODEL,
        "priority": "normal",
        "queue_position": 1,
        "ahead": {"tasks": 1, "device_s": 0.5},
        "run_device_s": 1.0,
        "eta_s": 1.5,
        "input": {"width": 200, "height": 100},
        "output": {"width": 800, "height": 400},
    }
    assert len((await client.get("/v1/tasks")).json()["data"]) == 3
    assert stored_objects(settings) == []


@pytest.mark.parametrize(
    ("params", "width", "height"),
    [
        ({"scale": 2}, 400, 200),
        ({"width": 300}, 300, 150),
        ({"width": 300, "height": 300}, 300, 150),
        ({"width": 300, "height": 300, "fit": "cover"}, 300, 300),
    ],
)
async def test_a_quote_says_the_size_that_is_asked_for(
    client: httpx.AsyncClient, params: dict[str, Any], width: int, height: int
) -> None:
    answer = await quoted(client, image_url=data_uri(image(200, 100)), params=params)

    assert answer.json()["output"] == {"width": width, "height": height}


async def test_a_quote_of_what_nobody_has_seen_has_no_sizes_and_one_of_a_score_no_output(
    client: httpx.AsyncClient,
) -> None:
    unseen = (await quoted(client)).json()
    score = (await quoted(client, model="image-scoring-v1", image_url=data_uri(image(20, 10)))).json()

    assert (unseen["input"], unseen["output"], unseen["eta_s"], unseen["run_device_s"]) == (None, None, None, None)
    assert (score["input"], score["output"]) == ({"width": 20, "height": 10}, None)


async def test_a_quote_is_refused_as_the_submit_would_be(settings: Settings, store: Store, api_key: str) -> None:
    small = msgspec.structs.replace(settings, queue=msgspec.structs.replace(settings.queue, max_depth=1))
    with api_server.in_thread(small) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": api_key}, timeout=30) as client:
            invalid = await quoted(client, image_url=data_uri(b"no image"))
            await submitted(client)
            full = await quoted(client)

    assert (invalid.status_code, invalid.json()["param"]) == (415, "input.image_url")
    assert (full.status_code, full.json()["code"], full.headers["Retry-After"]) == (503, "queue_full", "5")

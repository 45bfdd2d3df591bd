"""Equal submits over HTTP: what counts as equal, who shares with whom, and what becomes of the files."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from penstock.api.services import open_services
from penstock.core.access import Caller
from penstock.core.task import State
from penstock.intake.call import checked_call
from penstock.intake.enqueue import submit
from penstock.intake.requests import TaskRequest
from penstock.settings import ApiSettings, QueueSettings, Settings
from penstock.storage import LocalStorage, Storage
from penstock.store import BatchStore, Condemned, Store, connect
from penstock.store.keys import Keys
from penstock.telemetry import exposition
from penstock.upkeep.retention import prune
from tests.support import api_server
from tests.support.drive import body, claim, complete, data_uri, image, large_photo, stored_objects

pytestmark = pytest.mark.shared_server

CAT = data_uri(image(8, 6))
DOG = data_uri(image(6, 8))
PHOTO = data_uri(large_photo())
DATA = "image-scoring-v1"


async def submitted(client: httpx.AsyncClient, headers: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    """The task after a submit of a cat, or of what else is said."""
    answer = await client.post("/v1/tasks", json=body(**{"image_url": CAT} | changes), headers=headers)
    assert answer.status_code == 202, answer.text
    return dict((await client.get(answer.headers["Location"])).json())


# --- one run ------------------------------------------------------------------------------------------------------


async def test_fifty_equal_submits_at_once_are_one_run_and_fifty_results(
    client: httpx.AsyncClient, store: Store, storage: Storage, settings: Settings
) -> None:
    answers = await asyncio.gather(*(client.post("/v1/tasks", json=body(image_url=CAT)) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {202}

    await complete(store, storage, b"the only result")

    assert (await client.get("/v1/stats")).json()["tasks"] == {
        "PENDING": 0, "RUNNING": 0, "SUCCESS": 50, "FAILED": 0, "CANCELED": 0, "EXPIRED": 0
    }  # fmt: skip
    paths = [answer.headers["Location"] for answer in answers]
    downloads = await asyncio.gather(*(client.get(f"{path}/result") for path in paths))
    assert {download.content for download in downloads} == {b"the only result"}
    assert len({download.headers["Content-Disposition"] for download in downloads}) == 50, "each under its own name"
    assert len([key for key in stored_objects(settings) if key.startswith("results/")]) == 1


@pytest.mark.parametrize("sent", [CAT, PHOTO], ids=["small", "large"])
async def test_a_later_submit_is_answered_at_once_and_stores_nothing(
    client: httpx.AsyncClient, store: Store, storage: Storage, settings: Settings, sent: str
) -> None:
    source = await submitted(client, image_url=sent)
    await complete(store, storage, b"result")
    before = stored_objects(settings)

    answer = await client.post("/v1/tasks", json=body(image_url=sent))

    assert answer.status_code == 202
    assert (answer.json()["status"], answer.json()["queue_position"]) == ("SUCCESS", None)
    task = (await client.get(answer.headers["Location"])).json()
    assert (task["status"], task["reuse"], task["attempts"]) == ("SUCCESS", "hit", [])
    assert task["execution"] == {"reused_from": source["task_id"]}
    assert task["timing"].keys() == {"queue_ms", "total_ms"}
    assert (await client.get(task["links"]["result"])).content == b"result"
    assert stored_objects(settings) == before


@pytest.mark.shared_server(False)
async def test_a_task_that_has_its_result_is_answered_while_the_storage_is_away(
    client: httpx.AsyncClient, store: Store, storage: Storage, settings: Settings
) -> None:
    await submitted(client, image_url=PHOTO)
    await complete(store, storage, b"result")
    objects = Path(settings.storage.directory)
    objects.rename(objects.with_name("away"))
    objects.write_text("in the way")

    hit = await client.post("/v1/tasks", json=body(image_url=PHOTO))
    miss = await client.post("/v1/tasks", json=body(image_url=PHOTO, reuse=False))

    assert (hit.status_code, hit.json()["status"]) == (202, "SUCCESS")
    assert (miss.status_code, miss.json()["code"]) == (503, "storage_unavailable")


class Slow(LocalStorage):
    """While it stores an input, something happens."""

    meanwhile: Callable[[], Awaitable[object]]

    async def put(self, key: str, data: bytes, content_type: str, once: bool = False) -> None:
        await super().put(key, data, content_type)
        if key.startswith("inputs/"):
            await self.meanwhile()


@pytest.mark.shared_server(False)
async def test_an_input_is_deleted_when_the_result_comes_while_it_is_stored(
    client: httpx.AsyncClient, store: Store, storage: Storage, settings: Settings
) -> None:
    source = await submitted(client, image_url=PHOTO)
    slow = Slow(settings.storage.directory, settings.redis.namespace)
    slow.meanwhile = lambda: complete(store, storage, b"result")
    task = msgspec.convert(body(image_url=PHOTO), TaskRequest)

    async with open_services(settings) as services:
        call = checked_call(
            task, services.models, caller=Caller("default"), base_url="http://127.0.0.1", traceparent=""
        )
        services = msgspec.structs.replace(services, storage=slow)
        receipt = await submit("tsk_1", call, services)

    assert receipt.submitted.is_hit
    assert [key for key in stored_objects(settings) if key.startswith("inputs/")] == [
        f"inputs/default/{source['task_id']}"
    ]


async def test_reuse_is_counted(client: httpx.AsyncClient, store: Store, storage: Storage) -> None:
    counter = 'penstock_tasks_reused_total{how="hit",model="superres-x4"}'

    def count() -> float:
        lines = exposition.scrape().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(counter))

    before = count()
    await submitted(client)
    await complete(store, storage, b"result")
    await submitted(client)

    assert count() == before + 1


async def test_an_answered_submit_can_be_repeated(client: httpx.AsyncClient, store: Store, storage: Storage) -> None:
    await submitted(client)
    await complete(store, storage, b"result")
    first = await submitted(client, client_request_id="order-1")

    asked = body(image_url=CAT, client_request_id="order-1")
    again = await client.post("/v1/tasks", json=asked, headers={"Cache-Control": "no-cache"})

    assert (again.status_code, again.json()["task_id"]) == (200, first["task_id"])
    assert again.json()["status"] == "SUCCESS"


async def test_who_waits_for_an_equal_task_is_told_of_its_end(
    client: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    await submitted(client)
    waiting = asyncio.create_task(client.post("/v1/tasks", json=body(image_url=CAT), headers={"Prefer": "wait=20"}))
    while (await store.listing.count("default"))[State.PENDING] < 2:
        await asyncio.sleep(0.01)

    await complete(store, storage, b"result")
    async with asyncio.timeout(60):
        late = await client.post("/v1/tasks", json=body(image_url=CAT), headers={"Prefer": "wait=20"})
        answers = [await waiting, late]

    assert [(answer.status_code, answer.json()["reuse"]) for answer in answers] == [(200, "coalesced"), (200, "hit")]


# --- what is equal ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "same",
    [
        {"params": {"variant": "general"}},
        {"output": {"format": "png", "quality": 90}},
        {"metadata": {"album": "42"}},
        {"result_ttl_s": 600, "timeout_s": 20, "retry": {"max_attempts": 1}},
        {"priority": "low"},
        {"image_url": CAT.replace("image/png", "")},
    ],
    ids=str,
)
async def test_tasks_are_equal_that_differ_only_in(client: httpx.AsyncClient, same: dict[str, Any]) -> None:
    await submitted(client)

    assert (await submitted(client, **same))["reuse"] == "coalesced"


@pytest.mark.parametrize(
    "other",
    [
        {"image_url": DOG},
        {"params": {"variant": "clean"}},
        {"output": {"format": "jpeg"}},
        {"output": {"quality": 80}},
        {"model": DATA},
    ],
    ids=lambda other: str(list(other)),
)
async def test_tasks_are_not_equal_that_differ_in(client: httpx.AsyncClient, other: dict[str, Any]) -> None:
    await submitted(client)

    assert (await submitted(client, **other))["reuse"] == "miss"


async def test_how_an_image_is_written_does_not_matter_where_none_is(client: httpx.AsyncClient) -> None:
    await submitted(client, model=DATA)

    assert (await submitted(client, model=DATA, output={"format": "jpeg"}))["reuse"] == "coalesced"


async def test_what_is_behind_a_url_may_change(client: httpx.AsyncClient) -> None:
    url = "https://images.example.com/cat.png"

    assert [(await submitted(client, image_url=url))["reuse"] for _ in range(2)] == ["miss", "miss"]


# --- who shares ---------------------------------------------------------------------------------------------------


async def test_another_key_learns_nothing_from_a_submit(settings: Settings, store: Store, storage: Storage) -> None:
    keys = {"alice": "a" * 16, "bob": "b" * 16}
    both = ApiSettings(keys=tuple(keys.values()), linger_s=0)  # without names they are of one tenant

    with api_server.in_thread(msgspec.structs.replace(settings, api=both)) as url:
        async with httpx.AsyncClient(base_url=url) as client:
            alice, bob = ({"X-API-Key": key} for key in keys.values())
            client.headers = alice
            await submitted(client)
            waiting = await submitted(client, headers=bob)
            await complete(store, storage, b"for alice")
            client.headers = bob
            late = await submitted(client)

    assert (waiting["reuse"], late["reuse"]) == ("miss", "coalesced")
    assert (await claim(store)).id == waiting["task_id"]


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ({}, {"reuse": False}),
        ({"Cache-Control": "no-cache"}, {}),
        ({"Cache-Control": "max-age=0, No-Cache"}, {}),
        ({"Cache-Control": "no-cache"}, {"reuse": True}),
    ],
)
async def test_a_task_runs_when_the_client_wants_it(
    client: httpx.AsyncClient, store: Store, storage: Storage, headers: dict[str, str], asked: dict[str, Any]
) -> None:
    await submitted(client)
    await complete(store, storage, b"old")

    forced = await submitted(client, headers=headers, **asked)

    assert (forced["status"], forced["reuse"]) == ("PENDING", "miss")
    await complete(store, storage, b"new")
    later = await submitted(client, headers={"Cache-Control": "max-age=60"})
    assert (await client.get(later["links"]["result"])).content == b"new"


async def test_the_operator_can_turn_it_off(settings: Settings, api_key: str, store: Store, storage: Storage) -> None:
    off = msgspec.structs.replace(settings, queue=QueueSettings(reuse=False))

    with api_server.in_thread(off) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": api_key}) as client:
            await submitted(client)
            await complete(store, storage, b"result")

            assert (await submitted(client))["status"] == "PENDING"


# --- the files ----------------------------------------------------------------------------------------------------


async def test_the_file_outlives_the_task_that_made_it_and_goes_with_the_last_that_shows_it(
    client: httpx.AsyncClient,
    store: Store,
    batches: BatchStore,
    condemned: Condemned,
    storage: Storage,
    settings: Settings,
) -> None:
    async def pruned(task_id: str) -> int:
        """Let the retention of one task be over, and prune; how many went."""
        await store.engine.client.zadd(store.engine.keys.finals, {task_id: 1})
        return await prune(store, storage)

    source = await submitted(client, image_url=PHOTO, result_ttl_s=60)
    follower = await submitted(client, image_url=PHOTO, result_ttl_s=61)
    file = await complete(store, storage, b"result")

    assert await pruned(source["task_id"]) == 1
    assert (await client.get(source["links"]["result"])).status_code == 410
    assert (await client.get(follower["links"]["result"])).content == b"result"
    assert stored_objects(settings) == [f"inputs/default/{follower['task_id']}", file.s3_key]

    assert await pruned(follower["task_id"]) == 1
    assert stored_objects(settings) == []


async def test_a_result_whose_file_is_lost_is_not_given_out_and_the_task_runs_again(
    client: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    first = await submitted(client)
    file = await complete(store, storage, b"result")
    await storage.delete(file.s3_key)

    second = await submitted(client)

    assert (second["status"], second["reuse"]) == ("PENDING", "miss")
    answer = await client.get(first["links"]["result"])
    assert (answer.status_code, answer.json()["code"]) == (410, "result_expired")
    await complete(store, storage, b"the same again")
    third = await submitted(client)
    assert (third["status"], third["reuse"]) == ("SUCCESS", "hit")
    assert (await client.get(third["links"]["result"])).content == b"the same again"


async def test_reading_a_result_whose_file_is_lost_ends_its_reuse(
    client: httpx.AsyncClient, store: Store, storage: Storage, settings: Settings
) -> None:
    await submitted(client)
    file = await complete(store, storage, b"result")
    hit = await submitted(client)
    assert hit["reuse"] == "hit"
    await storage.delete(file.s3_key)

    answer = await client.get(hit["links"]["result"])

    assert answer.status_code == 410
    async with connect(settings.redis) as redis:
        assert await redis.hlen(Keys(settings.redis.namespace).reuse) == 0


async def test_lines_whose_results_are_lost_run_and_the_others_are_answered(
    client: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    await submitted(client)
    lost = await complete(store, storage, b"a cat")
    await submitted(client, image_url=DOG)
    await complete(store, storage, b"a dog")
    await storage.delete(lost.s3_key)
    lines = [{"custom_id": str(n)} | body(image_url=url) for n, url in enumerate((CAT, DOG, DOG, CAT))]

    answer = await client.post("/v1/batches", json={"lines": lines})
    batch = answer.raise_for_status().json()["batch_id"]
    async with asyncio.timeout(60):
        while len(tasks := (await client.get("/v1/tasks", params={"batch_id": batch})).json()["data"]) < len(lines):
            await asyncio.sleep(0.01)

    assert {task["custom_id"]: task["reuse"] for task in tasks} == {
        "0": "miss", "1": "hit", "2": "hit", "3": "coalesced"
    }  # fmt: skip

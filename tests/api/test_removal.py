"""Deleting tasks, and canceling and deleting by filter."""

import asyncio
from typing import Any, get_args

import httpx
import msgspec
import pytest

from penstock.api.routes.removal import Ended, Live
from penstock.core.access import TENANT
from penstock.core.task import State
from penstock.settings import Settings, StorageSettings
from penstock.storage import Storage
from penstock.store import Store
from tests.support import api_server
from tests.support.drive import (
    MODEL,
    body,
    claim,
    complete,
    data_uri,
    fail,
    large_photo,
    nothing_is_stored,
    stored_objects,
)
from tests.support.stores import submit

pytestmark = pytest.mark.shared_server


async def submitted(client: httpx.AsyncClient, **changes: Any) -> str:
    """Path of a new task."""
    return str((await client.post("/v1/tasks", json=body(**changes))).headers["Location"])


async def states(client: httpx.AsyncClient) -> list[str]:
    """Of all tasks, sorted."""
    return sorted(task["status"] for task in (await client.get("/v1/tasks")).json()["data"])


# --- one ------------------------------------------------------------------------------------------------------


async def test_a_deleted_task_leaves_neither_record_nor_files(
    client: httpx.AsyncClient, store: Store, storage: Storage, settings: Settings
) -> None:
    path = await submitted(client, image_url=data_uri(large_photo()))
    await complete(store, storage, b"bytes of a result")
    assert len(stored_objects(settings)) == 2

    answer = await client.delete(path)
    reads = [await client.get(path + end) for end in ("", "/result", "/events", "/explain")]

    assert (answer.status_code, answer.content) == (204, b"")
    assert [(read.status_code, read.json()["code"]) for read in reads] == [(410, "result_expired")] * 4
    assert stored_objects(settings) == []
    assert await states(client) == []


async def test_deleting_again_is_fine_and_what_never_was_is_404(client: httpx.AsyncClient, store: Store) -> None:
    path = await submitted(client)
    await fail(store)

    answers = [await client.delete(path) for _ in range(2)]
    unknown = await client.delete("/v1/tasks/tsk_0")

    assert [answer.status_code for answer in answers] == [204, 204]
    assert (unknown.status_code, unknown.json()["code"]) == (404, "task_not_found")


@pytest.mark.parametrize("running", [False, True])
async def test_a_task_is_canceled_before_it_is_deleted(client: httpx.AsyncClient, store: Store, running: bool) -> None:
    path = await submitted(client)
    if running:
        await claim(store)

    refused = await client.delete(path)
    await client.post(f"{path}/cancel")
    deleted = await client.delete(path)

    assert (refused.status_code, refused.json()["code"]) == (409, "task_not_final")
    assert deleted.status_code == 204


async def test_a_result_that_another_task_shows_is_kept_for_it(
    client: httpx.AsyncClient, store: Store, storage: Storage, settings: Settings
) -> None:
    equal = {"image_url": data_uri(large_photo())}
    source = await submitted(client, **equal)
    file = await complete(store, storage, b"bytes of a result")
    hit = await submitted(client, **equal)

    await client.delete(source)
    kept = await client.get(f"{hit}/result")
    later = await submitted(client, **equal)
    await client.delete(hit)

    assert kept.content == b"bytes of a result"
    assert (await client.get(later)).json()["reuse"] == "miss", "nothing is taken from a deleted task"
    assert file.s3_key not in stored_objects(settings)


async def test_deleting_tasks_at_once_keeps_the_results_that_others_show(
    client: httpx.AsyncClient, store: Store, storage: Storage, settings: Settings
) -> None:
    first, again = await twice(client, store, storage, 40)
    eight = asyncio.Semaphore(8)

    async def delete(path: str) -> int:
        async with eight:
            return (await client.delete(path)).status_code

    deleted = await asyncio.gather(*(delete(path) for path in first))
    kept = [(await client.get(f"{path}/result")).content for path in again]

    assert set(deleted) == {204}
    assert kept == [f"result {n}".encode() for n in range(40)]
    await asyncio.gather(*(delete(path) for path in again))
    await nothing_is_stored(settings)


async def test_deleting_by_filter_twice_at_once_keeps_the_results_that_others_show(
    client: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    _, again = await twice(client, store, storage, 40)

    async def delete_all() -> int:
        deleted, has_more = 0, True
        while has_more:
            answer = (await client.post("/v1/tasks/delete?status=SUCCESS&priority=normal&limit=5")).json()
            deleted, has_more = deleted + answer["deleted"], answer["has_more"]
        return deleted

    deleted = await asyncio.gather(delete_all(), delete_all())
    kept = [(await client.get(f"{path}/result")).content for path in again]

    assert sum(deleted) == 40
    assert kept == [f"result {n}".encode() for n in range(40)]


async def twice(client: httpx.AsyncClient, store: Store, storage: Storage, count: int) -> tuple[list[str], list[str]]:
    """Paths of tasks that ran, and of as many of a higher priority that show the same results."""
    first, again = [], []
    for n in range(count):
        equal = {"image_url": data_uri(large_photo())}
        first.append(await submitted(client, **equal))
        await complete(store, storage, f"result {n}".encode())
        again.append(await submitted(client, **equal, priority="high"))
    assert (await store.listing.count(TENANT))[State.SUCCESS] == 2 * count
    return first, again


async def test_a_deleted_task_may_be_submitted_anew(client: httpx.AsyncClient, store: Store) -> None:
    path = await submitted(client, client_request_id="order-1")
    await fail(store)
    await client.delete(path)

    assert await submitted(client, client_request_id="order-1") != path


async def test_a_backlog_of_the_retention_is_not_for_a_delete_to_work_off(
    store: Store, client: httpx.AsyncClient
) -> None:
    for _ in range(30):
        await store.tasks.cancel(await submit(store, result_ttl_s=0), TENANT)
    path = await submitted(client)
    await client.post(f"{path}/cancel")

    await client.delete(path)

    assert (await client.get(path)).status_code == 410
    assert len(await states(client)) == 30


NOWHERE = StorageSettings(
    local=False, s3_bucket="b", s3_endpoint="http://127.0.0.1:9", s3_access_key="k", s3_secret_key="s"
)


async def test_while_the_storage_is_away_a_delete_says_so_and_is_done_later(
    settings: Settings, store: Store, storage: Storage, client: httpx.AsyncClient, api_key: str
) -> None:
    path = await submitted(client)
    await complete(store, storage, b"bytes of a result")

    with api_server.in_thread(msgspec.structs.replace(settings, storage=NOWHERE)) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": api_key}, timeout=30) as other:
            refused = await other.delete(path)
    deleted = await client.delete(path)

    assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
    assert deleted.status_code == 204
    assert stored_objects(settings) == []


async def test_what_an_operator_has_deleted_is_in_the_audit_also_when_the_storage_is_away(
    settings: Settings, store: Store, storage: Storage, client: httpx.AsyncClient
) -> None:
    """Nobody would find it out by a repeat: the tasks match no longer."""
    await submitted(client)
    await complete(store, storage, b"bytes of a result")
    key = (await client.post("/v1/keys", json={"tenant": "ops", "name": "ann", "scopes": ["submit", "operate"]})).json()

    with api_server.in_thread(msgspec.structs.replace(settings, storage=NOWHERE)) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": key["key"]}, timeout=30) as operator:
            refused = await operator.post("/v1/tasks/delete?status=SUCCESS&priority=normal&limit=9&tenant=default")

    assert (refused.status_code, await states(client)) == (503, [])
    last = (await client.get("/v1/audit")).json()["data"][0]
    assert [last[member] for member in ("act", "by", "subject", "details")] == [
        "tasks.delete", "ann", "priority=normal&status=SUCCESS", {"of_tenant": "default", "matched": 1},
    ]  # fmt: skip


# --- by filter ------------------------------------------------------------------------------------------------


async def test_all_waiting_tasks_of_a_kind_are_canceled(client: httpx.AsyncClient, store: Store) -> None:
    await submitted(client, priority="high")
    await claim(store)
    for priority in ("low", "low", "low", "normal"):
        await submitted(client, priority=priority)

    two = await client.post("/v1/tasks/cancel?status=PENDING&priority=low&limit=2")
    rest = await client.post("/v1/tasks/cancel?status=PENDING&priority=low")
    other = await client.post("/v1/tasks/cancel?status=PENDING&model=another")

    assert (two.status_code, two.json()["canceled"]) == (200, 2)
    assert [(rest.json()[member], other.json()[member]) for member in ("canceled", "has_more")] == [
        (1, 0),
        (False, False),
    ]
    assert await states(client) == ["CANCELED"] * 3 + ["PENDING", "RUNNING"]


async def test_all_ended_tasks_of_a_kind_are_deleted(
    client: httpx.AsyncClient, store: Store, settings: Settings
) -> None:
    for _ in range(3):
        await submitted(client, image_url=data_uri(large_photo()))
        await fail(store)
    await submitted(client)

    two = await client.post("/v1/tasks/delete?status=FAILED&limit=2&all=true")
    rest = await client.post(f"/v1/tasks/delete?status=FAILED&model={MODEL}")

    assert (two.status_code, two.json()["deleted"], two.json()["has_more"]) == (200, 2, True)
    assert (rest.json()["deleted"], rest.json()["has_more"]) == (1, False)
    assert await states(client) == ["PENDING"]
    assert stored_objects(settings) == []


@pytest.mark.parametrize(
    ("path", "status"),
    [("cancel", "FAILED"), ("cancel", "SUCCESS"), ("delete", "PENDING"), ("delete", "RUNNING"), ("delete", "ALL")],
)
async def test_a_status_that_the_act_does_not_fit_is_refused(client: httpx.AsyncClient, path: str, status: str) -> None:
    answer = await client.post(f"/v1/tasks/{path}?status={status}")

    assert (answer.status_code, answer.json()["code"], answer.json()["param"]) == (422, "invalid_request", "status")


def test_what_can_be_canceled_and_deleted_is_described_by_state() -> None:
    assert set(get_args(Live)) == {state for state in State if not state.is_final}
    assert set(get_args(Ended)) == {state for state in State if state.is_final}


async def test_another_key_of_the_same_tenant_may_delete(settings: Settings, store: Store) -> None:
    keys = ("first-key", "second-key")  # without names they are of one tenant
    two = msgspec.structs.replace(settings, api=msgspec.structs.replace(settings.api, keys=keys))
    with api_server.in_thread(two) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": "first-key"}) as client:
            path = await submitted(client)
            await fail(store)
            answer = await client.delete(path, headers={"X-API-Key": "second-key"})

    assert answer.status_code == 204

"""Acts on all matching tasks: each hits what the list shows for the same filter, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec.structs import replace

from penstock.core.task import State
from penstock.errors import TaskAlreadyFinal
from penstock.settings import Settings
from penstock.storage import Storage
from penstock.store import Store
from penstock.store.listing import FILTERED
from tests.support.drive import MODEL, body, claim, complete, fail
from tests.support.stores import submission

pytestmark = pytest.mark.shared_server

SCORING = "image-scoring-v1"
ACTS = {"delete": ("SUCCESS", "FAILED", "CANCELED"), "cancel": ("PENDING", "RUNNING"), "retry": ("FAILED", "CANCELED")}
"""The states that each act fits, but EXPIRED, which takes time."""
DONE = {"delete": "deleted", "cancel": "canceled", "retry": "retried"}
FATES = ("PENDING", "RUNNING", "SUCCESS", "FAILED", "CANCELED")

Task = dict[str, Any]

_tasks = st.lists(
    st.fixed_dictionaries(
        {
            "model": st.sampled_from((MODEL, SCORING)),
            "priority": st.sampled_from(("high", "normal", "low")),
            "album": st.sampled_from("12"),
            "of": st.sampled_from(("May", "null")),
            "fate": st.sampled_from(FATES),
        }
    ),
    min_size=6,
    max_size=12,
)
_acts = st.sampled_from(sorted(ACTS)).flatmap(
    lambda act: st.tuples(st.just(act), st.lists(st.sampled_from(ACTS[act]), min_size=1, max_size=4))
)
_filters = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from((MODEL, SCORING, "another")),
        "priority": st.sampled_from(("high", "normal", "low")),
        "metadata.album": st.sampled_from("123"),
        "metadata.of": st.sampled_from(("May", "null")),
        "batch_id": st.just("bat_0"),
        "created_after": st.integers(0, 11),
        "created_before": st.integers(0, 11),
    },
)


@pytest.fixture
def settings(settings: Settings, patient: None) -> Settings:
    """No lease ends while a test goes on, and what an act that was cut off has done is not counted."""
    return replace(settings, queue=replace(settings.queue, lease_s=600))


@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")  # the server's thread does
@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(made=_tasks, act=_acts, narrowed=_filters, limit=st.integers(1, 7))
async def test_an_act_hits_what_its_dry_run_says_and_the_list_shows(
    client: httpx.AsyncClient,
    store: Store,
    storage: Storage,
    made: list[dict[str, str]],
    act: tuple[str, list[str]],
    narrowed: dict[str, Any],
    limit: int,
) -> None:
    before = await created(client, store, storage, made)
    (name, statuses), ids = act, list(before)
    moments = {n: before[ids[i % len(ids)]]["created_at"] for n, i in narrowed.items() if n.startswith("created_")}
    query = {"status": statuses, "limit": limit} | narrowed | moments
    path, terms = f"/v1/tasks/{name}", {"all": True}

    listed = [task["task_id"] async for page in pages(client, "GET", "/v1/tasks", query) for task in page["data"]]
    dry = [page async for page in pages(client, "POST", path, query | terms | {"dry_run": True})]
    untouched = await everything(client)
    hit = [page async for page in pages(client, "POST", path, query | terms)]
    after = await everything(client)

    fitting = {task_id for task_id, task in before.items() if fits(task, query)}
    assert set(listed) <= fitting if moments else set(listed) == fitting
    assert [task_id for page in dry for task_id in page["task_ids"]] == listed
    assert [(page["matched"], page["dry_run"], page[DONE[name]]) for page in dry] == [
        (len(page["task_ids"]), True, 0) for page in dry
    ]
    assert untouched == before
    assert [task_id for page in hit for task_id in page["task_ids"]] == listed
    assert sum(page[DONE[name]] for page in hit) == len(listed)
    assert {task_id for task_id in before if status_of(after, task_id) != status_of(before, task_id)} == set(listed)


async def test_an_act_goes_on_past_a_thousand_tasks_that_do_not_match(client: httpx.AsyncClient, store: Store) -> None:
    old = (await client.post("/v1/tasks", json=body(metadata={"album": "1"}))).json()["task_id"]
    for _ in range(FILTERED + 1):
        await store.tasks.submit(submission(), rate_limit=0)

    listed = (await client.get("/v1/tasks?status=PENDING&metadata.album=1")).json()
    canceled = (await client.post("/v1/tasks/cancel?status=PENDING&metadata.album=1")).json()

    assert (listed["data"], listed["has_more"]) == ([], True), "a page of the list looks at a thousand"
    assert (canceled["task_ids"], canceled["canceled"]) == ([old], 1)


@pytest.mark.parametrize(("act", "status"), [("delete", "FAILED"), ("cancel", "PENDING"), ("retry", "FAILED")])
async def test_an_act_on_every_task_of_a_status_has_to_be_meant(
    client: httpx.AsyncClient, store: Store, act: str, status: str
) -> None:
    await client.post("/v1/tasks", json=body())
    if status == "FAILED":
        await fail(store)

    refused = [
        await client.post(f"/v1/tasks/{act}?status={status}{rest}") for rest in ("", "&limit=5", "&dry_run=true")
    ]
    untouched = (await client.get("/v1/tasks")).json()["data"][0]["status"]
    done = await client.post(f"/v1/tasks/{act}?status={status}&all=true")

    assert [(answer.status_code, answer.json()["param"]) for answer in refused] == [(422, "all")] * 3
    assert "all=true" in refused[0].json()["detail"]
    assert untouched == status
    assert (done.status_code, done.json()[DONE[act]]) == (200, 1)


async def test_a_task_that_starts_while_the_waiting_ones_are_canceled_goes_on(
    client: httpx.AsyncClient, store: Store
) -> None:
    for _ in range(300):
        await store.tasks.submit(submission(), rate_limit=0)

    canceling = asyncio.create_task(client.post("/v1/tasks/cancel?status=PENDING&all=true"))
    started = []
    while not canceling.done():
        if lease := (await store.leases.claim(worker="w", device="cpu", models=[MODEL])).lease:
            started.append(lease.id)
    answer = (await canceling).raise_for_status().json()
    running = {task_id for task_id, task in (await everything(client)).items() if task["status"] == "RUNNING"}

    assert running == {*started}
    assert answer["canceled"] + len(started) == 300


async def test_an_act_passes_over_a_task_that_is_in_another_state_by_its_turn(
    client: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    await client.post("/v1/tasks", json=body())
    await complete(store, storage, b"bytes of a result")
    (task_id,) = await everything(client)
    await client.post("/v1/tasks", json=body(reuse=False))
    canceled = (await client.get("/v1/tasks?status=PENDING")).json()["data"][0]["task_id"]
    await store.tasks.cancel(canceled, "default", states=[State.PENDING])

    deleted = await store.tasks.delete_each([task_id, canceled], "default", states=[State.FAILED])
    with pytest.raises(TaskAlreadyFinal):
        await store.tasks.resubmit(canceled, "default", states=[State.FAILED])

    assert deleted == (0, [])
    assert {task["status"] for task in (await everything(client)).values()} == {"SUCCESS", "CANCELED"}


async def test_a_status_may_be_given_more_than_once(client: httpx.AsyncClient, store: Store) -> None:
    failed = (await client.post("/v1/tasks", json=body())).json()["task_id"]
    await fail(store)
    canceled = (await client.post("/v1/tasks", json=body())).json()["task_id"]
    await client.post(f"/v1/tasks/{canceled}/cancel")

    answer = (await client.post("/v1/tasks/delete?status=FAILED&status=CANCELED&all=true")).json()

    assert (answer["deleted"], answer["task_ids"]) == (2, [canceled, failed])


async def test_a_purge_says_beforehand_what_it_would_cancel(client: httpx.AsyncClient) -> None:
    low = [(await client.post("/v1/tasks", json=body(priority="low"))).json()["task_id"] for _ in range(3)]
    await client.post("/v1/tasks", json=body())

    dry = (await client.post(f"/v1/queues/{MODEL}/purge?priority=low&dry_run=true")).json()
    one = (await client.post(f"/v1/queues/{MODEL}/purge?priority=low&dry_run=true&limit=1")).json()
    purged = (await client.post(f"/v1/queues/{MODEL}/purge?priority=low")).json()

    assert dry == {"matched": 3, "task_ids": low[::-1], "dry_run": True, "canceled": 0, "has_more": False}
    assert (one["matched"], one["has_more"]) == (1, True)
    assert (purged["matched"], purged["canceled"]) == (3, 3)


async def created(
    client: httpx.AsyncClient, store: Store, storage: Storage, made: list[dict[str, str]]
) -> dict[str, Task]:
    """All tasks that there are then. One that is to be claimed is made while none waits."""
    for task_id in await everything(client):
        await client.post(f"/v1/tasks/{task_id}/cancel")
        (await client.delete(f"/v1/tasks/{task_id}")).raise_for_status()
    for wanted in sorted(made, key=lambda wanted: wanted["fate"] == "PENDING"):
        sent = body(
            model=wanted["model"],
            priority=wanted["priority"],
            metadata={"album": wanted["album"], "of": wanted["of"]},
            reuse=False,
        )
        path = (await client.post("/v1/tasks", json=sent)).raise_for_status().headers["Location"]
        match wanted["fate"]:
            case "RUNNING":
                await claim(store)
            case "SUCCESS":
                await complete(store, storage, b"bytes of a result")
            case "FAILED":
                await fail(store)
            case "CANCELED":
                await client.post(f"{path}/cancel")
    return await everything(client)


async def everything(client: httpx.AsyncClient) -> dict[str, Task]:
    """All tasks, by id."""
    return {
        task["task_id"]: task
        async for page in pages(client, "GET", "/v1/tasks", {"limit": 100})
        for task in page["data"]
    }


async def pages(
    client: httpx.AsyncClient, method: str, path: str, query: dict[str, Any]
) -> AsyncIterator[dict[str, Any]]:
    """The answer, and those that go on from it."""
    cursor: dict[str, str] = {}
    while True:
        page = (await client.request(method, path, params=query | cursor)).raise_for_status().json()
        yield page
        if not page["has_more"]:
            return
        cursor = {"cursor": page["next_cursor"]}


def fits(task: Task, query: dict[str, Any]) -> bool:
    """Whether a task passes a filter, its moments aside."""
    wanted = {n.removeprefix("metadata."): v for n, v in query.items() if n.startswith("metadata.")}
    named = all(query.get(name) in (None, task[name]) for name in ("model", "priority", "batch_id"))
    return task["status"] in query["status"] and named and wanted.items() <= task["metadata"].items()


def status_of(tasks: dict[str, Task], task_id: str) -> str | None:
    """None for one that is not there."""
    return tasks[task_id]["status"] if task_id in tasks else None

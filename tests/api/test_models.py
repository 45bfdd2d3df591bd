"""Models in the API: it knows what workers have published, and imports none of them."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from penstock.core.model import Member, Model, Residence
from penstock.core.task import Outcome, Result
from penstock.intake import estimates
from penstock.settings import Settings
from penstock.store import Store, WorkerInfo
from penstock.store.workers import WorkerStore
from tests.support import api_server, drive
from tests.support.drive import body, data_uri, image

GHOST = Model(
    name="ghost",
    version="7",
    digest="d7",
    title="Nothing that could be imported here",
    produces="data",
    inputs={"image": Member()},
    params={"type": "object", "properties": {"level": {"type": "integer", "maximum": 3, "default": 2}}},
)


async def published(client: httpx.AsyncClient, name: str) -> dict[str, Any]:
    """The model as the catalogue shows it, as soon as it does."""
    async with asyncio.timeout(60):
        while (answer := await client.get(f"/v1/models/{name}")).status_code != 200:
            await asyncio.sleep(0.01)
    return dict(answer.json())


@pytest.fixture
async def unpublished(settings: Settings, api_key: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server of which no worker has published anything yet."""
    with api_server.in_thread(settings, is_published=False) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": api_key}, timeout=30) as opened:
            yield opened


async def test_a_model_that_no_module_here_has_is_served(client: httpx.AsyncClient, store: Store) -> None:
    await store.models.publish([GHOST], worker="w9")

    shown = await published(client, "ghost")
    wrong = await client.post("/v1/tasks", json=body(model="ghost", params={"level": 4}))
    made = await client.post("/v1/tasks", json=body(model="ghost", image_url=data_uri(image())))
    lease = (await store.leases.claim(worker="w9", device="cpu", models=["ghost"])).lease
    assert lease is not None
    await store.leases.complete(lease, Outcome(result=Result(data={"seen": True})))
    task = (await client.get(made.headers["Location"])).json()

    assert (shown["title"], shown["version"], shown["params"]) == (GHOST.title, "7", GHOST.params)
    assert (wrong.status_code, wrong.json()["param"]) == (422, "params.level")
    assert (lease.request.model, lease.request.digest) == ("ghost", "d7")
    assert (task["model"], task["model_version"], task["model_digest"]) == ("ghost", "7", "d7")
    assert (task["status"], task["result"]["data"]) == ("SUCCESS", {"seen": True})


async def test_the_only_image_of_a_model_may_be_left_out_where_it_says_so(
    client: httpx.AsyncClient, store: Store
) -> None:
    await store.models.publish([replace(GHOST, inputs={"image": Member(required=False)})], worker="w9")
    await published(client, "ghost")

    made = await client.post("/v1/tasks", json={"model": "ghost", "input": {}})
    lease = (await store.leases.claim(worker="w9", device="cpu", models=["ghost"])).lease

    assert made.status_code == 202, made.text
    assert lease is not None
    assert lease.request.inputs == {}


def test_a_server_starts_without_the_runtime_and_the_modules_of_its_models(
    settings: Settings, api_key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('this image has no runtime')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    elsewhere = replace(settings, models=replace(settings.models, modules=("a_module_of_the_workers",)))
    with api_server.ServerProcess(elsewhere) as server:
        asked = {"headers": {"X-API-Key": api_key}, "timeout": 30}
        early = httpx.post(f"{server.url}/v1/tasks", json=body(), **asked)
        api_server.publish_now(settings)
        taken = httpx.post(f"{server.url}/v1/tasks", json=body(params={"variant": "clean"}), **asked)

    assert (early.status_code, early.json()["code"]) == (503, "not_ready")
    assert taken.status_code == 202


async def test_a_version_can_be_named_in_a_submit(client: httpx.AsyncClient, store: Store) -> None:
    right = await client.post("/v1/tasks", json=body(model=f"{drive.MODEL}@1"))
    wrong = await client.post("/v1/tasks", json=body(model=f"{drive.MODEL}@2"))
    listed, others = [
        (await client.get("/v1/tasks", params={"model": f"{drive.MODEL}@{version}"})).json()["data"] for version in "12"
    ]

    assert right.status_code == 202
    assert ([task["task_id"] for task in listed], others) == ([right.json()["task_id"]], [])
    assert (await drive.claim(store)).request.model == drive.MODEL
    assert (wrong.status_code, wrong.json()["code"], wrong.json()["param"]) == (404, "model_not_found", "model")


async def test_a_model_that_was_edited_gives_no_old_result(client: httpx.AsyncClient, store: Store) -> None:
    await store.models.publish([GHOST], worker="w9")
    await published(client, "ghost")
    sent = body(model="ghost", image_url=data_uri(image()))
    await client.post("/v1/tasks", json=sent)
    lease = (await store.leases.claim(worker="w9", device="cpu", models=["ghost"])).lease
    assert lease is not None
    await store.leases.complete(lease, Outcome(result=Result(data={"by": "d7"})))
    before = await client.post("/v1/tasks", json=sent)

    await store.models.publish([replace(GHOST, digest="d8")], worker="w9")
    async with asyncio.timeout(60):
        while (await published(client, "ghost"))["versions"][0]["digest"] != "d8":
            await asyncio.sleep(0.01)
    after = await client.post("/v1/tasks", json=sent)

    assert (before.json()["status"], after.json()["status"]) == ("SUCCESS", "PENDING")


async def test_before_any_worker_has_published_its_models_a_submit_is_to_be_repeated(
    unpublished: httpx.AsyncClient, store: Store
) -> None:
    asked = {"task": "/v1/tasks", "prediction": "/replicate/v1/predictions"}
    bodies = {"task": body(model="ghost"), "prediction": {"version": "ghost", "input": {"image": drive.URL}}}
    early = {name: await unpublished.post(path, json=bodies[name]) for name, path in asked.items()}
    lines = {"lines": [{"custom_id": "1", "model": "ghost", "input": body()["input"]}]}
    early["batch"] = await unpublished.post("/v1/batches", json=lines)
    early["model"] = await unpublished.get("/v1/models/ghost")
    assert {(answer.status_code, answer.json()["code"]) for answer in early.values()} == {(503, "not_ready")}
    assert {answer.headers["Retry-After"] for answer in early.values()} == {"1"}

    await store.models.publish([GHOST], worker="w9")

    assert (await unpublished.post("/v1/tasks", json=body(model="ghost"))).status_code == 202
    assert (await unpublished.post("/v1/batches", json=lines)).status_code == 202
    unknown = await unpublished.post("/v1/tasks", json=body(model="superres-x4"))
    assert (unknown.status_code, unknown.json()["code"]) == (404, "model_not_found")
    assert "the models are ghost" in unknown.json()["detail"]


async def test_the_description_has_the_request_of_every_published_model(
    client: httpx.AsyncClient, store: Store
) -> None:
    await store.models.publish([GHOST], worker="w9")
    await published(client, "ghost")

    schemas = (await client.get("/schema/openapi.json")).json()["components"]["schemas"]

    assert schemas["TaskRequest"]["discriminator"]["mapping"]["ghost"].endswith("/GhostRequest")
    assert schemas["GhostRequest"]["properties"]["params"]["anyOf"][0]["properties"]["level"]["maximum"] == 3


# --- versions -------------------------------------------------------------------------------------------------

FIRST = Model(name="many", version="1", digest="d1", versioned=True, inputs={"image": Member()})
SECOND = replace(FIRST, version="2", digest="d2", guessed={"input.range": "0-1 is usual"})


def worker_with(worker: str, **residence: Residence) -> WorkerInfo:
    """A READY worker on which the versions of `many` are so: `v1` and `v2`, and perhaps others by their ids."""
    where = {f"many@{name[1:]}" if name.startswith("v") else name: one for name, one in residence.items()}
    return replace(drive.WORKER, id=worker, models=_claimed(where), residence=where)


def _claimed(where: dict[str, Residence]) -> tuple[str, ...]:
    """A worker that has just failed to load a model claims none of its tasks."""
    return tuple(name for name, one in where.items() if one.state != "failed")


def state(name: str, digest: str = "", reason: str = "") -> Residence:
    return Residence(state=name, since=1_800_000_000_000, digest=digest, reason=reason)  # type: ignore[arg-type]


async def test_the_versions_of_a_model_are_shown_with_where_they_are(client: httpx.AsyncClient, store: Store) -> None:
    await store.models.publish([FIRST, SECOND], worker="w1")
    await published(client, "many")
    bad = state("failed", reason="model.toml: line 3")
    await store.leases.renew(worker_with("w1", v1=state("ready", "d1"), v2=state("loading", "d2"), broken=bad), [])
    await store.leases.renew(worker_with("w2", v1=state("evicted", "other"), v2=state("cold", "d2")), [])

    shown = (await client.get("/v1/models")).json()

    many = next(model for model in shown["data"] if model["name"] == "many")
    first, second = many["versions"]
    assert (many["version"], many["state"], many["guessed"]) == ("1", "ready", {})
    assert [(one["version"], one["is_default"], one["state"]) for one in (first, second)] == [
        ("1", True, "ready"), ("2", False, "loading"),
    ]  # fmt: skip
    assert first["differs"] == {"d1": ["w1"], "other": ["w2"]}
    assert (second["differs"], second["guessed"]) == ({}, {"input.range": "0-1 is usual"})
    assert second["workers"][0] == {
        "worker": "w1", "device": "cpu", "state": "loading", "since": "2027-01-15T08:00:00.000Z",
        "memory_bytes": 0, "reason": "",
    }  # fmt: skip
    assert {"name": "broken", "version": None, "worker": "w1", "reason": "model.toml: line 3"} in shown["faulty"]
    assert (await client.get("/v1/models/many@2")).json() | {"version": "1", "state": "ready", "guessed": {}} == many


async def test_a_task_runs_on_the_version_that_was_the_default_when_it_was_submitted(
    client: httpx.AsyncClient, store: Store
) -> None:
    await store.models.publish([FIRST, SECOND], worker="w1")
    await published(client, "many")
    before = (await client.post("/v1/tasks", json=body(model="many"))).json()["task_id"]

    switched = await client.put("/v1/models/many/default", json={"version": "2"})
    after = (await client.post("/v1/tasks", json=body(model="many"))).json()["task_id"]

    assert (switched.status_code, switched.json()["version"]) == (200, "2")
    tasks = [(await client.get(f"/v1/tasks/{one}")).json() for one in (before, after)]
    assert [(task["model"], task["model_version"], task["model_digest"]) for task in tasks] == [
        ("many", "1", "d1"), ("many", "2", "d2"),
    ]  # fmt: skip
    assert [task["model_guessed"] for task in tasks] == [[], ["input.range"]]
    leases = [(await store.leases.claim(worker="w1", device="cpu", models=[f"many@{v}"])).lease for v in "12"]
    assert [lease.id if lease else None for lease in leases] == [before, after]


async def test_a_client_request_id_names_its_task_also_after_the_default_was_switched(
    client: httpx.AsyncClient, store: Store
) -> None:
    await store.models.publish([FIRST, SECOND], worker="w1")
    await published(client, "many")
    first = await client.post("/v1/tasks", json=body(model="many", client_request_id="order-1"))

    await client.put("/v1/models/many/default", json={"version": "2"})
    again = await client.post("/v1/tasks", json=body(model="many", client_request_id="order-1"))

    assert (again.status_code, again.json()["task_id"]) == (200, first.json()["task_id"])


async def test_the_results_of_two_versions_are_not_mistaken_for_each_other(
    client: httpx.AsyncClient, store: Store
) -> None:
    await store.models.publish([FIRST, SECOND], worker="w1")
    await published(client, "many")
    sent = body(image_url=data_uri(image()))
    await client.post("/v1/tasks", json=sent | {"model": "many@1"})
    lease = (await store.leases.claim(worker="w1", device="cpu", models=["many@1"])).lease
    assert lease is not None
    await store.leases.complete(lease, Outcome(result=Result(data={"by": "1"})))

    first = await client.post("/v1/tasks", json=sent | {"model": "many"})
    second = await client.post("/v1/tasks", json=sent | {"model": "many@2"})

    assert (first.json()["status"], second.json()["status"]) == ("SUCCESS", "PENDING")


async def test_workers_are_told_to_load_and_unload_a_version(client: httpx.AsyncClient, store: Store) -> None:
    await store.models.publish([FIRST, SECOND], worker="w1")
    await published(client, "many")
    nobody = await client.post("/v1/models/many@2/load")
    await store.leases.renew(worker_with("w1", v1=state("ready"), v2=state("cold")), [])
    signals = store.workers.signals()
    assert await anext(signals) == ("look", "")

    loading = await client.post("/v1/models/many@2/load")
    unloading = await client.post("/v1/models/many/unload")

    assert (nobody.status_code, nobody.json()["code"]) == (503, "not_ready")
    assert (loading.status_code, loading.json()["version"], unloading.status_code) == (202, "2", 202)
    assert [await anext(signals), await anext(signals)] == [("model", "load many@2"), ("model", "unload many@1")]
    await signals.aclose()  # type: ignore[attr-defined]


async def test_a_version_that_no_worker_could_load_does_not_become_the_default(
    client: httpx.AsyncClient, store: Store
) -> None:
    await store.models.publish([FIRST, SECOND], worker="w1")
    await published(client, "many")
    bad = worker_with("w1", v1=state("ready"), v2=state("failed", reason="a wrong digest"))
    await store.leases.renew(bad, [])

    refused = await client.put("/v1/models/many/default", json={"version": "2"})
    default = (await client.get("/v1/models/many")).json()["version"]
    await store.leases.renew(worker_with("w2", v2=state("cold")), [])
    accepted = await client.put("/v1/models/many/default", json={"version": "2"})

    assert (refused.status_code, refused.json()["param"]) == (422, "version")
    assert "no worker could load many@2: a wrong digest" in refused.json()["detail"]
    assert (default, accepted.status_code) == ("1", 200)


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "code"),
    [
        ("PUT", f"/v1/models/{drive.MODEL}/default", {"version": "9"}, 404, "model_not_found"),
        ("PUT", "/v1/models/nothing/default", {"version": "1"}, 404, "model_not_found"),
        ("PUT", f"/v1/models/{drive.MODEL}/default", {"version": 1}, 422, "invalid_request"),
        ("PUT", f"/v1/models/{drive.MODEL}/default", {"file": "/etc/passwd"}, 422, "invalid_request"),
        ("POST", "/v1/models/nothing/load", None, 404, "model_not_found"),
        ("POST", f"/v1/models/{drive.MODEL}@9/unload", None, 404, "model_not_found"),
        ("POST", f"/v1/models/{drive.MODEL}/unload", None, 422, "invalid_request"),
    ],
)
async def test_what_cannot_be_done_to_a_model_is_refused_with_its_reason(
    client: httpx.AsyncClient, method: str, path: str, sent: dict[str, Any] | None, status: int, code: str
) -> None:
    answer = await client.request(method, path, json=sent)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_the_queues_of_a_name_are_those_of_all_its_versions(client: httpx.AsyncClient, store: Store) -> None:
    await store.models.publish([FIRST, SECOND], worker="w1")
    await published(client, "many")
    for model in ("many@1", "many@2", "many@2"):
        await client.post("/v1/tasks", json=body(model=model, reuse=False))

    one = (await client.post("/v1/queues/many@2/pause")).json()["data"]
    both = (await client.post("/v1/queues/many/pause")).json()["data"]
    listed = (await client.get("/v1/tasks", params={"model": "many"})).json()["data"]
    listed_one = (await client.get("/v1/tasks", params={"model": "many@2"})).json()["data"]
    some = (await client.post("/v1/queues/many/purge", params={"dry_run": True, "limit": 2})).json()
    purged = (await client.post("/v1/queues/many/purge")).json()

    assert {queue["model"] for queue in one} == {"many@2"}
    assert {queue["model"] for queue in both} == {"many@1", "many@2"}
    assert all(queue["paused"] for queue in both)
    assert (len(listed), len(listed_one)) == (3, 2)
    assert (some["matched"], some["has_more"], len(some["task_ids"])) == (2, True, 2)
    assert (purged["canceled"], purged["has_more"]) == (3, False)


async def test_the_queue_of_a_model_that_was_removed_can_still_be_purged(
    client: httpx.AsyncClient, store: Store
) -> None:
    await store.models.publish([FIRST], worker="w1")
    await published(client, "many")
    await client.post("/v1/tasks", json=body(model="many"))
    await store.models.retract([FIRST.id])
    async with asyncio.timeout(60):
        while (await client.get("/v1/models/many")).status_code == 200:
            await asyncio.sleep(0.01)

    purged = await client.post("/v1/queues/many@1/purge")
    again = await client.post("/v1/queues/many@1/purge")

    assert (purged.status_code, purged.json()["canceled"]) == (200, 1)
    assert (again.status_code, again.json()["code"]) == (404, "model_not_found")


async def test_a_paused_queue_of_a_model_that_was_removed_can_be_resumed(
    client: httpx.AsyncClient, store: Store
) -> None:
    await store.models.publish([FIRST], worker="w1")
    await published(client, "many")
    await client.post("/v1/queues/many@1/pause")
    await store.models.retract([FIRST.id])
    async with asyncio.timeout(60):
        while (await client.get("/v1/models/many")).status_code == 200:
            await asyncio.sleep(0.01)

    resumed = await client.post("/v1/queues/many@1/resume")
    again = await client.post("/v1/queues/many@1/resume")

    assert (resumed.status_code, {queue["paused"] for queue in resumed.json()["data"]}) == (200, {None})
    assert (again.status_code, again.json()["code"]) == (404, "model_not_found")


async def test_a_version_that_goes_while_it_is_asked_for_is_not_found(
    client: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.models.publish([FIRST, SECOND], worker="w1")
    await published(client, "many@2")
    listed, asked, gone = WorkerStore.listed, asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    async def slowly(workers: WorkerStore) -> list[WorkerInfo]:
        loop.call_soon_threadsafe(asked.set)
        while not gone.is_set():
            await asyncio.sleep(0.01)
        return await listed(workers)

    monkeypatch.setattr(WorkerStore, "listed", slowly)
    reading = asyncio.create_task(client.get("/v1/models/many@2"))
    async with asyncio.timeout(60):
        await asked.wait()
        await store.models.retract([SECOND.id])
        while "many@2" in {queue["model"] for queue in (await client.get("/v1/queues")).json()["data"]}:
            await asyncio.sleep(0.01)
        gone.set()
        answer = await reading

    assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")


async def test_explain_says_where_the_model_of_a_waiting_task_is(client: httpx.AsyncClient, store: Store) -> None:
    await store.models.publish([FIRST, SECOND], worker="w1")
    await published(client, "many")
    task_id = (await client.post("/v1/tasks", json=body(model="many@2"))).json()["task_id"]

    async def blockers(**of: Residence) -> list[str]:
        await store.leases.renew(worker_with("w1", **of), [])
        return [one["code"] for one in (await client.get(f"/v1/tasks/{task_id}/explain")).json()["blockers"]]

    assert await blockers(v2=state("cold")) == ["model_cold"]
    assert await blockers(v2=state("evicted")) == ["model_cold"]
    assert await blockers(v2=state("loading")) == ["model_loading"]
    assert await blockers(v2=state("failed", reason="a wrong digest")) == ["model_failed"]
    assert await blockers(v2=state("ready")) == []
    assert await blockers(v1=state("ready")) == ["no_worker"]


async def test_a_model_that_no_worker_can_load_is_refused_until_one_can(
    client: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "KNOWN_FOR_S", 0)
    await store.models.publish([FIRST], worker="w1")
    await published(client, "many")
    await store.leases.renew(worker_with("w1", v1=state("failed", reason="a wrong digest")), [])
    await client.post("/v1/tasks", json=body())

    refused = await client.post("/v1/tasks", json=body(model="many"))
    quoted = await client.post("/v1/tasks/quote", json=body(model="many"))
    await store.leases.renew(worker_with("w2", v1=state("cold")), [])
    taken = await client.post("/v1/tasks", json=body(model="many"))

    assert (refused.status_code, refused.json()["code"]) == (503, "model_unavailable")
    assert "a wrong digest" in refused.json()["detail"]
    assert quoted.status_code == 503
    assert taken.status_code == 202


async def test_a_model_that_failed_to_load_is_taken_when_a_worker_claims_it_again(
    client: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "KNOWN_FOR_S", 0)
    await store.models.publish([FIRST], worker="w1")
    await published(client, "many")
    failed = worker_with("w1", v1=state("failed", reason="out of memory"))
    await store.leases.renew(failed, [])
    await client.post("/v1/tasks", json=body())
    refused = await client.post("/v1/tasks", json=body(model="many"))

    await store.leases.renew(replace(failed, models=(FIRST.id,)), [])
    taken = await client.post("/v1/tasks", json=body(model="many"))
    explained = (await client.get(f"/v1/tasks/{taken.json()['task_id']}/explain")).json()

    assert (refused.status_code, taken.status_code) == (503, 202)
    assert [one["code"] for one in explained["blockers"]] == ["model_cold"]


async def test_all_lines_of_a_batch_run_on_the_version_that_was_the_default_at_its_submit(
    settings: Settings, api_key: str, store: Store
) -> None:
    one_by_one = replace(settings, queue=replace(settings.queue, batch_window=1))
    with api_server.in_thread(one_by_one) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": api_key}, timeout=30) as client:
            await store.models.publish([FIRST, SECOND], worker="w1")
            await published(client, "many")
            lines = [{"custom_id": f"{n}", "input": body()["input"]} for n in range(3)]
            sent = await client.post(
                "/v1/batches", json={"lines": lines, "defaults": {"model": "many", "reuse": False}}
            )
            assert sent.status_code == 202, sent.text
            await client.put("/v1/models/many/default", json={"version": "2"})
            versions = []
            async with asyncio.timeout(60):
                while len(versions) < 3:
                    claim = await store.leases.claim(worker="w1", device="cpu", models=["many@1", "many@2"])
                    if claim.lease is None:
                        await asyncio.sleep(0.01)
                        continue
                    versions.append(claim.lease.request.version)
                    await store.leases.complete(claim.lease, Outcome(result=Result(data={})))

    assert versions == ["1", "1", "1"]

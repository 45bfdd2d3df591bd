"""Models in the API: it knows what workers have published, and imports none of them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from penstock.core.model import Model
from penstock.core.task import Outcome, Result
from penstock.settings import Settings
from penstock.store import Store
from tests.support import api_server, drive
from tests.support.drive import body, data_uri, image

GHOST = Model(
    name="ghost",
    version="7",
    digest="d7",
    title="Nothing that could be imported here",
    produces="data",
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


async def test_a_version_can_be_named_in_a_submit(client: httpx.AsyncClient, store: Store) -> None:
    right = await client.post("/v1/tasks", json=body(model=f"{drive.MODEL}@1"))
    wrong = await client.post("/v1/tasks", json=body(model=f"{drive.MODEL}@2"))

    assert right.status_code == 202
    assert (await drive.claim(store)).request.model == drive.MODEL
    assert (wrong.status_code, wrong.json()["code"], wrong.json()["param"]) == (404, "model_not_found", "model")


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

"""Inputs inside of requests stay in Redis, over HTTP: without a file, and shown, retried and moved like any other."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from penstock.core.batch import task_id_of
from penstock.core.request import Source
from penstock.settings import Settings
from penstock.storage import Storage
from penstock.store import Store
from penstock.upkeep.sweep import sweep_inline
from tests.support.drive import body, claim, data_uri, fail, large_photo, photo, stored_objects

pytestmark = pytest.mark.shared_server

PHOTO = photo()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """There is room for two photos, of which one may stay when its task has ended."""
    return replace(settings, queue=replace(settings.queue, inline_budget_bytes=2 * len(PHOTO)))


@pytest.fixture
async def browser(server: str, api_key: str) -> AsyncIterator[httpx.AsyncClient]:
    """Is logged in."""
    async with httpx.AsyncClient(base_url=server, timeout=30, verify=False) as opened:
        await opened.post("/console/login", data={"key": api_key})
        yield opened


async def given(store: Store) -> Source:
    """The input of the next task, as a worker is given it."""
    return (await claim(store)).request.inputs["image"]


@pytest.mark.shared_server(False)
async def test_submits_with_inline_images_are_taken_while_the_storage_is_away(
    client: httpx.AsyncClient, store: Store, settings: Settings
) -> None:
    objects = Path(settings.storage.directory)
    async with asyncio.timeout(60):
        while not objects.exists():  # the first look at the storage makes it
            await asyncio.sleep(0.02)
    objects.rename(objects.with_name("away"))
    objects.write_text("in the way")

    small = await client.post("/v1/tasks", json=body(image_url=data_uri(PHOTO)))
    large = await client.post("/v1/tasks", json=body(image_url=data_uri(large_photo())))

    assert (small.status_code, large.status_code) == (202, 503)
    assert (await given(store)).data == PHOTO


async def test_what_finds_no_room_in_redis_is_stored(
    client: httpx.AsyncClient, store: Store, settings: Settings
) -> None:
    answers = [await client.post("/v1/tasks", json=body(image_url=data_uri(PHOTO), reuse=False)) for _ in range(3)]

    inputs = [await given(store) for _ in answers]
    key = f"inputs/default/{answers[2].json()['task_id']}"
    assert inputs == [Source(data=PHOTO), Source(data=PHOTO), Source(key=key)]
    assert stored_objects(settings) == [key]


async def test_an_input_is_shown_and_retried_wherever_it_is(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, store: Store, storage: Storage, settings: Settings
) -> None:
    task_id = (await client.post("/v1/tasks", json=body(image_url=data_uri(PHOTO)))).json()["task_id"]
    await fail(store)
    link = f"/console/tasks/{task_id}/inputs/image"

    in_redis = await browser.get(link)
    assert stored_objects(settings) == []
    store.engine.settings = replace(settings.queue, inline_budget_bytes=len(PHOTO))
    await sweep_inline(store.inline, storage)
    stored = await browser.get(link)

    assert [answer.content for answer in (in_redis, stored)] == [PHOTO, PHOTO]
    same = ("Content-Type", "Content-Disposition", "Cache-Control", "Vary", "Content-Security-Policy")
    assert [in_redis.headers[name] for name in same] == [stored.headers[name] for name in same]
    assert stored_objects(settings) == [f"inputs/default/{task_id}"]
    assert (await client.post(f"/v1/tasks/{task_id}/retry")).status_code == 202
    assert await given(store) == Source(key=f"inputs/default/{task_id}")


async def test_lines_of_a_batch_keep_their_inputs_in_redis_as_long_as_there_is_room(
    client: httpx.AsyncClient, store: Store, settings: Settings
) -> None:
    lines = [{"custom_id": f"{n}", "input": {"image_url": data_uri(PHOTO)}, "reuse": False} for n in range(4)]
    batch = await client.post("/v1/batches", json={"defaults": {"model": body()["model"]}, "lines": lines})
    ids = [task_id_of(batch.json()["batch_id"], place) for place in range(4)]
    async with asyncio.timeout(30):
        while (await store.listing.count("default"))["PENDING"] < 4:
            await asyncio.sleep(0.02)

    inputs = [await given(store) for _ in ids]

    assert [source.data for source in inputs] == [PHOTO, PHOTO, None, None]
    stored = [key for key in stored_objects(settings) if key.startswith("inputs/")]
    assert stored == sorted(str(source.key) for source in inputs[2:])

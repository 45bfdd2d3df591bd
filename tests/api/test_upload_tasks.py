"""Tasks whose input is an upload: what is checked before a worker sees it, and whose result they may share."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from penstock.settings import LimitSettings, Settings
from penstock.storage import Storage
from penstock.store import Condemned, Store, UploadStore
from tests.support.drive import MODEL, URL, body, claim, complete, data_uri, fail, image, photo, stored_objects

pytestmark = pytest.mark.shared_server

PHOTO = photo()
OTHER = PHOTO[:-1] + bytes([PHOTO[-1] ^ 1])
"""Of the same size."""
LIMITS = LimitSettings(max_input_bytes=2_000_000, max_image_megapixels=2)


@pytest.fixture(scope="module", params=["local", "s3"])  # of the module: one server after the other, not in turns
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def settings(request: pytest.FixtureRequest, settings: Settings, place: str) -> Settings:
    if place == "s3":
        settings = replace(settings, storage=request.getfixturevalue("s3_server"))
    return replace(settings, limits=LIMITS)


async def again_while_busy(send: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """The answer that is no fault of the server's: under load a bucket answers 500 now and then, and the API 503."""
    async with asyncio.timeout(60):
        while (answer := await send()).is_server_error:
            await asyncio.sleep(0.1)
    return answer.raise_for_status()


async def upload(client: httpx.AsyncClient, data: bytes, *, with_digest: bool = True) -> str:
    """Bytes that are there; the id."""
    asked = {"size": len(data), "content_type": "image/png"}
    if with_digest:
        asked["sha256"] = hashlib.sha256(data).hexdigest()
    where = (await client.post("/v1/uploads", json=asked)).json()
    async with httpx.AsyncClient() as keyless:
        await again_while_busy(lambda: keyless.put(where["url"], headers=where["headers"], content=data))
    return str(where["upload_id"])


async def submit(client: httpx.AsyncClient, upload_id: str, **changes: Any) -> httpx.Response:
    return await client.post("/v1/tasks", json={"model": MODEL, "input": {"upload_id": upload_id}} | changes)


async def test_a_worker_finds_the_bytes_of_an_upload(client: httpx.AsyncClient, store: Store, storage: Storage) -> None:
    upload_id = await upload(client, PHOTO)

    answer = await submit(client, upload_id)

    source = (await claim(store)).request.inputs["image"]
    assert answer.status_code == 202
    assert (source.upload, source.url, source.data) == (upload_id, None, None)
    assert source.sha256 == hashlib.sha256(PHOTO).hexdigest(), "and which they have to be"
    assert source.key is not None
    assert await storage.get(source.key, limit=LIMITS.max_input_bytes) == PHOTO


async def test_an_upload_weighs_as_much_as_its_image(client: httpx.AsyncClient) -> None:
    upload_id = await upload(client, PHOTO)

    asked = {"model": MODEL, "input": {"upload_id": upload_id}}
    quote = await again_while_busy(lambda: client.post("/v1/tasks/quote", json=asked))

    assert quote.json()["input"] == {"width": 160, "height": 120}


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"<html>no image</html>", 415, "unsupported_image_format"),
        (b"MZ" + bytes(1_000_000), 415, "unsupported_image_format"),
        (image(2000, 1200), 422, "image_too_large"),
        (PHOTO[:20], 422, "image_decode_failed"),
        (bytes(2_000_001), 413, "input_too_large"),
    ],
    ids=["text", "large program", "pixels", "cut off", "bytes"],
)
async def test_what_is_no_image_is_refused_by_its_first_bytes(
    client: httpx.AsyncClient, data: bytes, status: int, code: str
) -> None:
    answer = await submit(client, await upload(client, data))

    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["param"]) == (status, code, "input.upload_id")


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({}, "input.image_url"),
        ({"image_url": URL, "upload_id": f"upl_{'0' * 32}"}, "input.upload_id"),
        ({"upload_id": "upl_1"}, "input.upload_id"),
        ({"upload_id": "../../results/default/tsk_1/1.png"}, "input.upload_id"),
        ({"upload_id": None, "image_url": None}, "input.image_url"),
    ],
)
async def test_an_input_is_one_of_two(client: httpx.AsyncClient, given: dict[str, Any], param: str) -> None:
    answer = await client.post("/v1/tasks", json={"model": MODEL, "input": given})

    assert (answer.status_code, answer.json()["code"], answer.json()["param"]) == (422, "invalid_request", param)


async def test_an_upload_without_its_bytes_is_refused(client: httpx.AsyncClient) -> None:
    where = (await client.post("/v1/uploads", json={"size": 5})).json()

    answer = await submit(client, where["upload_id"])

    assert (answer.status_code, answer.json()["code"]) == (409, "upload_not_ready")


async def test_an_upload_that_nobody_has_opened_is_refused(client: httpx.AsyncClient) -> None:
    answer = await submit(client, f"upl_{'0' * 32}")

    assert (answer.status_code, answer.json()["code"]) == (404, "upload_not_found")


async def test_bytes_of_another_size_are_never_used(client: httpx.AsyncClient, storage: Storage) -> None:
    """A bucket that does not hold clients to what was signed."""
    where = (await client.post("/v1/uploads", json={"size": len(PHOTO) + 1})).json()
    await storage.put(f"uploads/default/{where['upload_id']}", PHOTO, "image/png")

    answer = await submit(client, where["upload_id"])

    assert (answer.status_code, answer.json()["code"]) == (422, "upload_mismatch")
    assert (await client.get(f"/v1/uploads/{where['upload_id']}")).json()["status"] == "PENDING"


async def test_an_upload_in_use_is_kept_until_the_last_task_is_deleted(client: httpx.AsyncClient, store: Store) -> None:
    upload_id = await upload(client, PHOTO)
    tasks = [(await submit(client, upload_id, reuse=False)).json()["task_id"] for _ in range(2)]

    refused = await client.delete(f"/v1/uploads/{upload_id}")
    shown = (await client.get(f"/v1/uploads/{upload_id}")).json()
    for task_id in tasks:
        await fail(store)
        assert (await client.delete(f"/v1/tasks/{task_id}")).status_code == 204

    assert (refused.status_code, refused.json()["code"]) == (409, "upload_in_use")
    assert (shown["tasks"], shown["expires_at"]) == (2, None)
    assert (await client.delete(f"/v1/uploads/{upload_id}")).status_code == 204


async def test_a_failed_task_runs_again_with_its_upload(
    client: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    task_id = (await submit(client, await upload(client, PHOTO))).json()["task_id"]
    await fail(store)

    assert (await client.post(f"/v1/tasks/{task_id}/retry")).status_code == 202

    key = (await claim(store)).request.inputs["image"].key
    assert await storage.get(str(key)) == PHOTO


# --- equal tasks ----------------------------------------------------------------------------------------------


async def test_equal_bytes_share_a_result_however_they_come(
    client: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    first = await upload(client, PHOTO)
    await submit(client, first)
    await complete(store, storage, b"result")

    for answer in (
        await submit(client, first),
        await submit(client, await upload(client, PHOTO)),
        await client.post("/v1/tasks", json=body(image_url=data_uri(PHOTO))),
    ):
        task = (await client.get(f"/v1/tasks/{answer.json()['task_id']}")).json()
        assert (task["status"], task["reuse"]) == ("SUCCESS", "hit")
    assert (await client.get(f"/v1/uploads/{first}")).json()["tasks"] == 1, "the others need no input"


async def test_a_repeat_with_the_same_bytes_sent_anew_is_the_same_task(client: httpx.AsyncClient) -> None:
    first = await submit(client, await upload(client, PHOTO), client_request_id="order-1")
    again = await submit(client, await upload(client, PHOTO), client_request_id="order-1")
    other = await submit(client, await upload(client, photo("JPEG")), client_request_id="order-1")

    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["task_id"] == first.json()["task_id"]
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


async def test_bytes_whose_digest_nobody_knows_are_no_ones_equal(
    client: httpx.AsyncClient, store: Store, storage: Storage, settings: Settings
) -> None:
    """With a bucket: what is sent to this server is looked at on its way."""
    upload_id = await upload(client, PHOTO, with_digest=False)
    await submit(client, upload_id)
    await complete(store, storage, b"result")

    again = (await client.get(f"/v1/tasks/{(await submit(client, upload_id)).json()['task_id']}")).json()

    assert again["reuse"] == ("hit" if settings.storage.local else "miss")


async def announced(client: httpx.AsyncClient, storage: Storage, data: bytes, sent: bytes) -> str:
    """An upload for which other bytes of the same size have come: a bucket need not compare them. Its id."""
    asked = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    where = (await client.post("/v1/uploads", json=asked)).json()
    await storage.put(f"uploads/default/{where['upload_id']}", sent, "image/png")
    return str(where["upload_id"])


async def test_other_bytes_than_announced_get_no_ones_result(
    client: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    wrong, right = [await announced(client, storage, PHOTO, sent) for sent in (OTHER, PHOTO)]
    await submit(client, await upload(client, PHOTO))
    await complete(store, storage, b"result")

    refused = await submit(client, wrong)
    taken = await submit(client, right)

    assert (refused.status_code, refused.json()["code"]) == (422, "upload_mismatch")
    assert refused.json()["param"] == "input.upload_id"
    assert (await client.get(f"/v1/tasks/{taken.json()['task_id']}")).json()["reuse"] == "hit"


async def test_bytes_that_were_read_once_are_not_read_again(
    client: httpx.AsyncClient, store: Store, storage: Storage, uploads: UploadStore
) -> None:
    upload_id = await announced(client, storage, PHOTO, PHOTO)
    await submit(client, upload_id)
    before = await uploads.find(upload_id)
    await complete(store, storage, b"result")
    await submit(client, upload_id)
    after = await uploads.find(upload_id)

    assert before is not None
    assert after is not None
    assert (before.is_checked, after.is_checked) == (False, True)


async def test_lines_that_are_not_what_was_announced_are_refused(client: httpx.AsyncClient, storage: Storage) -> None:
    said, sent = (b'{"custom_id": "%d", "input": {"image_url": "%b"}}' % (n, URL.encode()) for n in (1, 2))
    upload_id = await announced(client, storage, said, sent)

    answer = await client.post("/v1/batches", json={"upload_id": upload_id, "defaults": {"model": MODEL}})

    assert (answer.status_code, answer.json()["code"]) == (422, "upload_mismatch")
    assert (await client.get("/v1/batches")).json()["data"] == []


async def test_nothing_is_left_when_everything_is_deleted(
    client: httpx.AsyncClient, store: Store, condemned: Condemned, storage: Storage, settings: Settings
) -> None:
    upload_id = await upload(client, PHOTO)
    await submit(client, upload_id, result_ttl_s=60)
    await complete(store, storage, b"result")
    for task in (await store.listing.page("default")).tasks:
        await client.delete(f"/v1/tasks/{task.id}")
    await client.delete(f"/v1/uploads/{upload_id}")

    assert (await store.overdue.prune(), await condemned.take()) == (0, []), (
        "but for a second look at the results, later"
    )
    if settings.storage.local:
        assert stored_objects(settings) == []
    assert (await client.get(f"/v1/uploads/{upload_id}")).status_code == 404

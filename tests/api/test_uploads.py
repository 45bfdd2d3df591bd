"""/v1/uploads, with a directory and with a real bucket: bytes arrive whole or not at all, for their owner alone."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from penstock.api.services import open_services
from penstock.core.access import Caller
from penstock.errors import UploadNotFound, UploadNotReady
from penstock.intake.uploads import ready_upload
from penstock.settings import LimitSettings, Settings, StorageSettings
from penstock.storage import open_storage
from penstock.store import Engine, Store, UploadStore, connect
from tests.support import api_server
from tests.support.drive import MODEL, complete, photo
from tests.support.s3_server import s3_client

pytestmark = pytest.mark.shared_server

PHOTO = os.urandom(700_001)
OTHER_KEY = "another-key-only-for-the-tests"
PNG = photo()
LINK_S = 1
SMALL = LimitSettings(max_body_bytes=200_000, max_upload_bytes=1_000_000)


@pytest.fixture(params=["local", "s3"])
def settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """Both kinds of storage, a second key, and limits that can be reached. Links end while a test goes on where it
    asks for `brief` ones: on a busy machine they would end before they are used."""
    if request.param.startswith("s3"):
        settings = msgspec.structs.replace(settings, storage=request.getfixturevalue("s3_server"))
    if request.param.endswith("brief"):
        storage = msgspec.structs.replace(settings.storage, url_ttl_s=LINK_S)
        settings = msgspec.structs.replace(settings, storage=storage)
    keys = (*settings.api.keys, f"other:{OTHER_KEY}")
    receive_s = 0.5 if request.param == "impatient" else settings.api.receive_s
    api = msgspec.structs.replace(settings.api, keys=keys, receive_s=receive_s)
    return msgspec.structs.replace(settings, api=api, limits=SMALL)


def announced(data: bytes, **changes: Any) -> dict[str, Any]:
    return {"size": len(data), "content_type": "image/png", "sha256": hashlib.sha256(data).hexdigest()} | changes


async def opened(client: httpx.AsyncClient, data: bytes, **changes: Any) -> dict[str, Any]:
    answer = await client.post("/v1/uploads", json=announced(data, **changes))
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == f"/v1/uploads/{answer.json()['upload_id']}"
    return dict(answer.json())


async def send(stranger: httpx.AsyncClient, where: dict[str, Any], data: bytes) -> httpx.Response:
    """As any client does it, whatever the storage."""
    return await stranger.request(where["method"], where["url"], headers=where["headers"], content=data)


async def status(client: httpx.AsyncClient, where: dict[str, Any]) -> str:
    return str((await client.get(f"/v1/uploads/{where['upload_id']}")).json()["status"])


def stored(settings: Settings, where: dict[str, Any]) -> bytes | None:
    """What the storage holds for it, looked at from behind."""
    key = f"{settings.redis.namespace}/uploads/default/{where['upload_id']}"
    if settings.storage.local:
        path = Path(settings.storage.directory) / key
        return path.read_bytes() if path.exists() else None
    client = s3_client(settings.storage)
    try:
        return bytes(client.get_object(Bucket=settings.storage.s3_bucket, Key=key)["Body"].read())
    except client.exceptions.NoSuchKey:
        return None
    finally:
        client.close()


# --- sending --------------------------------------------------------------------------------------------------


async def test_bytes_that_were_sent_are_there(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, settings: Settings
) -> None:
    where = await opened(client, PHOTO)

    before = (await client.get(f"/v1/uploads/{where['upload_id']}")).json()
    answer = await send(stranger, where, PHOTO)
    after = (await client.get(f"/v1/uploads/{where['upload_id']}")).json()

    assert answer.status_code == 200
    assert before["status"] == "PENDING"
    assert after == before | {"status": "READY", "expires_at": after["expires_at"]}
    assert (after["size"], after["sha256"], after["tasks"]) == (len(PHOTO), hashlib.sha256(PHOTO).hexdigest(), 0)
    assert stored(settings, where) == PHOTO


async def test_the_same_bytes_may_be_sent_again(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, settings: Settings
) -> None:
    where = await opened(client, PHOTO)

    answers = await asyncio.gather(*(send(stranger, where, PHOTO) for _ in range(3)))
    again = await send(stranger, where, PHOTO)

    assert [answer.status_code for answer in (*answers, again)] == [200] * 4
    assert stored(settings, where) == PHOTO


@pytest.mark.parametrize("data", [PHOTO[:-1], PHOTO + b"x", b"x" * len(PHOTO)], ids=["short", "long", "other"])
async def test_other_bytes_than_announced_are_refused_and_leave_nothing(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, settings: Settings, data: bytes
) -> None:
    where = await opened(client, PHOTO)
    where["headers"] = where["headers"] | {"content-length": str(len(data))}

    answer = await send(stranger, where, data)

    assert 400 <= answer.status_code < 500
    assert await status(client, where) == "PENDING"
    assert stored(settings, where) is None


async def test_st2_a_link_sends_its_own_upload_and_does_nothing_else(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, settings: Settings
) -> None:
    where, other = [await opened(client, data) for data in (PHOTO, PHOTO[::-1])]
    url, foreign = where["url"], other["url"].replace(other["upload_id"], where["upload_id"])
    last = "A" if url[-1] != "A" else "B"

    puts = [
        await send(stranger, where | {"url": one}, PHOTO) for one in (foreign, url.partition("?")[0], url[:-1] + last)
    ]
    others = [await stranger.request(method, url) for method in ("GET", "DELETE")]

    assert foreign != url
    assert {answer.status_code for answer in (*puts, *others)} <= {401, 403, 404}
    assert (stored(settings, where), stored(settings, other)) == (None, None)
    assert (await send(stranger, where, PHOTO)).status_code == 200
    assert stored(settings, where) == PHOTO


@pytest.mark.parametrize("settings", ["local-brief", "s3-brief"], indirect=True)
async def test_a_link_ends_and_its_upload_stays_unsent(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, settings: Settings
) -> None:
    where = await opened(client, PHOTO)
    await asyncio.sleep(settings.storage.url_ttl_s + 1.1)

    assert (await send(stranger, where, PHOTO)).status_code in (403, 404)
    assert stored(settings, where) is None


async def test_the_server_reads_an_upload_as_a_stream_once_it_is_there(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, settings: Settings
) -> None:
    where = await opened(client, PHOTO)

    async with open_services(settings) as services:
        with pytest.raises(UploadNotReady):
            await ready_upload(where["upload_id"], Caller("default"), services)
        async with asyncio.timeout(60):
            while not (await send(stranger, where, PHOTO)).is_success:  # a bucket under load answers 500 now and then
                await asyncio.sleep(0.1)
        with pytest.raises(UploadNotFound):
            await ready_upload(where["upload_id"], Caller("other"), services)
        upload = await ready_upload(where["upload_id"], Caller("default"), services)
        pieces = [piece async for piece in await services.storage.stream(upload.key)]

    assert len(pieces) > 1
    assert b"".join(pieces) == PHOTO


# --- refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"size": 0}, 422, "invalid_request"),
        ({"size": 1_000_001}, 413, "payload_too_large"),
        ({"size": "big"}, 422, "invalid_request"),
        ({}, 422, "invalid_request"),
        ({"size": 1, "sha256": "A" * 64}, 422, "invalid_request"),
        ({"size": 1, "sha256": "a" * 64 + "\n"}, 422, "invalid_request"),
        ({"size": 1, "content_type": "image/png\r\nx-evil: 1"}, 422, "invalid_request"),
        ({"size": 1, "key": "results/default/x"}, 422, "invalid_request"),
    ],
)
async def test_what_is_not_a_file_is_not_opened(
    client: httpx.AsyncClient, asked: dict[str, Any], status: int, code: str
) -> None:
    answer = await client.post("/v1/uploads", json=asked)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_uploads_are_limited_by_rate_as_submits_are_and_apart_from_them(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/v1/uploads", json=announced(PHOTO))

    assert answer.headers["RateLimit-Policy"] == '"upload";q=100000;w=60'
    assert answer.headers["RateLimit"] == '"upload";r=99999;t=60'


async def test_another_key_sees_no_upload(client: httpx.AsyncClient, server: str) -> None:
    path = f"/v1/uploads/{(await opened(client, PHOTO))['upload_id']}"
    made_up = f"/v1/uploads/upl_{'0' * 32}"

    async with httpx.AsyncClient(base_url=server, headers={"X-API-Key": OTHER_KEY}) as other:
        for method in ("GET", "DELETE"):
            theirs, nobodys = await other.request(method, path), await other.request(method, made_up)
            assert (theirs.status_code, theirs.json()["code"]) == (404, "upload_not_found")
            told = {"detail", "request_id"}
            assert {k: v for k, v in theirs.json().items() if k not in told} == {
                k: v for k, v in nobodys.json().items() if k not in told
            }
    assert (await client.get(path)).status_code == 200


# --- deleting -------------------------------------------------------------------------------------------------


async def test_a_deleted_upload_is_gone_with_its_bytes(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, settings: Settings
) -> None:
    where = await opened(client, PHOTO)
    await send(stranger, where, PHOTO)

    answer = await client.delete(f"/v1/uploads/{where['upload_id']}")

    assert answer.status_code == 204
    assert stored(settings, where) is None
    assert (await client.get(f"/v1/uploads/{where['upload_id']}")).json()["code"] == "upload_not_found"


# --- what goes wrong on the way -------------------------------------------------------------------------------


def unfinished(settings: Settings) -> list[str]:
    folder = Path(settings.storage.directory) / settings.redis.namespace / ".unfinished"
    return [path.name for path in folder.iterdir()] if folder.exists() else []


async def begun(where: dict[str, Any], data: bytes) -> asyncio.StreamWriter:
    """A client that has sent these bytes, and means to send all that it has announced."""
    url = httpx.URL(where["url"])
    _, writer = await asyncio.open_connection(url.host, url.port)
    headers = "".join(f"{name}: {value}\r\n" for name, value in where["headers"].items())
    writer.write(f"PUT {url.raw_path.decode()} HTTP/1.1\r\nhost: {url.host}\r\n{headers}\r\n".encode() + data)
    await writer.drain()
    return writer


@pytest.mark.parametrize("settings", ["local"], indirect=True)
async def test_an_upload_that_is_broken_off_leaves_nothing_and_can_be_sent_again(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, settings: Settings
) -> None:
    where = await opened(client, PHOTO)
    writer = await begun(where, PHOTO[:600_000])
    while not unfinished(settings):
        await asyncio.sleep(0.01)

    writer.transport.abort()
    while unfinished(settings):
        await asyncio.sleep(0.01)

    assert (await status(client, where), stored(settings, where)) == ("PENDING", None)
    assert (await send(stranger, where, PHOTO)).status_code == 200
    assert stored(settings, where) == PHOTO


@pytest.mark.parametrize("settings", ["impatient"], indirect=True)
async def test_a_client_that_stops_sending_is_left(client: httpx.AsyncClient, settings: Settings) -> None:
    where = await opened(client, PHOTO)
    writer = await begun(where, PHOTO[:600_000])
    while not unfinished(settings):
        await asyncio.sleep(0.01)

    while unfinished(settings):
        await asyncio.sleep(0.01)

    assert (await status(client, where), stored(settings, where)) == ("PENDING", None)
    writer.transport.abort()


@pytest.mark.parametrize("settings", ["local"], indirect=True)
async def test_an_upload_survives_the_death_of_the_server_that_took_it(
    settings: Settings, api_key: str, uploads: UploadStore
) -> None:
    with api_server.ServerProcess(settings) as first:
        async with httpx.AsyncClient(base_url=first.url, headers={"X-API-Key": api_key}) as client:
            half, whole, unwritten = [await opened(client, PHOTO) for _ in range(3)]
            writer = await begun(half, PHOTO[:600_000])
            while not unfinished(settings):
                await asyncio.sleep(0.01)
            async with httpx.AsyncClient() as keyless:
                for where in (whole, unwritten):
                    assert (await send(keyless, where, PHOTO)).status_code == 200
            first.process.kill()
            first.process.wait()
            writer.transport.abort()
    forgotten = f"{{{settings.redis.namespace}}}:upload:{unwritten['upload_id']}"
    async with connect(settings.redis) as redis:  # as if it had died between the bytes and the word that they are there
        await redis.hdel(forgotten, "arrived")

    with api_server.ServerProcess(settings) as second:
        async with httpx.AsyncClient(base_url=second.url, headers={"X-API-Key": api_key}) as client:
            seen = [await status(client, where) for where in (half, whole, unwritten)]

    assert seen == ["PENDING", "READY", "READY"]
    assert [stored(settings, where) for where in (half, whole, unwritten)] == [None, PHOTO, PHOTO]


@pytest.mark.parametrize("settings", ["local"], indirect=True)
async def test_an_upload_is_never_whole_in_memory(settings: Settings, api_key: str) -> None:
    size = 120_000_000
    limits = msgspec.structs.replace(settings.limits, max_upload_bytes=size)

    async def zeros() -> AsyncIterator[bytes]:
        for _ in range(size // 100_000):
            yield bytes(100_000)

    def peak_kb() -> int:
        text = Path(f"/proc/{server.process.pid}/status").read_text()
        return int(text.partition("VmHWM:")[2].split()[0])

    with api_server.ServerProcess(msgspec.structs.replace(settings, limits=limits)) as server:
        async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": api_key}, timeout=60) as client:
            where = (await client.post("/v1/uploads", json={"size": size})).json()
            before = peak_kb()
            answer = await client.put(where["url"], headers=where["headers"], content=zeros())
            grown = peak_kb() - before

    assert answer.status_code == 200
    assert grown < 40_000


# --- where a bucket has another name for clients --------------------------------------------------------------


async def test_links_are_signed_for_the_name_that_clients_know(
    s3_server: StorageSettings, settings: Settings, api_key: str, uploads: UploadStore
) -> None:
    """Servers and workers speak to 127.0.0.1; clients know the bucket as localhost."""
    public = s3_server.s3_endpoint.replace("127.0.0.1", "localhost")
    storage = msgspec.structs.replace(s3_server, s3_public_endpoint=public)
    settings = msgspec.structs.replace(settings, storage=storage)
    with api_server.in_thread(settings) as url:
        async with (
            httpx.AsyncClient(base_url=url, headers={"X-API-Key": api_key}) as client,
            httpx.AsyncClient() as keyless,
            connect(settings.redis) as redis,
            open_storage(storage, settings.redis.namespace) as opened_storage,
        ):
            where = await opened(client, PNG)
            inside = where | {"url": where["url"].replace(public, s3_server.s3_endpoint)}
            sent = [(await send(keyless, place, PNG)).status_code for place in (inside, where)]
            await client.post("/v1/tasks", json={"model": MODEL, "input": {"upload_id": where["upload_id"]}})
            store = Store(Engine(redis, settings.redis.namespace, settings.queue))
            await complete(store, opened_storage, b"result")
            [task] = (await client.get("/v1/tasks")).json()["data"]
            link = task["result"]["url"]
            fetched = await keyless.get(link)

    assert where["url"].startswith(f"{public}/")
    assert sent == [403, 200], "the host is part of what is signed"
    assert link.startswith(f"{public}/")
    assert fetched.content == b"result"

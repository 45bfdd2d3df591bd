"""An S3 server that is silent, stalls, lies or refuses: every call ends, and says what to do."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from penstock.errors import ConfigurationError, InputDownloadFailed, ResultExpired, StorageUnavailable
from penstock.settings import StorageSettings
from penstock.storage import Item, S3Inputs, Storage, open_storage, s3, s3_client
from tests.support.faulty import Fault, Peer, http, peer_of
from tests.support.s3_server import s3_client as client_of

NAMESPACE = "tests"
KEY = "results/tenant/task/1.png"
PNG = "image/png"
HTML = http("200 OK", "<html><body>Welcome to our network. Please log in.</body></html>", "text/html")
JSON = http("200 OK", '{"error": "not here"}', "application/json")
NOT_FOUND = http("404 Not Found", "404 page not found\n", "text/plain")
BROKEN = http("200 OK", "<<<", "application/xml")
NO_ROOM = 0.4
"""Seconds, in place of the 30 that one answer may take."""

Call = Callable[[Storage], Awaitable[Any]]


async def listed(storage: Storage) -> list[str]:
    return [stored.key async for stored in storage.list("results/")]


async def streamed(storage: Storage) -> bytes:
    return b"".join([piece async for piece in await storage.stream(KEY)])


CALLS: dict[str, Call] = {
    "put": lambda storage: storage.put(KEY, b"x" * 1000, PNG),
    "put_all": lambda storage: storage.put_all([Item(KEY, b"x", PNG)] * 2),
    "get": lambda storage: storage.get(KEY),
    "stream": streamed,
    "size": lambda storage: storage.size(KEY),
    "list": listed,
    "delete": lambda storage: storage.delete(KEY),
    "delete two": lambda storage: storage.delete(KEY, KEY + "2"),
    "clear": lambda storage: storage.clear("results/"),
    "probe": lambda storage: storage.probe(),
    "check": lambda storage: storage.check(),
}


@pytest.fixture
async def peer(s3_server: StorageSettings) -> AsyncIterator[Peer]:
    async with peer_of(s3_server.s3_endpoint) as peer:
        yield peer


@pytest.fixture
def faulty(s3_server: StorageSettings, peer: Peer) -> StorageSettings:
    """The settings of a storage behind the peer."""
    return replace(s3_server, s3_endpoint=peer.url)


@pytest.fixture
async def storage(faulty: StorageSettings) -> AsyncIterator[Storage]:
    async with open_storage(faulty, NAMESPACE) as storage:
        await storage.put(KEY, b"x" * 100, PNG)
        yield storage


@pytest.fixture
def impatient(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """From when the storage has been opened and has worked."""
    monkeypatch.setattr(s3_client, "ANSWER_WITHIN_S", NO_ROOM)


# --- silent ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_no_call_waits_for_ever_for_a_server_that_says_nothing(storage: Storage, peer: Peer, call: Call) -> None:
    peer.fault = Fault(silent=True)

    async with asyncio.timeout(30):
        with pytest.raises(StorageUnavailable, match=r"does not answer: check storage\.s3_endpoint"):
            await call(storage)


@pytest.mark.usefixtures("impatient")
async def test_a_body_that_is_taken_in_part_ends_in_the_time_for_its_size(
    storage: Storage, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer.fault = Fault(stall_after=100_000)
    data = os.urandom(24 * 1024 * 1024)
    monkeypatch.setattr(s3_client, "SLOWEST_BYTES_PER_S", len(data))

    async with asyncio.timeout(60):
        with pytest.raises(StorageUnavailable):
            await storage.put(KEY, data, PNG)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("call", [CALLS["get"], CALLS["stream"]], ids=["get", "stream"])
async def test_a_body_that_comes_byte_by_byte_is_given_up(storage: Storage, peer: Peer, call: Call) -> None:
    peer.fault = Fault(trickle=0.1)

    async with asyncio.timeout(8):  # 100 bytes take 10 s
        with pytest.raises(StorageUnavailable):
            await call(storage)


def test_the_time_of_a_call_grows_with_its_size() -> None:
    assert [s3_client.limit_s(size) for size in (0, 256 * 1024, 64 * 1024 * 1024)] == [30, 31, 286]


@pytest.mark.usefixtures("impatient")
async def test_who_reads_a_stream_slowly_is_not_taken_for_a_slow_server(storage: Storage) -> None:
    data = os.urandom(2 * 1024 * 1024)
    await storage.put(KEY, data, PNG)
    pieces = []
    async for piece in await storage.stream(KEY):
        pieces.append(piece)
        if len(pieces) < 4:
            await asyncio.sleep(NO_ROOM)

    assert b"".join(pieces) == data


# --- lying ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [HTML, JSON], ids=["html", "json"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_an_answer_that_is_not_the_store_s_is_no_success(
    storage: Storage, peer: Peer, call: Call, answer: bytes
) -> None:
    peer.fault = Fault(answer=answer)

    with pytest.raises(StorageUnavailable, match=r"proxy in front of"):
        await call(storage)


@pytest.mark.parametrize("call", [name for name in CALLS if name != "size"])
async def test_a_proxy_that_finds_no_backend_does_not_say_that_an_object_is_gone(
    storage: Storage, peer: Peer, call: str
) -> None:
    """To a HEAD a store itself answers no more than 404."""
    peer.fault = Fault(answer=NOT_FOUND)

    with pytest.raises(StorageUnavailable, match="404"):
        await CALLS[call](storage)


async def test_an_answer_that_cannot_be_read_is_no_success(storage: Storage, peer: Peer) -> None:
    peer.fault = Fault(answer=BROKEN)

    with pytest.raises(StorageUnavailable, match="proxy in front of"):
        await listed(storage)


# --- credentials ----------------------------------------------------------------------------------------------


@pytest.fixture
async def role(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Callable[[str], None]]:
    """A service on loopback that gives the credentials of a role, as containers have it: those that end at the moment
    last said."""
    ends = ["2999-01-01T00:00:00Z"]

    async def give(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        role = {"AccessKeyId": "penstock-tests", "SecretAccessKey": "a-secret-only-for-tests", "Token": "t"}
        writer.write(http("200 OK", json.dumps(role | {"Expiration": ends[0]}), "application/json"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(give, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{port}/role")
    async with server:
        yield lambda moment: ends.__setitem__(0, moment)


async def test_credentials_that_come_already_ended_are_named(
    s3_server: StorageSettings, role: Callable[[str], None]
) -> None:
    role("2020-01-01T00:00:00Z")
    keyless = replace(s3_server, s3_access_key="", s3_secret_key="")

    with pytest.raises(StorageUnavailable, match="credentials of this machine have expired"):
        async with open_storage(keyless, NAMESPACE) as storage:
            await storage.put(KEY, b"x", PNG)

    with pytest.raises((InputDownloadFailed, StorageUnavailable), match="credentials of this machine have expired"):
        async with S3Inputs(keyless, "tests") as inputs:
            await inputs.read("penstock", "x", limit=10)


async def test_a_profile_that_is_not_there_is_a_wrong_setting(
    s3_server: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")

    with pytest.raises(ConfigurationError, match="AWS_PROFILE"):
        async with open_storage(replace(s3_server, s3_access_key="", s3_secret_key=""), NAMESPACE):
            pass


# --- many deletions -------------------------------------------------------------------------------------------


REFUSALS: Sequence[bytes] = [
    http("400 Bad Request", "<Error><Code>MissingContentMD5</Code></Error>"),
    http("501 Not Implemented", "<Error><Code>NotImplemented</Code></Error>"),
    http("405 Method Not Allowed", "<Error><Code>MethodNotAllowed</Code></Error>"),
]


async def stored(storage: Storage, count: int) -> list[str]:
    keys = [f"results/many/task-{n % 5}/{n}.png" for n in range(count)]
    await storage.put_all([Item(key, b"x", PNG) for key in keys])
    return keys


def deletions(peer: Peer) -> dict[str, int]:
    together = sum(line.startswith("POST ") and "delete" in line for line in peer.seen)
    return {"together": together, "single": sum(line.startswith("DELETE ") for line in peer.seen)}


async def test_many_objects_go_in_few_requests(storage: Storage, peer: Peer) -> None:
    keys = await stored(storage, s3.DELETED_TOGETHER + 10)

    await storage.delete(*keys)

    assert deletions(peer) == {"together": 2, "single": 0}
    assert KEY in await listed(storage)
    assert not set(keys) & set(await listed(storage))


@pytest.mark.parametrize("refusal", REFUSALS, ids=["400", "501", "405"])
async def test_a_server_that_refuses_to_delete_many_at_once_is_asked_so_once(
    storage: Storage, peer: Peer, refusal: bytes
) -> None:
    keys = await stored(storage, 30)
    peer.fault = Fault(methods=("POST",), answer=refusal)

    await storage.delete(*keys[:20])
    await storage.delete(*keys[20:])

    assert deletions(peer) == {"together": 1, "single": 30}
    assert not set(keys) & set(await listed(storage))


async def test_what_a_server_does_not_say_to_be_deleted_is_deleted_again(storage: Storage, peer: Peer) -> None:
    keys = await stored(storage, 3)
    half = f"<DeleteResult><Deleted><Key>{storage.full_key(keys[0])}</Key></Deleted></DeleteResult>"
    peer.fault = Fault(methods=("POST",), answer=http("200 OK", half))

    await storage.delete(*keys)

    assert deletions(peer) == {"together": 1, "single": 2}
    with pytest.raises(ResultExpired):
        await storage.get(keys[1])
    peer.fault = Fault()
    await storage.clear("results/many/")


async def test_a_key_that_may_not_delete_is_said_so(storage: Storage, peer: Peer) -> None:
    denied = "<Error><Code>AccessDenied</Code></Error>"
    peer.fault = Fault(methods=("POST", "DELETE"), answer=http("403 Forbidden", denied))

    with pytest.raises(StorageUnavailable, match="DeleteObject"):
        await storage.delete(KEY, KEY + "2")


# --- checks ---------------------------------------------------------------------------------------------------


async def test_checks_write_nothing_while_writes_succeed(storage: Storage, peer: Peer) -> None:
    peer.seen.clear()
    for _ in range(5):
        await storage.check()

    assert {line.split()[0] for line in peer.seen} == {"GET"}


async def test_a_check_after_a_failed_write_writes(storage: Storage, peer: Peer) -> None:
    full = http("507 Insufficient Storage", "<Error><Code>XMinioStorageFull</Code></Error>")
    peer.fault = Fault(methods=("PUT",), answer=full)
    with pytest.raises(StorageUnavailable):
        await storage.put(KEY, b"x", PNG)

    with pytest.raises(StorageUnavailable, match="507 XMinioStorageFull"):
        await storage.check()
    peer.fault = Fault()
    await storage.check()
    peer.seen.clear()
    await storage.check()

    assert {line.split()[0] for line in peer.seen} == {"GET"}


async def test_checks_leave_no_versions_in_a_bucket_that_keeps_them(s3_server: StorageSettings) -> None:
    settings = replace(s3_server, s3_bucket="versioned")
    client = client_of(settings)
    client.create_bucket(Bucket="versioned")
    client.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})

    async with open_storage(settings, NAMESPACE) as storage:
        await checked(storage)
        first = await asyncio.to_thread(versions, client)
        for _ in range(10):
            await checked(storage)
        assert await asyncio.to_thread(versions, client) == first
        assert await storage.keeps_versions()
    client.close()


async def checked(storage: Storage) -> None:
    """Check a storage; the server of the tests answers 500 now and then where versions of one key come fast."""
    for _ in range(5):
        try:
            await storage.check()
        except StorageUnavailable as error:
            away = error
            await asyncio.sleep(0.2)
        else:
            return
    raise away


def versions(client: Any) -> int:
    answer = client.list_object_versions(Bucket="versioned")
    return len(answer.get("Versions", ())) + len(answer.get("DeleteMarkers", ()))

"""The links that clients are given are tried as clients use them; what is wrong with them is named."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from penstock.settings import Settings, StorageSettings, environment_of
from penstock.storage import LocalStorage, open_storage
from penstock.upkeep.links import LinkReport, check_links
from tests.support import api_server
from tests.support.faulty import Fault, Peer, http, peer_of
from tests.support.processes import examined
from tests.support.s3_server import s3_client

pytestmark = pytest.mark.at_length

LINK = "X-Amz-Signature="
"""In the URL of every signed link, and in no request of our own."""
WRONG_REGION = http(
    "400 Bad Request", "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"
)


@pytest.fixture
async def peer(s3_server: StorageSettings) -> AsyncIterator[Peer]:
    async with peer_of(s3_server.s3_endpoint) as peer:
        yield peer


@pytest.fixture
def faulty(s3_server: StorageSettings, peer: Peer) -> StorageSettings:
    return replace(s3_server, s3_endpoint=peer.url)


async def checked(settings: StorageSettings) -> LinkReport:
    async with open_storage(settings, "links") as storage:
        report = await check_links(storage)
        assert [stored async for stored in storage.list("probe/")] == [], "nothing stays"
    assert report is not None
    return report


async def test_a_directory_gives_no_links(tmp_path: Path) -> None:
    assert await check_links(LocalStorage(tmp_path)) is None


async def test_links_of_a_bucket_that_is_well_work_and_it_compares_digests(s3_server: StorageSettings) -> None:
    report = await checked(s3_server)

    assert report.troubles == ()
    assert report.compares_digests is True
    assert report.host == s3_server.s3_endpoint.removeprefix("http://")


async def test_a_bucket_that_does_not_compare_digests_is_seen(
    faulty: StorageSettings, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer answers every PUT by a link as a bucket that looks at no digest does, and stores what it should."""
    async with open_storage(faulty, "links") as storage:
        taken = http("200 OK", "", "application/xml", 'etag: "x"')
        put = type(storage).upload_link

        async def stored_before(*args: Any, **options: Any) -> Any:
            await storage.put(args[1], b"what a client sends and fetches\n", "text/plain")
            return await put(*args, **options)

        monkeypatch.setattr(type(storage), "upload_link", stored_before)
        peer.fault = Fault(methods=("PUT",), match=LINK, answer=taken)
        report = await check_links(storage)

    assert report is not None
    assert (report.troubles, report.compares_digests) == ((), False)


async def test_a_bucket_is_asked_as_a_browser_asks_for_a_page(faulty: StorageSettings, peer: Peer) -> None:
    peer.fault = Fault(methods=("OPTIONS",), match=LINK, answer=http("403 Forbidden", "<Error/>"))
    without = await checked(faulty)
    for origin in ("*", "https://any-page.example", "https://shop.example.com"):
        allowed = http("200 OK", "", "text/plain", f"Access-Control-Allow-Origin: {origin}")
        peer.fault = Fault(methods=("OPTIONS",), match=LINK, answer=allowed)
        report = await checked(faulty)
        assert (report.troubles, report.lets_pages_send) == ((), origin != "https://shop.example.com")

    assert (without.troubles, without.lets_pages_send) == ((), False)


async def test_a_wrong_region_is_named_though_the_storage_itself_works(faulty: StorageSettings, peer: Peer) -> None:
    peer.fault = Fault(match=LINK, answer=WRONG_REGION)

    report = await checked(faulty)

    assert [trouble.advice for trouble in report.troubles] == ["set storage.s3_region to eu-west-1"] * 2
    assert "400 AuthorizationHeaderMalformed" in report.troubles[0].problem
    assert all(trouble.is_certain for trouble in report.troubles)


async def test_a_public_endpoint_with_a_path_is_named(s3_server: StorageSettings) -> None:
    report = await checked(replace(s3_server, s3_public_endpoint=s3_server.s3_endpoint + "/files"))

    assert len(report.troubles) == 2
    assert all(
        "s3_public_endpoint" in trouble.advice and "without a path" in trouble.advice for trouble in report.troubles
    )


async def test_a_public_endpoint_that_leads_to_another_server_is_named(s3_server: StorageSettings) -> None:
    async with peer_of(s3_server.s3_endpoint) as elsewhere:
        elsewhere.fault = Fault(answer=http("200 OK", "<html>Welcome</html>", "text/html", 'etag: "x"'))
        report = await checked(replace(s3_server, s3_public_endpoint=elsewhere.url))

    assert report.is_public == "", "that is the page of somebody else"
    assert [trouble.problem.partition(": ")[2] for trouble in report.troubles] == [
        "other bytes than were stored",
        "accepted, but not stored",
    ]


async def test_a_host_that_cannot_be_reached_is_named_as_perhaps_right(s3_server: StorageSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    report = await checked(replace(s3_server, s3_public_endpoint=f"http://127.0.0.1:{port}"))

    assert [trouble.is_certain for trouble in report.troubles] == [False, False]
    assert all(f"127.0.0.1:{port}" in trouble.problem for trouble in report.troubles)


async def test_a_bucket_that_refuses_announced_digests_is_named(faulty: StorageSettings, peer: Peer) -> None:
    refused = http("400 Bad Request", "<Error><Code>InvalidArgument</Code></Error>")
    peer.fault = Fault(
        methods=("PUT",), match="X-Amz-SignedHeaders=content-length%3Bcontent-type%3Bhost%3Bx-amz-che", answer=refused
    )

    report = await checked(faulty)

    (trouble,) = report.troubles
    assert "400 InvalidArgument when the sha256 is announced, accepted when it is not" in trouble.problem


@pytest.mark.at_length
async def test_a_server_says_once_after_its_start_what_is_wrong_with_its_links(
    settings: Settings, faulty: StorageSettings, peer: Peer
) -> None:
    peer.fault = Fault(match=LINK, answer=WRONG_REGION)
    with api_server.ServerProcess(replace(settings, storage=faulty)) as server:
        async with asyncio.timeout(30):
            while "a link to upload" not in server.log():
                await asyncio.sleep(0.1)
        log = server.log()

    assert log.count("set storage.s3_region to eu-west-1") == 2
    assert "stores_once" in log


@pytest.mark.at_length
async def test_the_doctor_tries_the_links_and_looks_for_versions(
    settings: Settings, s3_server: StorageSettings, tmp_path: Path
) -> None:
    versioned = replace(s3_server, s3_bucket="versioned-too")
    client = s3_client(versioned)
    client.create_bucket(Bucket="versioned-too")
    client.put_bucket_versioning(Bucket="versioned-too", VersioningConfiguration={"Status": "Enabled"})
    client.close()
    environ = {name: value for name, value in environment_of(replace(settings, storage=versioned)).items() if value}

    found = await asyncio.to_thread(examined, tmp_path, 0, **environ | {"GPU_IDS": "cpu"})

    assert found["links"]["state"] == "ok"
    assert found["results"]["found"] == "bucket versioned-too refuses to replace a result by another one"
    assert "private" not in found, "nobody may use it without a key"
    assert found["versions"]["state"] == "warn"
    assert "docs/how-to/buckets.md" in found["versions"]["advice"]
    assert "digests" not in found, "this one compares them"
    assert (found["pages"]["state"], "versioned-too" in found["pages"]["found"]) == ("ok", True)


@pytest.mark.at_length
async def test_the_doctor_fails_a_bucket_whose_links_do_not_work(
    settings: Settings, s3_server: StorageSettings, tmp_path: Path
) -> None:
    wrong = replace(s3_server, s3_public_endpoint=s3_server.s3_endpoint + "/files")
    environ = {name: value for name, value in environment_of(replace(settings, storage=wrong)).items() if value}

    found = await asyncio.to_thread(examined, tmp_path, 1, **environ | {"GPU_IDS": "cpu"})

    assert found["storage"]["state"] == "ok"
    assert found["links"]["state"] == "fail"
    assert json.dumps(found).count("s3_public_endpoint") >= 1

"""Signed links of a real S3 server, tried as somebody tries them who has one and wants more."""

import asyncio
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from contextlib import suppress

from msgspec.structs import replace

from penstock.errors import StorageUnavailable
from penstock.settings import StorageSettings
from penstock.storage import Storage, UploadLink, open_storage
from penstock.upkeep.links import check_links
from tests.support.s3_server import PUBLIC_BUCKET, s3_client

NAMESPACE = "links"
KEY, OTHER_KEY = "results/tenant/task/1.png", "results/tenant/task/2.png"
DATA, TYPE = b"what only one client may see", "text/plain"
LONGEST_S = 900


async def asked(method: str, url: str, data: bytes | None = None, headers: Mapping[str, str] | None = None) -> int:
    """Return the status that anybody gets who sends this."""
    request = urllib.request.Request(url, data=data, headers=dict(headers or {}), method=method)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def status() -> int:
        try:
            with direct.open(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    return await asyncio.to_thread(status)


async def links_of(storage: Storage, *, size: int = len(DATA)) -> tuple[str, UploadLink]:
    """A link to read an object, and one to send another."""
    for key in (KEY, OTHER_KEY):
        await storage.put(key, DATA, TYPE)
    reading = await storage.url(KEY, TYPE, "1.txt")
    sending = await storage.upload_link("uploads/tenant/one", size=size, content_type=TYPE, sha256=None)
    assert reading is not None
    assert sending is not None
    return reading, sending


async def test_st2_a_link_to_read_is_good_for_one_object_and_no_other_method(s3_server: StorageSettings) -> None:
    async with open_storage(s3_server, NAMESPACE) as storage:
        link, _ = await links_of(storage)
        other = link.replace(KEY, OTHER_KEY)
        refused = [
            await asked("HEAD", link),
            await asked("PUT", link, b"other bytes"),
            await asked("DELETE", link),
            await asked("GET", other),
            await asked("GET", link.replace(f"{NAMESPACE}/{KEY}", "")),  # the list of the bucket
            await asked("GET", link + "&acl"),
            await asked("GET", link.partition("?")[0]),
        ]
        kept = await storage.get(KEY)
        right = await asked("GET", link)

    assert other != link
    assert refused == [403] * len(refused)
    assert (right, kept) == (200, DATA)


async def test_st2_a_link_to_send_is_good_for_one_object_its_size_and_its_type(s3_server: StorageSettings) -> None:
    async with open_storage(s3_server, NAMESPACE) as storage:
        _, link = await links_of(storage)
        refused = [
            await asked("GET", link.url),
            await asked("DELETE", link.url),
            await asked("PUT", link.url.replace("tenant/one", "another/one"), DATA, link.headers),
            await asked("PUT", link.url.replace("uploads/tenant/one", KEY), DATA, link.headers),
            await asked("PUT", link.url, DATA + b"more", {"content-type": TYPE}),
            await asked("PUT", link.url, DATA, link.headers | {"content-type": "text/html"}),
            await asked("PUT", link.url, DATA, link.headers | {"x-amz-acl": "public-read"}),
            await asked("PUT", link.url, DATA, link.headers | {"x-amz-copy-source": f"/penstock/{NAMESPACE}/{KEY}"}),
        ]
        stored = [stored.key async for stored in storage.list("uploads/")]
        right = await asked("PUT", link.url, DATA, link.headers)
        await storage.clear("uploads/")

    assert refused == [403] * len(refused)
    assert (stored, right) == ([], 200)


async def test_st2_links_end_and_within_fifteen_minutes_unless_told_otherwise(s3_server: StorageSettings) -> None:
    async with open_storage(s3_server, NAMESPACE) as storage:
        reading, sending = await links_of(storage)
        usual = [urllib.parse.parse_qs(urllib.parse.urlsplit(url).query) for url in (reading, sending.url)]
    async with open_storage(replace(s3_server, url_ttl_s=1), NAMESPACE) as storage:
        reading, sending = await links_of(storage)
        await asyncio.sleep(2.1)  # the server's own clock has to pass
        late = [await asked("GET", reading), await asked("PUT", sending.url, DATA, sending.headers)]

    assert [int(query["X-Amz-Expires"][0]) <= LONGEST_S for query in usual] == [True, True]
    assert late == [403, 403]


async def test_st2_nobody_reads_lists_or_writes_the_bucket_without_a_signature(s3_server: StorageSettings) -> None:
    bucket = f"{s3_server.s3_endpoint}/{s3_server.s3_bucket}"
    async with open_storage(s3_server, NAMESPACE) as storage:
        await storage.put(KEY, DATA, TYPE)
        report = await check_links(storage)
        refused = [
            await asked("GET", f"{bucket}/{NAMESPACE}/{KEY}"),
            await asked("GET", f"{bucket}?list-type=2"),
            await asked("PUT", f"{bucket}/{NAMESPACE}/{KEY}", b"other bytes"),
            await asked("DELETE", f"{bucket}/{NAMESPACE}/{KEY}"),
        ]

    assert refused == [403] * len(refused)
    assert report is not None
    assert report.is_public == ""


async def test_st2_a_bucket_that_everybody_may_use_is_seen(s3_server: StorageSettings) -> None:
    client = s3_client(s3_server)
    client.create_bucket(Bucket=PUBLIC_BUCKET)
    client.close()

    async with open_storage(replace(s3_server, s3_bucket=PUBLIC_BUCKET), NAMESPACE) as storage:
        for _ in range(5):  # the server of the tests answers 500 now and then to the first writes into a new bucket
            with suppress(StorageUnavailable):
                report = await check_links(storage)
                break
            await asyncio.sleep(0.2)

    assert report is not None
    assert report.is_public == "read and list"

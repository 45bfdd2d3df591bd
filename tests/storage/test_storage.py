"""One contract, held against a directory and against a real S3 server; then what is peculiar to each."""

import asyncio
import os
import random
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from penstock.errors import ConfigurationError, ResultExpired, StorageUnavailable
from penstock.settings import StorageSettings
from penstock.storage import Item, LocalStorage, Storage, open_storage
from penstock.storage.contract import CHUNK_BYTES
from penstock.storage.local import STALE_AFTER_S
from tests.support.memory_storage import MemoryStorage
from tests.support.s3_server import s3_client

NAMESPACE = "tests"
KEY = "results/tenant/0190a1b2-task/1.png"
PNG = "image/png"
IMAGE = os.urandom(3 * CHUNK_BYTES + 17)

BAD_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../outside",
    "results/../../outside",
    "results/..",
    "results/./a",
    "results//a",
    "results/a/",
    "results/a\x00.png",
    "results/a\n",
    "results/.hidden",
    "results\\..\\outside",
    "results/%2e%2e/outside",
    "results/ä",
    "results/" + "a" * 200,
    "a/" * 40 + "a",
]


@pytest.fixture(params=["local", "s3", "memory"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    if request.param == "memory":
        yield MemoryStorage()
        return
    if request.param == "local":
        settings = StorageSettings(directory=str(tmp_path / "objects"))
    else:
        settings = request.getfixturevalue("s3_server")
    async with open_storage(settings, NAMESPACE) as storage:
        yield storage
        await storage.delete(KEY)


async def everything(storage: Storage, key: str) -> bytes:
    return b"".join([chunk async for chunk in await storage.stream(key)])


# --- the contract ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [IMAGE, b"", b"x"], ids=["image", "empty", "byte"])
async def test_what_is_put_can_be_got_and_streamed(storage: Storage, data: bytes) -> None:
    await storage.put(KEY, data, PNG)

    assert await storage.get(KEY) == data
    assert await everything(storage, KEY) == data


async def test_a_stream_comes_in_pieces_and_may_be_left_early(storage: Storage) -> None:
    await storage.put(KEY, IMAGE, PNG)

    chunks = await storage.stream(KEY)
    first = await anext(chunks)
    await chunks.aclose()

    assert 0 < len(first) <= CHUNK_BYTES
    assert IMAGE.startswith(first)


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (1, 400_000), (300_000, None), (999_999, None), (999_999, 1_000_000), (0, 1_000_000)]
)
async def test_a_part_is_streamed(storage: Storage, start: int, stop: int | None) -> None:
    data = random.Random(1).randbytes(1_000_000)
    await storage.put(KEY, data, "image/png")

    pieces = [chunk async for chunk in await storage.stream(KEY, start, stop)]

    assert b"".join(pieces) == data[start:stop]


async def test_a_stream_that_is_never_read_can_be_closed(storage: Storage) -> None:
    await storage.put(KEY, IMAGE, PNG)

    chunks = await storage.stream(KEY)
    await chunks.aclose()

    assert await storage.get(KEY) == IMAGE


async def test_an_object_that_is_not_there_has_expired(storage: Storage) -> None:
    with pytest.raises(ResultExpired):
        await storage.get("results/tenant/none/1.png")
    with pytest.raises(ResultExpired):
        await storage.stream("results/tenant/none/1.png")


async def test_a_key_that_is_a_directory_of_others_has_expired(storage: Storage) -> None:
    await storage.put(KEY, IMAGE, PNG)

    with pytest.raises(ResultExpired):
        await storage.get("results/tenant")
    with pytest.raises(ResultExpired):
        await storage.get(KEY + "/below")


async def test_deleted_objects_have_expired(storage: Storage) -> None:
    other = "results/tenant/0190a1b2-task/2.png"
    await storage.put(KEY, IMAGE, PNG)
    await storage.put(other, IMAGE, PNG)

    await storage.delete(KEY, other)

    for key in (KEY, other):
        with pytest.raises(ResultExpired):
            await storage.get(key)


async def test_deleting_what_is_not_there_is_fine(storage: Storage) -> None:
    await storage.delete()
    await storage.delete("results/tenant/none/1.png", "results/none/none/1.png")


async def test_putting_the_same_object_again_changes_nothing(storage: Storage) -> None:
    await storage.put(KEY, IMAGE, PNG)
    await storage.put(KEY, IMAGE, PNG)

    assert await storage.get(KEY) == IMAGE


async def test_some_objects_can_be_stored_together(storage: Storage) -> None:
    items = [Item(f"inputs/tenant-{n % 2}/task-{n}", b"%d" % n * n, PNG) for n in range(20)]

    await storage.put_all([])
    await storage.put_all(items)
    await storage.put_all(items[:3])

    assert [await storage.get(item.key) for item in items] == [item.data for item in items]
    await storage.delete(*(item.key for item in items))


async def test_of_objects_with_a_key_that_is_not_ours_the_others_may_be_stored(storage: Storage) -> None:
    with pytest.raises(ValueError, match="not a storage key"):
        await storage.put_all([Item(KEY, IMAGE, PNG), Item("../outside", IMAGE, PNG)])


async def test_many_objects_can_be_stored_and_deleted_side_by_side(storage: Storage) -> None:
    keys = [f"results/tenant/task-{n % 5}/{n}.png" for n in range(40)]

    async def round_trip(key: str) -> None:
        await storage.put(key, key.encode(), PNG)
        assert await storage.get(key) == key.encode()
        await storage.delete(key)

    await asyncio.gather(*map(round_trip, keys))

    for key in keys:
        with pytest.raises(ResultExpired):
            await storage.get(key)


@pytest.mark.parametrize("parts", [0, 1, 2])
@pytest.mark.parametrize("last", [0, 1000])
async def test_an_object_that_is_written_in_parts_is_there_when_it_is_published(
    storage: Storage, parts: int, last: int
) -> None:
    writer = storage.writer(KEY, PNG)
    data = os.urandom(parts * writer.part_bytes + last)
    for at in range(0, parts * writer.part_bytes, writer.part_bytes):
        await writer.write(data[at : at + writer.part_bytes])
        with pytest.raises(ResultExpired):
            await storage.get(KEY)
    assert [stored async for stored in storage.list("results/")] == []
    await writer.publish(data[parts * writer.part_bytes :])

    assert await storage.get(KEY) == data
    assert [stored async for stored in storage.list_unfinished("results/")] == []


@pytest.mark.parametrize("storage", ["s3"], indirect=True)
async def test_publishing_again_is_fine_where_the_answer_to_the_first_try_was_lost(storage: Storage) -> None:
    writer = storage.writer(KEY, PNG)
    part = os.urandom(writer.part_bytes)
    await writer.write(part)
    await writer.publish(b"end")
    await writer.publish(b"end")

    assert await storage.get(KEY) == part + b"end"


@pytest.mark.parametrize("parts", [0, 1])
async def test_of_an_object_that_is_discarded_nothing_stays(storage: Storage, parts: int) -> None:
    writer = storage.writer(KEY, PNG)
    for _ in range(parts):
        await writer.write(os.urandom(writer.part_bytes))
    await writer.discard()
    await writer.discard()

    with pytest.raises(ResultExpired):
        await storage.get(KEY)
    assert [stored async for stored in storage.list_unfinished("results/")] == []


@pytest.mark.parametrize("storage", ["s3", "memory"], indirect=True)
async def test_an_object_whose_writer_is_gone_is_listed_and_can_be_given_up(storage: Storage) -> None:
    writer, before = storage.writer(KEY, PNG), int(time.time() * 1000)
    await writer.write(os.urandom(writer.part_bytes))

    (found,) = [stored async for stored in storage.list_unfinished("results/")]
    assert (found.key, found.size) == (KEY, 0)
    assert abs(found.modified - before) < 60_000
    await storage.give_up(found)
    await storage.give_up(found)
    assert [stored async for stored in storage.list_unfinished("results/")] == []
    with pytest.raises(ResultExpired):
        await writer.publish(b"end")
    await writer.discard()


async def test_a_storage_that_works_passes_its_probe_and_its_checks(storage: Storage) -> None:
    await storage.probe()
    await storage.check()
    await storage.check()


async def test_what_is_stored_is_listed_by_its_prefix_with_its_size_and_time(storage: Storage) -> None:
    before = time.time()
    keys = {f"inputs/listed/task-{n}": b"x" * n for n in range(5)} | {"inputs/listed-not/task": b"", KEY: b""}
    await storage.put_all([Item(key, data, PNG) for key, data in keys.items()])

    found = {stored.key: stored async for stored in storage.list("inputs/listed/")}

    assert {key: stored.size for key, stored in found.items()} == {f"inputs/listed/task-{n}": n for n in range(5)}
    assert all(abs(stored.modified / 1000 - before) < 60 for stored in found.values())
    assert [stored async for stored in storage.list("inputs/none/")] == []
    assert [stored async for stored in storage.list("inputs/listed/task-1/")] == [], "that is an object"
    await storage.delete(*keys)


async def test_all_below_some_prefixes_is_deleted_and_nothing_else(storage: Storage) -> None:
    gone = [f"results/cleared/task-{n % 3}/{n}.png" for n in range(20)]
    kept = ["results/cleared/task-11/1.png", "results/cleared/task-4/1.png"]
    await storage.put_all([Item(key, b"x", PNG) for key in (*gone, *kept)])

    await storage.clear()
    await storage.clear(*(f"results/cleared/task-{n}/" for n in (0, 1, 2, 99)), "inputs/never/")

    assert {stored.key async for stored in storage.list("results/cleared/")} == set(kept)
    await storage.clear("results/cleared/")
    assert [stored async for stored in storage.list("results/cleared/")] == []


@pytest.mark.parametrize("prefix", ["", "/", "results", "results//", "../", "results/../", ".unfinished/"])
async def test_a_prefix_that_is_not_ours_is_refused(storage: Storage, prefix: str) -> None:
    with pytest.raises(ValueError, match="not a prefix of storage keys"):
        await storage.clear(prefix)
    with pytest.raises(ValueError, match="not a prefix of storage keys"):
        [stored async for stored in storage.list(prefix)]


@pytest.mark.parametrize("storage", ["local", "s3"], indirect=True)  # what is in memory is in no place
async def test_installations_share_a_place_and_see_nothing_of_each_other(
    storage: Storage, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    local = StorageSettings(directory=str(tmp_path / "objects"))
    place = local if isinstance(storage, LocalStorage) else request.getfixturevalue("s3_server")
    await storage.put(KEY, IMAGE, PNG)

    async with open_storage(place, "another") as other:
        with pytest.raises(ResultExpired):
            await other.get(KEY)
        await other.clear("results/")
        assert [stored async for stored in other.list("results/")] == []
        assert other.full_key(KEY) == f"another/{KEY}"

    assert await storage.get(KEY) == IMAGE
    assert storage.full_key(KEY) == f"{NAMESPACE}/{KEY}"


async def test_a_storage_here_says_that_it_keeps_no_versions(storage: Storage) -> None:
    assert not await storage.keeps_versions()


@pytest.mark.parametrize("key", BAD_KEYS)
async def test_a_key_that_is_not_ours_is_refused_everywhere(storage: Storage, key: str) -> None:
    with pytest.raises(ValueError, match="not a storage key"):
        await storage.put(key, IMAGE, PNG)
    with pytest.raises(ValueError, match="not a storage key"):
        await storage.get(key)
    with pytest.raises(ValueError, match="not a storage key"):
        await storage.stream(key)
    with pytest.raises(ValueError, match="not a storage key"):
        await storage.delete(key)


# --- a directory ----------------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "objects"


async def test_a_directory_gives_no_links(directory: Path) -> None:
    assert await LocalStorage(directory).url(KEY, PNG, "result.png") is None


async def test_only_the_owner_can_read_the_files(directory: Path) -> None:
    before = os.umask(0)
    try:
        await LocalStorage(directory).put(KEY, IMAGE, PNG)
    finally:
        os.umask(before)

    assert modes(directory) == {"dir": {0o700}, "file": {0o600}}


def modes(directory: Path) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {"dir": set(), "file": set()}
    for path in [directory, *directory.rglob("*")]:
        found["dir" if path.is_dir() else "file"].add(stat.S_IMODE(path.stat().st_mode))
    return found


async def test_a_reader_never_sees_part_of_an_object(directory: Path) -> None:
    storage = LocalStorage(directory)
    versions = [bytes([n]) * 2_000_000 for n in range(20)]
    writing = asyncio.create_task(_put_all(storage, versions))

    seen = set()
    while not writing.done():
        try:
            seen.add(await storage.get(KEY))
        except ResultExpired:
            await asyncio.sleep(0)
    await writing

    assert seen <= set(versions)
    assert names(directory / ".unfinished") == []


async def _put_all(storage: Storage, versions: list[bytes]) -> None:
    for version in versions:
        await storage.put(KEY, version, PNG)


async def test_a_deleted_object_leaves_no_empty_directories(directory: Path) -> None:
    storage = LocalStorage(directory)
    await storage.put(KEY, IMAGE, PNG)

    await storage.delete(KEY)

    assert names(directory) == [".unfinished"]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_the_probe_removes_what_a_killed_process_left(directory: Path) -> None:
    storage = LocalStorage(directory)
    await storage.put(KEY, IMAGE, PNG)
    stale, fresh = directory / ".unfinished" / "stale", directory / ".unfinished" / "fresh"
    for path in (stale, fresh):
        path.touch()
    long_ago = time.time() - STALE_AFTER_S - 1
    os.utime(stale, (long_ago, long_ago))

    await storage.probe()

    assert not stale.exists()
    assert fresh.exists()


async def test_st1_a_link_out_of_the_directory_is_not_followed(directory: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    plant_a_link(directory / "results", outside)
    storage = LocalStorage(directory)

    with pytest.raises(ValueError, match="not a storage key"):
        await storage.get("results/secret")
    with pytest.raises(ValueError, match="not a storage key"):
        await storage.put("results/planted", IMAGE, PNG)
    with pytest.raises(ValueError, match="not a storage key"):
        await storage.delete("results/secret")

    assert names(outside) == ["secret"]


def plant_a_link(link: Path, outside: Path) -> None:
    outside.mkdir()
    (outside / "secret").write_text("swordfish")
    link.parent.mkdir()
    link.symlink_to(outside)


async def test_a_directory_that_cannot_be_made_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageUnavailable, match=r"storage\.directory") as caught:
        await LocalStorage(tmp_path / "file" / "objects").probe()

    assert str(tmp_path) not in caught.value.detail


FULL_DISK = """
import asyncio, sys
from pathlib import Path
from penstock.errors import StorageUnavailable
from penstock.storage import LocalStorage

async def main():
    storage = LocalStorage(sys.argv[1])
    await storage.put("results/first.png", b"x" * 400_000, "image/png")
    try:
        await storage.put("results/second.png", b"x" * 4_000_000, "image/png")
    except StorageUnavailable as error:
        print(error.detail)
    print(sorted(path.name for path in Path(sys.argv[1]).rglob("*") if path.is_file()))
    await storage.put("results/third.png", b"x", "image/png")
    print(len(await storage.get("results/first.png")))

asyncio.run(main())
"""


def test_a_full_disk_is_reported_and_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "penstock-test", str(tmp_path)]
    in_namespace = ["unshare", "--mount", "--map-root-user"]
    can_mount = subprocess.run([*in_namespace, *mount], capture_output=True, check=False)
    if can_mount.returncode:
        pytest.skip(f"no file system of one's own can be mounted here: {can_mount.stderr.decode().strip()}")

    script = f'{" ".join(mount)} && exec "$0" -c "$1" "$2"'
    done = subprocess.run(
        [*in_namespace, "sh", "-c", script, sys.executable, FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )

    detail, names, length = done.stdout.splitlines()
    assert detail.startswith("storage.directory: No space left on device; free space")
    assert names == "['first.png']"
    assert length == "400000"


async def test_links_in_a_directory_are_neither_listed_nor_followed_when_it_is_cleared(
    directory: Path, tmp_path: Path
) -> None:
    storage = LocalStorage(directory)
    await storage.put(KEY, IMAGE, PNG)
    outside = tmp_path / "outside"
    plant_a_link(directory / "inputs" / "tenant", outside)
    (directory / "results" / "tenant" / "link.png").symlink_to(outside / "secret")

    listed = [stored.key async for stored in storage.list("results/")]
    await storage.clear("results/", "inputs/")

    assert listed == [KEY]
    assert (outside / "secret").read_text() == "swordfish"
    assert not (directory / "results").exists()


async def test_deletions_beside_each_other_leave_no_empty_directories(directory: Path) -> None:
    storage = LocalStorage(directory)
    keys = [f"results/tenant/task-{n % 7}/{n}.png" for n in range(200)]
    await storage.put_all([Item(key, b"x", PNG) for key in keys])

    await asyncio.gather(storage.delete(*keys), storage.clear("results/tenant/"), storage.delete(*reversed(keys)))

    assert names(directory) == [".unfinished"]


# --- S3 -------------------------------------------------------------------------------------------------------


def changed(settings: StorageSettings, **changes: object) -> StorageSettings:
    return msgspec.structs.replace(settings, **changes)


def download(link: str) -> tuple[bytes, dict[str, str]]:
    """A plain GET, as any client does it."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(link, timeout=10) as answer:
        return answer.read(), {name.lower(): value for name, value in answer.headers.items()}


async def link_to_image(settings: StorageSettings) -> str:
    async with open_storage(settings, NAMESPACE) as storage:
        await storage.put(KEY, IMAGE, PNG)
        link = await storage.url(KEY, PNG, 'a"b\r\nc.png')
    assert link is not None
    return link


async def test_a_signed_link_downloads_without_credentials(s3_server: StorageSettings) -> None:
    link = await link_to_image(s3_server)

    body, headers = await asyncio.to_thread(download, link)

    assert body == IMAGE
    assert headers["content-type"] == PNG
    assert headers["content-disposition"] == 'attachment; filename="a_b__c.png"'
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(link).query)
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Expires"] == [str(s3_server.url_ttl_s)]
    assert s3_server.s3_secret_key not in link


@pytest.mark.parametrize(
    ("old", "new"), [("1.png?", "2.png?"), ("X-Amz-Expires=900", "X-Amz-Expires=9000"), ("a_b__c", "other")]
)
async def test_a_tampered_link_is_refused(s3_server: StorageSettings, old: str, new: str) -> None:
    link = await link_to_image(s3_server)
    assert old in link

    with pytest.raises(urllib.error.HTTPError) as caught:
        await asyncio.to_thread(download, link.replace(old, new))

    caught.value.close()
    assert caught.value.code == 403


async def test_the_content_type_is_stored(s3_server: StorageSettings) -> None:
    async with open_storage(s3_server, NAMESPACE) as storage:
        await storage.put(KEY, IMAGE, "image/webp")

    client = s3_client(s3_server)
    answer = await asyncio.to_thread(client.head_object, Bucket=s3_server.s3_bucket, Key=f"{NAMESPACE}/{KEY}")
    client.close()
    assert answer["ContentType"] == "image/webp"


async def test_links_name_the_public_endpoint_and_requests_do_not(s3_server: StorageSettings) -> None:
    public = s3_server.s3_endpoint.replace("127.0.0.1", "127.0.0.2")

    link = await link_to_image(changed(s3_server, s3_public_endpoint="https://files.example.com:8443"))
    assert link.startswith(f"https://files.example.com:8443/penstock/{NAMESPACE}/{KEY}?")

    # Another name for the same server (it is not bound to 127.0.0.2): the signature is of the public name.
    signed = await link_to_image(changed(s3_server, s3_public_endpoint=public))
    with pytest.raises(urllib.error.HTTPError) as caught:
        await asyncio.to_thread(download, signed.replace("127.0.0.2", "127.0.0.1"))
    caught.value.close()


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"s3_secret_key": "not-the-secret-of-this-key"}, "storage.s3_secret_key"),
        ({"s3_access_key": "nobody"}, "storage.s3_access_key"),
        ({"s3_bucket": "another-bucket"}, "storage.s3_bucket"),
        ({"s3_bucket": "no bucket"}, "storage.s3_bucket"),
        ({"s3_endpoint": "http://127.0.0.1:9"}, "storage.s3_endpoint"),
    ],
)
async def test_a_storage_that_refuses_names_the_setting_to_check(
    s3_server: StorageSettings, changes: dict[str, str], advice: str
) -> None:
    settings = changed(s3_server, **changes)
    started = time.monotonic()

    async with open_storage(settings, NAMESPACE) as storage:
        with pytest.raises(StorageUnavailable) as caught:
            await storage.probe()

    assert advice in caught.value.detail
    assert settings.s3_secret_key not in caught.value.detail
    assert caught.value.retryable
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    "changes", [{"s3_endpoint": "minio:9000"}, {"s3_public_endpoint": "nowhere"}, {"s3_secret_key": ""}]
)
async def test_settings_that_cannot_be_right_are_refused_at_start(
    s3_server: StorageSettings, changes: dict[str, str]
) -> None:
    with pytest.raises(ConfigurationError, match=r"storage\.s3_"):
        async with open_storage(changed(s3_server, **changes), NAMESPACE):
            pass


async def test_the_default_checksums_of_aws_work_with_a_stream(
    s3_server: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.s3_endpoint)  # so that the settings look like AWS
    async with open_storage(changed(s3_server, s3_endpoint=""), NAMESPACE) as storage:
        await storage.put(KEY, IMAGE, PNG)

        assert await storage.get(KEY) == IMAGE
        assert await everything(storage, KEY) == IMAGE


async def test_links_to_aws_name_the_region(s3_server: StorageSettings) -> None:
    settings = changed(s3_server, s3_endpoint="", s3_region="eu-central-1")
    async with open_storage(settings, NAMESPACE) as storage:
        link = await storage.url(KEY, PNG, "result.png")

    assert link is not None
    assert link.startswith(f"https://penstock.s3.eu-central-1.amazonaws.com/{NAMESPACE}/{KEY}?")


async def test_a_download_that_breaks_off_is_an_unavailable_storage(s3_server: StorageSettings) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: 1000\r\n\r\nonly this")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, open_storage(changed(s3_server, s3_endpoint=f"http://127.0.0.1:{port}"), NAMESPACE) as storage:
        with pytest.raises(StorageUnavailable):
            await storage.get(KEY)
        with pytest.raises(StorageUnavailable):
            await everything(storage, KEY)

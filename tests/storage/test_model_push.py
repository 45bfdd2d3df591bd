"""Models in the storage: pushed whole or not at all, verified when they are fetched, and nobody else's business."""

import asyncio
import errno
import hashlib
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import msgspec
import pytest

from penstock.core.model import Model
from penstock.errors import ConfigurationError, UrlBlocked
from penstock.models.repository.cache import ModelCache
from penstock.models.repository.remote import PREFIX, RemoteTree, VersionIndex, fetch, push, remove
from penstock.settings import StorageSettings
from penstock.storage import S3Inputs, Storage, open_storage
from penstock.upkeep.orphans import PREFIXES
from tests.support.memory_storage import MemoryStorage

NAMESPACE = "pushed"
FILES = {"model.toml": b"schema = 1\n", "model.onnx": b"net" * 200_000, "labels.txt": b""}


@pytest.fixture(params=["local", "s3", "memory"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    if request.param == "memory":
        yield MemoryStorage()
        return
    settings = StorageSettings(directory=str(tmp_path / "objects"))
    if request.param == "s3":
        settings = request.getfixturevalue("s3_server")
    async with open_storage(settings, NAMESPACE) as storage:
        yield storage
        await storage.clear(PREFIX)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "tree" / "face" / "1", FILES)


def written(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def model(version: str = "1") -> Model:
    return Model(name="face", version=version, digest="d", versioned=True)


async def pushed(storage: Storage, folder: Path, version: str = "1") -> VersionIndex:
    return await push(storage, model(version), folder, sorted(one.name for one in folder.iterdir()))


async def keys(storage: Storage) -> list[str]:
    return sorted([stored.key async for stored in storage.list(PREFIX)])


async def test_what_was_pushed_is_found_and_fetched(storage: Storage, folder: Path, tmp_path: Path) -> None:
    index = await pushed(storage, folder)
    found = await RemoteTree(storage).look()
    await fetch(storage, found["face@1"], tmp_path / "fetched")

    assert found == {"face@1": index}
    assert index.size == sum(map(len, FILES.values()))
    assert {one.name: one.read_bytes() for one in (tmp_path / "fetched").iterdir()} == FILES


async def test_a_version_that_is_pushed_again_replaces_its_files(
    storage: Storage, folder: Path, tmp_path: Path
) -> None:
    await pushed(storage, folder)
    before = await keys(storage)
    (folder / "model.onnx").write_bytes(b"other")
    await pushed(storage, folder)
    remote = RemoteTree(storage)
    index = (await remote.look())["face@1"]
    await fetch(storage, index, tmp_path / "fetched")

    assert (tmp_path / "fetched" / "model.onnx").read_bytes() == b"other"
    assert len(await keys(storage)) == len(before), "the file that nobody needs is gone"


async def test_a_version_is_removed_and_others_stay(storage: Storage, folder: Path) -> None:
    await pushed(storage, folder)
    await pushed(storage, folder, "2")

    assert await remove(storage, "face", "1")
    assert not await remove(storage, "face", "1")
    assert list(await RemoteTree(storage).look()) == ["face@2"]
    assert all(key.startswith("models/face/2/") for key in await keys(storage))


async def test_a_file_with_another_digest_than_it_must_have_is_not_pushed(storage: Storage, folder: Path) -> None:
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()} | {"labels.txt": ""}
    (folder / "labels.txt").write_bytes(b"cat")
    await push(storage, model("1"), folder, FILES, digests=digests)
    (folder / "model.onnx").write_bytes(b"another")
    with pytest.raises(ConfigurationError, match=r"model\.onnx is another file than model\.toml says"):
        await push(storage, model("2"), folder, FILES, digests=digests)

    assert set(await RemoteTree(storage).look()) == {"face@1"}


async def test_a_push_that_broke_off_is_no_version(storage: Storage, folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        await push(storage, model(), folder, ["model.toml", "none.onnx"])

    assert await RemoteTree(storage).look() == {}


async def test_a_file_that_was_changed_in_the_storage_is_not_taken(
    storage: Storage, folder: Path, tmp_path: Path
) -> None:
    index = await pushed(storage, folder)
    [network] = [file for file in index.files if file.name == "model.onnx"]
    for number, damage in enumerate((b"net" * 199_999 + b"NET", b"net", b"net" * 200_001)):
        await storage.put(f"models/face/1/files/{network.sha256}", damage, "application/octet-stream")
        with pytest.raises(ConfigurationError, match=r"model\.onnx is damaged in the storage"):
            await fetch(storage, index, tmp_path / f"fetched{number}")
    await storage.delete(f"models/face/1/files/{network.sha256}")
    with pytest.raises(ConfigurationError, match="a file is missing in the storage"):
        await fetch(storage, index, tmp_path / "fetched")


BAD_INDEXES = {
    "no JSON": b"{",
    "another version": b'{"schema":1,"model":{"name":"face","version":"2","digest":"d","versioned":true},"files":[]}',
    "a path": b'{"schema":1,"model":{"name":"face","version":"1","digest":"d","versioned":true},"files":'
    b'[{"name":"../x","size":1,"sha256":"' + b"a" * 64 + b'"}]}',
    "endless": b'{"schema":1,"files":[],"model":{"name":"face","version":"1","digest":"d","versioned":true,'
    b'"sizes":{"rule":{"scale":1e308}}}}',
    "too large": b" " * 2_000_000,
    "no UTF-8": b'{"schema":1,"model":{"name":"\xff"}}',
    "too deep": b'{"model":{"params":' + b'{"a":' * 100_000,
}


async def test_an_index_whose_name_is_none_of_a_model_is_no_version(storage: Storage, folder: Path) -> None:
    await pushed(storage, folder, "2")
    shouting = Model(name="Face", version="1", digest="d", versioned=True)
    index = msgspec.json.encode(VersionIndex(model=shouting, files=()))
    await storage.put("models/Face/1/index.json", index, "application/json")

    assert list(await RemoteTree(storage).look()) == ["face@2"]


@pytest.mark.parametrize("what", BAD_INDEXES)
async def test_an_index_that_cannot_be_one_hides_no_other(storage: Storage, folder: Path, what: str) -> None:
    await pushed(storage, folder, "2")
    await storage.put("models/face/1/index.json", BAD_INDEXES[what], "application/json")

    assert list(await RemoteTree(storage).look()) == ["face@2"]


async def test_a_name_that_no_storage_takes_is_refused_before_it_is_announced(storage: Storage, folder: Path) -> None:
    (folder / "ü.txt").write_bytes(b"x")
    with pytest.raises(ConfigurationError, match="cannot be stored under its name"):
        await pushed(storage, folder)

    assert await RemoteTree(storage).look() == {}


async def test_two_models_with_the_same_files_are_cached_side_by_side(
    storage: Storage, folder: Path, tmp_path: Path
) -> None:
    cache = ModelCache(storage, tmp_path / "cache")
    names = sorted(FILES)
    face = await push(storage, model(), folder, names)
    dog = await push(storage, Model(name="dog", version="1", digest="d", versioned=True), folder, names)
    folders = await asyncio.gather(cache.folder(face), cache.folder(dog))

    assert face.digest == dog.digest
    assert [one.parent.name for one in folders] == ["face", "dog"]
    assert [sorted(one.name for one in there.iterdir()) for there in folders] == [names, names]


async def test_a_version_that_is_damaged_in_the_cache_is_fetched_again(
    storage: Storage, folder: Path, tmp_path: Path
) -> None:
    cache, index = ModelCache(storage, tmp_path / "cache"), await pushed(storage, folder)
    before = await cache.folder(index)
    (before / "model.onnx").write_bytes(b"half")

    assert await cache.folder(index) == before
    assert (before / "model.onnx").read_bytes() == FILES["model.onnx"]


async def test_a_small_file_of_the_right_size_that_was_changed_in_the_cache_is_fetched_again(
    storage: Storage, folder: Path, tmp_path: Path
) -> None:
    cache, index = ModelCache(storage, tmp_path / "cache"), await pushed(storage, folder)
    cached = await cache.folder(index) / "model.toml"
    cached.write_bytes(FILES["model.toml"].swapcase())

    await cache.folder(index)
    assert cached.read_bytes() == FILES["model.toml"]


async def test_a_version_that_is_dropped_from_the_cache_is_fetched_again(
    storage: Storage, folder: Path, tmp_path: Path
) -> None:
    cache, index = ModelCache(storage, tmp_path / "cache"), await pushed(storage, folder)
    await cache.drop(index)  # which is not there
    cached = await cache.folder(index)
    await cache.drop(index)

    assert not cached.exists()
    assert await cache.folder(index) == cached
    assert sorted(one.name for one in cached.iterdir()) == sorted(FILES)


async def test_workers_of_a_machine_fetch_a_version_once(storage: Storage, folder: Path, tmp_path: Path) -> None:
    index = await pushed(storage, folder)
    caches = [ModelCache(storage, tmp_path / "cache") for _ in range(2)]
    folders = await asyncio.gather(*(cache.folder(index) for cache in caches for _ in range(3)))
    await storage.clear(PREFIX)

    assert len(set(folders)) == 1
    assert folders[0].parts[-2:] == ("face", "1")
    assert {one.name: one.read_bytes() for one in folders[0].iterdir()} == FILES
    assert await ModelCache(storage, tmp_path / "cache").folder(index) == folders[0], "from the cache alone"
    assert len(list((tmp_path / "cache" / "models").iterdir())) == 1, "nothing half fetched is left"


class FullDisk(MemoryStorage):
    """Sends nothing as long as this is on the disk, which is full."""

    taken_by: Path

    async def stream(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        if self.taken_by.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return await super().stream(key, start, stop)


async def test_on_a_full_disk_the_version_goes_from_the_cache_that_was_loaded_the_longest_ago(
    folder: Path, tmp_path: Path
) -> None:
    storage, home = FullDisk(), tmp_path / "cache" / "models"
    for digest, ago_s in (("older", 200), ("newer", 100)):
        (home / digest).mkdir(parents=True)
        (home / digest / "model.onnx").write_bytes(b"x" * 10**6)
        os.utime(home / digest, (time.time() - ago_s,) * 2)
    storage.taken_by = home / "older"
    index = await pushed(storage, folder)

    cached = await ModelCache(storage, tmp_path / "cache").folder(index)

    assert (cached / "model.onnx").read_bytes() == FILES["model.onnx"]
    assert [(home / digest).exists() for digest in ("older", "newer")] == [False, True]
    storage.taken_by = tmp_path
    with pytest.raises(ConfigurationError, match=r"^worker\.cache_dir cannot be written: No space left on device$"):
        await ModelCache(storage, tmp_path / "another").folder(index)


async def test_what_is_damaged_in_the_cache_is_fetched_again(storage: Storage, folder: Path, tmp_path: Path) -> None:
    index = await pushed(storage, folder)
    cache = ModelCache(storage, tmp_path / "cache")
    cached = await cache.folder(index)
    (cached / "model.onnx").write_bytes(b"cut off")

    assert (await cache.folder(index) / "model.onnx").read_bytes() == FILES["model.onnx"]


async def test_a_fetch_that_fails_is_tried_again_by_the_next_task(tmp_path: Path, folder: Path) -> None:
    storage = MemoryStorage()
    index = await pushed(storage, folder)
    cache = ModelCache(storage, tmp_path / "cache")
    lost = {key: storage.objects.pop(key) for key in list(storage.objects) if "/files/" in key}
    with pytest.raises(ConfigurationError):
        await cache.folder(index)
    storage.objects |= lost

    assert (await cache.folder(index) / "model.toml").exists()


async def test_models_are_no_orphans() -> None:
    assert not any(PREFIX.startswith(prefix) or prefix.startswith(PREFIX) for prefix in PREFIXES)


async def test_inputs_are_not_read_from_the_models(s3_server: StorageSettings, folder: Path) -> None:
    async with open_storage(s3_server, NAMESPACE) as storage:
        index = await pushed(storage, folder)
        async with S3Inputs(s3_server, NAMESPACE) as inputs:
            for key in ("index.json", f"files/{index.files[0].sha256}"):
                with pytest.raises(UrlBlocked, match="models of this server"):
                    await inputs.read(s3_server.s3_bucket, f"{NAMESPACE}/models/face/1/{key}", limit=10**6)
        await storage.clear(PREFIX)

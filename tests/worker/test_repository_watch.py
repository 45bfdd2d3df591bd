"""The repository of models beside a running worker: what comes is served, what goes ends clearly, and nothing bad
hinders the rest."""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from msgspec import Struct

from penstock.core.task import State
from penstock.errors import StorageUnavailable, StoreUnavailable
from penstock.models.declared.runner import declared_runner
from penstock.models.repository.cache import SMALL_BYTES, ModelCache
from penstock.models.repository.remote import RemoteTree, VersionIndex, push, remove
from penstock.models.repository.tree import remove_version
from penstock.settings import LimitSettings
from penstock.storage import Storage
from penstock.storage.contract import Stored
from penstock.store import ModelStore, Shards, Store
from penstock.worker.host import Host
from penstock.worker.publisher import Publisher
from penstock.worker.residency import repository
from penstock.worker.residency.repository import RepositoryWatch
from penstock.worker.residency.residents import Residents
from penstock.worker.residency.versions import LocalVersions, Sighting
from tests.support import slow_model
from tests.support.memory_storage import MemoryStorage
from tests.support.stores import worker_info
from tests.support.tiny_models import add_model
from tests.support.workers import ended, host, submit_image, until

SIZE = 10**6
"""What each model is said to take."""


class CountedVersions(LocalVersions):
    """A directory that counts how often it is looked at."""

    looks = 0

    def look(self) -> Sighting:
        self.looks += 1
        return super().look()


class Watched(Struct, eq=False):
    """A worker that watches a repository."""

    store: Store
    host: Host
    local: CountedVersions

    def states(self) -> dict[str, str]:
        """Returns where each model is."""
        return {name: one.state for name, one in self.host.models.residence().items()}

    def reason(self, model: str) -> str:
        """Returns why a model is where it is."""
        return self.host.models.residence()[model].reason

    async def becomes(self, states: dict[str, str]) -> None:
        """Returns when the models are there."""
        await until(lambda: self.states() == states)

    async def published(self, ids: set[str]) -> None:
        """Returns when these are in the catalogue."""
        while {one.model.id for one in (await self.store.models.catalogue()).versions} != ids:
            await asyncio.sleep(0.02)

    async def looks_again(self) -> None:
        """Returns when it has looked at the directory two more times, and done what follows from that."""
        before = self.local.looks
        await until(lambda: self.local.looks > before + 2)

    async def listed_as(self, model: str, state: str) -> None:
        """Returns when the list of workers says so of a model."""
        while not any(
            model in one.residence and one.residence[model].state == state for one in await self.store.workers.listed()
        ):
            await asyncio.sleep(0.02)

    async def told(self, act: Any, model: str) -> None:
        """Returns when the worker has heard this."""
        while not await self.store.models.tell(act, model):
            await asyncio.sleep(0.02)

    async def number(self, model: str) -> float:
        """Runs a task and returns the number that the model said."""
        task = await ended(self.store, await submit_image(self.store, model))
        assert task.state is State.SUCCESS, task.outcome
        result = task.outcome.result if task.outcome else None
        assert result is not None
        assert result.data is not None
        return float(result.data["outputs"]["said"]["values"][0][0])

    async def refused(self, model: str) -> tuple[str, str]:
        """Runs a task that is not tried again, and returns the code and the message of its error."""
        task = await ended(self.store, await submit_image(self.store, model, max_retries=0))
        assert task.state is State.FAILED
        error = task.outcome.error if task.outcome else None
        assert error is not None
        return error.code, error.message


Start = Callable[..., AbstractAsyncContextManager[Watched]]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def watched(store: Store, storage: Storage, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts a worker of this repository, in which so many of its models fit. It looks ten times as often as usual."""
    monkeypatch.setattr(repository, "LOOK_S", repository.LOOK_S / 10)

    @asynccontextmanager
    async def start(
        worker_id: str = "here-w1",
        *models: str,
        serve: tuple[str, ...] = (),
        places: int = 4,
        catalogue: ModelStore | None = None,
        storage: Storage = storage,
    ) -> AsyncIterator[Watched]:
        local = CountedVersions(tree, LimitSettings())

        def watching(residents: Residents) -> RepositoryWatch:
            return RepositoryWatch(
                residents,
                local,
                RemoteTree(storage),
                ModelCache(storage, tmp_path / worker_id),
                shards=Shards([store]),
                publisher=Publisher(catalogue or store.models, store.workers, worker_id),
                info=worker_info(worker_id, ()),
                serve=serve,
                limits=LimitSettings(),
            )

        options: dict[str, Any] = {"worker_id": worker_id, "model_bytes": places * SIZE, "watching": watching}
        async with host(store, storage, *models, **options) as worker, asyncio.timeout(60):
            yield Watched(store, worker, local)

    return start


def add(directory: Path, model: str, number: float, **options: Any) -> Path:
    """Adds a version that says this number."""
    return add_model(directory, model, number, **{"memory_bytes": SIZE} | options)


# --- what comes -------------------------------------------------------------------------------------------------------


async def test_a_version_that_is_added_is_published_and_loaded_by_its_first_task(watched: Start, tree: Path) -> None:
    async with watched() as worker:
        add(tree, "face@1", 7.0)
        await worker.becomes({"face@1": "cold"})

        assert await worker.number("face@1") == 7.0
        assert worker.states() == {"face@1": "ready"}
        await worker.published({"face@1"})
        await worker.listed_as("face@1", "ready")


async def test_versions_are_served_side_by_side_and_never_mixed(watched: Start, tree: Path) -> None:
    for number in (1, 2, 10):
        add(tree, f"face@{number}", number)
    async with watched() as worker:
        await until(lambda: len(worker.states()) == 3)
        numbers = await asyncio.gather(*(worker.number(f"face@{number}") for number in (1, 2, 10) * 8))
        order = [one.model.id for one in (await worker.store.models.catalogue()).versions]

    assert numbers == [1.0, 2.0, 10.0] * 8
    assert order == ["face@1", "face@2", "face@10"], "the first is the default"


async def test_more_models_than_fit_are_served_in_turn(watched: Start, tree: Path) -> None:
    for number in range(6):
        add(tree, f"m{number}@1", number)
    async with watched(places=2) as worker:
        await until(lambda: len(worker.states()) == 6)
        numbers = await asyncio.gather(*(worker.number(f"m{number % 6}@1") for number in range(36)))
        ready = [model for model, state in worker.states().items() if state == "ready"]

    assert numbers == [float(number % 6) for number in range(36)]
    assert len(ready) == 2


async def test_only_what_models_serve_names_is_served_and_it_is_warm(watched: Start, tree: Path) -> None:
    for model in ("face@1", "face@2", "dog@1", "cat@5"):
        add(tree, model, 1.0)
    async with watched(serve=("face", "cat@5")) as worker:
        await worker.becomes({"cat@5": "ready", "face@1": "ready", "face@2": "cold"})
        await worker.store.models.set_default("face", "2")
        await until(lambda: worker.states()["face@2"] == "ready")


async def test_signals_load_and_unload_a_model(watched: Start, tree: Path) -> None:
    add(tree, "face@1", 1.0)
    async with watched() as worker:
        await worker.becomes({"face@1": "cold"})
        await worker.told("load", "face@1")
        await worker.becomes({"face@1": "ready"})
        await worker.told("unload", "face@1")
        await worker.becomes({"face@1": "evicted"})
        await worker.listed_as("face@1", "evicted")

        assert await worker.number("face@1") == 1.0


async def test_what_is_pushed_is_fetched_verified_and_served_until_it_is_removed(
    watched: Start, storage: Storage, tmp_path: Path
) -> None:
    folder = add(tmp_path / "elsewhere", "face@1", 3.0)
    runner = declared_runner(folder)
    async with watched() as worker:
        await push(storage, runner.described(), folder, ["model.toml", "model.onnx"], runner.definition.run)
        await worker.told("look", "face@1")
        await worker.becomes({"face@1": "cold"})

        assert await worker.number("face@1") == 3.0
        await worker.published({"face@1"})
        await remove(storage, "face", "1")
        await worker.told("look", "face@1")
        await worker.published(set())


async def damaged_in_the_cache(storage: Storage, tmp_path: Path) -> tuple[Path, VersionIndex, Path]:
    """A version whose network is of the right size and all zeros in the cache of the first worker: the folder that it
    was pushed from, its index, and the damaged file."""
    folder = add(tmp_path / "elsewhere", "face@1", 3.0, weights=SMALL_BYTES)
    runner = declared_runner(folder)
    index = await push(storage, runner.described(), folder, ["model.toml", "model.onnx"], runner.definition.run)
    cached = await ModelCache(storage, tmp_path / "here-w1").folder(index) / "model.onnx"
    cached.write_bytes(bytes(cached.stat().st_size))
    return folder, index, cached


async def test_a_damaged_file_of_the_cache_is_fetched_again_once(
    watched: Start, storage: Storage, tmp_path: Path
) -> None:
    folder, _, cached = await damaged_in_the_cache(storage, tmp_path)
    async with watched(storage=storage) as worker:
        await worker.becomes({"face@1": "cold"})

        assert await worker.number("face@1") == 3.0
        assert cached.read_bytes() == (folder / "model.onnx").read_bytes()


async def test_a_model_that_is_damaged_in_the_storage_too_fails_after_one_more_fetch(
    watched: Start, storage: Storage, tmp_path: Path
) -> None:
    _, index, cached = await damaged_in_the_cache(storage, tmp_path)
    (key,) = [f"models/face/1/files/{file.sha256}" for file in index.files if file.name == "model.onnx"]
    await storage.put(key, bytes(cached.stat().st_size), "application/octet-stream")
    async with watched(storage=storage) as worker:
        await worker.becomes({"face@1": "cold"})

        code, message = await worker.refused("face@1")
        assert code == "model_unavailable"
        assert message.endswith("model.onnx is damaged in the storage; push it again")


class SilentStorage(MemoryStorage):
    """A storage that says nothing for longer than any test."""

    async def list(self, prefix: str) -> AsyncIterator[Stored]:
        await asyncio.sleep(600)
        async for stored in super().list(prefix):
            yield stored


async def test_the_directory_is_looked_at_while_the_storage_is_silent(watched: Start, tree: Path) -> None:
    async with watched(storage=SilentStorage()) as worker:
        add(tree, "face@1", 1.0)
        await worker.becomes({"face@1": "cold"})
        remove_version(tree, "face", "1")
        await until(lambda: bool(worker.reason("face@1")))


class AwayStorage(MemoryStorage):
    """A storage that sends no file while it is away."""

    is_away = True
    refused = 0

    async def stream(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        if self.is_away:
            self.refused += 1
            raise StorageUnavailable("it is away")
        return await super().stream(key, start, stop)


async def test_tasks_wait_for_a_model_whose_storage_is_away(watched: Start, tmp_path: Path) -> None:
    folder = add(tmp_path / "elsewhere", "face@1", 3.0)
    storage, runner = AwayStorage(), declared_runner(folder)
    await push(storage, runner.described(), folder, ["model.toml", "model.onnx"], runner.definition.run)
    async with watched(storage=storage) as worker:
        await worker.becomes({"face@1": "cold"})
        key = await submit_image(worker.store, "face@1", max_retries=0)
        await worker.becomes({"face@1": "loading"})
        await until(lambda: storage.refused > 0)
        storage.is_away = False

        assert (await ended(worker.store, key)).state is State.SUCCESS


class LateCatalogue(ModelStore):
    """A catalogue in a Redis that is away at first."""

    is_away = True

    async def publish(self, models: Any, *, worker: str) -> None:
        if self.is_away:
            raise StoreUnavailable("away")
        await super().publish(models, worker=worker)


async def test_what_is_found_while_redis_is_away_is_published_when_it_is_back(
    watched: Start, store: Store, tree: Path
) -> None:
    late = LateCatalogue(store.engine)
    async with watched(catalogue=late) as worker:
        add(tree, "face@1", 1.0)
        await worker.becomes({"face@1": "cold"})
        await worker.published(set())
        late.is_away = False
        await worker.published({"face@1"})


# --- what is wrong ----------------------------------------------------------------------------------------------------


async def test_a_bad_version_is_one_line_in_the_log_and_a_model_that_has_failed(watched: Start, tree: Path) -> None:
    add(tree, "good@1", 1.0)
    (add(tree, "bad@1", 2.0) / "model.toml").write_text("schema = 1\nkind = 'image-to-poems'\n")
    lines: list[str] = []
    told = logger.add(lambda line: lines.append(str(line)), filter=lambda record: "repository" in record["message"])
    try:
        async with watched() as worker:
            await worker.becomes({"good@1": "cold", "bad@1": "failed"})
            await worker.looks_again()
            reason, serves = worker.reason("bad@1"), worker.host.models.models

            assert await worker.number("good@1") == 1.0
    finally:
        logger.remove(told)

    assert "kind" in reason
    assert str(tree) not in reason, "a client reads it"
    assert serves == ("good@1",)
    assert len(lines) == 1


def test_a_version_that_fails_in_a_way_nobody_thought_of_hides_no_other(tree: Path) -> None:
    add(tree, "good@1", 1.0)
    folder = add(tree, "bad@1", 2.0)
    (folder / "answer.json").write_text("[" * 5000 + "]" * 5000)
    with (folder / "model.toml").open("a") as definition:
        definition.write('\n[check]\ninput = "photo.png"\nanswer = "answer.json"\n')

    seen = LocalVersions(tree, LimitSettings()).look()

    assert set(seen.versions) == {"good@1"}
    assert seen.broken["bad@1"].startswith("RecursionError")


@pytest.mark.parametrize("file", ["model.toml", "model.onnx", "labels.txt"])
async def test_a_pipe_in_the_directory_holds_up_no_other_model(watched: Start, tree: Path, file: str) -> None:
    folder = add(tree, "pipe@1", 2.0)
    with (folder / "model.toml").open("a") as definition:
        definition.write('\n[output]\nlabels = "labels.txt"\n')
    (folder / "labels.txt").write_text("cat")
    (folder / file).unlink()
    os.mkfifo(folder / file)
    add(tree, "good@1", 1.0)
    async with watched() as worker:
        await until(lambda: {"good@1", "pipe@1"} <= worker.states().keys())
        if file == "model.onnx":  # which is read when the model is loaded
            await submit_image(worker.store, "pipe@1")
        await until(lambda: worker.states()["pipe@1"] == "failed")

        assert "no plain file" in worker.reason("pipe@1")
        assert await worker.number("good@1") == 1.0


async def test_a_bad_version_is_served_when_it_was_mended(watched: Start, tree: Path) -> None:
    folder = add(tree, "face@1", 2.0)
    good = (folder / "model.toml").read_bytes()
    (folder / "model.toml").write_text("schema = 2")
    async with watched() as worker:
        await worker.becomes({"face@1": "failed"})
        (folder / "model.toml").write_bytes(good)
        await worker.becomes({"face@1": "cold"})

        assert await worker.number("face@1") == 2.0


async def test_a_model_whose_file_is_damaged_is_left_to_other_workers(watched: Start, tree: Path) -> None:
    add(tree, "face@1", 2.0, damaged=True)
    add(tree, "good@1", 1.0)
    async with watched() as worker:
        await until(lambda: len(worker.states()) == 2)
        code, message = await worker.refused("face@1")

        assert code == "model_unavailable"
        assert message == "face@1: model.onnx is another file than model.toml says: its sha256 differs"
        assert worker.host.models.models == ("good@1",)
        assert await worker.number("good@1") == 1.0


async def test_a_model_with_the_name_of_one_in_code_is_not_served(watched: Start, tree: Path) -> None:
    async with watched("here-w1", slow_model.MODEL) as worker:
        add(tree, f"{slow_model.MODEL}@1", 1.0)
        add(tree, "face@1", 1.0)
        await until(lambda: "face@1" in worker.states())

        assert worker.host.models.models == ("face@1", slow_model.MODEL)


async def test_a_directory_that_cannot_be_read_for_a_while_keeps_its_models(watched: Start, tree: Path) -> None:
    add(tree, "face@1", 1.0)
    add(tree, "dog@1", 2.0)
    async with watched() as worker:
        await worker.becomes({"face@1": "cold", "dog@1": "cold"})
        for unreadable in (tree, tree / "face", tree / "face" / "1"):
            kept = unreadable.rename(tree.with_name("kept"))
            unreadable.symlink_to("x" * 300)
            await worker.looks_again()
            unreadable.unlink()
            kept.rename(unreadable)

        assert not worker.reason("face@1"), worker.reason("face@1")
        assert await worker.number("face@1") == 1.0
        assert await worker.number("dog@1") == 2.0


# --- what goes --------------------------------------------------------------------------------------------------------


async def test_tasks_of_a_removed_version_end_with_a_reason_and_no_other_does(watched: Start, tree: Path) -> None:
    add(tree, "face@1", 1.0)
    add(tree, "face@2", 2.0)
    async with watched() as worker:
        await worker.published({"face@1", "face@2"})
        remove_version(tree, "face", "1")
        await until(lambda: bool(worker.reason("face@1")))

        assert await worker.refused("face@1") == ("model_unavailable", "face@1: its files were removed")
        assert await worker.number("face@2") == 2.0
        await worker.published({"face@2"})


async def test_a_bad_version_that_is_removed_is_forgotten_and_its_tasks_end(watched: Start, tree: Path) -> None:
    folder = add(tree, "face@1", 1.0)
    async with watched() as worker:
        await worker.published({"face@1"})
        (folder / "model.toml").write_text("schema = 2")
        await worker.becomes({"face@1": "failed"})
        remove_version(tree, "face", "1")
        await worker.published(set())

        assert await worker.refused("face@1") == ("model_unavailable", "face@1: its files were removed")


async def test_a_loaded_version_whose_files_are_removed_ends_what_waits_for_it(watched: Start, tree: Path) -> None:
    add(tree, "face@1", 1.0)
    async with watched() as worker:
        await worker.becomes({"face@1": "cold"})
        await worker.number("face@1")
        remove_version(tree, "face", "1")
        await until(lambda: bool(worker.reason("face@1")))

        assert await worker.number("face@1") == 1.0


async def test_a_version_that_comes_back_is_served_again(watched: Start, tree: Path) -> None:
    add(tree, "face@1", 1.0)
    async with watched() as worker:
        await worker.published({"face@1"})
        remove_version(tree, "face", "1")
        await worker.published(set())
        add(tree, "face@1", 5.0)
        await worker.published({"face@1"})
        await worker.becomes({"face@1": "cold"})

        assert await worker.number("face@1") == 5.0


async def test_a_version_that_is_replaced_is_never_away(watched: Start, tree: Path) -> None:
    add(tree, "face@1", 1.0)
    async with watched() as worker:
        await worker.becomes({"face@1": "cold"})
        numbers = []
        for number in range(2, 8):
            add(tree, "face@1", number, replace=True)
            numbers.append(await worker.number("face@1"))
        while numbers[-1] != 7.0:
            numbers.append(await worker.number("face@1"))

    assert numbers == sorted(numbers), "each is that of a version that was there"


async def test_a_version_that_another_worker_has_stays_published(watched: Start, tree: Path) -> None:
    add(tree, "face@1", 1.0)
    async with watched() as worker:
        await worker.published({"face@1"})
        await worker.store.leases.renew(worker_info("there-w2", ("face@1",)), ())
        remove_version(tree, "face", "1")
        await until(lambda: bool(worker.reason("face@1")))
        await worker.looks_again()
        await worker.published({"face@1"})
        await worker.store.workers.sign_off("there-w2")
        await worker.published(set())


async def test_what_was_removed_while_no_worker_ran_is_retracted(watched: Start, tree: Path) -> None:
    add(tree, "face@1", 1.0)
    add(tree, "face@2", 2.0)
    async with watched("here-w1") as worker:
        await worker.published({"face@1", "face@2"})
    shutil.rmtree(tree / "face" / "1")
    async with watched("here-w2") as worker:
        await worker.published({"face@2"})

        assert (await worker.refused("face@1"))[0] == "model_unavailable"


async def test_a_directory_that_is_empty_all_at_once_keeps_its_models_and_the_default_version(
    watched: Start, tree: Path
) -> None:
    """As one does whose volume is not mounted."""
    for model in ("face@1", "face@2"):
        add(tree, model, 1.0)
    lines: list[str] = []
    told = logger.add(lambda line: lines.append(str(line)), level="ERROR", format="{message}: {extra}")
    async with watched("here-w1") as worker:
        await worker.published({"face@1", "face@2"})
        await worker.store.models.set_default("face", "2")
        away = tree.rename(tree.with_name("away"))
        await worker.looks_again()
        tree.mkdir()
        await worker.looks_again()
        while_it_ran = (worker.reason("face@1"), len(lines))
    async with watched("here-w2") as worker:
        await worker.looks_again()
        at_a_start = (worker.states(), len(lines))
        defaults = (await worker.store.models.catalogue()).defaults
        tree.rmdir()
        away.rename(tree)
        await worker.becomes({"face@1": "cold", "face@2": "cold"})
        remove_version(tree, "face")
        await worker.published(set())
    logger.remove(told)

    assert while_it_ran == ("", 1)
    assert at_a_start == ({}, 2)
    assert defaults == {"face": "2"}
    assert all("is its volume mounted?" in line for line in lines)

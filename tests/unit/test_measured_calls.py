"""The times that are counted where Redis and the storage are called, and of the machine below a process."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.errors import ResultExpired, StoreUnavailable
from penstock.settings import RedisSettings, Settings, StorageSettings
from penstock.storage import LocalStorage
from penstock.store import Engine, connect
from penstock.telemetry import exposition
from penstock.upkeep.machine import disks_of, watch_disks, watch_loop

WITHIN_S = 60.0


def sample(name: str, **labels: str) -> float | None:
    """The value of a series in a scrape of this process."""
    families = text_string_to_metric_families(exposition.scrape().decode())
    found = [one.value for family in families for one in family.samples if one.name == name and one.labels == labels]
    return found[0] if found else None


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not is_so():
            await asyncio.sleep(0.02)


async def test_a_call_of_the_storage_is_counted_also_when_it_fails(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    before = sample("penstock_storage_calls_seconds_count", operation="get") or 0

    await storage.put("a/b", b"x", "text/plain")
    assert await storage.get("a/b") == b"x"
    with pytest.raises(ResultExpired):
        await storage.get("a/c")

    assert sample("penstock_storage_calls_seconds_count", operation="get") == before + 2


async def test_a_redis_that_does_not_answer_is_counted_with_the_time_it_was_waited_for() -> None:
    before = sample("penstock_store_calls_seconds_count") or 0
    async with connect(RedisSettings(url="redis://127.0.0.1:9/0", timeout_s=0.2)) as client:
        engine = Engine(client, "none", Settings().queue)
        with pytest.raises(StoreUnavailable):
            await engine.pipelined([("PING",)])

    assert (sample("penstock_store_calls_seconds_count") or 0) > before


async def test_a_loop_that_is_held_up_says_by_how_much() -> None:
    watching = asyncio.create_task(watch_loop())
    await asyncio.sleep(0)
    before = sample("penstock_loop_lag_seconds_sum") or 0

    time.sleep(1.5)  # noqa: ASYNC251  it is the loop that is held up
    await until(lambda: (sample("penstock_loop_lag_seconds_sum") or 0) >= before + 0.9)
    watching.cancel()


async def test_disks_are_shown_and_one_that_is_not_there_is_not(tmp_path: Path) -> None:
    watching = asyncio.create_task(watch_disks({"storage": str(tmp_path), "spool": str(tmp_path / "none")}))
    await until(lambda: sample("penstock_disk_free_bytes", place="storage") is not None)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching

    free, size = (sample(f"penstock_disk_{name}_bytes", place="storage") for name in ("free", "size"))
    assert free
    assert size
    assert 0 < free <= size
    assert sample("penstock_disk_free_bytes", place="spool") is None


def test_a_bucket_has_no_disk_here_and_only_a_worker_has_a_spool(tmp_path: Path) -> None:
    local = Settings(storage=StorageSettings(directory=str(tmp_path)))
    bucket = Settings(storage=StorageSettings(local=False, s3_bucket="b"))

    assert disks_of(local, has_spool=False) == {"storage": str(tmp_path)}
    assert list(disks_of(local, has_spool=True)) == ["storage", "spool"]
    assert disks_of(bucket, has_spool=False) == {}

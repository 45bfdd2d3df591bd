"""What the log has of a Redis that is away for long."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from loguru import logger

from penstock.settings import QueueSettings, RedisSettings
from penstock.store import Shards, connect_each
from penstock.telemetry.outages import Outage
from penstock.upkeep import rounds
from tests.support.memory_storage import MemoryStorage
from tests.support.redis_server import RedisProcess

Said = tuple[str, dict[str, Any]]


@pytest.fixture
def told() -> Iterator[list[Said]]:
    """The messages of the log, each with what is bound to it."""
    said: list[Said] = []
    sink = logger.add(lambda line: said.append((line.record["message"], dict(line.record["extra"]))), format="")
    yield said
    logger.remove(sink)


def test_an_outage_is_told_when_it_begins_again_and_when_its_reason_changes(told: list[Said]) -> None:
    outage = Outage("feeding postponed", job="feeder")
    for reason in ("it is away", "it is away", "it is full", "it is full"):
        outage.note(reason)
    outage.over()
    outage.note("it is full")

    assert [about["reason"] for _, about in told] == ["it is away", "it is full", "it is full"]
    assert {(message, about["job"]) for message, about in told} == {("feeding postponed", "feeder")}


async def test_rounds_that_fail_again_and_again_are_told_once_with_their_shard(
    own_redis: RedisProcess, told: list[Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "SWEEP_PAUSE_S", 0.01)
    async with connect_each(RedisSettings(url=own_redis.url, namespace="outages", shards=2)) as clients:
        own_redis.kill()
        upkeep = [rounds.run_upkeep(store, MemoryStorage()) for store in Shards.over(clients, QueueSettings())]
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.gather(*upkeep)

    sweeps = [about["shard"] for message, about in told if about.get("job") == "sweep"]
    assert sorted(sweeps) == [0, 1]

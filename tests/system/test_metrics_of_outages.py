"""What the metrics say while Redis or the storage is away: that it is, and nothing that is not known any more."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from penstock.settings import Settings, StorageSettings
from penstock.telemetry.instruments import INSTRUMENTS
from penstock.upkeep.gauges import MEASURED
from tests.support import api_server
from tests.support.faulty import Fault, peer_of
from tests.support.processes import System, up
from tests.support.redis_server import RedisProcess

WITHIN_S = 60.0
OF_REDIS = {INSTRUMENTS[key].exported for key in MEASURED}


def until(is_so: Callable[[], bool]) -> None:
    give_up = time.monotonic() + WITHIN_S
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.1)


def up_by_process(system: System, name: str) -> dict[str, float]:
    """What each process says of Redis, or the storage."""
    found = system.metrics().get(name, [])
    return {labels["process"].partition("-")[0]: value for labels, value in found}


def test_every_process_says_that_redis_is_frozen_and_shows_no_old_numbers(
    own_redis: RedisProcess, tmp_path: Path
) -> None:
    environ = {
        "REDIS_URL": own_redis.url,
        "GPU_IDS": "cpu",
        "PENSTOCK_MODELS_MODULES": "penstock.models.noop",
        "PENSTOCK_MODELS_SERVE": "noop-v1",
    }
    with up(tmp_path, **environ) as system:
        until(lambda: up_by_process(system, "penstock_store_up") == {"api": 1, "worker": 1})
        until(lambda: up_by_process(system, "penstock_storage_up") == {"api": 1, "worker": 1})
        until(lambda: "penstock_queue_depth" in system.metrics())
        assert system.metrics()["penstock_records_unreadable"] == [({"process": "api"}, 0.0)]
        os.kill(own_redis.pid, signal.SIGSTOP)
        try:
            until(lambda: up_by_process(system, "penstock_store_up") == {"api": 0, "worker": 0})
            until(lambda: not OF_REDIS & system.metrics().keys())
            of_api = httpx.get(f"{system.url}/metrics", timeout=10, trust_env=False)
            assert up_by_process(system, "penstock_storage_up") == {"api": 1, "worker": 1}
        finally:
            os.kill(own_redis.pid, signal.SIGCONT)
        until(lambda: up_by_process(system, "penstock_store_up") == {"api": 1, "worker": 1})
        until(lambda: "penstock_queue_depth" in system.metrics())

    assert "penstock_store_up 0.0" in of_api.text


@pytest.mark.at_length
async def test_a_server_says_that_its_storage_is_silent(settings: Settings, s3_server: StorageSettings) -> None:
    async with peer_of(s3_server.s3_endpoint) as peer:
        behind = replace(settings, storage=replace(s3_server, s3_endpoint=peer.url))
        with api_server.in_thread(behind) as url:
            async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                await _storage_up(client, 1)
                peer.fault = Fault(silent=True)
                await _storage_up(client, 0)
                peer.fault = Fault()
                await _storage_up(client, 1)


async def _storage_up(client: httpx.AsyncClient, value: float) -> None:
    async with asyncio.timeout(WITHIN_S):
        while value not in await _samples(client, "penstock_storage_up"):
            await asyncio.sleep(0.1)


async def _samples(client: httpx.AsyncClient, name: str) -> list[float]:
    families = text_string_to_metric_families((await client.get("/metrics")).text)
    return [sample.value for family in families for sample in family.samples if sample.name == name]

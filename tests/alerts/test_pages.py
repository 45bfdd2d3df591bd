"""A real Prometheus with the rules that are shipped, as they are, watches a whole Penstock, whose Redis is frozen.

A ring of its own, `just alerts`; this test alone takes three minutes.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alerts.prometheus import until, watching
from tests.support.processes import System, up
from tests.support.redis_server import RedisProcess

pytestmark = [pytest.mark.alerts, pytest.mark.timeout(600)]

PAGES_WITHIN_S = 120.0


@pytest.fixture
def system(own_redis: RedisProcess, tmp_path: Path) -> Iterator[System]:
    environ = {
        "REDIS_URL": own_redis.url,
        "GPU_IDS": "cpu",
        "PENSTOCK_MODELS_MODULES": "penstock.models.noop",
        "PENSTOCK_MODELS_SERVE": "noop-v1",
    }
    with up(tmp_path / "penstock", **environ) as system:
        yield system


def test_a_frozen_redis_pages_within_two_minutes_and_stops_when_it_goes_on(
    system: System, own_redis: RedisProcess, tmp_path: Path
) -> None:
    with watching(system, tmp_path) as prometheus:
        ask = prometheus.ask
        until(lambda: len(ask("penstock_store_up == 1")) == 3)  # the API at both ports, and the worker
        until(lambda: bool(ask("penstock_queue_depth")))
        os.kill(own_redis.pid, signal.SIGSTOP)
        try:
            took_s = until(lambda: prometheus.is_firing("PenstockStoreDown"))
            others = {found["metric"]["alertname"] for found in ask('ALERTS{alertstate="firing"}')}
            depths = ask("penstock_queue_depth")
        finally:
            os.kill(own_redis.pid, signal.SIGCONT)
        until(lambda: not prometheus.is_firing("PenstockStoreDown"))
        until(lambda: bool(ask("penstock_queue_depth")))

    print(f"the alert fired {took_s:.0f} s after Redis was frozen")
    assert took_s < PAGES_WITHIN_S
    assert others == {"PenstockStoreDown"}
    assert depths == []

"""A real Prometheus with the rules that are shipped watches a whole Penstock, whose Redis is frozen.

A ring of its own, `just alerts`: it takes three minutes.
"""

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.net.session import read_local
from tests.support.processes import System, up
from tests.support.redis_server import RedisProcess, free_port

pytestmark = [pytest.mark.alerts, pytest.mark.timeout(600)]

DEPLOY = Path(__file__).parents[2] / "deploy"
PAGES_WITHIN_S = 120.0
WITHIN_S = 180.0


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


@contextmanager
def watched_by_prometheus(system: System, directory: Path) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """Asks Prometheus, which has the shipped rules and intervals, and looks at the two ports of this system."""
    program = shutil.which("prometheus") or pytest.skip("prometheus is not installed (Debian: apt install prometheus)")
    settings = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    targets = {"penstock-api": system.url, "penstock-worker": system.metrics_url}
    settings["rule_files"] = [str(DEPLOY / "alerts.yml")]
    settings["scrape_configs"] = [
        {"job_name": job, "static_configs": [{"targets": [urllib.parse.urlsplit(url).netloc]}]}
        for job, url in targets.items()
    ]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(settings))
    port = free_port()
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={directory}/prometheus.yml",
                f"--storage.tsdb.path={directory}/tsdb",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )

    def ask(expression: str) -> list[dict[str, Any]]:
        query = urllib.parse.urlencode({"query": expression})
        try:
            _, text = read_local(f"http://127.0.0.1:{port}/api/v1/query?{query}", timeout_s=5)
        except OSError:
            assert process.poll() is None, (directory / "prometheus.log").read_text()
            return []
        found: list[dict[str, Any]] = json.loads(text).get("data", {}).get("result", [])
        return found

    try:
        yield ask
    finally:
        process.terminate()
        process.wait(30)


def until(is_so: Callable[[], bool], within_s: float = WITHIN_S) -> float:
    """Seconds until it was so."""
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < within_s
        time.sleep(0.25)
    return time.monotonic() - started


def test_a_frozen_redis_pages_within_two_minutes_and_stops_when_it_goes_on(
    system: System, own_redis: RedisProcess, tmp_path: Path
) -> None:
    with watched_by_prometheus(system, tmp_path) as ask:
        until(lambda: len(ask("penstock_store_up == 1")) == 3)  # the API at both ports, and the worker
        until(lambda: bool(ask("penstock_queue_depth")))
        os.kill(own_redis.pid, signal.SIGSTOP)
        try:
            took_s = until(lambda: bool(ask('ALERTS{alertname="PenstockStoreDown", alertstate="firing"}')))
            others = {found["metric"]["alertname"] for found in ask('ALERTS{alertstate="firing"}')}
            depths = ask("penstock_queue_depth")
        finally:
            os.kill(own_redis.pid, signal.SIGCONT)
        until(lambda: not ask('ALERTS{alertname="PenstockStoreDown", alertstate="firing"}'))
        until(lambda: bool(ask("penstock_queue_depth")))

    print(f"the alert fired {took_s:.0f} s after Redis was frozen")
    assert took_s < PAGES_WITHIN_S
    assert others == {"PenstockStoreDown"}
    assert depths == []

"""The matrix of faults and alerts: what is done to a system, and exactly which alerts must fire then."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.alerts.load import receiving, submit, under_load
from tests.alerts.prometheus import Prometheus, until
from tests.support.processes import System, wait_for
from tests.support.redis_server import RedisProcess

KILLS = 4
BOTH = ("page", "ticket")


class Watched(NamedTuple):
    """A system, its Redis, the directory of its storage, and the Prometheus that watches it."""

    system: System
    redis: RedisProcess
    objects: Path
    prometheus: Prometheus

    def until_fires(self, *names: str) -> None:
        """Waits until all these alerts fire."""
        until(lambda: all(self.prometheus.is_firing(name) for name in names))

    def until_calm(self, *names: str) -> None:
        """Waits until none of these fires any more."""
        until(lambda: not any(self.prometheus.is_firing(name) for name in names))


def nothing(watched: Watched) -> None:
    """Two minutes of load, which are ten of the shipped rules."""
    with receiving(204) as url, under_load(watched.system, webhook={"url": url}, params={"product": "file"}) as load:
        time.sleep(120)
    assert load.statuses[202]


def freeze_redis(watched: Watched) -> None:
    with under_load(watched.system, for_s=10):
        os.kill(watched.redis.pid, signal.SIGSTOP)
        try:
            watched.until_fires("PenstockStoreDown", "PenstockSubmitsRefused")
        finally:
            os.kill(watched.redis.pid, signal.SIGCONT)
        watched.until_calm("PenstockStoreDown")


def kill_workers(watched: Watched) -> None:
    url = f"{watched.system.url}/v1/tasks"
    with watched.system.client() as client:
        for _ in range(KILLS):
            task = submit(client, url, params={"tiles": 40}).raise_for_status().json()["task_id"]
            wait_for(client, task, "RUNNING")
            os.kill(watched.system.process.child("worker-process"), signal.SIGKILL)
            wait_for(client, task)
    watched.until_fires("PenstockProcessRestarts", "PenstockLeasesReclaimed")


def lose_storage(watched: Watched) -> None:
    """A file is where the directory should be, as after a disk that was not mounted."""
    away = watched.objects.with_name("away")
    with under_load(watched.system, for_s=10, params={"product": "file"}):
        pass
    watched.objects.rename(away)
    watched.objects.touch()
    try:
        with under_load(watched.system, for_s=3, params={"product": "file"}):
            pass
        watched.until_fires("PenstockStorageDown")
    finally:
        watched.objects.unlink()
        away.rename(watched.objects)
    watched.until_calm("PenstockStorageDown")


def fail_webhooks(watched: Watched) -> None:
    with receiving(500) as url, under_load(watched.system, webhook={"url": url}):
        watched.until_fires("PenstockWebhooksFailing")


def drain_workers(watched: Watched) -> None:
    with watched.system.client() as client:
        (worker,) = client.get("/v1/workers").json()["data"]
        client.post(f"/v1/workers/{worker['id']}/drain").raise_for_status()
        submit(client, f"{watched.system.url}/v1/tasks").raise_for_status()
        watched.until_fires("PenstockNoReadyWorker")
        client.post(f"/v1/workers/{worker['id']}/resume").raise_for_status()
        watched.until_calm("PenstockNoReadyWorker")


def break_model(watched: Watched) -> None:
    """A model returns what JSON cannot hold."""
    with under_load(watched.system, params={"product": "an object"}):
        watched.until_fires("PenstockTasksFail")


def kill_all(watched: Watched) -> None:
    """As when a host goes down."""
    watched.system.process.kill_all()
    watched.until_fires("PenstockTargetDown")


class Fault(NamedTuple):
    """What is done, in words, and the alerts that fire, with their severities. All durations of the rules are divided
    by `times`."""

    words: str
    act: Callable[[Watched], None]
    expected: dict[str, tuple[str, ...]]
    times: int = 5


FAULTS = (
    Fault("nothing, under load with webhooks", nothing, {}),
    Fault(
        "Redis frozen, under load",
        freeze_redis,
        {"PenstockStoreDown": ("page",), "PenstockSubmitsRefused": BOTH},
    ),
    Fault(
        "the worker killed (SIGKILL) four times",
        kill_workers,
        {"PenstockProcessRestarts": ("ticket",), "PenstockLeasesReclaimed": ("ticket",)},
        times=2,  # a start of a worker is no shorter here, and must not look like no worker at all
    ),
    Fault("the storage lost", lose_storage, {"PenstockStorageDown": ("page",)}),
    Fault("the receiver of webhooks answers 500", fail_webhooks, {"PenstockWebhooksFailing": ("ticket",)}),
    Fault("all workers drained", drain_workers, {"PenstockNoReadyWorker": ("page",)}),
    Fault("a model fails every task", break_model, {"PenstockTasksFail": BOTH}),
    Fault("the host down", kill_all, {"PenstockTargetDown": ("page",)}),
)


def table() -> str:
    """Returns the matrix as it stands in docs/explanation/reliability.md."""
    alerts = sorted({name for fault in FAULTS for name in fault.expected})
    rows = [["fault", *(f"`{name}`" for name in alerts)], ["---"] * (len(alerts) + 1)]
    rows += [[fault.words, *(", ".join(fault.expected.get(name, ())) for name in alerts)] for fault in FAULTS]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)

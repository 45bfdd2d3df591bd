"""Several processes of the API behind one port: `penstock api --processes 2`, and each of them spoken to by itself."""

import json
import os
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.settings import ApiSettings, RedisSettings, Settings, StorageSettings, environment_of
from tests.support import redis_server
from tests.support.drive import body
from tests.support.processes import Process
from tests.support.published import publish_now

NAMES = ("api-1", "api-2")
WITHIN_S = 60.0
MOST = 7
"""Submits of one key in a minute."""
KEYS = {name: f"{name}-0123456789abcdef" for name in ("limited", "waiting", "counting", "killing", "stopping")}
"""A key for each test, since all have the same limit."""


class TwoProcesses:
    """A running `penstock api --processes 2`."""

    def __init__(self, process: Process) -> None:
        self.process = process
        until(lambda: self._starts() or process.popen.poll() is not None, "the parent starts")
        assert self._starts(), process.log.read_text()
        self.url = f"http://127.0.0.1:{self._starts()[0]['port']}"
        until(self._are_ready, "both are ready")

    def log(self) -> list[dict[str, Any]]:
        """All lines so far."""
        lines = self.process.log.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    def served(self, route: str, process: str) -> int:
        """How many requests to this route a process says that it has answered."""
        lines = [line for line in self.log() if line["message"] == "request" and line["process"] == process]
        return sum(line["route"] == route for line in lines)

    @contextmanager
    def client(self, key: str, at: str = "") -> Iterator[httpx.Client]:
        """Yields a client; `at` names the process that has accepted its only connection: the other could not."""
        headers = {"x-api-key": KEYS[key]}
        with httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False) as client:
            with self._stopped(*(name for name in NAMES if at and name != at)):
                client.get("/livez").raise_for_status()
            yield client

    @contextmanager
    def _stopped(self, *names: str) -> Iterator[None]:
        pids = [self.process.child(name) for name in names]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            for pid in pids:
                until(lambda pid=pid: _state(pid) == "T", "stopped")
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def _starts(self) -> list[dict[str, Any]]:
        return [line for line in self.log() if line["message"] == "the API starts"]

    def _are_ready(self) -> bool:
        assert self.process.popen.poll() is None, self.process.log.read_text()
        published = {line["process"] for line in self.log() if line["message"] == "models published"}
        try:
            return published >= set(NAMES) and httpx.get(f"{self.url}/livez", timeout=30, trust_env=False).is_success
        except httpx.ConnectError:  # neither listens yet
            return False


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def until(holds: Callable[[], object], what: str) -> None:
    give_up = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < give_up, f"not in time: {what}"
        time.sleep(0.02)


def counted(client: httpx.Client, name: str, **labels: str) -> float:
    """The sum of the samples with these labels."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [one for family in families for one in family.samples if one.name == name]
    return sum(one.value for one in samples if labels.items() <= one.labels.items())


@pytest.fixture(scope="module")
def api(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoProcesses]:
    """Its last test stops it."""
    here = tmp_path_factory.mktemp("api")
    keys = tuple(f"{name}:{secret}" for name, secret in KEYS.items())
    settings = Settings(
        api=ApiSettings(port=0, keys=keys, rate_limit_per_minute=MOST, metrics="on", processes=2, linger_s=0.5),
        redis=RedisSettings(url=redis_url, namespace=f"test-{secrets.token_hex(8)}"),
        storage=StorageSettings(directory=str(here / "objects")),
    )
    publish_now(settings)
    process = Process(["api"], environment_of(settings), here / "api.log")
    try:
        yield TwoProcesses(process)
    finally:
        if process.popen.poll() is None:
            process.stop()
        redis_server.remove_namespace(redis_url, settings.redis.namespace)


def test_a_caller_has_one_rate_whichever_processes_it_meets(api: TwoProcesses) -> None:
    with api.client("limited", at="api-1") as first, api.client("limited", at="api-2") as second:
        answers = [client.post("/v1/tasks", json=body()) for _ in range(MOST) for client in (first, second)]

    assert [answer.status_code for answer in answers] == [202] * MOST + [429] * MOST
    until(lambda: [api.served("/v1/tasks", name) for name in NAMES] == [MOST, MOST], "lines of all answers in the log")


def test_a_wait_and_a_stream_hear_of_what_another_process_does(api: TwoProcesses) -> None:
    with (
        api.client("waiting", at="api-1") as waiting,
        api.client("waiting", at="api-1") as streaming,
        api.client("waiting", at="api-2") as other,
        ThreadPoolExecutor() as threads,
    ):
        waited = threads.submit(waiting.post, "/v1/tasks", json=body(), headers={"prefer": "wait=20"})
        until(lambda: counted(other, "penstock_waits") == 1, "it waits")
        task = other.get("/v1/tasks").json()["data"][0]["task_id"]
        with streaming.stream("GET", f"/v1/tasks/{task}/events") as stream:
            lines = stream.iter_lines()
            assert any('"PENDING"' in line for line in lines)
            other.post(f"/v1/tasks/{task}/cancel").raise_for_status()
            assert any('"CANCELED"' in line for line in lines)

    assert waited.result().json()["status"] == "CANCELED"


def test_every_process_answers_the_metrics_of_all(api: TwoProcesses) -> None:
    labels = {"route": "/v1/models", "status": "200"}
    with api.client("counting", at="api-1") as first, api.client("counting", at="api-2") as second:
        for client in (first, second, second):
            client.get("/v1/models").raise_for_status()
        shown = [counted(client, "penstock_http_requests_seconds_count", **labels) for client in (first, second)]
        once = [client.get("/metrics").text.count("\npenstock_records_unreadable ") for client in (first, second)]
        connections = counted(first, "penstock_connections")

    assert shown == [3, 3]
    assert once == [1, 1], "a gauge of the store is the same whichever process measures it"
    assert connections >= 2


def test_a_killed_process_is_replaced_and_no_request_of_a_new_connection_fails(api: TwoProcesses) -> None:
    submits = {"name": "penstock_http_requests_seconds_count", "route": "/v1/models"}
    killed = api.process.child("api-1")
    with api.client("killing", at="api-1") as held, api.client("killing", at="api-2") as other:
        before = [held.get("/v1/models").status_code, counted(other, **submits)]
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            held.get("/livez")
        answers = Counter[int]()
        while not _is_replaced(api, "api-1"):
            answers[httpx.get(f"{api.url}/livez", timeout=30, trust_env=False).status_code] += 1
        with api.client("killing", at="api-1") as again:
            after = [again.get("/v1/models").status_code, counted(other, **submits)]
            restarts = counted(again, "penstock_process_restarts_total", child="api-1")

    assert answers.keys() == {200}
    assert after == [200, before[1] + 1]
    assert restarts == 1
    assert [line["child"] for line in api.log() if line["message"] == "process died"] == ["api-1"]


def test_a_stop_reaches_all_processes_which_finish_their_requests_first(api: TwoProcesses) -> None:
    """It is the last one of this server."""
    children = api.process.children()
    with (
        api.client("stopping", at="api-1") as first,
        api.client("stopping", at="api-2") as second,
        ThreadPoolExecutor() as threads,
    ):
        waits = [
            threads.submit(client.post, "/v1/tasks", json=body(), headers={"prefer": "wait=20"})
            for client in (first, second)
        ]
        with api.client("stopping") as other:
            until(lambda: counted(other, "penstock_waits") == 2, "both wait")
        status = api.process.stop()

    assert [wait.result().status_code for wait in waits] == [202, 202]
    assert status == 0
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def _is_replaced(api: TwoProcesses, name: str) -> bool:
    """Whether this process, which has died, has read the models again."""
    told = [(line["message"], line.get("child", line["process"])) for line in api.log()]
    return ("models published", name) in told[told.index(died) :] if (died := ("process died", name)) in told else False

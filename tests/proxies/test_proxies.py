"""The proxies that are shipped as examples, run in front of a real server. A ring of its own, `just proxies`."""

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.proxies.fronts import DEFAULT_READ_TIMEOUT_S, FRONTS, Front, caddy, nginx
from tests.support.drive import data_uri, image
from tests.support.fleet import KEY, Api, Fleet
from tests.support.processes import wait_for
from tests.support.redis_server import RedisProcess, free_port
from tests.support.slow_model import MODEL

pytestmark = [pytest.mark.proxies, pytest.mark.timeout(900)]

OVER_A_MINUTE_S = 65.0
UPLOAD_BYTES = 50_000_000
WRONG_KEYS = 3


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "redis").mkdir()
    environ = {
        "PENSTOCK_API_TRUSTED_PROXIES": "127.0.0.1",
        "PENSTOCK_API_WRONG_KEYS_PER_MINUTE": str(WRONG_KEYS),
        "PENSTOCK_WORKER_SLOTS": "8",
        "PENSTOCK_API_LINGER_S": "2",  # the default: in that time each answer asks the proxy to close the connection
        "RATE_LIMIT_PER_MINUTE": "100000",
    }
    with RedisProcess(folder / "redis") as redis, Fleet(redis.url, folder, **environ) as fleet:
        fleet.worker()
        yield fleet


@pytest.fixture(scope="module")
def api(fleet: Fleet) -> Api:
    api = fleet.api()
    api.until_workers(1)
    return api


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest, api: Api, tmp_path: Path) -> Iterator[Front]:
    """A proxy in front of the server."""
    with FRONTS[request.param](tmp_path, [port_of(api)]) as front:
        yield front


def port_of(api: Api) -> int:
    return api.client.base_url.port or 0


def sleeping(seconds: float) -> dict[str, Any]:
    """A task that sleeps for so long."""
    tiles = round(seconds / 0.25)
    params = {"tiles": tiles, "tile_s": 0.25}
    body = {"model": MODEL, "input": {"image_url": data_uri(image())}, "reuse": False}
    return body | {"params": params, "timeout_s": 600}


def test_a_wait_of_more_than_a_minute_is_answered(front: Front) -> None:
    with front.client(authorization=f"Bearer {KEY}") as client:
        answer = client.post("/v1/tasks", json=sleeping(OVER_A_MINUTE_S), headers={"Prefer": "wait=90"})

    assert (answer.status_code, answer.json()["status"]) == (200, "SUCCESS")


def test_nginx_would_break_a_wait_off_without_the_line_about_it(api: Api, tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    headers = {"authorization": f"Bearer {KEY}", "Prefer": "wait=30"}
    task = sleeping(3 * DEFAULT_READ_TIMEOUT_S)

    with nginx(tmp_path, [port_of(api)]) as whole, whole.client(**headers) as client:
        assert client.post("/v1/tasks", json=task).json()["status"] == "SUCCESS"
    with nginx(tmp_path / "without", [port_of(api)], without="    proxy_read_timeout 310s;\n") as poorer:
        with poorer.client(**headers) as client:
            assert client.post("/v1/tasks", json=task).status_code == 504


def test_an_event_arrives_while_the_task_still_runs(front: Front, api: Api) -> None:
    with front.client(authorization=f"Bearer {KEY}") as client:
        task_id = client.post("/v1/tasks", json=sleeping(60)).json()["task_id"]
        wait_for(api.client, task_id, "RUNNING")
        with client.stream("GET", f"/v1/tasks/{task_id}/events") as stream:
            lines = stream.iter_lines()
            assert stream.headers["content-type"].startswith("text/event-stream")
            while "progress" not in next(lines):
                pass
            assert api.client.get(f"/v1/tasks/{task_id}").json()["status"] == "RUNNING"
            api.client.post(f"/v1/tasks/{task_id}/cancel").raise_for_status()
            assert any("CANCELED" in line for line in lines)


def test_an_upload_of_fifty_megabytes_goes_through(front: Front) -> None:
    data = os.urandom(UPLOAD_BYTES)
    announced = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    with front.client(authorization=f"Bearer {KEY}") as client:
        opened = client.post("/v1/uploads", json=announced).raise_for_status().json()
        assert opened["url"].startswith(front.url)
        client.put(opened["url"], content=data, headers=opened.get("headers", {})).raise_for_status()
        assert client.get(f"/v1/uploads/{opened['upload_id']}").raise_for_status().json()["size"] == len(data)


def test_a_body_that_is_too_large_is_refused_by_the_api_in_its_words(front: Front) -> None:
    with front.client(authorization=f"Bearer {KEY}") as client:
        answer = client.post("/v1/tasks", content=b" " * 40_000_000, headers={"content-type": "application/json"})

    assert answer.status_code == 413
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_clients_are_counted_by_their_own_address_whatever_they_claim(front: Front) -> None:
    def wrong(address: str, n: int) -> int:
        with front.client(address, authorization="Bearer wrong-key-of-16-characters") as client:
            claimed = {"X-Forwarded-For": f"10.0.0.{n}", "Forwarded": f"for=10.1.0.{n}"}
            return client.get("/v1/models", headers=claimed).status_code

    # One address for each proxy: those who were wrong before are remembered.
    here, elsewhere = ("127.0.0.5", "127.0.0.6") if front.url.startswith("https") else ("127.0.0.7", "127.0.0.8")
    statuses = [wrong(here, n) for n in range(WRONG_KEYS + 1)]

    assert statuses == [401] * WRONG_KEYS + [429]
    assert wrong(elsewhere, 0) == 401


def test_no_client_makes_up_where_links_lead(front: Front) -> None:
    made_up = {
        "Forwarded": "proto=http;host=evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "gopher",
        "X-Forwarded-Port": "1234",
    }
    with front.client(authorization=f"Bearer {KEY}") as client:
        opened = client.post("/v1/uploads", json={"size": 1}, headers=made_up).raise_for_status().json()

    assert opened["url"].startswith(f"{front.url}/v1/uploads/")


@pytest.mark.parametrize("name", FRONTS)
def test_a_submit_that_an_api_may_have_begun_is_not_sent_again(name: str, tmp_path: Path) -> None:
    with dying_server() as (first, heard), dying_server() as (second, heard_too):
        ports = [first, second] if name == "nginx" else [first]
        with FRONTS[name](tmp_path, ports) as front, front.client() as client:
            answer = client.post("/v1/tasks", json={"model": MODEL})

    assert answer.status_code in (502, 504)
    assert len(heard + heard_too) == 1


@contextmanager
def dying_server() -> Iterator[tuple[int, list[bytes]]]:
    """A server that reads a request and goes away without an answer, as one that is killed does."""
    heard: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    if request := connection.recv(65536):
                        heard.append(request)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1], heard
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_one_of_two_apis_behind_nginx_is_replaced_without_a_refused_or_a_doubled_submit(
    fleet: Fleet, tmp_path: Path
) -> None:
    ports = [free_port(), free_port()]
    running = [fleet.api(port=port) for port in ports]
    with nginx(tmp_path, ports) as front, submits_to(front, "nginx") as answers:
        for place, port in enumerate(ports):
            enough(answers)
            running[place].process.stop()
            running[place] = fleet.api(port=port)
            enough(answers)

    assert [answer for answer in answers if not answer.startswith("tsk_")] == []
    assert sorted(all_of(running[0].client, "nginx")) == sorted(answers), "each submit has made one task"


def test_behind_caddy_reads_wait_for_the_next_api_and_no_submit_is_doubled(fleet: Fleet, tmp_path: Path) -> None:
    """A submit that has waited is answered 502 and not begun by Caddy up to 2.11.1: its body is closed by then (issue
    7546 of Caddy). Penstock's clients repeat it."""
    port = free_port()
    api = fleet.api(port=port)
    with caddy(tmp_path, [port]) as front, submits_to(front, "caddy") as answers, ThreadPoolExecutor() as pool:
        enough(answers)
        api.process.stop()
        waiting = pool.submit(read_models, front)
        api = fleet.api(port=port)
        assert waiting.result(100) == 200
        enough(answers)

    submitted = [answer for answer in answers if answer.startswith("tsk_")]
    assert {answer[:3] for answer in answers} <= {"tsk", "502"}
    assert sorted(all_of(api.client, "caddy")) == sorted(submitted), "what was answered 502 was not begun"


def read_models(front: Front) -> int:
    with front.client(authorization=f"Bearer {KEY}") as client:
        return client.get("/v1/models").status_code


def enough(answers: list[str]) -> None:
    """Waits until some more requests were answered."""
    wanted = len(answers) + 20
    while len(answers) < wanted:
        time.sleep(0.01)


def all_of(client: httpx.Client, name: str) -> Iterator[str]:
    """Yields the ids of all tasks that were submitted through this proxy."""
    query: dict[str, str] = {"metadata.through": name, "limit": "100"}
    while True:
        page = client.get("/v1/tasks", params=query).raise_for_status().json()
        yield from (task["task_id"] for task in page["data"])
        if not page.get("next_cursor"):
            return
        query["cursor"] = page["next_cursor"]


@contextmanager
def submits_to(front: Front, name: str) -> Iterator[list[str]]:
    """Submits without a pause, from several clients, and collects the ids, or what was answered instead."""
    answers: list[str] = []
    stop = threading.Event()
    body = sleeping(0) | {"params": {"tiles": 1, "tile_s": 0}, "metadata": {"through": name}}

    def submit() -> None:
        with front.client(authorization=f"Bearer {KEY}") as client:
            while not stop.is_set():
                try:
                    answer = client.post("/v1/tasks", json=body)
                    said = f"{answer.status_code} after {answer.elapsed.total_seconds():.1f} s: {answer.text}"
                    answers.append(answer.json()["task_id"] if answer.is_success else said)
                except httpx.HTTPError as error:
                    answers.append(repr(error))

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(submit)
        try:
            yield answers
        finally:
            stop.set()

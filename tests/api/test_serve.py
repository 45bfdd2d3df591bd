"""The server as a process: its port, its log, its end."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from asyncio.subprocess import PIPE
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import redis

from penstock.api.serving import connection as connections
from penstock.api.serving.deadlines import HEAD_S
from penstock.settings import RedisSettings, Settings, environment_of
from penstock.storage import Storage
from penstock.store import Store
from tests.support.api_server import ServerProcess
from tests.support.drive import WORKER, body, complete
from tests.support.redis_server import RedisProcess

NOBODY = "http://127.0.0.1:9/metrics"
SERVES = "from penstock.api.serve import serve; from penstock.settings import load; serve(load(None))"


def head(path: str, *lines: str) -> bytes:
    """The start of a request."""
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


async def test_a_stop_is_announced_and_requests_in_flight_are_finished(
    settings: Settings, store: Store, api_key: str
) -> None:
    await store.leases.renew(WORKER, [])
    data = msgspec.json.encode(body())
    with ServerProcess(settings) as server:
        url = httpx.URL(server.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        lines = (f"X-API-Key: {api_key}", "Content-Type: application/json", f"Content-Length: {len(data)}")
        writer.write(head("/v1/tasks", *lines))
        async with httpx.AsyncClient(base_url=server.url) as client:
            while (await client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.01)

            server.process.send_signal(signal.SIGTERM)
            while (ready := await client.get("/readyz")).status_code == 200:
                await asyncio.sleep(0.01)
        writer.write(data)
        answer = await reader.readuntil(b"\r\n")
        writer.close()
        code = await asyncio.to_thread(server.process.wait, 5)

    assert ready.json()["detail"] == "server: it is stopping"
    assert answer.startswith(b"HTTP/1.1 202")
    assert code == 0


async def test_a_request_that_never_ends_does_not_hold_up_a_stop(settings: Settings, api_key: str) -> None:
    hasty = msgspec.structs.replace(settings, api=msgspec.structs.replace(settings.api, drain_s=0.5))
    with ServerProcess(hasty) as server:
        url = httpx.URL(server.url)
        _, writer = await asyncio.open_connection(url.host, url.port)
        lines = (f"X-API-Key: {api_key}", "Content-Type: application/json", "Content-Length: 10")
        writer.write(head("/v1/tasks", *lines))
        await asyncio.sleep(0.2)
        started = time.monotonic()

        server.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(server.process.wait, 10)
        writer.close()

    assert code == 0
    assert time.monotonic() - started < 4


async def test_the_log_has_one_line_for_each_request_and_no_secret(settings: Settings, api_key: str) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    with ServerProcess(settings) as server:
        headers = {"X-API-Key": api_key, "X-Request-Id": "order-991", "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers) as client:
            await client.get("/v1/tasks?cursor=canary-in-a-query")
            await client.post("/v1/tasks", json=body(image_url="http://10.0.0.1/canary-in-a-body"))
        text = server.log()

    lines = [json.loads(line) for line in text.splitlines()]
    (line,) = [line for line in lines if line["message"] == "request" and line["method"] == "GET"]
    assert (line["route"], line["status"]) == ("/v1/tasks", 422)
    assert (line["request_id"], line["trace_id"]) == ("order-991", trace)
    assert line["ms"] > 0
    assert "canary" not in text
    assert api_key not in text


async def test_polls_are_no_news_and_the_models_are_told_of_once(
    settings: Settings, api_key: str, store: Store
) -> None:
    with ServerProcess(settings) as server:
        async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": api_key}) as client:
            task = (await client.post("/v1/tasks", json=body())).json()
            path = f"/v1/tasks/{task['task_id']}"
            etag = (await client.get(path)).headers["etag"]
            again = await client.get(path, headers={"If-None-Match": etag})
            for poll in ("/livez", "/v1/stats", "/v1/queues", "/v1/workers"):
                await client.get(poll)
        lines = [json.loads(line) for line in server.log().splitlines()]

    assert again.status_code == 304
    requests = [(line["method"], line["route"], line["status"]) for line in lines if line["message"] == "request"]
    assert requests == [("POST", "/v1/tasks", 202), ("GET", "/v1/tasks/{task_id}", 200)]
    assert [line["message"] for line in lines].count("models published") == 1


async def test_a_redis_that_evicts_is_one_line_at_the_start(settings: Settings, own_redis: RedisProcess) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    evicting = msgspec.structs.replace(settings, redis=RedisSettings(url=own_redis.url))
    finished = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", SERVES],
        env=os.environ | environment_of(evicting),
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 1
    assert "noeviction" in finished.stderr.splitlines()[-1]


async def test_a_redis_that_comes_late_and_evicts_ends_the_server(settings: Settings, tmp_path: Path) -> None:
    policy: dict[str, Any] = {"maxmemory-policy": "allkeys-lru"}
    with RedisProcess(tmp_path, **policy) as evicting:
        evicting.kill()
        evicts = msgspec.structs.replace(settings, redis=RedisSettings(url=evicting.url))
        environ = os.environ | environment_of(evicts) | {"PENSTOCK_API_PORT": "0"}
        server = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVES, env=environ, stderr=PIPE)
        assert server.stderr is not None
        async with asyncio.timeout(60):
            while b"cannot be used yet" not in await server.stderr.readline():
                pass
            evicting.start()
            said = await server.stderr.read()
            assert await server.wait() == 1

    assert b"noeviction" in said.splitlines()[-1]


HOSTILE = {
    "a header without an end": b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000,
    "too many headers": b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 14_000 + b"\r\n",
    "a long path": b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
    "no HTTP": b"\x16\x03\x01 hello\r\n\r\n",
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_a_head_of_a_request_is_refused_for(server: str, case: str) -> None:
    url = httpx.URL(server)
    reader, writer = await asyncio.open_connection(url.host, url.port)

    writer.write(HOSTILE[case])
    answer = await reader.read()  # to the end: the connection is closed too
    writer.close()

    assert answer.startswith(b"HTTP/1.1 400")


@pytest.mark.slow
async def test_a_head_that_never_ends_is_answered_408(server: str) -> None:
    url = httpx.URL(server)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"GET / HTTP/1.1\r\nHost:")
    started = time.monotonic()

    assert (await reader.read()).startswith(b"HTTP/1.1 408")
    writer.close()

    assert HEAD_S - 1 < time.monotonic() - started < HEAD_S + 3


async def test_a_client_that_takes_nothing_is_cut_off(
    client: httpx.AsyncClient,
    store: Store,
    storage: Storage,
    server: str,
    api_key: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "STALL_TIMEOUT_S", 0.5)
    path = (await client.post("/v1/tasks", json=body())).headers["Location"]
    await complete(store, storage, bytes(64_000_000))
    host, port = httpx.URL(server).host, httpx.URL(server).port

    with socket.create_connection((host, port or 0)) as connection:
        connection.sendall(f"GET {path}/result HTTP/1.1\r\nHost: x\r\nX-API-Key: {api_key}\r\n\r\n".encode())
        await asyncio.sleep(2)
        connection.settimeout(10)
        taken = 0
        with suppress(ConnectionResetError):
            while data := connection.recv(1_000_000):
                taken += len(data)

    assert taken < 64_000_000


def test_a_process_of_several_tells_its_parent_that_it_is_ready_and_that_it_lives(settings: Settings) -> None:
    """The parent of this one serves no metrics: none are shown, rather than those of one process alone."""
    reading, writing = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as listener, os.fdopen(reading) as reports:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        fds = ("--listen-fd", str(listener.fileno()), "--report-fd", str(writing))
        process = subprocess.Popen(
            [sys.executable, "-m", "penstock", "api-process", "--name", "api-2", "--metrics-of-all", NOBODY, *fds],
            env=os.environ | environment_of(settings),
            pass_fds=(listener.fileno(), writing),
            stderr=subprocess.PIPE,
        )
        os.close(writing)
        given_up = threading.Timer(60, process.kill)  # then there is no further line
        given_up.start()
        try:
            ready, beat = [json.loads(reports.readline()) for _ in range(2)]
            own = httpx.get(ready["metrics_url"], timeout=30)
            of_all = httpx.get(f"{url}/metrics", timeout=30)
            process.terminate()
            _, log = process.communicate()
        finally:
            given_up.cancel()
            process.kill()

    assert "penstock_connections" in own.text
    assert beat == {}
    assert of_all.status_code == 503
    assert process.returncode == 0
    assert {json.loads(line)["process"] for line in log.splitlines()} == {"api-2"}

"""Every request of the API against a running `penstock up`: its server, its worker and its Redis are real processes."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from tests.chaos.models import MODEL, result_of
from tests.support import slow_model
from tests.support.drive import data_uri, image
from tests.support.processes import System, up, wait_for

PHOTO = (Path(__file__).parents[2] / "src/penstock/models/photo.jpg").read_bytes()
ENVIRON = {
    "GPU_IDS": "cpu",
    "RATE_LIMIT_PER_MINUTE": "100000",
    "PENSTOCK_WORKER_SLOTS": "1",
    "PENSTOCK_WORKER_RESERVED_SLOTS": "0",
    "PENSTOCK_MODELS_MODULES": "tests.chaos.models,tests.support.slow_model",
    "PENSTOCK_MODELS_SERVE": f"{MODEL},{slow_model.MODEL},superres-x4,image-scoring-v1",
    "PENSTOCK_WEBHOOKS_ALLOW_HTTP": "true",
    "PENSTOCK_LIMITS_ALLOW_NETWORKS": "127.0.0.0/8",
}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Two processes of the API, one worker with one slot, and a model that sleeps for as long as it is told."""
    with up(tmp_path_factory.mktemp("up"), options=("--processes", "2"), **ENVIRON) as running:
        yield running


@pytest.fixture
def client(system: System) -> Iterator[httpx.Client]:
    with system.client() as opened:
        yield opened


def submitted(client: httpx.Client, ms: int = 1, *, headers: dict[str, str] | None = None, **body: Any) -> Any:
    """The answer to a submit of a task of its own."""
    nonce = body.pop("nonce", f"{random.random()}")
    usual = {"model": MODEL, "input": {"image_url": data_uri(image())}, "params": {"ms": ms, "nonce": nonce}}
    return client.post("/v1/tasks", json=usual | body, headers=headers)


def submit(client: httpx.Client, ms: int = 1, **body: Any) -> str:
    """Its id."""
    answer = submitted(client, ms, **body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def until(found: Callable[[], Any], within_s: float = 60) -> Any:
    """What it gives as soon as that is true."""
    give_up = time.monotonic() + within_s
    while time.monotonic() < give_up:
        if result := found():
            return result
        time.sleep(0.02)
    raise AssertionError(f"not within {within_s} s")


def the_worker(client: httpx.Client) -> dict[str, Any]:
    (worker,) = client.get("/v1/workers").json()["data"]
    return dict(worker)


def queue(client: httpx.Client, priority: str = "normal") -> dict[str, Any]:
    rows = client.get("/v1/queues").json()["data"]
    return next(row for row in rows if (row["model"], row["priority"]) == (MODEL, priority))


# --- submit and read ----------------------------------------------------------------------------------------------


def test_a_submit_is_answered_at_once_and_says_where_to_go_on(client: httpx.Client) -> None:
    answer = submitted(client, nonce="first", metadata={"album": "42"})

    body = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (202, body["links"]["self"])
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["RateLimit-Policy"] == '"submit";q=100000;w=60'
    assert answer.headers["X-Request-Id"].startswith("req_")
    task = wait_for(client, body["task_id"])
    assert client.get(body["links"]["result"]).content == result_of("first")
    assert (task["metadata"], task["stage"], task["error"]) == ({"album": "42"}, "done", None)
    assert task["created_at"] <= task["started_at"] <= task["finished_at"] < task["expires_at"]


def test_a_repeated_submit_is_the_same_task_and_another_body_is_refused(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": '"order-991"'}
    first = submitted(client, nonce="same", headers=headers)
    second = submitted(client, nonce="same", headers=headers)
    other = submitted(client, nonce="other", headers=headers)

    assert (first.status_code, second.status_code) == (202, 200)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert first.json()["task_id"] == second.json()["task_id"]
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


def test_who_asks_to_wait_gets_the_end_in_the_same_answer(client: httpx.Client) -> None:
    ended = submitted(client, headers={"Prefer": "wait=30"})
    running = submitted(client, 3000, headers={"Prefer": "wait=1"})
    task_id = running.json()["task_id"]
    waited = client.get(f"/v1/tasks/{task_id}?wait=30").json()

    assert (ended.status_code, ended.json()["status"]) == (200, "SUCCESS")
    assert ended.headers["Preference-Applied"] == "wait=30"
    assert (running.status_code, running.json()["status"]) == (202, "RUNNING")
    assert waited["status"] == "SUCCESS"


def test_a_task_that_has_not_changed_is_not_sent_again(client: httpx.Client) -> None:
    task_id = submit(client)
    wait_for(client, task_id)
    path = f"/v1/tasks/{task_id}"
    etag = client.get(path).headers["ETag"]

    same = client.get(path, headers={"If-None-Match": etag})
    stale = client.get(path, headers={"If-None-Match": '"other"'})

    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", etag)
    assert stale.status_code == 200


def test_a_quote_queues_nothing(client: httpx.Client) -> None:
    before = client.get("/v1/stats").json()["tasks"]
    body = {"model": "superres-x4", "input": {"image_url": data_uri(image(20, 10))}}

    quoted = client.post("/v1/tasks/quote", json=body)

    assert (quoted.status_code, client.get("/v1/stats").json()["tasks"]) == (200, before)
    assert (quoted.json()["input"], quoted.json()["output"]) == (
        {"width": 20, "height": 10},
        {"width": 80, "height": 40},
    )


def test_limits_of_time_are_kept(client: httpx.Client) -> None:
    blocker = submit(client, 2500)
    wait_for(client, blocker, "RUNNING")
    late = submit(client, start_within_s=1)
    long = submit(client, 1500, timeout_s=1)
    over = submitted(client, 60_000, headers={"Cancel-After": "5s"}, priority="low").json()["task_id"]

    assert wait_for(client, late, "EXPIRED")["error"]["code"] == "start_deadline_exceeded"
    assert wait_for(client, long, "FAILED")["error"]["code"] == "execution_timeout"
    assert wait_for(client, over, "FAILED")["error"]["code"] == "deadline_exceeded"


# --- lists ----------------------------------------------------------------------------------------------------


def test_lists_are_filtered_and_go_on_page_by_page(client: httpx.Client) -> None:
    began = datetime.now(UTC) - timedelta(seconds=1)
    ids = [submit(client, priority="low", metadata={"set": "list"}) for _ in range(5)]
    other = submit(client, metadata={"set": "other"})
    for task_id in (*ids, other):
        wait_for(client, task_id)

    def listed(**query: Any) -> list[str]:
        found: list[str] = []
        while True:
            page = client.get("/v1/tasks", params={"limit": 2, **query}).raise_for_status().json()
            found += [task["task_id"] for task in page["data"]]
            if not page["has_more"]:
                return found
            query["cursor"] = page["next_cursor"]

    assert listed(**{"metadata.set": "list"}) == ids[::-1]
    assert listed(**{"metadata.set": "list", "priority": "high"}) == []
    assert set(ids) <= set(listed(model=MODEL, priority="low", status="SUCCESS"))
    assert {*ids, other} <= set(listed(created_after=began.isoformat()))
    assert other not in listed(created_before=began.isoformat())
    assert client.get("/v1/tasks?cursor=made-up").status_code in (400, 422)


# --- results --------------------------------------------------------------------------------------------------


def test_a_result_comes_in_parts(client: httpx.Client) -> None:
    task_id = submit(client, nonce="parts")
    wait_for(client, task_id)
    path, whole = f"/v1/tasks/{task_id}/result", result_of("parts")
    full = client.get(path)

    part = client.get(path, headers={"Range": "bytes=100-199"})
    rest = client.get(path, headers={"Range": "bytes=4000-", "If-Range": full.headers["ETag"]})
    beyond = client.get(path, headers={"Range": "bytes=999999-"})

    assert (full.status_code, full.content, full.headers["Accept-Ranges"]) == (200, whole, "bytes")
    assert (part.status_code, part.content) == (206, whole[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(whole)}"
    assert (rest.status_code, rest.content) == (206, whole[4000:])
    assert (beyond.status_code, beyond.json()["code"]) == (416, "range_not_satisfiable")


def test_a_deleted_task_is_gone_with_its_result(client: httpx.Client) -> None:
    task_id = submit(client, 1500)
    wait_for(client, task_id, "RUNNING")
    early = client.delete(f"/v1/tasks/{task_id}")
    wait_for(client, task_id)

    deleted = [client.delete(f"/v1/tasks/{task_id}").status_code for _ in range(2)]

    assert (early.status_code, early.json()["code"]) == (409, "task_not_final")
    assert deleted == [204, 204]
    for path in (f"/v1/tasks/{task_id}", f"/v1/tasks/{task_id}/result", f"/v1/tasks/{task_id}/explain"):
        assert (client.get(path).status_code, client.get(path).json()["code"]) == (410, "result_expired")


# --- acts by filter -------------------------------------------------------------------------------------------


def test_tasks_are_canceled_run_again_and_deleted_by_filter(client: httpx.Client) -> None:
    blocker = submit(client, 60_000, priority="high")
    wait_for(client, blocker, "RUNNING")
    ids = [submit(client, priority="low") for _ in range(3)]

    canceled = client.post("/v1/tasks/cancel?status=PENDING&priority=low").json()
    assert client.post(f"/v1/tasks/{blocker}/cancel").json()["status"] == "CANCELED"
    retried = client.post("/v1/tasks/retry?status=CANCELED&priority=low").json()
    for task_id in ids:
        wait_for(client, task_id)
    one = client.post(f"/v1/tasks/{blocker}/cancel")
    deleted = client.post("/v1/tasks/delete?status=CANCELED&all=true").json()

    assert (canceled["canceled"], canceled["has_more"], retried["retried"], retried["has_more"]) == (3, False, 3, False)
    assert one.status_code == 200, "canceling again is fine"
    assert deleted["deleted"] >= 1
    assert client.get(f"/v1/tasks/{blocker}").status_code == 410


# --- watch and explain ----------------------------------------------------------------------------------------


def test_the_events_of_a_task_begin_with_its_state_and_close_with_its_end(client: httpx.Client) -> None:
    blocker = submit(client, 700)
    task_id = submit(client, 700)
    names: list[str] = []
    data: list[dict[str, Any]] = []
    with client.stream("GET", f"/v1/tasks/{task_id}/events") as stream:
        kind = stream.headers["content-type"]
        for line in stream.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                names.append(value)
            elif name == "data":
                data.append(json.loads(value))

    wait_for(client, blocker)
    assert kind.startswith("text/event-stream")
    assert (names[0], names[-1], names.count("completed")) == ("status", "completed", 1)
    assert data[0]["status"] == "PENDING"
    assert "RUNNING" in [said.get("status") for said in data]
    assert (data[-1]["task_id"], data[-1]["status"]) == (task_id, "SUCCESS")


def test_why_a_task_waits_is_explained_until_it_has_ended(client: httpx.Client) -> None:
    wait_for(client, submit(client, 300))  # so that times are known
    blocker = submit(client, 1500)
    wait_for(client, blocker, "RUNNING")
    waiting = submit(client, 300)

    def explained() -> dict[str, Any]:
        return dict(client.get(f"/v1/tasks/{waiting}/explain").raise_for_status().json())

    found = until(lambda: (said := explained())["blockers"] and said)
    wait_for(client, waiting)
    after = explained()

    assert (found["queue_position"], found["blockers"][0]["code"]) == (0, "workers_busy")
    assert found["workers"][0]["id"] == the_worker(client)["id"]
    assert found["eta_s"] > 0
    assert (after["status"], after["blockers"], after["eta_s"]) == ("SUCCESS", [], None)


# --- catalogue ------------------------------------------------------------------------------------------------


def test_the_catalogue_says_all_that_a_client_needs_to_know(client: httpx.Client) -> None:
    models = {model["name"]: model for model in client.get("/v1/models").json()["data"]}
    scoring, superres = models["image-scoring-v1"], models["superres-x4"]
    unknown = client.get("/v1/models/nothing")

    assert MODEL in models
    assert scoring["score_range"] == {"minimum": 1, "maximum": 10}
    assert superres["licence"]
    assert superres["limits"]["input_megapixels"] == 50
    assert [version["version"] for version in superres["versions"]] == [superres["version"]]
    assert superres["params"]["$defs"]["SuperresParams"]["properties"]["variant"]["enum"]
    assert client.get("/v1/models/superres-x4").json() == superres
    assert (unknown.status_code, unknown.json()["code"]) == (404, "model_not_found")


# --- workers --------------------------------------------------------------------------------------------------


def test_a_worker_shows_its_device_its_memory_and_what_it_runs(client: httpx.Client) -> None:
    task_id = submit(client, 2000)
    wait_for(client, task_id, "RUNNING")

    worker = until(lambda: (found := the_worker(client))["memory"] and found["running"] and found)

    assert (worker["device"], worker["state"], worker["slots"]) == ("cpu", "READY", 1)
    assert worker["memory"]["process"] > 50 * 2**20
    assert worker["memory"]["tasks_limit"] > 0
    assert {MODEL, "superres-x4", "image-scoring-v1"} <= set(worker["models"])
    assert [task["task_id"] for task in worker["tasks"]] == [task_id]
    wait_for(client, task_id)
    assert the_worker(client)["tasks"] == []


def test_a_drained_worker_finishes_what_it_runs_and_starts_nothing_until_it_is_resumed(client: httpx.Client) -> None:
    running, worker_id = submit(client, 1000), the_worker(client)["id"]
    wait_for(client, running, "RUNNING")

    drained = client.post(f"/v1/workers/{worker_id}/drain").json()
    waiting = submit(client)

    assert drained["state"] == "DRAINING"
    assert [task["task_id"] for task in drained["tasks"]] == [running]
    assert wait_for(client, running)["status"] == "SUCCESS"
    time.sleep(1.5)  # longer than an idle worker sleeps
    assert client.get(f"/v1/tasks/{waiting}").json()["status"] == "PENDING"
    assert [b["code"] for b in client.get(f"/v1/tasks/{waiting}/explain").json()["blockers"]] == ["no_worker"]
    assert client.post(f"/v1/workers/{worker_id}/resume").json()["state"] == "READY"
    wait_for(client, waiting)


def test_what_an_operator_has_said_outlives_redis(system: System, client: httpx.Client) -> None:
    worker_id = the_worker(client)["id"]
    client.post(f"/v1/workers/{worker_id}/drain")
    client.post(f"/v1/queues/{MODEL}/pause?priority=low")
    held = [submit(client), submit(client, priority="low")]
    time.sleep(1.2)  # the append-only file is written every second

    os.kill(system.process.child("unixsocket"), signal.SIGKILL)
    until(lambda: client.get("/readyz").status_code == 200 and client.get("/v1/workers").json().get("data"))
    time.sleep(1.5)

    assert [client.get(f"/v1/tasks/{task_id}").json()["status"] for task_id in held] == ["PENDING"] * 2
    assert (the_worker(client)["id"], the_worker(client)["state"]) == (worker_id, "DRAINING")
    client.post(f"/v1/workers/{worker_id}/resume")
    wait_for(client, held[0])
    assert client.get(f"/v1/tasks/{held[1]}").json()["status"] == "PENDING"
    assert queue(client, "low")["paused"]["by"] == "default"
    client.post(f"/v1/queues/{MODEL}/resume")
    wait_for(client, held[1])


# --- queues ---------------------------------------------------------------------------------------------------


def test_a_paused_queue_takes_submits_and_starts_nothing(client: httpx.Client) -> None:
    running = submit(client, 1000)
    wait_for(client, running, "RUNNING")
    client.post(f"/v1/queues/{MODEL}/pause")
    answer = submitted(client).json()
    waiting, late = answer["task_id"], submit(client, start_within_s=1)
    other = client.post("/v1/tasks", json={"model": "image-scoring-v1", "input": {"image_url": data_uri(image())}})

    assert wait_for(client, running)["status"] == "SUCCESS", "what runs goes on"
    assert wait_for(client, other.json()["task_id"])["status"] == "SUCCESS", "and so do others"
    assert wait_for(client, late, "EXPIRED")["error"]["code"] == "start_deadline_exceeded"
    explained = client.get(f"/v1/tasks/{waiting}/explain").json()
    assert (explained["status"], explained["eta_s"], answer["eta_s"]) == ("PENDING", None, None)
    assert [blocker["code"] for blocker in explained["blockers"]] == ["queue_paused"]
    shown = queue(client)
    assert (shown["depth"], shown["paused"]["by"]) == (1, "default")
    assert shown["oldest_s"] > 0
    assert shown["device_s"] is not None

    resumed = client.post(f"/v1/queues/{MODEL}/resume").json()["data"]

    assert [row["paused"] for row in resumed] == [None] * 3
    wait_for(client, waiting)


def test_a_purge_empties_a_queue_and_lets_what_runs_end(client: httpx.Client) -> None:
    running = submit(client, 1500)
    wait_for(client, running, "RUNNING")
    waiting = [submit(client, priority=priority) for priority in ("high", "normal", "low", "low")]

    low = client.post(f"/v1/queues/{MODEL}/purge?priority=low").json()
    rest = client.post(f"/v1/queues/{MODEL}/purge").json()
    again = client.post(f"/v1/queues/{MODEL}/purge").json()

    statuses = [client.get(f"/v1/tasks/{task_id}").json()["status"] for task_id in waiting]
    assert [purged["canceled"] for purged in (low, rest, again)] == [2, 2, 0]
    assert statuses == ["CANCELED"] * 4
    assert wait_for(client, running)["status"] == "SUCCESS"


def test_a_pause_outlives_a_restart_of_everything(tmp_path: Path) -> None:
    light = ENVIRON | {"PENSTOCK_MODELS_SERVE": MODEL}
    with up(tmp_path / "data", **light) as system, system.client() as client:
        client.post(f"/v1/queues/{MODEL}/pause")
        task_id = submit(client)
    with up(tmp_path / "data", **light) as system, system.client() as client:
        time.sleep(1.5)
        assert client.get(f"/v1/tasks/{task_id}").json()["status"] == "PENDING"
        assert queue(client)["paused"]["by"] == "default"
        client.post(f"/v1/queues/{MODEL}/resume")
        wait_for(client, task_id)


# --- health and figures ---------------------------------------------------------------------------------------


def test_health_needs_no_key_and_the_first_page_leads_everywhere(system: System) -> None:
    with httpx.Client(base_url=system.url, timeout=30, trust_env=False) as stranger:
        found = stranger.get("/").json()
        statuses = {name: stranger.get(path).status_code for name, path in found["links"].items()}
        health = {path: stranger.get(path).json()["status"] for path in ("/livez", "/readyz", "/startupz")}
        described = stranger.get(found["openapi"]).json()
        docs = stranger.get(found["docs"])

    assert (found["name"], described["info"]["version"]) == ("penstock", found["version"])
    assert {name for name, status in statuses.items() if status == 200} >= {"live", "ready", "started", "metrics"}
    assert set(statuses.values()) <= {200, 303, 401}
    assert {name for name, status in statuses.items() if status == 303} == {"console"}, "it leads to its login"
    assert health == {"/livez": "ok", "/readyz": "ready", "/startupz": "started"}
    assert docs.headers["content-type"].startswith("text/html")


def test_statistics_count_what_is_there(client: httpx.Client) -> None:
    wait_for(client, submit(client))

    stats = client.get("/v1/stats").json()

    assert stats["tasks"]["SUCCESS"] >= 1
    assert stats["workers"] == {"READY": 1}
    assert {row["model"] for row in stats["queues"]} >= {MODEL, "superres-x4"}


def test_the_time_promised_at_submit_is_compared_with_the_true_one(system: System, client: httpx.Client) -> None:
    def counted() -> float:
        rows = system.metrics().get("penstock_eta_error_ratio_count", [])
        return sum(value for labels, value in rows if labels["model"] == MODEL)

    before = counted()
    promised = until(lambda: (answer := submitted(client, 200).json())["eta_s"] and answer)
    wait_for(client, promised["task_id"])

    assert until(lambda: counted() > before)


def test_the_metrics_have_the_device_time_of_what_waits(system: System, client: httpx.Client) -> None:
    wait_for(client, submit(client, 200))
    client.post(f"/v1/queues/{MODEL}/pause")
    for _ in range(3):
        submit(client)

    def waits() -> bool:
        samples = system.metrics()
        found = {
            name: value
            for name in ("penstock_queue_device_seconds", "penstock_queue_paused", "penstock_queue_depth")
            for labels, value in samples.get(name, [])
            if (labels["model"], labels["priority"]) == (MODEL, "normal")
        }
        return (
            found.get("penstock_queue_depth") == 3
            and found["penstock_queue_paused"] == 1
            and (found["penstock_queue_device_seconds"] > 0)
        )

    try:
        assert until(waits)
    finally:
        client.post(f"/v1/queues/{MODEL}/purge")
        client.post(f"/v1/queues/{MODEL}/resume")


# --- webhooks -------------------------------------------------------------------------------------------------


class Told(BaseHTTPRequestHandler):
    """Keeps what it is sent."""

    got: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        self.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Not on the terminal."""


@pytest.fixture
def told() -> Iterator[str]:
    Told.got.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Told) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/told"
        server.shutdown()
        thread.join()


@pytest.mark.at_length
def test_progress_is_told_twice_a_second_at_most_and_never_after_the_end(client: httpx.Client, told: str) -> None:
    webhook = {"url": told, "events": ["progress", "succeeded"]}
    task_id = submit(client, model=slow_model.MODEL, params={"tiles": 60}, webhook=webhook)
    task = wait_for(client, task_id)
    until(lambda: Told.got and Told.got[-1]["type"] == "task.succeeded")
    time.sleep(1.2)  # twice as long as a word of progress may be late

    types = [said["type"] for said in Told.got]
    words = types.count("task.progress")
    assert 2 <= words <= task["timing"]["total_ms"] / 500 + 1
    assert types == ["task.progress"] * words + ["task.succeeded"]
    ratios = [said["data"]["progress"]["ratio"] for said in Told.got[:-1] if said["data"]["progress"]]
    assert ratios == sorted(ratios)
    log = client.get(f"/v1/tasks/{task_id}").json()["webhook"]["log"]
    assert [(event["type"], event["status"]) for event in log] == [("task.succeeded", "delivered")]
    assert client.post(f"/v1/tasks/{task_id}/webhook/redeliver").status_code == 202
    until(lambda: len(Told.got) == len(types) + 1)

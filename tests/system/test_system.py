"""The main job through real processes: both models over HTTP, pixels, order, death of workers, and stopping."""

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import numpy as np
import pytest
import redis
from msgspec.structs import replace
from PIL import Image

from penstock import Client
from penstock.client import Upload
from penstock.local.redis_server import PART_OF_MEMORY, memory_bytes
from penstock.settings import LimitSettings, Settings, StorageSettings, environment_of
from tests.support import api_server, slow_model
from tests.support.processes import Process, System, up, wait_for
from tests.support.s3_server import s3_client

ROOT = Path(__file__).parents[2]
LIGHT = {"GPU_IDS": "cpu", "PENSTOCK_MODELS_SERVE": "image-scoring-v1"}
"""One small model: what a start costs is mostly the models that it loads."""
PHOTO = (ROOT / "src/penstock/models/photo.jpg").read_bytes()


def data_uri(image: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"


def submit(client: httpx.Client, model: str = "superres-x4", image: bytes = PHOTO, **body: Any) -> str:
    """A run of its own, though the same photo is sent again and again."""
    usual = {"model": model, "input": {"image_url": data_uri(image)}, "reuse": False}
    answer = client.post("/v1/tasks", json=usual | body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def submit_slow(client: httpx.Client, tiles: int = 1, tile_s: float = 0.05, **body: Any) -> str:
    """A run that holds its device for this long, without the CPU that a network would take."""
    params = {"tiles": tiles, "tile_s": tile_s, "product": "file"}
    return submit(client, slow_model.MODEL, params=params, **body)


def upload(url: str, api_key: str, image: bytes = PHOTO) -> Upload:
    with Client(url, api_key) as client:
        return client.upload(image)


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def small_photo() -> bytes:
    """A part of a photo, which is enlarged in a tenth of a second."""
    return png(np.asarray(Image.open(io.BytesIO(PHOTO)))[:40, :60])


def large_photo() -> bytes:
    """A real photo big enough for a run of several tiles and some seconds."""
    return png(np.asarray(Image.open(io.BytesIO(PHOTO)).resize((900, 600), Image.Resampling.BICUBIC)))


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One worker with a single slot, so that the order of execution is the order of claims."""
    data_dir = tmp_path_factory.mktemp("up")
    environ = {
        "GPU_IDS": "cpu",
        "MAX_RETRIES": "1",
        "PENSTOCK_QUEUE_RETRY_BASE_S": "0.1",
        "PENSTOCK_WORKER_SLOTS": "1",
        "PENSTOCK_WORKER_RESERVED_SLOTS": "0",
        "PENSTOCK_LIMITS_ALLOW_NETWORKS": "127.0.0.0/8",
        "PENSTOCK_MODELS_MODULES": "tests.support.slow_model",
    }
    with up(data_dir, **environ) as running:
        yield running


class Website(BaseHTTPRequestHandler):
    """Has the photo at /photo.jpg, is broken at /broken, and has nothing else."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status = {"/photo.jpg": 200, "/broken": 503}.get(self.path, 404)
        body = PHOTO if status == 200 else b"no"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Not on the terminal."""


@pytest.fixture(scope="module")
def website() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Website) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_photo_comes_back_four_times_as_large(system: System) -> None:
    with system.client() as client:
        task = wait_for(client, submit(client))
        upscaled = client.get(task["links"]["result"], follow_redirects=True)

    image = Image.open(io.BytesIO(upscaled.content))
    small = np.asarray(image.resize((225, 150), Image.Resampling.BOX)).astype(float)
    source = np.asarray(Image.open(io.BytesIO(PHOTO))).astype(float)
    assert (image.format, image.size) == ("PNG", (900, 600))
    assert np.abs(small - source).mean() < 6, "shrunk again it is the photo it was made from"
    assert task["result"]["size"] == len(upscaled.content)
    assert re.fullmatch(rf"penstock/results/default/{task['task_id']}/1-[0-9a-f]{{8}}\.png", task["result"]["s3_key"])
    assert (task["result"]["width"], task["result"]["height"]) == (900, 600)
    timing = task["timing"]
    stages = [timing[f"{stage}_ms"] for stage in ("queue", "fetch", "prepare", "infer", "postprocess", "upload")]
    assert len(timing) == len(stages) + 2
    assert 0 < timing["to_device_ms"] < sum(stages) <= timing["total_ms"]
    assert timing["infer_ms"] > 0
    assert [a["outcome"] for a in task["attempts"]] == ["complete"]


@pytest.mark.parametrize("variant", ["general", "clean", pytest.param("best", marks=pytest.mark.at_length)])
@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_every_variant_and_format_is_served(system: System, variant: str, format: str) -> None:
    with system.client() as client:
        task_id = submit(client, image=small_photo(), params={"variant": variant}, output={"format": format})
        task = wait_for(client, task_id)
        answer = client.get(task["links"]["result"])

    assert answer.headers["content-type"] == f"image/{format}"
    assert Image.open(io.BytesIO(answer.content)).size == (240, 160)


def test_transparency_and_grey_survive(system: System) -> None:
    grey = np.asarray(Image.open(io.BytesIO(PHOTO)).convert("L"))[:48, :48]
    clear = np.dstack([grey, np.tile(np.linspace(0, 255, 48, dtype=np.uint8), (48, 1))])
    with system.client() as client:
        plain, with_alpha = submit(client, image=png(grey)), submit(client, image=png(clear))
        images = [
            Image.open(io.BytesIO(client.get(wait_for(client, i)["links"]["result"]).content))
            for i in (plain, with_alpha)
        ]

    assert [image.mode for image in images] == ["L", "LA"]
    alpha = np.asarray(images[1].getchannel("A")).astype(int)
    assert alpha[:, 4].max() < 20
    assert alpha[:, -4].min() > 235


def test_a_score_is_between_one_and_ten_and_is_the_mean_of_its_distribution(system: System) -> None:
    with system.client() as client:
        task = wait_for(client, submit(client, "image-scoring-v1"))
        answer = client.get(task["links"]["result"]).json()

    data = task["result"]["data"]
    assert answer == data
    assert 1 <= data["score"] <= 10
    assert sum(data["distribution"]) == pytest.approx(1, abs=1e-4)
    assert data["score"] == pytest.approx(sum((k + 1) * p for k, p in enumerate(data["distribution"])), abs=1e-3)


def test_the_example_of_each_model_can_be_copied_and_gives_the_answer_that_is_shown(system: System) -> None:
    with system.client() as client:
        models = client.get("/v1/models").json()["data"]
        examples = {model["name"]: model["example"] for model in models if model["name"] != slow_model.MODEL}
        sent = {name: client.post("/v1/tasks", json=one["request"]).json() for name, one in examples.items()}
        tasks = {name: wait_for(client, task["task_id"]) for name, task in sent.items()}

    assert examples.keys() == {"superres-x4", "image-scoring-v1"}
    for name, task in tasks.items():
        shown, result = examples[name]["answer"], task["result"]
        assert [file["name"] for file in result["files"]] == shown["files"]
        assert (result["data"] or {}).keys() == (shown["data"] or {}).keys()
        for member, value in (shown["data"] or {}).items():
            assert result["data"][member] == pytest.approx(value, abs=2e-3)


def test_equal_photos_at_once_are_one_run_with_as_many_results(system: System) -> None:
    photo = png(np.asarray(Image.open(io.BytesIO(PHOTO)))[:90, :60])
    with system.client() as client, ThreadPoolExecutor(10) as pool:
        ids = list(pool.map(lambda _: submit(client, image=photo, reuse=True), range(30)))
        tasks = [wait_for(client, task_id) for task_id in ids]
        results = {client.get(task["links"]["result"]).content for task in tasks}
        later = client.get(f"/v1/tasks/{submit(client, image=photo, reuse=True)}").json()
    reused = {
        labels["how"]: count
        for labels, count in system.metrics()["penstock_tasks_reused_total"]
        if labels["model"] == "superres-x4"
    }

    ways = [task["reuse"] for task in tasks]
    assert ways.count("miss") == 1
    assert sum(len(task["attempts"]) for task in tasks) == 1
    assert len(results) == 1
    assert Image.open(io.BytesIO(results.pop())).size == (240, 360)
    assert (later["status"], later["reuse"]) == ("SUCCESS", "hit")
    assert reused == {"coalesced": ways.count("coalesced"), "hit": ways.count("hit") + 1}


def test_higher_priorities_run_first(system: System) -> None:
    with system.client() as client:
        blocker = submit_slow(client, tiles=1000, priority="high")
        wait_for(client, blocker, "RUNNING")
        order = [("low", "superres-x4"), ("normal", "image-scoring-v1"), ("low", "image-scoring-v1")]
        order += [("high", "superres-x4"), ("normal", "superres-x4"), ("high", "image-scoring-v1")]
        tiny = png(np.zeros((32, 32, 3), np.uint8))
        tasks = [(submit(client, model, tiny, priority=priority), priority) for priority, model in order]
        assert client.get(f"/v1/tasks/{blocker}").json()["status"] == "RUNNING", "all waited side by side"
        client.post(f"/v1/tasks/{blocker}/cancel").raise_for_status()
        done = [(wait_for(client, task_id)["attempts"][0]["started_at"], priority) for task_id, priority in tasks]

    assert [priority for _, priority in sorted(done)] == ["high", "high", "normal", "normal", "low", "low"]


def test_progress_is_shown_in_tiles_and_only_grows(system: System) -> None:
    seen: list[tuple[int, int]] = []
    with system.client() as client:
        task_id = submit_slow(client, tiles=20)
        while (view := client.get(f"/v1/tasks/{task_id}").json())["status"] in ("PENDING", "RUNNING"):
            if view["progress"]:
                seen.append((view["progress"]["done"], view["progress"]["total"]))
            time.sleep(0.02)

    assert view["status"] == "SUCCESS"
    assert len({done for done, _ in seen}) >= 2
    assert seen == sorted(seen)
    assert all(0 < done <= total == 20 for done, total in seen)


def test_a_running_task_is_canceled_at_once_and_frees_the_device(system: System) -> None:
    with system.client() as client:
        task_id = submit(client, image=large_photo())
        wait_for(client, task_id, "RUNNING")
        time.sleep(0.3)
        canceled = client.post(f"/v1/tasks/{task_id}/cancel")
        started = time.monotonic()
        wait_for(client, submit(client, "image-scoring-v1"))
        took_s = time.monotonic() - started
        after = client.get(f"/v1/tasks/{task_id}").json()

    assert canceled.json()["status"] == after["status"] == "CANCELED"
    assert after["result"] is None
    assert took_s < 2, "a whole run of that image takes longer"


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (PHOTO[: len(PHOTO) // 2], "image_decode_failed"),
        (PHOTO[:2000] + PHOTO[2500:], "image_decode_failed"),
    ],
)
def test_a_bad_image_fails_the_task_with_its_code_and_is_not_tried_again(
    system: System, image: bytes, code: str
) -> None:
    with system.client() as client:
        task = wait_for(client, submit(client, image=image), "FAILED")

    assert (task["error"]["code"], task["error"]["retryable"]) == (code, False)
    assert [a["outcome"] for a in task["attempts"]] == ["fail"]
    assert task["result"] is None


def from_url(client: httpx.Client, url: str, **body: Any) -> str:
    answer = client.post("/v1/tasks", json={"model": "image-scoring-v1", "input": {"image_url": url}} | body)
    return str(answer.raise_for_status().json()["task_id"])


def test_an_image_is_fetched_from_its_url(system: System, website: str) -> None:
    with system.client() as client:
        by_url = wait_for(client, from_url(client, f"{website}/photo.jpg"))
        inline = wait_for(client, submit(client, "image-scoring-v1"))

    assert by_url["result"]["data"] == inline["result"]["data"]


def test_a_dead_link_fails_the_task_at_once(system: System, website: str) -> None:
    with system.client() as client:
        task = wait_for(client, from_url(client, f"{website}/nothing"), "FAILED")

    assert task["error"]["code"] == "input_not_found"
    assert len(task["attempts"]) == 1


def test_a_broken_source_is_tried_again_and_then_fails_the_task(system: System, website: str) -> None:
    Website.asked.clear()
    with system.client() as client:
        task = wait_for(client, from_url(client, f"{website}/broken"), "FAILED")

    assert (task["error"]["code"], task["error"]["retryable"]) == ("input_download_failed", True)
    assert [a["outcome"] for a in task["attempts"]] == ["retry", "fail"]
    assert Website.asked == ["/broken", "/broken"]


def test_an_attempt_that_takes_too_long_is_stopped(system: System) -> None:
    with system.client() as client:
        task = wait_for(client, submit(client, image=large_photo(), timeout_s=1), "FAILED")
        started = time.monotonic()
        wait_for(client, submit(client, "image-scoring-v1"))
        took_s = time.monotonic() - started

    assert task["error"]["code"] == "execution_timeout"
    assert took_s < 2, "the device is free again"


def test_a_task_that_nobody_starts_in_time_expires(system: System) -> None:
    with system.client() as client:
        blocker = submit_slow(client, tiles=1000, priority="high")
        wait_for(client, blocker, "RUNNING")
        task = wait_for(client, submit(client, "image-scoring-v1", start_within_s=1), "EXPIRED")
        client.post(f"/v1/tasks/{blocker}/cancel")

    assert task["error"]["code"] == "start_deadline_exceeded"
    assert task["attempts"] == []


def claimed_again_s(task: dict[str, Any]) -> float:
    """From the first claim to the second, by the clock of Redis."""
    first, second = (datetime.fromisoformat(a["started_at"]) for a in task["attempts"])
    return (second - first).total_seconds()


def test_a_killed_worker_process_is_replaced_and_its_task_finishes_once(system: System) -> None:
    with system.client() as client:
        task_id = submit_slow(client, tiles=20)
        while not wait_for(client, task_id, "RUNNING")["progress"]:
            time.sleep(0.02)
        os.kill(system.process.child("worker-process"), signal.SIGKILL)
        task = wait_for(client, task_id)

    assert [a["outcome"] for a in task["attempts"]] == ["lost", "complete"]
    assert task["attempts"][0]["error"]["code"] == "worker_lost"
    assert re.search(r"/2-[0-9a-f]{8}\.png$", task["result"]["s3_key"])
    assert claimed_again_s(task) < 10


def test_the_metrics_of_all_processes_are_on_one_port(system: System) -> None:
    with system.client() as client:
        for model in ("superres-x4", "image-scoring-v1"):
            wait_for(client, submit(client, model, small_photo()))
    samples = system.metrics()
    documented = set(re.findall(r"`(penstock_\w+)`", (ROOT / "docs/reference/metrics.md").read_text()))
    exported = {re.sub(r"_(bucket|sum|count)$", "", name) for name in samples if name.startswith("penstock_")}

    assert exported <= documented, f"not in docs/reference/metrics.md: {sorted(exported - documented)}"
    finished = {
        (labels["model"], labels["status"]): value for labels, value in samples["penstock_tasks_finished_total"]
    }
    assert finished["superres-x4", "SUCCESS"] >= 1
    assert finished["image-scoring-v1", "SUCCESS"] >= 1
    assert {labels["process"] for rows in samples.values() for labels, _ in rows} == {"parent", "api", "worker-cpu"}
    busy_s = sum(value for _, value in samples["penstock_device_busy_seconds_total"])
    stages = {labels["stage"] for labels, _ in samples["penstock_stage_duration_seconds_count"]}
    assert busy_s > 0
    assert stages == {"fetch", "prepare", "infer", "postprocess", "upload"}


def test_a_model_is_loaded_once_for_all_tasks_of_a_process(system: System) -> None:
    with system.client() as client:
        for _ in range(3):
            wait_for(client, submit(client, "image-scoring-v1"))
    log = [json.loads(line) for line in system.process.log.read_text().splitlines() if line.startswith("{")]

    loaded = [line["model"] for line in log if line["message"] == "model loaded"]
    started = [line for line in log if line["message"] == "worker ready"]
    assert sorted(loaded) == sorted(["image-scoring-v1", "slow-v1", "superres-x4"] * len(started))


def test_the_worker_logs_the_task_under_the_callers_trace(system: System) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with system.client() as client:
        client.headers["traceparent"] = f"00-{trace}-00f067aa0ba902b7-01"
        task_id = submit(client, "image-scoring-v1")
        wait_for(client, task_id)
    log = [json.loads(line) for line in system.process.log.read_text().splitlines() if line.startswith("{")]

    worker_lines = [line for line in log if line.get("task_id") == task_id]
    assert [line["message"] for line in worker_lines] == ["attempt ended"]
    assert {line["trace_id"] for line in worker_lines} == {trace}
    assert system.api_key not in system.process.log.read_text()


# --- several hosts on one Redis -----------------------------------------------------------------------------------


def serving_slowly(settings: Settings) -> Settings:
    """With the model that takes no CPU, and no other."""
    models = replace(settings.models, modules=("tests.support.slow_model",), serve=(slow_model.MODEL,))
    return replace(settings, models=models)


@pytest.fixture
def hosts(settings: Settings, tmp_path: Path) -> Iterator[list[Process]]:
    """Two `penstock worker`, as on two hosts."""
    settings = serving_slowly(settings)
    environ = environment_of(settings) | {"GPU_IDS": "cpu", "PENSTOCK_TELEMETRY_METRICS_PORT": "0"}
    for name in ("PENSTOCK_WORKER_GPU_IDS", "PENSTOCK_TELEMETRY_LOG_FORMAT"):
        environ.pop(name)
    environ |= {"PENSTOCK_WORKER_SLOTS": "1", "PENSTOCK_WORKER_RESERVED_SLOTS": "0"}
    started = [Process(["worker"], environ, tmp_path / f"worker-{n}.log") for n in range(2)]
    yield started
    for process in started:
        process.stop()


def ready_workers(client: httpx.Client, count: int) -> list[dict[str, Any]]:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        answer = client.get("/v1/workers").json()
        workers: list[dict[str, Any]] = answer.get("data", [])  # not there in a 503, which a busy machine may answer
        if len(workers) == count:
            return workers
        time.sleep(0.05)
    raise AssertionError(f"not {count} workers: {answer}")


@pytest.fixture
def client_of_hosts(settings: Settings, api_key: str, hosts: list[Process]) -> Iterator[httpx.Client]:
    with api_server.in_thread(serving_slowly(settings)) as url:
        headers = {"x-api-key": api_key}
        with httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
            ready_workers(client, 2)
            yield client


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_a_dead_host_loses_its_task_to_another_within_ten_seconds(
    client_of_hosts: httpx.Client, hosts: list[Process]
) -> None:
    client = client_of_hosts
    task_id = submit_slow(client, tiles=20, tile_s=0.1)
    wait_for(client, task_id, "RUNNING")
    worker_id = client.get(f"/v1/tasks/{task_id}").json()["execution"]["worker"]
    owner = next(
        p for p in hosts if worker_id in " ".join(Path(f"/proc/{c}/cmdline").read_text() for c in p.children())
    )

    owner.kill_all()
    task = wait_for(client, task_id)

    assert claimed_again_s(task) < 10
    assert [a["outcome"] for a in task["attempts"]] == ["lost", "complete"]
    assert task["attempts"][1]["worker"] != worker_id
    assert client.get(task["links"]["result"]).status_code == 200


@pytest.mark.at_length
def test_a_frozen_worker_that_wakes_up_late_changes_nothing(settings: Settings, api_key: str, tmp_path: Path) -> None:
    """The zombie: stopped past its lease with its whole host, its task finished elsewhere, then continued."""
    settings = serving_slowly(settings)
    environ = environment_of(settings) | {
        "PENSTOCK_WORKER_GPU_IDS": "cpu",
        "PENSTOCK_QUEUE_LEASE_S": "1.5",
        "PENSTOCK_WORKER_SLOTS": "1",
        "PENSTOCK_TELEMETRY_METRICS_PORT": "0",
    }
    settings = replace(settings, queue=replace(settings.queue, lease_s=1.5))
    hosts = [Process(["worker"], environ, tmp_path / f"worker-{n}.log") for n in range(2)]
    try:
        with (
            api_server.in_thread(settings) as url,
            httpx.Client(base_url=url, headers={"x-api-key": api_key}, timeout=30, trust_env=False) as client,
        ):
            ready_workers(client, 2)
            task_id = submit_slow(client, tiles=30, tile_s=0.1)
            worker_id = wait_for(client, task_id, "RUNNING")["execution"]["worker"]
            host, zombie = next((p, c) for p in hosts for c in p.children() if worker_id in command_line(c))
            for pid in (host.popen.pid, zombie):  # its parent would kill it, awake
                os.kill(pid, signal.SIGSTOP)
            task = wait_for(client, task_id)
            before = client.get(task["links"]["result"])
            for pid in (host.popen.pid, zombie):
                os.kill(pid, signal.SIGCONT)
            ready_workers(client, 2)
            time.sleep(2)
            again = client.get(f"/v1/tasks/{task_id}").json()
            after = client.get(task["links"]["result"])
    finally:
        for host in hosts:
            host.stop()

    assert [a["outcome"] for a in task["attempts"]] == ["lost", "complete"]
    assert again == task
    assert before.content == after.content
    assert re.search(r"/2-[0-9a-f]{8}\.png$", task["result"]["s3_key"])


def test_a_stopping_worker_finishes_what_it_has_and_takes_no_more(
    client_of_hosts: httpx.Client, hosts: list[Process]
) -> None:
    client = client_of_hosts
    ids = [submit_slow(client, tiles=20, tile_s=0.1) for _ in range(3)]
    for task_id in ids[:2]:
        while not wait_for(client, task_id, "RUNNING", "SUCCESS")["progress"]:  # what has not begun may change hands
            time.sleep(0.02)

    statuses = [process.stop(signal.SIGTERM) for process in hosts]

    views = [client.get(f"/v1/tasks/{task_id}").json() for task_id in ids]
    assert statuses == [0, 0]
    assert sorted(view["status"] for view in views[:2]) == ["SUCCESS", "SUCCESS"]
    assert all(view["attempts"][-1]["outcome"] == "complete" for view in views[:2])


@pytest.mark.at_length
def test_a_worker_with_no_time_to_drain_hands_its_task_back_uncounted(
    settings: Settings, api_key: str, tmp_path: Path
) -> None:
    settings = serving_slowly(settings)
    environ = environment_of(settings) | {
        "PENSTOCK_WORKER_GPU_IDS": "cpu",
        "PENSTOCK_WORKER_DRAIN_S": "1",
        "PENSTOCK_TELEMETRY_METRICS_PORT": "0",
    }
    worker = Process(["worker"], environ, tmp_path / "worker.log")
    with (
        api_server.in_thread(settings) as url,
        httpx.Client(base_url=url, headers={"x-api-key": api_key}, timeout=30, trust_env=False) as client,
    ):
        ready_workers(client, 1)
        task_id = submit_slow(client, tiles=10_000)
        while not wait_for(client, task_id, "RUNNING")["progress"]:
            time.sleep(0.02)
        started = time.monotonic()
        status = worker.stop()
        took_s = time.monotonic() - started
        view = client.get(f"/v1/tasks/{task_id}").json()

    assert status == 0
    assert took_s < 6
    assert view["status"] == "PENDING"
    assert [a["outcome"] for a in view["attempts"]] == ["release"]


def test_an_upload_runs_as_the_same_image_does_inline(system: System) -> None:
    upload_id = upload(system.url, system.api_key).upload_id

    with system.client() as client:
        inline = wait_for(client, submit(client, model="image-scoring-v1"))
        tasks = [submit(client, model="image-scoring-v1", input={"upload_id": upload_id}) for _ in range(2)]
        ended = [wait_for(client, task_id) for task_id in tasks]
        for task_id in tasks:
            client.delete(f"/v1/tasks/{task_id}").raise_for_status()
        client.delete(f"/v1/uploads/{upload_id}").raise_for_status()

    assert [task["result"]["data"] for task in ended] == [inline["result"]["data"]] * 2


def test_inputs_and_results_go_through_s3_by_signed_links(
    settings: Settings, api_key: str, tmp_path: Path, s3_server: StorageSettings
) -> None:
    storage, vendor = s3_server, s3_client(s3_server)
    limits = LimitSettings(s3_inputs=(f"{storage.s3_bucket}/shared",))
    models, photo = replace(settings.models, serve=("superres-x4",)), small_photo()
    settings = replace(settings, storage=storage, limits=limits, models=models)
    environ = environment_of(settings) | {"PENSTOCK_WORKER_GPU_IDS": "cpu", "PENSTOCK_TELEMETRY_METRICS_PORT": "0"}
    worker = Process(["worker"], environ, tmp_path / "worker.log")
    try:
        with (
            api_server.in_thread(settings) as url,
            httpx.Client(base_url=url, headers={"x-api-key": api_key}, timeout=30, trust_env=False) as client,
        ):
            ready_workers(client, 1)
            task = wait_for(client, submit(client, image=photo))
            direct = httpx.get(task["result"]["url"], trust_env=False)
            redirect = client.get(task["links"]["result"])
            followed = download_as_the_readme_does(url, api_key, task["task_id"], tmp_path / "result.png")
            uploaded = wait_for(client, submit(client, input={"upload_id": upload(url, api_key, photo).upload_id}))
            vendor.put_object(Bucket=storage.s3_bucket, Key="shared/photo.png", Body=photo)
            named = wait_for(client, submit(client, input={"image_url": f"s3://{storage.s3_bucket}/shared/photo.png"}))
    finally:
        worker.stop()

    assert storage.s3_endpoint in task["result"]["url"]
    assert uploaded["result"]["sha256"] == named["result"]["sha256"] == task["result"]["sha256"]
    assert len(direct.content) == task["result"]["size"]
    assert redirect.status_code == 302
    first, second = re.split(r"^> GET ", followed, flags=re.MULTILINE)[1:]
    assert api_key in first
    assert api_key not in second, "the bucket must not learn the key"
    assert (tmp_path / "result.png").read_bytes() == direct.content


def download_as_the_readme_does(url: str, api_key: str, task_id: str, to: Path) -> str:
    """What curl says of its requests."""
    line = re.search(r"^curl -sL .*/result .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert line is not None
    command = line[0].replace("curl -sL", "curl -sLv").replace("$TASK", task_id).replace("upscaled.png", str(to))
    environ = os.environ | {"URL": url, "KEY": api_key, "NO_PROXY": "127.0.0.1"}
    return subprocess.run(["/bin/bash", "-c", command], env=environ, capture_output=True, text=True, check=True).stderr


# --- a model of one's own -----------------------------------------------------------------------------------------


@pytest.mark.at_length
def test_the_model_in_the_readme_works_as_it_stands_there(tmp_path: Path) -> None:
    code = re.search(r"```python\n(# my_models\.py\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert code is not None
    (tmp_path / "my_models.py").write_text(code[1])
    name = re.search(r'@model_runner\("([^"]+)"\)', code[1])
    assert name is not None

    environ = {
        "PENSTOCK_MODELS_MODULES": "my_models",
        "PENSTOCK_MODELS_SERVE": name[1],
        "PYTHONPATH": str(tmp_path),
        "GPU_IDS": "cpu",
    }
    with up(tmp_path / "up", **environ) as system, system.client() as client:
        catalogue = [m["name"] for m in client.get("/v1/models").json()["data"]]
        task = wait_for(client, submit(client, name[1]))

    assert name[1] in catalogue
    assert task["result"]["data"] == {"brightness": pytest.approx(0.5, abs=0.5)}
    assert len(code[1].strip().splitlines()) <= 30


# --- starting and stopping ----------------------------------------------------------------------------------------


def test_up_prints_one_json_line_and_leaves_nothing_running(tmp_path: Path) -> None:
    with up(tmp_path / "data", **LIGHT) as system:
        children = system.process.children()
        assert httpx.get(f"{system.url}/readyz", trust_env=False).json()["workers"] == 1
        assert len(children) == 3
        status = system.process.stop(signal.SIGINT)
        rest = system.process.popen.stdout.read() if system.process.popen.stdout else b"?"

    assert status == 0
    assert rest == b""
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def test_tasks_and_key_outlive_a_restart(tmp_path: Path) -> None:
    with up(tmp_path / "data", **LIGHT) as system, system.client() as client:
        key = system.api_key
        task = wait_for(client, submit(client, "image-scoring-v1"))
    with up(tmp_path / "data", **LIGHT) as system, system.client() as client:
        again = client.get(f"/v1/tasks/{task['task_id']}").json()

        assert system.api_key == key
        assert again["result"]["data"] == task["result"]["data"]


def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    with up(tmp_path / "data", **LIGHT) as system:
        children = system.process.children()
        system.process.popen.kill()
        until = time.monotonic() + 40
        while [pid for pid in children if alive(pid)] and time.monotonic() < until:
            time.sleep(0.1)

        assert not [pid for pid in children if alive(pid)]


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"PENSTOCK_API_PORT": "many"}, "api.port"),
        ({"GPU_IDS": "7"}, "no GPU 7"),
        ({"PENSTOCK_MODELS_MODULES": "there_is_no_such_module"}, "there_is_no_such_module"),
        ({"REDIS_URL": "http://example.com"}, "redis.url"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_one_line(tmp_path: Path, environ: dict[str, str], says: str) -> None:
    environ = {"PENSTOCK_TELEMETRY_METRICS_PORT": "0"} | environ
    process = Process(["up", "--data-dir", str(tmp_path / "data")], environ, tmp_path / "log")

    status = process.popen.wait(30)

    text = (tmp_path / "log").read_text()
    assert status == 78, text
    assert says in text
    assert "Traceback" not in text


def test_a_second_server_on_the_same_directory_or_port_says_so(system: System, tmp_path: Path) -> None:
    port, directory = system.url.rpartition(":")[2], system.process.log.parent
    same_directory = Process(["up", "--port", "0", "--data-dir", str(directory)], {}, tmp_path / "a.log")
    same_port = Process(["up", "--port", port, "--data-dir", str(tmp_path / "other")], {}, tmp_path / "b.log")

    assert (same_directory.popen.wait(30), same_port.popen.wait(30)) == (78, 78)
    assert "--data-dir" in (tmp_path / "a.log").read_text()
    assert "--port" in (tmp_path / "b.log").read_text()


@pytest.mark.at_length
def test_the_demo_writes_the_photo_and_prints_the_scores(tmp_path: Path) -> None:
    process = Process(["demo", "-o", str(tmp_path / "out")], {"GPU_IDS": "cpu"}, tmp_path / "log")

    status = process.popen.wait(120)

    text = (tmp_path / "log").read_text()
    assert status == 0, text
    with Image.open(tmp_path / "out" / "photo-x4.png") as image:
        assert image.size == (900, 600)
    assert re.search(r"\d\.\d\d → \d\.\d\d", text), "score before and after"
    assert sys.executable not in text


def test_the_redis_of_up_keeps_to_a_part_of_the_memory_and_its_files_to_their_owner(system: System) -> None:
    directory = system.process.log.parent / "redis"
    with redis.Redis(unix_socket_path=str((directory / "redis.sock").resolve())) as client:
        limits = client.config_get("maxmemory*")

    assert limits["maxmemory"] == str(memory_bytes() // PART_OF_MEMORY)
    assert limits["maxmemory-policy"] == "noeviction"
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert any("appendonly" in path.name for path in files)
    assert [path for path in files if path.stat().st_mode & 0o077] == []

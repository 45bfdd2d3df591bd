"""What the README says about speed: start-up, pick-up, and throughput as a ratio to a bare loop of the same run.

    python -m tools.bench [--short]

The bare loop decodes, runs the session and encodes, one image after the other, in this process, with as many threads
as the worker has; the server does the same work with its queue, storage and HTTP around it.
"""

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from penstock.runners import load_runners
from penstock.runners.base import registry
from penstock.settings import LimitSettings, ModelSettings
from penstock.task import OutputOptions
from penstock.worker.devices import cpu

PHOTO = Path(__file__).parents[1] / "src/penstock/samples/photo.jpg"


def main() -> None:
    """Run everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="few repetitions: a smoke test, not a figure to quote")
    short = parser.parse_args().short
    photo = PHOTO.read_bytes()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as home:
        started = time.perf_counter()
        server = start(Path(home))
        try:
            address = json.loads(server.stdout.readline()) if server.stdout else {}
            rows = [("start to ready", f"{time.perf_counter() - started:.2f} s")]
            headers = {"x-api-key": address["api_key"]}
            with httpx.Client(base_url=address["url"], headers=headers, timeout=60, trust_env=False) as client:
                rows += pick_up(client, photo, 30 if short else 300)
                rows += submit_rate(client, 50 if short else 500)
                rows += throughput(client, "image-scoring-v1", photo, 40 if short else 400)
                rows += throughput(client, "superres-x4", photo, 3 if short else 20)
        finally:
            server.terminate()
            server.wait(60)
    width = max(len(name) for name, _ in rows)
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}")
    for name, value in rows:
        print(f"  {name.ljust(width)}  {value}")


def start(home: Path) -> "subprocess.Popen[str]":
    """A whole server on the CPU."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
    environ |= {"GPU_IDS": "cpu", "RATE_LIMIT_PER_MINUTE": "0", "PENSTOCK_TELEMETRY_LOG_LEVEL": "ERROR"}
    command = [sys.executable, "-m", "penstock", "up", "--port", "0", "--data-dir", str(home), "--json"]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)


def pick_up(client: httpx.Client, photo: bytes, count: int) -> list[tuple[str, str]]:
    """From accepted to claimed by an idle worker, by the clock of Redis."""
    waits = sorted(
        finished(client, submit(client, "image-scoring-v1", photo))["timing"]["queue_ms"] for _ in range(count)
    )
    p50, p99 = waits[count // 2], waits[int(count * 0.99)]
    return [("submit → claimed, idle worker", f"p50 {p50:.2f} ms, p99 {p99:.2f} ms of {count}")]


def submit_rate(client: httpx.Client, count: int) -> list[tuple[str, str]]:
    """Accepted submits per second from eight connections; canceled afterwards."""
    with ThreadPoolExecutor(8) as pool:
        body = {"model": "image-scoring-v1", "input": {"image_url": "https://example.com/none.jpg"}}
        started = time.perf_counter()
        answers = list(pool.map(lambda _: client.post("/v1/tasks", json=body), range(count)))
        took_s = time.perf_counter() - started
        list(pool.map(lambda a: client.post(f"/v1/tasks/{a.json()['task_id']}/cancel"), answers))
    assert all(answer.status_code == 202 for answer in answers)
    return [("submits accepted", f"{count / took_s:.0f} /s of {count}, with a worker on the same cores")]


def throughput(client: httpx.Client, model: str, photo: bytes, count: int) -> list[tuple[str, str]]:
    """Images per second through the server, and as a ratio to the bare loop run right before and after."""
    bare = bare_loop(model, photo)
    loop_s = [timed(bare, max(1, count // 2))]
    with ThreadPoolExecutor(8) as pool:
        started = time.perf_counter()
        ids = list(pool.map(lambda _: submit(client, model, photo), range(count)))
        list(pool.map(lambda task_id: finished(client, task_id, pause_s=0.25), ids))
        server_s = (time.perf_counter() - started) / count
    loop_s.append(timed(bare, max(1, count // 2)))
    bare_s = statistics.mean(loop_s)
    return [
        (model, f"{1 / server_s:.2f} images/s, {bare_s / server_s:.2f} × the bare loop ({1 / bare_s:.2f}) of {count}")
    ]


def bare_loop(model: str, photo: bytes) -> Callable[[], object]:
    """Decode, run, encode: the same code as the worker's, without a server."""
    load_runners(ModelSettings())
    runner = registry()[model](LimitSettings())
    runner.load_model(cpu())

    def once() -> object:
        params = runner.params()
        work = runner.prepare(photo, params)
        for index in range(work.count):
            work.accept(index, runner.infer(work.tile(index)[None], work)[0])
        return runner.postprocess(work, params, OutputOptions())

    once()
    return once


def timed(work: Callable[[], object], count: int) -> float:
    """Mean seconds of one call."""
    started = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - started) / count


def submit(client: httpx.Client, model: str, photo: bytes) -> str:
    """Submit the photo; the id."""
    uri = f"data:image/jpeg;base64,{base64.b64encode(photo).decode()}"
    answer = client.post("/v1/tasks", json={"model": model, "input": {"image_url": uri}})
    return str(answer.raise_for_status().json()["task_id"])


def finished(client: httpx.Client, task_id: str, pause_s: float = 0.01) -> dict[str, dict[str, float]]:
    """Poll until the task has succeeded; eight impatient clients would take a core from the worker."""
    while True:
        view = client.get(f"/v1/tasks/{task_id}").raise_for_status().json()
        if view["status"] == "SUCCESS":
            return dict(view)
        assert view["status"] in ("PENDING", "RUNNING"), view
        time.sleep(pause_s)


if __name__ == "__main__":
    main()

"""An installation of separate processes on one Redis and one storage."""

import itertools
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.support.drive import data_uri, image
from tests.support.processes import Process, wait_for
from tests.support.redis_server import free_port
from tests.support.slow_model import MODEL

KEY = "a-key-only-for-the-tests"
START_TIMEOUT_S = 120.0


class Api:
    """A running API process; its client sends the key with every request."""

    def __init__(self, process: Process, url: str) -> None:
        self.process = process
        self.client = httpx.Client(base_url=url, headers={"x-api-key": KEY}, timeout=30, trust_env=False)

    def submit(self, *, tiles: int = 1, tile_s: float = 0.01, **body: Any) -> str:
        """Submits a task with an input of its own, which stays in Redis where that can be; returns its id."""
        usual = {
            "model": MODEL,
            "input": {"image_url": data_uri(image(64, 48))},
            "params": {"tiles": tiles, "tile_s": tile_s},
            "reuse": False,
        }
        return str(self.client.post("/v1/tasks", json=usual | body).raise_for_status().json()["task_id"])

    def ended(self, task_id: str) -> dict[str, Any]:
        """Waits until a task has succeeded, and returns it."""
        return wait_for(self.client, task_id)

    def until_workers(self, wanted: int) -> None:
        """Waits until so many workers are ready."""
        give_up = time.monotonic() + START_TIMEOUT_S
        while True:
            answer = self.client.get("/v1/workers")
            ready = [one for one in answer.json()["data"] if one["state"] == "READY"] if answer.is_success else []
            if len(ready) == wanted:
                return
            assert time.monotonic() < give_up, answer.text
            time.sleep(0.05)


class Fleet:
    """Starts processes and ends them all, and shows their logs if the test failed."""

    def __init__(self, redis_url: str, folder: Path, **environ: str) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._processes: list[Process] = []
        self._clients: list[httpx.Client] = []
        self._environ = {
            "REDIS_URL": redis_url,
            "API_KEYS": f"default:{KEY}",
            "GPU_IDS": "cpu",
            "PENSTOCK_STORAGE_DIRECTORY": str(folder / "objects"),
            "PENSTOCK_MODELS_MODULES": "tests.support.slow_model",
            "PENSTOCK_MODELS_SERVE": MODEL,
            "PENSTOCK_API_LINGER_S": "0",
            "PENSTOCK_WORKER_SLOTS": "2",
            "PENSTOCK_WORKER_RESERVED_SLOTS": "0",
            "PENSTOCK_TELEMETRY_METRICS_PORT": "0",
            **environ,
        }

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, error: object, *_: object) -> None:
        for client in self._clients:
            client.close()
        for process in self._processes:
            process.stop()
            if error:
                print(f"--- {process.log.name}\n{process.log.read_text()[-4000:]}")

    def api(self, release: Mapping[str, str] = {}, *, port: int = 0, python: str = sys.executable) -> Api:
        """Starts an API at this port, or a free one; it takes requests. `release` has the environment in which it is
        another release."""
        port = port or free_port()
        process = self.start("api", "--port", str(port), release=release, python=python)
        api = Api(process, f"http://127.0.0.1:{port}")
        self._clients.append(api.client)
        give_up = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                if api.client.get("/readyz").is_success:
                    return api
            except httpx.TransportError:
                assert process.popen.poll() is None, process.log.read_text()
            assert time.monotonic() < give_up, process.log.read_text()
            time.sleep(0.05)

    def worker(self, release: Mapping[str, str] = {}, *, python: str = sys.executable) -> Process:
        """Starts a worker."""
        return self.start("worker", release=release, python=python)

    def start(self, *arguments: str, release: Mapping[str, str] = {}, python: str = sys.executable) -> Process:
        """Starts a command."""
        log = self._folder / f"{next(self._numbers)}-{arguments[0]}.log"
        process = Process([*arguments], {**self._environ, **release}, log, python=python)
        self._processes.append(process)
        return process

"""The services of compose.yaml on a real engine, run by the recipes of the justfile, and what clients see of them."""

import base64
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests.containers.programs import ROOT, compose, passes, run

API, PROMETHEUS = "http://127.0.0.1:8000", "http://127.0.0.1:9090"
PROJECT = "penstock-test"
SERVICES = ("proxy", "api", "worker", "redis", "objects", "prometheus")
"""Those of compose.yaml that are looked at; Grafana is a picture of what Prometheus has."""

PATIENCE_S = 300.0
PHOTO = ROOT / "src/penstock/models/photo.jpg"
T = TypeVar("T")


class Stack:
    """The services of a checkout. What fails, fails the test."""

    def __init__(self, checkout: Path, docker: str) -> None:
        self.checkout = checkout
        self._docker = docker
        self._compose = compose()
        key = (checkout / "deploy/secrets/api_keys").read_text().strip().removeprefix("me:")
        self.client = httpx.Client(base_url=API, headers={"Authorization": f"Bearer {key}"}, timeout=60)

    # --- what operators type --------------------------------------------------------------------------------------

    def just(self, recipe: str, *arguments: str, timeout_s: float = 600) -> str:
        """What a recipe prints."""
        just = str(Path(sys.executable).parent / "just")
        return self._run(just, recipe, *arguments, timeout_s=timeout_s)

    def compose(self, *arguments: str, timeout_s: float = 600, **variables: str) -> str:
        """What a command of Compose prints."""
        return self._run(*self._compose, *arguments, timeout_s=timeout_s, **variables)

    def docker(self, *arguments: str) -> str:
        """What a command of the engine prints."""
        return self._run(self._docker, *arguments)

    def start(self, *arguments: str) -> None:
        """Start the services, and wait until a worker is ready."""
        self.just("up", *arguments, *SERVICES, timeout_s=1800)
        eventually(self.workers, bool)

    def containers(self, service: str) -> list[str]:
        """The ids of the containers of a service, those that have ended, too."""
        return self.compose("ps", "-aq", service).split()

    def end(self) -> None:
        """Stop everything, and delete the data."""
        run(*self._compose, "down", "-v", "--timeout", "60", timeout_s=300, cwd=self.checkout)

    def _run(self, *argv: str, timeout_s: float = 300, **variables: str) -> str:
        variables = {"COMPOSE": " ".join(self._compose)} | variables
        return passes(*argv, timeout_s=timeout_s, cwd=self.checkout, **variables)

    # --- what clients see -----------------------------------------------------------------------------------------

    def workers(self) -> int:
        """How many workers are ready, by /readyz."""
        return int(self.client.get("/readyz").json().get("workers", 0))

    def submit(self, model: str = "superres-x4", image: bytes | None = None, **members: object) -> str:
        """The id of a task with this image, the photo of the quick start by default, whose result is never that of
        another task. `members` are of the request."""
        photo = base64.b64encode(image or PHOTO.read_bytes()).decode()
        task = {"model": model, "input": {"image": f"data:image/jpeg;base64,{photo}"}, "reuse": False} | members
        answer = self.client.post("/v1/tasks", json=task)
        assert answer.status_code == 202, f"{answer.status_code} {answer.text}"
        return str(answer.json()["task_id"])

    def task(self, task_id: str) -> dict[str, Any]:
        """The task as it is now; without fields while the server cannot say."""
        answer = self.client.get(f"/v1/tasks/{task_id}")
        return dict(answer.json()) if answer.status_code == httpx.codes.OK else {}

    def reached(self, task_id: str, *statuses: str) -> dict[str, Any]:
        """The task once it has one of these statuses."""
        return eventually(lambda: self.task(task_id), lambda task: task.get("status") in statuses)

    def result(self, task_id: str) -> dict[str, Any]:
        """The task once it has ended, which must be well."""
        ended = self.reached(task_id, "SUCCESS", "FAILED", "CANCELED", "EXPIRED")
        assert ended["status"] == "SUCCESS", ended
        return ended

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression, by Prometheus."""
        answer = httpx.get(f"{PROMETHEUS}/api/v1/query", params={"query": expression}).json()
        return list(answer["data"]["result"])


def eventually(ask: Callable[[], T], holds: Callable[[T], bool]) -> T:
    """The first answer that holds; while the server is away it is asked again."""
    deadline = time.monotonic() + PATIENCE_S
    said: object = None
    while time.monotonic() < deadline:
        try:
            answer = ask()
            if holds(answer):
                return answer
            said = answer
        except (httpx.TransportError, ValueError) as error:
            said = error
        time.sleep(0.5)
    raise AssertionError(f"not within {PATIENCE_S} s; the last answer was {said!r}")

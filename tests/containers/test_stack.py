"""The whole of compose.yaml on a real engine: a task, parts that are killed and replaced, backup and restore.

The tests stand in their order, and share one stack. Ports 8000, 9000 and 9090 of loopback must be free.
"""

import base64
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from tests.containers.programs import ROOT, compose, passes, run

API, PROMETHEUS = "http://127.0.0.1:8000", "http://127.0.0.1:9090"
SERVICES = ("proxy", "api", "worker", "redis", "objects", "prometheus")
"""Those of compose.yaml that are looked at; Grafana is a picture of what Prometheus has."""
PATIENCE_S = 240.0
T = TypeVar("T")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


class Stack:
    """The services of a checkout, and its API as a client sees it."""

    def __init__(self, checkout: Path) -> None:
        self._command = [*compose(), "-p", "penstock-test", "--project-directory", str(checkout)]
        self._command += ["-f", str(checkout / "compose.yaml")]
        self.checkout = checkout
        key = (checkout / "deploy/secrets/api_keys").read_text().strip().removeprefix("me:")
        self.client = httpx.Client(base_url=API, headers={"Authorization": f"Bearer {key}"}, timeout=60)

    def __call__(self, *argv: str, timeout_s: float = 300) -> str:
        """What a command of Compose prints. Fails the test where it fails."""
        return passes(*self._command, *argv, timeout_s=timeout_s)

    def script(self, name: str, folder: Path) -> None:
        """Run a script of deploy/ with a folder."""
        command = f"COMPOSE={' '.join(self._command)}"
        passes("env", command, str(self.checkout / "deploy" / name), str(folder), timeout_s=600)

    def down(self) -> None:
        """End all, with the data."""
        run(*self._command, "down", "-v", "--timeout", "60", timeout_s=180)

    def workers(self) -> int:
        """How many workers are ready, by /readyz."""
        return int(self.client.get("/readyz").json().get("workers", 0))

    def submit(self) -> str:
        """The id of a task with the photo of the quick start, whose result is never that of another task."""
        photo = base64.b64encode((ROOT / "src/penstock/models/photo.jpg").read_bytes()).decode()
        image = f"data:image/jpeg;base64,{photo}"
        task = {"model": "superres-x4", "input": {"image": image}, "reuse": False}
        answer = self.client.post("/v1/tasks", json=task)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["task_id"])

    def task(self, task_id: str) -> dict[str, Any]:
        """The task as it is now; without fields while the server cannot say."""
        answer = self.client.get(f"/v1/tasks/{task_id}")
        return dict(answer.json()) if answer.status_code == 200 else {}

    def result(self, task_id: str) -> dict[str, Any]:
        """The task once it has ended well."""
        return eventually(lambda: self.task(task_id), lambda task: task.get("status") == "SUCCESS")

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


@pytest.fixture(scope="module")
def stack(engine: str, checkout: Path) -> Iterator[Stack]:
    """The stack with a ready worker; images are built where a name has none."""
    running = Stack(checkout)
    if missing := [image for image in running("config", "--images").split() if not has(engine, image)]:
        pytest.skip(f"no image, and none can be pulled: {', '.join(missing)}")
    try:
        running("up", "-d", "--build", *SERVICES, timeout_s=1800)
        eventually(running.workers, bool)
        yield running
    finally:
        running.down()


def has(engine: str, image: str) -> bool:
    """Whether the image is here, can be built, or can be pulled. That of Grafana may be missing."""
    if image.startswith(("penstock-", "grafana/")) or run(engine, "image", "inspect", image).returncode == 0:
        return True
    return run(engine, "pull", "-q", image, timeout_s=600).returncode == 0


def test_a_task_goes_through_the_whole_stack(stack: Stack) -> None:
    ended = stack.result(stack.submit())

    file = httpx.get(ended["result"]["url"])
    assert file.content.startswith(b"\x89PNG")
    assert len(ended["attempts"]) == 1


def test_prometheus_sees_the_api_and_the_workers(stack: Stack) -> None:
    jobs = eventually(
        lambda: {series["metric"]["job"]: series["value"][1] for series in stack.query("up")},
        lambda up: up == dict.fromkeys(("penstock-api", "penstock-worker", "prometheus"), "1"),
    )
    finished = eventually(
        lambda: stack.query('sum(penstock_tasks_finished_total{status="SUCCESS"})'), lambda series: bool(series)
    )

    assert jobs
    assert float(finished[0]["value"][1]) >= 1


def test_an_api_is_replaced_without_a_request_that_fails(stack: Stack) -> None:
    seen: list[object] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.05):
            try:
                answer = stack.client.get("/v1/models")
                seen.append(answer.status_code if answer.is_success else answer.text)
            except httpx.TransportError as error:
                seen.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    stack("up", "-d", "--force-recreate", "--no-deps", "api")
    eventually(stack.workers, bool)
    stop.set()
    asking.join()

    assert len(seen) > 10
    assert set(seen) == {200}


@pytest.mark.parametrize("name", ["worker", "redis", "objects", "api"])
def test_a_part_that_is_killed_and_started_again_loses_no_task(name: str, stack: Stack) -> None:
    tasks = [stack.submit() for _ in range(3)]
    eventually(lambda: [stack.task(task).get("status") for task in tasks], lambda found: "RUNNING" in found)

    stack("kill", "-s", "KILL", name)
    stack("up", "-d", name)

    ended = [stack.result(task) for task in tasks]
    assert all(httpx.get(one["result"]["url"]).content.startswith(b"\x89PNG") for one in ended)


def test_two_apis_serve_behind_the_proxy_and_both_are_scraped(stack: Stack) -> None:
    stack("up", "-d", "--no-recreate", "--scale", "api=2", "api")
    up = eventually(
        lambda: [series["value"][1] for series in stack.query('up{job="penstock-api"}')], lambda up: up == ["1", "1"]
    )

    assert stack.result(stack.submit())["status"] == "SUCCESS"
    stack("up", "-d", "--scale", "api=1", "api")
    assert up


def test_a_backup_is_restored_into_a_new_installation(stack: Stack, tmp_path: Path) -> None:
    task = stack.submit()
    before = httpx.get(stack.result(task)["result"]["url"]).content
    stack.script("backup.sh", tmp_path / "saved")
    stack.down()
    stack.script("restore.sh", tmp_path / "saved")
    stack("up", "-d", *SERVICES)

    assert eventually(lambda: stack.task(task), lambda found: bool(found))["status"] == "SUCCESS"
    link = eventually(lambda: stack.task(task), lambda found: bool(found.get("result")))["result"]["url"]
    assert eventually(lambda: httpx.get(link).content, lambda content: content == before)

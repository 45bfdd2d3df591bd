"""The whole of compose.yaml on a real engine: a task, a model of one's own, and parts that are replaced and scaled.

The tests of the files test_stack*.py stand in their order, and share one stack. Ports 8000, 9000 and 9090 of loopback
must be free.
"""

import json
import threading
import time

import httpx
import pytest

from tests.containers.conftest import Note
from tests.containers.own_models import MODEL
from tests.containers.stack import SERVICES, Stack, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def test_a_task_goes_through_the_whole_stack(stack: Stack, note: Note) -> None:
    started = time.monotonic()
    ended = stack.result(stack.submit())
    file = httpx.get(ended["result"]["url"])
    note("the task of the quick start, s", round(time.monotonic() - started, 1))
    note("its result, bytes", len(file.content))

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


def test_no_secret_is_in_the_description_or_the_processes_of_a_container(stack: Stack, note: Note) -> None:
    secrets = [file.read_text().strip() for file in (stack.checkout / "deploy/secrets").iterdir()]
    running = [container for service in SERVICES for container in stack.containers(service)]
    told = stack.docker("inspect", *running) + "".join(stack.docker("top", container) for container in running)

    assert len(secrets) == 5
    assert [secret for secret in secrets if secret.removeprefix("me:") in told] == []
    for row in map(json.loads, stack.docker("stats", "--no-stream", "--format", "{{json .}}", *running).splitlines()):
        note(f"memory of {row['Name']}", row["MemUsage"])


def test_a_model_of_ones_own_may_import_a_runtime_that_the_api_does_not_have(stack: Stack) -> None:
    ended = stack.result(stack.submit(MODEL, input={"name": "any"}))

    assert ended["result"]["data"]["runtime"]
    assert stack.client.get(f"/v1/models/{MODEL}").json()["title"] == "Own"
    looks = "import importlib.util as u; print(u.find_spec('onnxruntime'))"
    assert stack.compose("exec", "-T", "api", "python", "-c", looks).strip() == "None"


def test_a_restart_of_the_worker_takes_up_an_edit(stack: Stack) -> None:
    file = stack.checkout / "deploy/models/own_models.py"
    file.write_text(file.read_text().replace('title="Own"', 'title="Edited"'))

    stack.compose("restart", "worker")

    eventually(lambda: stack.client.get(f"/v1/models/{MODEL}").json(), lambda model: model.get("title") == "Edited")


def test_an_api_is_replaced_without_a_request_that_fails(stack: Stack, note: Note) -> None:
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
    stack.compose("up", "-d", "--force-recreate", "--no-deps", "api")
    eventually(stack.workers, bool)
    stop.set()
    asking.join()
    note("requests while the API was replaced", len(seen))

    assert len(seen) > 10
    assert set(seen) == {200}


def test_two_apis_serve_behind_the_proxy_and_both_are_scraped(stack: Stack) -> None:
    stack.just("scale", "api=2")
    up = eventually(
        lambda: [series["value"][1] for series in stack.query('up{job="penstock-api"}')], lambda up: up == ["1", "1"]
    )

    assert up
    assert stack.result(stack.submit())["status"] == "SUCCESS"
    stack.just("scale", "api=1")


def test_two_workers_share_the_tasks_and_both_are_scraped(stack: Stack) -> None:
    stack.just("scale", "worker=2")
    eventually(stack.workers, lambda count: count == 2)
    tasks = [stack.submit(MODEL, input={"name": "any"}, params={"seconds": 2}) for _ in range(6)]
    ran_on = {stack.result(task)["attempts"][-1]["worker"] for task in tasks}
    up = eventually(
        lambda: [series["value"][1] for series in stack.query('up{job="penstock-worker"}')], lambda up: up == ["1", "1"]
    )

    assert len(ran_on) == 2
    assert up
    stack.just("scale", "worker=1")


def test_an_older_version_can_be_started_again(stack: Stack) -> None:
    """The images of the newer one have another label; those of the older are there under their name."""

    def runs() -> dict[str, str]:
        labels = {}
        for service in ("api", "worker"):
            (one,) = json.loads(stack.docker("inspect", *stack.containers(service)))
            labels[service] = one["Config"]["Labels"]["org.opencontainers.image.version"]
        return labels

    task = stack.submit()
    before = stack.result(task)
    stack.compose("build", "api", "worker", timeout_s=1800, IMAGE_VERSION="next")
    stack.compose("up", "-d", "worker", IMAGE_VERSION="next")
    stack.compose("up", "-d", "api", IMAGE_VERSION="next")
    eventually(stack.workers, bool)
    newer, between = runs(), stack.submit()
    stack.compose("up", "-d", "worker")
    stack.compose("up", "-d", "api")
    eventually(stack.workers, bool)

    assert (newer, runs()) == ({"api": "next", "worker": "next"}, {"api": "local", "worker": "local"})
    assert stack.result(task)["result"]["size"] == before["result"]["size"]
    assert stack.result(between)["status"] == "SUCCESS"

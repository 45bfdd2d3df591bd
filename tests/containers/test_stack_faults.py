"""The stack of compose.yaml under faults: parts that are killed, too little memory, no object store, reboots."""

import io
import json
import subprocess

import httpx
import pytest
from PIL import Image

from tests.containers.conftest import Note
from tests.containers.own_models import MODEL
from tests.containers.stack import Stack, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

SMALL = "700m"
"""A limit of memory with which a worker serves small images and cannot decode one of 49 megapixels."""


@pytest.mark.parametrize("name", ["worker", "redis", "objects", "api"])
def test_a_part_that_is_killed_and_started_again_loses_no_task(name: str, stack: Stack) -> None:
    tasks = [stack.submit() for _ in range(3)]
    eventually(lambda: [stack.task(task).get("status") for task in tasks], lambda found: "RUNNING" in found)

    stack.compose("kill", "-s", "KILL", name)
    stack.compose("up", "-d", name)

    ended = [stack.result(task) for task in tasks]
    assert all(httpx.get(one["result"]["url"]).content.startswith(b"\x89PNG") for one in ended)


@pytest.mark.parametrize("name", ["worker", "redis", "objects", "api", "proxy"])
def test_a_part_whose_process_dies_is_started_again_by_itself(name: str, stack: Stack) -> None:
    (container,) = stack.containers(name)
    (state,) = json.loads(stack.docker("inspect", container))

    subprocess.run(["kill", "-9", str(state["State"]["Pid"])], check=True)

    eventually(lambda: json.loads(stack.docker("inspect", container))[0]["RestartCount"], bool)
    eventually(stack.workers, bool)
    assert stack.result(stack.submit())["status"] == "SUCCESS"


def test_readyz_names_an_object_store_that_is_gone(stack: Stack) -> None:
    stack.compose("stop", "objects")
    told = eventually(
        lambda: stack.client.get("/readyz", timeout=3).json(), lambda answer: "storage" in json.dumps(answer)
    )
    stack.compose("start", "objects")

    assert told
    eventually(stack.workers, bool)
    eventually(lambda: stack.client.get("/readyz").status_code, lambda status: status == httpx.codes.OK)


@pytest.fixture
def small_worker(stack: Stack) -> str:
    """The container of a worker with little memory."""
    stack.compose("up", "-d", "--force-recreate", "--no-deps", "worker")
    (container,) = stack.containers("worker")
    stack.docker("update", "--memory", SMALL, "--memory-swap", SMALL, container)
    stack.docker("restart", container)
    eventually(stack.workers, lambda count: count == 1)
    return container


def logs(stack: Stack) -> str:
    return stack.compose("logs", "--no-color", "worker")


def test_what_does_not_fit_is_refused_as_such_and_what_fits_is_served(
    stack: Stack, small_worker: str, note: Note
) -> None:
    large = io.BytesIO()
    Image.effect_noise((7000, 7000), 20).convert("RGB").save(large, "JPEG", quality=60)

    refused = stack.reached(stack.submit("image-scoring-v1", large.getvalue()), "FAILED", "SUCCESS")
    served = [stack.result(stack.submit()) for _ in range(3)]

    assert refused["error"]["code"] == "insufficient_memory"
    note(f"a JPEG of 49 MP in {SMALL}", refused["error"]["message"])
    assert len(refused["attempts"]) == 1
    assert {len(one["attempts"]) for one in served} == {1}
    assert "of memory are left for tasks" in logs(stack)


def test_a_worker_that_the_kernel_kills_for_want_of_memory_says_so_in_the_log_and_in_the_task(
    stack: Stack, small_worker: str, note: Note
) -> None:
    guilty = stack.submit(MODEL, input={"name": "any"}, params={"megabytes": 2000})
    ended = stack.reached(guilty, "FAILED", "SUCCESS")

    assert ended["error"]["code"] == "poison_input"
    assert "memory ran out and the kernel killed it (limit 734 MB)" in ended["error"]["message"]
    assert "memory ran out" in ended["attempts"][0]["error"]["message"]
    assert "memory ran out" in logs(stack)
    note(f"a task that takes 2 GB in {SMALL}", ended["error"]["message"])
    stack.compose("up", "-d", "--force-recreate", "--no-deps", "worker")
    eventually(stack.workers, lambda count: count == 1)


def test_machines_that_start_anew_are_no_crashes_of_what_ran(stack: Stack) -> None:
    """With `queue.max_crashes`, 3, the task would end as one that kills its workers."""
    task = stack.submit(MODEL, input={"name": "any"}, params={"seconds": 60})
    for lost in range(3):
        eventually(
            lambda: stack.task(task),
            lambda now, n=lost: now and now["status"] == "RUNNING" and len(now["attempts"]) >= n,
        )
        running = [one for service in ("redis", "worker", "api") for one in stack.containers(service)]
        stack.docker("stop", "--time", "45", *running)
        stack.docker("start", *running)

    ended = stack.result(task)
    assert len(ended["attempts"]) >= 4

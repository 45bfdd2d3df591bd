"""Order and time at the device, through real processes: who runs first, whose time runs, and what progress says."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.drive import data_uri, image
from tests.support.processes import System, up, wait_for
from tests.support.slow_model import MODEL

ENDLESS = 4000
"""Tiles of a task that outlives every test here; it is canceled."""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One worker with a model that takes as long as it is told."""
    environ = {
        "GPU_IDS": "cpu",
        "PENSTOCK_MODELS_MODULES": "tests.support.slow_model",
        "PENSTOCK_MODELS_SERVE": MODEL,
        "RATE_LIMIT_PER_MINUTE": "0",
    }
    with up(tmp_path_factory.mktemp("up"), **environ) as running:
        yield running


def submit(client: httpx.Client, *, tiles: int = 1, tile_s: float = 0.05, width: int = 8, **body: Any) -> str:
    asked = {
        "model": MODEL,
        "input": {"image_url": data_uri(image(width))},
        "params": {"tiles": tiles, "tile_s": tile_s},
        "reuse": False,
    }
    return str(client.post("/v1/tasks", json=asked | body).raise_for_status().json()["task_id"])


def on_the_device(client: httpx.Client, task_id: str) -> None:
    while not wait_for(client, task_id, "RUNNING")["progress"]:
        time.sleep(0.02)


def tiles_done(client: httpx.Client, task_id: str) -> int:
    return int(wait_for(client, task_id, "RUNNING")["progress"]["done"])


def status(client: httpx.Client, task_id: str) -> str:
    return str(client.get(f"/v1/tasks/{task_id}").raise_for_status().json()["status"])


def cancel(client: httpx.Client, task_id: str) -> None:
    client.post(f"/v1/tasks/{task_id}/cancel").raise_for_status()


def test_small_tasks_end_while_a_large_one_of_the_same_key_and_class_runs_on(system: System) -> None:
    with system.client() as client:
        large = submit(client, tiles=ENDLESS)
        on_the_device(client, large)
        small = [wait_for(client, submit(client)) for _ in range(3)]
        together = [submit(client) for _ in range(10)]
        small += [wait_for(client, task_id) for task_id in together]
        at_the_end = status(client, large)
        cancel(client, large)

    assert len(small) == 13
    assert at_the_end == "RUNNING"


def test_tasks_that_wait_behind_higher_ones_lose_no_time_of_their_own(system: System) -> None:
    """The higher ones hold the device for six times as long as an attempt at one of the others may take."""
    with system.client() as client:
        high = [submit(client, tiles=60, tile_s=0.05, priority="high") for _ in range(4)]
        on_the_device(client, high[0])
        normal = [submit(client, timeout_s=2) for _ in range(10)]
        ends = [wait_for(client, task_id, "SUCCESS", "FAILED") for task_id in normal + high]

    assert [end["error"] for end in ends] == [None] * 14


def test_a_low_task_goes_on_while_a_high_one_holds_the_device(system: System) -> None:
    with system.client() as client:
        low = submit(client, tiles=ENDLESS, priority="low")
        on_the_device(client, low)
        high = submit(client, tiles=ENDLESS, priority="high")
        on_the_device(client, high)
        before = tiles_done(client, low)
        while tiles_done(client, low) < before + 2:
            assert status(client, high) == "RUNNING"
            time.sleep(0.1)
        cancel(client, low)
        cancel(client, high)


def test_a_run_that_takes_longer_than_its_time_is_still_ended(system: System) -> None:
    with system.client() as client:
        end = wait_for(client, submit(client, tiles=ENDLESS, timeout_s=1), "FAILED")

    assert end["error"]["code"] == "execution_timeout"


@pytest.mark.parametrize("tiles", [1, 2, 7])
def test_a_task_that_succeeded_has_made_all_progress(system: System, tiles: int) -> None:
    with system.client() as client:
        end = wait_for(client, submit(client, tiles=tiles))

    assert end["progress"] == {"ratio": 1.0, "unit": "tiles", "done": tiles, "total": tiles}


def test_a_task_that_another_was_run_for_has_made_all_progress(system: System) -> None:
    with system.client() as client:
        leader = submit(client, tiles=8, reuse=True, width=9)
        follower = submit(client, tiles=8, reuse=True, width=9)
        ends = [wait_for(client, task_id) for task_id in (leader, follower)]
        ends.append(wait_for(client, submit(client, tiles=8, reuse=True, width=9)))

    assert [end["reuse"] for end in ends] == ["miss", "coalesced", "hit"]
    assert [end["progress"]["ratio"] for end in ends] == [1, 1, 1]

"""Order and time at the device, through real processes: who runs first, whose time runs, and what progress says."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.drive import data_uri, image
from tests.integration.slow_model import MODEL
from tests.processes import System, up, wait_for


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One worker with a model that takes as long as it is told."""
    environ = {
        "GPU_IDS": "cpu",
        "PENSTOCK_MODELS_MODULES": "tests.integration.slow_model",
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

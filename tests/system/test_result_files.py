"""Results of several files, made by real processes: a worker is killed between two of them, and callers share none."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.client import API_KEY
from tests.chaos.proxy import PASS, Toxic
from tests.chaos.world import Setup, World
from tests.support.drive import data_uri, image
from tests.support.processes import System, up, wait_for
from tests.support.redis_server import binary
from tests.support.s3_server import s3_client
from tests.support.slow_model import LARGE, MODEL

SLOW = Toxic(bytes_per_s=LARGE / 20)
"""The large file takes 20 seconds, the small one none."""

INPUT = {"image_url": data_uri(image())}

MODULE = '''
import numpy as np
from loguru import logger
from PIL import Image
from penstock.models.base import BaseModelRunner, ProductFile
from penstock.models.registry import model_runner

@model_runner("parts")
class Parts(BaseModelRunner):
    """Parts of an image."""

    def load_model(self):
        pass

    def prepare(self, input_data):
        logger.info("{} bytes", len(input_data["image"]))
        return np.asarray(input_data["image"].image().rgb)

    def infer(self, tensor):
        return tensor

    def postprocess(self, output):
        return [output, Image.fromarray(output[..., 0]), ProductFile("sizes.csv", b"w,h", "text/csv")]

@model_runner("failing")
class Failing(Parts):
    """Raises."""

    def infer(self, tensor):
        print("about to fail")
        raise LookupError("the text of the exception")
'''


# --- killed between two files -------------------------------------------------------------------------------------


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    env = {"MODELS_MODULES": "tests.support.slow_model", "MODELS_SERVE": MODEL, "QUEUE_LEASE_S": "3"}
    async with World(Setup(workers=1, s3=True, env=env), seed=1, directory=tmp_path) as world:
        yield world


def stored(world: World, task_id: str) -> set[str]:
    """The keys of the files of this task that are in the bucket."""
    assert world.s3 is not None
    client = s3_client(world.s3)
    try:
        found = client.list_objects_v2(Bucket=world.s3.s3_bucket, Prefix=f"penstock/results/default/{task_id}/")
        return {entry["Key"].removeprefix("penstock/") for entry in found.get("Contents", ())}
    finally:
        client.close()


@pytest.mark.skipif(binary() is None, reason="no redis-server or valkey-server")
async def test_a_worker_that_is_killed_between_two_files_leaves_no_orphan(world: World) -> None:
    assert world.s3_link is not None
    world.s3_link.set(SLOW)
    headers = {"x-api-key": API_KEY}
    async with httpx.AsyncClient(base_url=world.apis[0].url, headers=headers, timeout=30, trust_env=False) as http:
        body = {"model": MODEL, "input": INPUT, "params": {"product": "a small and a large file"}}
        path = (await http.post("/v1/tasks", json=body)).raise_for_status().headers["Location"]
        task_id = path.rpartition("/")[2]

        async def is_half_stored() -> bool:
            return len(await asyncio.to_thread(stored, world, task_id)) == 1

        await world.until(is_half_stored, "the small file is stored", 60)
        (orphan,) = await asyncio.to_thread(stored, world, task_id)
        assert (await http.get(path)).json()["status"] == "RUNNING", "a part of a result is none"
        world.hosts[0].kill()
        world.s3_link.set(PASS)
        await world.add_host()
        task = (await http.get(path, params={"wait": 60})).json()

        assert [attempt["outcome"] for attempt in task["attempts"]] == ["lost", "complete"], task
        assert [(file["name"], file["size"]) for file in task["result"]["files"]] == [
            ("result.png", 5),
            ("large.bin", LARGE),
        ]

        async def are_its_own() -> bool:
            return len(await asyncio.to_thread(stored, world, task_id)) == 2

        await world.until(are_its_own, "what the killed worker left is gone", 60)
        assert orphan not in await asyncio.to_thread(stored, world, task_id)
        assert (await http.delete(path)).status_code == 204
        assert await asyncio.to_thread(stored, world, task_id) == set()


# --- a whole life -------------------------------------------------------------------------------------------------


def submit(client: httpx.Client, model: str, **members: Any) -> dict[str, Any]:
    answer = client.post("/v1/tasks", json={"model": model, "input": INPUT} | members)
    assert answer.status_code == 202, answer.text
    return wait_for(client, answer.json()["task_id"], "SUCCESS", "FAILED")


def objects(data_dir: Path) -> list[Path]:
    return [path for path in (data_dir / "objects").rglob("results/**/*") if path.is_file()]


@pytest.mark.at_length
def test_a_short_runner_gives_several_files_which_live_as_long_as_a_task_that_shows_them(tmp_path: Path) -> None:
    (tmp_path / "parts_model.py").write_text(MODULE)
    environ = {"GPU_IDS": "cpu", "PYTHONPATH": str(tmp_path), "PENSTOCK_MODELS_MODULES": "parts_model"}
    environ |= {
        "PENSTOCK_MODELS_SERVE": "parts,failing",
        "API_KEYS": "ann:ann-0123456789abcdef,bob:bob-0123456789abcdef",
    }
    with up(tmp_path / "data", **environ) as running:
        ann, bob = (_client(running, f"{name}-0123456789abcdef") for name in ("ann", "bob"))
        with ann, bob:
            with ThreadPoolExecutor(2) as pool:
                first, others = pool.map(lambda client: submit(client, "parts"), (ann, bob))
            again = submit(ann, "parts")
            _check_files(ann, bob, first, again, others)
            _check_ends(ann, bob, tmp_path / "data", [first, again, others])
            _check_failure(ann)


def _client(running: System, key: str) -> httpx.Client:
    return httpx.Client(base_url=running.url, headers={"x-api-key": key}, timeout=30)


def _check_files(ann: httpx.Client, bob: httpx.Client, first: Any, again: Any, others: Any) -> None:
    names = [file["name"] for file in first["result"]["files"]]
    assert names == ["1.png", "2.png", "sizes.csv"], first
    assert (again["reuse"], again["result"]["files"][0]["sha256"]) == ("hit", first["result"]["files"][0]["sha256"])
    assert others["reuse"] == "miss", "callers share no runs"
    for client, task in ((ann, first), (ann, again), (bob, others)):
        downloads = [client.get(file["url"]) for file in task["result"]["files"]]
        assert [answer.headers["Content-Type"].partition(";")[0] for answer in downloads] == [
            "image/png", "image/png", "text/csv"
        ]  # fmt: skip
        assert downloads[2].content == b"w,h"
    assert "bytes" in ann.get(f"/v1/tasks/{first['task_id']}/log").text


def _check_ends(ann: httpx.Client, bob: httpx.Client, data_dir: Path, tasks: list[dict[str, Any]]) -> None:
    first, again, others = (f"/v1/tasks/{task['task_id']}" for task in tasks)
    assert len(objects(data_dir)) == 6
    assert ann.delete(first).status_code == 204
    assert ann.get(f"{again}/result/2.png").status_code == 200, "an equal task keeps the files"
    assert bob.delete(others).status_code == ann.delete(again).status_code == 204
    for client, path in ((ann, first), (ann, again), (bob, others)):
        assert client.get(f"{path}/result/2.png").status_code == 410
    assert objects(data_dir) == []


def _check_failure(client: httpx.Client) -> None:
    task = submit(client, "failing")
    log = client.get(f"/v1/tasks/{task['task_id']}/log")
    assert (task["error"]["code"], len(task["attempts"])) == ("model_error", 1), task
    assert task["error"]["message"] == "the model raised LookupError in infer; the task's log has the traceback"
    assert "the text of the exception" not in client.get(f"/v1/tasks/{task['task_id']}").text
    assert "infer: about to fail" in log.text
    assert "parts_model.py" in log.text
    assert "LookupError: the text of the exception" in log.text

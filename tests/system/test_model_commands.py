"""`penstock models push`, `pull` and `remove` beside a running server whose storage is a real S3 server."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from penstock.cli.main import cli
from penstock.core.model import Model
from penstock.errors import ConfigurationError
from penstock.local.deaths import EXIT_CONFIGURATION
from penstock.local.redis_server import socket_of
from penstock.settings import QueueSettings, RedisSettings, StorageSettings
from penstock.store import Engine, Store, connect
from tests.support.drive import data_uri, image
from tests.support.processes import System, up, wait_for
from tests.support.tiny_models import add_model


@pytest.fixture(scope="module")
def bucket(s3_server: StorageSettings) -> dict[str, str]:
    """The environment of commands that use this bucket."""
    return {
        "USE_LOCAL_STORAGE": "false",
        "PENSTOCK_STORAGE_S3_ENDPOINT": s3_server.s3_endpoint,
        "PENSTOCK_STORAGE_S3_BUCKET": s3_server.s3_bucket,
        "PENSTOCK_STORAGE_S3_ACCESS_KEY": s3_server.s3_access_key,
        "PENSTOCK_STORAGE_S3_SECRET_KEY": s3_server.s3_secret_key,
        "PENSTOCK_REDIS_NAMESPACE": "fleet",
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, bucket: dict[str, str]) -> Iterator[tuple[System, Path]]:
    home = tmp_path_factory.mktemp("fleet")
    cache = {"PENSTOCK_WORKER_CACHE_DIR": str(home / "cache"), "GPU_IDS": "cpu"}
    with up(home / "data", **bucket, **cache) as running:
        yield running, home


def run(home: Path, *arguments: str, status: int = 0, **environ: str) -> str:
    """Runs `penstock models` in this process for the data directory of the server, and returns what it printed."""
    finished = CliRunner().invoke(cli, ["models", *arguments, "--data-dir", str(home / "data")], env=environ)
    if isinstance(finished.exception, ConfigurationError):
        assert status == EXIT_CONFIGURATION
        return str(finished.exception)
    assert finished.exit_code == status, finished.output
    return finished.output


def said(system: System, model: str, within_s: float = 60) -> float:
    """Submits a task until the model is known, and returns the number in its result."""
    body = {"model": model, "input": {"image_url": data_uri(image())}}
    until = time.monotonic() + within_s
    with system.client() as client:
        while (answer := client.post("/v1/tasks", json=body)).status_code != 202:
            assert time.monotonic() < until, answer.text
            time.sleep(0.05)
        view = wait_for(client, answer.json()["task_id"])
    return float(view["result"]["data"]["outputs"]["said"]["values"][0][0])


def test_a_model_goes_through_the_bucket_to_a_worker_and_back(
    server: tuple[System, Path], bucket: dict[str, str]
) -> None:
    system, home = server
    tree = home / "made-here"
    for number in (1, 2):
        add_model(tree, f"face@{number}", number)
    here = bucket | {"PENSTOCK_MODELS_DIRECTORY": str(tree)}

    pushed = run(home, "push", "face", **here)
    assert "face@1 pushed: 2 files" in pushed
    assert "face@2 pushed: 2 files" in pushed
    assert said(system, "face@2") == 2.0
    assert said(system, "face") == 1.0, "the first is the default"
    assert len(list((home / "cache" / "models").iterdir())) == 2

    there = bucket | {"PENSTOCK_MODELS_DIRECTORY": str(home / "pulled")}
    assert "face@2 pulled into" in run(home, "pull", "face@2", **there)
    for name in ("model.toml", "model.onnx"):
        assert (home / "pulled/face/2" / name).read_bytes() == (tree / "face/2" / name).read_bytes()
    assert "give another version, or replace it" in run(home, "pull", "face@2", status=78, **there)

    assert "removed: face@1" in run(home, "remove", "face@1", "--storage", **here)
    with system.client() as client:
        until = time.monotonic() + 60
        while client.get("/v1/models/face@1").status_code != 404:
            assert time.monotonic() < until
            time.sleep(0.05)
    assert said(system, "face") == 2.0, "the other version is the default now"
    assert "there is no model face@1 in the storage (there are: face@2)" in run(
        home, "remove", "face@1", "--storage", status=1, **here
    )


def test_a_model_with_waiting_tasks_is_removed_by_force_alone(
    server: tuple[System, Path], bucket: dict[str, str]
) -> None:
    system, home = server
    add_model(home / "data" / "models", "dog@1", 5.0)
    assert said(system, "dog") == 5.0
    with system.client() as client:
        [worker] = client.get("/v1/workers").json()["data"]
        client.post(f"/v1/workers/{worker['id']}/drain").raise_for_status()
        body = {"model": "dog", "input": {"image_url": data_uri(image())}, "reuse": False}
        task_id = client.post("/v1/tasks", json=body).raise_for_status().json()["task_id"]

        assert "tasks wait (1 for dog@1)" in run(home, "remove", "dog", status=1, **bucket)
        assert "removed: dog@1" in run(home, "remove", "dog", "--force", **bucket)
        client.post(f"/v1/workers/{worker['id']}/resume").raise_for_status()
        view = wait_for(client, task_id, "SUCCESS", "FAILED")

    assert view["status"] == "SUCCESS", "it was loaded, and ends what waited for it"


@pytest.mark.at_length
def test_a_model_that_is_loaded_for_tasks_is_removed_by_force_alone(
    server: tuple[System, Path], bucket: dict[str, str]
) -> None:
    system, home = server
    add_model(home / "data" / "models", "cow@1", 6.0, burden=20)
    with system.client() as client:
        while client.get("/v1/models/cow").status_code == 404:
            time.sleep(0.05)
        body = {"model": "cow", "input": {"image_url": data_uri(image())}, "reuse": False}
        task_id = client.post("/v1/tasks", json=body).raise_for_status().json()["task_id"]
        while client.get("/v1/models/cow").json()["state"] != "loading":
            time.sleep(0.01)

        assert "tasks wait (some for cow@1, which" in run(home, "remove", "cow", status=1, **bucket)
        view = wait_for(client, task_id)
        assert len(view["attempts"]) == 1
        while client.get("/v1/models/cow").json()["state"] == "loading":
            time.sleep(0.01)  # workers say what they hold a moment after they do
        run(home, "push", "cow", **bucket)
        removed = run(home, "remove", "cow", **bucket)

    assert "cow@1 is still in the storage, and served; then: penstock models remove cow@1 --storage" in removed
    assert run(home, "remove", "cow", "--storage", **bucket) == "removed: cow@1\n"


def test_a_model_whose_machines_have_gone_is_removed_from_the_catalogue(
    server: tuple[System, Path], bucket: dict[str, str]
) -> None:
    system, home = server

    async def publish() -> None:
        redis = RedisSettings(url=f"unix://{socket_of(home / 'data')}", namespace="fleet")
        async with connect(redis) as client:
            store = Store(Engine(client, redis.namespace, QueueSettings()))
            await store.models.publish([Model(name="left", version="1", digest="d")], worker="gone-cpu-1")

    asyncio.run(publish())
    with system.client() as client:
        while client.get("/v1/models/left").status_code == 404:
            time.sleep(0.05)
        assert run(home, "remove", "left", **bucket) == "removed: left\n"
        while client.get("/v1/models/left").status_code != 404:
            time.sleep(0.05)
        assert "there is no model superres-x4 in" in run(home, "remove", "superres-x4", status=1, **bucket)


@pytest.mark.parametrize("command", [("push", "face"), ("pull", "face")])
def test_a_storage_that_cannot_be_used_is_one_line(tmp_path: Path, bucket: dict[str, str], command: list[str]) -> None:
    add_model(tmp_path / "data" / "models", "face@1", 1.0)
    nowhere = {"PENSTOCK_STORAGE_S3_ENDPOINT": "http://127.0.0.1:1", "REDIS_URL": "redis://127.0.0.1:1/0"}

    said = run(tmp_path, *command, status=1, **bucket | nowhere)

    assert said.startswith("Error: the storage cannot be used; ")
    assert said.count("\n") == 1


def test_where_no_server_runs_the_commands_say_so_and_do_their_work(tmp_path: Path) -> None:
    add_model(tmp_path / "data" / "models", "face@1", 1.0)
    nowhere = {"REDIS_URL": "redis://127.0.0.1:1/0"}

    assert "no server was told, since Redis cannot be reached" in run(tmp_path, "push", "face", **nowhere)
    assert "no server was told" in run(tmp_path, "remove", "face", **nowhere)
    assert "there is no model face" in run(tmp_path, "remove", "face", status=1, **nowhere)
    assert "(there are: face@1)" in run(tmp_path, "pull", "dog", status=1, **nowhere)
    assert "face@1 pulled into" in run(tmp_path, "pull", "face", **nowhere)

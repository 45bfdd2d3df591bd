"""A whole server as the user of Redis that `deploy/redis-users.acl` lets in, which may do nothing else there."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from penstock.local.up import worker_children
from penstock.settings import ApiSettings, Settings, WebhookSettings
from penstock.worker.devices import Placement, cpu
from tests.support.drive import data_uri, image
from tests.support.processes import System, up
from tests.support.redis_server import RedisProcess

USERS = Path(__file__).parents[2] / "deploy" / "redis-users.acl"
WITHIN_S = 60.0
WATCHER = "user watcher on >of-the-tests ~* &* +@all\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    directory = tmp_path_factory.mktemp("redis")
    users = Path(shutil.copy(USERS, directory))
    users.write_text(users.read_text() + WATCHER)
    with RedisProcess(directory, user="penstock:change-me", aclfile=str(users)) as running:
        yield running


@pytest.fixture(scope="module")
def system(server: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    environ = {
        "REDIS_URL": server.url,
        "GPU_IDS": "cpu",
        "PENSTOCK_MODELS_MODULES": "penstock.models.noop",
        "PENSTOCK_MODELS_SERVE": "noop-v1",
    }
    with up(tmp_path_factory.mktemp("up"), **environ) as running:
        yield running


def test_re1_a_server_does_all_its_work_as_a_user_that_may_do_little(server: RedisProcess, system: System) -> None:
    line = {"model": "noop-v1", "input": {"image_url": data_uri(image())}}
    with system.client() as client:
        done = client.post("/v1/tasks", json=line, headers={"Prefer": "wait=30"}).json()
        batch = client.post("/v1/batches", json={"lines": [line | {"custom_id": str(n)} for n in range(3)]}).json()
        give_up = time.monotonic() + WITHIN_S
        while client.get(f"/v1/batches/{batch['batch_id']}").json()["status"] != "COMPLETED":
            assert time.monotonic() < give_up
            time.sleep(0.05)
        client.post("/v1/queues/noop-v1/pause")
        waiting = client.post("/v1/tasks", json=line | {"reuse": False}).json()["task_id"]
        canceled = client.post(f"/v1/tasks/{waiting}/cancel").json()
        client.post("/v1/queues/noop-v1/resume")
        deleted = client.delete(f"/v1/tasks/{done['task_id']}")
        explained = client.get(f"/v1/tasks/{waiting}/explain")
    with redis.Redis.from_url(server.url.replace("penstock:change-me", "watcher:of-the-tests")) as watcher:
        refused = watcher.acl_log()

    assert (done["status"], canceled["status"]) == ("SUCCESS", "CANCELED")
    assert (deleted.status_code, explained.status_code) == (204, 200)
    assert refused == []


@pytest.mark.parametrize("command", ["FLUSHALL", "KEYS *", "CONFIG SET maxmemory 1", "SET elsewhere 1", "ACL LIST"])
def test_re1_that_user_may_not_touch_what_is_not_penstocks(command: str, server: RedisProcess) -> None:
    with (
        redis.Redis.from_url(server.url) as client,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        client.execute_command(*command.split())


def test_secrets_of_the_api_are_not_in_the_environment_of_a_worker(system: System) -> None:
    environment = Path(f"/proc/{system.process.child('worker-process')}/environ").read_text()
    settings = Settings(api=ApiSettings(keys=("of-the-api",)), webhooks=WebhookSettings(secrets=("whsec_of-the-api",)))
    (child,) = worker_children(settings, [Placement(device=cpu(1), environment={})])
    told = child.launch().environment

    assert system.api_key not in environment
    assert "whsec_" not in environment
    assert "PENSTOCK_REDIS_URL" in told
    assert not {value for value in told.values() if "of-the-api" in value}

"""`penstock doctor` and `penstock keys new` as processes, on machines that are well and on some that are not."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from penstock.cli.doctor.examine import examine
from penstock.cli.doctor.findings import CheckResult
from penstock.cli.doctor.redis import check_redis
from penstock.settings import load
from penstock.store import connect, look_at
from penstock.worker.devices import cpu
from tests.support.nvidia_smi import NvidiaSmi
from tests.support.processes import examined, penstock, up
from tests.support.redis_server import RedisProcess
from tests.support.tiny_models import add_model


async def examined_here(here: Path, **environ: str) -> dict[str, CheckResult]:
    """What doctor finds, in this process."""
    directories = {"PENSTOCK_STORAGE_DIRECTORY": str(here / "objects"), "PENSTOCK_UP_DATA_DIR": str(here / "data")}
    settings_of = partial(load, None, {"GPU_IDS": "cpu"} | directories | environ)
    return {finding.check: finding async for finding in examine(settings_of)}


def test_all_is_well_with_a_redis_that_keeps_what_it_is_given(tmp_path: Path, own_redis: RedisProcess) -> None:
    found = examined(tmp_path, 0, REDIS_URL=own_redis.url)

    assert list(found) == ["python", "settings", "models", "redis", "clock", "storage", "device"]
    assert {finding["state"] for finding in found.values()} == {"ok"}
    assert "CPUExecutionProvider" in found["device"]["found"]
    assert str(tmp_path) in found["storage"]["found"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "http://127.0.0.1:6379",
            "must begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://",
        ),
        ("redis+sentinel://127.0.0.1:26379", "where MASTER is the name that the sentinels know"),
    ],
)
async def test_a_url_that_no_process_would_take_is_one_failure_beside_the_other_checks(
    tmp_path: Path, url: str, said: str
) -> None:
    found = await examined_here(tmp_path, REDIS_URL=url)

    assert found["redis"].state == "fail"
    assert said in found["redis"].found
    assert found["storage"].state == "ok"


@pytest.mark.at_length
def test_a_person_is_shown_the_same(tmp_path: Path, own_redis: RedisProcess) -> None:
    finished = penstock(tmp_path, "doctor", REDIS_URL=own_redis.url)

    assert finished.returncode == 0, finished.stderr
    assert [line.split()[0] for line in finished.stdout.splitlines()] == ["ok"] * 7


@pytest.mark.at_length
def test_a_gpu_that_the_installed_runtime_cannot_use_is_told_of(tmp_path: Path, own_redis: RedisProcess) -> None:
    tool = NvidiaSmi(tmp_path / "bin")
    auto = {"REDIS_URL": own_redis.url, "GPU_IDS": "auto", **tool.environment()}
    without = examined(tmp_path, 0, **auto)
    tool.lists("GPU-aaaa")
    unused, wanted = examined(tmp_path, 0, **auto), examined(tmp_path, 0, **auto | {"GPU_IDS": "cpu"})

    assert unused["gpu"]["state"] == "warn"
    assert "penstock-server[gpu]" in unused["gpu"]["advice"]
    assert unused["device"]["state"] == "ok"
    assert "gpu" not in without | wanted


@pytest.mark.at_length
def test_the_redis_of_a_running_up_is_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    here = tmp_path_factory.mktemp("up")  # a short path: that of a socket has 107 bytes at most
    with up(here / "penstock-data", GPU_IDS="cpu", PENSTOCK_MODELS_SERVE="image-scoring-v1"):
        found = examined(here, 0)

    assert (found["redis"]["state"], found["clock"]["state"]) == ("ok", "ok")


async def test_a_redis_that_would_lose_tasks_is_told_of(own_redis: RedisProcess) -> None:
    settings = load(None, {"REDIS_URL": own_redis.url})
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("appendonly", "no")
        forgetful, _ = [finding async for finding in check_redis(settings)]
        client.config_set("maxmemory-policy", "allkeys-lru")
        evicting, _ = [finding async for finding in check_redis(settings)]

    assert (forgetful.state, "appendonly yes" in forgetful.advice) == ("warn", True)
    assert (evicting.state, "noeviction" in evicting.advice) == ("fail", True)


def test_everything_that_is_wrong_is_told_of_at_once(tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("in the way")
    environ = {
        "REDIS_URL": "redis://:canary-of-a-password@127.0.0.1:9/0?password=another-canary",
        "PENSTOCK_STORAGE_DIRECTORY": str(tmp_path / "a-file" / "objects"),
        "GPU_IDS": "7",
    }

    found = examined(tmp_path, 1, **environ)

    assert [name for name, finding in found.items() if finding["state"] == "fail"] == ["redis", "storage", "device"]
    assert all(found[name]["advice"] for name in ("redis", "storage", "device"))
    assert "canary" not in str(found)


async def test_a_wrong_setting_is_a_finding_and_no_end(tmp_path: Path) -> None:
    found = await examined_here(tmp_path, PENSTOCK_API_PORT="many")

    assert list(found) == ["python", "settings"]
    assert "api.port" in found["settings"].found


async def test_more_processes_of_the_api_than_cores_are_told_of() -> None:
    settings_of = partial(load, None, {"PENSTOCK_API_PROCESSES": "256"})
    async for found in examine(settings_of):
        if found.check == "api":
            break

    assert found.state == "warn"
    assert found.found.startswith("256 processes at one port")


@pytest.mark.at_length
def test_a_damaged_model_is_told_of(tmp_path: Path, own_redis: RedisProcess) -> None:
    """A copy of the package in which one byte of one file is another."""
    package = tmp_path / "lib" / "penstock"
    shutil.copytree(Path(__file__).parents[2] / "src" / "penstock", package)
    file = package / "weights" / "image-scoring-v1.nima.onnx"
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    file.write_bytes(data)

    found = examined(tmp_path, 1, REDIS_URL=own_redis.url, PYTHONPATH=str(tmp_path / "lib"))

    assert found["models"]["state"] == "fail"
    assert "image-scoring-v1.nima.onnx" in found["models"]["found"]
    assert found["device"]["state"] == "fail", "nor does a device run it"


def test_the_checks_of_a_gpu_say_in_one_line_that_there_is_none(tmp_path: Path) -> None:
    shown = penstock(tmp_path, "doctor", "--gpu")
    as_json = penstock(tmp_path, "doctor", "--gpu", "--json", "who")

    assert (shown.returncode, as_json.returncode) == (1, 1)
    assert [line.split()[:2] for line in shown.stdout.splitlines()] == [["fail", "gpu"], ["→", "see"]]
    assert "nvidia-smi" in json.loads(as_json.stdout)["found"]


@pytest.mark.parametrize("arguments", [["who"], ["--device", "0"], ["--gpu", "whom"]])
def test_a_check_of_a_gpu_that_makes_no_sense_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    assert penstock(tmp_path, "doctor", *arguments).returncode == 2


@pytest.mark.at_length
def test_the_check_of_a_start_runs_a_whole_server_that_meets_no_other(tmp_path: Path) -> None:
    device = msgspec.json.encode(cpu()).decode()
    in_use = {"REDIS_URL": "redis://127.0.0.1:9/0", "PENSTOCK_MODELS_SERVE": "noop-v1"}

    done = penstock(tmp_path, "gpu-check", "start", "--device", device, **in_use)
    figures: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        figures |= json.loads(line)

    assert done.returncode == 0, done.stdout + done.stderr
    assert figures["exit_status"] == 0
    assert figures["first_task_ms"] > 0
    assert figures["second_task_ms"] > 0
    assert figures["superres_x4_load_s"] > 0
    assert figures["worker_threads"] > 1


async def test_a_server_says_what_it_is_and_what_time_it_has(own_redis: RedisProcess) -> None:
    async with connect(load(None, {"REDIS_URL": own_redis.url}).redis) as client:
        server = await look_at(client)

    assert server.major >= 6
    assert abs(server.ahead_s) < 1


def test_a_new_key_can_be_put_where_it_says(tmp_path: Path) -> None:
    made = penstock(tmp_path, "keys", "new", "--name", "alice")
    again = penstock(tmp_path, "keys", "new")
    key = made.stdout.strip()
    toml = "[api]\n" + next(line for line in made.stderr.splitlines() if line.startswith("keys = "))
    variable = next(line for line in made.stderr.splitlines() if line.startswith("API_KEYS="))
    (tmp_path / "config.toml").write_text(toml)

    assert load(tmp_path / "config.toml", {}).api.keys == (f"alice:{key}",)
    assert load(None, dict([variable.split("=", 1)])).api.keys == (f"alice:{key}",)
    assert again.stdout.strip() != key
    assert penstock(tmp_path, "keys", "new", "--name", "a:b").returncode == 2


async def test_a_version_of_a_model_that_cannot_be_served_is_a_warning_with_its_reason(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "good@1", 1.0)
    (add_model(tmp_path / "models", "bad@1", 2.0) / "model.toml").write_text("schema = 2")

    environ = {"PENSTOCK_MODELS_DIRECTORY": str(tmp_path / "models"), "REDIS_URL": "redis://127.0.0.1:1/0"}
    found = (await examined_here(tmp_path, **environ))["models"]

    assert found.state == "warn"
    assert found.found.startswith("bad@1: ")
    assert "schema" in found.found

"""The recipes of the justfile that run the containers, as far as the other files do not use them: each is run here."""

import json
import re
from pathlib import Path

import httpx
import pytest

from tests.containers.conftest import Note
from tests.containers.stack import API, SERVICES, Stack, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def test_init_keeps_the_secrets_that_are_there(stack: Stack) -> None:
    before = (stack.checkout / "deploy/secrets/api_keys").read_text()

    assert "deploy/secrets/api_keys" in stack.just("init")
    assert (stack.checkout / "deploy/secrets/api_keys").read_text() == before


def test_status_lists_the_containers_and_says_whether_the_server_is_ready(stack: Stack) -> None:
    told = stack.just("status")

    assert all(re.search(f"[-_]{service}[-_]1", told) for service in SERVICES)  # Compose 2, and 1
    assert '"status":"ready"' in told.replace(" ", "")


def test_logs_shows_what_a_service_says(stack: Stack) -> None:
    assert "worker ready" in stack.just("logs", "--follow=false", "worker")


def test_restart_ends_no_task(stack: Stack) -> None:
    task = stack.submit()
    stack.just("restart")

    assert stack.result(task)["status"] == "SUCCESS"


def test_gpu_up_would_start_the_worker_for_gpus(stack: Stack) -> None:
    """There is no GPU, so that the engine is only asked what it would do."""
    stack.just("gpu-up", "--dry-run", "--no-deps", "worker")


def test_a_backup_is_restored_into_a_new_installation(stack: Stack, tmp_path: Path, note: Note) -> None:
    task = stack.submit()
    before = httpx.get(stack.result(task)["result"]["url"]).content
    stack.just("backup", str(tmp_path / "saved"))
    stack.just("down", "--volumes")
    stack.just("restore", str(tmp_path / "saved"))
    stack.start()

    files = {file.name: file.stat().st_size for file in (tmp_path / "saved").iterdir()}
    note("backup, bytes", json.dumps(files))
    assert eventually(lambda: stack.task(task), lambda found: bool(found))["status"] == "SUCCESS"
    link = eventually(lambda: stack.task(task), lambda found: bool(found.get("result")))["result"]["url"]
    assert eventually(lambda: httpx.get(link).content, lambda content: content == before)


def test_down_stops_everything_and_up_finds_the_data(stack: Stack) -> None:
    task = stack.submit()
    stack.result(task)

    stack.just("down")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{API}/livez")
    stack.start()

    assert stack.result(task)["status"] == "SUCCESS"

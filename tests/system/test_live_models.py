"""Models that come, go and are switched on a running server: no task is lost, fails, or is answered by another."""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.drive import data_uri, image
from tests.support.processes import System, wait_for
from tests.support.tiny_models import add_model
from tools.model_churn import Churn, churning, number_of, serving

MODELS = 8


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("live")


@pytest.fixture(scope="module")
def system(home: Path) -> Iterator[System]:
    """A server with eight models, of which three fit."""
    with serving(home, models=MODELS, fit=3, size=100_000) as running:
        yield running


@pytest.fixture
async def churn(system: System, home: Path) -> AsyncIterator[Churn]:
    async with churning(system, home, MODELS) as client:
        yield client


async def test_models_are_switched_under_load_without_a_failed_or_a_mixed_task(churn: Churn) -> None:
    await churn.random(120, random.Random(7))
    loads = len(churn.loads())
    await churn.defaults(25, ("1", "2"), pause_s=0.04)
    versions = {sample.model for sample in churn.samples if sample.model.startswith("face@")}

    assert churn.failed() == []
    assert churn.mixed() == []
    assert loads > 20, "only three fit"
    assert versions == {"face@1", "face@2"}


async def test_operators_switch_load_and_unload_by_http_and_the_catalogue_says_so(churn: Churn) -> None:
    async def state_of(model: str, *states: str) -> None:
        until = time.monotonic() + 60
        while (await churn.card(model))["state"] not in states:
            assert time.monotonic() < until, await churn.card(model)
            await asyncio.sleep(0.02)

    await churn.tell("m1@1", "unload")
    await state_of("m1@1", "cold", "evicted")
    await churn.tell("m1@1", "load")
    await state_of("m1@1", "ready")
    sample = await churn.run("m1@1")
    await churn.tell("m1@1", "unload")
    await state_of("m1@1", "evicted")
    again = await churn.run("m1@1")

    assert (sample.number, sample.load_ms) == (1.0, 0.0), "it was loaded before"
    assert again.number == 1.0
    assert again.load_ms > 0


def submitted(client: httpx.Client, model: str, within_s: float = 60) -> str:
    """Submits a task as soon as the server knows the model, and returns its id."""
    body = {"model": model, "input": {"image_url": data_uri(image())}}
    until = time.monotonic() + within_s
    while (answer := client.post("/v1/tasks", json=body)).status_code != 202:
        assert time.monotonic() < until, answer.text
        time.sleep(0.02)
    return str(answer.json()["task_id"])


@pytest.mark.at_length
def test_a_model_that_is_added_is_served_soon_and_outlives_a_worker_that_is_killed_while_it_loads_it(
    system: System, home: Path
) -> None:
    with system.client() as client:
        add_model(home / "models", "added@1", 1.0)
        view = wait_for(client, submitted(client, "added"))

        add_model(home / "models", "slow@4", 4.0, burden=16)
        task_id = submitted(client, "slow")
        wait_until_loading(client, task_id)
        os.kill(system.process.child("worker-process"), signal.SIGKILL)
        again = wait_for(client, task_id)

    assert view["result"]["data"]["outputs"]["said"]["values"] == [[1.0]]
    assert again["result"]["data"]["outputs"]["said"]["values"] == [[number_of("m4@1")]]
    assert len(again["attempts"]) == 2


def wait_until_loading(client: httpx.Client, task_id: str) -> None:
    """Returns when the model of a task is being loaded."""
    until = time.monotonic() + 60
    while (view := client.get(f"/v1/tasks/{task_id}").json())["stage"] != "load":
        assert view["status"] in ("PENDING", "RUNNING"), view
        assert time.monotonic() < until
        time.sleep(0.01)

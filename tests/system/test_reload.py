"""`penstock up --reload`: an edited model is served by new workers, and no task is lost or fails for it."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.drive import image
from tests.support.processes import System, penstock, up, wait_for

MODEL = """
import time
from pathlib import Path
from own_answer import ANSWER, TAKES_S
from penstock.models.base import BaseModelRunner
from penstock.models.registry import model_runner

@model_runner("slow-answer")
class SlowAnswer(BaseModelRunner):
    concurrent = True

    def prepare(self, input_data):
        return 0

    def infer(self, tensor):
        with Path(__file__).with_name("runs").open("a") as runs:
            runs.write("1")
        time.sleep(TAKES_S)
        return tensor

    def postprocess(self, output):
        return {"answer": ANSWER}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "own_answer.py").write_text("ANSWER, TAKES_S = 1, 1.0\n")
    path = tmp_path / "own_models.py"
    path.write_text(MODEL)
    return path


def submitted(client: httpx.Client, **members: Any) -> str:
    url = f"data:image/png;base64,{base64.b64encode(image()).decode()}"
    answer = client.post("/v1/tasks", json={"model": "slow-answer", "input": {"image_url": url}, **members})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def logged(system: System, message: str, times: int = 1) -> list[dict[str, Any]]:
    """The lines with this message, once there are so many."""
    give_up = time.monotonic() + 60
    while True:
        lines = [json.loads(line) for line in system.process.log.read_text().splitlines() if line.startswith("{")]
        found = [line for line in lines if line["message"] == message]
        if len(found) >= times:
            return found
        assert time.monotonic() < give_up, system.process.log.read_text()[-3000:]
        time.sleep(0.05)


@pytest.mark.at_length
def test_an_edit_is_served_without_a_restart_and_a_broken_one_changes_nothing(tmp_path: Path, model: Path) -> None:
    options = ("--models", str(model), "--reload")
    with up(tmp_path / "data", options=options, GPU_IDS="cpu") as system, system.client() as client:
        children = set(system.process.children())
        running = [submitted(client, reuse=False) for _ in range(6)]
        wait_for(client, running[0], "RUNNING", "SUCCESS")
        (tmp_path / "own_answer.py").write_text("ANSWER, TAKES_S = 2, 0.0\n")
        (reloaded,) = logged(system, "models reloaded")
        after = wait_for(client, submitted(client))
        before = [wait_for(client, task_id) for task_id in running]
        runs = (tmp_path / "runs").read_text()

        model.write_text("def broken(:\n")
        (broken,) = logged(system, "the edit cannot be served, the models of before go on")
        still = wait_for(client, submitted(client, reuse=False))

        model.write_text(MODEL.replace('"answer": ANSWER', '"answer": ANSWER + 1'))
        logged(system, "models reloaded", times=2)
        repaired = wait_for(client, submitted(client))

        model.write_text(MODEL.replace("slow-answer", "renamed-answer"))
        logged(system, "models reloaded", times=3)
        names = {one["name"] for one in client.get("/v1/models").json()["data"]}
        stay = children & set(system.process.children())

    assert reloaded["changed"] == "own_answer.py"
    assert after["result"]["data"] == {"answer": 2}
    assert {task["status"] for task in before} == {"SUCCESS"}
    assert len(runs) == 6 + 1, "what ran was neither stopped nor run again; what waited may go to a new worker"
    assert before[0]["result"]["data"] == {"answer": 1}
    assert broken["reason"] == f"models.modules: cannot import {model}: SyntaxError: invalid syntax (own_models.py:1)"
    assert still["result"]["data"] == {"answer": 2}
    assert repaired["result"]["data"] == {"answer": 3}, "and no result of before is given out for it"
    assert "renamed-answer" in names
    assert "slow-answer" not in names, "a submit for it is refused, and does not wait for ever"
    assert len(stay) == 2, "Redis and the API are those of the start"


def test_reload_without_models_says_what_is_missing(tmp_path: Path) -> None:
    done = penstock(tmp_path, "up", "--reload")

    assert done.returncode == 2
    assert "--reload needs --models, which names the file" in done.stderr

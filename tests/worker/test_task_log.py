"""What a model says while it works for a task: what is captured of it, how it is bounded, and where it is kept."""

import logging
import re
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loguru import logger

from penstock.core.request import OutputOptions
from penstock.core.task import State
from penstock.errors import ModelError
from penstock.models.base import BaseModelRunner, Card, Device, Outputs, Params, Product, Work, model_runner
from penstock.storage import LocalStorage
from penstock.store import Store
from penstock.worker.log_capture import capturing
from penstock.worker.model_code import model_code
from penstock.worker.task_log import LOG_BYTES, SCOPE, TaskLog
from tests.support.workers import ended, host, submit_image

TALKER = "talker-v1"


class TalkerParams(Params, frozen=True):
    """Fails in the method of this name, at its first attempts."""

    fails_in: str = ""
    transient: bool = False


@model_runner(TALKER)
class Talker(BaseModelRunner[TalkerParams]):
    """Says something in each method."""

    params = TalkerParams
    card = Card(title="Talks", produces="data")

    def load_model(self, device: Device) -> None:
        print("loaded")

    def prepare(self, source: bytes, params: TalkerParams) -> Work:
        logger.info("preparing {} bytes", len(source))
        self._fail("prepare", params)
        return Work([np.zeros(1, np.float32)], context=params)

    def infer(self, tiles: Any, work: Work) -> Outputs:
        print("inferring", end=" ")
        print(len(tiles), "tiles")
        self._fail("infer", work.context)
        return list(tiles)

    def postprocess(self, work: Work, params: TalkerParams, output: OutputOptions) -> Product:
        logging.getLogger("talker").warning("one of %s is small", 3)
        self._fail("postprocess", params)
        return Product(data={"ok": True})

    def _fail(self, method: str, params: TalkerParams) -> None:
        if params.fails_in == method:
            password = "local secret"  # noqa: F841  a traceback without values does not show it
            raise (ConnectionError if params.transient else LookupError)("the text of the exception")


def said_by(act: Callable[[], object]) -> list[str]:
    """The lines that a call adds to the log of its task, without their times."""
    log = TaskLog()
    with capturing("INFO"), model_code("prepare", log):
        act()
    lines = log.text(1).decode().splitlines()
    assert lines[:1] in ([], ["--- attempt 1 ---"])
    return [line.partition(" ")[2] for line in lines[1:]]


# --- capture --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "line"),
    [
        (lambda: logger.warning("by {}", "loguru"), "WARNING by loguru"),
        (lambda: logger.info("of the operator's level"), "INFO of the operator's level"),
        (lambda: logging.getLogger("a.b").info("by %s", "logging"), "INFO by logging"),
        (lambda: logging.getLogger("a.b").error("wrong"), "ERROR wrong"),
        (lambda: print("printed", 1, 2), "printed 1 2"),
        (lambda: print("to the other", file=sys.stderr), "to the other"),
        (lambda: sys.stdout.writelines(["in ", "parts"]), "in parts"),
    ],
)
def test_what_a_model_says_is_in_the_log_of_its_task_once(act: Callable[[], object], line: str) -> None:
    assert said_by(act) == [f"prepare: {line}"]


def test_a_warning_is_in_the_log_too() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        (line, *_) = said_by(lambda: warnings.warn("old weights", UserWarning, stacklevel=1))

    assert line.startswith("prepare: WARNING ")
    assert "old weights" in line


def test_what_is_below_the_level_or_said_elsewhere_is_in_no_log() -> None:
    def elsewhere() -> None:
        thread = threading.Thread(target=print, args=("on a thread of its own",))
        thread.start()
        thread.join()
        logger.debug("too little")
        logging.getLogger("a").debug("too little")

    assert said_by(elsewhere) == []


def test_what_is_printed_also_goes_where_it_went(capsys: pytest.CaptureFixture[str]) -> None:
    said_by(lambda: print("seen by both"))
    assert capsys.readouterr().out == "seen by both\n"


def test_after_the_capture_everything_is_as_before() -> None:
    before = (sys.stdout, sys.stderr, logging.getLogger().level, [*logging.getLogger().handlers])
    with capturing("DEBUG"):
        assert sys.stdout is not before[0]

    assert (sys.stdout, sys.stderr, logging.getLogger().level, [*logging.getLogger().handlers]) == before
    assert SCOPE.get() is None


def test_a_shared_call_is_in_the_log_of_each_task_and_says_so() -> None:
    logs = [TaskLog(), TaskLog(), TaskLog()]
    with capturing("INFO"), model_code("infer", *logs):
        print("for all")

    assert {log.text(1).partition(b" infer")[2] for log in logs} == {b" (with 2 other tasks): for all\n"}


def test_a_traceback_shows_the_lines_of_the_model_and_no_values() -> None:
    log = TaskLog()

    def look_up() -> None:
        password = "of " + "somebody"  # noqa: F841
        raise LookupError("no such label")

    with pytest.raises(ModelError), model_code("prepare", log):
        look_up()

    text = log.text(2).decode()
    assert text.startswith("--- attempt 2 ---\n")
    assert "LookupError: no such label" in text
    assert Path(__file__).name in text
    assert "look_up" in text
    assert "of somebody" not in text


# --- bounds ---------------------------------------------------------------------------------------------------


def test_of_a_long_log_the_beginning_and_the_end_are_kept() -> None:
    log = TaskLog()
    for number in range(100_000):
        log.add(f"line {number}")

    lines = log.text(1).decode().splitlines()
    (cut,) = [line for line in lines if line.startswith("[...")]
    size = sum(len(f"line {number}\n") for number in range(100_000))
    kept = sum(len(line) + 1 for line in lines if line.startswith("line"))
    assert len(log.text(1)) <= LOG_BYTES
    assert (lines[1], lines[-1]) == ("line 0", "line 99999")
    assert cut == f"[... {size - kept} bytes are left out ...]"


def test_a_line_without_an_end_is_bounded_too() -> None:
    log = TaskLog()
    with capturing("INFO"), model_code("infer", log):
        for _ in range(200):
            print("x" * 10_000, end="")

    assert 0 < len(log.text(1)) <= LOG_BYTES


def test_a_silent_call_leaves_nothing() -> None:
    log = TaskLog()
    with model_code("infer", log):
        pass

    assert log.text(1) == b""


# --- tasks ----------------------------------------------------------------------------------------------------


async def test_the_log_of_a_task_has_all_its_methods(store: Store, tmp_path: Path) -> None:
    with capturing("INFO"):
        async with host(store, LocalStorage(tmp_path), TALKER):
            task = await ended(store, await submit_image(store, TALKER))
    log = await store.tasks.log(task.id, task.tenant)

    assert task.state is State.SUCCESS
    assert re.sub(r"\d+ bytes|[\d:.]{12} ", "", log) == (
        "--- attempt 1 ---\n"
        "prepare: INFO preparing \n"
        "infer: inferring 1 tiles\n"
        "postprocess: WARNING one of 3 is small\n"
    )


@pytest.mark.parametrize("method", ["prepare", "infer", "postprocess"])
async def test_an_exception_ends_its_task_at_once_and_only_the_log_has_its_text(
    store: Store, tmp_path: Path, method: str
) -> None:
    with capturing("INFO"):
        async with host(store, LocalStorage(tmp_path), TALKER):
            task = await ended(store, await submit_image(store, TALKER, {"fails_in": method}))
    log = await store.tasks.log(task.id, task.tenant)

    assert task.outcome.error is not None
    assert (task.state, task.outcome.error.code, len(task.attempts)) == (State.FAILED, "model_error", 1)
    assert task.outcome.error.message == f"the model raised LookupError in {method}; the task's log has the traceback"
    assert "LookupError: the text of the exception" in log
    assert "local secret" not in log.replace('password = "local secret"', "")


async def test_each_attempt_adds_to_the_log(store: Store, tmp_path: Path) -> None:
    with capturing("INFO"):
        async with host(store, LocalStorage(tmp_path), TALKER):
            task_id = await submit_image(store, TALKER, {"fails_in": "infer", "transient": True})
            task = await ended(store, task_id)
    log = await store.tasks.log(task_id, task.tenant)

    assert len(task.attempts) > 1
    assert [line for line in log.splitlines() if line.startswith("---")] == [
        f"--- attempt {attempt.number} ---" for attempt in task.attempts
    ]
    assert log.count("ConnectionError: the text of the exception") >= len(task.attempts)

"""The time of an attempt is its own: a real pipeline, in which others hold the threads, the memory or the device."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from penstock.core.lease import Lease
from penstock.core.request import OutputOptions, Request, Source
from penstock.core.task import Outcome, Priority
from penstock.errors import ExecutionTimeout, StorageUnavailable
from penstock.models.base import BaseModelRunner, Card, Outputs, Params, Product, Work, model_runner
from penstock.worker.devices import cores
from penstock.worker.pipeline import Pipeline
from tests.support.memory_storage import MemoryStorage
from tests.support.workers import pipeline, until

TIMEOUT_S = 1.0
LONGER_S = 1.5


class Where(Params, frozen=True):
    """In which stage to wait for the `gate`."""

    waits_in: str = ""
    memory: int = 1


class Gate:
    """Closed by the test; who waits at it is counted."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.waiting = 0

    def wait(self) -> None:
        self.waiting += 1
        self.opened.wait()


GATE = Gate()


@model_runner("gated-v1")
class GatedModel(BaseModelRunner[Where]):
    params = Where
    card = Card(title="Waits where it is told", produces="data")

    def memory_needed(self, source: bytes, params: Where) -> int:
        return params.memory

    def prepare(self, source: bytes, params: Where) -> Work:
        self._pass(params, "prepare")
        return Work([np.zeros(1, np.float32)], context=params)

    def infer(self, tiles: NDArray[Any], work: Work) -> Outputs:
        self._pass(work.context, "infer")
        return list(tiles)

    def postprocess(self, work: Work, params: Where, output: OutputOptions) -> Product:
        return Product(data={})

    def _pass(self, params: Where, stage: str) -> None:
        if params.waits_in == stage:
            GATE.wait()


@pytest.fixture(autouse=True)
def gate() -> Iterator[Gate]:
    GATE.opened.clear()
    GATE.waiting = 0
    yield GATE
    GATE.opened.set()


@pytest.fixture
async def running() -> AsyncIterator[Pipeline]:
    async with pipeline(MemoryStorage(), "gated-v1", memory_bytes=100) as opened:
        yield opened


def attempt(
    running: Pipeline, waits_in: str = "", *, memory: int = 1, timeout_s: float = 60, source: Source | None = None
) -> asyncio.Task[Outcome]:
    params = {"waits_in": waits_in, "memory": memory}
    request = Request(
        model="gated-v1", inputs={"image": source or Source(data=b"x")}, params=params, output=OutputOptions()
    )
    lease = Lease(
        id="tsk_1", epoch=1, fence="f", tenant="default", caller="alice", priority=Priority.NORMAL, failures=0,
        crashes=0, max_retries=0, timeout_s=timeout_s, waited_ms=0, request=request,
    )  # fmt: skip
    return asyncio.create_task(running.run(lease, lambda stage, progress: None))


@pytest.mark.parametrize("stage", ["prepare", "infer"])
async def test_an_attempt_that_waits_behind_others_loses_no_time(running: Pipeline, gate: Gate, stage: str) -> None:
    """Others hold every codec thread, or the device, for longer than it may take."""
    holders = [attempt(running, stage) for _ in range(max(1, cores() // 2))]
    await until(lambda: gate.waiting == (len(holders) if stage == "prepare" else 1))
    waiting = attempt(running, timeout_s=TIMEOUT_S)
    await asyncio.sleep(LONGER_S)
    gate.opened.set()

    assert (await waiting).result is not None
    await asyncio.gather(*holders)


async def test_an_attempt_that_waits_for_memory_loses_no_time(running: Pipeline, gate: Gate) -> None:
    holder = attempt(running, "infer", memory=90)
    await until(lambda: gate.waiting == 1)
    waiting = attempt(running, memory=90, timeout_s=TIMEOUT_S)
    await asyncio.sleep(LONGER_S)
    gate.opened.set()

    assert (await waiting).result is not None
    await holder


@pytest.mark.parametrize("stage", ["prepare", "infer"])
async def test_an_attempt_whose_own_work_takes_too_long_is_ended(running: Pipeline, gate: Gate, stage: str) -> None:
    late = attempt(running, stage, timeout_s=0.2)
    await until(lambda: gate.waiting == 1)
    await asyncio.sleep(0.5)
    gate.opened.set()

    with pytest.raises(ExecutionTimeout):
        await late


class Away(MemoryStorage):
    """Answers when it is back."""

    is_away = True

    async def get(self, key: str, *, limit: int | None = None) -> bytes:
        if self.is_away:
            await asyncio.sleep(TIMEOUT_S / 2)
            raise StorageUnavailable("away")
        return await super().get(key, limit=limit)


async def test_an_attempt_that_waits_for_the_storage_loses_no_time() -> None:
    storage = Away({"inputs/x": b"x"})
    async with pipeline(storage, "gated-v1") as opened:
        waiting = attempt(opened, timeout_s=TIMEOUT_S, source=Source(key="inputs/x"))
        await asyncio.sleep(LONGER_S)
        storage.is_away = False

        assert (await waiting).result is not None

"""A model that takes one tensor at a time runs one task after the other, whatever its tensors are."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from penstock.core.task import Priority
from penstock.errors import PenstockError
from penstock.models.base import BaseModelRunner, Device, Params, Work
from penstock.models.registry import _REGISTRY, model_runner, registry
from penstock.settings import LimitSettings
from penstock.worker.batcher.costs import Costs
from penstock.worker.batcher.device_runs import DeviceRuns
from penstock.worker.batcher.device_work import BatchKey, DeviceWork, TileRef
from penstock.worker.batcher.scheduler import DeviceScheduler
from penstock.worker.threads import Threads

GPU_LIKE = Device(name="test:0", kind="cpu", threads=1, sides=(4,), batches=(4, 8))
"""Its smallest batch has more than one tile, so that an array would be padded."""

TENSORS: dict[bytes, Any] = {
    b"array": np.arange(6.0).reshape(2, 3),
    b"scalar": np.array(5.0),
    b"empty": np.zeros((0, 3)),
    b"list": ["some", "text"],
    b"arrays": {"ids": np.arange(3), "mask": np.ones(3)},
    b"none": None,
}


class Anything(BaseModelRunner[Params]):
    seen: list[Any]
    gate: threading.Event

    def __init__(self, limits: LimitSettings) -> None:
        super().__init__(limits)
        self.seen, self.gate = [], threading.Event()
        self.gate.set()

    def prepare(self, input_data: Any) -> Any:  # type: ignore[override]
        return TENSORS[bytes(input_data["image"])]

    def infer(self, tensor: Any) -> Any:  # type: ignore[override]
        self.gate.wait()
        self.seen.append(tensor)
        if tensor is None:
            raise ValueError("no tensor")
        return tensor

    def postprocess(self, output: Any) -> Any:  # type: ignore[override]
        return {"kind": type(output).__name__}


@pytest.fixture
def runner() -> Iterator[Any]:
    before = dict(_REGISTRY)
    model_runner("one-at-a-time-v1")(Anything)
    yield registry()["one-at-a-time-v1"](LimitSettings())
    _REGISTRY.clear()
    _REGISTRY.update(before)


async def test_each_tensor_reaches_infer_as_it_was_made_and_alone(runner: Any) -> None:
    names = [name for name in TENSORS if name != b"none"] * 3
    works: list[Work] = [runner.prepare(name, Params()) for name in names]
    with Threads(2, "tiles") as pool:
        device = DeviceScheduler(GPU_LIKE, pool)
        await device.start([runner])
        runner._own.gate.clear()
        runs = [
            asyncio.create_task(
                device.run(runner, work, priority=Priority.NORMAL, on_progress=lambda done, total: None)
            )
            for work in works
        ]
        await asyncio.sleep(0)
        runner._own.gate.set()
        done = await asyncio.gather(*runs)
        await device.close()

    for name, run in zip(names, done, strict=True):
        assert run.work.outputs[0] is TENSORS[name], name
    assert len(runner._own.seen) == len(names)
    assert {type(tensor) for tensor in runner._own.seen} == {np.ndarray, list, dict}
    kinds = [runner.postprocess(run.work, Params(), None)["kind"] for run in done[:5]]
    assert kinds == ["ndarray", "ndarray", "ndarray", "list", "dict"]


async def test_what_infer_raises_fails_that_task_alone(runner: Any) -> None:
    with Threads(2, "tiles") as pool:
        device = DeviceScheduler(GPU_LIKE, pool)
        await device.start([runner])
        runs = [
            device.run(
                runner, runner.prepare(name, Params()), priority=Priority.NORMAL, on_progress=lambda done, total: None
            )
            for name in (b"list", b"none", b"array")
        ]
        done = await asyncio.gather(*runs, return_exceptions=True)
        await device.close()

    assert [isinstance(run, PenstockError) for run in done] == [False, True, False]


class Whole(BaseModelRunner[Params]):
    """The full form of a model that takes one at a time."""

    name = "whole-v1"
    one_at_a_time = True

    def prepare(self, source: Any, params: Params) -> Work:
        return Work([TENSORS[bytes(source)]])

    def infer(self, tiles: Any, work: Work) -> Any:
        return [type(tile).__name__ for tile in tiles]

    def postprocess(self, work: Work, params: Params, output: Any) -> Any:
        return work.outputs


async def test_the_full_form_may_take_one_of_any_kind_too() -> None:
    whole = Whole(LimitSettings())
    with Threads(2, "tiles") as pool:
        device = DeviceScheduler(GPU_LIKE, pool)
        await device.start([whole])
        done = [
            await device.run(
                whole, whole.prepare(name, Params()), priority=Priority.NORMAL, on_progress=lambda done, total: None
            )
            for name in TENSORS
        ]
        await device.close()

    assert [run.work.outputs for run in done] == [[type(tensor).__name__] for tensor in TENSORS.values()]


class Warmed(Anything):
    def warmup(self) -> Iterator[Work]:
        yield Work([np.ones((2, 2))])


async def test_work_of_a_warm_up_is_shown_alone_too() -> None:
    before = dict(_REGISTRY)
    model_runner("warmed-v1")(Warmed)
    warmed: Any = registry()["warmed-v1"](LimitSettings())
    _REGISTRY.clear()
    _REGISTRY.update(before)
    with Threads(2, "tiles") as pool:
        device = DeviceScheduler(GPU_LIKE, pool)
        await device.start([warmed])
        await device.close()

    assert {tensor.shape for tensor in warmed._own.seen} == {(2, 2)}


async def test_tiles_of_objects_are_never_put_into_memory_of_a_device(runner: Any) -> None:
    gpu = Device(name="cuda:0", kind="cuda", threads=1, batches=(1, 2))
    tiles = np.empty(20_000, object)
    tiles[:] = [{"a": 1}] * len(tiles)
    work = Work([tiles])

    class Full(Whole):
        one_at_a_time = False

    task = DeviceWork(Full(LimitSettings()), work, Priority.NORMAL, lambda done, total: None)
    stacked = DeviceRuns(gpu, Costs((1, 2))).stack([TileRef(task, work, 0)])

    assert stacked[0][-1] == {"a": 1}


def test_no_larger_batch_is_expected_of_it_to_pay() -> None:
    """Else a worker would hold the tasks of a whole batch, and count a part of their time."""
    costs = Costs((1, 2, 4, 8))
    alone, together = BatchKey("alone", "", (3,), True), BatchKey("together", "", (3,))
    for key in (alone, together):
        costs.note(key, 1, 2.0)

    assert costs.paying("alone") == (1, 2.0)
    assert costs.tile_s(alone) == 2.0
    assert costs.paying("together") == (8, 2.0)

"""The warm-up of a device: every shape of every model, at every batch size, before work is taken."""

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from penstock.core.device import Device
from penstock.errors import DeviceOutOfMemory
from penstock.lazy_import import lazy_import
from penstock.models.base import Work
from penstock.models.device_time import device_time
from penstock.worker.batcher.costs import Costs
from penstock.worker.batcher.device_work import Runner, batch_key
from penstock.worker.batcher.outcomes import Outcomes

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")


class Trial(NamedTuple):
    """A batch of a shape and size that the device will be given."""

    runner: Runner
    work: Work
    size: int


def warm_up(device: Device, runners: Sequence[Runner], costs: Costs, outcomes: Outcomes) -> dict[Runner, float]:
    """Show the device all that it will be given, and remember what it takes and what it cannot hold. Returns how many
    seconds each runner took.

    The largest batches come first, those of a model in the order of its `warmup`: what they leave in the arena serves
    the smaller ones, while blocks of small batches are of no use to larger ones.

    Raises ConfigurationError when an output does not pass the check of its work.
    """
    for runner in runners:
        costs.cap(runner.name, runner.max_batch)
    works = [(runner, work) for runner in runners for work in runner.warmup()]
    trials = [Trial(runner, work, size) for runner, work in works for size in _sizes(device, runner, work)]
    took_s = dict.fromkeys(runners, 0.0)
    for trial in sorted(trials, key=_elements, reverse=True):
        started = time.perf_counter()
        _try(trial, costs if len(device.batches) > 1 else None, outcomes)
        took_s[trial.runner] += time.perf_counter() - started
    return took_s


def _try(trial: Trial, costs: Costs | None, outcomes: Outcomes) -> None:
    runner, work, size = trial
    tiles = [work.tile(0)] if runner.one_at_a_time else np.stack([work.tile(0)] * size)
    try:
        outputs = runner.infer(tiles, work)
        if costs is not None:  # the first run of a shape is slow: the second is measured
            started = time.perf_counter()
            with device_time() as noted:
                outputs = runner.infer(tiles, work)
            took_s = time.perf_counter() - started
            costs.note(batch_key(runner, work), size, took_s if noted.compute_s is None else noted.compute_s)
        for output in outputs:
            work.check(output)
    except DeviceOutOfMemory:
        outcomes.forbid(batch_key(runner, work), size)


def _sizes(device: Device, runner: Runner, work: Work) -> tuple[int, ...]:
    if runner.one_at_a_time:
        return (1,)
    return tuple(size for size in device.batches_of(work.shape) if size <= (runner.max_batch or size))


def _elements(trial: Trial) -> int:
    return trial.size * math.prod(trial.work.shape)

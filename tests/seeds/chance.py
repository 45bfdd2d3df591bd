"""Time and chance of a run: whatever asks for the time of day, or for random bytes, gets them from the loop."""

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from redis.asyncio.connection import AbstractConnection

from penstock.store import leases
from penstock.store.subscription import Subscription
from penstock.worker.batcher.device_work import DeviceWork
from tests.seeds.loop import CURRENT, SimulatedLoop, number_of

MORNING_S = 1_800_000_000.0
"""The time of day at which every run begins, in s since 1970."""

UP_S = 1_000.0
"""How long the machine is up then: some times are compared with 0."""


@contextmanager
def decided(loop: SimulatedLoop) -> Iterator[None]:
    """Inside of this block nothing in this process differs between two runs of the same seed."""
    kept: list[tuple[Any, str, object]] = []

    def put(module: Any, name: str, instead: object) -> None:
        kept.append((module, name, getattr(module, name)))
        setattr(module, name, instead)

    some_bytes = random.Random(loop.chance.getrandbits(64)).randbytes
    random.seed(loop.chance.getrandbits(64))
    put(time, "monotonic", lambda: UP_S + loop.time())
    put(time, "perf_counter", lambda: UP_S + loop.time())
    put(time, "time", _time_of_day(loop))
    put(time, "time_ns", lambda: int(time.time() * 1_000_000_000))
    put(os, "urandom", some_bytes)
    put(random, "_urandom", some_bytes)  # what `secrets` reads
    put(leases, "_FENCES", leases._fences())
    for kept_in_sets in (Subscription, AbstractConnection, DeviceWork):
        put(kept_in_sets, "__hash__", number_of)
    try:
        yield
    finally:
        for module, name, plain in reversed(kept):
            setattr(module, name, plain)


def _time_of_day(loop: SimulatedLoop) -> Callable[[], float]:
    return lambda: MORNING_S + loop.time() + CURRENT.get(loop.world).skew_s

"""The Python calls of a worker for one task that does nothing, over all its threads: see `python_calls`.

The task goes straight to the store, so that no API takes part. The worker is the process but for the thread that
submits; its parts are those of production, with uvloop and with log lines as JSON.
"""

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType

import uvloop
from msgspec.structs import replace

from penstock.core.request import Source
from penstock.models.noop import Noop
from penstock.settings import LimitSettings, QueueSettings, RedisSettings, TelemetrySettings
from penstock.storage.local import LocalStorage
from penstock.store import Engine, Store, connect
from penstock.telemetry.logs import set_up_logs
from penstock.worker.decoders.pool import open_pool
from penstock.worker.devices import cpu
from penstock.worker.host import Host
from penstock.worker.log_capture import capturing
from tests.support.drive import image
from tests.support.python_calls import Calls
from tests.support.quiet import quiet_logs
from tests.support.stores import open_store, submission
from tests.support.workers import ended, host, until

MODEL = "noop-v1"
PATIENCE_S = 60
"""For each answer of Redis, on a machine that is busy."""
THREADS = 2
"""Of the device, whatever the machine has: a batch runs on one of them."""


def of_task(redis_url: str, namespace: str, folder: Path) -> list[CodeType]:
    """Returns the calls of a worker for a task, from its wake-up to the last line of the attempt. It has to be called
    by the main thread."""
    calls = Calls()
    with _noting(calls):
        return uvloop.run(_counted(calls, redis_url, namespace, folder))


@contextmanager
def _noting(calls: Calls) -> Iterator[None]:
    set_up_logs(TelemetrySettings(log_format="json"), process="worker")
    threading.setprofile(calls.note)
    sys.setprofile(calls.note)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        quiet_logs()


async def _counted(calls: Calls, redis_url: str, namespace: str, folder: Path) -> list[CodeType]:
    with capturing("INFO"), open_pool(LimitSettings()) as decoders:
        storage = LocalStorage(folder)
        async with (
            open_store(redis_url, namespace=namespace) as store,
            host(store, storage, decoders=decoders, own=[Noop], device=cpu(THREADS)) as worker,
        ):
            return await asyncio.to_thread(_submitting, calls, redis_url, namespace, worker)


def _submitting(calls: Calls, redis_url: str, namespace: str, worker: Host) -> list[CodeType]:
    sys.setprofile(None)  # this thread is no part of the worker
    with asyncio.Runner() as runner:
        opened = connect(RedisSettings(url=redis_url, namespace=namespace, timeout_s=PATIENCE_S))
        client = runner.run(opened.__aenter__())
        store = Store(Engine(client, namespace, QueueSettings(), patience_s=PATIENCE_S))
        try:
            return calls.of(lambda: runner.run(_through(store, worker)))
        finally:
            runner.run(opened.__aexit__(None, None, None))


async def _through(store: Store, worker: Host) -> None:
    """Submits a task with a small image, and returns when its attempt is over."""
    asked = submission(model=MODEL)
    request = replace(asked.request, inputs={"image": Source(data=image())})
    await store.tasks.submit(replace(asked, request=request), rate_limit=0)
    await ended(store, asked.id)
    await until(lambda: not worker.tasks)

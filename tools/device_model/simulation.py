"""One simulation: Redis, worker processes with the model of the device, a load, and what was measured meanwhile."""

import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from penstock.core.request import Format
from penstock.core.task import TENANT, Task
from penstock.local.supervisor import die_with_parent, python
from penstock.settings import (
    ModelSettings,
    RedisSettings,
    Settings,
    StorageSettings,
    TelemetrySettings,
    clean_environment,
    environment_of,
)
from penstock.store import Engine, Redis, Store
from penstock.telemetry import exposition
from tools.device_model.cards import Card, device_of
from tools.device_model.codec_rates import CodecRates
from tools.device_model.load import Feeder, Photos, Sent
from tools.device_model.plan import MODULE, NAME, VARIABLE, Plan
from tools.device_model.record import Entry, read
from tools.queue_cost import redis_at

ROOT = Path(__file__).parents[2]
WAITING_FOR_EACH = 48
"""Tasks that wait in the queue for each card: it never runs dry."""

HIGH_EVERY_BATCHES = 15
READY_WITHIN_S = 120.0
BUSY = "penstock_device_busy_seconds_total"


class Run(Struct, frozen=True, kw_only=True):
    """What to simulate: measured for `seconds` of this machine, after `ramp_s`. `slots` 0 leaves that setting as it
    is by default."""

    card: Card
    rates: CodecRates
    slowed: float
    result: Format = "jpeg"
    seconds: float = 60.0
    ramp_s: float = 15.0
    slots: int = 0


class Worker(Struct, frozen=True, kw_only=True):
    """What one worker did between `start` and `end`, in seconds since 1970: its record, the growth of its counter of
    device time, and CPU seconds by the number of the thread."""

    id: str
    slots: int
    entries: list[Entry]
    busy_s: float
    cpu_s: dict[int, float]
    pid: int


class Measured(Struct, frozen=True, kw_only=True):
    """A simulation as it went."""

    run: Run
    start: float
    end: float
    workers: list[Worker]
    redis_cpu_s: float
    sent: dict[str, Sent]
    tasks: dict[str, Task]


class _Process(Struct, kw_only=True):
    process: "subprocess.Popen[bytes]"
    id: str
    record: Path
    reports: int
    metrics_url: str = ""


async def simulated(run: Run) -> Measured:
    """Run the simulation."""
    with tempfile.TemporaryDirectory(prefix="penstock-simulation-") as folder:
        home = Path(folder)
        async with redis_at(home / "redis") as client:
            return await _measured(run, home, client)


async def _measured(run: Run, home: Path, client: Redis) -> Measured:
    settings = _settings(run, home)
    store = Store(Engine(client, settings.redis.namespace, settings.queue))
    photos = Photos(Path(settings.storage.directory) / settings.redis.namespace)
    batch_s = run.card.compute_s(8 * 512**2) * run.slowed
    feeder = Feeder(
        store,
        photos,
        depth=WAITING_FOR_EACH * run.card.count,
        result=run.result,
        high_every_s=HIGH_EVERY_BATCHES * batch_s / run.card.count,
    )
    with _workers(run, settings, home) as processes:
        await asyncio.gather(*(asyncio.to_thread(_until_ready, one) for one in processes))
        await feeder.fill()
        feeding = asyncio.create_task(feeder.go_on())
        await asyncio.sleep(run.ramp_s)
        slots = {info.id: info.slots for info in await store.workers.listed()}
        before = await _counters(client, processes)
        await asyncio.sleep(run.seconds)
        after = await _counters(client, processes)
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        tasks = {label: await store.tasks.get(sent.id, TENANT) for label, sent in feeder.sent.items()}
    workers = [
        Worker(
            id=one.id,
            slots=slots[one.id],
            entries=read(one.record),
            busy_s=after.busy_s[one.id] - before.busy_s[one.id],
            cpu_s={t: s - before.cpu_s[one.id].get(t, 0.0) for t, s in after.cpu_s[one.id].items()},
            pid=one.process.pid,
        )
        for one in processes
    ]
    return Measured(
        run=run,
        start=before.at,
        end=after.at,
        workers=workers,
        redis_cpu_s=after.redis_cpu_s - before.redis_cpu_s,
        sent=feeder.sent,
        tasks=tasks,
    )


def _settings(run: Run, home: Path) -> Settings:
    settings = Settings(
        redis=RedisSettings(url=f"unix://{home / 'redis' / 'redis.sock'}"),
        models=ModelSettings(modules=(MODULE,), serve=(NAME,)),
        storage=StorageSettings(directory=str(home / "objects")),
        telemetry=TelemetrySettings(log_level="WARNING"),
    )
    return replace(settings, worker=replace(settings.worker, slots=run.slots)) if run.slots else settings


@contextmanager
def _workers(run: Run, settings: Settings, home: Path) -> Iterator[list[_Process]]:
    """Start one worker process for each card, and kill them at the end of the block."""
    processes = [_started(run, settings, home, number) for number in range(run.card.count)]
    try:
        yield processes
    finally:
        for one in processes:
            one.process.kill()
            one.process.wait()
            os.close(one.reports)


def _started(run: Run, settings: Settings, home: Path, number: int) -> _Process:
    record, name = home / f"record-{number}", f"card-{number}"
    plan = Plan(card=run.card, rates=run.rates, slowed=run.slowed, record=str(record))
    reading, writing = os.pipe()
    device = msgspec.json.encode(device_of(run.card, number, max_batch=settings.worker.max_batch)).decode()
    process = subprocess.Popen(
        python("worker-process", "--device", device, "--id", name, "--report-fd", str(writing)),
        env=clean_environment()
        | environment_of(settings)
        | {VARIABLE: msgspec.json.encode(plan).decode(), "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        pass_fds=(writing,),
        preexec_fn=die_with_parent,
    )
    os.close(writing)
    return _Process(process=process, id=name, record=record, reports=reading)


def _until_ready(one: _Process) -> None:
    """Wait until a worker has said where its metrics are; raises RuntimeError when it ends."""
    with os.fdopen(one.reports, closefd=False) as lines:
        for line in lines:
            if url := msgspec.json.decode(line, type=dict[str, str]).get("metrics_url"):
                one.metrics_url = url
                return
    raise RuntimeError(f"the worker ended with {one.process.wait()}")


class _Counters(Struct, frozen=True, kw_only=True):
    at: float
    busy_s: dict[str, float]
    cpu_s: dict[str, dict[int, float]]
    redis_cpu_s: float


async def _counters(client: Redis, processes: list[_Process]) -> _Counters:
    spent = await client.info("cpu")
    busy_s = {one.id: await asyncio.to_thread(_busy_s, one.metrics_url) for one in processes}
    return _Counters(
        at=time.time(),
        busy_s=busy_s,
        cpu_s={one.id: thread_cpu_s(one.process.pid) for one in processes},
        redis_cpu_s=float(spent["used_cpu_user"] + spent["used_cpu_sys"]),
    )


def _busy_s(url: str) -> float:
    families = exposition.fetch(url)
    return sum(sample.value for family in families for sample in family.samples if sample.name == BUSY)


def thread_cpu_s(pid: int) -> dict[int, float]:
    """CPU seconds, user and system, of each thread of a process (Linux)."""
    found = {}
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        fields = stat.read_text().rpartition(")")[2].split()
        found[int(stat.parent.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found

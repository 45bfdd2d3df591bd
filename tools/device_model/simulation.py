"""One simulation: Redis, workers with the model of a device, a load, and what was measured meanwhile."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from penstock.core.access import TENANT
from penstock.core.request import Format
from penstock.core.task import Task
from penstock.settings import ModelSettings, RedisSettings, Settings, StorageSettings, TelemetrySettings
from penstock.store import Engine, Redis, Store
from tools.device_model.cards import Card
from tools.device_model.codec_rates import CodecRates
from tools.device_model.load import Feeder, Photos, Sent
from tools.device_model.lock_share import lock_share
from tools.device_model.plan import MODULE, NAME, Plan
from tools.device_model.record import Entry, read
from tools.device_model.workers import Spent, WorkerProcess, running_workers, spent_by
from tools.queue_cost import redis_at

WAITING_FOR_EACH = 48
"""Tasks that wait in the queue for each card: it never runs dry."""

HIGH_EVERY_BATCHES = 12
"""A small task of high priority is sent after about so many full batches of a card."""

LOCK_S = 5.0


class Run(Struct, frozen=True, kw_only=True):
    """What to simulate: `seconds` of this machine after `ramp_s`. `slots` 0 leaves that setting as it is by default;
    `lock` looks at the interpreter's lock for some seconds after that."""

    card: Card
    rates: CodecRates
    slowed: float
    result: Format = "jpeg"
    seconds: float = 60.0
    ramp_s: float = 15.0
    slots: int = 0
    lock: bool = True


class MeasuredWorker(Struct, frozen=True, kw_only=True):
    """What one worker recorded, and what it used at both ends of the time that counts."""

    process: WorkerProcess
    slots: int
    entries: list[Entry]
    before: Spent
    after: Spent


class Measured(Struct, frozen=True, kw_only=True):
    """A simulation as it went. `lock` is how much of the time the first worker's interpreter was locked."""

    run: Run
    workers: list[MeasuredWorker]
    redis_cpu_s: float
    lock: float | None
    sent: dict[str, Sent]
    tasks: dict[str, Task]


async def simulated(run: Run) -> Measured:
    """Run the simulation on a Redis and in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="penstock-simulation-") as folder:
        home = Path(folder)
        async with redis_at(home / "redis") as client:
            settings = _settings(run, home)
            store = Store(Engine(client, settings.redis.namespace, settings.queue))
            photos = Photos(Path(settings.storage.directory) / settings.redis.namespace)
            feeder = _feeder(run, store, photos)
            plans = [_plan(run, home, number) for number in range(run.card.count)]
            with running_workers(plans, settings) as workers:
                return await _measured(run, client, store, feeder, workers)


async def _measured(
    run: Run, client: Redis, store: Store, feeder: Feeder, processes: Sequence[WorkerProcess]
) -> Measured:
    await feeder.fill()
    feeding = asyncio.create_task(feeder.go_on())
    await asyncio.sleep(run.ramp_s)
    slots = {info.id: info.slots for info in await store.workers.listed()}
    redis_s, before = await _redis_cpu_s(client), [spent_by(one) for one in processes]
    await asyncio.sleep(run.seconds)
    redis_s, after = await _redis_cpu_s(client) - redis_s, [spent_by(one) for one in processes]
    tasks = {label: await store.tasks.get(sent.id, TENANT) for label, sent in list(feeder.sent.items())}
    lock = await asyncio.to_thread(lock_share, processes[0].pid, LOCK_S) if run.lock else None
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)
    workers = [
        MeasuredWorker(process=one, slots=slots[one.id], entries=read(one.record), before=at_first, after=at_last)
        for one, at_first, at_last in zip(processes, before, after, strict=True)
    ]
    return Measured(run=run, workers=workers, redis_cpu_s=redis_s, lock=lock, sent=feeder.sent, tasks=tasks)


def _settings(run: Run, home: Path) -> Settings:
    settings = Settings(
        redis=RedisSettings(url=f"unix://{home / 'redis' / 'redis.sock'}"),
        models=ModelSettings(modules=(MODULE,), serve=(NAME,)),
        storage=StorageSettings(directory=str(home / "objects")),
        telemetry=TelemetrySettings(log_level="WARNING"),
    )
    return replace(settings, worker=replace(settings.worker, slots=run.slots)) if run.slots else settings


def _plan(run: Run, home: Path, number: int) -> Plan:
    return Plan(card=run.card, rates=run.rates, slowed=run.slowed, record=str(home / f"record-{number}"))


def _feeder(run: Run, store: Store, photos: Photos) -> Feeder:
    batch_s = run.card.compute_s(8 * 512**2) * run.slowed
    return Feeder(
        store,
        photos,
        depth=WAITING_FOR_EACH * run.card.count,
        result=run.result,
        high_every_s=HIGH_EVERY_BATCHES * batch_s / run.card.count,
    )


async def _redis_cpu_s(client: Redis) -> float:
    spent = await client.info("cpu")
    return float(spent["used_cpu_user"] + spent["used_cpu_sys"])

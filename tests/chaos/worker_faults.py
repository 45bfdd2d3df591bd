"""Scenarios W: faults of workers."""

import asyncio
import os
import shutil
import signal
from contextlib import suppress
from functools import partial
from itertools import cycle
from pathlib import Path

import httpx
from msgspec.structs import replace

from penstock.local.deaths import EXIT_CONFIGURATION
from tests.chaos.checker import moment
from tests.chaos.client import Client, Order
from tests.chaos.load import Load
from tests.chaos.models import MODEL
from tests.chaos.nemesis import MemoryLimit, Nemesis
from tests.chaos.parts import ROOT, Host
from tests.chaos.report import Report
from tests.chaos.trial import codes, conclude, orders, records, with_deeds
from tests.chaos.world import World

KILL_EVERY_S = 2.0
KILL_HOST_EVERY_S = 5.0
FREEZE_LEASES = 1.5
LONG_LEASES = 3
TASKS_PER_TRIAL = 100
"""More than are needed: the load ends with the last trial."""
BACKLOG = 40
"""Enough that every worker is busy."""
HANG_TIMEOUT_S = 2.0
MEMORY_BYTES = 300 << 20
"""A worker of this ring needs about 120 MiB with its supervisor."""
STOP_TIMEOUT_S = 40.0
"""`worker.drain_s` of 25 s, and the extra time that a supervisor allows."""
DEED_SHARE = 0.05


async def kill_children(world: World, seed: int, tasks: int) -> Report:
    """W1: worker processes are killed."""
    nemesis, load = Nemesis(world), Load(world, orders(seed, tasks))
    async with nemesis.again(nemesis.kill_child, KILL_EVERY_S):
        await load.run()
    return await conclude(world, load)


async def kill_hosts(world: World, seed: int, tasks: int) -> Report:
    """W2: supervisors are killed with their workers."""
    nemesis, load = Nemesis(world), Load(world, orders(seed, tasks))
    async with nemesis.again(nemesis.kill_host, KILL_HOST_EVERY_S):
        await load.run()
    return await conclude(world, load)


async def zombies(world: World, seed: int, tasks: int) -> Report:
    """W3: `tasks` is the number of freezes. A zombie ends when it wakes: it is stopped, or its write is refused."""
    nemesis = Nemesis(world)
    load = Load(world, orders(seed, tasks * TASKS_PER_TRIAL), backlog=BACKLOG)
    running = asyncio.create_task(load.run(), name="load")
    freezes: list[asyncio.Task[None]] = []
    while _frozen(world) < tasks and not running.done():
        freezes.append(asyncio.create_task(nemesis.freeze_child(FREEZE_LEASES * world.lease_s)))
        await asyncio.sleep(world.lease_s * world.rng.uniform(0.2, 0.8))
    await asyncio.gather(*freezes)
    load.enough()
    await running
    await asyncio.sleep(world.lease_s / 2)  # the last worker to wake checks its leases
    world.collect()
    return await conclude(world, load, **_zombie_figures(world, load), freezes=_frozen(world), trials=tasks)


async def long_tasks(world: World, seed: int, tasks: int) -> Report:
    """L1: each task takes three leases. In turn a worker is frozen and one is cut off from Redis, each for longer
    than a lease: others claim its tasks, and it comes back with attempts that have lost their leases."""
    nemesis, ms = Nemesis(world), int(LONG_LEASES * world.lease_s * 1000)
    load = Load(world, orders(seed, tasks, (ms, ms)))
    deeds = cycle((nemesis.freeze_child, nemesis.cut_off))
    async with nemesis.again(lambda: next(deeds)(FREEZE_LEASES * world.lease_s), LONG_LEASES * world.lease_s):
        await load.run()
    await asyncio.sleep(world.lease_s)  # the last worker to return checks its leases and deletes its useless results
    world.collect()
    done = await conclude(
        world, load, **_zombie_figures(world, load), faults=_frozen(world), workers_died=_deaths(world)
    )
    files = sum(path.is_file() for path in (world.objects / "penstock/results").rglob("*"))
    return Report(figures=done.figures | {"orphans": files - done.figures["done"]}, violations=done.violations)


async def blocked_interpreter(world: World, seed: int, tasks: int) -> Report:
    """W4: the model runs native code that keeps the GIL."""
    usual = with_deeds(orders(seed, tasks), seed, 1, "seize")
    load = Load(world, [replace(o, ms=int(2000 * world.lease_s)) if o.deed == "seize" else o for o in usual])
    await load.run()
    return await conclude(world, load)


async def hang(world: World, seed: int, tasks: int) -> Report:
    """W5: the model hangs."""
    hanging = max(2, int(tasks * DEED_SHARE / 2))
    load = Load(world, with_deeds(orders(seed, tasks), seed, hanging, "hang", timeout_s=HANG_TIMEOUT_S))
    await load.run()
    await load.read_all()
    late = [
        moment(record["finished_at"]) - moment(record["attempts"][-1]["started_at"]) - HANG_TIMEOUT_S
        for record in records(world)
        if record["status"] == "FAILED"
    ]
    timeouts = codes(world).get("execution_timeout", 0)
    return await conclude(world, load, hanging=hanging, timeouts=timeouts, timeout_late_max_s=max(late, default=99))


async def out_of_memory(world: World, seed: int, tasks: int) -> Report:
    """W6: workers have 300 MiB each, and one task wants more. The kernel kills its worker, then the limit is lifted."""
    limits = [MemoryLimit(f"chaos-{os.getpid()}-{host.name}", MEMORY_BYTES) for host in world.hosts]
    for host, limit in zip(world.hosts, limits, strict=True):
        limit.hold([host.pid, *host.children()])
    load = Load(world, with_deeds(orders(seed, tasks), seed, 1, "eat"))
    running = asyncio.create_task(load.run(), name="load")
    await world.until(lambda: any(limit.kills for limit in limits), "the kernel kills")
    world.history.write("fault", note="killed for its memory")
    for limit in limits:
        limit.lift()
    back_s = await world.until(lambda: all(host.child() for host in world.hosts), "a child for each")
    back_s += await world.until(partial(_all_ready, world), "each ready")
    await running
    await load.read_all()
    eater = next(record for record in records(world) if record["client_request_id"].startswith("eat"))
    figures = {
        "kills": sum(limit.kills for limit in limits),
        "eater_crashes": sum(attempt["outcome"] == "lost" for attempt in eater["attempts"]),
        "back_s": back_s,
    }
    done = await conclude(world, load, **figures)
    for host, limit in zip(world.hosts, limits, strict=True):
        host.kill()
        limit.remove()
    return done


async def poison(world: World, seed: int, tasks: int) -> Report:
    """W7: one task kills its process each time."""
    load = Load(world, with_deeds(orders(seed, tasks), seed, 1, "abort"))
    await load.run()
    await load.read_all()
    bad = next(record for record in records(world) if record["client_request_id"].startswith("abort"))
    return await conclude(
        world,
        load,
        poison_deaths=sum(attempt["outcome"] == "lost" for attempt in bad["attempts"]),
        poisoned=codes(world).get("poison_input", 0),
        innocent_done=sum(record["status"] == "SUCCESS" for record in records(world)),
        innocent=tasks - 1,
    )


async def rolling_stop(world: World, seed: int, tasks: int) -> Report:
    """W12: every host in turn is stopped gracefully, and another started."""
    nemesis, load = Nemesis(world), Load(world, orders(seed, tasks))
    running = asyncio.create_task(load.run(), name="load")
    await load.until(0.05)
    stops = []
    for host in world.hosts:
        stops.append(await nemesis.stop_host(host, STOP_TIMEOUT_S))
        host.start()
        await world.until(host.child, "a child")
        await world.until_ready()
    await running
    return await conclude(
        world,
        load,
        exits_bad=sum(status != 0 for status, _ in stops),
        exit_max_s=max(took_s for _, took_s in stops),
        stops=len(stops),
    )


async def hasty_stop(world: World, seed: int, tasks: int) -> Report:
    """W13: `tasks` is the number of trials of SIGTERM, SIGTERM, SIGKILL, at random times."""
    load = Load(world, orders(seed, tasks * TASKS_PER_TRIAL), backlog=BACKLOG)
    running = asyncio.create_task(load.run(), name="load")
    trials = 0
    while trials < tasks and not running.done():
        trials += 1
        host = world.rng.choice(world.hosts)
        await world.until(host.child, "a child")
        await asyncio.sleep(world.rng.uniform(0.2, 1.0))
        world.history.write("fault", note=f"SIGTERM, SIGTERM, SIGKILL {host.name}", worker=_worker_of(host))
        for number in (signal.SIGTERM, signal.SIGTERM):
            host.signal(number)
            await asyncio.sleep(0.15 * world.rng.random() ** 3)  # most of a stop is over within milliseconds
        await asyncio.to_thread(host.kill)
        host.start()
    load.enough()
    await running
    return await conclude(world, load, trials=trials)


async def damaged_model(world: World, seed: int, tasks: int) -> Report:
    """W14: a runner finds its file damaged, and a copy of the package has a model file that was cut short."""
    client = await world.client()
    usual = orders(seed, tasks)
    await asyncio.gather(*(client.submit(order) for order in usual))
    started = asyncio.get_running_loop().time()
    bad = [
        await world.add_host(PENSTOCK_MODELS_SERVE=f"{MODEL},chaos-damaged"),
        await world.add_host(
            PENSTOCK_MODELS_SERVE=f"{MODEL},image-scoring-v1",
            PYTHONPATH=os.pathsep.join([str(_damaged_package(world.directory)), str(ROOT)]),
        ),
    ]
    await world.until(lambda: not any(host.alive for host in bad), "both give up")
    gave_up_s = asyncio.get_running_loop().time() - started
    world.collect()
    burned = sum(1 for _ in world.history.of("attempt.started"))
    statuses = [host.status for host in bad]
    await world.add_host()
    load = Load(world, usual)
    await load.run()
    return await conclude(
        world,
        load,
        refused=sum(status == EXIT_CONFIGURATION for status in statuses),
        claimed_by_damaged=burned,
        gave_up_s=gave_up_s,
    )


async def wrong_output(world: World, seed: int, tasks: int) -> Report:
    """W15: the model returns a wrong output."""
    wrong = int(tasks * DEED_SHARE)
    load = Load(world, with_deeds(orders(seed, tasks), seed, wrong, "nan"))
    await load.run()
    await load.read_all()
    failed = [record["task_id"] for record in records(world) if record["status"] == "FAILED"]
    return await conclude(
        world,
        load,
        wrong=wrong,
        invalid_outputs=codes(world).get("invalid_output", 0),
        objects_of_failed=sum((world.objects / "penstock/results/default" / task).exists() for task in failed),
    )


async def cancel_races(world: World, seed: int, tasks: int) -> Report:
    """W16: every task that is seen running is canceled sooner or later; some have ended by then."""

    async def cancel(client: Client, task: str) -> None:
        await asyncio.sleep(world.rng.uniform(0, 0.25))
        await client.cancel(task)

    load = Load(world, orders(seed, tasks), on_running=cancel)
    await load.run()
    started = asyncio.get_running_loop().time()
    after = Load(world, [Order(key=f"after-{seed}", ms=1)])
    await after.run()
    freed_s = asyncio.get_running_loop().time() - started
    done = await conclude(world, load, after, freed_s=freed_s)
    ended = done.figures["done"] + done.figures["canceled"]
    return Report(figures=done.figures | {"ended_as_either": ended}, violations=done.violations)


async def _all_ready(world: World) -> bool:
    async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
        answer = await client.get(f"{world.apis[0].url}/readyz")
    return bool(answer.json().get("workers", 0) >= len(world.hosts))


def _frozen(world: World) -> int:
    return sum(1 for _ in world.history.of("fault"))


def _deaths(world: World) -> int:
    return sum(1 for _ in world.history.of("worker.died"))


def _zombie_figures(world: World, load: Load) -> dict[str, float]:
    """Returns the attempts that were lost while frozen, and how each ended when its worker woke."""
    refused = {(e.task, e.epoch) for e in world.history.of("attempt.ended") if e.outcome == "lease lost"}
    stopped = {(e.task, e.epoch) for e in world.history.of("attempt.stopped")}
    accepted = {
        (e.task, e.epoch) for e in world.history.of("attempt.ended") if e.outcome in ("complete", "fail", "retry")
    }
    return {
        "zombies": len(refused | stopped),
        "zombie_writes_refused": len(refused),
        "fenced_by_metric": world.metric("penstock_writes_fenced_total"),
        "zombies_accepted": len((refused | stopped) & accepted),
    }


def _worker_of(host: Host) -> str:
    child = host.child()
    return child[1] if child else ""


def _damaged_package(directory: Path) -> Path:
    """Returns a copy of Penstock with one weight file cut short."""
    import penstock

    source = Path(penstock.__file__).parent
    copy = directory / "damaged"
    shutil.copytree(source, copy / "penstock", ignore=shutil.ignore_patterns("__pycache__"))
    model = next((copy / "penstock/weights").glob("image-scoring-v1*.onnx"))
    with suppress(OSError):
        os.truncate(model, model.stat().st_size // 2)
    return copy

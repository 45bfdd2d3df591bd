"""Scenarios S: faults of the storage of inputs and results."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from msgspec.structs import replace

from penstock.store.keys import Keys
from tests.chaos.client import SMALL_INPUT, Order
from tests.chaos.load import Load
from tests.chaos.models import result_of
from tests.chaos.nemesis import Nemesis, small_disk
from tests.chaos.parts import Host
from tests.chaos.proxy import DROP, REFUSE, Toxic
from tests.chaos.report import Report
from tests.chaos.trial import codes, conclude, orders, throughput
from tests.chaos.world import Setup, World

AWAY_S = {True: 20.0, False: 300.0}
TASKS_PER_TRIAL = 100
"""More than are needed: the load ends with the last trial."""
BACKLOG = 40
CUT_OFF_S = 0.5
"""By then, tasks of 60 to 120 ms in four slots have finished."""
UPLOAD_BESIDE_MS = (1800, 2200)
"""A result of 4 KiB takes 4 s at 1 KiB/s: long enough for the device, with four slots, to go on beside it."""
SLOW = Toxic(bytes_per_s=1024, reset_new=0.1, refuse_http=0.2)


async def s3_away(world: World, seed: int, tasks: int) -> Report:
    """S1: everything is submitted first; then S3 goes away, and results cannot be stored. Inputs are in S3 too:
    those not fetched by then run after its return, and must be short for the bar to be about results that wait."""
    nemesis, load = Nemesis(world), Load(world, orders(seed, tasks, (100, 200)), drain_s=600)
    assert world.s3_link is not None
    running = asyncio.create_task(load.run(), name="load")
    await load.until_submitted()
    await load.until(0.1)
    async with nemesis.network([world.s3_link], REFUSE):
        await asyncio.sleep(AWAY_S[tasks <= 300])
    back = asyncio.get_running_loop().time()
    await running
    done = await conclude(world, load, all_done_after_s=asyncio.get_running_loop().time() - back)
    inferences = world.metric("penstock_device_batch_tiles_count")
    return Report(figures=done.figures | {"inferences": inferences}, violations=done.violations)


async def s3_slow(world: World, seed: int, tasks: int) -> Report:
    """S2: half of the tasks run with a good S3, half with one that is slow and fails three calls in ten."""
    nemesis = Nemesis(world)
    assert world.s3_link is not None
    good = Load(world, _with_small_inputs(orders(seed, tasks // 2, UPLOAD_BESIDE_MS, prefix="good-")))
    await good.run()
    late = orders(seed, tasks - tasks // 2, UPLOAD_BESIDE_MS, prefix="bad-")
    bad = Load(world, _with_small_inputs(late), drain_s=600)
    async with nemesis.network([world.s3_link], SLOW):
        await bad.run()
    done = await conclude(world, good, bad)
    loss = 1 - throughput(world, bad) / throughput(world, good)
    return Report(figures=done.figures | {"throughput_loss": loss}, violations=done.violations)


def _with_small_inputs(usual: list[Order]) -> list[Order]:
    return [replace(order, image=SMALL_INPUT) for order in usual]


async def killed_before_settle(world: World, seed: int, tasks: int) -> Report:
    """S3: repeats until it has caught `tasks` results that are stored and not settled. Each worker in turn is cut
    off from Redis, so that its results cannot be settled; then it dies. One worker is left alone."""
    nemesis = Nemesis(world)
    load = Load(world, orders(seed, tasks * TASKS_PER_TRIAL, (60, 120)), backlog=BACKLOG)
    running = asyncio.create_task(load.run(), name="load")
    caught: list[int] = []

    async def again(host: Host) -> None:
        while sum(caught) < tasks and not running.done():
            child = await world.until_found(host.child, "a child")
            await asyncio.sleep(world.rng.uniform(0.5, 1.5))  # time to start and to become busy
            async with nemesis.network([world.links[host.name]], DROP, worker=child[1]):
                await asyncio.sleep(CUT_OFF_S)
                caught.append(_stored_by(world, child[1]))
                with suppress(ProcessLookupError):
                    os.kill(child[0], signal.SIGKILL)

    await asyncio.gather(*(again(host) for host in world.hosts[1:]))
    load.enough()
    await running
    done = await conclude(world, load, trials=tasks, kills=len(caught), stored_unsettled=sum(caught))
    files = sum(path.is_file() for path in (world.objects / "penstock/results").rglob("*"))
    return Report(figures=done.figures | {"orphans": files - done.figures["done"]}, violations=done.violations)


def _stored_by(world: World, worker: str) -> int:
    """Returns the running tasks of a worker whose result is stored already."""
    keys = Keys("penstock")
    with world.redis.client() as redis:
        running = [task.decode() for task in redis.zrange(f"{keys.root}running", 0, -1)]
        mine = [task for task in running if redis.hget(keys.task(task), "worker") == worker.encode()]
    return sum((world.objects / "penstock/results/default" / task).is_dir() for task in mine)


@contextmanager
def on_small_disk(setup: Setup, directory: Path) -> Iterator[Setup]:
    """Keeps results on a tmpfs."""
    with small_disk(directory / "disk", megabytes=8) as disk:
        yield replace(setup, objects=disk / "objects")


async def disk_full(world: World, seed: int, tasks: int) -> Report:
    """S4: the disk of the storage is full."""
    nemesis, load = Nemesis(world), Load(world, orders(seed, tasks, (50, 200)))
    running = asyncio.create_task(load.run(), name="load")
    await load.until_submitted()
    await load.until(0.2)
    async with nemesis.full_disk(world.objects.parent):
        await asyncio.sleep(2)
    await running
    done = await conclude(world, load)
    files = [path for path in (world.objects / "penstock/results").rglob("*") if path.is_file()]
    right = {sha256(result_of(key)).digest() for key in load.tasks}
    broken = sum(sha256(path.read_bytes()).digest() not in right for path in files)
    deaths = sum(1 for _ in world.history.of("worker.died"))
    unexplained = done.figures["failed"] - codes(world).get("storage_unavailable", 0)
    return Report(
        figures=done.figures
        | {"files": len(files), "files_broken": broken, "workers_died": deaths, "failed_otherwise": unexplained},
        violations=done.violations,
    )


async def result_deleted(world: World, seed: int, tasks: int) -> Report:
    """S5: the files of results are deleted."""
    load, client = Load(world, orders(seed, tasks, (1, 5))), await world.client()
    await load.run()
    done = await conclude(world, load)
    statuses = []
    for task in load.tasks.values():
        for path in (world.objects / "penstock/results/default" / task).iterdir():
            path.unlink()
        answer = await client.result(task)
        statuses.append((answer.status, answer.code))
    gone = sum(status == (410, "result_expired") for status in statuses)
    return Report(figures=done.figures | {"gone": gone}, violations=done.violations)

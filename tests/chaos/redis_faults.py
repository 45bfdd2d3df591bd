"""Scenarios R and T: faults of Redis, and of the network on the way to it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from tests.chaos.checker import moment
from tests.chaos.client import Order
from tests.chaos.load import Load
from tests.chaos.nemesis import Nemesis, Skipped, small_disk
from tests.chaos.proxy import DROP, DROP_REPLIES, REFUSE, Toxic
from tests.chaos.report import Report
from tests.chaos.trial import conclude, orders, records, throughput
from tests.chaos.world import Setup, World

LONG_MS = (100, 400)
RESTART_EVERY_S = {True: 3.0, False: 20.0}
GAP_S = 0.5
FROZEN_S = {True: 8.0, False: 30.0}
AWAY_S = {True: 6.0, False: 60.0}
REPLIES_LOST = 0.01
DEAF_S = {True: 12.0, False: 30.0}
DELAY = Toxic(delay_s=0.1, jitter_s=0.05)
"""The delay of each direction: 200 ± 100 ms for a round trip."""
MANY = 32
"""Submitters: each submit takes two round trips, 0.4 s."""
FLUSH_EVERY_S = 0.3
LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
)
JUMPS = ("+3600", "-3600", "+0")


def is_short(tasks: int) -> bool:
    """Whether the run has few tasks, and so short faults."""
    return tasks <= 300


async def restarts(world: World, seed: int, tasks: int) -> Report:
    """R1: Redis is killed and started again."""
    nemesis = Nemesis(world)
    load = Load(world, orders(seed, tasks, LONG_MS), rate=_rate(tasks))
    async with nemesis.again(lambda: nemesis.restart_redis(GAP_S), RESTART_EVERY_S[is_short(tasks)]):
        await load.run()
    return await _with_deaths(world, load)


async def frozen(world: World, seed: int, tasks: int) -> Report:
    """R2: Redis is frozen for a while."""
    nemesis, load = Nemesis(world), Load(world, orders(seed, tasks, LONG_MS), rate=_rate(tasks))
    running = asyncio.create_task(load.run(), name="load")
    await load.until(0.2)
    await nemesis.freeze_redis(FROZEN_S[is_short(tasks)])
    await running
    return await _with_deaths(world, load)


async def replies_lost(world: World, seed: int, tasks: int) -> Report:
    """R3: one reply in a hundred never comes, nor does anything after it on its connection."""
    nemesis, load = Nemesis(world), Load(world, orders(seed, tasks), rate=_rate(tasks))
    async with nemesis.network(world.links.values(), Toxic(drop_replies=REPLIES_LOST)):
        await load.run()
    return await _with_deaths(world, load)


async def deaf_workers(world: World, seed: int, tasks: int) -> Report:
    """R3b: for a while, workers reach Redis but get no replies, so claims happen that no worker knows of."""
    nemesis, load = Nemesis(world), Load(world, orders(seed, tasks), rate=_rate(tasks))
    running = asyncio.create_task(load.run(), name="load")
    await load.until(0.1)
    async with nemesis.network([world.links[host.name] for host in world.hosts], DROP_REPLIES):
        await asyncio.sleep(DEAF_S[is_short(tasks)])
    await running
    return await _with_deaths(world, load)


async def partition(world: World, seed: int, tasks: int) -> Report:
    """R4: one worker is cut off from Redis for three leases."""
    nemesis, load = Nemesis(world), Load(world, orders(seed, tasks, LONG_MS))
    running = asyncio.create_task(load.run(), name="load")
    await load.until(0.1)
    host = world.rng.choice(world.hosts)
    child = host.child()
    async with nemesis.network([world.links[host.name]], DROP, worker=child[1] if child else ""):
        await asyncio.sleep(3 * world.lease_s)
    await running
    return await _with_deaths(world, load)


async def delay(world: World, seed: int, tasks: int) -> Report:
    """R5: half of the tasks run on a good network, half on a slow one; submits are so many that workers always have
    tasks."""
    nemesis = Nemesis(world)
    good = Load(world, orders(seed, tasks // 2, prefix="good-"), submitters=MANY)
    await good.run()
    bad = Load(world, orders(seed, tasks - tasks // 2, prefix="bad-"), submitters=MANY)
    async with nemesis.network(world.links.values(), DELAY):
        await bad.run()
    done = await conclude(world, good, bad)
    loss = 1 - throughput(world, bad) / throughput(world, good)
    return Report(figures=done.figures | {"throughput_loss": loss}, violations=done.violations)


async def resets(world: World, seed: int, tasks: int) -> Report:
    """R6: each connection to Redis is reset after 100 requests."""
    nemesis, load = Nemesis(world), Load(world, orders(seed, tasks), rate=_rate(tasks))
    async with nemesis.network(world.links.values(), Toxic(reset_after_requests=100)):
        await load.run()
    done = await _with_deaths(world, load)
    cut = sum(link.cut for link in world.links.values())
    requests = sum(1 for _ in world.history.of("submit.ok", "submit.info", "poll", "read.fail"))
    errors = done.figures["unanswered"] + done.figures["refused_5xx"]
    return Report(
        figures=done.figures | {"requests": requests, "error_share": errors / requests, "connections_cut": cut},
        violations=done.violations,
    )


async def memory_full(world: World, seed: int, tasks: int) -> Report:
    """R7: running tasks may finish and waiting tasks may be canceled, although Redis accepts nothing more."""
    nemesis, client = Nemesis(world), await world.client()
    load = Load(world, orders(seed, tasks, LONG_MS))
    running = asyncio.create_task(load.run(), name="load")
    await load.until_submitted()
    await load.until(0.1)
    with world.redis.client() as redis:
        nemesis.limit_memory(max(1, int(redis.info("memory")["used_memory"] * 0.5)))
    done_before = len(load.ended)
    refused = await client.submit(Order(key=f"late-{seed}"), tries=1)
    waiting = next(task for task in reversed(load.tasks.values()) if task not in load.ended)
    canceled = await client.cancel(waiting)
    await asyncio.sleep(3)
    finished = len(load.ended) - done_before
    nemesis.limit_memory(0)
    await running
    late = Load(world, [Order(key=f"late-{seed}")])
    await late.run()
    return await conclude(
        world,
        load,
        late,
        submits_taken_while_full=refused is not None,
        cancel_status=canceled,
        ends_while_full=finished,
    )


@contextmanager
def on_small_disk(setup: Setup, directory: Path) -> Iterator[Setup]:
    """Keeps the file of Redis on a tmpfs."""
    with small_disk(directory / "disk", megabytes=3) as disk:
        yield replace(setup, redis_data=disk)


async def disk_full(world: World, seed: int, tasks: int) -> Report:
    """R8: the disk of Redis is full."""
    nemesis, client = Nemesis(world), await world.client()
    load = Load(world, orders(seed, tasks, LONG_MS), rate=_rate(tasks))
    running = asyncio.create_task(load.run(), name="load")
    await load.until(0.2)
    assert world.setup.redis_data is not None
    async with nemesis.full_disk(world.setup.redis_data):
        await asyncio.sleep(4)
        refused = await client.submit(Order(key=f"late-{seed}"), tries=1)
        await asyncio.sleep(2)
    await running
    late = Load(world, [Order(key=f"late-{seed}")])
    await late.run()
    done = await conclude(world, load, late, submits_taken_while_full=refused is not None)
    return Report(figures=done.figures | {"redis_alive": world.redis.alive}, violations=done.violations)


async def scripts_flushed(world: World, seed: int, tasks: int) -> Report:
    """R12: Redis forgets its scripts."""
    nemesis, load = Nemesis(world), Load(world, orders(seed, tasks))
    async with nemesis.again(nemesis.flush_scripts, FLUSH_EVERY_S):
        await load.run()
    return await _with_deaths(world, load)


@contextmanager
def fake_redis_clock(setup: Setup, directory: Path) -> Iterator[Setup]:
    """Makes Redis alone read its clock from a file, through libfaketime."""
    clock = directory / "clock"
    clock.write_text("+0\n")
    yield replace(setup, redis_environ=faketime(FAKETIME_TIMESTAMP_FILE=str(clock), FAKETIME_NO_CACHE="1"))


async def redis_clock_jumps(world: World, seed: int, tasks: int) -> Report:
    """R14: the clock of Redis jumps."""
    load = Load(world, orders(seed, tasks, LONG_MS), rate=_rate(tasks))
    running = asyncio.create_task(load.run(), name="load")
    clock = world.directory / "clock"
    for n, jump in enumerate(JUMPS):
        await load.until(0.2 * (n + 1))
        world.history.write("fault", note=f"redis clock {jump} s")
        clock.write_text(jump + "\n")
    await running
    done = await _with_deaths(world, load)
    ended = [moment(record["finished_at"]) for record in records(world)]
    return Report(figures=done.figures | {"clock_moved_s": max(ended) - min(ended)}, violations=done.violations)


@contextmanager
def fake_host_clocks(setup: Setup, directory: Path) -> Iterator[Setup]:
    """Sets servers and workers an hour ahead of Redis."""
    yield replace(setup, environ=faketime(FAKETIME="+3600"))


async def host_clocks_wrong(world: World, seed: int, tasks: int) -> Report:
    """R15: the clocks of servers and workers differ from that of Redis."""
    load = Load(world, orders(seed, tasks))
    await load.run()
    return await _with_deaths(world, load)


async def everybody_retries(world: World, seed: int, tasks: int) -> Report:
    """T4: Redis is away for a while, then everything that waited for it comes at once."""
    nemesis, load = Nemesis(world), Load(world, orders(seed, tasks, LONG_MS), rate=_rate(tasks))
    running = asyncio.create_task(load.run(), name="load")
    await load.until(0.2)
    usual = _connections(world)
    async with nemesis.network(world.links.values(), REFUSE):
        await asyncio.sleep(AWAY_S[is_short(tasks)])
    peak = 0
    for _ in range(100):
        peak = max(peak, _connections(world))
        await asyncio.sleep(0.02)
    await running
    done = await _with_deaths(world, load)
    return Report(
        figures=done.figures | {"connections_usual": usual, "connections_ratio": peak / max(1, usual)},
        violations=done.violations,
    )


def _rate(tasks: int) -> float:
    """Returns a rate at which submits go on during the faults: short runs take about 4 s, long ones about 60."""
    return tasks / 4 if is_short(tasks) else tasks / 60


async def _with_deaths(world: World, load: Load) -> Report:
    done = await conclude(world, load)
    deaths = sum(1 for _ in world.history.of("worker.died"))
    return Report(figures=done.figures | {"workers_died": deaths}, violations=done.violations)


def _connections(world: World) -> int:
    return sum(link.connections for link in world.links.values())


def faketime(**environ: str) -> dict[str, str]:
    """Returns variables by which a process reads another clock. Raises Skipped where libfaketime is missing."""
    for library in LIBRARIES:
        if Path(library).exists():
            return {"LD_PRELOAD": library, "DONT_FAKE_MONOTONIC": "1"} | environ
    raise Skipped("libfaketime is not installed (apt-get install faketime)")

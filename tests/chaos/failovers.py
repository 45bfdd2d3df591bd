"""Scenarios F and K: Redis fails over, by sentinels or in a cluster."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import cast

from tests.chaos.load import Load
from tests.chaos.report import Report
from tests.chaos.trial import conclude, orders
from tests.chaos.world import World
from tests.support.places import PlaceOf
from tests.support.redis_fleets import ClusterFleet, SentinelFleet
from tests.support.redis_server import RedisProcess

DOWN_AFTER_S = {True: 1.0, False: 5.0}
"""How long a server is silent before it counts as down, in short runs and in others."""
RUN_S = {True: 6.0, False: 40.0}
GAP_S = 0.6
"""How long a master goes on without its replicas before it dies."""
GIVE_UP_S = 10.0


def sentinels(directory: Path, is_short: bool, place_of: PlaceOf) -> SentinelFleet:
    """Servers that answer before any replica has a write."""
    return SentinelFleet(directory, place_of=place_of, down_after_s=DOWN_AFTER_S[is_short])


def careful_sentinels(directory: Path, is_short: bool, place_of: PlaceOf) -> SentinelFleet:
    """Servers that take no write without a replica that is there."""
    wanted = {"min-replicas-to-write": "1", "min-replicas-max-lag": "10"}
    return SentinelFleet(directory, place_of=place_of, down_after_s=DOWN_AFTER_S[is_short], **wanted)


def cluster(directory: Path, is_short: bool, place_of: PlaceOf) -> ClusterFleet:
    """Three masters with a replica each."""
    return ClusterFleet(directory, place_of=place_of, node_timeout_s=DOWN_AFTER_S[is_short])


async def killed(world: World, seed: int, tasks: int) -> Report:
    """F1, K1: the server with our keys is killed, and stays away."""
    load, running = await begun(world, seed, tasks)
    _kill(world, _master(world))
    return await ended(world, load, running)


async def frozen(world: World, seed: int, tasks: int) -> Report:
    """F2: the master is frozen for longer than it takes to be replaced, and goes on as an old master."""
    load, running = await begun(world, seed, tasks)
    old = _master(world)
    world.history.write("fault", note=f"freeze {old.port}")
    world.fleet.freeze(old)
    await world.until(lambda: _master(world) is not old, "another one is the master")
    await load.until(load.progress + 0.2)
    world.fleet.thaw(old)
    world.history.write("heal", note=f"{old.port} goes on")
    done = await ended(world, load, running)
    await world.until(lambda: old in world.fleet.replicas(), "the old master follows the new one")
    return done


async def planned(world: World, seed: int, tasks: int) -> Report:
    """F3: an operator lets the master pause, and asks for a failover."""
    load, running = await begun(world, seed, tasks)
    fleet = cast("SentinelFleet", world.fleet)
    old = _master(world)
    world.history.write("fault", note="SENTINEL FAILOVER")
    await asyncio.to_thread(fleet.pause)
    await asyncio.to_thread(fleet.fail_over)
    await world.until(lambda: _master(world) is not old, "another one is the master")
    return await ended(world, load, running)


async def cut_off_and_killed(world: World, seed: int, tasks: int) -> Report:
    """F4, F5, F6: the master loses its replicas, goes on for a moment, and dies: what it took meanwhile, nobody has."""
    load, running = await begun(world, seed, tasks, drain_s=GIVE_UP_S)
    master, fleet = _master(world), world.fleet
    followers = fleet.replicas()
    world.history.write("fault", note=f"{master.port} loses its replicas")
    for follower in followers:
        fleet.freeze(follower)
    fleet.drop_replicas(master)
    taken = len(load.tasks)
    await asyncio.sleep(GAP_S)
    taken = len(load.tasks) - taken
    _kill(world, master)
    for follower in followers:
        fleet.thaw(follower)
    done = await ended(world, load, running)
    return Report(figures=done.figures | {"taken_alone": taken}, violations=done.violations)


async def slot_moved(world: World, seed: int, tasks: int) -> Report:
    """K2: our slot is moved to another node, key by key."""
    load, running = await begun(world, seed, tasks)
    fleet = cast("ClusterFleet", world.fleet)
    world.history.write("fault", note="the slot is moved")
    moved = await asyncio.to_thread(lambda: fleet.move_slot(fleet.another()))
    world.history.write("heal", note="the slot has moved")
    done = await ended(world, load, running)
    return Report(figures=done.figures | {"keys_moved": moved}, violations=done.violations)


async def begun(world: World, seed: int, tasks: int, *, drain_s: float = 120.0) -> tuple[Load, "asyncio.Task[None]"]:
    """A load of which a part has ended, over servers of which all are there."""
    await world.until(world.fleet.is_whole, "all servers know each other")
    load = Load(world, orders(seed, tasks), rate=tasks / RUN_S[tasks <= 300], drain_s=drain_s)
    running = asyncio.create_task(load.run(), name="load")
    await load.until(0.2)
    return load, running


async def ended(world: World, load: Load, running: "asyncio.Task[None]") -> Report:
    """`ended_again` counts the tasks whose end was lost with a master, so that they ran again: one worker was told of
    the first end, and one of the second. `went_back` are those of which a client has seen it."""
    await running
    done = await conclude(world, load)
    fault = next(world.history.of("fault")).t
    taken = [event.t for event in world.history.of("submit.ok")]
    figures: dict[str, float] = {
        "outage_s": max((b - a for a, b in pairwise(taken) if b > fault), default=0.0),
        "workers_died": sum(1 for _ in world.history.of("worker.died")),
        "ended_again": sum("accepted ends" in violation.text for violation in done.violations),
        "went_back": sum(violation.rule == "I3" for violation in done.violations),
    }
    return Report(figures=done.figures | figures, violations=done.violations)


def _master(world: World) -> RedisProcess:
    return world.fleet.master()


def _kill(world: World, server: RedisProcess) -> None:
    world.history.write("fault", note=f"kill {server.port}")
    server.kill()

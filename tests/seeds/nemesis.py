"""Who does harm, as the seed says: each run has some kinds of it, more often or less."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from tests.seeds.loop import SimulatedProcess

if TYPE_CHECKING:
    from tests.seeds.world import World

OFTEN_S = (0.3, 1.0, 3.0)
"""The mean times between two acts, of which a run has one."""


async def rage(world: "World", until_s: float) -> None:
    """Do harm until then. What was begun is ended by whoever heals the world."""
    chance = world.loop.chance
    some = [act for act in ACTS if chance.random() < 0.4]
    pause_s = chance.choice(OFTEN_S)
    while some and world.loop.time() < until_s:
        await asyncio.sleep(chance.expovariate(1 / pause_s))
        if world.loop.time() < until_s:
            await chance.choice(some)(world)


def heal(world: "World") -> None:
    """End all that was begun."""
    world.network.usual_s = (0.0001, 0.001)
    world.storage.is_away = world.receiver.is_wrong = False
    world.network.is_down = False
    for process in world.processes:
        world.network.hold(process, 0.0)
        process.thaw()


async def kill(world: "World") -> None:
    """Kill a process; another one comes in its place."""
    await world.replace(_one(world), kindly=False)


async def stop(world: "World") -> None:
    """Stop a worker as its supervisor does."""
    victim = world.loop.chance.choice(world.workers)
    world.history.note("sigterm", victim.process.name)
    victim.process.signal(signal.SIGTERM)
    if world.loop.chance.random() < 0.2:
        world.history.note("sigterm-twice")
        victim.process.signal(signal.SIGTERM)


async def freeze(world: "World") -> None:
    """Freeze a process for up to two leases."""
    chance, victim = world.loop.chance, _one(world)
    seconds = chance.choice((chance.uniform(0, 1), chance.uniform(6, 12)))
    world.history.note("freeze", victim.name, seconds)
    victim.freeze()
    world.loop.call_later(seconds, victim.thaw)


async def part(world: "World") -> None:
    """Hold back everything between a process and Redis."""
    chance, victim = world.loop.chance, _one(world)
    seconds = chance.choice((chance.uniform(0, 0.5), chance.uniform(0, 3), chance.uniform(5, 9)))
    world.history.note("partition", victim.name, seconds)
    world.network.hold(victim, seconds)


async def cut(world: "World") -> None:
    """Cut some connections."""
    chance = world.loop.chance
    links = [link for link in world.network.links if chance.random() < 0.3]
    world.history.note("cut", *(link.number for link in links))
    for link in links:
        link.cut()


async def restart_redis(world: "World") -> None:
    """Let Redis go down and come up again with what it had."""
    if world.network.is_down:
        return
    seconds = world.loop.chance.choice((0.0, 0.1, 1.0, 2.0))
    world.history.note("redis-restart", seconds)
    world.network.is_down = True
    world.network.cut_all()
    world.network.redis.forget_scripts()
    await asyncio.sleep(seconds)
    world.network.is_down = False


async def slow(world: "World") -> None:
    """Make the network slow for a while."""
    slowest_s = world.loop.chance.choice((0.01, 0.05, 0.3, 1.2))
    world.history.note("slow-network", slowest_s)
    world.network.usual_s = (0.0005, slowest_s)
    await asyncio.sleep(world.loop.chance.uniform(0.2, 2))
    world.network.usual_s = (0.0001, 0.002)


async def lose_storage(world: "World") -> None:
    """Let the storage be away for a while."""
    world.history.note("storage-away")
    world.storage.is_away = True
    await asyncio.sleep(world.loop.chance.uniform(0.1, 3))
    world.storage.is_away = False


async def confuse_receiver(world: "World") -> None:
    """Let the receivers answer wrongly from now on."""
    world.receiver.is_wrong = True


ACTS: Sequence[Callable[["World"], Awaitable[None]]] = (
    kill, stop, freeze, part, cut, restart_redis, slow, lose_storage, confuse_receiver,
)  # fmt: skip


def _one(world: "World") -> SimulatedProcess:
    return world.loop.chance.choice(world.processes)

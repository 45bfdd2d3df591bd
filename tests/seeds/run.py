"""One run of a seed: harm for some seconds, then none until everything is at rest, then a few tasks that nothing may
hold up."""

import asyncio
import gc
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.seeds import rules
from tests.seeds.chance import decided
from tests.seeds.inline import without_threads
from tests.seeds.loop import SimulatedLoop
from tests.seeds.nemesis import heal, rage
from tests.seeds.parts import Seeded
from tests.seeds.server import BlockingRedis
from tests.seeds.world import World

HARM_S = 6.0
REST_WITHIN_S = 60.0
"""How long after the last harm everything is at rest: a lease, the retries, and what was frozen."""
LOOKS = 2
PROBES = 6
"""Tasks and batches that are submitted when everything is at rest."""
SETTLES_S = 0.5
"""How long a process may still be about what Redis has done."""


class Run(NamedTuple):
    """What a seed gave."""

    seed: int
    digest: str
    faults: list[str]
    commands: int
    seconds: float
    counts: dict[str, int]
    lines: list[str]


def run(seed: int, redis: BlockingRedis, *, lines: bool = False) -> Run:
    """Run a seed on a server that nothing else uses."""
    with _quiet():
        found = _run(seed, redis, lines=lines)
        gc.collect()  # what was dropped ends here, and not within another run
        return found


def _run(seed: int, redis: BlockingRedis, *, lines: bool) -> Run:
    loop = SimulatedLoop(seed)
    redis.now_s = loop.time
    redis.begin()
    with decided(loop), without_threads(loop):
        Seeded.by_chance = lambda: loop.chance.random() < 0.4
        asyncio.set_event_loop(loop)
        world = World(loop, redis, lines=lines)
        try:
            loop.run_until_complete(loop.world.start(_play(world), "run"))
        finally:
            loop.end()
            asyncio.set_event_loop(None)
    history = world.history
    faults = list(dict.fromkeys([*history.faults, *(f"a callback has raised {fault!r}" for fault in loop.faults)]))
    return Run(seed, history.digest, faults, history.commands, loop.time(), dict(history.counts), history.lines or [])


async def _play(world: World) -> None:
    loop, history = world.loop, world.history
    clients = [world.do(world.clients.live(HARM_S)) for _ in range(2)]
    harm = world.do(rage(world, HARM_S))
    for _ in range(LOOKS):
        await asyncio.sleep(loop.chance.uniform(0.2, 2 * HARM_S / LOOKS))
        history.faults += rules.at_any_time(world)
        if history.faults:
            return
    await harm
    heal(world)
    history.note("healed")
    await _rest(world, clients)
    if not history.faults:
        await rules.nothing_is_held_up(world, PROBES)
        await _rest(world, [])
        await asyncio.sleep(SETTLES_S)
        history.faults += rules.at_the_end(world)


async def _rest(world: World, clients: list["asyncio.Task[None]"]) -> None:
    give_up = world.loop.time() + REST_WITHIN_S
    while not (all(client.done() for client in clients) and world.is_at_rest()):
        if world.loop.time() > give_up:
            world.history.faults.append(
                f"not at rest {REST_WITHIN_S:g} s after the last harm: {rules.what_waits(world)}"
            )
            return
        await asyncio.sleep(0.2)


@contextmanager
def _quiet() -> Iterator[None]:
    """The ends of dropped coroutines say nothing, and come when the run is over."""
    hook, level = sys.unraisablehook, logging.root.manager.disable
    sys.unraisablehook = lambda _: None
    logging.disable()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        logging.disable(level)
        sys.unraisablehook = hook
